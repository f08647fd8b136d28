"""Metrics in Prometheus's form: the only importer of prometheus_client.

What there is stands in one table (definitions.py), of which the dashboard, the alert rules and the
reference are made as well.  What may not live here: a metric's name, and the port (web.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rspamd_llm.counters import Labels
from rspamd_llm.domain import Message, Scan
from rspamd_llm.health import Health
from rspamd_llm.metrics.definitions import DEFINITIONS
from rspamd_llm.metrics.kinds import (
    Definition,
    Kind,
    Moment,
    OfCounters,
    OfMessages,
    OfMoment,
    Samples,
)
from rspamd_llm.metrics.process import footprint
from rspamd_llm.metrics.reading import SECONDS

CONTENT_TYPE = CONTENT_TYPE_LATEST

Counts = Mapping[tuple[str, Labels], int]


class Metrics:
    """What is counted from the start of the process on.  Every thread may use it."""

    def __init__(self) -> None:
        # They are a second series for each, with the time when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counted = [
            (definition.origin, _counted(definition, self._registry))
            for definition in DEFINITIONS
            if isinstance(definition.origin, OfMessages)
        ]
        ProcessCollector(registry=self._registry)

    def scanned(self, message: Message, scan: Scan) -> None:
        """Counts a message that was answered."""
        for origin, add in self._counted:
            for labels, amount in origin.read(message, scan):
                add(labels, amount)

    def text(self, health: Health, counts: Counts) -> bytes:
        """All metrics of this moment, as Prometheus reads them.  Reads /proc: a few ms."""
        momentary = CollectorRegistry()
        moment = Moment(health=health, counts=counts, footprint=footprint())
        momentary.register(_Momentary(lambda: _families(moment)))
        return generate_latest(self._registry) + generate_latest(momentary)


Add = Callable[[tuple[str, ...], float], None]


def _counted(definition: Definition, registry: CollectorRegistry) -> Add:
    """A new counter or histogram: what adds an amount to those labels of it."""
    labels = tuple(definition.labels)
    if definition.kind is Kind.HISTOGRAM:
        histogram = Histogram(
            definition.name, definition.text, labels, buckets=SECONDS, registry=registry
        )
        for values in definition.begins:
            histogram.labels(*values)
        return lambda values, amount: histogram.labels(*values).observe(amount)
    counter = Counter(definition.name, definition.text, labels, registry=registry)
    for values in definition.begins:
        counter.labels(*values)
    if labels:
        return lambda values, amount: counter.labels(*values).inc(amount)
    return lambda _, amount: counter.inc(amount)


class _Momentary:
    """What prometheus_client calls a collector, of values that were read already."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.collect = collect


def _families(moment: Moment) -> Iterator[Metric]:
    for definition in DEFINITIONS:
        match definition.origin:
            case OfMoment(read=read):
                samples = read(moment)
            case OfCounters(name=name):
                samples = _named(definition, name, moment.counts)
            case _:
                continue
        family = _FAMILIES[definition.kind](
            definition.name, definition.text, labels=tuple(definition.labels)
        )
        for values, number in samples:
            family.add_metric(values, number)
        yield family


_FAMILIES = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily}


def _named(definition: Definition, name: str, counts: Counts) -> Samples:
    """The counts of this name; those that the definition begins with are 0 where there is none."""
    found = dict.fromkeys(definition.begins, 0)
    for (of, labels), count in counts.items():
        if of == name:
            values = dict(labels)
            found[tuple(values[label] for label in definition.labels)] = count
    return sorted(found.items())
