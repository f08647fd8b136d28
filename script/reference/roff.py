"""The few requests of man(7) that our pages use.

Prose goes in as words.py marks it: what stands in backticks comes out bold.  What may not live
here: what a page says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from script.reference.words import wrapped

WIDTH = 78
"""Columns of a source line; mandoc complains above 80."""

_LITERAL = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga"}
)
_PROSE = str.maketrans({"\\": r"\e", "^": r"\(ha", "~": r"\(ti"})
_SENTENCE = re.compile(r"(?<=[\w)\"}][.!?]) (?=[A-Z\"\\])")
_USAGE = re.compile(r"(?P<bold>(?<![\w-])-{1,2}[a-z][a-z-]*)|(?P<italic>\b[A-Z]+\b)")


def bold(text: str) -> str:
    """What is typed as it stands."""
    return rf"\fB{text.translate(_LITERAL)}\fR"


def usage(text: str) -> str:
    """A usage line: options bold, what the reader fills in italic."""

    def styled(found: re.Match[str]) -> str:
        if found["bold"]:
            return bold(found["bold"])
        return rf"\fI{found['italic']}\fR"

    return _USAGE.sub(styled, text)


def prose(text: str) -> str:
    """A paragraph's lines: each sentence begins a line, as man(7) asks for."""
    parts = text.split("`")
    styled = "".join(
        bold(part) if number % 2 else part.translate(_PROSE) for number, part in enumerate(parts)
    )
    lines = [wrapped(sentence, width=WIDTH) for sentence in _SENTENCE.split(styled)]
    return "\n".join(_line(line) for chunk in lines for line in chunk.split("\n"))


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """A list of terms, which are roff already, and what they mean, which is prose."""
    return "\n".join(f".TP\n{_line(term)}\n{prose(meaning)}" for term, meaning in items)


def paragraphs(*found: str) -> str:
    """Prose, parted by space."""
    return "\n.PP\n".join(prose(text) for text in found)


def literal(lines: Iterable[str]) -> str:
    """Lines as they stand, indented."""
    body = "\n".join(_line(line.translate(_LITERAL)) for line in lines)
    return f".PP\n.RS 4\n.nf\n{body}\n.fi\n.RE"


def _line(text: str) -> str:
    """A line that is no request, and is ASCII."""
    text = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in text)
    return rf"\&{text}" if text.startswith((".", "'")) else text
