"""The verdict memory: the model is asked once about mails alike, and one mail asks for all.

Plain state in one asyncio loop, beside a store that several daemons may share.  What may not live
here: what makes mails alike (their fingerprint), how the model is asked, where texts are kept.

Mails alike that are there at once are a wave.  Its first one asks, in its own task: whoever drops
that mail's connection ends its call.  The others wait, each to its own deadline.  Who waits and has
the most time left takes over where the one that asks is dropped, or comes to nothing for a reason
that need not hold for the next: in what order they came is all one, as all have the answer at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rspamd_llm.domain import (
    REASON_LIMIT,
    Cache,
    Deadline,
    Failure,
    ModelError,
    Outcome,
    Scored,
    Unscored,
    Verdict,
)
from rspamd_llm.store import Store

KIND = "verdict"
"""Of the entries in the store."""

VERSION = 1
"""Of what is stored; the model is asked anew where it is another."""

LIVES = 6
"""Times its `ttl` that a verdict may live by being renewed: a campaign that runs all day is judged
a few times, and a mistake does not stay for longer."""

PROVISIONAL = 60.0
"""Seconds at most, without renewal, for a verdict that was made while evidence was missing: what
came too late for one mail is there for the next, and nobody shall gain by making it late."""

TAKEOVERS = 2
"""Takeovers in one wave after the model came to nothing.  What two more mails alike meet, all
would; one whose connection was dropped says nothing of the model, and is not counted."""

LEASE = 3.0
"""Seconds that a claim on asking lives without being prolonged, which happens in a third of it: so
long the other daemons wait for one that was killed."""

POLL, LONGEST_POLL, SLOWER = 0.05, 0.25, 1.25
"""Seconds between two looks for another daemon's verdict, by one mail of a wave: at first, at most,
and what each is to the one before.  A look takes half a millisecond of the loop's time."""

SKEW = 60.0
"""Seconds that another daemon's clock may be ahead of ours."""

_FOR_ALL = {Failure.MODEL_UNAVAILABLE, Failure.CONTEXT_OVERFLOW, Failure.STOPPING}
"""What would meet each mail of a wave alike: a server is down for all, and a text too long stays
so.  `timeout` and `overloaded` are no such: who has more time may yet be answered."""

_FORMS = {
    "reason": re.compile(rf"(?s).{{0,{REASON_LIMIT}}}"),
    "category": re.compile(r"[a-z][a-z0-9_-]{0,31}"),
    "prompt_id": re.compile(r"[0-9a-f]{8}"),
    "model": re.compile(r"(?s).{1,1000}"),
}
_RANGES = {"score": 1.0, "made": 1e11, "until": 1e11}
"""The most each may be, from 0; the times end in the year 5138."""

Ask = Callable[[], Awaitable[Outcome]]
_Turn = asyncio.Future[Outcome | None]
"""What one that waits is told: what came of it, or None: to ask itself."""


