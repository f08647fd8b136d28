"""Counts and times as shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rspamd_llm.charts import KINDS, charts
from rspamd_llm.records import Bucket

NONE = Bucket(
    at=0.0, wanted=0, uncertain=0, unwanted=0, skipped=0, unscored=0, median=None, p95=None
)


def test_no_mail_at_all() -> None:
    made = charts([], since=0.0, step=10.0, number=4)
    assert (made.bars, made.counts) == ((), (2, 1, 0))
    assert [stretches for _, stretches in made.lines] == [(), ()]
    assert [(span.bucket.at, span.x, span.width) for span in made.spans] == [
        (0.0, 0.0, 25.0),
        (10.0, 25.0, 25.0),
        (20.0, 50.0, 25.0),
        (30.0, 75.0, 25.0),
    ]


def test_bars_stand_on_the_ground_and_on_each_other() -> None:
    bucket = replace(NONE, at=10.0, unwanted=10, wanted=5, skipped=5)
    made = charts([bucket], since=0.0, step=10.0, number=2)
    assert made.counts == (20, 10, 0)
    assert [(bar.kind, bar.y, bar.height) for bar in made.bars] == [
        ("unwanted", 50.0, 50.0),
        ("wanted", 25.0, 25.0),
        ("skipped", 0.0, 25.0),
    ]
    assert all(bar.x > 50 and bar.x + bar.width < 100 for bar in made.bars)


@pytest.mark.parametrize(
    ("number", "top"),
    [(1, 2), (2, 2), (3, 4), (5, 10), (11, 20), (41, 100), (1_000_000, 1_000_000)],
)
def test_counts_reach_a_round_number(number: int, top: int) -> None:
    made = charts([replace(NONE, wanted=number)], since=0.0, step=1.0, number=1)
    assert made.counts == (top, top // 2, 0)


def test_times_by_powers_of_ten() -> None:
    buckets = [
        replace(NONE, at=0.0, median=0.01, p95=0.1),
        replace(NONE, at=10.0, median=0.001, p95=10.0),
        replace(NONE, at=30.0, median=1.0, p95=1.0),
    ]
    made = charts(buckets, since=0.0, step=10.0, number=4)
    assert made.seconds == (10.0, 1.0, 0.1, 0.01)
    assert dict(made.lines) == {
        "p95": ("0.0,66.67 25.0,66.67 25.0,0.0 50.0,0.0", "75.0,33.33 100.0,33.33"),
        "median": ("0.0,100.0 25.0,100.0 25.0,100.0 50.0,100.0", "75.0,33.33 100.0,33.33"),
    }


def test_all_of_it_stays_within_the_box() -> None:
    buckets = [
        replace(NONE, at=place * 7.0, median=0.0, p95=60.0**place, **dict.fromkeys(KINDS, place))
        for place in range(5)
    ]
    made = charts([*buckets, replace(NONE, at=1e9, wanted=10**9)], since=0.0, step=7.0, number=5)
    points = [
        float(value)
        for _, stretches in made.lines
        for stretch in stretches
        for point in stretch.split()
        for value in point.split(",")
    ]
    sides = [side for bar in made.bars for side in (bar.x, bar.y, bar.x + bar.width)]
    assert all(0 <= value <= 100 for value in points + sides)
    assert {bar.kind for bar in made.bars} == set(KINDS)
