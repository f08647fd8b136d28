"""Counters: how often what happened, in a form that metrics can be made of.

What may not live here: exposition, and anything that counts.  Labels name kinds of things (a
source, an outcome), never domains or text of a mail: each combination is kept for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

Labels = tuple[tuple[str, str], ...]
"""Label names with their values, sorted by name."""


class Counters:
    """Numbers that only grow, each by its name and labels.  Every thread may use them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Counts `amount` more."""
        key = _key(name, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def value(self, name: str, **labels: str) -> int:
        """The count of exactly these labels; 0 for what was never counted."""
        with self._lock:
            return self._values.get(_key(name, labels), 0)

    def snapshot(self) -> Mapping[tuple[str, Labels], int]:
        """All counts of one moment, by name and labels."""
        with self._lock:
            return dict(self._values)


def _key(name: str, labels: Mapping[str, str]) -> tuple[str, Labels]:
    return name, tuple(sorted(labels.items()))
