"""`rspamd-llm report`: what the daemon did since yesterday, for a mail from cron, or as JSON.

What may not live here: how anything is counted (summary.py, contrast.py) or written
(reporttext.py).
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rspamd_llm import contrast, reporttext, rspamdfetch, well
from rspamd_llm.config import Config
from rspamd_llm.domain import ConfigError
from rspamd_llm.history import HistoryError, Reader
from rspamd_llm.reporttext import Report, Span
from rspamd_llm.rspamdfetch import UnreachableError
from rspamd_llm.summary import Tally, cleaned

DAY = 86_400.0
"""Seconds."""


def last_days(days: int) -> Span:
    """The last days until now, of 24 hours each."""
    now = time.time()
    return Span(since=now - days * DAY, until=now)


def from_time(since: datetime) -> Span:
    """From a time until now; local time where it names no zone."""
    return Span(since=since.timestamp(), until=time.time())


def report(config: Config, *, span: Span, rspamd: str, as_json: bool, quiet: bool) -> int:
    """Prints the report; with `quiet` nothing where all is well.

    `rspamd` names Rspamd's history as rspamdfetch.fetch takes it; empty for none.  1 where that
    cannot be had: the rest is printed all the same.  Raises ConfigError, and HistoryError where
    there is no history of ours.
    """
    if rspamd and not rspamdfetch.FORM.match(rspamd):
        raise ConfigError(
            (
                f"--rspamd-history: found {rspamd!r}; allowed is a file, http://HOST:PORT of"
                " Rspamd's controller, or redis://HOST:PORT/DB",
            )
        )
    made = _made(config, span, rspamd)
    if made.troubles or made.fault or not quiet:
        print(
            json.dumps(_document(made), indent=2) if as_json else "\n".join(reporttext.lines(made))
        )
    return 1 if made.fault else 0


def _made(config: Config, span: Span, source: str) -> Report:
    now, before = Tally(), Tally()
    for record in _reader(config).since(span.before):
        if record.at < span.since:
            before.add(record)
        elif record.at < span.until:
            now.add(record)
    found, fault = None, ""
    if source:
        password = _password(config)
        try:
            history = rspamdfetch.fetch(source, password)
            # Rspamd may begin with a mail on the other side of `since`, just after we answered.
            scored = sorted(before.scored + now.scored, key=lambda judged: judged.at)
            found = contrast.compare(history, scored, span.since, span.until)
        except UnreachableError as error:
            fault = str(error)
    figures, earlier = now.figures(), before.figures()
    return Report(
        host=cleaned(platform.node()),
        span=span,
        now=figures,
        before=earlier,
        contrast=found,
        fault=fault,
        troubles=well.troubles(figures, earlier, found),
    )


def _reader(config: Config) -> Reader:
    """Raises HistoryError, with the cure, where there is nothing to be read."""
    path = Path(config.history.file)
    if config.history.keep == "none":
        raise HistoryError(
            'no history is kept, so there is nothing to report: set keep = "verdicts" in [history],'
            " and restart the daemon"
        )
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise HistoryError(
            f"{path}: there is no history yet; the daemon begins it when it starts with this"
            " configuration (is it the one that -c names?)"
        ) from error
    except OSError as error:
        raise HistoryError(
            f"{path}: cannot be read: {error.strerror}; run this as root or as the daemon's user"
        ) from error
    return Reader(path)


def _password(config: Config) -> str:
    """The password of Rspamd's workers; empty where none is named."""
    file = config.rspamd.password_file
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError((f"rspamd.password_file: {file} cannot be read: {error}",)) from error


# --- JSON -----------------------------------------------------------------------------------


def _document(made: Report) -> dict[str, object]:
    return {
        "well": not made.troubles and not made.fault,
        "troubles": made.troubles,
        "host": made.host,
        "since": _iso(made.span.since),
        "until": _iso(made.span.until),
        "now": asdict(made.now),
        "before": asdict(made.before),
        "rspamd": asdict(made.contrast) if made.contrast is not None else None,
        "rspamd_fault": made.fault,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
