"""The history of verdicts: written by the daemon, read by its page and by commands.

Writing never waits for the disk, and reading leaves no file behind.  A history that fails costs
records, never mail.  What may not live here: what is kept of a message (records.py), and the tables
(historyfile.py).
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rspamd_llm import records
from rspamd_llm.domain import Message, RspamdLlmError, Scan
from rspamd_llm.historyfile import COLUMNS, LOCK_SECONDS, File
from rspamd_llm.records import HAM, SPAM, Bucket, Filter, Record

__all__ = ["Bucket", "Filter", "History", "HistoryError", "Reader", "Record"]

ROWS = 200_000
"""Records in the file, of half a kilobyte each (four with the mail's text): three weeks of a
server with 10,000 mails a day."""

QUEUED = 1_000
"""Records that wait for the disk: more than can come while it is busy for some seconds."""

BATCH = 200
"""Records written at once, so that a slow disk is waited for once."""

SWEEP_SECONDS = 3600.0
"""Seconds between two removals of what is too old."""

CLOSE_SECONDS = 1.0
"""Seconds for what is queued to be written at the end, as the store's."""

READ_SECONDS = 5.0
"""Seconds for one question: the longest, over a full file, takes half a second."""

PAGE = 200
"""Records read at once, so that a reader does not keep the file from the writer."""

_SEARCHED = (
    "queue_id", "code", "cause", "category", "reason", "model", "sender_domain", "evidence",
    "subject", "sender", "addresses", "text",
)  # fmt: skip
_COUNTS = """
    WITH placed AS (
        SELECT CAST((at - :since) / :step AS INTEGER) AS place, status, score
        FROM verdicts WHERE at >= :since
    )
    SELECT place, sum(score <= :ham), sum(score > :ham AND score < :spam), sum(score >= :spam),
        sum(status = 'skipped'), sum(status = 'unscored')
    FROM placed GROUP BY place ORDER BY place
"""
# The nearest rank: the least value that so many of a hundred do not exceed.
_TIMES = """
    WITH placed AS (
        SELECT CAST((at - :since) / :step AS INTEGER) AS place, seconds
        FROM verdicts WHERE at >= :since AND status <> 'skipped'
    ), ranked AS (
        SELECT place, seconds,
            row_number() OVER (PARTITION BY place ORDER BY seconds) AS rank,
            count(*) OVER (PARTITION BY place) AS number
        FROM placed
    )
    SELECT place,
        max(CASE WHEN rank = (number + 1) / 2 THEN seconds END),
        max(CASE WHEN rank = (number * 95 + 99) / 100 THEN seconds END)
    FROM ranked GROUP BY place
"""

_IN_BAND = {
    "unwanted": "score >= :spam",
    "uncertain": "score > :ham AND score < :spam",
    "wanted": "score <= :ham",
}
_EVERYTHING = Filter()

_log = logging.getLogger(__name__)


class HistoryError(RspamdLlmError):
    """The history cannot be read; the text says why."""


class History:
    """Keeps what becomes of messages.  Any thread may note, and none waits for the disk."""

    def __init__(
        self,
        path: Path,
        *,
        days: int,
        full: bool,
        rows: int = ROWS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keeps records for so many days, at most `rows` of them; `full` as records.record."""
        self._file = File(path, days=days, full=full, rows=rows, clock=clock)
        self._full = full
        self._clock = clock
        self._queue: queue.Queue[Record | None] = queue.Queue(QUEUED)
        self._lost = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why the file fails; empty while it works."""
        return self._file.fault

    @property
    def dropped(self) -> int:
        """Records that were not kept since the start: too many at once, or the file failed."""
        return self._lost + self._file.lost

    def note(self, message: Message, scan: Scan) -> None:
        """Keeps what became of a message, soon.  Raises nothing, and waits for nothing."""
        try:
            self._queue.put_nowait(records.record(message, scan, at=self._clock(), full=self._full))
        except Exception as error:  # noqa: BLE001  mail flows whatever our own mistakes
            if not isinstance(error, queue.Full):
                _log.debug("a record could not be made: %s", type(error).__name__)
            with self._counting:
                self._lost += 1

    def close(self) -> None:
        """Writes what is queued, if that takes no longer than CLOSE_SECONDS."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        self._file.sweep()
        swept = time.monotonic()
        goes_on = True
        while goes_on:
            batch, goes_on = self._next(swept + SWEEP_SECONDS - time.monotonic())
            if batch:
                self._file.add(batch)
            if time.monotonic() - swept >= SWEEP_SECONDS:
                self._file.sweep()
                swept = time.monotonic()
        self._file.close()

    def _next(self, seconds: float) -> tuple[list[Record], bool]:
        """What is queued, waited for so long, and whether more may come."""
        batch: list[Record] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH:
                entry = self._queue.get(timeout=max(0.0, seconds) if not batch else 0.0)
                if entry is None:
                    return batch, False
                batch.append(entry)
        return batch, True


class Reader:
    """Reads a history, also one that another process writes.  Leaves no file behind.

    Every method raises HistoryError where there is no history or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def recent(
        self, wanted: Filter = _EVERYTHING, *, before: int | None = None, most: int = PAGE
    ) -> tuple[Record, ...]:
        """The newest records that fit, newest first; `before` an id, for the next page."""
        terms, values = _terms(wanted)
        if before is not None:
            terms.append("id < :before")
        query = f"{_select(terms)} ORDER BY id DESC LIMIT :most"
        return self._records(query, values | {"before": before, "most": min(most, PAGE)})

    def one(self, number: int) -> Record | None:
        """The record of an id, if it is there."""
        return next(iter(self._records(_select(["id = :id"]), {"id": number})), None)

    def since(self, at: float) -> Iterator[Record]:
        """All records from a time on, oldest first; the file is free between any two pages."""
        # The + keeps SQLite from sorting all of them by time for each page.
        query = f"{_select(['id > :id', '+at >= :at'])} ORDER BY id LIMIT :most"
        first = self._rows("SELECT min(id) FROM verdicts WHERE at >= :at", {"at": at})[0][0]
        last = (first or 1) - 1
        while page := self._records(query, {"id": last, "at": at, "most": PAGE}):
            yield from page
            last = page[-1].id

    def categories(self) -> tuple[str, ...]:
        """The categories that verdicts have, in order."""
        rows = self._rows("SELECT DISTINCT category FROM verdicts WHERE status = 'scored'", {})
        return tuple(sorted(str(row[0]) for row in rows))

    def buckets(self, since: float, step: float) -> tuple[Bucket, ...]:
        """Counts and times by spans of `step` seconds from `since` on; spans without mail are left
        out."""
        span = {"since": since, "step": step}
        times = {row[0]: row[1:] for row in self._rows(_TIMES, span)}
        found = []
        for place, *counts in self._rows(_COUNTS, span | {"ham": HAM, "spam": SPAM}):
            wanted, uncertain, unwanted, skipped, unscored = (count or 0 for count in counts)
            median, p95 = times.get(place, (None, None))
            found.append(
                Bucket(
                    at=since + place * step,
                    wanted=wanted,
                    uncertain=uncertain,
                    unwanted=unwanted,
                    skipped=skipped,
                    unscored=unscored,
                    median=median,
                    p95=p95,
                )
            )
        return tuple(found)

    def _records(self, query: str, values: Mapping[str, object]) -> tuple[Record, ...]:
        try:
            return tuple(map(_record, self._rows(query, values)))
        except (ValueError, TypeError, AttributeError) as error:
            raise HistoryError(f"{self._path}: holds what is no record") from error

    def _rows(self, query: str, values: Mapping[str, object]) -> list[Any]:
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as db:
                db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
                until = time.monotonic() + READ_SECONDS
                db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                return db.execute(query, dict(values)).fetchall()
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise HistoryError(f"{self._path}: {error}") from error


def _select(terms: Sequence[str]) -> str:
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    return f"SELECT id, {', '.join(COLUMNS)} FROM verdicts{where}"  # noqa: S608  names are ours


def _terms(wanted: Filter) -> tuple[list[str], dict[str, object]]:
    terms = []
    if wanted.status:
        terms.append("status = :status")
    if wanted.category:
        terms.append("category = :category")
    if wanted.band:
        terms.append(_IN_BAND[wanted.band])
    if wanted.text:
        terms.append(f"({' OR '.join(f'{name} LIKE :like ESCAPE :sign' for name in _SEARCHED)})")
    literal = "".join(f"\\{sign}" if sign in "\\%_" else sign for sign in wanted.text)
    return terms, {
        "status": wanted.status,
        "category": wanted.category,
        "ham": HAM,
        "spam": SPAM,
        "like": f"%{literal}%",
        "sign": "\\",
    }


def _record(row: Sequence[Any]) -> Record:
    values = dict(zip(("id", *COLUMNS), row, strict=True))
    del values["seconds"]
    for name in ("evidence", "missing", "addresses"):
        values[name] = tuple(map(str, json.loads(values[name])))
    values["stages"] = {name: float(told) for name, told in json.loads(values["stages"]).items()}
    return Record(**values | {"injection": bool(values["injection"])})
