"""A link's target -> what of it tells one campaign from another.

Plain functions over one URL.  What may not live here: text around links (masks.py).

Hosts stay to the letter, with login data and port, and so do hosts within a URL that leads on.  A
path is left out where the host is one party's: what stands behind it is that party's choice
whatever the path says, and may change after the mail is read.  It stays to the letter on hosts
where many parties have pages, and wherever it is not sure what a program makes of a URL.
"""

from __future__ import annotations

import base64
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import unquote

from rspamd_llm import chance, domains

MARK = "\0"
"""Stands before what is masked: no text of a mail has it (structure.clean)."""

LOOKED_AT = 2_000
"""Characters of a URL that are looked at; no link of a mail has more (visible.py)."""

WORDS_LEAST = 4
"""Words in a path from which it may be a message to its reader, and stays: `/your-account-is-
locked`.  Paths of sites have one to three."""

WORDS_WITHIN = 500
"""Characters in which a path's words are looked for; programs show fewer of a URL."""

HOSTS_MOST = 8
"""What looks like a host within a URL, at most; one with more stays to the letter.  Redirectors are
seldom chained three times."""

_SHARED = ("shared", "shorteners", "redirectors", "sharers")
_URL = re.compile(r"(https?)://([^\s/?#\\]+)(.*)", re.IGNORECASE | re.DOTALL)
# What is read alike by all programs: no backslash, no control, one @ at most.
_SURE = re.compile(r"(?:[^@\s\\\x00-\x20]*@)?[\w.-]+(?::[0-9]{1,5})?")
# Hosts, plainly or after // or @; addresses of IPv4 among them, after // in one number too.
_INNER = re.compile(
    r"([/\\]{2}|@)?((?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w.-]))"
    r"|[/\\]{2}(0x[0-9a-f]{1,16}|[0-9]{1,16})(?=[/\\?#&:]|$)",
    re.IGNORECASE,
)
_BASE64 = re.compile(r"aHR0c[A-Za-z0-9+/_-]{8,2000}")  # of `http`
_ENDING = re.compile(r"[^/?#]\.([A-Za-z][A-Za-z0-9]{1,4})(?:[?#]|$)")
_SEGMENT = re.compile(r"[^/?&=;#]+")
_WITHOUT_DIGITS = str.maketrans("", "", "0123456789")
_LETTERS = re.compile(r"[^\W\d_]{2,}")


def seen(url: str) -> str:
    """What of a link's target stays.  Never raises.

    Personal parts of it that are known as such are masked before.
    """
    match = _URL.fullmatch(url)
    if match is None or match[3].startswith("\\") or _SURE.fullmatch(match[2]) is None:
        return url
    host = domains.place(f"{match[1]}://{match[2]}").host
    if not host or is_shared(host, match[3]):
        return f"{match[1].lower()}://{match[2].casefold()}{match[3]}"
    rest = _unquoted(match[3])
    inner = [*islice(_INNER.finditer(rest), HOSTS_MOST + 1)]
    quoted = [*islice(_BASE64.finditer(rest), HOSTS_MOST + 1)]
    if max(len(inner), len(quoted)) > HOSTS_MOST:
        kept = [rest]
    else:
        kept = [*_hosts(inner), *map(_decoded, quoted), *_said(rest)]
    return MARK.join((f"{match[1].lower()}://{match[2].casefold()}", *kept))


def is_shared(host: str, rest: str) -> bool:
    """Whether many parties have their pages on a host, or what follows it says where it leads."""
    if _is_anybodys(host):
        return True
    return any(domains.services(kind).has(host, rest) for kind in _SHARED)


@functools.lru_cache(maxsize=4_096)
def _is_anybodys(host: str) -> bool:
    """Whether a host's domain is given away below another's, or is no domain at all."""
    registered = domains.registered_domain(host)
    return not registered or registered != domains.icann_domain(host)


def _unquoted(rest: str) -> str:
    """A path and a query as a program that leads on takes them."""
    rest = rest[:LOOKED_AT]
    for _ in range(3):  # redirectors quote each other's
        if "%" not in rest:
            break
        rest = unquote(rest)
    return rest if rest.isascii() else unicodedata.normalize("NFKC", rest)


def _hosts(inner: Iterable[re.Match[str]]) -> Iterator[str]:
    """What is a host of what looks like one, with a path where many share it."""
    for match in inner:
        host = (match[2] or match[3]).casefold()
        if match[1] or domains.is_address(host) or domains.has_suffix(host):
            onward = match.string[match.end() :]
            yield host + onward if is_shared(host, onward) else host


def _decoded(quoted: re.Match[str]) -> str:
    """The host of a URL in base64; all of it where there is none."""
    # Every four signs are three octets: an end that is not whole is left out.
    whole = quoted.group()[: len(quoted.group()) // 4 * 4].replace("+", "-").replace("/", "_")
    url = _URL.match(base64.urlsafe_b64decode(whole).decode("utf-8", "replace"))
    return url[2].casefold() if url else whole


def _said(rest: str) -> Iterator[str]:
    """What a path and a query say: of what kind a file is, and what may be a message."""
    ending = _ENDING.search(rest)
    if ending is not None:
        yield f".{ending[1].lower()}"
    words = _words(rest[:WORDS_WITHIN])
    if len(words) >= WORDS_LEAST:
        yield " ".join(words)


def _words(rest: str) -> list[str]:
    """The words of those parts of a path that are words by half and more."""
    words: list[str] = []
    for segment in _SEGMENT.findall(rest):
        if len(segment.translate(_WITHOUT_DIGITS)) * 2 < len(segment):
            continue
        found = [word for word in _LETTERS.findall(segment) if chance.is_word(word)]
        if sum(map(len, found)) * 2 >= len(segment):
            words += (word.casefold() for word in found)
    return words
