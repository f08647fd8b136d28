"""Slots for the model's calls, and who is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from rspamd_llm.admission import Admission
from rspamd_llm.domain import Deadline, Failure, ModelError

T = TypeVar("T")
LONG = 1_000.0


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def call(
    admission: Admission, clock: Clock, seconds: float, error: Exception | None = None
) -> None:
    """One call that takes so long by the clock."""
    async with admission.slot(Deadline.after(LONG)):
        clock.now += seconds
        if error:
            raise error


async def holding(admission: Admission, go: asyncio.Event, left: float = LONG) -> str:
    """A call that ends when it may; what became of it."""
    try:
        async with admission.slot(Deadline.after(left)):
            await go.wait()
            return "served"
    except ModelError as error:
        return "refused" if error.code is Failure.OVERLOADED else str(error.code)


async def settled() -> None:
    """Lets every task run as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_no_more_calls_at_once_than_slots_and_in_order() -> None:
    async def story() -> None:
        admission = Admission(2)
        peak = running = 0
        order: list[int] = []

        async def one(number: int) -> None:
            nonlocal peak, running
            async with admission.slot(Deadline.after(LONG)):
                order.append(number)
                running += 1
                peak = max(peak, running)
                await settled()
                running -= 1

        await asyncio.gather(*(one(number) for number in range(10)))
        assert (peak, order, admission.waiting) == (2, [*range(10)], 0)

    run(story())


def test_a_slot_comes_free_whatever_ends_a_call() -> None:
    async def story() -> None:
        admission, clock = Admission(1), Clock()
        for error in (None, ModelError(Failure.MODEL_UNAVAILABLE, "down"), RuntimeError("ours")):
            if error is None:
                await call(admission, clock, 0.0)
                continue
            with pytest.raises(type(error)):
                await call(admission, clock, 0.0, error)
        go = asyncio.Event()
        tasks = [asyncio.create_task(holding(admission, go)) for _ in range(4)]
        await settled()
        tasks[0].cancel()  # it runs
        tasks[2].cancel()  # it waits
        await settled()
        go.set()
        assert [await tasks[1], await tasks[3]] == ["served", "served"]

    run(story())


def test_one_that_is_cancelled_as_it_is_given_a_slot_gives_it_back() -> None:
    async def story() -> None:
        admission = Admission(1)
        first, go = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(holding(admission, first))
        await settled()
        waiting = [asyncio.create_task(holding(admission, go)) for _ in range(2)]
        await settled()
        first.set()
        await running  # its end has given waiting[0] the slot, who has not seen it yet
        waiting[0].cancel()
        go.set()
        assert await waiting[1] == "served"

    run(story())


class TestPrediction:
    def test_nothing_is_known_at_first_and_nobody_refused(self) -> None:
        assert Admission(1).expected() == 0.0
        assert not Admission(1).is_hopeless(Deadline.after(0.001))

    def test_it_learns_from_answers_and_from_waits_that_were_given_up(self) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(1, clock=clock)
            await call(admission, clock, 2.0)
            assert admission.expected() == 2.0
            await call(admission, clock, 4.0)
            assert admission.expected() == pytest.approx(2.4)
            with pytest.raises(ModelError):
                await call(admission, clock, 0.0, ModelError(Failure.MODEL_UNAVAILABLE, "503"))
            assert admission.expected() == pytest.approx(2.4)
            for seconds, mean in ((0.1, 2.4), (12.4, 4.4)):
                task = asyncio.create_task(holding(admission, asyncio.Event()))
                await settled()
                clock.now += seconds
                task.cancel()
                await settled()
                assert admission.expected() == pytest.approx(mean)

        run(story())

    def test_calls_under_way_count_while_they_take_longer(self) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(1, clock=clock)
            await call(admission, clock, 1.0)
            task = asyncio.create_task(holding(admission, asyncio.Event()))
            await settled()
            clock.now += 5.0
            assert admission.expected() == 5.0
            task.cancel()

        run(story())

    @pytest.mark.parametrize(
        ("slots", "ahead", "left", "hopeless"),
        [(1, 0, 2.5, True), (1, 0, 3.5, False), (1, 3, 9.0, True), (4, 3, 4.5, False)],
    )
    def test_the_queue_before_one_counts(
        self, slots: int, ahead: int, left: float, hopeless: bool
    ) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(slots, clock=clock)
            await call(admission, clock, 2.0)
            go = asyncio.Event()
            tasks = [asyncio.create_task(holding(admission, go)) for _ in range(slots + ahead)]
            await settled()
            assert admission.waiting == ahead
            assert admission.is_hopeless(Deadline.after(left)) is hopeless
            go.set()
            await asyncio.gather(*tasks)

        run(story())

    def test_a_free_slot_is_always_tried(self) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(1, clock=clock)
            await call(admission, clock, 500.0)
            # Nobody is under way: what the last call took may not hold any more.
            assert not admission.is_hopeless(Deadline.after(1.0))
            async with admission.slot(Deadline.after(1.0)):
                assert admission.is_hopeless(Deadline.after(1.0))

        run(story())

    def test_the_hopeless_are_refused_at_once_and_the_rest_served(self) -> None:
        async def story() -> list[str]:
            clock = Clock()
            admission = Admission(1, clock=clock)
            await call(admission, clock, 5.0)
            go = asyncio.Event()
            tasks = [asyncio.create_task(holding(admission, go, 22.0)) for _ in range(20)]
            await settled()
            refused = sum(task.done() for task in tasks)
            go.set()
            results = await asyncio.gather(*tasks)
            assert results.count("refused") == refused
            return results

        # 5 s each, 22 s left: the first runs, and three more would be done by then.
        assert run(story()) == ["served"] * 4 + ["refused"] * 16

    def test_the_queue_is_looked_at_again_while_calls_take_longer_than_thought(self) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(1, clock=clock)
            go = asyncio.Event()
            running = asyncio.create_task(holding(admission, go))
            await settled()
            waiting = [asyncio.create_task(holding(admission, go, 30.0)) for _ in range(5)]
            await settled()
            assert admission.waiting == 5  # nothing is known yet, so all may hope
            clock.now += 12.0
            async with asyncio.timeout(20):
                assert await waiting[4] == "refused"
            assert not waiting[0].done()
            go.set()
            assert await running == "served"
            assert await waiting[0] == "served"

        run(story())

    def test_new_mail_does_not_wait_behind_old_that_is_lost(self) -> None:
        async def story() -> None:
            clock = Clock()
            admission = Admission(1, clock=clock)
            first, go = asyncio.Event(), asyncio.Event()
            running = asyncio.create_task(holding(admission, first))
            await settled()
            old = asyncio.create_task(holding(admission, go, 1.5))
            new = asyncio.create_task(holding(admission, go, LONG))
            await settled()
            clock.now += 3.0
            first.set()
            await running
            await settled()
            assert await old == "refused"
            go.set()
            assert await new == "served"

        run(story())
