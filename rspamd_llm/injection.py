"""Mail -> signs that its text speaks to a model.

A fact and a header flag, never a score: mails that talk about prompt injection are legitimate, and
the model, told of the fact, judges.  Plain functions; bounded by what they look at.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources

from rspamd_llm.domain import Facts, Finding, Flag, Mail

LOOKED_AT = 30_000
"""Characters of all texts together: an order that stands further down is not shown to the model."""

# Up to a few words between two; \W covers what is put between words to slip through.
_GAP = r"(?:\W+\w+){0,5}?\W+"


@functools.cache
def _patterns() -> Mapping[str, re.Pattern[str]]:
    """Sign to pattern, from the package's list."""
    text = (resources.files("rspamd_llm") / "data" / "injection.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(text)
    words = {name: f"(?:{'|'.join(listed[name])})" for name in ("MODEL", "ASK")} | {"GAP": _GAP}

    def compiled(alternatives: list[str]) -> re.Pattern[str]:
        joined = "|".join(f"(?:{alternative})" for alternative in alternatives)
        for name, pattern in words.items():
            joined = joined.replace(f"{{{name}}}", pattern)
        return re.compile(joined, re.IGNORECASE | re.MULTILINE)

    return {name: compiled(alternatives) for name, alternatives in listed["signs"].items()}


def signs(mail: Mail) -> tuple[str, ...]:
    """The names of the signs found: override, addressed, answer, turns, fence, task.

    One alone of `addressed` and `answer` is what newsletters about the subject have: it takes two
    signs, or one that no honest mail needs, or one in text that is hidden from the reader.
    """
    shown = "\n".join(
        (
            mail.from_name,
            mail.subject,
            mail.text,
            mail.plain if mail.plain != mail.text else "",
            *(link.text for link in mail.links),
            *mail.alts,
            *(file.name for file in mail.attachments),
            *(f"{quoted.subject}\n{quoted.text}" for quoted in mail.quoted),
        )
    )[:LOOKED_AT]
    patterns = _patterns()
    found = {name for name, pattern in patterns.items() if pattern.search(shown)}
    hidden = mail.hidden[:LOOKED_AT]
    secret = {name for name, pattern in patterns.items() if pattern.search(hidden)}
    if secret or len(found) > 1 or found & {"override", "turns", "fence", "task"}:
        return tuple(name for name in patterns if name in found | secret)
    return ()


def noted(facts: Facts, mail: Mail) -> Facts:
    """The facts, with a finding where the mail speaks to a model."""
    found = signs(mail)
    if not found:
        return facts
    finding = Finding(flag=Flag.ADDRESSES_MODEL, detail=", ".join(found))
    return dataclasses.replace(facts, findings=(finding, *facts.findings))
