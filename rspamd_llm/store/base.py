"""What every store is.  What may not live here: where the texts are kept."""

from __future__ import annotations

from typing import Protocol

ENTRY_LIMIT = 16_384
"""Characters of a key and its text.  The longest answer, five search results, has about 2,000, or
12,000 where JSON spells each as an escape."""


class Store(Protocol):
    """Texts by kind (a small word such as `dns`) and key.  Nothing here raises.

    Lives in one asyncio loop.  What is longer than ENTRY_LIMIT, or empty, need not be kept.
    """

    @property
    def fault(self) -> str:
        """Why it fails just now; empty while it works, as far as one can tell."""
        ...

    async def get(self, kind: str, key: str) -> str | None:
        """The text; None where it is unknown, has expired, or the store fails."""
        ...

    async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
        """Keeps a text for `ttl` seconds, in place of an earlier one."""
        ...

    async def add(self, kind: str, key: str, amount: int, ttl: float) -> int:
        """Counts `amount` more; the new count.

        A count lives for `ttl` seconds from its first addition, and `get` shows it in decimal.
        """
        ...

    async def claim(self, kind: str, key: str, seconds: float) -> bool:
        """Whether the work under this key is ours to do, for so many seconds or until `release`.

        False while another daemon has it.  Claiming again prolongs one's own claim.  True where the
        store fails, or is not shared: work done twice costs speed.  Within one daemon all claim as
        one: who of them works is theirs to settle.
        """
        ...

    async def release(self, kind: str, key: str) -> None:
        """Ends our own claim; nobody else's."""
        ...

    async def close(self) -> None:
        """Writes what is to be written, in bounded time.  The store is of no use afterwards."""
        ...


def fits(key: str, value: str) -> bool:
    """Whether an entry is short enough to be kept."""
    return len(key) + len(value) <= ENTRY_LIMIT
