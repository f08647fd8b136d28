"""What in a mail is its recipient's own, and a text without his name.

Plain functions over values.  What may not live here: other masks (masks.py).

Copies of a campaign call each recipient by name.  But a display name is its sender's choice, and so
is a local part where a domain takes mail for any: so a name is masked where nothing but a name
makes sense, and stays wherever another word could say something.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from rspamd_llm import brands, domains, redact
from rspamd_llm.domain import Envelope, Mail
from rspamd_llm.targets import MARK

LOCAL_LONGEST, LOCAL_PIECES = 40, 4
"""Characters of a local part, and words in it, at most: names are shorter.  Where a domain takes
mail for any address, its sender chooses it."""

NAME_WORDS, NAME_LONGEST = 5, 20
"""Words of a display name, and letters of each of them, at most."""

GREETED_WITHIN = 2_000
"""Characters of a text in which its reader is greeted: below a newsletter's header."""

GREETINGS_MOST = 3
"""Greetings in a text that are masked: a preheader, the greeting, and one more."""

NAME = f"{MARK}name"
"""Stands for the recipient's name."""

_NAMED = rf"[^\s,;:!?]{{1,{LOCAL_LONGEST}}}"
_NAMES = rf"({_NAMED}(?:[ ]{_NAMED}){{0,{NAME_WORDS - 1}}}?)"
_OPENS = re.compile(rf"(^){_NAMES}(?=[ ]?[,:!])")
_CLOSES = re.compile(rf"(,[ ]){_NAMES}(?=\W{{0,5}}$)")
_DIGITS = "0123456789"


@functools.cache
def _greeted() -> re.Pattern[str]:
    """A greeting: its opening, and the names in it."""
    table = domains.load("names.toml")
    opens, titles = (
        "|".join(table[kind].split()).replace("_", " ") for kind in ("greetings", "titles")
    )
    return re.compile(
        rf"(?<!\w)((?:{opens})(?:[ ](?:{titles})\b\.?)?[ ]){_NAMES}"
        r"(?=[ ]?[,;:!?\n]|$|\.(?:\s|$)|[ ][\u2013\u2014-])",
        re.IGNORECASE,
    )


@functools.cache
def _lures() -> frozenset[str]:
    return frozenset(domains.load("names.toml")["lures"].split())


def prepare() -> None:
    """Loads the tables now."""
    _greeted()
    _lures()


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """What in a mail is its recipient's own."""

    addresses: frozenset[tuple[str, str]] = frozenset()
    """Local part, up to a `+`, and domain of each recipient."""
    called: frozenset[str] = frozenset()
    """Words by which a greeting may call the one recipient."""
    own: frozenset[str] = frozenset()
    """Those of them that come from the address, and are no message in another place."""
    user: str = ""
    """The local part where it is no word, so that it is known for one wherever it stands."""


def personal(envelope: Envelope, mail: Mail) -> Personal:
    """What is its recipient's own in a mail, bounded.

    Names only where there is one recipient: who writes to several calls none by name.  A display
    name is the sender's choice: a greeting may call by it, and no more.
    """
    several = [
        address.strip("<>").casefold().rpartition("@")[::2]
        for address in envelope.recipients[: redact.RECIPIENTS_HIDDEN]
    ]
    parted = [(local.partition("+")[0], domain) for local, domain in several]
    known = [(local, domain) for local, domain in parted if _is_name(local)]
    addresses = frozenset(known)
    if len(parted) != 1 or envelope.recipient_count > 1:
        return Personal(addresses=addresses)
    displayed = mail.to_names[0].casefold().split() if len(mail.to_names) == 1 else []
    words = [word.strip("\"'.,()") for word in displayed]
    fits = len(words) <= NAME_WORDS and all(
        len(word) <= NAME_LONGEST and word.replace("-", "").isalpha() for word in words
    )
    if not fits or brands.claimed_in_name(" ".join(words)) is not None:
        words = []
    if not known:
        return Personal(called=frozenset(words))
    local = known[0][0]
    pieces = _pieces(local)
    is_lure = (
        not _lures().isdisjoint(pieces) or brands.claimed_in_name(" ".join(pieces)) is not None
    )
    return Personal(
        addresses=addresses,
        called=frozenset((*words, *pieces, local)),
        own=frozenset() if is_lure else frozenset((*pieces, local)),
        user=local if _is_users(local) and not is_lure else "",
    )


def _is_name(local: str) -> bool:
    return 0 < len(local) <= LOCAL_LONGEST and len(_pieces(local)) <= LOCAL_PIECES


def _is_users(local: str) -> bool:
    """Whether a local part is no word or number of a text: `alice.smith`, `customer731`."""
    return len(local) >= 3 and not local.isalpha() and any(map(str.isalpha, local))


def _pieces(local: str) -> list[str]:
    """The words of a local part, without digits around them."""
    pieces = (piece.strip(_DIGITS) for piece in re.split(r"[._-]", local))
    return [piece for piece in pieces if len(piece) >= 3 and piece.isalpha()]


def nameless(text: str, whose: Personal, *, line: bool = False) -> str:
    """A text with NAME where it calls its recipient by name: in greetings, and in a line (a
    subject) also before its first comma and after its last."""
    low = text[:GREETED_WITHIN].casefold()
    if not any(word in low for word in whose.called):
        return text
    head, rest = text[:GREETED_WITHIN], text[GREETED_WITHIN:]
    left = GREETINGS_MOST

    def replaced(match: re.Match[str], words: frozenset[str]) -> str:
        nonlocal left
        named = (word.strip("\"'.()").casefold() for word in match[2].split())
        if not left or not all(word in words for word in named):
            return match.group()
        left -= 1
        return match[1] + NAME

    head = _greeted().sub(lambda match: replaced(match, whose.called), head)
    if line and not rest:
        head = _OPENS.sub(lambda match: replaced(match, whose.own), head)
        head = _CLOSES.sub(lambda match: replaced(match, whose.own), head)
    return head + rest
