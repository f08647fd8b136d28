"""The verdict memory: what is remembered, who asks, who waits, and who takes over."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rspamd_llm import memory
from rspamd_llm.domain import (
    Cache,
    Deadline,
    Failure,
    ModelError,
    Outcome,
    Scored,
    Skip,
    Skipped,
    Unscored,
    Verdict,
)
from rspamd_llm.memory import LIVES, PROVISIONAL, TAKEOVERS, VerdictMemory
from rspamd_llm.store import MemoryStore, SqliteStore, Store
from rspamd_llm.store import sqlite as sqlitestores
from rspamd_llm.store import valkey as valkeystores
from rspamd_llm.store.valkey import ValkeyStore
from tests.valkeyserver import PrivateValkey, running
from tests.waiting import eventually

SECONDS = 60.0
"""After which a test that hangs fails."""

ROOT = Path(__file__).parent.parent
MAIL, OTHER_MAIL = "a" * 64, "b" * 64
TTL = 1_000.0

T = TypeVar("T")
Step = Callable[[], Awaitable[Outcome]]


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def scored(score: float = 0.97, **changes: Any) -> Scored:
    verdict = Verdict(score=score, category="phishing", reason="It asks for a password. ⓦ")
    fresh = Scored(
        verdict=verdict, model="m", prompt_id="9f3c2a11", seconds=1.5, tokens_in=300, tokens_out=20
    )
    return dataclasses.replace(fresh, **changes)


def remembered(score: float = 0.97, cache: Cache = Cache.HIT) -> Scored:
    """A verdict as one has it who did not ask."""
    return scored(score, seconds=0.0, tokens_in=0, tokens_out=0, cache=cache)


class Model:
    """Whom mails ask.  Each call comes to what the next of `ends` says, the last one for ever."""

    def __init__(self, *ends: Outcome | Exception) -> None:
        self.ends = list(ends) or [scored()]
        self.calls = 0
        self.running = 0
        self.go = asyncio.Event()
        """Until it is set, nobody has an answer."""

    async def ask(self) -> Outcome:
        end = self.ends[min(self.calls, len(self.ends) - 1)]
        self.calls += 1
        self.running += 1
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        if isinstance(end, Exception):
            raise end
        return end


class Rig:
    """A memory with a model that it asks, and mails that come."""

    def __init__(self, *ends: Outcome | Exception, store: Store | None = None, ttl: float = TTL):
        self.clock = Clock()
        self.store = store or MemoryStore(clock=self.clock)
        self.memory = VerdictMemory(self.store, ttl=ttl, model="m", clock=self.clock)
        self.model = Model(*ends)

    def judged(self, seconds: float = SECONDS, *, mail: str = MAIL) -> Coroutine[Any, Any, Outcome]:
        return self.memory.judged(mail, self.model.ask, Deadline.after(seconds))

    async def comes(self, seconds: float = SECONDS, *, mail: str = MAIL) -> asyncio.Task[Outcome]:
        """A mail that asks by now, or waits for one that does."""
        task = asyncio.create_task(self.judged(seconds, mail=mail))
        await eventually(lambda: self.model.running > 0)
        await asyncio.sleep(0)
        return task

    async def wave(self, size: int) -> list[asyncio.Task[Outcome]]:
        """So many mails alike, the first of which asks."""
        return [await self.comes() for _ in range(size)]

    def answer(self) -> None:
        self.model.go.set()

    async def stored(self) -> Any:
        text = await self.store.get("verdict", MAIL)
        return None if text is None else json.loads(text)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What comes of the work, which leaves no task behind."""

    async def bounded() -> T:
        async with asyncio.timeout(SECONDS):
            done = await work
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left
            return done

    return asyncio.run(bounded())


