"""What of a text that a mail carries stands in a prompt where only our own words may stand.

Knows the form of our fences (rspamd_llm.fence) and nothing of how the prompt is worded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from rspamd_llm import fence

WINDOW = 16
"""Letters in a row that make a find: shorter ones stand in our own words by chance."""

WINDOW_IDEOGRAPHS = 6
"""The same in Chinese and Japanese, where a letter says more."""

_UNSAID = re.compile(r"[\W_]+")


def edges(mark: str) -> tuple[str, str]:
    """The lines that open and close a fence with this mark."""
    lines = fence.fence("x", mark).split("\n")
    return lines[0], lines[-1]


def outside(user: str, mark: str) -> str:
    """The lines of a user text that stand outside of the fences with this mark.

    A fence that is not closed hides nothing: what stands after it counts as outside.
    """
    opening, closing = edges(mark)
    free: list[str] = []
    held: list[str] | None = None
    for line in user.split("\n"):
        if held is None and line == opening:
            held = []
        elif held is not None and line == closing:
            held = None
        else:
            (free if held is None else held).append(line)
    return "\n".join([*free, *(held or ())])


def letters(text: str) -> str:
    """A text's letters and digits alone, folded: what is left of it however it was defused."""
    return _UNSAID.sub("", unicodedata.normalize("NFKC", text).casefold())


def fragments(planted: Iterable[str], text: str, known: str = "") -> tuple[str, ...]:
    """The runs of planted texts that stand in a text, folded; not those that `known` has as well.

    `known` is the same text of a mail with nothing planted.
    """
    found: dict[str, None] = {}
    there, ours = letters(text), letters(known)
    for one in planted:
        folded = letters(one)
        size = min(_window(folded), len(folded))
        last = -2
        run = ""
        for start in range(len(folded) - size + 1):
            window = folded[start : start + size]
            if window not in there or window in ours:
                continue
            if start == last + 1:
                run += window[-1]
            else:
                found[run] = None
                run = window
            last = start
        found[run] = None
    found.pop("", None)
    return tuple(found)


def spelled(tokens: Iterable[str], user: str) -> tuple[str, ...]:
    """The special tokens that stand in a user text, wherever in it."""
    return tuple(token for token in tokens if token in user)


def _window(folded: str) -> int:
    ideographs = sum(sign > "\u2e7f" for sign in folded)
    return WINDOW_IDEOGRAPHS if 2 * ideographs > len(folded) else WINDOW
