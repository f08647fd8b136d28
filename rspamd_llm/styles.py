"""CSS, as far as it keeps text from a reader: style sheets, inline styles, and what they show.

Knows the few properties that hide text, the common selectors (tag, class, id, several of these,
children, descendants) and the cascade.

What may not live here: HTML and its tree (visible.py), judgement.  Everything is linear in its
input or bounded: senders write style sheets too.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

SHEET_LIMIT = 100_000
"""Characters read of all style sheets of one mail, 70 ms at worst.  Gmail ignores a sheet over
16 kB, and the longest of 1,250 real mails had 30,000."""

CHECK_LIMIT = 100_000
"""Rules with more than one condition tried on the elements of one mail, 0.3 us each; newsletters
need some thousand."""

_VALUE_LIMIT = 200  # of what is read here, the longest honest values are lists of gradients

_READ = """
display visibility opacity font font-size color background background-color background-image
position left top right bottom text-indent margin margin-left margin-top clip clip-path
overflow overflow-x overflow-y height max-height width max-width transform
padding padding-top padding-left unicode-bidi direction
"""
_PROPERTIES = frozenset(_READ.split())

# --- Declarations ---------------------------------------------------------------------------

Rank = tuple[bool, int, int, int, int]
"""How much a declaration weighs: `!important`, then the ids, classes and tags of its selector, then
its place among the rules."""

Style = dict[str, tuple[Rank, str]]
"""Property to value, and to the rank of its declaration."""

_INLINE = 1 << 30  # more ids than any selector has

_COMMENTS = re.compile(r"/\*(?:.*?\*/|.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9A-Fa-f]{1,6})\s?|(.))", re.DOTALL)
# A `;` in a string or in brackets ends nothing.
_DECLARATION = re.compile(
    r"""(?:[^;"'(]|"[^"\n]*+(?:"|\n|\Z)|'[^'\n]*+(?:'|\n|\Z)|\([^)]*+(?:\)|\Z))++"""
)
_FONT_SIZE = re.compile(r"(?<![\w.])(\d*\.?\d+(?:px|pt|r?em|%|ex|ch|vw)|0)(?=[\s/]|\Z)")
_COLOUR_WORD = re.compile(r"(?:rgba?|hsla?)\([^)]*\)|(?<![\w(/.#-])#?[0-9a-z]+")


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    number = int(match[1], 16)
    return chr(number) if 0 < number < 0xD800 else "\ufffd"


def declarations(text: str) -> Style:
    """The declarations of a style attribute, as far as they can hide text."""
    style: Style = {}
    if "/*" in text:
        text = _COMMENTS.sub(" ", text)
    plain = '"' not in text and "'" not in text and "(" not in text
    for item in text.split(";") if plain else _DECLARATION.findall(text):
        name, _, value = item.partition(":")
        if "\\" in item:
            name, value = _ESCAPE.sub(_unescaped, name), _ESCAPE.sub(_unescaped, value)
        name = name.strip().lower()
        if name in _PROPERTIES:
            value, _, mark = value[:_VALUE_LIMIT].strip().lower().partition("!")
            rank = (mark.strip() == "important", _INLINE, 0, 0, 0)
            _cascade(style, {key: (rank, part) for key, part in _longhands(name, value.rstrip())})
    return style


def _longhands(name: str, value: str) -> Iterable[tuple[str, str]]:
    """A declaration as the properties that a shorthand stands for."""
    pairs = {name: value}
    if name == "font":
        size = _FONT_SIZE.search(value)
        pairs = {"font-size": size[1]} if size else {}
    elif name == "background":
        words = _COLOUR_WORD.findall(value)
        colours = [word for word in words if colour(word)]
        image = "url(" in value or "gradient(" in value
        shade = colours[0] if colours else "transparent"
        pairs = {"background-image": "image" if image else "none", "background-color": shade}
    elif name in ("margin", "padding"):
        sides = value.split()[:4]
        if sides:
            pairs = {f"{name}-top": sides[0], f"{name}-left": sides[min(len(sides), 4) - 1]}
            if len(sides) == 3:
                pairs[f"{name}-left"] = sides[1]
    elif name in ("overflow-x", "overflow-y"):
        pairs = {"overflow": value}
    return pairs.items()


def _cascade(onto: Style, style: Style) -> None:
    """Adds to a style those declarations of another that weigh as much or more."""
    for name, declared in style.items():
        if name not in onto or onto[name][0] <= declared[0]:
            onto[name] = declared


# --- Values ---------------------------------------------------------------------------------

Colour = tuple[float, float, float, float]
"""Red, green, blue of 255, and alpha of 1."""

TRANSPARENT: Colour = (0.0, 0.0, 0.0, 0.0)

_NAMES = """
aliceblue f0f8ff antiquewhite faebd7 aqua 00ffff aquamarine 7fffd4 azure f0ffff beige f5f5dc
bisque ffe4c4 black 000000 blanchedalmond ffebcd blue 0000ff blueviolet 8a2be2 brown a52a2a
burlywood deb887 cadetblue 5f9ea0 chartreuse 7fff00 chocolate d2691e coral ff7f50
cornflowerblue 6495ed cornsilk fff8dc crimson dc143c cyan 00ffff darkblue 00008b darkcyan 008b8b
darkgoldenrod b8860b darkgray a9a9a9 darkgreen 006400 darkgrey a9a9a9 darkkhaki bdb76b
darkmagenta 8b008b darkolivegreen 556b2f darkorange ff8c00 darkorchid 9932cc darkred 8b0000
darksalmon e9967a darkseagreen 8fbc8f darkslateblue 483d8b darkslategray 2f4f4f
darkslategrey 2f4f4f darkturquoise 00ced1 darkviolet 9400d3 deeppink ff1493 deepskyblue 00bfff
dimgray 696969 dimgrey 696969 dodgerblue 1e90ff firebrick b22222 floralwhite fffaf0
forestgreen 228b22 fuchsia ff00ff gainsboro dcdcdc ghostwhite f8f8ff gold ffd700 goldenrod daa520
gray 808080 green 008000 greenyellow adff2f grey 808080 honeydew f0fff0 hotpink ff69b4
indianred cd5c5c indigo 4b0082 ivory fffff0 khaki f0e68c lavender e6e6fa lavenderblush fff0f5
lawngreen 7cfc00 lemonchiffon fffacd lightblue add8e6 lightcoral f08080 lightcyan e0ffff
lightgoldenrodyellow fafad2 lightgray d3d3d3 lightgreen 90ee90 lightgrey d3d3d3 lightpink ffb6c1
lightsalmon ffa07a lightseagreen 20b2aa lightskyblue 87cefa lightslategray 778899
lightslategrey 778899 lightsteelblue b0c4de lightyellow ffffe0 lime 00ff00 limegreen 32cd32
linen faf0e6 magenta ff00ff maroon 800000 mediumaquamarine 66cdaa mediumblue 0000cd
mediumorchid ba55d3 mediumpurple 9370db mediumseagreen 3cb371 mediumslateblue 7b68ee
mediumspringgreen 00fa9a mediumturquoise 48d1cc mediumvioletred c71585 midnightblue 191970
mintcream f5fffa mistyrose ffe4e1 moccasin ffe4b5 navajowhite ffdead navy 000080 oldlace fdf5e6
olive 808000 olivedrab 6b8e23 orange ffa500 orangered ff4500 orchid da70d6 palegoldenrod eee8aa
palegreen 98fb98 paleturquoise afeeee palevioletred db7093 papayawhip ffefd5 peachpuff ffdab9
peru cd853f pink ffc0cb plum dda0dd powderblue b0e0e6 purple 800080 rebeccapurple 663399
red ff0000 rosybrown bc8f8f royalblue 4169e1 saddlebrown 8b4513 salmon fa8072 sandybrown f4a460
seagreen 2e8b57 seashell fff5ee sienna a0522d silver c0c0c0 skyblue 87ceeb slateblue 6a5acd
slategray 708090 slategrey 708090 snow fffafa springgreen 00ff7f steelblue 4682b4 tan d2b48c
teal 008080 thistle d8bfd8 tomato ff6347 turquoise 40e0d0 violet ee82ee wheat f5deb3
white ffffff whitesmoke f5f5f5 window ffffff windowtext 000000 canvas ffffff canvastext 000000
yellow ffff00 yellowgreen 9acd32
"""
_NAMED = dict(zip(_NAMES.split()[::2], _NAMES.split()[1::2], strict=True))
_HEX = re.compile(r"#?([0-9a-f]{8}|[0-9a-f]{6}|[0-9a-f]{3,4})")
_NUMBERS = re.compile(r"[+-]?(?:\d*\.)?\d+%?")
_LENGTH = re.compile(r"([+-]?(?:\d*\.)?\d+)(px|pt|pc|in|cm|mm|r?em|ex|ch|vw|vh|%)?")
_PIXELS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78, "rem": 16.0}
_PIXELS |= {"ex": 8.0, "ch": 8.0, "vw": 12.0, "vh": 8.0}


