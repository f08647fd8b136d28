"""Remembered look-ups: one at a time for a domain, kept, bounded in time, refused when unwell."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rspamd_llm import breaker as breakers
from rspamd_llm.breaker import Breaker
from rspamd_llm.counters import Counters
from rspamd_llm.domain import EvidenceError, Source
from rspamd_llm.evidence.pace import Pace, RefusedError
from rspamd_llm.evidence.remembered import Remembered
from rspamd_llm.store import MemoryStore, SqliteStore, Store
from rspamd_llm.store import sqlite as stores
from tests.waiting import eventually

LONG = 60.0
"""Seconds after which a test that hangs fails, and of look-ups that are to have time."""

DOMAIN = "acme.example"


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Stand:
    """A source that answers with the domain's name, and how often it was asked.

    It fails for domains that begin with `bad`, knows nothing of `new`, and waits for `gate`.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.under_way = self.peak = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def look_up(self, domain: str) -> tuple[str, ...]:
        self.asked.append(domain)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(domain)
            raise
        finally:
            self.under_way -= 1
        if domain.startswith("bad"):
            raise EvidenceError("the source is out of sorts")
        if domain.startswith("broken"):
            raise KeyError("a fault of ours")
        return () if domain.startswith("new") else (f"of {domain}",)


def decode(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("no list of texts")
    return tuple(value)


class Rig:
    """A Remembered with all its parts."""

    def __init__(self, store: Store | None = None, **options: Any) -> None:
        self.stand = Stand()
        self.clock = Clock()
        self.store = store or MemoryStore(clock=self.clock)
        self.counters = Counters()
        self.breaker = Breaker(Source.WEB.value, clock=self.clock)
        pace = Pace(per_second=1_000, burst=1_000, at_once=1_000, clock=self.clock)
        made: dict[str, Any] = {
            "source": Source.WEB,
            "look_up": self.stand.look_up,
            "encode": list,
            "decode": decode,
            "is_nothing": lambda answer: not answer,
            "store": self.store,
            "counters": self.counters,
            "seconds": LONG,
            "ttl": 1_000.0,
            "ttl_nothing": 100.0,
            "breaker": self.breaker,
            "pace": pace,
        }
        self.remembered: Remembered[tuple[str, ...]] = Remembered(**made | options)

    async def get(self, domain: str = DOMAIN, *, first: bool = True) -> tuple[str, ...]:
        return await self.remembered.get(domain, first=first)

    async def failure(self, domain: str = "bad.example") -> EvidenceError:
        with pytest.raises(EvidenceError) as caught:
            await self.get(domain)
        return caught.value

    def start(self, domain: str = DOMAIN, *, first: bool = True) -> asyncio.Task[Any]:
        return asyncio.create_task(self.get(domain, first=first))

    @property
    def counted(self) -> dict[str, int]:
        """Outcome to count."""
        return {dict(labels)["outcome"]: n for (_, labels), n in self.counters.snapshot().items()}


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test, and proves that nothing of it is left over or goes unseen."""
    complaints: list[dict[str, Any]] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(LONG):
            await work()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())
    assert complaints == []


async def settle() -> None:
    """Lets all go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestMemory:
    def test_an_answer_is_asked_for_once(self) -> None:
        async def work() -> None:
            rig = Rig()
            assert [await rig.get() for _ in range(3)] == [("of acme.example",)] * 3
            assert await rig.get("other.example") == ("of other.example",)
            assert rig.stand.asked == [DOMAIN, "other.example"]
            assert rig.counted == {"found": 2, "hit": 2}
            assert rig.counters.value("evidence", source=Source.WEB.value, outcome="hit") == 2

        run(work)

    def test_nothing_is_an_answer_and_kept_for_a_shorter_time(self) -> None:
        async def work() -> None:
            rig = Rig()
            for later, asked in [(0, 2), (99, 2), (1, 3), (899, 4), (1, 5)]:
                rig.clock.now += later
                assert await rig.get() == ("of acme.example",)
                assert await rig.get("new.example") == ()
                assert len(rig.stand.asked) == asked
            assert rig.stand.asked.count(DOMAIN) == 2
            assert rig.counted == {"found": 2, "nothing": 3, "hit": 5}

        run(work)

    def test_errors_are_not_remembered(self) -> None:
        async def work() -> None:
            rig = Rig()
            for _ in range(3):
                assert str(await rig.failure()) == "the source is out of sorts"
            assert rig.stand.asked == ["bad.example"] * 3
            assert rig.counted == {"failed": 3}

        run(work)

    def test_sources_do_not_share_answers(self) -> None:
        async def work() -> None:
            store = MemoryStore()
            web, dns = Rig(store), Rig(store, source=Source.DNS)
            await web.get()
            await dns.get()
            assert dns.stand.asked == [DOMAIN]
            assert await store.get("web", DOMAIN) is not None

        run(work)

    @pytest.mark.parametrize(
        "stored",
        [
            "",
            "{",
            "null",
            "5",
            "[]",
            "{}",
            '{"version": 1}',
            '{"version": 2, "answer": ["x"]}',
            '{"answer": ["x"]}',
            '{"version": 1, "answer": null}',
            '{"version": 1, "answer": {"0": "x"}}',
            '{"version": 1, "answer": ["x", 5]}',
            "[" * 16_000,
            "NaN",
        ],
        ids=lambda stored: stored[:40],
    )
    def test_what_cannot_be_read_is_looked_up_anew(self, stored: str) -> None:
        async def work() -> None:
            rig = Rig()
            await rig.store.put("web", DOMAIN, stored, 1_000)
            assert [await rig.get(), await rig.get()] == [("of acme.example",)] * 2
            assert rig.stand.asked == [DOMAIN]
            assert rig.counted == {"found": 1, "hit": 1}

        run(work)

    def test_a_decoder_that_trips_over_what_it_reads_does_no_harm(self) -> None:
        async def work() -> None:
            rig = Rig(decode=lambda value: value["no such"].either)
            assert [await rig.get(), await rig.get()] == [("of acme.example",)] * 2
            assert rig.counted == {"found": 2}

        run(work)

    def test_it_is_there_after_a_restart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "READ_SECONDS", LONG)

        async def work() -> None:
            for outcome in ("found", "hit"):
                rig = Rig(SqliteStore(tmp_path / "store.db"))
                assert await rig.get("ümlaut ⓦ.example") == ("of ümlaut ⓦ.example",)
                assert rig.counted == {outcome: 1}
                await rig.store.close()

        run(work)


