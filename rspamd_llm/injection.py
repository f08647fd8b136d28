"""Mail -> signs that its text speaks to a model.

A fact and a header flag, never a score: mails that talk about prompt injection are legitimate, and
the model, told of the fact, judges.  Plain functions; bounded by what they look at.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from rspamd_llm.domain import Facts, Finding, Flag, Mail

LOOKED_AT = 30_000
"""Characters of all texts together: an order that stands further down is not shown to the model."""

# Up to a few words between two; \W covers what is put between words to slip through.
_GAP = r"(?:\W+\w+){0,5}?\W+"


AROUND = 160
"""Characters on each side of a sign's word in which its pattern is looked for: some 25 words."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A sign: its pattern, and words near one of which all that it matches stands."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]

    def stands_in(self, text: str, lowered: str) -> bool:
        """Whether the pattern matches around one of the words."""
        end = 0
        for at in sorted(set(_places(self.words, lowered))):
            if at + AROUND <= end:
                continue
            start, end = max(at - AROUND, end - AROUND, 0), at + 2 * AROUND
            if self.pattern.search(text, start, end):
                return True
        return False


def _places(words: tuple[str, ...], text: str) -> Iterator[int]:
    for word in words:
        at = text.find(word)
        while at >= 0:
            yield at
            at = text.find(word, at + AROUND)


@functools.cache
def _signs() -> Mapping[str, _Sign]:
    """The signs by their names, from the package's list."""
    text = (resources.files("rspamd_llm") / "data" / "injection.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(text)
    parts = {name: f"(?:{'|'.join(listed[name])})" for name in ("MODEL", "ASK")} | {"GAP": _GAP}

    def compiled(alternatives: list[str]) -> re.Pattern[str]:
        joined = "|".join(f"(?:{alternative})" for alternative in alternatives)
        for name, part in parts.items():
            joined = joined.replace(f"{{{name}}}", part)
        return re.compile(joined, re.IGNORECASE | re.MULTILINE)

    return {
        name: _Sign(tuple(sign["words"]), compiled(sign["patterns"]))
        for name, sign in listed["signs"].items()
    }


STRONG = frozenset(("override", "turns", "fence", "task"))
"""Signs that no honest mail needs, so that one is enough."""


def signs(mail: Mail) -> tuple[str, ...]:
    """The names of the signs found: override, addressed, answer, turns, fence, task.

    One alone of `addressed` and `answer` is what newsletters about the subject have: it takes
    both, or a strong one, or any in text that is hidden from the reader.
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
            *(member for file in mail.attachments for member in file.members),
            *(f"{quoted.subject}\n{quoted.text}" for quoted in mail.quoted),
        )
    )[:LOOKED_AT]
    found = _found(shown)
    secret = _found(mail.hidden[:LOOKED_AT])
    if secret or len(found) > 1 or found & STRONG:
        return tuple(name for name in _signs() if name in found | secret)
    return ()


def prepare() -> None:
    """Reads the list ahead of the first mail."""
    _signs()


def _found(text: str) -> set[str]:
    lowered = text.lower()
    return {name for name, sign in _signs().items() if sign.stands_in(text, lowered)}


def noted(facts: Facts, mail: Mail) -> Facts:
    """The facts, with a finding where the mail speaks to a model."""
    found = signs(mail)
    if not found:
        return facts
    finding = Finding(flag=Flag.ADDRESSES_MODEL, detail=", ".join(found))
    return dataclasses.replace(facts, findings=(finding, *facts.findings))
