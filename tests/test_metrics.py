"""Metrics: what is counted of a message, and the form in which it is told."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.stubmodel import StubModel
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
from rspamd_llm.health import (
    Health,
    OtherVersionError,
    ServerHealth,
    SourceHealth,
    from_document,
    to_document,
)
from rspamd_llm.metrics import definitions, process, reading
from rspamd_llm.metrics.definitions import DEFINITIONS
from rspamd_llm.metrics.kinds import Definition, OfCounters, OfMessages
from tests.chain.daemon import PrivateDaemon
from tests.waiting import wait_until

PACKAGE = Path(metrics.__file__).resolve().parents[1]
MESSAGE = Message(envelope=Envelope(sender="secret@example.net"), data=b"secret", size=6)
FORGED = dataclasses.replace(MESSAGE, forged=3)
SCORED = Scored(
    verdict=Verdict(score=0.8, category="scam", reason="secret"),
    model="m",
    prompt_id="0" * 8,
    seconds=2.0,
    tokens_in=100,
    tokens_out=20,
    cache=Cache.JOINED,
)
SERVERS = (
    ServerHealth(url="http://a/v1", is_well=True, retry_in=0.0, calls=2),
    ServerHealth(url="http://b/v1", is_well=False, retry_in=3.0, calls=0),
)
SOURCES = (SourceHealth(name="dns", is_well=True), SourceHealth(name="web", is_well=False))
HEALTH = Health(
    version="1",
    model="m",
    is_stopping=False,
    in_flight=4,
    waiting=1,
    servers=SERVERS,
    sources=SOURCES,
    is_rspamd_well=False,
    deadline=60.0,
    store_fault="",
)

Samples = dict[tuple[str, ...], float]


def samples(
    *scans: Scan,
    message: Message = MESSAGE,
    counters: Counters | None = None,
    health: Health = HEALTH,
) -> Samples:
    """All samples by name and label values, as Prometheus's own parser reads them."""
    counted = metrics.Metrics()
    for scan in scans:
        counted.scanned(message, scan)
    text = counted.text(health, (counters or Counters()).snapshot()).decode()
    assert "secret" not in text
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestMessages:
    def test_by_outcome(self) -> None:
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

    def test_seconds_by_stage_and_of_the_whole(self) -> None:
        found = samples(
            Scan(outcome=SCORED, seconds=2.0, stages={"read": 0.02, "model": 1.5}),
            Scan(outcome=Unscored(Failure.TIMEOUT), seconds=60.0, stages={"read": 5.0}),
        )
        assert found["rspamd_llm_stage_seconds_bucket", "1.0", "model"] == 0
        assert found["rspamd_llm_stage_seconds_bucket", "2.5", "model"] == 1
        assert found["rspamd_llm_stage_seconds_sum", "read"] == 5.02
        assert found["rspamd_llm_message_seconds_sum", "scored"] == 2.0
        assert found["rspamd_llm_message_seconds_sum", "unscored"] == 60.0
        assert found["rspamd_llm_message_seconds_count", "skipped"] == 0

    def test_injections_and_forged_headers(self) -> None:
        speaking = Scan(outcome=dataclasses.replace(SCORED, injection=True))
        found = samples(speaking, Scan(outcome=SCORED), message=FORGED)
        assert found["rspamd_llm_injections_total",] == 1
        assert found["rspamd_llm_forged_messages_total",] == 2
        assert found["rspamd_llm_forged_headers_total",] == 6

    def test_an_honest_message_counts_as_none_of_these(self) -> None:
        found = samples(Scan(outcome=SCORED))
        assert found["rspamd_llm_injections_total",] == 0
        assert found["rspamd_llm_forged_messages_total",] == 0
        assert found["rspamd_llm_forged_headers_total",] == 0

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
    def test_bands(self, score: float, band: str) -> None:
        assert reading.band(score) == band


