"""The store: texts by kind and key, for as long as they are good, counts, and claims.

What was looked up or judged once is not asked again, also after a restart, and by several daemons
where they share one.  What may not live here: what the texts mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from rspamd_llm.store.base import ENTRY_LIMIT, Store
from rspamd_llm.store.memory import MemoryStore
from rspamd_llm.store.sqlite import SqliteStore

__all__ = ["ENTRY_LIMIT", "MemoryStore", "SqliteStore", "Store", "open_store"]

_SERVERS = ("valkey://", "valkeys://", "redis://", "rediss://")


def open_store(url: str) -> Store:
    """The store at a URL.  Raises ValueError for one that is of no use; its text shows no password.

    `memory://`, `sqlite:///absolute/path`, or `valkey://[[user]:password@]host[:port][/db]`; by
    `redis://` too, and with TLS by `valkeys://` and `rediss://`.

    Opens nothing: that happens with its first use, and again whenever it failed.
    """
    if url == "memory://":
        return MemoryStore()
    if url.startswith(_SERVERS):
        from rspamd_llm.store.valkey import ValkeyStore  # noqa: PLC0415  10 MB that few need

        return ValkeyStore(url)
    path = url.removeprefix("sqlite://")
    if path == url or not path.startswith("/") or path.endswith("/") or "\0" in path:
        shown = re.sub("//.*@", "//...@", url)
        raise ValueError(
            f'{shown!r} is no store; use "memory://", "sqlite:///absolute/path" or '
            '"valkey://host:port/db"'
        )
    return SqliteStore(Path(path))
