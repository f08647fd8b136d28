"""HTML as its reader sees it: text in reading order, links, and what is hidden.

The only importer of selectolax.  What may not live here: MIME, headers, judgement.  CSS is read in
styles.py, what it makes of an element in looks.py, signs that nobody sees in signs.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from rspamd_llm.domain import Hiding, Link
from rspamd_llm.looks import PLAIN, Look, fills, look
from rspamd_llm.signs import HIDDEN_LIMIT, PARTING, Revealed, reveal
from rspamd_llm.styles import SHEET_LIMIT, Element, Sheet, Style, pixels, shows

__all__ = ["Rendered", "Revealed", "bare_links", "render", "reveal", "tidy"]

LINK_LIMIT = 200
"""Links kept of one mail; newsletters have about 60, and the prompt shows far fewer."""

MARKUP_LIMIT = 10_000
"""Signs of `<` read of one mail, which bounds its elements.  The parser looks through all open
elements at each new one: 10,000 cost 0.2 s at worst, 200,000 (1 MB) cost 97 s.  Newsletters have
2,000."""

ALT_LIMIT = 20
"""Alternative texts kept of one mail, each of ALT_LENGTH characters at most: the banners and
products of a newsletter; the prompt shows the first few."""

ALT_LENGTH = 200

_RUN = 4_000
_SEPARATORS = 1_000
# The parser compares each attribute of a tag with all before it: 1 MB of them cost 70 s.  So a run
# without `<` that is long enough, and has enough signs that part attributes, is broken up: in a tag
# these signs end it, in a text they stand out and are removed.  Real tags with addresses and styles
# of 4,000 characters have some dozen such signs.
_SEPARATOR = re.compile(r"[\s/\"']")
_BLANK_RUN = re.compile(r"[ \t]{2,}")
_BREAK = "\"'\ue000>"
_DATA_URL = re.compile(r"data:[\w/+.;=-]{0,200};base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
# HTML makes unclosed formatting elements anew in each paragraph that follows: 70 kB of them took
# 3.5 GB.  Under a name of no meaning they are as good, for what is shown does not depend on them.
_FORMATTING = re.compile(
    r"<(/?)(b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE
)

# What is no text at all, and what is text that no mail program shows.
_CODE = frozenset(("script", "style", "template"))
_UNSEEN = frozenset(("datalist", "dialog", "iframe", "noembed", "noframes", "noscript", "title"))
_BREAKS = "p div br tr li h1 h2 h3 h4 h5 h6 table blockquote hr ul ol section article"
_BLOCKS = frozenset(_BREAKS.split())
_RAW = frozenset(("iframe", "noembed", "noframes"))  # the parser leaves the markup in these
_CELLS = frozenset(("td", "th"))
_TARGETS = {"a": "href", "area": "href", "form": "action"}
_RIGHT_TO_LEFT, _END_OF_DIRECTION = "\u202e", "\u202c"
_BLANKS = re.compile(r"[^\S\n]+")
_NEWLINES = re.compile(r"\s*\n\s*")
# A URL in running text ends before what closes a sentence or a bracket around it.
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'\x00-\x1f]{3,2000}", re.IGNORECASE)
_URL_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TRAILING = ".,;:!?)]}>*_'\""

_CONDITIONAL = re.compile(r"\s*<?!?\[(?:if\b|endif)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>|https?://\S+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORDS = 8
"""Words that make a comment a text; templates name their parts in fewer: of 4,500 comments in real
mails, 170 had as many."""
_UNSPACED = 20  # letters that make one where words are not parted by blanks
_COMMENT_LENGTH = 20_000  # read of a comment; five times what is kept

_BUTTON = re.compile(r"btn|button", re.IGNORECASE)
_PRESSED = 4.0  # pixels of padding that a button has; links in running text have up to 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An HTML part as its reader sees it."""

    text: str = ""
    hidden: str = ""
    """Text that the reader is not shown, in order, at most HIDDEN_LIMIT."""
    hidings: tuple[Hiding, ...] = ()
    """Without repeats, in the order found."""
    links: tuple[Link, ...] = ()
    """Those that are shown, in order, at most LINK_LIMIT."""
    images: int = 0
    alts: tuple[str, ...] = ()
    whole: bool = True
    """Whether all of it was read."""


def tidy(text: str) -> str:
    """The text with runs of blanks as one space and runs of line breaks as one."""
    return _NEWLINES.sub("\n", _BLANKS.sub(" ", text)).strip()


def render(html: str, markup: int = MARKUP_LIMIT) -> Rendered:
    """What an HTML part shows to its reader, and what it hides.

    Reads no further than `markup` signs of `<`.  Never raises: what the parser cannot read yields
    empty text.
    """
    html, whole = _bounded(html, max(0, markup))
    try:
        tree = LexborHTMLParser(html)
        root = tree.root
        if root is None:
            return Rendered(whole=whole)
        sheets = [
            style.text().replace(_BREAK, "")
            for style in tree.css("style")
            if shows(style.attributes.get("media") or "")
        ]
        css = "\n".join(sheets)
        walk = _Walk(Sheet(css[:SHEET_LIMIT]))
        walk.go(root.parent or root)
    except (SelectolaxError, ValueError):
        return Rendered(whole=False)
    return walk.rendered(whole and len(css) <= SHEET_LIMIT)


