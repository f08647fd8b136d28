"""The store in one SQLite file.

The errors of sqlite3 end here: a store that fails costs speed, never mail.
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
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from rspamd_llm.store.base import fits
from rspamd_llm.store.memory import MemoryStore

FILE_ROWS = 50_000
"""Entries of a kind in the file, so that none pushes out another: about 50 MB for each source's
answers, 10 MB for verdicts and for correspondents."""

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
"""Writes of a kind between two removals of what of it is old or too much; the file has no more rows
above its bound."""

VERSION = 2
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
    "CREATE INDEX IF NOT EXISTS entries_expires ON entries (kind, expires)",
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
        SELECT kind, key FROM entries WHERE kind = :kind ORDER BY expires
        LIMIT max(0, (SELECT count(*) FROM entries WHERE kind = :kind) - :rows)
    )
"""

T = TypeVar("T")

_log = logging.getLogger(__name__)


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

    @property
    def fault(self) -> str:
        """See Store."""
        return self._file.fault

    async def get(self, kind: str, key: str) -> str | None:
        """See Store."""
        known = await self._front.get(kind, key)
        if known is not None:
            return known
        return await self._answer(functools.partial(self._file.get, kind, key, self._clock()))

    async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
        """See Store."""
        await self._front.put(kind, key, value, ttl)
        if fits(key, value):
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

    async def claim(self, kind: str, key: str, seconds: float) -> bool:  # noqa: ARG002
        """See Store.  Nobody shares it."""
        return True

    async def release(self, kind: str, key: str) -> None:
        """See Store."""

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
        self._writes: Counter[str] = Counter()
        self._retry_at = 0.0
        self.fault = ""
        """Why it fails; empty while it works.  Another thread may read it."""

    def get(self, kind: str, key: str, now: float) -> str | None:
        """The text of an entry, if it is there."""
        row = self._run(lambda db: _row(db, _GET, {"kind": kind, "key": key, "now": now}))
        return row[0] if row and isinstance(row[0], str) else None

    def put(self, kind: str, key: str, value: str, now: float, expires: float) -> None:
        """Makes or replaces an entry."""
        entry = {"kind": kind, "key": key, "value": value, "expires": expires}

        def write(db: sqlite3.Connection) -> None:
            db.execute(_PUT, entry)
            self._wrote(db, kind, now)

        self._run(write)

    def add(self, kind: str, key: str, amount: int, now: float, expires: float) -> int | None:
        """The new count; None where the file fails."""
        entry = {"kind": kind, "key": key, "amount": amount, "now": now, "expires": expires}

        def write(db: sqlite3.Connection) -> str:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_ADD, entry)
                row = _row(db, "SELECT value FROM entries WHERE kind = :kind AND key = :key", entry)
            self._wrote(db, kind, now)
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

    def _wrote(self, db: sqlite3.Connection, kind: str, now: float) -> None:
        if self._writes[kind] % SWEEP == 0:
            db.execute("DELETE FROM entries WHERE kind = ? AND expires <= ?", (kind, now))
            db.execute(_TRIM, {"kind": kind, "rows": self._rows})
        self._writes[kind] += 1
        if self.fault:
            self.fault = ""
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
        if not self.fault:
            _log.warning("the store %s fails: %s; memory serves until it works", self._path, error)
        # A new file is begun at once, though not if that is no better.
        if not is_corrupt or self.fault:
            self._retry_at = time.monotonic() + RETRY
        self.fault = str(error) or type(error).__name__


def _row(db: sqlite3.Connection, query: str, values: Mapping[str, object] | None = None) -> Any:
    return db.execute(query, values or {}).fetchone()
