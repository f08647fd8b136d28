"""The file that a history is written to, in SQLite, and the tables in it.

Beside history.py and store/sqlite.py the only importer of sqlite3, whose errors end here.  What may
not live here: threads, and reading (history.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rspamd_llm.records import Record

RETRY = 60.0
"""Seconds after a failure until the file is tried again."""

LOCK_SECONDS = 1.0
"""Seconds to wait for another process to give the file free; a reader holds it for milliseconds."""

_DAY = 86_400.0
_VERSION = 1
_APPLICATION = 0x6770_7468
"""Names our files as ours (PRAGMA application_id), lest another program's be written to."""

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS verdicts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        queue_id TEXT NOT NULL,
        status TEXT NOT NULL,
        code TEXT NOT NULL,
        cause TEXT NOT NULL,
        score REAL,
        category TEXT NOT NULL,
        reason TEXT NOT NULL,
        model TEXT NOT NULL,
        cache TEXT NOT NULL,
        injection INTEGER NOT NULL,
        forged INTEGER NOT NULL,
        sender_domain TEXT NOT NULL,
        evidence TEXT NOT NULL,
        missing TEXT NOT NULL,
        stages TEXT NOT NULL,
        seconds REAL NOT NULL,
        tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        size INTEGER NOT NULL,
        subject TEXT NOT NULL,
        sender TEXT NOT NULL,
        addresses TEXT NOT NULL,
        text TEXT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS verdicts_at ON verdicts (at)",
)
COLUMNS = (
    "at", "queue_id", "status", "code", "cause", "score", "category", "reason", "model", "cache",
    "injection", "forged", "sender_domain", "evidence", "missing", "stages", "seconds",
    "tokens_in", "tokens_out", "recipients", "size", "subject", "sender", "addresses", "text",
)  # fmt: skip
_LISTS = ("evidence", "missing", "stages", "addresses")
# In the SQL of SQLite 3.34, which Enterprise Linux 9 has.  All names in it are ours.
_INSERT = (
    f"INSERT INTO verdicts ({', '.join(COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join(f':{name}' for name in COLUMNS)})"
)
_FORGET = """
    UPDATE verdicts SET subject = '', sender = '', addresses = '[]', text = ''
    WHERE subject <> '' OR sender <> '' OR addresses <> '[]' OR text <> ''
"""
_log = logging.getLogger(__name__)


class File:
    """The SQLite file, for one thread; nothing here raises.

    With a rollback journal and no write-ahead log: one who only reads then needs no file of his own
    beside it, which a command run by root would leave there.
    """

    def __init__(
        self, path: Path, *, days: int, full: bool, rows: int, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._kept = days * _DAY
        self._full = full
        self._rows = rows
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._retry_at = 0.0
        self.fault = ""
        """Why it fails; empty while it works.  Another thread may read it."""
        self.lost = 0
        """Records that could not be written."""

    def add(self, batch: Sequence[Record]) -> None:
        """Adds records, and removes the oldest beyond the bound."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_INSERT, map(_row, batch))
            db.execute(
                "DELETE FROM verdicts WHERE id <= (SELECT max(id) FROM verdicts) - ?",
                (self._rows,),
            )

        if not self._write(write):
            self.lost += len(batch)

    def sweep(self) -> None:
        """Removes what is older than the days it is kept."""
        oldest = self._clock() - self._kept
        self._write(lambda db: db.execute("DELETE FROM verdicts WHERE at < ?", (oldest,)))

    def close(self) -> None:
        """Closes the file; the next use would open it again."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Runs work in one transaction; False where it failed."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            db = self._db or self._open()
            with db:
                db.execute("BEGIN IMMEDIATE")
                work(db)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return False
        except (ValueError, TypeError, OverflowError) as error:  # what no database holds
            _log.debug("records could not be written: %s", type(error).__name__)
            return False
        if self.fault:
            self.fault = ""
            _log.info("the history %s works again", self._path)
        return True

    def _open(self) -> sqlite3.Connection:
        # Made here for its mode, which SQLite then gives the journal too.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._db = db = sqlite3.connect(self._path, timeout=LOCK_SECONDS, isolation_level=None)
        with db:
            db.execute("BEGIN IMMEDIATE")
            has_tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if has_tables and _mark(db, "application_id") != _APPLICATION:
                raise sqlite3.OperationalError("the file is another program's")
            if _mark(db, "user_version") != _VERSION:
                db.execute("DROP TABLE IF EXISTS verdicts")
                db.execute(f"PRAGMA application_id = {_APPLICATION:d}")
                db.execute(f"PRAGMA user_version = {_VERSION:d}")
            for statement in _TABLES:
                db.execute(statement)
        # What is removed shall be gone from the disk, not only from the tables.
        db.execute("PRAGMA secure_delete = ON")
        if not self._full:
            db.execute(_FORGET)
        return db

    def _give_up(self, error: sqlite3.Error | OSError) -> None:
        """Closes the file until later, or sets it aside if it is none that SQLite can read."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what extends it
        is_corrupt = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        self.close()
        if is_corrupt:
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name(f"{self._path.name}.corrupt"))
        if not self.fault:
            _log.warning(
                "the history %s fails: %s; nothing is kept until it works", self._path, error
            )
        # A new file is begun at once, though not if that is no better.
        if not is_corrupt or self.fault:
            self._retry_at = time.monotonic() + RETRY
        self.fault = str(error) or type(error).__name__


def _mark(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _row(record: Record) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(record, name) for name in COLUMNS}
    return row | {name: json.dumps(row[name], ensure_ascii=False) for name in _LISTS}
