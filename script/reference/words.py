"""Prose -> prose with what is written as it stands marked by backticks, and wrapped lines.

What may not live here: any form but that.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

_ALWAYS = (
    r"\b[a-z]+://(?:[^\s,;)]*\w)?",  # a URL
    r'[a-z_.]+ = (?:"[^"]*"|\w+)',  # an assignment
    r'"[^"]*"',
    r"\b[A-Z]{3,}_[A-Z_]+\b",  # a variable of an environment
    r"\$[A-Z_]+",
    r"(?<!\w)/[\w./-]+\w",  # a path
)


def marked(text: str, names: Iterable[str] = ()) -> str:
    """Backticks around values, paths of files and assignments, and around `names`.

    What has backticks already is left as it is.
    """
    known = (rf"\b{re.escape(name)}\b" for name in sorted(names, key=len, reverse=True))
    pattern = re.compile("|".join((*_ALWAYS, *known)))
    parts = text.split("`")
    parts[::2] = [pattern.sub(lambda found: f"`{found[0]}`", part) for part in parts[::2]]
    return "`".join(parts)


def wrapped(text: str, *, width: int, indent: str = "") -> str:
    """The text in lines of at most `width`, all but the first indented."""
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
