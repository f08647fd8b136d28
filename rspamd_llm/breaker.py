"""When somebody is left alone because he fails: a circuit breaker.

Plain state with a clock; lives in one asyncio loop.  What may not live here: the asking itself.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

FAILURES = 5
"""Failures in a row that open a breaker: fewer happen to a sound source with a lossy network."""

PAUSE = 30.0
"""Seconds that an open breaker refuses for, before the first probe."""

LONGEST_PAUSE = 600.0
"""Seconds that the pause grows to: search engines lift most bans within ten minutes."""

_log = logging.getLogger(__name__)


class Breaker:
    """Refuses calls of one who fails: for a while, then all but one probe at a time.

    `failures` in a row open it.  One that fails for some questions only, which the sender of a mail
    can bring about, needs a high number: five links must not switch a source off.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = FAILURES,
        pause: float = PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._allowed = failures
        self._first_pause = pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._failed = 0
        self._pause = 0.0
        """0 while closed."""
        self._until = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for probes."""
        return self._pause > 0

    def alive(self) -> None:
        """A sign of life from elsewhere: failures before it are not in a row."""
        self._failed = 0

    @property
    def refuses(self) -> bool:
        """Whether a call would be refused now."""
        return self.is_open and (self._is_probing or self._clock() < self._until)

    @property
    def retry_in(self) -> float:
        """Seconds until one is let through to try; 0 where it is closed, or one is trying."""
        return max(0.0, self._until - self._clock()) if self.is_open else 0.0

    @contextlib.contextmanager
    def watching(self, judge: Callable[[BaseException], bool | None]) -> Iterator[None]:
        """Around one call that is not refused, whose end it learns from.

        `judge` says of an exception whether it is a failure, a sign of life all the same (False),
        or tells nothing (None), as a cancelled call does.
        """
        is_probe = self._is_probing = self.is_open
        try:
            yield
        except BaseException as error:
            is_failure = judge(error)
            if is_failure:
                self._failure(is_probe)
            elif is_failure is False:
                self._success()
            raise
        else:
            self._success()
        finally:
            if is_probe:
                self._is_probing = False

    def _success(self) -> None:
        if self.is_open:
            _log.info("%s answers again", self._name)
        self._failed = 0
        self._pause = 0.0

    def _failure(self, is_probe: bool) -> None:
        self._failed += 1
        if is_probe and self.is_open:
            self._pause = min(2 * self._pause, self._longest_pause)
        elif not self.is_open and self._failed >= self._allowed:
            self._pause = self._first_pause
            _log.warning(
                "%s failed %d times in a row; it is asked again in %g s",
                self._name,
                self._failed,
                self._pause,
            )
        else:
            return  # one that began before the breaker opened
        self._until = self._clock() + self._pause
