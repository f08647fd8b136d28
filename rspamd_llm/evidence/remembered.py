"""One source's answers by registered domain: remembered, asked for once, refused when it is unwell.

What may not live here: how a source is asked, and when it is not (breaker.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rspamd_llm.breaker import Breaker
from rspamd_llm.counters import Counters
from rspamd_llm.domain import EvidenceError, Source
from rspamd_llm.evidence.pace import Pace, RefusedError
from rspamd_llm.store import Store

VERSION = 1
"""Of what is stored; answers of other versions are looked up anew."""

T = TypeVar("T")

# What decoding a text of any content may raise: a store's file is not ours alone.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    """A look-up under way, and how many wait for it."""

    task: asyncio.Task[T] | None = None
    waiters: int = 0
    first: bool = False
    """Whether one of them asks for its mail's sender."""
    is_hit: bool = False


class Remembered(Generic[T]):
    """A source behind a store.  Lives in one asyncio loop.

    `look_up` asks for a domain and raises EvidenceError; it gets `seconds`, is cancelled at their
    end, and waits for its turn as long at most.  Answers are kept for `ttl` seconds, for
    `ttl_nothing` where `is_nothing`, errors are not.  `encode` makes what JSON can hold, `decode`
    reads it back and raises ValueError for anything else.  `admit` is asked before each look-up,
    whether for a sender's own domain, and raises EvidenceError when a quota is used up.

    Counts `evidence` by source and outcome: hit, found, nothing, failed, refused; and joined for
    who waited for another's look-up.
    """

    def __init__(
        self,
        *,
        source: Source,
        look_up: Callable[[str], Awaitable[T]],
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        is_nothing: Callable[[T], bool],
        store: Store,
        counters: Counters,
        seconds: float,
        ttl: float,
        ttl_nothing: float,
        breaker: Breaker,
        pace: Pace,
        admit: Callable[[bool], Awaitable[None]] | None = None,
    ) -> None:
        self.source = source
        self._kind = source.name.lower()
        self._look_up = look_up
        self._encode = encode
        self._decode = decode
        self._is_nothing = is_nothing
        self._store = store
        self._counters = counters
        self._seconds = seconds
        self._ttl = ttl
        self._ttl_nothing = ttl_nothing
        self._breaker = breaker
        self._pace = pace
        self._admit = admit
        self._flights: dict[str, _Flight[T]] = {}

    @property
    def state(self) -> str:
        """`ok`, or `open` while the source fails and is not asked."""
        return "open" if self._breaker.is_open else "ok"

    async def get(self, domain: str, *, first: bool = True) -> T:
        """The answer for a domain; `first` for the sender's own.  Raises EvidenceError.

        A look-up ends when all who wait for it were cancelled.
        """
        flight = self._flights.get(domain)
        is_joined = flight is not None
        if flight is None:
            # The store is read within the flight: nobody can miss both the one and the other.
            flight = self._flights[domain] = _Flight()
            flight.task = asyncio.create_task(self._fly(domain, flight))
            flight.task.add_done_callback(lambda task: self._landed(domain, flight, task))
        flight.waiters += 1
        flight.first |= first
        assert flight.task is not None  # noqa: S101  as it is made with its task
        try:
            # Not awaited by itself, as a cancelled waiter would cancel it for all.
            await asyncio.wait([flight.task])
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(domain, flight)
                flight.task.cancel()
        if is_joined:
            self._count("hit" if flight.is_hit else "joined")
        return flight.task.result()

    def _landed(self, domain: str, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        self._forget(domain, flight)
        if not task.cancelled():
            task.exception()  # looked at, for asyncio complains of those that nobody waits for

    def _forget(self, domain: str, flight: _Flight[T]) -> None:
        if self._flights.get(domain) is flight:
            del self._flights[domain]

    async def _fly(self, domain: str, flight: _Flight[T]) -> T:
        known = await self._store.get(self._kind, domain)
        if known is not None:
            try:
                answer = self._decoded(known)
            except _UNREADABLE:
                pass
            else:
                flight.is_hit = True
                self._breaker.alive()
                self._count("hit")
                return answer
        try:
            answer = await self._asked(domain, flight)
        except RefusedError:
            self._count("refused")
            raise
        except Exception:
            self._count("failed")
            raise
        is_nothing = self._is_nothing(answer)
        self._count("nothing" if is_nothing else "found")
        text = json.dumps({"version": VERSION, "answer": self._encode(answer)})
        await self._store.put(
            self._kind, domain, text, self._ttl_nothing if is_nothing else self._ttl
        )
        return answer

    async def _asked(self, domain: str, flight: _Flight[T]) -> T:
        self._refuse_if_open()
        self._pace.take(flight.first)
        async with self._pace.place(self._seconds):
            self._refuse_if_open()  # it may have opened while this one waited for its place
            with self._breaker.watching(_judge):
                await self._admitted(flight)
                # What is left after a wait for the place would be too short to blame the source.
                try:
                    async with asyncio.timeout(self._seconds):
                        return await self._look_up(domain)
                except TimeoutError:
                    raise EvidenceError(f"no answer within {self._seconds:g} s") from None

    def _refuse_if_open(self) -> None:
        if self._breaker.refuses:
            raise RefusedError("it failed too often; it is asked again later")

    async def _admitted(self, flight: _Flight[T]) -> None:
        if self._admit is None:
            return
        try:
            await self._admit(flight.first)
        except EvidenceError as error:
            raise RefusedError(str(error)) from error

    def _decoded(self, text: str) -> T:
        stored = json.loads(text)
        if stored["version"] != VERSION:
            raise ValueError("another version")
        return self._decode(stored["answer"])

    def _count(self, outcome: str) -> None:
        self._counters.add("evidence", source=self.source.value, outcome=outcome)


def _judge(error: BaseException) -> bool | None:
    """Whether a look-up's end is a failure of its source, for the breaker."""
    tells = isinstance(error, Exception) and not isinstance(error, RefusedError)
    return True if tells else None
