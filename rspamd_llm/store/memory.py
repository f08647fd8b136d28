"""The store in memory, which the other stores put before theirs as well."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from rspamd_llm.store.base import fits

MEMORY_ROWS = 10_000
"""Entries in memory: about 10 MB with answers of the usual 1 kB."""


class MemoryStore:
    """In memory; beyond `rows` entries the one that was not used for the longest time goes."""

    def __init__(self, rows: int = MEMORY_ROWS, *, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    @property
    def fault(self) -> str:
        """See Store."""
        return ""

    async def get(self, kind: str, key: str) -> str | None:
        """See Store."""
        value, expires = self._entries.get((kind, key), ("", 0.0))
        if expires <= self._clock():
            self._entries.pop((kind, key), None)
            return None
        self._entries.move_to_end((kind, key))
        return value

    async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
        """See Store."""
        self._entries.pop((kind, key), None)
        if fits(key, value):
            self._entries[kind, key] = (value, self._clock() + ttl)
            if len(self._entries) > self._rows:
                self._entries.popitem(last=False)

    async def add(self, kind: str, key: str, amount: int, ttl: float) -> int:
        """See Store."""
        known = await self.get(kind, key)
        if known is None:
            await self.put(kind, key, str(amount), ttl)
            return amount
        count = (int(known) if known.isdecimal() else 0) + amount
        self._entries[kind, key] = (str(count), self._entries[kind, key][1])
        return count

    async def claim(self, kind: str, key: str, seconds: float) -> bool:  # noqa: ARG002
        """See Store.  Nobody shares it."""
        return True

    async def release(self, kind: str, key: str) -> None:
        """See Store."""

    async def close(self) -> None:
        """See Store."""
        self._entries.clear()
