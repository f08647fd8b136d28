"""PromQL (https://prometheus.io/docs/prometheus/latest/querying/basics/) about our metrics, written
so that it can name no metric, label or value that the table does not have.
"""

from __future__ import annotations

import json

from rspamd_llm.metrics.kinds import Definition

JOB = "rspamd-llm"
"""The name of the scrape job, by which alone a daemon that is down can be told."""

TARGET = ("job", "instance")
"""Labels that Prometheus adds: one pair for each daemon."""


def series(metric: Definition, part: str = "", **where: str | tuple[str, ...]) -> str:
    """A metric's series, `part` of a histogram's, with these values of labels.

    A tuple is any of its values.  Raises ValueError for what the table does not have.
    """
    name = f"{metric.name}_{part}" if part else metric.name
    if name not in metric.series:
        raise ValueError(f"{name} is no series")
    matchers = []
    for label, wanted in where.items():
        if label == "instance" and isinstance(wanted, str):
            matchers.append(f"instance=~{json.dumps(wanted)}")
            continue
        values = (wanted,) if isinstance(wanted, str) else wanted
        unknown = set(values) - set(metric.labels[label])
        if unknown:
            raise ValueError(f"{metric.name}: {label} is never {unknown}")
        sign = "=" if isinstance(wanted, str) else "=~"
        matchers.append(f"{label}{sign}{json.dumps('|'.join(values))}")
    return name + (f"{{{', '.join(matchers)}}}" if matchers else "")


def total(expression: str, *labels: str) -> str:
    """The sum over all series that have the same values of these labels."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def rate(selected: str, window: str) -> str:
    """Growth a second."""
    return f"rate({selected}[{window}])"


def increase(selected: str, window: str, offset: str = "") -> str:
    """Growth within a window, which may end some time ago."""
    return f"increase({selected}[{window}]{' offset ' + offset if offset else ''})"


def quantile(share: float, buckets: str) -> str:
    """What that share of a histogram's observations stays below; `buckets` has the label `le`."""
    return f"histogram_quantile({share:g}, {buckets})"