class TestMoment:
    def test_health(self) -> None:
        found = samples()
        assert found["rspamd_llm_ready",] == 1
        assert found["rspamd_llm_info", "m", "1"] == 1
        assert found["rspamd_llm_in_flight",] == 4
        assert found["rspamd_llm_waiting",] == 1
        assert found["rspamd_llm_deadline_seconds",] == 60
        assert found["rspamd_llm_store_up",] == 1
        assert found["rspamd_llm_server_up", "http://a/v1"] == 1
        assert found["rspamd_llm_server_up", "http://b/v1"] == 0
        assert found["rspamd_llm_server_calls", "http://a/v1"] == 2
        assert found["rspamd_llm_source_up", "dns"] == 1
        assert found["rspamd_llm_source_up", "web"] == 0
        assert found["rspamd_llm_rspamd_up",] == 0

    def test_a_store_that_fails(self) -> None:
        found = samples(health=dataclasses.replace(HEALTH, store_fault="disk full"))
        assert found["rspamd_llm_store_up",] == 0

    def test_nothing_is_told_of_a_rspamd_that_is_not_asked(self) -> None:
        found = samples(health=dataclasses.replace(HEALTH, is_rspamd_well=None))
        assert ("rspamd_llm_rspamd_up",) not in found

    def test_counters(self) -> None:
        counters = Counters()
        counters.add("evidence", 7, source="dns", outcome="hit")
        counters.add("search_refused", reason="day")
        found = samples(counters=counters)
        assert found["rspamd_llm_evidence_total", "hit", "dns"] == 7
        assert found["rspamd_llm_search_refused_total", "day"] == 1

    def test_the_documents_of_health_are_read_back(self) -> None:
        for health in (HEALTH, dataclasses.replace(HEALTH, is_rspamd_well=None, sources=())):
            assert from_document(json.loads(json.dumps(to_document(health)))) == health

    @pytest.mark.parametrize(
        "wrong",
        [{"sources": [{"name": "dns"}]}, {"is_rspamd_well": "yes"}, {"deadline": "60"}],
    )
    def test_a_document_of_another_form_is_of_another_version(
        self, wrong: dict[str, object]
    ) -> None:
        document = json.loads(json.dumps(to_document(HEALTH)))
        with pytest.raises(OtherVersionError, match="a daemon of version 1"):
            from_document({**document, **wrong})

    @pytest.mark.parametrize("wrong", [[], {}, {"version": 1}, {"version": "x\n"}, "text", None])
    def test_what_is_none_is_refused(self, wrong: object) -> None:
        with pytest.raises(ValueError, match="not what the daemon says"):
            from_document(wrong)