async def ended(tasks: list[asyncio.Task[Outcome]]) -> list[Outcome | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are waited for, however busy the machine is."""
    monkeypatch.setattr(sqlitestores, "READ_SECONDS", SECONDS)
    for name in ("READ_SECONDS", "CONNECT_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(valkeystores, name, SECONDS)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[PrivateValkey]:
    with running(tmp_path) as server:
        yield server


class TestRemembering:
    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize("kind", ["memory", "sqlite", "valkey"])
    def test_what_was_judged_is_not_asked_again(
        self, kind: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        if kind == "valkey":
            url = request.getfixturevalue("valkey").url

        async def work() -> None:
            store: Store = MemoryStore()
            if kind != "memory":
                store = SqliteStore(tmp_path / "s.db") if kind == "sqlite" else ValkeyStore(url)
            rig = Rig(store=store)
            rig.answer()
            assert await rig.memory.recall(MAIL) is None
            assert await rig.judged() == scored()
            assert await rig.memory.recall(MAIL) == remembered()
            assert [await rig.judged() for _ in range(3)] == [remembered()] * 3
            assert await rig.memory.recall(OTHER_MAIL) is None
            assert rig.model.calls == 1
            if kind != "memory":
                await store.close()
                store = SqliteStore(tmp_path / "s.db") if kind == "sqlite" else ValkeyStore(url)
                again = VerdictMemory(store, ttl=TTL, model="m", clock=rig.clock)
                assert await again.recall(MAIL) == remembered()
            await store.close()

        run(work())

    def test_another_fingerprint_is_another_mail(self) -> None:
        async def work() -> None:
            rig = Rig(scored(0.9), scored(0.1))
            rig.answer()
            assert await rig.judged() == scored(0.9)
            assert await rig.judged(mail=OTHER_MAIL) == scored(0.1)
            assert await rig.memory.recall(MAIL) == remembered(0.9)

        run(work())

    def test_what_is_a_fact_of_the_one_mail_is_not_remembered(self) -> None:
        async def work() -> None:
            rig = Rig(scored(injection=True))
            tasks = await rig.wave(2)
            rig.answer()
            assert await ended(tasks) == [scored(injection=True), remembered(cache=Cache.JOINED)]
            assert await rig.memory.recall(MAIL) == remembered()

        run(work())

    @pytest.mark.parametrize(
        "end",
        [
            ModelError(Failure.MODEL_INVALID, "no JSON"),
            ModelError(Failure.TIMEOUT, "late"),
            Unscored(Failure.MODEL_UNAVAILABLE, "down"),
            Skipped(Skip.SAMPLED),
            RuntimeError("ours"),
        ],
        ids=lambda end: type(end).__name__,
    )
    def test_only_what_was_scored_is_kept(self, end: Outcome | Exception) -> None:
        async def work() -> None:
            rig = Rig(end)
            rig.answer()
            for calls in (1, 2):
                (told,) = await ended([asyncio.create_task(rig.judged())])
                assert told is end
                assert rig.model.calls == calls
            assert await rig.memory.recall(MAIL) is None

        run(work())

    def test_it_is_kept_for_its_time(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.answer()
            await rig.judged()
            rig.clock.now += TTL - 0.5
            assert await rig.memory.recall(OTHER_MAIL) is None
            rig.clock.now += 1
            assert await rig.memory.recall(MAIL) is None
            assert await rig.judged() == scored()
            assert rig.model.calls == 2

        run(work())

    def test_one_that_is_in_use_is_renewed_up_to_a_limit(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.answer()
            await rig.judged()
            begun = rig.clock.now
            while await rig.memory.recall(MAIL) is not None:
                rig.clock.now += TTL * 0.7
            lived = rig.clock.now - begun
            assert (LIVES - 0.7) * TTL < lived <= (LIVES + 0.7) * TTL
            assert await rig.stored() is None

        run(work())

    def test_it_is_written_again_only_when_half_its_time_is_over(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.answer()
            await rig.judged()
            first = await rig.stored()
            rig.clock.now += TTL * 0.49
            await rig.memory.recall(MAIL)
            assert await rig.stored() == first
            rig.clock.now += TTL * 0.02
            await rig.memory.recall(MAIL)
            assert await rig.stored() == first | {"until": rig.clock.now + TTL}

        run(work())

    def test_one_without_all_evidence_is_kept_for_a_minute_whoever_uses_it(self) -> None:
        async def work() -> None:
            rig = Rig(scored(is_whole=False))
            rig.answer()
            await rig.judged()
            for _ in range(5):
                rig.clock.now += PROVISIONAL / 6
                assert await rig.memory.recall(MAIL) is not None
            rig.clock.now += PROVISIONAL / 6
            assert await rig.memory.recall(MAIL) is None

        run(work())

    def test_without_a_time_to_keep_it_each_mail_is_asked_about(self) -> None:
        async def work() -> None:
            rig = Rig(ttl=0.0)
            tasks = await rig.wave(3)
            rig.answer()
            assert await ended(tasks) == [scored()] * 3
            assert rig.model.calls == 3
            assert await rig.memory.recall(MAIL) is None
            assert await rig.stored() is None

        run(work())


class TestWhatIsStored:
    def test_its_form(self) -> None:
        async def work() -> Any:
            rig = Rig()
            rig.answer()
            await rig.judged()
            return await rig.stored()

        assert run(work()) == {
            "version": 1,
            "score": 0.97,
            "category": "phishing",
            "reason": "It asks for a password. ⓦ",
            "prompt_id": "9f3c2a11",
            "model": "m",
            "made": 1_800_000_000.0,
            "until": 1_800_001_000.0,
            "whole": True,
        }

    def recalled(self, text: str) -> Scored | None:
        async def work() -> Scored | None:
            rig = Rig()
            await rig.store.put("verdict", MAIL, text, 1e9)
            return await rig.memory.recall(MAIL)

        return run(work())

    @pytest.mark.parametrize(
        "changes",
        [
            {"score": 0},
            {"score": 1.0},
            {"reason": ""},
            {"reason": "x" * 240},
            {"category": "none"},
            {"category": "a" * 32},
            {"made": 1_800_000_030.0},
            {"until": 1e11},
            {"whole": False},
        ],
        ids=str,
    )
    def test_what_is_sound_is_taken(self, changes: dict[str, Any]) -> None:
        assert self.recalled(json.dumps(ENTRY | changes)) is not None

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"version": "1"},
            {"version": None},
            {"score": 1.01},
            {"score": -0.01},
            {"score": True},
            {"score": "0.5"},
            {"score": None},
            {"score": 10**400},
            {"category": ""},
            {"category": "Phishing"},
            {"category": "a" * 33},
            {"category": "x\n"},
            {"category": "x; s=0"},
            {"category": 5},
            {"category": ["x"]},
            {"reason": "x" * 241},
            {"reason": None},
            {"reason": "\ud800"},
            {"prompt_id": "9F3C2A11"},
            {"prompt_id": "9f3c2a1"},
            {"prompt_id": "9f3c2a11\n"},
            {"model": "another"},
            {"model": ""},
            {"model": None},
            {"made": 1_800_000_100.0},
            {"made": -1},
            {"made": 10**400},
            {"made": "1800000000"},
            {"made": 1_800_000_000 - LIVES * TTL},
            {"until": 1_800_000_000.0},
            {"until": 10**400},
            {"whole": 1},
            {"whole": None},
            {"extra": 1},
        ],
        ids=str,
    )
    def test_what_is_not_is_no_verdict(self, changes: dict[str, Any]) -> None:
        assert self.recalled(json.dumps(ENTRY | changes)) is None

    @pytest.mark.parametrize("left_out", ["version", "score", "reason", "made", "until", "whole"])
    def test_nor_is_a_part_of_one(self, left_out: str) -> None:
        entry = {name: value for name, value in ENTRY.items() if name != left_out}
        assert self.recalled(json.dumps(entry)) is None

    @pytest.mark.parametrize(
        "text",
        [
            "x",
            "null",
            "1",
            '"x"',
            "[]",
            "{}",
            "[" * 16_000,
            "1" * 16_000,
            '{"version": 1, "score": NaN}',
            "\x80\x04N.",
        ],
        ids=lambda text: text[:20],
    )
    def test_nor_is_anything_else(self, text: str) -> None:
        assert self.recalled(text) is None

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    @pytest.mark.parametrize("name", ["score", "made", "until"])
    def test_nor_are_numbers_that_are_none(self, name: str, number: str) -> None:
        text = json.dumps(ENTRY | {name: "HERE"}).replace('"HERE"', number)
        assert self.recalled(text) is None

    def test_what_cannot_be_read_is_asked_anew_and_replaced(self) -> None:
        async def work() -> None:
            rig = Rig()
            rig.answer()
            await rig.store.put("verdict", MAIL, "rubbish", 1e9)
            assert await rig.judged() == scored()
            assert await rig.judged() == remembered()

        run(work())


ENTRY = {
    "version": 1,
    "score": 0.97,
    "category": "phishing",
    "reason": "It asks.",
    "prompt_id": "9f3c2a11",
    "model": "m",
    "made": 1_800_000_000.0,
    "until": 1_800_001_000.0,
    "whole": True,
}


class TestOneAsker:
    def test_of_five_hundred_mails_alike_one_is_asked_about(self) -> None:
        async def work() -> None:
            rig = Rig()
            tasks = [asyncio.create_task(rig.judged()) for _ in range(500)]
            await eventually(lambda: rig.model.running > 0)
            rig.answer()
            assert await ended(tasks) == [scored()] + [remembered(cache=Cache.JOINED)] * 499
            assert rig.model.calls == 1
            assert await rig.judged() == remembered()

        run(work())

    def test_mails_that_are_not_alike_do_not_wait_for_each_other(self) -> None:
        async def work() -> None:
            rig = Rig()
            one, other = await rig.comes(), await rig.comes(mail=OTHER_MAIL)
            assert rig.model.running == 2
            rig.answer()
            assert await ended([one, other]) == [scored()] * 2

        run(work())

    def test_who_comes_while_the_store_is_read_has_what_is_found(self) -> None:
        class Slow(MemoryStore):
            async def get(self, kind: str, key: str) -> str | None:
                await asyncio.sleep(0.01)
                return await super().get(kind, key)

        async def work() -> None:
            rig = Rig(store=Slow())
            await rig.store.put("verdict", MAIL, json.dumps(ENTRY), 1e9)
            told = await asyncio.gather(*(rig.judged() for _ in range(5)))
            assert {outcome.cache for outcome in told if isinstance(outcome, Scored)} == {Cache.HIT}
            assert rig.model.calls == 0

        run(work())

    def test_nothing_of_an_asker_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Reluctant(MemoryStore):
            claims = 0

            async def claim(self, kind: str, key: str, seconds: float) -> bool:
                self.claims += 1
                try:
                    await asyncio.sleep(0.0 if self.claims == 1 else SECONDS)
                finally:
                    await asyncio.sleep(0.01)
                return True

        monkeypatch.setattr(memory, "LEASE", 0.01)
        store = Reluctant()

        async def work() -> None:
            rig = Rig(store=store)
            task = await rig.comes()
            await eventually(lambda: store.claims == 2)
            rig.answer()
            assert await task == scored()

        run(work())

    def test_what_another_daemon_wrote_just_before_our_claim_is_found(self) -> None:
        class Shared(MemoryStore):
            async def claim(self, kind: str, key: str, seconds: float) -> bool:
                await self.put("verdict", MAIL, json.dumps(ENTRY), 1e9)
                return True

        async def work() -> None:
            rig = Rig(store=Shared())
            told = await rig.judged()
            assert isinstance(told, Scored)
            assert told.cache is Cache.HIT
            assert rig.model.calls == 0

        run(work())

    def test_who_comes_while_the_verdict_is_written_does_not_ask(self) -> None:
        class Slow(MemoryStore):
            async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
                writing.set()
                await asyncio.sleep(0.01)
                await super().put(kind, key, value, ttl)

        writing = asyncio.Event()

        async def work() -> None:
            rig = Rig(store=Slow())
            rig.answer()
            first = asyncio.create_task(rig.judged())
            await writing.wait()
            assert await rig.judged() == remembered(cache=Cache.JOINED)
            assert await first == scored()
            assert rig.model.calls == 1

        run(work())

    def test_each_waits_to_its_own_deadline(self) -> None:
        async def work() -> None:
            rig = Rig()
            first, patient = await rig.wave(2)
            with pytest.raises(TimeoutError):
                await rig.judged(0.01)
            with pytest.raises(TimeoutError):
                await rig.judged(0.0)
            rig.answer()
            assert await ended([first, patient]) == [scored(), remembered(cache=Cache.JOINED)]
            assert rig.model.calls == 1

        run(work())

    def test_one_that_is_dropped_while_it_waits_disturbs_nobody(self) -> None:
        async def work() -> None:
            rig = Rig()
            first, dropped, last = await rig.wave(3)
            dropped.cancel()
            await eventually(dropped.done)
            rig.answer()
            assert await ended([first, last]) == [scored(), remembered(cache=Cache.JOINED)]
            assert dropped.cancelled()
            assert rig.model.calls == 1

        run(work())

    def test_it_keeps_its_deadline_whatever_it_asks(self) -> None:
        async def work() -> None:
            rig = Rig()
            with pytest.raises(TimeoutError):
                await rig.judged(0.01)
            assert rig.model.running == 0

        run(work())

    def test_a_verdict_that_is_there_in_time_is_not_lost_to_a_store_that_is_late(self) -> None:
        class Hangs(MemoryStore):
            async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
                await asyncio.sleep(SECONDS)

        async def work() -> None:
            rig = Rig(store=Hangs())
            rig.answer()
            assert await rig.judged(0.05) == scored()

        run(work())


class TestTakeover:
    def test_when_the_one_that_asks_is_dropped_one_other_takes_over(self) -> None:
        async def work() -> None:
            rig = Rig()
            tasks = await rig.wave(10)
            for number in range(1, 6):
                (asking,) = [task for task in tasks if asks(task)]
                tasks.remove(asking)
                asking.cancel()
                await eventually(asking.done)
                await eventually(lambda: rig.model.running == 1)
                assert rig.model.calls == number + 1
            rig.answer()
            told = await ended(tasks)
            assert sorted(told, key=repr) == sorted(
                [scored()] + [remembered(cache=Cache.JOINED)] * 4, key=repr
            )
            assert rig.model.calls == 6

        run(work())

    def test_it_is_the_one_with_the_most_time_left(self) -> None:
        async def work() -> None:
            rig = Rig()
            first = await rig.comes(40)
            waiting = [await rig.comes(seconds) for seconds in (20, 50, 30)]
            first.cancel()
            await eventually(lambda: rig.model.calls == 2)
            assert [asks(task) for task in waiting] == [False, True, False]
            rig.answer()
            await ended([first, *waiting])

        run(work())

    def test_one_whose_deadline_comes_hands_over_to_one_with_more_time(self) -> None:
        async def work() -> None:
            rig = Rig()
            first = await rig.comes(0.05)
            waiting = [await rig.comes(), await rig.comes()]
            (late,) = await ended([first])
            assert isinstance(late, TimeoutError)
            await eventually(lambda: rig.model.running == 1)
            rig.answer()
            assert {repr(told) for told in await ended(waiting)} == {
                repr(scored()),
                repr(remembered(cache=Cache.JOINED)),
            }
            assert rig.model.calls == 2

        run(work())

    @pytest.mark.parametrize(
        "end",
        [
            ModelError(Failure.MODEL_INVALID, "no JSON"),
            ModelError(Failure.OVERLOADED, "more mail than can be answered in time"),
            ModelError(Failure.TIMEOUT, "late"),
            Unscored(Failure.MODEL_INVALID, "no JSON"),
        ],
        ids=repr,
    )
    def test_what_may_not_meet_the_next_is_tried_again(self, end: Outcome | Exception) -> None:
        async def work() -> None:
            rig = Rig(end, scored())
            tasks = await rig.wave(5)
            rig.answer()
            told = await ended(tasks)
            assert told[0] is end
            assert sorted(map(repr, told[1:])) == sorted(
                [repr(scored())] + [repr(remembered(cache=Cache.JOINED))] * 3
            )
            assert rig.model.calls == 2

        run(work())

    @pytest.mark.parametrize(
        ("end", "told"),
        [
            (
                ModelError(Failure.MODEL_INVALID, "no JSON"),
                Unscored(Failure.MODEL_INVALID, "no JSON"),
            ),
            (RuntimeError("of the mail"), Unscored(Failure.INTERNAL, "unexpected RuntimeError")),
        ],
        ids=["invalid", "ours"],
    )
    def test_but_only_so_often_and_then_all_are_told(
        self, end: Outcome | Exception, told: Outcome
    ) -> None:
        async def work() -> None:
            rig = Rig(end)
            tasks = await rig.wave(100)
            rig.answer()
            ends = await ended(tasks)
            assert rig.model.calls == 1 + TAKEOVERS
            assert sum(each is end for each in ends) == 1 + TAKEOVERS
            assert sum(each == told for each in ends if each is not end) == 99 - TAKEOVERS

        run(work())

    def test_those_that_were_dropped_are_not_counted(self) -> None:
        async def work() -> None:
            rig = Rig(*[scored()] * 5, ModelError(Failure.MODEL_INVALID, "no JSON"), scored())
            tasks = await rig.wave(10)
            for number in range(5):
                (asking,) = [task for task in tasks if asks(task)]
                asking.cancel()
                await eventually(lambda calls=number + 2: rig.model.calls == calls)  # type: ignore[misc]
            rig.answer()
            told = await ended(tasks)
            assert rig.model.calls == 7
            assert sum(isinstance(each, Scored) for each in told) == 4

        run(work())

    @pytest.mark.parametrize(
        "code", [Failure.MODEL_UNAVAILABLE, Failure.CONTEXT_OVERFLOW, Failure.STOPPING]
    )
    def test_what_would_meet_all_is_told_to_all_at_once(self, code: Failure) -> None:
        async def work() -> None:
            rig = Rig(ModelError(code, "why"))
            tasks = await rig.wave(100)
            rig.answer()
            assert (await ended(tasks))[1:] == [Unscored(code, "why")] * 99
            assert rig.model.calls == 1

        run(work())

    def test_after_a_wave_that_came_to_nothing_a_new_one_begins(self) -> None:
        async def work() -> None:
            rig = Rig(ModelError(Failure.MODEL_UNAVAILABLE, "down"), scored())
            tasks = await rig.wave(3)
            rig.answer()
            await ended(tasks)
            assert await rig.judged() == scored()

        run(work())

    def test_an_heir_that_is_dropped_in_the_same_moment_passes_it_on(self) -> None:
        async def work() -> None:
            rig = Rig()
            first = await rig.comes(40)
            heir, last = await rig.comes(50), await rig.comes(45)
            turns = list(rig.memory._waves[MAIL].waiting)
            first.cancel()
            while not turns[0].done():  # noqa: ASYNC110  the very step is meant
                await asyncio.sleep(0)
            heir.cancel()
            rig.answer()
            assert await last == scored()
            assert heir.cancelled()
            assert rig.model.calls == 2

        run(work())

    def test_when_all_are_dropped_nothing_is_left(self) -> None:
        async def work() -> None:
            rig = Rig()
            tasks = await rig.wave(20)
            for task in tasks:
                task.cancel()
            assert all(isinstance(end, asyncio.CancelledError) for end in await ended(tasks))
            assert rig.model.running == 0
            assert rig.memory._waves == {}
            rig.answer()
            assert await rig.judged() == scored()

        run(work())

    def test_waves_leave_nothing_behind(self) -> None:
        async def work() -> None:
            rig = Rig(scored(), ModelError(Failure.MODEL_UNAVAILABLE, ""), RuntimeError(), scored())
            rig.answer()
            for number in range(50):
                tasks = [
                    asyncio.create_task(rig.judged(mail=f"{number % 7:064x}")) for _ in range(5)
                ]
                await asyncio.sleep(0)
                tasks[number % 5].cancel()
                await ended(tasks)
            assert rig.memory._waves == {}

        run(work())


def asks(task: asyncio.Task[Outcome]) -> bool:
    """Whether a mail is the one that asks."""
    frame: Any = task.get_coro()
    names = []
    while frame is not None:
        names.append(getattr(frame, "__name__", ""))
        frame = getattr(frame, "cr_await", None)
    return "ask" in names


@asynccontextmanager
async def daemons(*urls: str) -> AsyncIterator[list[Rig]]:
    """A memory of its own for each URL, as daemons have that share a server."""
    rigs = [Rig(store=ValkeyStore(url)) for url in urls]
    try:
        yield rigs
    finally:
        for rig in rigs:
            await rig.store.close()


@pytest.mark.usefixtures("patient")
class TestDaemons:
    def test_of_all_that_share_a_server_one_asks(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 3) as rigs:
                tasks = [asyncio.create_task(rig.judged()) for rig in rigs for _ in range(100)]
                await eventually(lambda: sum(rig.model.running for rig in rigs) == 1)
                for rig in rigs:
                    rig.answer()
                told = await ended(tasks)
                assert sum(outcome == scored() for outcome in told) == 1
                assert sum(outcome == remembered(cache=Cache.JOINED) for outcome in told) == 299
                assert sum(rig.model.calls for rig in rigs) == 1
                for rig in rigs:
                    assert await rig.judged() == remembered()

        run(work())

    def test_when_it_comes_to_nothing_another_daemon_asks(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as (one, other):
                one.model.ends = [ModelError(Failure.MODEL_INVALID, "no JSON")]
                failing = await one.comes()
                waiting = asyncio.create_task(other.judged())
                one.answer()
                other.answer()
                assert isinstance((await ended([failing]))[0], ModelError)
                assert await waiting == scored()
                with pytest.raises(ModelError):
                    await one.judged(mail=OTHER_MAIL)
                assert not [key for key in valkey.lives() if OTHER_MAIL in key]

        run(work())

    def test_when_its_mail_is_dropped_another_daemon_asks(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as (one, other):
                dropped = await one.comes()
                waiting = asyncio.create_task(other.judged())
                other.answer()
                dropped.cancel()
                assert await waiting == scored()
                await ended([dropped])

        run(work())

    def test_a_claim_is_held_for_as_long_as_the_model_takes(
        self, valkey: PrivateValkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "LEASE", 3.0)
        prolonged = 0

        async def work() -> None:
            nonlocal prolonged
            async with daemons(*[valkey.url] * 2) as (one, other):
                claim = one.store.claim

                async def counted(kind: str, key: str, seconds: float) -> bool:
                    nonlocal prolonged
                    prolonged += 1
                    return await claim(kind, key, seconds)

                monkeypatch.setattr(one.store, "claim", counted)
                first = await one.comes()
                second = asyncio.create_task(other.judged())
                await eventually(lambda: prolonged > 1)
                one.answer()
                assert await ended([first, second]) == [scored(), remembered(cache=Cache.JOINED)]

        run(work())
        assert prolonged == 2

    def test_the_takeover_within_a_daemon_keeps_its_claim(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as (one, other):
                first, second = await one.wave(2)
                waiting = asyncio.create_task(other.judged())
                first.cancel()
                await eventually(lambda: one.model.calls == 2)
                one.answer()
                assert await second == scored()
                assert await waiting == remembered(cache=Cache.JOINED)
                assert other.model.calls == 0

        run(work())

    def test_when_a_daemon_is_killed_another_takes_over_within_its_lease(
        self, valkey: PrivateValkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "LEASE", 0.5)
        source = """
            import asyncio, sys
            from rspamd_llm import memory
            from rspamd_llm.domain import Deadline
            from rspamd_llm.store import open_store
            from rspamd_llm.store import valkey as stores

            memory.LEASE = float(sys.argv[2])
            stores.READ_SECONDS = stores.CONNECT_SECONDS = 60.0

            async def ask():
                print("asking", flush=True)
                await asyncio.sleep(600)

            async def work():
                verdicts = memory.VerdictMemory(open_store(sys.argv[1]), ttl=1000, model="m")
                await verdicts.judged("a" * 64, ask, Deadline.after(600))

            asyncio.run(work())
        """
        arguments = [sys.executable, "-c", textwrap.dedent(source), valkey.url, "0.5"]
        with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
            try:
                assert killed.stdout
                assert killed.stdout.readline() == "asking\n"

                async def work() -> None:
                    async with daemons(valkey.url) as (rig,):
                        rig.answer()
                        task = asyncio.create_task(rig.judged())
                        await asyncio.sleep(1.0)  # twice the lease, which is prolonged
                        assert rig.model.calls == 0
                        killed.send_signal(signal.SIGKILL)
                        assert await task == scored()

                run(work())
            finally:
                killed.kill()

    def test_who_waits_for_another_daemon_does_so_to_its_own_deadline(
        self, valkey: PrivateValkey
    ) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as (one, other):
                first = await one.comes()
                with pytest.raises(TimeoutError):
                    await other.judged(0.2)
                one.answer()
                assert await first == scored()
                assert await other.judged() == remembered()

        run(work())

    def test_when_the_server_dies_each_daemon_asks_for_itself(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as rigs:
                first = await rigs[0].comes()
                second = asyncio.create_task(rigs[1].judged())
                valkey.stop()
                await eventually(lambda: rigs[1].model.running == 1)
                for rig in rigs:
                    rig.answer()
                assert await ended([first, second]) == [scored()] * 2
                for rig in rigs:
                    assert await rig.judged() == remembered()

        run(work())

    def test_a_verdict_that_another_daemon_renewed_is_renewed_for_all(
        self, valkey: PrivateValkey
    ) -> None:
        async def work() -> None:
            async with daemons(*[valkey.url] * 2) as (one, other):
                one.answer()
                await one.judged()
                one.clock.now += TTL * 0.9
                await one.judged()
                other.clock.now += TTL * 1.5
                assert await other.judged() == remembered()
                assert other.model.calls == 0

        run(work())

    def test_what_is_read_there_is_checked(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with daemons(valkey.url) as (rig,):
                rig.answer()
                key = f"{valkeystores.PREFIX}verdict:{MAIL}"
                for bad in ({"score": 7}, {"category": "x; s=0.00"}, {"model": "other"}):
                    valkey.do("SET", key, json.dumps(ENTRY | bad))
                    assert await rig.memory.recall(MAIL) is None
                assert await rig.judged() == scored()

        run(work())


def test_a_daemon_process_ends_with_all_its_tasks() -> None:
    """The loop has nothing to complain of when it ends amid a wave."""
    source = """
        import asyncio
        from rspamd_llm.domain import Deadline
        from rspamd_llm.memory import VerdictMemory
        from rspamd_llm.store import MemoryStore

        async def ask():
            await asyncio.sleep(600)

        async def work():
            verdicts = VerdictMemory(MemoryStore(), ttl=1000, model="m")
            for _ in range(5):
                asyncio.create_task(verdicts.judged("a" * 64, ask, Deadline.after(600)))
            await asyncio.sleep(0.01)

        asyncio.run(work(), debug=True)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(source)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
