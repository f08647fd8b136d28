"""One panel of Grafana's for each metric, by its kind and unit; Grafana 10 and later.

The JSON is that of https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/.  What may
not live here: which metric is shown where (dashboard.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rspamd_llm.metrics.kinds import Definition, Kind, Unit
from script.monitoring.promql import quantile, rate, series, total

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
INSTANCE = "$instance"
WINDOW = "$__rate_interval"

WIDTH, HEIGHT = 8, 7
"""Of a panel: a row has 24 columns."""

UNITS = {
    Unit.COUNT: "short",
    Unit.BOOLEAN: "short",
    Unit.SECONDS: "s",
    Unit.BYTES: "bytes",
    Unit.TIME: "dateTimeFromNow",
}
"""As Grafana calls them."""

PER_MINUTE = "cpm"
SHARE = "percentunit"

QUANTILES = (0.5, 0.95, 0.99)

_YES_NO = [
    {
        "type": "value",
        "options": {
            "0": {"text": "no", "color": "red", "index": 0},
            "1": {"text": "yes", "color": "green", "index": 1},
        },
    }
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is drawn: one or more expressions, each with the words for its lines."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str
    shape: str = "timeseries"
    is_stacked: bool = False
    mappings: tuple[dict[str, Any], ...] = ()
    names: bool = False
    """A stat that shows the words and not the number."""


def panels(metric: Definition, views: tuple[tuple[str, ...], ...]) -> list[Panel]:
    """A metric's panels: one for each set of labels that its lines are told apart by."""
    match metric.kind:
        case Kind.COUNTER:
            return [_grown(metric, labels, len(views) > 1) for labels in views]
        case Kind.HISTOGRAM:
            return [_spent(metric, labels) for labels in views]
        case Kind.GAUGE:
            return [_now(metric)]


def share(title: str, text: str, part: str, whole: str) -> Panel:
    """A part of what is counted in the whole."""
    divided = f"{total(rate(part, WINDOW))} / {total(rate(whole, WINDOW))}"
    return Panel(title=title, text=text, queries=((divided, title),), unit=SHARE)


def _grown(metric: Definition, labels: tuple[str, ...], is_one_of_many: bool) -> Panel:
    growth = total(rate(series(metric, instance=INSTANCE), WINDOW), *labels)
    title = f"{metric.title} by {' and '.join(labels)}" if is_one_of_many else metric.title
    is_time = metric.unit is Unit.SECONDS
    return Panel(
        title=title,
        text=f"{metric.text}.",
        queries=((growth if is_time else f"60 * {growth}", _legend(labels) or metric.title),),
        # Seconds of CPU in each second are a share of a core.
        unit=SHARE if is_time else PER_MINUTE,
        is_stacked=bool(labels),
    )


def _spent(metric: Definition, labels: tuple[str, ...]) -> Panel:
    buckets = rate(series(metric, "bucket", instance=INSTANCE), WINDOW)
    spread = total(buckets, *labels, "le")
    return Panel(
        title=metric.title,
        text=f"{metric.text}: {', '.join(f'{part:.0%}' for part in QUANTILES)} take less.",
        queries=tuple(
            (quantile(part, spread), f"{_legend(labels)} {part:.0%}") for part in QUANTILES
        ),
        unit=UNITS[metric.unit],
    )


def _now(metric: Definition) -> Panel:
    shown = series(metric, instance=INSTANCE)
    if metric.unit is Unit.TIME:
        shown = f"1000 * {shown}"  # Grafana's dates are in milliseconds
    is_boolean = metric.unit is Unit.BOOLEAN
    is_info = metric.unit is Unit.COUNT and "version" in metric.labels
    is_stat = is_info or metric.unit is Unit.TIME
    return Panel(
        title=metric.title,
        text=f"{metric.text}.",
        queries=((shown, _legend(("instance", *metric.labels))),),
        unit=UNITS[metric.unit],
        shape="state-timeline" if is_boolean else "stat" if is_stat else "timeseries",
        mappings=tuple(_YES_NO) if is_boolean else (),
        names=is_info,
    )


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def document(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    """A panel as Grafana has it, at a place in the grid."""
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {}
    match panel.shape:
        case "timeseries":
            custom = {
                "drawStyle": "line",
                "fillOpacity": 20 if panel.is_stacked else 0,
                "showPoints": "never",
                "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            }
            options = {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "state-timeline":
            custom = {"fillOpacity": 70, "lineWidth": 0}
            options = {"mergeValues": True, "showValue": "never", "rowHeight": 0.9}
        case "stat":
            options = {
                "colorMode": "none",
                "graphMode": "none",
                "textMode": "name" if panel.names else "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }
    return {
        "id": number,
        "type": panel.shape,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": left, "y": top},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "mappings": list(panel.mappings),
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": words,
                "range": True,
            }
            for position, (expression, words) in enumerate(panel.queries)
        ],
    }
