"""How many tokens a text costs: bounds, and what a server's own counts teach.

What may not live here: asking a server (llm.py).
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

CHAT = 64
"""Tokens that a chat template adds around two messages; the known ones need fewer than 40."""

_CHEAP = (string.ascii_letters + string.whitespace).encode()


def at_most(text: str) -> int:
    """A bound from above in the vocabularies of common models.

    ASCII letters and blanks run to 4 a token in prose and seldom below 2.5; digits and signs are
    often a token each; other letters about one each; what is outside the BMP up to 4.
    """
    plain = text.encode("ascii", "ignore")
    signs = len(plain.translate(None, _CHEAP))
    foreign = len(text) - len(plain)
    beyond_bmp = len(text.encode("utf-16-le", "surrogatepass")) // 2 - len(text)
    cost = 0.4 * (len(plain) - signs) + signs + 1.2 * (foreign - beyond_bmp) + 4.0 * beyond_bmp
    return int(cost) + 1


def fitting(text: str, tokens: int) -> str:
    """The longest head of the text that costs at most so many tokens, found by bisection."""
    # No sign costs less than a third of a token.
    low, high = 0, min(len(text), max(0, tokens) * 3)
    if at_most(text[:high]) <= tokens:
        return text[:high]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at_most(text[:middle]) <= tokens else (low, middle - 1)
    return text[:low]


# Words, and runs of signs: vocabularies seldom join two of them, and never across a blank.
_SEGMENT = re.compile(r"[^\W_]+|(?:[^\w\s]|_)+")


def at_least(text: str) -> int:
    """About the least that a text costs: a token for each word and each run of signs."""
    return len(_SEGMENT.findall(text))


MARGIN = 0.8
"""A count below this share of the least that is expected is a cut, not a matter of tokenisers."""

CUT_LEAST = 900
"""A cut prompt fills its context, and the smallest that servers give is 1,024 less an answer; a
count below is of a server that leaves out what it has cached."""


def is_cut(prompt: str, count: int) -> bool:
    """Whether a server's count tells that it read less than the prompt.

    A missing or zero count, and one that leaves out cached tokens, tell nothing.
    """
    return CUT_LEAST <= count < MARGIN * at_least(prompt)


@dataclass(frozen=True, slots=True)
class Meter:
    """What one server's answers have taught: its counts as shares of our bound from above."""

    most: float = 0.0

    def learned(self, bound: int, count: int) -> Meter:
        """The meter after an answer that was not cut."""
        return Meter(max(self.most, count / bound)) if count > 0 and bound > 0 else self

    @property
    def factor(self) -> float:
        """What our bound must be multiplied with to be one for this server too; at least 1."""
        return max(1.0, self.most)
