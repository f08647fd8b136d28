"""The store: texts by kind and key, for as long as they are good, and counts.

What was looked up once is not looked up again, also after a restart.  The only importer of sqlite3,
whose errors end here: a store that fails costs speed, never a verdict.  What may not live here:
what the texts mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

MEMORY_ROWS = 10_000
"""Entries in memory: about 10 MB with answers of the usual 1 kB."""

FILE_ROWS = 100_000
"""Entries in the file: about 100 MB, three sources' answers on 30,000 domains."""

ENTRY_LIMIT = 16_384
"""Characters of a key and its text.  The longest answer, five search results, has about 2,000, or
12,000 where JSON spells each as an escape."""

READ_SECONDS = 0.1
"""Seconds for a read, which takes 0.1 ms: with a slow disk it is faster to do without."""

QUEUED = 1_000
"""Jobs that wait for the disk; 50 mails at once ask for some 600."""

RETRY = 60.0
"""Seconds after a failure until the file is tried again."""

LOCK_SECONDS = 1.0
"""Seconds to wait for another process, such as a backup, to give the file free."""

CLOSE_SECONDS = 1.0
"""Seconds for what is queued to be written at the end; serve.LAST_ANSWERS is twice that."""

SWEEP = 250
"""Writes between two removals of what is old or too much; the file has no more rows above its
bound."""

VERSION = 1
"""Of the tables; a file of another version begins anew, as all in it can be looked up again."""

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS entries (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        expires REAL NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS entries_expires ON entries (expires)",
)
# In the SQL of SQLite 3.34, which Enterprise Linux 9 has: there is no RETURNING yet.
_GET = "SELECT value FROM entries WHERE kind = :kind AND key = :key AND expires > :now"
_PUT = """
    INSERT INTO entries VALUES (:kind, :key, :value, :expires)
    ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""
_ADD = """
    INSERT INTO entries VALUES (:kind, :key, :amount, :expires)
    ON CONFLICT (kind, key) DO UPDATE SET
        value = excluded.value + CASE WHEN expires > :now THEN CAST(value AS INTEGER) ELSE 0 END,
        expires = CASE WHEN expires > :now THEN expires ELSE excluded.expires END
"""
_TRIM = """
    DELETE FROM entries WHERE (kind, key) IN (
        SELECT kind, key FROM entries ORDER BY expires
        LIMIT max(0, (SELECT count(*) FROM entries) - :rows)
    )
"""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Store(Protocol):
    """Texts by kind (a small word such as `dns`) and key.  Nothing here raises.

    Lives in one asyncio loop.  What is longer than ENTRY_LIMIT is not kept.
    """

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

    async def close(self) -> None:
        """Writes what is to be written, in bounded time.  The store is of no use afterwards."""
        ...


def open_store(url: str) -> Store:
    """The store at `memory://` or `sqlite:///absolute/path`.  Raises ValueError for others.

    Opens no file: that happens with its first use, and again whenever it failed.
    """
    if url == "memory://":
        return MemoryStore()
    path = url.removeprefix("sqlite://")
    if path == url or not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError(f'{url!r} is no store; use "memory://" or "sqlite:///absolute/path"')
    return SqliteStore(Path(path))


class MemoryStore:
    """In memory; beyond `rows` entries the one that was not used for the longest time goes."""

    def __init__(self, rows: int = MEMORY_ROWS, *, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

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
        if _fits(key, value):
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

    async def close(self) -> None:
        """See Store."""
        self._entries.clear()


class SqliteStore:
    """In one SQLite file, with a MemoryStore before it that also serves while the file fails.

    sqlite3 blocks: it is used in one thread of its own, which a hanging disk may hold for as long
    as it likes.  Writes are queued and not waited for.
    """

    def __init__(
        self, path: Path, rows: int = FILE_ROWS, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._front = MemoryStore(clock=clock)
        self._file = _File(path, rows)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._room = threading.Semaphore(QUEUED)

    async def get(self, kind: str, key: str) -> str | None:
        """See Store."""
        known = await self._front.get(kind, key)
        if known is not None:
            return known
        return await self._answer(functools.partial(self._file.get, kind, key, self._clock()))

    async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
        """See Store."""
        await self._front.put(kind, key, value, ttl)
        if _fits(key, value):
            now = self._clock()
            self._queue(functools.partial(self._file.put, kind, key, value, now, now + ttl))

    async def add(self, kind: str, key: str, amount: int, ttl: float) -> int:
        """See Store.  The file's count or ours since the start, whichever has seen more."""
        here = await self._front.add(kind, key, amount, ttl)
        now = self._clock()
        there = await self._answer(
            functools.partial(self._file.add, kind, key, amount, now, now + ttl)
        )
        if there is None or there <= here:
            return here
        await self._front.put(kind, key, str(there), ttl)
        return there

    async def close(self) -> None:
        """See Store."""
        with contextlib.suppress(RuntimeError):  # closed before
            last = self._thread.submit(self._file.close)
            await asyncio.wait([asyncio.wrap_future(last)], timeout=CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, job: Callable[[], T | None]) -> T | None:
        """What a job in the thread returns; None where that takes too long."""
        queued = self._queue(job)
        if queued is None:
            return None
        answer = asyncio.wrap_future(queued)
        done, _ = await asyncio.wait([answer], timeout=READ_SECONDS)
        return answer.result() if done else None

    def _queue(self, job: Callable[[], T]) -> Future[T] | None:
        """Queues a job for the thread; None where too many wait, or the store is closed."""
        if not self._room.acquire(blocking=False):
            return None
        try:
            queued = self._thread.submit(job)
        except RuntimeError:
            self._room.release()
            return None
        queued.add_done_callback(lambda _: self._room.release())
        return queued