@lru_cache(1_000)
def colour(value: str) -> Colour | None:
    """The colour of a value in lower case, `#` or not; None where it is none."""
    if value == "transparent":
        return TRANSPARENT
    match = _HEX.fullmatch(_NAMED.get(value, value))
    if match:
        digits = match[1] if len(match[1]) > 4 else "".join(digit * 2 for digit in match[1])
        code = bytes.fromhex(f"{digits}ff"[:8])
        return (float(code[0]), float(code[1]), float(code[2]), code[3] / 255)
    parts = _NUMBERS.findall(value)
    if not value.startswith(("rgb", "hsl")) or len(parts) not in (3, 4):
        return None
    one, two, three, alpha = (
        float(part.rstrip("%")) / 100 * scale if part.endswith("%") else float(part)
        for part, scale in zip([*parts, "1"][:4], (255.0, 255.0, 255.0, 1.0), strict=True)
    )
    if value.startswith("hsl"):
        rgb = colorsys.hls_to_rgb(one / 360 % 1, min(three / 255, 1), min(two / 255, 1))
        one, two, three = (part * 255 for part in rgb)
    red, green, blue = (min(max(part, 0.0), 255.0) for part in (one, two, three))
    return (red, green, blue, min(max(alpha, 0.0), 1.0))