class TestTable:
    """The table says what is told, no less and no more."""

    def test_every_metric_is_in_the_table(self) -> None:
        defined = [value for value in vars(definitions).values() if isinstance(value, Definition)]
        assert list(DEFINITIONS) == defined
        assert len({metric.name for metric in DEFINITIONS}) == len(DEFINITIONS)

    def test_what_is_told_has_the_names_kinds_and_labels_of_the_table(self) -> None:
        counted = metrics.Metrics()
        counted.scanned(FORGED, Scan(outcome=SCORED, stages={"read": 0.1}))
        text = counted.text(HEALTH, {}).decode()
        told: dict[str, tuple[str, frozenset[str]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                told[sample.name] = family.type, frozenset(sample.labels)
        assert told == {
            name: (metric.kind.value, labels)
            for metric in DEFINITIONS
            for name, labels in metric.series.items()
        }

    def test_each_text_is_told(self) -> None:
        text = metrics.Metrics().text(HEALTH, {}).decode()
        helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
        for metric in DEFINITIONS:
            if metric.name.startswith("rspamd_llm_"):
                assert helps[metric.name] == metric.text
            assert not metric.text.endswith(".")

    def test_what_is_known_beforehand_begins_at_0(self) -> None:
        found = samples()
        assert found["rspamd_llm_messages_total", "overloaded", "unscored"] == 0
        assert found["rspamd_llm_evidence_total", "failed", "web"] == 0
        assert found["rspamd_llm_rspamd_total", "late"] == 0
        assert found["rspamd_llm_stage_seconds_count", "model"] == 0

    def test_what_begins_has_values_of_the_table(self) -> None:
        for metric in DEFINITIONS:
            for values in metric.begins:
                for label, value in zip(metric.labels, values, strict=True):
                    assert value in metric.labels[label], metric.name

    def test_every_count_of_the_program_is_told_with_its_labels(self) -> None:
        told = {
            metric.origin.name: set(metric.labels)
            for metric in DEFINITIONS
            if isinstance(metric.origin, OfCounters)
        }
        assert dict(counted_somewhere()) == told

    def test_every_stage_of_the_scanner_is_known(self) -> None:
        source = (PACKAGE / "scanner.py").read_text()
        named = re.findall(r'stage(?:s\[|\()"(\w+)"', source)
        assert set(named) == set(definitions.STAGES)

    def test_every_metric_of_messages_grows_with_one(self) -> None:
        speaking = dataclasses.replace(SCORED, injection=True)
        before = samples()
        after = samples(Scan(outcome=speaking, seconds=1, stages={"read": 1}), message=FORGED)
        grown = {
            name
            for (name, *labels), value in after.items()
            if value > before.get((name, *labels), 0)
        }
        for metric in DEFINITIONS:
            if isinstance(metric.origin, OfMessages):
                assert metric.series.keys() <= grown


def counted_somewhere() -> Iterator[tuple[str, set[str]]]:
    """Each `counters.add(...)` in the program: the name, and its labels."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr=of), attr="add"),
                    args=[ast.Constant(value=str(name)), *_],
                    keywords=keywords,
                ) if of.endswith("counters"):
                    yield name, {str(keyword.arg) for keyword in keywords} - {"amount"}


class TestFootprint:
    """What this very process takes."""

    def test_memory_of_the_process_and_of_what_it_started(self) -> None:
        assert process.footprint().memory["daemon"] > 10_000_000
        other = subprocess.Popen(
            [sys.executable, "-c", "x = bytearray(50_000_000); print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with other:
            assert other.stdout is not None
            other.stdout.readline()
            assert process.footprint().memory["helpers"] > 50_000_000
            other.communicate(b"\n")

    def test_copies_of_the_process_are_its_readers(self, tmp_path: Path) -> None:
        script = tmp_path / "forks.py"
        script.write_text(
            "import os, time\n"
            "if not os.fork(): time.sleep(60)\n"
            "if not os.fork(): os.fork(); time.sleep(60)\n"
            "from rspamd_llm.metrics import process\n"
            "print(sorted(process.footprint().memory), flush=True)\n"
            "import signal; os.killpg(0, signal.SIGKILL)\n"
        )
        done = subprocess.run(
            [sys.executable, str(script)],
            check=False,
            cwd=PACKAGE.parent,
            env={"PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            start_new_session=True,
            timeout=60,
        )
        assert done.stdout.decode().strip() == "['daemon', 'readers']", done.stderr

    def test_threads_that_python_began(self) -> None:
        before = process.footprint().threads
        end = threading.Event()
        threads = [threading.Thread(target=end.wait) for _ in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: process.footprint().threads["python"] >= before["python"] + 20)
        end.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: process.footprint().threads["python"] < before["python"] + 20)

    def test_without_proc_nothing_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process, "PROC", tmp_path)
        assert process.footprint() == process.Footprint(memory={}, threads={})


class TestDaemon:
    def test_what_a_running_daemon_takes(self) -> None:
        """The nursery is there from the start, and libmilter's workers once it serves."""
        with (
            StubModel.running() as stub,
            PrivateDaemon({"llm": {"base_url": stub.base_url}}) as one,
        ):

            def told() -> str:
                try:
                    with urllib.request.urlopen(f"http://{one.listen}/metrics") as answer:
                        text: bytes = answer.read()
                        return text.decode()
                except OSError:
                    return ""

            wait_until(lambda: bool(told()))
            found = {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(told())
                for sample in family.samples
            }
        assert found["rspamd_llm_memory_bytes", "daemon"] > 10_000_000
        assert found["rspamd_llm_memory_bytes", "readers"] > 100_000
        assert found["rspamd_llm_threads", "python"] >= 3
        assert found["rspamd_llm_threads", "libmilter"] >= 1
        assert found["rspamd_llm_deadline_seconds",] == 60
