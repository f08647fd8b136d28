"""How much memory the idle daemon takes: after its start, and after 500 messages."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from bench.daemon import Daemon, daemon, model_server
from bench.mails import make
from bench.milterclient import Envelope, MilterClient
from bench.report import Measure
from rspamd_llm.readers import IDLE

MOST = 120.0  # MB
MESSAGES = 500
AT_ONCE = 10
SIZE = 20_000  # bytes
SETTLE = 1.0  # seconds for the daemon to become idle
RETIRE = 2 * IDLE + SETTLE  # seconds until a reader that is idle is ended


def run(*, stand_in: bool = False) -> list[Measure]:
    with model_server(0.0) as url, daemon(url, stand_in=stand_in) as target:
        time.sleep(SETTLE)
        fresh = memory(target.pid)
        asyncio.run(_feed(target))
        time.sleep(RETIRE)
        used = memory(target.pid)
    return [
        Measure("memory, idle after start", fresh, "MB", most=MOST),
        Measure(f"memory, idle after {MESSAGES} messages", used, "MB", most=MOST),
    ]


def memory(pid: int) -> float:
    """MB of a process and its children, each page that several share counted once (Pss).

    Raises OSError or ValueError when it has ended; a child that ends meanwhile counts for nothing.
    """
    whole = _megabytes(pid)
    for child in _descendants(pid):
        with contextlib.suppress(OSError, ValueError):
            whole += _megabytes(child)
    return whole


def _megabytes(pid: int) -> float:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1000 * 1.024


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # threads and processes end while one looks
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(f"no {name} in {path}")


async def _feed(target: Daemon) -> None:
    async def client(first: int) -> None:
        async with MilterClient.connect(target.address) as connection:
            for number in range(first, MESSAGES, AT_ONCE):
                envelope = Envelope(macros={"i": f"4bench{number:05d}"})
                answer = await connection.send(make(SIZE, number), envelope)
                if not target.scored(answer):
                    raise SystemExit(f"a message was not scored: {answer}")

    await asyncio.gather(*(client(first) for first in range(AT_ONCE)))