@lru_cache(1_000)
def pixels(value: str, em: float, whole: float) -> float | None:
    """A length in pixels, where `em` is the font's size and `whole` what 100 % is."""
    match = _LENGTH.fullmatch(value)
    if match is None:
        return None
    number = float(match[1])
    if match[2] == "em":
        return number * em
    if match[2] == "%":
        return number / 100 * whole
    return number * _PIXELS.get(match[2] or "px", 1.0)


# --- Style sheets ---------------------------------------------------------------------------

_BRACES = re.compile(r"[{}]")
_COMPOUND = re.compile(r"(>?)(\*|[a-z][\w-]*)?((?:[.#][\w-]+)*)", re.IGNORECASE)
_CHILD = re.compile(r"\s*>\s*")
_DEPTH = 10  # compounds of a selector; style guides end at four
_PARTS = re.compile(r"([.#])([\w-]+)")
# Feature queries that are true on every screen that shows mail.
_ALWAYS = re.compile(r"\(min-(?:device-)?width:[0-2]?\d?\dpx\)|\(max-(?:device-)?width:\d{4,}px\)")
_MEDIA_WORDS = frozenset(("", "all", "screen", "only screen"))


class _Compound(NamedTuple):
    """Conditions on one element: `tag` may be empty."""

    tag: str
    identity: str
    classes: frozenset[str]
    is_child: bool
    """Of the element that the compound before describes, not only somewhere in it."""


class Element(NamedTuple):
    """What selectors look at."""

    tag: str
    identity: str
    classes: frozenset[str]


_Selector = tuple[_Compound, ...]


def shows(media: str) -> bool:
    """Whether a media query holds for each reader at a screen."""
    for query in media.lower().split(","):
        words = [" ".join(word.split()) for word in query.split(" and ")]
        rest = [word for word in words if not _ALWAYS.fullmatch(word.replace(" ", ""))]
        if " and ".join(rest) in _MEDIA_WORDS:
            return True
    return False


