"""Metrics in Prometheus's form: the only importer of prometheus_client.

Counted here is what became of each message; everything else is read when it is asked for.  Labels
name kinds of things (a status, a stage), never domains or text of a mail.  What may not live here:
the port (web.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rspamd_llm.counters import Labels
from rspamd_llm.domain import Message, Scan, Scored, Skipped, Unscored
from rspamd_llm.health import Health

CONTENT_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histograms: a skipped mail takes milliseconds, the deadline is 60 s by default."""

BANDS = (0.25, 0.5, 0.75, 0.9)
"""Bounds of the score bands; the first and the third are the plugin's thresholds."""

Counts = Mapping[tuple[str, Labels], int]


class Metrics:
    """What is counted from the start of the process on.  Every thread may use it."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._messages = Counter(
            "rspamd_llm_messages", "Messages by outcome", ["status", "code"], registry=registry
        )
        self._verdicts = Counter(
            "rspamd_llm_verdicts",
            "Verdicts by category, score band and where they came from",
            ["category", "band", "cache"],
            registry=registry,
        )
        self._stages = Histogram(
            "rspamd_llm_stage_seconds",
            "Seconds that each stage of a message took",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "rspamd_llm_tokens", "Tokens of prompts and answers", ["direction"], registry=registry
        )
        ProcessCollector(registry=registry)

    def scanned(self, _message: Message, scan: Scan) -> None:
        """Counts a message that was answered."""
        match scan.outcome:
            case Scored(verdict=verdict) as scored:
                status, code = "scored", ""
                self._verdicts.labels(verdict.category, band(verdict.score), scored.cache).inc()
                self._tokens.labels("in").inc(scored.tokens_in)
                self._tokens.labels("out").inc(scored.tokens_out)
            case Skipped(code=skip):
                status, code = "skipped", skip.value
            case Unscored(code=failure):
                status, code = "unscored", failure.value
        self._messages.labels(status, code).inc()
        for stage, seconds in scan.stages.items():
            self._stages.labels(stage).observe(seconds)

    def text(self, health: Health, counts: Counts) -> bytes:
        """All metrics of this moment, as Prometheus reads them."""
        momentary = CollectorRegistry()
        momentary.register(_Momentary(lambda: _families(health, counts)))
        return generate_latest(self._registry) + generate_latest(momentary)


def band(score: float) -> str:
    """The band of a score, such as `0.75-0.90`."""
    low = max((bound for bound in BANDS if score >= bound), default=0.0)
    high = min((bound for bound in BANDS if score < bound), default=1.0)
    return f"{low:.2f}-{high:.2f}"


class _Momentary:
    """What prometheus_client calls a collector, of values that were read already."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.collect = collect


def _families(health: Health, counts: Counts) -> Iterator[Metric]:
    ready = GaugeMetricFamily("rspamd_llm_ready", "Whether new mail has a chance to be judged")
    ready.add_metric([], health.is_ready)
    yield ready
    store = GaugeMetricFamily("rspamd_llm_store_up", "Whether the store works")
    store.add_metric([], not health.store_fault)
    yield store
    for name, text, value in (
        ("rspamd_llm_in_flight", "Messages that are being judged", health.in_flight),
        ("rspamd_llm_waiting", "Messages that wait for a model call's slot", health.waiting),
    ):
        yield GaugeMetricFamily(name, text, value)
    up = GaugeMetricFamily(
        "rspamd_llm_server_up", "Whether a model server's breaker is closed", labels=["server"]
    )
    calls = GaugeMetricFamily(
        "rspamd_llm_server_calls", "Calls under way of a model server", labels=["server"]
    )
    for server in health.servers:
        up.add_metric([server.url], server.is_well)
        calls.add_metric([server.url], server.calls)
    yield from (up, calls)
    counters: dict[str, CounterMetricFamily] = {}
    for (name, labels), count in sorted(counts.items()):
        family = counters.setdefault(
            name,
            CounterMetricFamily(
                f"rspamd_llm_{name}", f"Counted: {name}", labels=[label for label, _ in labels]
            ),
        )
        family.add_metric([value for _, value in labels], count)
    yield from counters.values()
