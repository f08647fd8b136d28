"""What a metric is: the values of which the table of metrics is made.

What may not live here: any metric (definitions.py), and how they are told (`rspamd_llm.metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rspamd_llm.counters import Labels
from rspamd_llm.domain import Message, Scan
from rspamd_llm.health import Health
from rspamd_llm.metrics.process import Footprint


class Kind(StrEnum):
    """How Prometheus understands it: https://prometheus.io/docs/concepts/metric_types/."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Group(StrEnum):
    """What it tells of: a row of the dashboard, and a part of the reference."""

    HEALTH = "Health"
    MAIL = "Mail"
    MODEL = "Model"
    EVIDENCE = "Evidence"
    PROCESS = "Process"


class Unit(StrEnum):
    """What its number is."""

    COUNT = "count"
    BOOLEAN = "1 for yes, 0 for no"
    SECONDS = "seconds"
    BYTES = "bytes"
    TIME = "seconds since 1970"


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values in the order of a definition's labels, and the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What can be read at one moment."""

    health: Health
    counts: Mapping[tuple[str, Labels], int]
    """Of `Counters`, by name and labels."""
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class OfMessages:
    """Grows with each message that was answered, by the amounts that `read` makes of it."""

    read: Callable[[Message, Scan], Samples]


@dataclass(frozen=True, slots=True)
class OfMoment:
    """Read when it is asked for."""

    read: Callable[[Moment], Samples]


@dataclass(frozen=True, slots=True)
class OfCounters:
    """A count of `Counters`, by its name there; the labels are the definition's."""

    name: str


@dataclass(frozen=True, slots=True)
class OfLibrary:
    """Told by prometheus_client itself (ProcessCollector)."""


Origin = OfMessages | OfMoment | OfCounters | OfLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One metric."""

    name: str
    """As it stands in PromQL; a histogram's without _bucket, _sum and _count."""
    kind: Kind
    group: Group
    title: str
    text: str
    """One sentence of help, without a full stop."""
    origin: Origin
    unit: Unit = Unit.COUNT
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names, each with its values where they are known beforehand."""
    begins: tuple[tuple[str, ...], ...] = ()
    """Label values that are told as 0 before the first is counted, so that no growth is missed:
    Prometheus sees none in a series that begins with its first event."""

    @property
    def series(self) -> Mapping[str, frozenset[str]]:
        """Its names as Prometheus stores them, with the label names of each."""
        names = frozenset(self.labels)
        if self.kind is not Kind.HISTOGRAM:
            return {self.name: names}
        return {
            f"{self.name}_bucket": names | {"le"},
            f"{self.name}_sum": names,
            f"{self.name}_count": names,
        }