class _File:
    """The SQLite file, for one thread.  Times are in seconds since 1970; nothing here raises."""

    def __init__(self, path: Path, rows: int) -> None:
        self._path = path
        self._rows = rows
        self._db: sqlite3.Connection | None = None
        self._writes = 0
        self._retry_at = 0.0
        self._fails = False

    def get(self, kind: str, key: str, now: float) -> str | None:
        """The text of an entry, if it is there."""
        row = self._run(lambda db: _row(db, _GET, {"kind": kind, "key": key, "now": now}))
        return row[0] if row and isinstance(row[0], str) else None

    def put(self, kind: str, key: str, value: str, now: float, expires: float) -> None:
        """Makes or replaces an entry."""
        entry = {"kind": kind, "key": key, "value": value, "expires": expires}

        def write(db: sqlite3.Connection) -> None:
            db.execute(_PUT, entry)
            self._wrote(db, now)

        self._run(write)

    def add(self, kind: str, key: str, amount: int, now: float, expires: float) -> int | None:
        """The new count; None where the file fails."""
        entry = {"kind": kind, "key": key, "amount": amount, "now": now, "expires": expires}

        def write(db: sqlite3.Connection) -> str:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_ADD, entry)
                row = _row(db, "SELECT value FROM entries WHERE kind = :kind AND key = :key", entry)
            self._wrote(db, now)
            return str(row[0]) if row else ""

        count = self._run(write)
        return int(count) if count and count.isdecimal() else None

    def close(self) -> None:
        """Closes the file; the next use would open it again."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        if time.monotonic() < self._retry_at:
            return None
        try:
            if self._db is None:
                self._open()
            assert self._db is not None  # noqa: S101  opened above
            return work(self._db)
        except UnicodeError:
            return None  # a lone surrogate, which no database holds
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return None

    def _open(self) -> None:
        # Created here for its mode, which SQLite then gives the files beside it too.  One that
        # exists must not be opened: closing it would end locks that SQLite holds in this process
        # (https://sqlite.org/howtocorrupt.html 2.2).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._db = db = sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None)
        db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        with db:
            db.execute("BEGIN IMMEDIATE")
            if _row(db, "PRAGMA user_version") != (VERSION,):
                db.execute("DROP TABLE IF EXISTS entries")
                db.execute(f"PRAGMA user_version = {VERSION:d}")
            for statement in _TABLES:
                db.execute(statement)

    def _wrote(self, db: sqlite3.Connection, now: float) -> None:
        if self._writes % SWEEP == 0:
            db.execute("DELETE FROM entries WHERE expires <= ?", (now,))
            db.execute(_TRIM, {"rows": self._rows})
        self._writes += 1
        if self._fails:
            self._fails = False
            _log.info("the store %s works again", self._path)

    def _give_up(self, error: sqlite3.Error | OSError) -> None:
        """Closes the file until later, or sets it aside if it is none that SQLite can read."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what extends it
        is_corrupt = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        self.close()
        if is_corrupt:
            with contextlib.suppress(OSError):
                # SQLite drops a log (-wal) left beside it when it meets the new, empty file.
                self._path.replace(self._path.with_name(f"{self._path.name}.corrupt"))
        if not self._fails:
            _log.warning("the store %s fails: %s; memory serves until it works", self._path, error)
        # A new file is begun at once, though not if that is no better.
        if not is_corrupt or self._fails:
            self._retry_at = time.monotonic() + RETRY
        self._fails = True


def _row(db: sqlite3.Connection, query: str, values: Mapping[str, object] | None = None) -> Any:
    return db.execute(query, values or {}).fetchone()


def _fits(key: str, value: str) -> bool:
    return len(key) + len(value) <= ENTRY_LIMIT
