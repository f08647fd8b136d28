"""Who waits for the model: slots for its calls, and a word at once to those who would wait in vain.

Plain state in one asyncio loop.  What may not live here: the call itself (llm.py).

Slots are given in order of arrival.  By what calls took of late, a mail that could not be answered
before its deadline is refused when it arrives, or as soon as that shows; so the queue is never
longer than what can be worked off, and no new mail waits behind old ones that are lost anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from rspamd_llm.domain import Deadline, Failure, ModelError

WEIGHT = 0.2
"""What the newest call counts for in the mean: the last ten make nine tenths of it."""

PATIENCE = 0.7
"""Share of the expected time that one who waits already must have left: calls differ, and a guess
shall not throw away a wait."""

SWEEP = 0.5
"""Seconds between looks at the queue while calls run for longer than expected."""

Clock = Callable[[], float]


@dataclass(slots=True, eq=False)
class _Waiter:
    deadline: Deadline
    slot: asyncio.Future[None]


class Admission:
    """Slots for `slots` calls at a time."""

    def __init__(self, slots: int, *, clock: Clock = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._mean = 0.0
        """Seconds that a call takes; 0 while unknown."""
        self._busy = 0
        self._running: dict[object, float] = {}
        """When each call began."""
        self._waiting: deque[_Waiter] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def expected(self) -> float:
        """Seconds that a call takes: the mean of late, or more where those under way take more."""
        if not self._running:
            return self._mean
        now = self._clock()
        return max(self._mean, statistics.median(now - began for began in self._running.values()))

    def is_hopeless(self, deadline: Deadline) -> bool:
        """Whether one who came now could not be answered in time, as far as one can tell.

        Never where a slot is free: what is known may be of the past, and only a call tells.
        """
        is_free = self._busy < self._slots and not self._waiting
        return not is_free and self._finish(len(self._waiting)) > deadline.left()

    @contextlib.asynccontextmanager
    async def slot(self, deadline: Deadline) -> AsyncIterator[None]:
        """A slot for one call.  Raises ModelError (overloaded) where it would come too late."""
        await self._admitted(deadline)
        call = object()
        self._running[call] = began = self._clock()
        try:
            yield
        except (asyncio.CancelledError, ModelError) as error:
            # One that was not awaited to its end only teaches that calls may take longer; one that
            # failed teaches nothing.
            if not isinstance(error, ModelError) or error.code is Failure.TIMEOUT:
                self._learn(max(self._mean, self._clock() - began))
            raise
        else:
            self._learn(self._clock() - began)
        finally:
            del self._running[call]
            self._busy -= 1
            self._hand_on()

    def _learn(self, seconds: float) -> None:
        self._mean += (seconds - self._mean) * (WEIGHT if self._mean else 1.0)

    async def _admitted(self, deadline: Deadline) -> None:
        """Returns with a slot taken."""
        if self.is_hopeless(deadline):
            raise overloaded()
        if self._busy < self._slots and not self._waiting:
            self._busy += 1
            return
        waiter = _Waiter(deadline, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._sweep_later()
        try:
            await waiter.slot
        except asyncio.CancelledError:
            slot = waiter.slot
            if slot.done() and not slot.cancelled() and not slot.exception():
                self._busy -= 1  # it was given one in the same moment
                self._hand_on()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _finish(self, ahead: int) -> float:
        """Seconds until one would be answered who has so many ahead of him, with no slot free."""
        expected = self.expected()
        # Of the calls under way half is over, on the average.
        return expected * ((ahead + 0.5) / self._slots + 1)

    def _hand_on(self) -> None:
        """Gives free slots to those who wait, and refuses those for whom it is too late."""
        while self._waiting and self._busy < self._slots:
            waiter = self._waiting.popleft()
            if waiter.slot.done():
                continue
            if waiter.deadline.left() < PATIENCE * self.expected():
                waiter.slot.set_exception(overloaded())
            else:
                waiter.slot.set_result(None)
                self._busy += 1

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        """Refuses those who cannot be answered any more, as calls take longer than was expected."""
        self._sweeping = None
        ahead = 0
        for waiter in [*self._waiting]:
            if waiter.slot.done():
                continue
            if PATIENCE * self._finish(ahead) > waiter.deadline.left():
                waiter.slot.set_exception(overloaded())
            else:
                ahead += 1
        if self._waiting:
            self._sweep_later()


def overloaded() -> ModelError:
    """What those are told who would wait in vain."""
    return ModelError(Failure.OVERLOADED, "more mail than the model can answer in time")
