"""Outcome -> HeaderEdits: signing, cleaning, encoding.

Plain functions; the form of the headers is a contract (docs/reference.md) that the Rspamd plugin
checks to the letter.  What may not live here: applying the edits (milter.py).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from email.header import Header

from rspamd_llm import keys
from rspamd_llm.domain import (
    REASON_LIMIT,
    HeaderEdits,
    Key,
    Outcome,
    Scored,
    Skip,
    Skipped,
    Unscored,
)

PREFIX = "x-gpt-"
"""Headers of this prefix, in any case, are ours: those that arrive are deleted."""

_QUEUE_ID = re.compile(r"[A-Za-z0-9]{1,64}")


def is_ours(name: str) -> bool:
    """Whether a header name is one that only we may set."""
    return name.lower().startswith(PREFIX)


def edits(
    names: Sequence[str], outcome: Outcome, *, queue_id: str, now: int, key: Key
) -> HeaderEdits:
    """The edits for a message whose header names are `names`, in order.

    Mail of authenticated users only loses arriving headers; every other gains ours.
    """
    added: tuple[tuple[str, str], ...] = ()
    if outcome != Skipped(Skip.AUTHENTICATED):
        added = (
            ("X-GPT-Verdict", sign(outcome, queue_id=queue_id, now=now, key=key)),
            *_telling(outcome),
        )
    return HeaderEdits(delete=deletions(names), add=added)


def deletions(names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """What to delete: for each name of ours its copies' 1-based indexes, the highest first.

    The MTA applies each deletion at once and renumbers the copies that follow it.
    """
    copies: dict[str, int] = {}
    for name in names:
        if is_ours(name):
            copies[name.lower()] = copies.get(name.lower(), 0) + 1
    return tuple((name, index) for name, count in copies.items() for index in range(count, 0, -1))


def sign(outcome: Outcome, *, queue_id: str, now: int, key: Key) -> str:
    """The value of X-GPT-Verdict: the fields in their fixed order, and the HMAC over them."""
    match outcome:
        case Scored(verdict=verdict):
            status, score, code = "scored", f"{verdict.score:.2f}", verdict.category
        case Skipped(code=code):
            status, score = "skipped", "-"
        case Unscored(code=code):
            status, score = "unscored", "-"
    queue = queue_id if _QUEUE_ID.fullmatch(queue_id) else "-"
    fields = f"v=1; st={status}; q={queue}; t={now}; s={score}; c={code}; k={keys.key_id(key)}"
    mac = hmac.new(key.secret, fields.encode("ascii"), hashlib.sha256).hexdigest()
    return f"{fields}; m={mac}"


def clean_reason(text: str) -> str:
    """A reason as one line of at most REASON_LIMIT characters, without controls.

    Also without bidi overrides and other format signs (category Cf) that could make a reader see
    another text, and without surrogates and unassigned code points.
    """
    spaced = "".join(
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Zs") else char
        for char in text[: REASON_LIMIT * 10]
    )
    kept = "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))
    return " ".join(kept.split())[:REASON_LIMIT].strip()


def model_name(model: str) -> str:
    """A model's name for a header: the base name of a path, printable ASCII without `;`."""
    is_file = model.startswith("/") or model.lower().endswith(".gguf")
    name = model.rsplit("/", 1)[-1] if is_file else model
    return re.sub(r"[^\x21-\x3a\x3c-\x7e]+", "_", name)[:100] or "_"


def _telling(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """The headers for people; only X-GPT-Verdict is believed."""
    match outcome:
        case Scored(verdict=verdict) as scored:
            about = (
                f"{model_name(scored.model)}; prompt={scored.prompt_id}; "
                f"seconds={scored.seconds:.2f}; cache={scored.cache}"
            )
            return (
                ("X-GPT-Status", "scored; injection" if scored.injection else "scored"),
                ("X-GPT-Score", f"{verdict.score:.2f}"),
                ("X-GPT-Category", verdict.category),
                ("X-GPT-Reason", _encoded("X-GPT-Reason", clean_reason(verdict.reason))),
                ("X-GPT-Model", about),
            )
        case Skipped(code=code):
            return (("X-GPT-Status", f"skipped; {code}"),)
        case Unscored(code=code):
            return (("X-GPT-Status", f"unscored; {code}"),)


def _encoded(name: str, value: str) -> str:
    """The value as it is where it is plain ASCII, else in folded encoded words (RFC 2047).

    Text that looks like an encoded word is encoded too, so that it is read as it was written.
    """
    if value.isascii() and "=?" not in value:
        return value
    # Lines of at most 76 (RFC 2047 2); Python's limit is overrun by two.
    return Header(value, "utf-8", header_name=name, maxlinelen=74).encode(linesep="\n")
