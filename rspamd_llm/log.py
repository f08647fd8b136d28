"""Logging: to standard error, as text or JSON, and the one line a message.

No subject, address, body, prompt or reason stands in a line at level info.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from rspamd_llm.domain import Message, Scan, Scored, Skipped, Unscored
from rspamd_llm.evidence import words

_scans = logging.getLogger("rspamd_llm.scan")


class _Text(logging.Formatter):
    """`level message key=value ...`; systemd's journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        told = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        text = f"{record.levelname.lower()}: {_one_line(record.getMessage())}{told}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _one_line(text: str) -> str:
    """A text that begins no line of its own and moves no terminal's cursor: names that others
    choose (the MTA's queue ID, a model) stand in some."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') and text else json.dumps(text)


def set_up(*, level: str, form: str) -> None:
    """Sends the log of our own modules to standard error.  Others' logs may quote the mail."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    ours = logging.getLogger("rspamd_llm")
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False


def scanned(message: Message, scan: Scan) -> None:
    """The one line of a message."""
    fields: dict[str, Any] = {"queue_id": message.envelope.queue_id or "-"}
    match scan.outcome:
        case Scored() as scored:
            fields |= {
                "status": "scored",
                "score": round(scored.verdict.score, 2),
                "category": scored.verdict.category,
                "model": scored.model,
                "cache": scored.cache.value,
                "tokens_in": scored.tokens_in,
                "tokens_out": scored.tokens_out,
            }
        case Skipped(code=code):
            fields |= {"status": "skipped", "code": code.value}
        case Unscored(code=code, cause=cause):
            fields |= {"status": "unscored", "code": code.value}
            if cause:
                fields["cause"] = cause
    if scan.evidence is not None and scan.evidence.missing:
        fields["missing"] = ",".join(source.value for source in scan.evidence.missing)
    fields["recipients"] = message.envelope.recipient_count
    fields["size"] = message.size
    fields |= {f"{stage}_s": round(seconds, 3) for stage, seconds in scan.stages.items()}
    _scans.info("scan", extra={"fields": fields})
    if _scans.isEnabledFor(logging.DEBUG) and scan.evidence is not None and scan.facts is not None:
        told = [*words.known(scan.evidence, scan.facts, message.envelope)]
        lines = {"queue_id": fields["queue_id"], "lines": told + words.told(scan.evidence)}
        _scans.debug("evidence", extra={"fields": lines})
