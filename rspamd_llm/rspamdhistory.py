"""What Rspamd did with each mail, read from its history or its log: bytes in, values out.

The history as the controller answers it (`GET /history`), whether Rspamd keeps it in Redis or in
memory, the same saved in a file, one JSON object a line, or Rspamd's log.  Senders choose much of
these texts, so nothing of them is taken but what is named here.  What may not live here: where the
bytes come from (rspamdfetch.py), and what is made of them (summary.py).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GROUNDS = 3
"""Symbols that are told beside a mail, those with most points first: what one line has room for."""

SYMBOLS_READ = 300
"""Symbols read of one mail: a stock Rspamd gives some 20."""

CLAIMS = {"LLM_SPAM": "unwanted", "LLM_UNCERTAIN": "uncertain", "LLM_HAM": "wanted"}
"""What each of our plugin's symbols says the model thinks (docs/plugin.md)."""

_NOT_CATEGORIES = frozenset(CLAIMS) | {
    "LLM_SKIPPED",
    "LLM_UNSCORED",
    "LLM_ABSENT",
    "LLM_FORGED",
    "LLM_OBSERVED",
}
_SYMBOL = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_SCORE = re.compile(r"(?:0\.\d\d|1\.00)\Z")
_ACTION_LIMIT = 32  # the longest of Rspamd's own, `rewrite subject`, has 15 signs


@dataclass(frozen=True, slots=True, kw_only=True)
class RspamdScan:
    """What Rspamd did with one mail."""

    at: float | None
    """Unix seconds; None where a log line does not tell."""
    queue_id: str
    """Empty where it is not told: only the log tells it."""
    action: str
    score: float
    limit: float | None
    """The score from which on mail is rejected."""
    grounds: tuple[str, ...]
    """The symbols with most points, ours left out, such as `BAYES_SPAM 5.1`; none where Rspamd
    keeps names only."""
    claim: str
    """What our plugin understood of the model: unwanted, uncertain, wanted, or empty."""
    claimed_score: float | None
    category: str
    """Lower case, as the daemon names it; `none` without."""
    is_absent: bool
    """There was no verdict of ours."""
    is_forged: bool
    """There was one that our plugin did not believe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RspamdHistory:
    """What was read."""

    scans: tuple[RspamdScan, ...]
    unread: int = 0
    """Entries that were not understood."""


class NoHistoryError(ValueError):
    """The bytes are none of the forms; the text says so."""


# --- JSON -----------------------------------------------------------------------------------


def from_json(data: bytes) -> RspamdHistory:
    """The history of a controller's answer, or of one object a line.  Raises NoHistoryError."""
    text = data.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return from_rows(text.splitlines())
    if isinstance(document, dict):
        # Rspamd's own memory answers with a list, Redis with an object that has one.
        document = document.get("rows", [document])
    if not isinstance(document, list):
        raise NoHistoryError("it is JSON, but no history of Rspamd's")
    return _understood(document)


def from_rows(rows: Iterable[str | bytes]) -> RspamdHistory:
    """The history of rows that are JSON each.  Raises NoHistoryError where none is."""

    def parsed() -> Iterator[Any]:
        for row in rows:
            if row.strip():
                try:
                    yield json.loads(row)
                except (ValueError, RecursionError):
                    yield None

    return _understood(parsed())


def _understood(rows: Iterable[Any]) -> RspamdHistory:
    scans, unread = [], 0
    for row in rows:
        scan = _scan(row) if isinstance(row, dict) else None
        if scan is None:
            unread += 1
        else:
            scans.append(scan)
    if unread and not scans:
        raise NoHistoryError("nothing in it is a row of Rspamd's history")
    return RspamdHistory(scans=tuple(scans), unread=unread)