class TestOneAtATime:
    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_fifty_at_once_make_one_look_up(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "READ_SECONDS", LONG)

        async def work() -> None:
            store = SqliteStore(tmp_path / "store.db") if kind == "sqlite" else MemoryStore()
            rig = Rig(store)
            found = await asyncio.gather(*(rig.get() for _ in range(50)))
            assert found == [("of acme.example",)] * 50
            assert rig.stand.asked == [DOMAIN]
            assert rig.counted == {"found": 1, "joined": 49}
            assert await asyncio.gather(*(rig.get() for _ in range(50))) == found
            assert rig.counted == {"found": 1, "joined": 49, "hit": 50}
            await store.close()

        run(work)

    def test_all_who_wait_hear_of_a_failure(self) -> None:
        async def work() -> None:
            rig = Rig()
            heard = await asyncio.gather(
                *(rig.get("bad.example") for _ in range(50)), return_exceptions=True
            )
            assert {str(each) for each in heard} == {"the source is out of sorts"}
            assert rig.counted == {"failed": 1, "joined": 49}
            assert rig.remembered.state == "ok"  # it is one failure

        run(work)

    def test_when_all_who_waited_were_cancelled_so_is_the_look_up(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.stand.gate.clear()
            waiting = [rig.start() for _ in range(10)]
            await eventually(lambda: rig.stand.under_way == 1)
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)
            await settle()
            assert all(each.cancelled() for each in waiting)
            assert rig.stand.cancelled == [DOMAIN]
            assert rig.counted == {}
            rig.stand.gate.set()
            assert await rig.get() == ("of acme.example",)

        run(work)

    def test_as_long_as_one_waits_it_goes_on(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.stand.gate.clear()
            first, *others, last = [rig.start() for _ in range(10)]
            await eventually(lambda: rig.stand.under_way == 1)
            for each in (first, *others):
                each.cancel()
            await settle()
            assert all(each.cancelled() for each in (first, *others))
            rig.stand.gate.set()
            assert await last == ("of acme.example",)
            assert rig.stand.cancelled == []
            assert rig.counted == {"found": 1, "joined": 1}

        run(work)

    def test_nobody_joins_a_look_up_that_is_being_cancelled(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.stand.gate.clear()
            gone = rig.start()
            await eventually(lambda: rig.stand.under_way == 1)
            gone.cancel()
            await asyncio.sleep(0)
            late = rig.start()
            await eventually(lambda: len(rig.stand.asked) == 2)
            await eventually(lambda: rig.stand.cancelled == [DOMAIN])
            await settle()
            later = rig.start()
            await settle()
            rig.stand.gate.set()
            assert await late == await later == ("of acme.example",)
            assert len(rig.stand.asked) == 2

        run(work)

    def test_cancelling_may_come_at_any_moment(self) -> None:
        async def work() -> None:
            for steps in range(12):
                rig = Rig()
                task = rig.start("bad.example")
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError, EvidenceError):
                    await task
                await settle()
                assert rig.stand.under_way == 0
                await rig.failure()

        run(work)


class TestTime:
    def test_a_look_up_that_hangs_is_ended(self) -> None:
        async def work() -> None:
            rig = Rig(seconds=0.05)
            rig.stand.gate.clear()
            assert str(await rig.failure(DOMAIN)) == "no answer within 0.05 s"
            assert rig.stand.cancelled == [DOMAIN]
            assert rig.counted == {"failed": 1}

        run(work)

    def test_no_more_than_so_many_are_asked_at_once(self) -> None:
        async def work() -> None:
            rig = Rig(pace=Pace(per_second=1, burst=100, at_once=3))
            rig.stand.gate.clear()
            started = [rig.start(f"{number}.example") for number in range(20)]
            await eventually(lambda: rig.stand.under_way == 3)
            await settle()
            rig.stand.gate.set()
            await asyncio.gather(*started)
            assert (len(rig.stand.asked), rig.stand.peak) == (20, 3)

        run(work)

    def test_nobody_waits_for_a_place_for_ever(self) -> None:
        async def work() -> None:
            pace = Pace(per_second=1, burst=100, at_once=1)
            rig = Rig(pace=pace, seconds=0.05)
            async with pace.place(LONG):
                started = [rig.start(f"{number}.example") for number in range(10)]
                heard = await asyncio.gather(*started, return_exceptions=True)
            assert all(isinstance(each, RefusedError) for each in heard)
            assert rig.stand.asked == []
            assert rig.remembered.state == "ok"
            assert await rig.get() == ("of acme.example",)

        run(work)

    def test_a_place_is_given_back_by_those_who_fail_or_are_cancelled(self) -> None:
        async def work() -> None:
            rig = Rig(pace=Pace(per_second=1, burst=100, at_once=1))
            await rig.failure()
            rig.stand.gate.clear()
            first, second = rig.start("1.example"), rig.start("2.example")
            await eventually(lambda: rig.stand.under_way == 1)
            for each in (second, first):
                each.cancel()
            await asyncio.wait([first, second])
            rig.stand.gate.set()
            assert await rig.get() == ("of acme.example",)
            assert rig.stand.asked == ["bad.example", "1.example", DOMAIN]

        run(work)


class TestQuota:
    def test_it_is_asked_before_each_look_up_and_no_failure_of_the_source(self) -> None:
        seen: list[bool] = []

        async def admit(first: bool) -> None:
            seen.append(first)
            if not first:
                raise EvidenceError("the quota of today is used up")

        async def work() -> None:
            rig = Rig(admit=admit)
            for _ in range(2 * breakers.FAILURES):
                with pytest.raises(EvidenceError, match="quota of today"):
                    await rig.get(first=False)
            assert rig.remembered.state == "ok"
            assert rig.stand.asked == []
            assert await rig.get() == ("of acme.example",)
            assert await rig.get(first=False) == ("of acme.example",)
            assert seen == [False] * 2 * breakers.FAILURES + [True]
            assert rig.counted == {"refused": 2 * breakers.FAILURES, "found": 1, "hit": 1}

        run(work)

    @pytest.mark.parametrize("order", [(False, True), (True, False)])
    def test_a_look_up_for_a_sender_and_a_link_is_a_senders(self, order: tuple[bool, bool]) -> None:
        async def admit(first: bool) -> None:
            if not first:
                raise EvidenceError("for senders only")

        async def work() -> None:
            rig = Rig(admit=admit)
            one, other = (rig.start(first=first) for first in order)
            assert await one == await other == ("of acme.example",)

        run(work)


class TestPace:
    def test_beyond_a_burst_look_ups_are_refused_until_some_time_has_passed(self) -> None:
        clock = Clock()

        async def work() -> None:
            rig = Rig(pace=Pace(per_second=0.5, burst=3, at_once=9, clock=clock))
            for number in range(3):
                await rig.get(f"{number}.example")
            for _ in range(2 * breakers.FAILURES):
                assert isinstance(await rig.failure(DOMAIN), RefusedError)
            assert rig.remembered.state == "ok"
            assert await rig.get("0.example") == ("of 0.example",)  # remembered, so not asked
            clock.now += 1.9
            await rig.failure(DOMAIN)
            clock.now += 0.2
            await rig.get(DOMAIN)
            await rig.failure("next.example")
            clock.now += 1_000
            for number in range(3):
                await rig.get(f"late{number}.example")
            await rig.failure("next.example")
            assert len(rig.stand.asked) == 7
            assert rig.counted == {"found": 7, "hit": 1, "refused": 2 * breakers.FAILURES + 3}

        run(work)


async def opened(**options: Any) -> Rig:
    """One whose breaker has just opened."""
    rig = Rig(**options)
    for number in range(breakers.FAILURES):
        assert rig.remembered.state == "ok"
        await rig.failure(f"bad{number}.example")
    assert rig.remembered.state == "open"
    rig.stand.asked.clear()
    return rig


class TestBreaker:
    def test_failures_in_a_row_open_it(self) -> None:
        async def work() -> None:
            rig = await opened()
            assert isinstance(await rig.failure(DOMAIN), RefusedError)
            assert rig.stand.asked == []
            assert rig.counted == {"failed": breakers.FAILURES, "refused": 1}

        run(work)

    def test_a_success_between_them_counts_them_anew(self) -> None:
        async def work() -> None:
            rig = Rig()
            for number in range(3 * breakers.FAILURES):
                if number % (breakers.FAILURES - 1) == 0:
                    await rig.get(f"new{number}.example")
                await rig.failure()
            assert rig.remembered.state == "ok"

        run(work)

    def test_what_is_remembered_is_served_all_the_same(self) -> None:
        async def work() -> None:
            rig = Rig()
            await rig.get()
            for _ in range(breakers.FAILURES):
                await rig.failure()
            assert rig.remembered.state == "open"
            assert await rig.get() == ("of acme.example",)

        run(work)

    def test_a_probe_that_succeeds_closes_it(self) -> None:
        async def work() -> None:
            rig = await opened()
            rig.clock.now += breakers.PAUSE - 1
            await rig.failure(DOMAIN)
            rig.clock.now += 1
            await rig.get()
            assert rig.remembered.state == "ok"
            await asyncio.gather(*(rig.get(f"{number}.example") for number in range(5)))
            for _ in range(breakers.FAILURES - 1):
                await rig.failure()
            assert rig.remembered.state == "ok"

        run(work)

    def test_a_probe_that_fails_doubles_the_pause_up_to_a_bound(self) -> None:
        async def work() -> None:
            rig = await opened()
            pauses = []
            for _ in range(7):
                began = rig.clock.now
                while isinstance(await rig.failure(), RefusedError):
                    rig.clock.now += 10
                pauses.append(rig.clock.now - began)
            assert pauses == [30, 60, 120, 240, 480, 600, 600]
            rig.clock.now += 600
            await rig.get()
            for _ in range(breakers.FAILURES):
                await rig.failure()
            rig.clock.now += breakers.PAUSE
            await rig.get("after.example")

        run(work)

    def test_one_probe_at_a_time(self) -> None:
        async def work() -> None:
            rig = await opened()
            rig.stand.gate.clear()
            rig.clock.now += breakers.PAUSE
            started = [rig.start(f"{number}.example") for number in range(10)]
            _, (probe,) = await asyncio.wait(started, timeout=LONG, return_when="FIRST_EXCEPTION")
            await settle()
            refused = [each for each in started if each is not probe]
            assert all(isinstance(each.exception(), RefusedError) for each in refused)
            assert len(rig.stand.asked) == 1
            rig.stand.gate.set()
            await probe
            assert rig.remembered.state == "ok"

        run(work)

    def test_a_probe_that_is_cancelled_leaves_its_place_to_another(self) -> None:
        async def work() -> None:
            rig = await opened()
            rig.stand.gate.clear()
            rig.clock.now += breakers.PAUSE
            probe = rig.start()
            await eventually(lambda: rig.stand.under_way == 1)
            probe.cancel()
            await asyncio.wait([probe])
            await settle()
            assert rig.remembered.state == "open"
            rig.stand.gate.set()
            await rig.get("other.example")
            assert rig.remembered.state == "ok"

        run(work)

    def test_a_probe_that_the_quota_refuses_leaves_its_place_to_another(self) -> None:
        async def admit(first: bool) -> None:
            if not first:
                raise EvidenceError("the quota of today is used up")

        async def work() -> None:
            rig = await opened(admit=admit)
            rig.clock.now += breakers.PAUSE
            with pytest.raises(RefusedError, match="quota"):
                await rig.get(first=False)
            await rig.get()
            assert rig.remembered.state == "ok"

        run(work)

    def test_cancelled_look_ups_are_no_failures(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.stand.gate.clear()
            for number in range(2 * breakers.FAILURES):
                task = rig.start()
                await eventually(lambda: rig.stand.under_way == 1)
                task.cancel()
                await asyncio.wait([task])
                await eventually(lambda: rig.stand.under_way == 0)
                assert len(rig.stand.cancelled) == number + 1
            assert rig.remembered.state == "ok"

        run(work)

    def test_hanging_look_ups_are_failures(self) -> None:
        async def work() -> None:
            rig = Rig(seconds=0.01)
            rig.stand.gate.clear()
            for _ in range(breakers.FAILURES):
                await rig.failure(DOMAIN)
            assert rig.remembered.state == "open"

        run(work)

    def test_what_it_refuses_uses_up_no_pace(self) -> None:
        async def work() -> None:
            rig = await opened(pace=Pace(per_second=0, burst=breakers.FAILURES + 1, at_once=1))
            for _ in range(5):
                await rig.failure()
            rig.clock.now += breakers.PAUSE
            await rig.get()

        run(work)

    def test_failures_of_look_ups_that_began_before_do_not_prolong_the_pause(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            rig = Rig()
            rig.stand.gate.clear()
            started = [rig.start(f"bad{number}.example") for number in range(20)]
            await eventually(lambda: rig.stand.under_way == 20)
            rig.stand.gate.set()
            await asyncio.gather(*started, return_exceptions=True)
            assert rig.remembered.state == "open"
            assert rig.counted == {"failed": 20}
            assert len(caplog.records) == 1
            rig.clock.now += breakers.PAUSE
            await rig.get()

        run(work)

    def test_a_fault_of_ours_is_a_failure_that_is_seen(self) -> None:
        async def work() -> None:
            rig = Rig()
            for _ in range(breakers.FAILURES):
                with pytest.raises(KeyError):
                    await rig.get("broken.example")
            assert rig.remembered.state == "open"
            assert rig.counted == {"failed": breakers.FAILURES}

        run(work)

    def test_each_change_is_told_once_and_without_domains(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            rig = await opened()
            for _ in range(3):
                await rig.failure()
                rig.clock.now += breakers.LONGEST_PAUSE
                await rig.failure()
            rig.clock.now += breakers.LONGEST_PAUSE
            await rig.get()
            await rig.get("other.example")

        with caplog.at_level(logging.INFO, "rspamd_llm"):
            run(work)
        assert [(entry.levelname, entry.getMessage()) for entry in caplog.records] == [
            ("WARNING", f"{Source.WEB.value} failed 5 times in a row; it is asked again in 30 s"),
            ("INFO", f"{Source.WEB.value} answers again"),
        ]


def test_the_form_of_what_is_stored() -> None:
    """A change of it needs another VERSION."""

    async def work() -> None:
        rig = Rig()
        await rig.get()
        stored = await rig.store.get("web", DOMAIN)
        assert json.loads(stored or "") == {"version": 1, "answer": ["of acme.example"]}

    run(work)


def test_links_leave_a_part_of_the_burst_to_senders() -> None:
    async def story() -> None:
        rig = Rig(pace=Pace(per_second=0, burst=9, at_once=9))
        outcomes = []
        for number in range(9):
            try:
                await rig.get(f"link{number}.example", first=False)
                outcomes.append(True)
            except RefusedError:
                outcomes.append(False)
        assert outcomes == [True] * 6 + [False] * 3
        for number in range(3):
            assert await rig.get(f"sender{number}.example")
        with pytest.raises(RefusedError):
            await rig.get("sender.example")

    run(story)


def test_what_is_remembered_is_a_sign_of_life() -> None:
    async def story() -> None:
        rig = Rig()
        await rig.get()
        for number in range(4 * breakers.FAILURES):
            await rig.failure(f"bad{number}.example")
            if number % (breakers.FAILURES - 1) == 0:
                await rig.get()
        assert not rig.breaker.is_open

    run(story)
