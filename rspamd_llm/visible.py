"""HTML as its reader sees it: text in reading order, and links.

The only importer of selectolax.  What may not live here: MIME, headers, judgement.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from rspamd_llm.domain import Link

LINK_LIMIT = 200
"""Links kept of one mail; newsletters have about 60, and the prompt shows far fewer."""

MARKUP_LIMIT = 10_000
"""Signs of `<` read of one mail, which bounds its elements.  The parser looks through all open
elements at each new one: 10,000 cost 0.2 s at worst, 200,000 (1 MB) cost 97 s.  Newsletters have
2,000."""

_RUN = 4_000
# The parser compares each attribute of a tag with all before it: 1 MB of them cost 70 s.  So a run
# without `<` is broken up: in a tag these signs end it, in a text they stand out and are removed.
_LONG_RUN = re.compile(rf"[^<]{{{_RUN}}}")
_BREAK = "\"'\ue000>"
_DATA_URL = re.compile(r"data:[\w/+.;=-]{0,200};base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
# HTML makes unclosed formatting elements anew in each paragraph that follows: 70 kB of them took
# 3.5 GB.  Under a name of no meaning they are as good, for what is shown does not depend on them.
_FORMATTING = re.compile(
    r"<(/?)(b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE
)

_UNSEEN = ["script", "style", "head", "template", "noscript"]
_BREAKS = "p,div,br,tr,li,h1,h2,h3,h4,h5,h6,table,blockquote,hr,ul,ol,section,article"
_BLANKS = re.compile(r"[^\S\n]+")
_NEWLINES = re.compile(r"\s*\n\s*")
# A URL in running text ends before what closes a sentence or a bracket around it.
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'\x00-\x1f]{3,2000}", re.IGNORECASE)
_URL_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TRAILING = ".,;:!?)]}>*_'\""


def tidy(text: str) -> str:
    """The text with runs of blanks as one space and runs of line breaks as one."""
    return _NEWLINES.sub("\n", _BLANKS.sub(" ", text)).strip()


def render(html: str, markup: int = MARKUP_LIMIT) -> tuple[str, tuple[Link, ...]]:
    """The visible text of an HTML part and its links in order, at most LINK_LIMIT.

    Reads no further than `markup` signs of `<`.  Never raises: what the parser cannot read yields
    empty text.
    """
    try:
        tree = LexborHTMLParser(_bounded(html, markup))
    except (SelectolaxError, ValueError):
        return "", ()
    links: list[Link] = []
    for node in tree.css("a[href], area[href], form[action]"):
        if len(links) >= LINK_LIMIT:
            break
        # As browsers do (WHATWG URL 4.4): no controls, line breaks or tabs in a URL.
        target = node.attributes.get("href") or node.attributes.get("action") or ""
        target = _URL_CONTROLS.sub("", target).strip()
        if target and not target.startswith("#"):
            # Links may stand in each other, so that each holds all of the text.
            text = tidy(node.text()[:2_000].replace(_BREAK, ""))
            links.append(Link(text=text[:300], target=target[:2_000]))
    tree.strip_tags(_UNSEEN)
    for node in tree.css(_BREAKS):
        node.insert_before("\n")
        node.insert_after("\n")
    for node in tree.css("td,th"):
        node.insert_before(" ")
    body = tree.body
    return (tidy(body.text().replace(_BREAK, "")) if body is not None else ""), tuple(links)


def _bounded(html: str, markup: int) -> str:
    """The HTML with the same text, in a form that does not make its parser work for long."""
    pieces = html.split("<", max(0, markup) + 1)
    html = _DATA_URL.sub("data:", "<".join(pieces[: max(0, markup) + 1]))
    html = _LONG_RUN.sub(lambda run: run.group() + _BREAK, html)
    return _FORMATTING.sub(r"<\1x-\2", html)


def bare_links(text: str) -> tuple[Link, ...]:
    """The URLs that stand in plain text, at most LINK_LIMIT, without repeats."""
    found: dict[str, None] = {}
    for match in _URL.finditer(text):
        url = match.group().rstrip(_TRAILING)
        found.setdefault(url if "://" in url else f"http://{url}")
        if len(found) >= LINK_LIMIT:
            break
    return tuple(Link(text="", target=url) for url in found)
