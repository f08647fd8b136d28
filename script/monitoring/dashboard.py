"""Grafana's dashboard: every metric of the table, in a row for each group."""

from __future__ import annotations

import itertools
import json
from typing import Any

from rspamd_llm.metrics import definitions as metrics
from rspamd_llm.metrics.kinds import Definition, Group
from script.monitoring.panels import (
    HEIGHT,
    INSTANCE,
    SOURCE,
    WIDTH,
    Panel,
    document,
    panels,
    share,
)
from script.monitoring.promql import series

SCHEMA = 39
"""Of the JSON: Grafana 10.3's; later ones bring it up to date by themselves."""

COLUMNS = 24

VIEWS = {
    metrics.VERDICTS.name: (("category",), ("band",), ("cache",)),
    metrics.EVIDENCE.name: (("source",), ("outcome",)),
}
"""Metrics with more labels than lines can be told apart by: one panel for each of these sets."""

SHARES = {
    Group.MAIL: (
        share(
            "Share without a verdict",
            "Of the mail that was to be judged.",
            series(metrics.MESSAGES, instance=INSTANCE, status="unscored"),
            series(metrics.MESSAGES, instance=INSTANCE, status=("scored", "unscored")),
        ),
        share(
            "Share remembered",
            "Of the verdicts, those for which the model was not asked.",
            series(metrics.VERDICTS, instance=INSTANCE, cache=("hit", "joined")),
            series(metrics.VERDICTS, instance=INSTANCE),
        ),
    ),
    Group.EVIDENCE: (
        share(
            "Share of look-ups remembered",
            "Of all look-ups, those that were answered by what was known.",
            series(metrics.EVIDENCE, instance=INSTANCE, outcome="hit"),
            series(metrics.EVIDENCE, instance=INSTANCE),
        ),
    ),
}
"""What a row shows beside its metrics."""


def text() -> str:
    """The dashboard's JSON."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _views(metric: Definition) -> tuple[tuple[str, ...], ...]:
    return VIEWS.get(metric.name, (tuple(metric.labels),))


def _rows() -> dict[Group, list[Panel]]:
    rows: dict[Group, list[Panel]] = {group: [] for group in Group}
    for metric in metrics.DEFINITIONS:
        rows[metric.group] += panels(metric, _views(metric))
    for group, shares in SHARES.items():
        rows[group] += shares
    return rows


def _placed() -> list[dict[str, Any]]:
    """All panels, from left to right and from top to bottom, each row under its title."""
    found: list[dict[str, Any]] = []
    numbers = itertools.count(1)
    top = 0
    for group, row in _rows().items():
        found.append(
            {
                "id": next(numbers),
                "type": "row",
                "title": group.value,
                "collapsed": False,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
                "panels": [],
            }
        )
        top += 1
        for position, panel in enumerate(row):
            line, column = divmod(position, COLUMNS // WIDTH)
            found.append(document(panel, next(numbers), column * WIDTH, top + line * HEIGHT))
        top += -(-len(row) // (COLUMNS // WIDTH)) * HEIGHT
    return found


def _dashboard() -> dict[str, Any]:
    return {
        "uid": "rspamd-llm",
        "title": "rspamd-llm",
        "description": "Mail judged by a language model.",
        "tags": ["mail", "rspamd-llm"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                    "current": {},
                },
                {
                    "name": "instance",
                    "label": "Daemon",
                    "type": "query",
                    "datasource": SOURCE,
                    "definition": f"label_values({metrics.READY.name}, instance)",
                    "query": {
                        "query": f"label_values({metrics.READY.name}, instance)",
                        "refId": "instances",
                    },
                    "refresh": 2,
                    "sort": 1,
                    "includeAll": True,
                    "multi": True,
                    "current": {"text": ["All"], "value": ["$__all"]},
                },
            ]
        },
        "panels": _placed(),
    }
