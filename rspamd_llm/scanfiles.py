"""`rspamd-llm scan`: mail files in, verdicts out, as a table or as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rspamd_llm import assembly, log
from rspamd_llm.charsets import utf8
from rspamd_llm.config import Config, warnings
from rspamd_llm.domain import (
    Deadline,
    Envelope,
    Message,
    Scan,
    Scored,
    Skipped,
    Unscored,
)
from rspamd_llm.nursery import Nursery

UNREADABLE = "unreadable"
"""The code of a file that cannot be read."""


FILE_WIDTH = 24
"""Characters of a file's name in the table; leaves room for a reason on 80 columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The envelope that the mails are to be judged with."""

    ip: str = ""
    helo: str = ""
    address: str = ""
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one file."""

    file: str
    status: str
    code: str | None = None
    score: float | None = None
    category: str | None = None
    reason: str | None = None
    model: str | None = None
    seconds: float
    scan: Scan | None = None

    def document(self, *, explain: bool) -> dict[str, Any]:
        """The row for --json; with `explain` all that stood on the way."""
        document = {
            name: getattr(self, name)
            for name in (
                "file",
                "status",
                "code",
                "score",
                "category",
                "reason",
                "model",
                "seconds",
            )
        }
        if explain and self.scan is not None:
            scan = self.scan
            document["explain"] = {
                "facts": asdict(scan.facts) if scan.facts else None,
                "evidence": asdict(scan.evidence) if scan.evidence else None,
                "prompt": asdict(scan.prompt) if scan.prompt else None,
                "answer": asdict(scan.completion) if scan.completion else None,
                "stages": dict(scan.stages),
            }
        return document


def scan(
    config: Config, *, files: tuple[str, ...], sender: Sender, as_json: bool, explain: bool
) -> int:
    """Scans the files and prints what became of each, in their order."""
    log.set_up(level="warning", form="text")
    for warning in warnings(config):
        print(f"rspamd-llm: warning: {warning}", file=sys.stderr)
    nursery = Nursery()
    plan = assembly.plan(config)
    return asyncio.run(_scan(plan, nursery, files, sender, as_json=as_json, explain=explain))


async def _scan(
    plan: assembly.Plan,
    nursery: Nursery,
    files: tuple[str, ...],
    sender: Sender,
    *,
    as_json: bool,
    explain: bool,
) -> int:
    works = await assembly.start(plan, nursery)
    console = Console()
    rows: list[Row] = []
    try:
        async for row in _rows(works, plan.config, files, sender):
            rows.append(row)
            if as_json:
                document = row.document(explain=explain)
                print(json.dumps(document, ensure_ascii=False, default=str), flush=True)
            elif explain:
                _explain(console, row)
    finally:
        await works.stop()
    if not as_json:
        console.print(_table(rows))
    return 1 if any(row.status in ("error", "unscored") for row in rows) else 0


async def _rows(
    works: assembly.Works, config: Config, files: tuple[str, ...], sender: Sender
) -> AsyncIterator[Row]:
    """Rows in the files' order; as many files at a time as the model takes."""
    slots = asyncio.Semaphore(min(config.llm.concurrency, config.milter.max_in_flight))

    async def one(file: str) -> Row:
        async with slots:
            return await _row(works, config, file, sender)

    tasks = [asyncio.create_task(one(file)) for file in files]
    for task in tasks:
        yield await task


async def _row(works: assembly.Works, config: Config, file: str, sender: Sender) -> Row:
    began = time.monotonic()
    path, file = file, file.encode("utf-8", "backslashreplace").decode()
    try:
        data = await asyncio.to_thread(_contents, path, config.gate.max_size)
    except OSError as error:
        return Row(file=file, status="error", code=UNREADABLE, reason=error.strerror, seconds=0.0)
    message = Message(
        envelope=Envelope(
            client_address=sender.ip,
            helo=utf8(sender.helo),
            sender=utf8(sender.address),
            recipients=tuple(map(utf8, sender.recipients)),
            recipient_count=len(sender.recipients),
        ),
        data=_kept(data, config.milter.max_body),
        size=len(data),
    )
    done = await works.scanner.scan(message, Deadline.after(config.milter.deadline))
    seconds = round(time.monotonic() - began, 3)
    match done.outcome:
        case Scored(verdict=verdict, model=model):
            return Row(
                file=file,
                status="scored",
                score=round(verdict.score, 4),
                category=verdict.category,
                reason=verdict.reason,
                model=model,
                seconds=seconds,
                scan=done,
            )
        case Skipped(code=code):
            return Row(file=file, status="skipped", code=code, seconds=seconds, scan=done)
        case Unscored(code=code, cause=cause):
            return Row(
                file=file, status="unscored", code=code, reason=cause, seconds=seconds, scan=done
            )


def _contents(file: str, most: int) -> bytes:
    """A mail file's bytes, and no more than tell that it is larger than is judged."""
    if file == "-":
        return sys.stdin.buffer.read(most + 1)
    with Path(file).open("rb") as opened:
        return opened.read(most + 1)


def _kept(data: bytes, max_body: int) -> bytes:
    """What the milter would keep of a message: its header, and `max_body` of its body."""
    ends = [at for at in (data.find(b"\n\n"), data.find(b"\r\n\r\n")) if at >= 0]
    return data[: (min(ends) if ends else 0) + max_body]


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", no_wrap=True)
    table.add_column("status")
    table.add_column("score", justify="right")
    table.add_column("category")
    table.add_column("reason", overflow="fold")
    table.add_column("seconds", justify="right")
    for row in rows:
        # Text, not markup: a reason may hold brackets.
        table.add_row(
            Text(_tail(row.file)),
            Text(f"{row.status}; {row.code}" if row.code else row.status, style=_style(row)),
            Text("" if row.score is None else f"{row.score:.2f}", style=_style(row)),
            Text(row.category or ""),
            Text(row.reason or ""),
            Text(f"{row.seconds:.2f}"),
        )
    return table


def _tail(file: str) -> str:
    """The end of a path, which tells files apart, where it is too long for the table."""
    return file if len(file) <= FILE_WIDTH else "…" + file[1 - FILE_WIDTH :]


def _style(row: Row) -> str:
    if row.score is None:
        return "yellow" if row.status != "error" else "red"
    return "red" if row.score >= 0.75 else "green" if row.score <= 0.25 else ""


def _explain(console: Console, row: Row) -> None:
    console.rule(Text(row.file))
    scan = row.scan
    if scan is None:
        return
    parts: list[tuple[str, str]] = []
    if scan.facts:
        noted = [f"{f.flag.value}: {f.detail}".rstrip(": ") for f in scan.facts.findings]
        parts.append(("Facts", "\n".join(noted) or "nothing noticed"))
    if scan.prompt:
        parts.append(("System message", scan.prompt.system))
        parts.append(("User message", scan.prompt.user))
    if scan.completion:
        answer = scan.completion
        labels = ", ".join(f"{name} {p:.4f}" for name, p in answer.label_probabilities.items())
        parts.append(("Raw answer", answer.text))
        parts.append(("Probabilities", labels))
        parts.append(("Tokens", f"{answer.tokens_in} in, {answer.tokens_out} out"))
    times = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in scan.stages.items())
    parts.append(("Times", times))
    for title, text in parts:
        if text:
            console.print(Text(title, style="bold"))
            console.print(Text(text))
            console.print()
