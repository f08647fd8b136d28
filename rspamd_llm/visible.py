"""HTML as its reader sees it: text in reading order, and links.

The only importer of selectolax.  What may not live here: MIME, headers, judgement.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from rspamd_llm.domain import Link

LINK_LIMIT = 200
"""Links kept of one mail; newsletters have about 60, and the prompt shows far fewer."""

_UNSEEN = ["script", "style", "head", "template", "noscript"]
_BREAKS = "p,div,br,tr,li,h1,h2,h3,h4,h5,h6,table,blockquote,hr,ul,ol,section,article"
_BLANKS = re.compile(r"[^\S\n]+")
_NEWLINES = re.compile(r"\s*\n\s*")
# A URL in running text ends before what closes a sentence or a bracket around it.
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'\x00-\x1f]{3,2000}", re.IGNORECASE)
_TRAILING = ".,;:!?)]}>*_'\""


def tidy(text: str) -> str:
    """The text with runs of blanks as one space and runs of line breaks as one."""
    return _NEWLINES.sub("\n", _BLANKS.sub(" ", text)).strip()


def render(html: str) -> tuple[str, tuple[Link, ...]]:
    """The visible text of an HTML part and its links in order, at most LINK_LIMIT.

    Never raises: what the parser cannot read yields empty text.
    """
    try:
        tree = LexborHTMLParser(html)
    except (SelectolaxError, ValueError):
        return "", ()
    links: list[Link] = []
    for node in tree.css("a[href], area[href], form[action]"):
        if len(links) >= LINK_LIMIT:
            break
        target = (node.attributes.get("href") or node.attributes.get("action") or "").strip()
        if target and not target.startswith("#"):
            links.append(Link(text=tidy(node.text())[:300], target=target[:2000]))
    tree.strip_tags(_UNSEEN)
    for node in tree.css(_BREAKS):
        node.insert_before("\n")
    body = tree.body
    return (tidy(body.text()) if body is not None else ""), tuple(links)


def bare_links(text: str) -> tuple[Link, ...]:
    """The URLs that stand in plain text, at most LINK_LIMIT, without repeats."""
    found: dict[str, None] = {}
    for match in _URL.finditer(text):
        url = match.group().rstrip(_TRAILING)
        found.setdefault(url if "://" in url else f"http://{url}")
        if len(found) >= LINK_LIMIT:
            break
    return tuple(Link(text="", target=url) for url in found)
