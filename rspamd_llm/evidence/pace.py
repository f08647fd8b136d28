"""How much a source is asked, at most.

Plain state with a clock; lives in one asyncio loop.  What may not live here: the asking itself
(remembered.py), and when a source is left alone because it fails (breaker.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from rspamd_llm.domain import EvidenceError

RESERVE = 1 / 3
"""Share of a burst that links leave to senders."""


class RefusedError(EvidenceError):
    """A look-up was refused by our own rules: nobody was asked, so it says nothing of a source."""


class Pace:
    """How much a source is asked: `per_second` in the long run, `burst` in a row, and no more than
    `at_once` side by side."""

    def __init__(
        self,
        *,
        per_second: float,
        burst: int,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled = clock()
        self._places = asyncio.Semaphore(at_once)

    def take(self, first: bool) -> None:
        """Counts one look-up, `first` for a sender's own domain.

        Raises RefusedError if it comes too soon after others.  A part of the burst is the senders'
        alone: a mail brings one of these and links by the dozen.
        """
        now = self._clock()
        grown = self._tokens + (now - self._filled) * self._per_second
        self._tokens, self._filled = min(grown, self._burst), now
        if self._tokens < (1 if first else 1 + self._burst * RESERVE):
            raise RefusedError("it is asked too often")
        self._tokens -= 1

    @contextlib.asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """One of the places side by side, waited for so long.  Raises RefusedError."""
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise RefusedError("too many others ask it") from None
        try:
            yield
        finally:
            self._places.release()
