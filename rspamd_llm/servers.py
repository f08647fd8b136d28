"""Which model server is asked: the least busy of those that are well.

Plain state in one asyncio loop.  What may not live here: the asking (llm.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rspamd_llm.breaker import Breaker
from rspamd_llm.domain import Deadline, Failure, ModelError
from rspamd_llm.health import ServerHealth

FAILURES = 3
"""Failures in a row after which a server is left out: with less, one lost connection would do."""

PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds for which it is, at first and at most: one that was restarted is missed for a minute."""

HANG = 5.0
"""Seconds that a call must have had before its end by the deadline counts against the server, where
a message has twice as long at all: one that began with less left says nothing of it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the OpenAI API: its base URL, which ends in /v1, and its key."""

    base_url: str
    api_key: str = field(default="", repr=False)


class RefusedError(ModelError):
    """A server is well and refused this one request, which its mail may have brought about."""

    def __init__(self, cause: str) -> None:
        super().__init__(Failure.MODEL_UNAVAILABLE, cause)


@dataclass(slots=True)
class _Server:
    breaker: Breaker
    calls: int = 0


class Servers:
    """What is known of each server; `hang` is how long a call must have had to have hung."""

    def __init__(self, *, hang: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang = hang
        self._clock = clock
        self._known: dict[str, _Server] = {}

    def best(self, endpoints: Sequence[Endpoint], tried: Collection[str]) -> Endpoint | None:
        """The least busy server that is well, of those not tried; in their order where equal."""
        for url in self._known.keys() - {endpoint.base_url for endpoint in endpoints}:
            del self._known[url]  # an embedded engine that moved
        fit = [
            endpoint
            for endpoint in endpoints
            if endpoint.base_url not in tried and not self._of(endpoint).breaker.refuses
        ]
        return min(fit, key=lambda endpoint: self._of(endpoint).calls, default=None)

    def health(self, endpoints: Sequence[Endpoint]) -> tuple[ServerHealth, ...]:
        """How each server is."""
        return tuple(
            ServerHealth(
                url=endpoint.base_url,
                is_well=not server.breaker.is_open,
                retry_in=round(server.breaker.retry_in, 1),
                calls=server.calls,
            )
            for endpoint in endpoints
            for server in [self._of(endpoint)]
        )

    @contextlib.contextmanager
    def calling(self, endpoint: Endpoint, deadline: Deadline) -> Iterator[None]:
        """Around one call of a server that `best` named, whose end tells whether it is well.

        One that the deadline ended, by an exception or by being cancelled, has hung.
        """
        server = self._of(endpoint)
        began = self._clock()

        def judge(error: BaseException) -> bool | None:
            late = isinstance(error, asyncio.CancelledError) and deadline.left() <= 0
            if late or (isinstance(error, ModelError) and error.code is Failure.TIMEOUT):
                return True if self._clock() - began >= self._hang else None
            if not isinstance(error, ModelError):
                return None
            return error.code is Failure.MODEL_UNAVAILABLE and not isinstance(error, RefusedError)

        server.calls += 1
        try:
            with server.breaker.watching(judge):
                yield
        finally:
            server.calls -= 1

    def _of(self, endpoint: Endpoint) -> _Server:
        url = endpoint.base_url
        if url not in self._known:
            self._known[url] = _Server(
                Breaker(
                    f"the model server {url}",
                    failures=FAILURES,
                    pause=PAUSE,
                    longest_pause=LONGEST_PAUSE,
                    clock=self._clock,
                )
            )
        return self._known[url]
