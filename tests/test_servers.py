"""Which model server is asked."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from rspamd_llm import servers
from rspamd_llm.domain import Deadline, Failure, ModelError
from rspamd_llm.servers import Endpoint, RefusedError, Servers

ONE, TWO, THREE = (Endpoint(f"http://{name}/v1") for name in ("one", "two", "three"))
ALL = (ONE, TWO, THREE)
LATER = Deadline.after(1_000.0)
DOWN = ModelError(Failure.MODEL_UNAVAILABLE, "down")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def fail(known: Servers, endpoint: Endpoint, error: Exception = DOWN, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(error)), known.calling(endpoint, LATER):
            raise error


def test_the_least_busy_is_best_and_the_first_where_equal() -> None:
    known = Servers(hang=servers.HANG)
    assert known.best(ALL, ()) == ONE
    with ExitStack() as calls:
        chosen = []
        for _ in range(5):
            best = known.best(ALL, ())
            assert best is not None
            chosen.append(best)
            calls.enter_context(known.calling(best, LATER))
        assert chosen == [ONE, TWO, THREE, ONE, TWO]
    assert known.best(ALL, ()) == ONE


def test_those_tried_are_left_out() -> None:
    known = Servers(hang=servers.HANG)
    assert known.best(ALL, {ONE.base_url}) == TWO
    assert known.best(ALL, {endpoint.base_url for endpoint in ALL}) is None
    assert known.best((), ()) is None


def test_one_that_fails_in_a_row_is_left_out_and_probed_by_one_call_later() -> None:
    known = Servers(hang=servers.HANG, clock=(clock := Clock()))
    fail(known, ONE, times=servers.FAILURES - 1)
    assert known.best(ALL, ()) == ONE
    fail(known, ONE)
    assert known.best(ALL, ()) == TWO
    assert known.best((ONE,), ()) is None
    clock.now += servers.PAUSE
    assert known.best(ALL, ()) == ONE
    with known.calling(ONE, LATER):
        assert known.best((ONE,), ()) is None  # one probe at a time
    assert known.best((ONE,), ()) == ONE


def test_the_pause_grows_to_its_bound() -> None:
    known = Servers(hang=servers.HANG, clock=(clock := Clock()))
    fail(known, ONE, times=servers.FAILURES)
    pause = servers.PAUSE
    for _ in range(8):
        clock.now += pause
        assert known.best((ONE,), ()) == ONE
        fail(known, ONE)
        pause = min(2 * pause, servers.LONGEST_PAUSE)
        clock.now += pause - 1
        assert known.best((ONE,), ()) is None
        clock.now += 1 - pause
    assert pause == servers.LONGEST_PAUSE


def test_requests_that_are_refused_open_nothing() -> None:
    # Three mails that make a server answer 400 or 500 must not keep it from all others.
    known = Servers(hang=servers.HANG)
    fail(known, ONE, RefusedError("400"), times=3 * servers.FAILURES)
    assert known.best((ONE,), ()) == ONE


@pytest.mark.parametrize("code", [Failure.MODEL_INVALID, Failure.CONTEXT_OVERFLOW])
def test_a_server_that_answers_is_well_whatever_it_says(code: Failure) -> None:
    known = Servers(hang=servers.HANG)
    fail(known, ONE, ModelError(code, "nonsense"), times=3 * servers.FAILURES)
    assert known.best((ONE,), ()) == ONE


@pytest.mark.parametrize(("seconds", "is_well"), [(servers.HANG - 1, True), (servers.HANG, False)])
def test_a_deadline_counts_if_there_was_time(seconds: float, is_well: bool) -> None:
    known = Servers(hang=servers.HANG, clock=(clock := Clock()))
    for _ in range(servers.FAILURES):
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(ModelError))
            stack.enter_context(known.calling(ONE, LATER))
            clock.now += seconds
            raise ModelError(Failure.TIMEOUT, "late")
    assert (known.best((ONE,), ()) == ONE) is is_well


@pytest.mark.parametrize(("left", "is_well"), [(1_000.0, True), (0.0, False)])
def test_a_call_that_is_cancelled_counts_if_its_deadline_has_passed(
    left: float, is_well: bool
) -> None:
    known = Servers(hang=servers.HANG, clock=(clock := Clock()))
    for _ in range(servers.FAILURES):
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(asyncio.CancelledError))
            stack.enter_context(known.calling(ONE, Deadline.after(left)))
            clock.now += servers.HANG
            raise asyncio.CancelledError
    assert (known.best((ONE,), ()) == ONE) is is_well


def test_an_answer_of_any_kind_to_a_probe_closes_it() -> None:
    known = Servers(hang=servers.HANG, clock=(clock := Clock()))
    fail(known, ONE, times=servers.FAILURES)
    clock.now += servers.PAUSE
    fail(known, ONE, RefusedError("400"))
    assert known.best((ONE,), ()) == ONE
    assert known.best((ONE,), ()) == ONE


def test_an_engine_that_moved_begins_anew() -> None:
    known = Servers(hang=servers.HANG)
    fail(known, ONE, times=servers.FAILURES)
    assert known.best((TWO,), ()) == TWO
    assert known.best((ONE,), ()) == ONE  # forgotten with the list that no longer named it
