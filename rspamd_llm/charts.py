"""Counts and times -> the shapes of two charts: bars of counts, lines of seconds.

Plain functions.  Shapes are in a box of 100 by 100 that a page stretches to its width, so text
stands outside of it.  What may not live here: markup (page.py and its templates).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rspamd_llm.records import Bucket

KINDS = ("unwanted", "uncertain", "wanted", "unscored", "skipped")
"""What a bar counts, from its foot up: what matters most stands on the ground line."""

GAP = 0.15
"""Share of a span that is left free between two bars."""

SHORTEST = 0.01
"""Seconds at the foot of the times' box, which grows by powers of ten: reading a mail takes some
milliseconds, a model seconds, and a timeout a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle; y grows downwards."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span of time with its column of the chart, and what it holds."""

    bucket: Bucket
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Both charts, over the same spans."""

    spans: tuple[Span, ...]
    bars: tuple[Bar, ...]
    counts: tuple[int, ...]
    """Mails at lines of equal distance, from the top of the box down to 0."""
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    """`p95` and `median`: each stretch of spans with mail as the points of an SVG polyline."""
    seconds: tuple[float, ...]
    """Seconds at lines of equal distance, from the top of the box down to SHORTEST."""


def charts(buckets: Iterable[Bucket], *, since: float, step: float, number: int) -> Charts:
    """The charts of `number` spans of `step` seconds from `since` on; later buckets are left
    out."""
    by_place = {round((bucket.at - since) / step): bucket for bucket in buckets}
    column = 100 / number
    spans = tuple(
        Span(
            bucket=by_place.get(place) or _empty(since + place * step),
            x=_short(place * column),
            width=_short(column),
        )
        for place in range(number)
    )
    most = _round(max(_total(span.bucket) for span in spans))
    slowest = max(span.bucket.p95 or 0.0 for span in spans)
    decades = max(2, math.ceil(math.log10(max(slowest, SHORTEST) / SHORTEST)))
    return Charts(
        spans=spans,
        bars=tuple(bar for span in spans for bar in _column(span, most)),
        counts=(most, most // 2, 0),
        lines=(
            ("p95", _stretches([(span, span.bucket.p95) for span in spans], decades)),
            ("median", _stretches([(span, span.bucket.median) for span in spans], decades)),
        ),
        seconds=tuple(_short(SHORTEST * 10**power) for power in range(decades, -1, -1)),
    )


def _empty(at: float) -> Bucket:
    return Bucket(
        at=at, wanted=0, uncertain=0, unwanted=0, skipped=0, unscored=0, median=None, p95=None
    )


def _total(bucket: Bucket) -> int:
    return sum(getattr(bucket, kind) for kind in KINDS)


def _column(span: Span, most: int) -> Iterable[Bar]:
    foot = 100.0
    for kind in KINDS:
        height = 100 * getattr(span.bucket, kind) / most
        if height:
            foot -= height
            yield Bar(
                kind=kind,
                x=_short(span.x + span.width * GAP / 2),
                y=_short(foot),
                width=_short(span.width * (1 - GAP)),
                height=_short(height),
            )


def _stretches(values: Sequence[tuple[Span, float | None]], decades: int) -> tuple[str, ...]:
    """The points of each stretch without a hole, level within a span."""
    stretches: list[list[str]] = [[]]
    for span, value in values:
        if value is None:
            stretches.append([])
            continue
        y = _short(100 - 100 * math.log10(max(value, SHORTEST) / SHORTEST) / decades)
        stretches[-1] += [f"{span.x},{y}", f"{_short(span.x + span.width)},{y}"]
    return tuple(" ".join(stretch) for stretch in stretches if stretch)


def _round(number: int) -> int:
    """The next even round number: 2, 4 or 10 times a power of ten."""
    power = 1
    while number > 10 * power:
        power *= 10
    return next(factor * power for factor in (2, 4, 10) if factor * power >= number)


def _short(value: float) -> float:
    return round(value, 2)