@dataclass(slots=True, eq=False)
class _Wave:
    waiting: dict[_Turn, Deadline] = field(default_factory=dict)
    takeovers: int = 0
    is_claimed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A verdict as it is stored.  Times are in seconds since 1970."""

    score: float
    category: str
    reason: str
    prompt_id: str
    model: str
    made: float
    until: float
    whole: bool


class VerdictMemory:
    """What the model said of mails alike.  With `ttl` 0 it is off: each mail is asked about.

    A verdict is kept for `ttl` seconds.  Each use in the second half of them begins them anew, up
    to LIVES times `ttl` after it was made.  One for which evidence was missing is kept for
    PROVISIONAL at most.  A fingerprint names the model too.
    """

    def __init__(
        self, store: Store, *, ttl: float, model: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._ttl = ttl
        self._model = model
        self._clock = clock
        self._waves: dict[str, _Wave] = {}

    async def recall(self, fingerprint: str) -> Scored | None:
        """The verdict remembered, as a hit that took no time; None where there is none."""
        text = await self._store.get(KIND, fingerprint) if self._ttl else None
        entry = _read(text) if text is not None else None
        if entry is None or entry.model != self._model:
            return None
        now = self._clock()
        last = entry.made + LIVES * self._ttl
        if entry.made > now + SKEW or now >= min(entry.until, last):
            return None
        until = min(now + self._ttl, last)
        if entry.whole and entry.until - now < self._ttl / 2 and until > entry.until:
            await self._put(fingerprint, dataclasses.replace(entry, until=until))
        return Scored(
            verdict=Verdict(score=entry.score, category=entry.category, reason=entry.reason),
            model=entry.model,
            prompt_id=entry.prompt_id,
            seconds=0.0,
            cache=Cache.HIT,
        )

    async def judged(self, fingerprint: str, ask: Ask, deadline: Deadline) -> Outcome:
        """What is remembered, what another mail like this one brings, or what `ask` comes to.

        Raises what `ask` does, and TimeoutError at the deadline.  `ask` is called in this task, at
        most once, and ends with it.  What others brought has no seconds, tokens or injection.
        """
        if not self._ttl:
            return await ask()
        wave = self._waves.get(fingerprint)
        if wave is None:
            wave = self._waves[fingerprint] = _Wave()
        else:
            told = await self._told(fingerprint, wave, deadline)
            if told is not None:
                return told
        return await self._asked(fingerprint, wave, ask, deadline)

    async def _told(self, fingerprint: str, wave: _Wave, deadline: Deadline) -> Outcome | None:
        """What one that waits is told, within its deadline."""
        turn: _Turn = asyncio.get_running_loop().create_future()
        wave.waiting[turn] = deadline
        try:
            async with asyncio.timeout(deadline.left()):
                return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                await self._end(fingerprint, wave, None)  # it was to take over just now
            raise
        finally:
            wave.waiting.pop(turn, None)

    async def _asked(self, fingerprint: str, wave: _Wave, ask: Ask, deadline: Deadline) -> Outcome:
        """What the one that asks comes to, which is told to those who wait."""
        outcome: Outcome | None = None
        try:
            async with asyncio.timeout(deadline.left()):
                outcome = await self._sought(fingerprint, wave, ask)
                if isinstance(outcome, Scored) and outcome.cache is Cache.MISS:
                    await self._keep(fingerprint, outcome)
        except TimeoutError:
            if outcome is None:
                outcome = Unscored(Failure.TIMEOUT, "the model did not answer in time")
                raise
        except ModelError as error:
            outcome = Unscored(error.code, str(error))
            raise
        except Exception as error:
            outcome = Unscored(Failure.INTERNAL, f"unexpected {type(error).__name__}")
            raise
        finally:
            await self._end(fingerprint, wave, outcome)
        return outcome

    async def _sought(self, fingerprint: str, wave: _Wave, ask: Ask) -> Outcome:
        """A verdict of before, of another daemon that asks just now, or what `ask` comes to."""
        known = await self.recall(fingerprint)
        if known is not None:
            return known
        pause = POLL
        while not await self._store.claim(KIND, fingerprint, LEASE):
            await asyncio.sleep(pause)
            pause = min(SLOWER * pause, LONGEST_POLL)
            known = await self.recall(fingerprint)
            if known is not None:
                return dataclasses.replace(known, cache=Cache.JOINED)
        wave.is_claimed = True
        known = await self.recall(fingerprint)  # it may have come between the look and the claim
        if known is not None:
            return known
        async with self._prolonged(fingerprint):
            return await ask()

    @contextlib.asynccontextmanager
    async def _prolonged(self, fingerprint: str) -> AsyncIterator[None]:
        """Keeps our claim alive for as long as this daemon is."""

        async def prolong() -> None:
            while True:
                await asyncio.sleep(LEASE / 3)
                await self._store.claim(KIND, fingerprint, LEASE)

        keeper = asyncio.create_task(prolong())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _end(self, fingerprint: str, wave: _Wave, outcome: Outcome | None) -> None:
        """The one that asked is done, or was cancelled (None): another takes over, or all are told.

        All but the last step happens at once, so that nobody can fall between two waves.
        """
        turns = {turn: end for turn, end in wave.waiting.items() if not turn.done()}
        if turns and _may_go_on(wave, outcome):
            wave.takeovers += outcome is not None
            max(turns, key=lambda turn: turns[turn].at).set_result(None)
            return  # with our claim, which is this daemon's
        del self._waves[fingerprint]
        if outcome is not None:
            for turn in turns:
                turn.set_result(_as_joined(outcome))
        if wave.is_claimed and not isinstance(outcome, Scored):
            # Where there is a verdict, all look at that first, and the claim just ends.
            await self._store.release(KIND, fingerprint)

    async def _keep(self, fingerprint: str, scored: Scored) -> None:
        now = self._clock()
        entry = _Entry(
            score=scored.verdict.score,
            category=scored.verdict.category,
            reason=scored.verdict.reason,
            prompt_id=scored.prompt_id,
            model=scored.model,
            made=now,
            until=now + (self._ttl if scored.is_whole else min(self._ttl, PROVISIONAL)),
            whole=scored.is_whole,
        )
        await self._put(fingerprint, entry)

    async def _put(self, fingerprint: str, entry: _Entry) -> None:
        text = json.dumps({"version": VERSION, **dataclasses.asdict(entry)})
        await self._store.put(KIND, fingerprint, text, entry.until - self._clock())


def _may_go_on(wave: _Wave, outcome: Outcome | None) -> bool:
    """Whether another mail of the wave is to ask after this."""
    if outcome is None:
        return True
    if isinstance(outcome, Scored) or wave.takeovers >= TAKEOVERS:
        return False
    return outcome.code not in _FOR_ALL


def _as_joined(outcome: Outcome) -> Outcome:
    """What came of the mail that asked, as it is told of one that waited."""
    if not isinstance(outcome, Scored):
        return outcome
    return dataclasses.replace(
        outcome,
        cache=Cache.HIT if outcome.cache is Cache.HIT else Cache.JOINED,
        seconds=0.0,
        tokens_in=0,
        tokens_out=0,
        injection=False,
    )


def _read(text: str) -> _Entry | None:
    """An entry, if it is exactly one: several daemons, and others, may write to a store."""
    try:
        stored = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    if not isinstance(stored, dict) or stored.keys() != {"version", "whole", *_FORMS, *_RANGES}:
        return None
    if stored.pop("version") != VERSION:
        return None
    is_sound = all(_is_sound(name, value) for name, value in stored.items())
    return _Entry(**stored) if is_sound else None


def _is_sound(name: str, value: Any) -> bool:
    if name == "whole":
        return isinstance(value, bool)
    if name in _RANGES:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= _RANGES[name]
    return isinstance(value, str) and bool(_FORMS[name].fullmatch(value)) and _is_text(value)


def _is_text(value: str) -> bool:
    """Whether a text is free of lone surrogates, which no header can hold."""
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