def _scan(row: Mapping[str, Any]) -> RspamdScan | None:
    action, at, score = row.get("action"), _number(row.get("unix_time")), _number(row.get("score"))
    if not isinstance(action, str) or at is None or score is None:
        return None
    symbols = row.get("symbols")
    found: dict[str, tuple[float, str]] = {}
    if isinstance(symbols, dict):
        for name, entry in list(symbols.items())[:SYMBOLS_READ]:
            if _SYMBOL.match(name) and isinstance(entry, dict):
                options = entry.get("options")
                option = options[0] if isinstance(options, list) and options else ""
                found[name] = (_number(entry.get("score")) or 0.0, str(option))
    return _made(
        at=at,
        queue_id="",
        action=action,
        score=score,
        limit=_number(row.get("required_score")),
        symbols=found,
    )


def _number(value: object) -> float | None:
    """A finite number, or None: Rspamd writes nan where another module forced the action."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# --- The log --------------------------------------------------------------------------------

_LINE = re.compile(
    r".*?, qid: <([^>\s]{1,64})>.*?, \(default: [A-Z] \(([^()]{1,64})\): "
    r"\[(-?[\d.]+|-?nan)/(-?[\d.]+|-?nan)\] \[(.*)\]\), len: "
)
_LOGGED = re.compile(r"(?:^|,)([A-Za-z0-9_]{1,64})\((-?\d{1,9}\.\d\d)\)\{([^;}]{0,64})")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def from_log(lines: Iterable[bytes]) -> RspamdHistory:
    """The scans in a log of Rspamd's.  Raises NoHistoryError where there is no line of any.

    Scans without a queue ID (by hand, or our own questions) are left out.  A line in which anything
    stands twice that stands there once by nature is not understood: a sender has put it into an
    address or a Message-ID, to be taken for another mail.
    """
    scans, unread, is_log = [], 0, False
    for line in lines:
        if b"rspamd_task_write_log" not in line:
            continue
        is_log = True
        text = line.decode("utf-8", "replace")
        if ", qid: <" not in text:
            continue
        match = _LINE.match(text)
        once = text.count(", qid: <") == text.count("(default: ") == 1
        if match is None or not once:
            unread += 1
            continue
        queue_id, action, score, limit, symbols = match.groups()
        found = {
            name: (float(points), option)
            for name, points, option in list(_LOGGED.findall(symbols))[:SYMBOLS_READ]
        }
        scans.append(
            _made(
                at=_time(text),
                queue_id=queue_id,
                action=action,
                score=_logged(score) or 0.0,
                limit=_logged(limit),
                symbols=found,
            )
        )
    if not is_log:
        raise NoHistoryError("it is neither JSON nor a log of Rspamd's at level info")
    return RspamdHistory(scans=tuple(scans), unread=unread)


def _logged(text: str) -> float | None:
    try:
        return _number(float(text))
    except ValueError:
        return None


def _time(text: str) -> float | None:
    """When a line was written, where it begins with the time as Rspamd writes it to a file."""
    found = _TIME.match(text)
    if found is None:
        return None
    try:
        return time.mktime(time.strptime(found.group(), "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None


# --- Both -----------------------------------------------------------------------------------


def _made(
    *,
    at: float | None,
    queue_id: str,
    action: str,
    score: float,
    limit: float | None,
    symbols: Mapping[str, tuple[float, str]],
) -> RspamdScan:
    claimed = next((name for name in CLAIMS if name in symbols), "")
    option = symbols[claimed][1] if claimed else ""
    others = [(points, name) for name, (points, _) in symbols.items() if not _is_ours(name)]
    heaviest = sorted(((p, n) for p, n in others if p > 0), key=lambda pair: (-pair[0], pair[1]))
    categories = [name for name in symbols if _is_ours(name) and name not in _NOT_CATEGORIES]
    return RspamdScan(
        at=at,
        queue_id=queue_id,
        action=action[:_ACTION_LIMIT],
        score=score,
        limit=limit,
        grounds=tuple(f"{name} {points:.1f}" for points, name in heaviest[:GROUNDS]),
        claim=CLAIMS.get(claimed, ""),
        claimed_score=float(option) if _SCORE.match(option) else None,
        category=min(categories, default="LLM_NONE").removeprefix("LLM_").lower(),
        is_absent="LLM_ABSENT" in symbols,
        is_forged="LLM_FORGED" in symbols,
    )


def _is_ours(symbol: str) -> bool:
    return symbol.startswith("LLM_")