class Sheet:
    """The rules of a mail's style sheets."""

    def __init__(self, text: str) -> None:
        self._simple: dict[str, Style] = {}
        self._others: dict[str, dict[_Selector, Style]] = {}
        self._parsed: dict[str, Style] = {}
        self._checks = 0
        self._order = 0
        self._read(_COMMENTS.sub(" ", text).replace("<!--", " ").replace("-->", " "))

    def _read(self, text: str) -> None:
        position = 0
        while (brace := text.find("{", position)) >= 0:
            # Ends of blocks that were entered, and statements such as @import, stand before.
            start = max(text.rfind("}", position, brace), text.rfind(";", position, brace))
            prelude = text[max(start + 1, position) : brace].strip()
            position = brace + 1
            if not prelude.startswith("@"):
                end = text.find("}", position)
                end = len(text) if end < 0 else end
                self._add(prelude, text[position:end])
                position = end + 1
            elif not (prelude[:6].lower() == "@media" and shows(prelude[6:].strip())):
                position = _after_block(text, position)

    def _add(self, prelude: str, block: str) -> None:
        style = declarations(block)
        if not style:
            return
        self._order += 1
        for text in prelude.split(","):
            selector = _selector(text)
            if not selector:
                continue
            last = selector[-1]
            ids = sum(bool(part.identity) for part in selector)
            classes = sum(len(part.classes) for part in selector)
            tags = sum(bool(part.tag) for part in selector)
            rule: Style = {
                name: ((rank[0], ids, classes, tags, self._order), value)
                for name, (rank, value) in style.items()
            }
            key = last.tag or "*"
            if last.identity:
                key = f"#{last.identity}"
            elif last.classes:
                key = f".{min(last.classes)}"
            # Rules of one selector become one: a sheet that repeats it costs no more at each use.
            if ids + classes + tags <= 1 and len(selector) == 1:
                _cascade(self._simple.setdefault(key, {}), rule)
            else:
                _cascade(self._others.setdefault(key, {}).setdefault(selector, {}), rule)

    def style(self, element: Element, above: Sequence[Element], inline: str) -> Style:
        """The style of an element that stands in those above it, outermost first."""
        own = self._parsed.get(inline)
        if own is None:
            own = self._parsed[inline] = declarations(inline)
        if not self._order:
            return own
        style: Style = {}
        names = [f".{name}" for name in element.classes]
        for key in ("*", element.tag, *names, f"#{element.identity}"):
            if key in self._simple:
                _cascade(style, self._simple[key])
            if key in self._others:
                self._add_matching(style, self._others[key], element, above)
        if not style:
            return own
        _cascade(style, own)
        return style

    def _add_matching(
        self,
        style: Style,
        rules: Mapping[_Selector, Style],
        element: Element,
        above: Sequence[Element],
    ) -> None:
        for selector, rule in rules.items():
            if self._checks > CHECK_LIMIT:
                break
            self._checks += 1
            if _meets(selector[-1], element) and self._stands_in(
                selector, len(selector) - 2, above, len(above)
            ):
                _cascade(style, rule)

    def _stands_in(
        self, selector: _Selector, index: int, above: Sequence[Element], level: int
    ) -> bool:
        """Whether the compounds up to that index describe elements above that level."""
        if index < 0:
            return True
        while level > 0 and self._checks <= CHECK_LIMIT:
            level -= 1
            self._checks += 1
            if _meets(selector[index], above[level]) and self._stands_in(
                selector, index - 1, above, level
            ):
                return True
            if selector[index + 1].is_child:
                return False
        return False


def _after_block(text: str, position: int) -> int:
    depth = 1
    for match in _BRACES.finditer(text, position):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _selector(text: str) -> _Selector:
    """The compounds of a selector, outermost first; none where it is of a kind not known here."""
    compounds = []
    words = _CHILD.sub(" >", text).split() if ">" in text else text.split()
    if len(words) > _DEPTH:
        return ()
    for word in words:
        match = _COMPOUND.fullmatch(word)
        if match is None:
            return ()
        parts = _PARTS.findall(match[3])
        identities = [name for sign, name in parts if sign == "#"]
        compounds.append(
            _Compound(
                tag=(match[2] or "").lower().removeprefix("*"),
                identity=identities[0] if identities else "",
                classes=frozenset(name for sign, name in parts if sign == "."),
                is_child=bool(match[1]),
            )
        )
    return tuple(compounds)


def _meets(compound: _Compound, element: Element) -> bool:
    return (
        compound.tag in ("", element.tag)
        and compound.identity in ("", element.identity)
        and compound.classes <= element.classes
    )
