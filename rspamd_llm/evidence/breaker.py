"""When a source is not asked: it failed too often, or was asked too much.

Plain state with a clock; lives in one asyncio loop.  What may not live here: the asking itself
(remembered.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator

from rspamd_llm.domain import EvidenceError, Source

FAILURES = 5
"""Failures in a row that open a breaker: fewer happen to a sound source with a lossy network."""

PAUSE = 30.0
"""Seconds that an open breaker refuses for, before the first probe."""

LONGEST_PAUSE = 600.0
"""Seconds that the pause grows to: search engines lift most bans within ten minutes."""

_log = logging.getLogger(__name__)


class RefusedError(EvidenceError):
    """A look-up was refused by our own rules: nobody was asked, so it says nothing of a source."""


class Breaker:
    """Refuses look-ups of a source that fails: for a while, then for all but one probe at a time.

    `failures` in a row open it.  A source that fails for some domains only, which the sender of a
    mail can bring about, needs a high number: five links must not switch the source off.
    """

    def __init__(
        self,
        source: Source,
        *,
        failures: int = FAILURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._allowed = failures
        self._clock = clock
        self._failed = 0
        self._pause = 0.0
        """0 while closed."""
        self._until = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether look-ups are refused, but for probes."""
        return self._pause > 0

    def check(self) -> None:
        """Raises RefusedError if a look-up would be refused now."""
        if self.is_open and (self._is_probing or self._clock() < self._until):
            raise RefusedError("it failed too often; it is asked again later")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around one look-up, whose end it learns from.  Raises RefusedError.

        A look-up that was refused or cancelled teaches nothing.
        """
        self.check()
        is_probe = self._is_probing = self.is_open
        try:
            yield
        except RefusedError:
            raise
        except Exception:
            self._failure(is_probe)
            raise
        else:
            self._success()
        finally:
            if is_probe:
                self._is_probing = False

    def _success(self) -> None:
        if self.is_open:
            _log.info("%s answers again", self._source.value)
        self._failed = 0
        self._pause = 0.0

    def _failure(self, is_probe: bool) -> None:
        self._failed += 1
        if is_probe and self.is_open:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif not self.is_open and self._failed >= self._allowed:
            self._pause = PAUSE
            _log.warning(
                "%s failed %d times in a row; it is asked again in %g s",
                self._source.value,
                self._failed,
                self._pause,
            )
        else:
            return  # one that began before the breaker opened
        self._until = self._clock() + self._pause


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

    def take(self) -> None:
        """Counts one look-up.  Raises RefusedError if it comes too soon after others."""
        now = self._clock()
        grown = self._tokens + (now - self._filled) * self._per_second
        self._tokens, self._filled = min(grown, self._burst), now
        if self._tokens < 1:
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
