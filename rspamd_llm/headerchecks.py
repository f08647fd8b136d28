"""What Postfix's tables for headers do to ours: each header put to each table by `postmap`.

What may not live here: what is made of it (advice.py).  Which table sees which header is Postfix's
(cleanup(8)): header_checks those that arrive, before any milter; milter_header_checks those that a
milter adds.  mime_header_checks and nested_header_checks never see a header of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from rspamd_llm import postfix, programs

NAMES = ("milter_header_checks", "header_checks")

# What keeps a header from where it is to be, or its mail.  HOLD, FILTER, REDIRECT, PREPEND and the
# like leave the header as it is: what they are for is the administrator's business.
_HARMFUL = frozenset(("IGNORE", "STRIP", "REPLACE", "DISCARD", "REJECT"))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a table does to a header: the setting that names it, the table, the header's name, and
    the action, a word of header_checks(5) or an SMTP code."""

    setting: str
    table: str
    header: str
    action: str


def losses(headers: tuple[tuple[str, str], ...]) -> tuple[Loss, ...]:
    """What becomes of headers, names and values, that should not; none where it cannot be told."""
    postconf = programs.find("postconf", beside=postfix.SBIN)
    postmap = programs.find("postmap", beside=postfix.SBIN)
    if postconf is None or postmap is None:
        return ()
    try:
        values = _settings(postconf)
    except (OSError, ValueError) as error:
        _log.debug("what postconf tells is of no use: %s", error or type(error).__name__)
        return ()
    return tuple(
        Loss(setting, table, header, action)
        for setting in NAMES
        for table in postfix.words(values.get(setting, ""))
        for header, action in _found(postmap, table, headers)
    )


def _settings(postconf: str) -> dict[str, str]:
    """main.cf's settings, and over them those of the cleanup service, which reads the tables."""
    main = postfix.values(_output(postconf, "-x", *NAMES, "cleanup_service_name"))
    own = postfix.values(_output(postconf, "-P", "-x"))
    service = f"{main.get('cleanup_service_name', 'cleanup')}/unix"
    return {name: own.get(f"{service}/{name}", main.get(name, "")) for name in NAMES}


def _found(
    postmap: str, table: str, headers: tuple[tuple[str, str], ...]
) -> Iterator[tuple[str, str]]:
    """Names of headers that a table takes away, each with the action."""
    lines = "".join(f"{name}: {value}\n" for name, value in headers)
    try:
        answer = _output(postmap, "-q", "-", table, told=lines)
    except (OSError, ValueError):
        return  # nothing is found, or the table is of no use to Postfix either
    for line in answer.splitlines():
        key, _, value = line.partition("\t")
        action = value.split(maxsplit=1)[0].upper() if value.strip() else ""
        if action in _HARMFUL or (action[:1] in ("4", "5") and action.isdecimal()):
            yield key.partition(":")[0], action


def _output(*command: str, told: str = "") -> str:
    return programs.output(*command, seconds=postfix.SECONDS, limit=postfix.LIMIT, told=told)
