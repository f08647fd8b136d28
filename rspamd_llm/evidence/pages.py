"""What a search engine found -> Page: cleaned, bounded, and told whether it speaks of a domain.

Plain functions over somebody else's words.  What may not live here: asking (search.py and the
engines), and the fence that keeps such words apart in a prompt (fence.py).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

from rspamd_llm import domains, signs
from rspamd_llm.domain import Page

TITLE_LIMIT = 60
"""Characters shown of a title: what engines themselves show of one."""

SNIPPET_LIMIT = 120
"""Characters shown of a snippet: about 30 tokens, with title and host half a domain's 60."""

HOST_LIMIT = 60
"""Characters of a host name; longer ones are cut down to their registered domain."""

READ_LIMIT = 1_000
"""Characters read of a text and of a URL; engines send 500 at most of either."""

PAGES_LIMIT = 20
"""Pages read of one answer: what engines send at most; the first few are shown."""

_TAG = re.compile(r"<(?:[a-z/!?][^<>]*)>", re.IGNORECASE)
_ROUNDS = 2
"""How often markup is undone: an engine's own, and that of the page that it quotes."""

# With a scheme, or a path behind a dotted name.  Bounded, so that no text takes long.
_URL = re.compile(
    r"\bhttps?://(?:[^\s/?#@]{0,100}@)?([^\s/?#]{1,253})\S*"
    r"|\b((?:[\w-]{1,63}\.){1,8}[a-z]{2,63})[/?#]\S*",
    re.IGNORECASE,
)
_JOINERS = "\u200c\u200d"  # those that signs.reveal leaves have a reason


def page(title: str, url: str, text: str) -> Page | None:
    """A search result as a Page of clean text, up to READ_LIMIT long; None where none is usable."""
    host = _host(url[:READ_LIMIT])
    named = clean(title)
    if not host or not named:
        return None
    return Page(title=named, host=host, snippet=clean(text))


def clean(text: str) -> str:
    """Plain text on one line: no markup, nothing unseen, no more of a URL than its host."""
    text = text[:READ_LIMIT]
    for _ in range(_ROUNDS):
        text = html.unescape(_TAG.sub("", text))
    text = signs.reveal(_TAG.sub("", text)).text
    text = "".join(sign for sign in text if sign.isspace() or _is_seen(sign))
    text = " ".join(text.split())
    return _URL.sub(lambda match: match.group(1) or match.group(2), text)


def about(pages: Iterable[Page], domain: str, name: str = "") -> list[Page]:
    """The pages that speak of a registered domain, or of a name where one is given.

    They stand at the domain, or write it out.  The domain's own site comes first, its further
    pages last: what others say of it tells more.
    """
    spellings = "|".join(map(re.escape, {domain, domains.shown(domain)}))
    written = re.compile(rf"(?<![\w-])(?:{spellings})(?!\.?[\w-])", re.IGNORECASE)
    own: list[Page] = []
    others: list[Page] = []
    for one in pages:
        text = f"{one.title}\n{one.snippet}"
        if domains.registered_domain(one.host) == domain:
            own.append(one)
        elif written.search(text) or (name and name.casefold() in text.casefold()):
            others.append(one)
    return own[:1] + others + own[1:]


def shown(one: Page) -> Page:
    """The page with its texts cut to what a prompt has room for."""
    return Page(
        title=_cut(one.title, TITLE_LIMIT),
        host=one.host,
        snippet=_cut(one.snippet, SNIPPET_LIMIT),
    )


def encode(pages: tuple[Page, ...]) -> list[list[str]]:
    """Pages as JSON-able data: [title, host, snippet] of each."""
    return [[one.title, one.host, one.snippet] for one in pages]


def decode(data: object) -> tuple[Page, ...]:
    """The pages of what `encode` made of shown ones.  Raises ValueError for all else."""
    if not isinstance(data, list) or len(data) > PAGES_LIMIT:
        raise ValueError("no list of pages")
    return tuple(_decoded(entry) for entry in data)


def _decoded(entry: object) -> Page:
    limits = (TITLE_LIMIT, HOST_LIMIT, SNIPPET_LIMIT)
    if not isinstance(entry, list) or len(entry) != len(limits):
        raise ValueError("no page")
    for text, limit in zip(entry, limits, strict=True):
        if not isinstance(text, str) or len(text) > limit or not all(map(_is_seen, text)):
            raise ValueError("no text of a page")
    title, host, snippet = entry
    if not title or not domains.registered_domain(host):
        raise ValueError("a page without a title or a host")
    return Page(title=title, host=host, snippet=snippet)


def _is_seen(sign: str) -> bool:
    return sign in _JOINERS or not unicodedata.category(sign).startswith("C")


def _host(url: str) -> str:
    """The host of a URL in lower-case ASCII; empty where it has none that fits."""
    host = domains.place(url).host.strip(".")
    domain = domains.registered_domain(host)
    if not domain:
        return ""
    host = domains.ascii_host(host)
    if host != domain:
        host = host.removeprefix("www.")
    return next((name for name in (host, domain) if len(name) <= HOST_LIMIT), "")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "\u2026"
