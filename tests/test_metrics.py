"""Metrics: what is counted of a message, and the form in which it is told."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rspamd_llm import metrics
from rspamd_llm.counters import Counters
from rspamd_llm.domain import (
    Cache,
    Envelope,
    Failure,
    Message,
    Scan,
    Scored,
    Skip,
    Skipped,
    Unscored,
    Verdict,
)
from rspamd_llm.health import Health, ServerHealth

MESSAGE = Message(envelope=Envelope(sender="secret@example.net"), data=b"secret", size=6)
SCORED = Scored(
    verdict=Verdict(score=0.8, category="scam", reason="secret"),
    model="m",
    prompt_id="0" * 8,
    seconds=1.0,
    tokens_in=100,
    tokens_out=20,
    cache=Cache.JOINED,
)
SERVERS = (
    ServerHealth(url="http://a/v1", is_well=True, retry_in=0.0, calls=2),
    ServerHealth(url="http://b/v1", is_well=False, retry_in=3.0, calls=0),
)
HEALTH = Health(
    version="1",
    model="m",
    is_stopping=False,
    in_flight=4,
    waiting=1,
    servers=SERVERS,
    store_fault="",
)


def samples(*scans: Scan, counters: Counters | None = None) -> dict[tuple[str, ...], float]:
    """All samples by name and label values, as Prometheus's own parser reads them."""
    counted = metrics.Metrics()
    for scan in scans:
        counted.scanned(MESSAGE, scan)
    text = counted.text(HEALTH, (counters or Counters()).snapshot()).decode()
    assert "secret" not in text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_messages_by_outcome() -> None:
    found = samples(
        Scan(outcome=SCORED, stages={"read": 0.02, "model": 1.5}),
        Scan(outcome=Skipped(Skip.SIZE)),
        Scan(outcome=Unscored(Failure.TIMEOUT)),
        Scan(outcome=Unscored(Failure.TIMEOUT)),
    )
    assert found["rspamd_llm_messages_total", "", "scored"] == 1
    assert found["rspamd_llm_messages_total", "size", "skipped"] == 1
    assert found["rspamd_llm_messages_total", "timeout", "unscored"] == 2
    assert found["rspamd_llm_verdicts_total", "0.75-0.90", "joined", "scam"] == 1
    assert found["rspamd_llm_tokens_total", "in"] == 100
    assert found["rspamd_llm_tokens_total", "out"] == 20
    assert found["rspamd_llm_stage_seconds_bucket", "1.0", "model"] == 0
    assert found["rspamd_llm_stage_seconds_bucket", "2.5", "model"] == 1


def test_the_moment() -> None:
    counters = Counters()
    counters.add("evidence", 7, source="dns", outcome="hit")
    found = samples(counters=counters)
    assert found["rspamd_llm_ready",] == 1
    assert found["rspamd_llm_in_flight",] == 4
    assert found["rspamd_llm_store_up",] == 1
    assert found["rspamd_llm_waiting",] == 1
    assert found["rspamd_llm_server_up", "http://a/v1"] == 1
    assert found["rspamd_llm_server_up", "http://b/v1"] == 0
    assert found["rspamd_llm_server_calls", "http://a/v1"] == 2
    assert found["rspamd_llm_evidence_total", "hit", "dns"] == 7


@pytest.mark.parametrize(
    ("score", "band"),
    [
        (0.0, "0.00-0.25"),
        (0.25, "0.25-0.50"),
        (0.5, "0.50-0.75"),
        (0.74, "0.50-0.75"),
        (0.75, "0.75-0.90"),
        (0.9, "0.90-1.00"),
        (1.0, "0.90-1.00"),
    ],
)
def test_bands(score: float, band: str) -> None:
    assert metrics.band(score) == band
