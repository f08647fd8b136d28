"""A line on a pair of axes, as an SVG of a few kB that reads well on light pages and on dark ones.

    svgplot.line(points, title="...", note="...", across="messages", up="MB")

Plain functions, nothing but the standard library; the same points give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

MOST_POINTS = 300
"""Of those drawn: more than every second pixel across shows nothing more."""

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 52
"""Pixels around the axes: for the numbers, the labels and the title."""

TICKS = 6
"""At most, on an axis: so many numbers stand side by side without touching."""

INK, FAINT, LINE = "#767676", "#9a9a9a", "#2f81f7"
"""Of text, of the grid and of the line; text has a contrast of 4 and more to white and to black."""


def line(points: Sequence[Point], *, title: str, note: str, across: str, up: str) -> str:
    """The SVG of the points, which lie in the order of their first number.

    Both axes begin at 0, so that what is flat looks flat and what grows looks as steep as it is.
    `note` is a second, smaller line of title, `across` and `up` are the axes' labels.  Raises
    ValueError where there is nothing to draw.
    """
    if not points:
        raise ValueError("there are no points to draw")
    drawn = thinned(points)
    widest, highest = max(x for x, _ in drawn), max(y for _, y in drawn)
    columns, rows = ticks(widest), ticks(highest)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    # Memory needs room above it; what is counted ends where the counting did.
    far, top = max(widest, 1e-9), rows[-1]
    if top < highest:
        top += rows[1]
        rows.append(top)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + wide * x / far, HEIGHT - BOTTOM - high * y / top

    body = [_text(LEFT, 22, title, size=16), _text(LEFT, 40, note, size=11)]
    for row in rows:
        x, y = at(0, row)
        body.append(_rule(x, y, WIDTH - RIGHT, y))
        body.append(_text(x - 8, y + 4, _number(row), anchor="end"))
    for column in columns:
        x, y = at(column, 0)
        body.append(_rule(x, y, x, y + 5))
        body.append(_text(x, y + 18, _number(column), anchor="middle"))
    body.append(_text(LEFT + wide / 2, HEIGHT - 12, across, anchor="middle"))
    middle = TOP + high / 2
    turned = f' transform="rotate(-90 16 {middle:g})"'
    body.append(_text(16, middle, up, anchor="middle", more=turned))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in drawn))
    body.append(f'<polyline fill="none" stroke="{LINE}" stroke-width="2" points="{path}"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" role="img">'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", *body, "</svg>\n"])


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many of the points: of each stretch the highest, so that no peak is lost."""
    if len(points) <= most:
        return [*points]
    edges = [len(points) * at // most for at in range(most + 1)]
    stretches = (points[edges[at] : edges[at + 1]] for at in range(most))
    return [max(stretch, key=lambda point: point[1]) for stretch in stretches]


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 up to the highest, at most TICKS of them above 0."""
    if highest <= 0:
        return [0.0, 1.0]
    least = highest / TICKS
    unit = 10.0 ** math.floor(math.log10(least))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= least * (1 - 1e-9))
    return [step * count for count in range(math.floor(highest / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:g}"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{FAINT}" stroke-opacity="0.4"/>'
    )


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{INK}"'
        f' text-anchor="{anchor}"{more}>{escape(text)}</text>'
    )
