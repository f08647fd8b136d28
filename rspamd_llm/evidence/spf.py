"""SPF (RFC 7208): client address and domain -> result, as far as DNS has been asked.

The only importer of pyspf; its errors become results here.  Nothing here waits: where an answer is
missing, the question is the return value, and one comes again with the answer.  What may not live
here: asking DNS (authentication.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import spf  # type: ignore[import-untyped]

from rspamd_llm.evidence.names import is_name

LOOKUPS = 40
"""Questions for one result.  RFC 7208 4.6.4 allows 10 terms, some of which take up to 11; no
record that works needs as many as this."""

RECORD = 4_096
"""Characters of a record; RFC 7208 3.4 wants less than 450 of each."""

TERM = 512
"""Characters of a term: a domain name has 253; pyspf's patterns take the square of it."""

_LOCAL = "postmaster"
"""What macros say instead of the sender's local part: it does not leave the machine."""


@dataclass(frozen=True, slots=True)
class Question:
    """What DNS must be asked before there is a result."""

    name: str
    kind: str


# What pyspf 2.0.14 may make of hostile records, beside its own errors.
_UNREADABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

Known = Mapping[Question, tuple[str, ...] | None]
"""Answers so far, in dns.py's forms; None where DNS did not answer."""


class _OpenQuestionError(Exception):
    """An answer is missing.  No error of pyspf's, so that it passes through.

    But where pyspf wants the words that a domain has for its refusals (exp=): there it drops all
    errors and goes on without, so that these are never asked for.
    """

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question


class _Check(spf.query):  # type: ignore[misc]
    """pyspf's evaluation on answers that are there."""

    def __init__(self, address: str, domain: str, helo: str, known: Known) -> None:
        super().__init__(i=address, s=f"{_LOCAL}@{domain}", h=helo)
        self._known = known

    def dns(
        self,
        name: str,
        qtype: str,
        cnames: object = None,  # noqa: ARG002 - the interface's; aliases have been followed
        ignore_void: bool = False,
    ) -> list[Any]:
        """The records of a name, in pyspf's forms."""
        question = Question(name.lower().removesuffix("."), qtype)
        if not is_name(question.name):
            return []
        if question not in self._known:
            raise _OpenQuestionError(question)
        values = self._known[question]
        if values is None:
            raise spf.TempError("DNS did not answer")
        if not values and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many names that are not there")
        return [_value(qtype, value) for value in values]


def check(address: str, domain: str, helo: str, known: Known) -> str | Question:
    """The result for a domain, as RFC 8601 2.7.2 names it, or what to ask DNS first.

    Macros see the given domain, address and HELO name, never the sender's local part.
    """
    try:
        return str(_Check(address, domain, helo, known).check()[0])
    except _OpenQuestionError as missing:
        return missing.question
    except _UNREADABLE:
        return "permerror"


def _value(kind: str, value: str) -> Any:
    """A record as pyspf wants it: TXT as a list of strings, MX as a pair.  Raises PermError."""
    if kind == "TXT":
        is_long = len(value) > RECORD or max(map(len, value.split(" "))) > TERM
        if is_long and value.lower().startswith("v=spf1"):
            raise spf.PermError("a record beyond all use")
        return [value.encode("latin-1")]
    if kind == "MX":
        preference, _, host = value.partition(" ")
        return int(preference), host.rstrip(".")
    return value.rstrip(".")
