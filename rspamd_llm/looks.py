"""How an element looks to its reader, and in which way its text is hidden.

Takes an element's style and the look of what it stands in.  What may not live here: CSS's own form
(styles.py), HTML's tree (visible.py), judgement.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from rspamd_llm.domain import Hiding
from rspamd_llm.styles import Colour, Style, colour, pixels

_NEAR = 20
"""Levels of 255 by which the nearest colours that can be read differ: greys closer than that have a
contrast below 1.2, where WCAG asks for 4.5."""

_FAINT = 0.05  # opacity at which black on white is within _NEAR of white
_SMALL = 1.0  # pixels
_HUGE = 10_000.0  # pixels, so that sizes that multiply each other stay numbers
_FAR = -500.0  # pixels; as far as honest layouts never move a text, and tricks always do
_FAR_MARGIN = -900.0  # a box of 1,800 pixels is centred by such a margin

_WHITE: Colour = (255.0, 255.0, 255.0, 1.0)
_BLACK: Colour = (0.0, 0.0, 0.0, 1.0)
_LINK: Colour = (0.0, 0.0, 238.0, 1.0)
# Backgrounds that browsers give (WHATWG HTML 15).
_OWN_BACKGROUND: Mapping[str, Colour] = {
    "button": (239.0, 239.0, 239.0, 1.0),
    "mark": (255.0, 255.0, 0.0, 1.0),
}
_NOTHING_LEFT = re.compile(
    r"rect\(\s*([01](?:px)?)(?:[\s,]+[01](?:px)?){3}\s*\)|inset\(\s*(?:[5-9]\d|100)%|circle\(\s*0"
)
_MOVED_AWAY = re.compile(r"scale(?:[xy]|3d)?\(\s*0(?:\.0\d*)?[,)\s]|translate[xy]?\([^)]*-\d{4,}px")
_FONT_SIZES = {"xx-small": 9, "x-small": 10, "small": 13, "medium": 16, "large": 18, "initial": 16}
_FONT_SIZES |= {"x-large": 24, "xx-large": 32, "xxx-large": 48}
_ALWAYS_VISIBLE = frozenset(("visible", "initial"))


class Look(NamedTuple):
    """What an element hands down to what stands in it."""

    hiding: Hiding | None = None
    """How its text is hidden; None where it is seen."""
    shut: bool = False
    """Hidden so that nothing in it can be seen."""
    invisible: bool = False
    opacity: float = 1.0
    size: float = 16.0
    colour: Colour = _BLACK
    link_colour: Colour = _LINK
    background: Colour | None = _WHITE
    """None where it is an image."""
    reversed: bool = False
    """The writing direction is overridden from right to left."""


PLAIN = Look()


def look(above: Look, tag: str, attributes: Mapping[str, str | None], style: Style) -> Look:
    """The look of an element in another."""
    if above.shut:
        return above
    # Mails repeat their few styles by the hundred: each is worked out once.
    own = tuple(
        (name, "#" if name == "href" and value else value)  # that it is a link, not where to
        for name, value in attributes.items()
        if name not in _NO_LOOKS
    )
    values = tuple((name, value) for name, (_, value) in style.items())
    if sum(len(value or "") for _, value in own + values) > REMEMBERED:
        return _look.__wrapped__(above, tag, own, values)
    return _look(above, tag, own, values)


_NO_LOOKS = frozenset(("src", "alt", "title", "id", "class", "style", "name", "target"))

REMEMBERED = 500
"""Characters of a style that is remembered, so that a thousand of them stay small."""


@functools.lru_cache(maxsize=1_024)
def _look(
    above: Look,
    tag: str,
    own: tuple[tuple[str, str | None], ...],
    styled: tuple[tuple[str, str], ...],
) -> Look:
    attributes, values = dict(own), dict(styled)
    size = _size(above, tag, attributes, values)
    shut = _shut(above, attributes, values, size)
    if shut is not None:
        return above._replace(hiding=shut, shut=True)
    visibility = values.get("visibility", "")
    invisible = above.invisible
    if visibility in ("hidden", "collapse"):
        invisible = True
    elif visibility in _ALWAYS_VISIBLE:
        invisible = False
    background = _background(above, tag, attributes, values)
    link = above.link_colour
    if tag == "body":
        link = colour((attributes.get("link") or "").strip().lower()) or link
    result = Look(
        invisible=invisible,
        opacity=above.opacity * _opacity(values.get("opacity", "")),
        size=size,
        colour=_colour(above, tag, attributes, values),
        link_colour=link,
        background=background,
        reversed=above.reversed or _is_reversed(tag, attributes, values),
    )
    hiding = _hiding(result)
    return result._replace(hiding=hiding) if hiding else result


def fills(above: Look, result: Look) -> bool:
    """Whether an element paints a background of its own."""
    return result.background != above.background and result.background is not None


def _is_reversed(tag: str, attributes: Mapping[str, str | None], values: Mapping[str, str]) -> bool:
    overrides = tag == "bdo" or "override" in values.get("unicode-bidi", "")
    return overrides and (values.get("direction") or attributes.get("dir") or "").lower() == "rtl"


def _hiding(result: Look) -> Hiding | None:
    if result.invisible:
        return Hiding.VISIBILITY
    if result.size <= _SMALL:
        return Hiding.SIZE
    *shown, alpha = result.colour
    if alpha <= _FAINT:
        return Hiding.COLOUR
    if result.background is not None:
        pairs = zip(shown, result.background[:3], strict=True)
        if max(abs(one - other) for one, other in pairs) * alpha <= _NEAR:
            return Hiding.COLOUR
    return None


def _shut(
    above: Look, attributes: Mapping[str, str | None], values: Mapping[str, str], size: float
) -> Hiding | None:
    """The way in which an element and all in it are kept from the reader."""
    display = values.get("display", "")
    if display == "none":
        return Hiding.DISPLAY
    if "hidden" in attributes and not display:
        return Hiding.ATTRIBUTE
    if above.opacity * _opacity(values.get("opacity", "")) < _FAINT:
        return Hiding.OPACITY
    if values and (_is_away(values, size) or _is_shrunk(values, size)):
        return Hiding.OFF_SCREEN
    return None


def _is_away(values: Mapping[str, str], size: float) -> bool:
    def below(name: str, limit: float) -> bool:
        value = values.get(name)
        length = pixels(value, size, 600) if value else None
        return length is not None and length <= limit

    if values.get("position", "static") != "static" and any(
        below(name, _FAR) for name in ("left", "top", "right", "bottom")
    ):
        return True
    return (
        below("text-indent", _FAR)
        or below("margin-left", _FAR_MARGIN)
        or below("margin-top", _FAR_MARGIN)
        or bool(_NOTHING_LEFT.search(values.get("clip", "") + " " + values.get("clip-path", "")))
        or bool(_MOVED_AWAY.search(values.get("transform", "")))
    )


def _is_shrunk(values: Mapping[str, str], size: float) -> bool:
    if values.get("overflow", "").partition(" ")[0] not in ("hidden", "clip"):
        return False
    for name in ("height", "max-height", "width", "max-width"):
        length = pixels(values.get(name, ""), size, 600)
        if length is not None and length <= _SMALL:
            return True
    return False


def _opacity(value: str) -> float:
    number = pixels(value, 1, 1) if value else None
    return 1.0 if number is None else min(max(number, 0.0), 1.0)


def _size(
    above: Look, tag: str, attributes: Mapping[str, str | None], values: Mapping[str, str]
) -> float:
    value = values.get("font-size", "")
    if value:
        if value in _FONT_SIZES:
            return _FONT_SIZES[value]
        length = pixels(value, above.size, above.size)
        return above.size if length is None or length < 0 else min(length, _HUGE)
    # Its smallest, 1, is 10 pixels.
    return 16.0 if tag in ("font", "x-font") and attributes.get("size") else above.size


def _colour(
    above: Look, tag: str, attributes: Mapping[str, str | None], values: Mapping[str, str]
) -> Colour:
    value = values.get("color", "")
    found = colour(value) if value else None
    if found is None and not value:
        name = {"font": "color", "x-font": "color", "body": "text"}.get(tag)
        if name:
            found = colour((attributes.get(name) or "").strip().lower())
        elif tag == "a" and attributes.get("href"):
            found = above.link_colour
        elif tag in _OWN_BACKGROUND:
            found = _BLACK
    if found is None and value == "initial":
        found = _BLACK
    return above.colour if found is None else found


def _background(
    above: Look, tag: str, attributes: Mapping[str, str | None], values: Mapping[str, str]
) -> Colour | None:
    image = values.get("background-image", "none")
    if attributes.get("background") or image not in ("none", "initial", "inherit", "unset"):
        return None
    value = values.get("background-color", "")
    found = colour(value) if value else _OWN_BACKGROUND.get(tag)
    if not value and attributes.get("bgcolor"):
        found = colour((attributes["bgcolor"] or "").strip().lower()) or found
    if found is None or found[3] <= 0:
        return above.background
    if above.background is None:
        return found if found[3] == 1 else None
    red, green, blue, alpha = found
    under = above.background
    return (
        red * alpha + under[0] * (1 - alpha),
        green * alpha + under[1] * (1 - alpha),
        blue * alpha + under[2] * (1 - alpha),
        1.0,
    )