def _bounded(html: str, markup: int) -> tuple[str, bool]:
    """The HTML with the same text, in a form that does not make its parser work for long.

    Also whether this is all of it.
    """
    pieces = html.split("<", markup + 1)
    whole = len(pieces) <= markup + 1
    for index, piece in enumerate(pieces[: markup + 1]):
        if len(piece) > SHEET_LIMIT + _RUN and piece[:5].lower() == "style":
            pieces[index] = piece[: SHEET_LIMIT + _RUN]
            whole = False
    html = _DATA_URL.sub("data:", "<".join(pieces[: markup + 1]))
    if len(html) > _RUN:
        html = "<".join(_broken(piece) if len(piece) > _RUN else piece for piece in html.split("<"))
    return _FORMATTING.sub(r"<\1x-\2", html), whole


def _broken(run: str) -> str:
    run = _BLANK_RUN.sub(" ", run)
    ends = [match.end() for match in _SEPARATOR.finditer(run)][_SEPARATORS - 1 :: _SEPARATORS]
    return _BREAK.join(run[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True))


# --- The walk -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """An element whose content is being read."""

    children: Iterator[LexborNode]
    tag: str
    element: Element
    look: Look
    after: str = ""
    """What stands after it in the text."""
    link: _Anchor | None = None
    cell: _Cell | None = None


@dataclass(slots=True)
class _Anchor:
    target: str
    is_button: bool
    start: int
    text: str = ""
    images: int = 0
    hidden: int = 0
    is_shown: bool = True


@dataclass(slots=True)
class _Cell:
    """A cell with a background of its own: with one link and nothing else it is a button."""

    start: int
    links: int


