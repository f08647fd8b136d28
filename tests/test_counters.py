"""Counters: by name and labels, from any thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from rspamd_llm.counters import Counters


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_what_was_never_counted_is_0() -> None:
    counters = Counters()
    counters.add("evidence", source="dns")
    assert counters.value("evidence") == 0
    assert counters.value("evidence", source="web") == 0
    assert counters.value("other", source="dns") == 0


def test_each_set_of_labels_counts_for_itself_in_whatever_order() -> None:
    counters = Counters()
    counters.add("evidence", source="dns", outcome="hit")
    counters.add("evidence", 4, outcome="hit", source="dns")
    counters.add("evidence", source="dns", outcome="failed")
    assert counters.value("evidence", outcome="hit", source="dns") == 5
    assert counters.value("evidence", source="dns", outcome="failed") == 1


def test_a_snapshot_is_of_its_moment() -> None:
    counters = Counters()
    counters.add("scans")
    counters.add("evidence", source="dns", outcome="hit")
    taken = counters.snapshot()
    counters.add("scans")
    assert taken == {
        ("scans", ()): 1,
        ("evidence", (("outcome", "hit"), ("source", "dns"))): 1,
    }


@pytest.mark.usefixtures("hasty_threads")
def test_no_count_of_several_threads_is_lost() -> None:
    counters = Counters()

    def work() -> None:
        for _ in range(5_000):
            counters.add("scans", outcome="scored")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.value("scans", outcome="scored") == 40_000