class _Walk:
    """One way through a tree, with what was found on it."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._shown: list[str] = []
        self._hidden: list[str] = []
        self._piece: list[str] = []
        self._hidden_length = 0
        self._hidden_texts = 0
        self._hidings: dict[Hiding, None] = {}
        self._links: list[_Anchor] = []
        self._titles = 0
        self._images = 0
        self._alts: list[str] = []
        self._above: list[Element] = []

    def rendered(self, whole: bool) -> Rendered:
        """What was found."""
        self._part()
        shown = [link for link in self._links if link.is_shown][:LINK_LIMIT]
        return Rendered(
            text=tidy("".join(self._shown).replace(_BREAK, "")),
            hidden=PARTING.join(self._hidden)[:HIDDEN_LIMIT],
            hidings=tuple(self._hidings),
            links=tuple(
                Link(text=link.text, target=link.target, is_button=link.is_button) for link in shown
            ),
            images=self._images,
            alts=tuple(self._alts),
            whole=whole,
        )

    def go(self, root: LexborNode) -> None:
        """Reads all that stands in the root.  Without recursion: senders choose the depth."""
        nothing = Element("", "", frozenset())
        stack = [_Open(root.iter(include_text=True), "", nothing, PLAIN)]
        while stack:
            top = stack[-1]
            for node in top.children:
                tag = node.tag
                if tag == "-text":
                    if top.tag != "head":
                        text = node.text_content or ""
                        self._text(_TAG.sub(" ", text) if top.tag in _RAW else text, top.look)
                elif tag == "-comment":
                    self._comment(node.comment_content or "")
                elif tag is not None and tag[0] != "-" and tag not in _CODE:
                    if tag == "title" and not self._titles:
                        self._titles += 1  # of the page, also where a broken head sets it free
                        continue
                    stack.append(self._open(node, tag, top.look))
                    break
            else:
                self._close(stack.pop())

    def _open(self, node: LexborNode, tag: str, above: Look) -> _Open:
        attributes = node.attributes
        element = Element(
            tag, attributes.get("id") or "", frozenset((attributes.get("class") or "").split())
        )
        opened = _Open(node.iter(include_text=True), tag, element, above)
        style = {}
        if not above.shut:
            style = self._sheet.style(element, self._above, attributes.get("style") or "")
            if style or attributes or tag == "a":
                opened.look = look(above, tag, attributes, style)
            if tag in _UNSEEN and not (tag == "dialog" and "open" in attributes):
                opened.look = above._replace(hiding=Hiding.DISPLAY, shut=True)
        self._above.append(element)
        if self._piece and (tag in _BLOCKS or tag in _CELLS):
            self._piece.append(" ")
        if opened.look.shut:
            return opened
        if tag in _BLOCKS:
            self._shown.append("\n")
            opened.after = "\n"
        elif tag in _CELLS:
            self._shown.append(" ")
            if fills(above, opened.look):
                opened.cell = _Cell(len(self._shown), len(self._links))
        elif tag == "img":
            self._image(attributes, style, opened.look)
        if opened.look.reversed:
            self._reverse(opened, above)
        if tag in _TARGETS:
            # As browsers do (WHATWG URL 4.4): no controls, line breaks or tabs in a URL.
            target = _URL_CONTROLS.sub("", attributes.get(_TARGETS[tag]) or "").strip()
            if target and not target.startswith("#") and not opened.look.invisible:
                is_button = tag == "form" or _is_button(attributes, style, above, opened.look)
                start = len(self._shown)
                hidden = self._hidden_texts
                opened.link = _Anchor(target[:2_000], is_button, start, "", self._images, hidden)
                self._links.append(opened.link)
        return opened

    def _reverse(self, opened: _Open, above: Look) -> None:
        """Writes an override of the writing direction as in plain text, where `reveal` finds it.

        It ends with each line, so each line has its own.
        """
        if opened.tag == "br":
            opened.after += _RIGHT_TO_LEFT
        elif opened.tag in _BLOCKS or not above.reversed:
            self._shown.append(_RIGHT_TO_LEFT)
            again = _RIGHT_TO_LEFT if above.reversed else ""
            opened.after = _END_OF_DIRECTION + opened.after + again

    def _close(self, opened: _Open) -> None:
        if opened.link is not None:
            link = opened.link
            link.text = self._text_from(link.start)[:300]
            is_hidden = self._hidden_texts > link.hidden and self._images == link.images
            link.is_shown = bool(link.text) or not is_hidden
        if opened.cell is not None and len(self._links) == opened.cell.links + 1:
            link = self._links[-1]
            if link.text and link.text == self._text_from(opened.cell.start)[:300]:
                link.is_button = True
        if opened.after:
            self._shown.append(opened.after)
        if self._above:
            self._above.pop()

    def _text_from(self, start: int) -> str:
        """What was shown from there on, its first 2,000 characters: links may stand in others."""
        pieces = []
        left = 2_000
        for index in range(start, min(len(self._shown), start + 500)):
            pieces.append(self._shown[index][:left])
            left -= len(pieces[-1])
            if left <= 0:
                break
        return tidy("".join(pieces).replace(_BREAK, ""))

    def _text(self, text: str, seen: Look) -> None:
        if seen.hiding is None:
            if self._piece and not text.isspace():
                self._part()
            self._shown.append(text)
        elif text.isspace():
            if self._piece:
                self._piece.append(" ")
        elif self._hide(text):
            self._hidings.setdefault(seen.hiding)

    def _comment(self, text: str) -> None:
        if not text or _CONDITIONAL.match(text):
            return
        text = unescape(_TAG.sub(" ", text[:_COMMENT_LENGTH]))
        words = _WORD.findall(text)
        if len(words) >= _WORDS or any(
            len(word) >= _UNSPACED and not word.isascii() for word in words
        ):
            self._part()
            if self._hide(text):
                self._hidings.setdefault(Hiding.COMMENT)
            self._part()

    def _hide(self, text: str) -> bool:
        """Keeps hidden text; False where nothing of it says anything."""
        seen = reveal(text[:_COMMENT_LENGTH].replace(_BREAK, ""))
        text = f"{seen.text} {seen.hidden}" if seen.hidden else seen.text
        if not any(sign.isalnum() for sign in text):
            return False
        self._hidden_texts += 1
        if self._hidden_length <= HIDDEN_LIMIT:
            self._piece.append(text)
            self._hidden_length += len(text)
        return True

    def _part(self) -> None:
        """Ends a piece of hidden text."""
        if self._piece:
            self._hidden.append(" ".join("".join(self._piece).split()))
            self._piece.clear()

    def _image(self, attributes: dict[str, str | None], style: Style, seen: Look) -> None:
        if seen.invisible:
            return
        for name in ("width", "height"):
            value = style[name][1] if name in style else (attributes.get(name) or "").strip()
            length = pixels(value.lower()[:20], 16, 600) if value else None
            if length is not None and length <= 1:
                return  # a tracker or a spacer
        self._images += 1
        if len(self._alts) < ALT_LIMIT:
            alt = " ".join((attributes.get("alt") or "").replace(_BREAK, "").split())[:ALT_LENGTH]
            if sum(map(str.isalpha, alt)) >= 2:
                self._alts.append(alt)


def _is_button(attributes: dict[str, str | None], style: Style, above: Look, seen: Look) -> bool:
    """Whether a link is styled as a button."""
    named = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    if _BUTTON.search(named) or attributes.get("role") == "button" or fills(above, seen):
        return True
    paddings = (style[name][1] for name in ("padding-top", "padding-left") if name in style)
    return any((pixels(value, seen.size, 600) or 0) >= _PRESSED for value in paddings)


def bare_links(text: str) -> tuple[Link, ...]:
    """The URLs that stand in plain text, at most LINK_LIMIT, without repeats."""
    found: dict[str, None] = {}
    for match in _URL.finditer(text):
        url = match.group().rstrip(_TRAILING)
        found.setdefault(url if "://" in url else f"http://{url}")
        if len(found) >= LINK_LIMIT:
            break
    return tuple(Link(text="", target=url) for url in found)
