"""Messages a second for distinct mails at 200 connections, with a model that takes 1 s.

By arithmetic 200 a second are possible. Each connection sends its next mail as soon as the last
one is answered. Counted is between two moments, so that the load is whole all the time: when the
last connection has its first answer (the first round, in lock step, is warm-up), and when the
first connection has its last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bench import cpu, replay
from bench.daemon import Daemon
from bench.load_setting import (
    PATIENCE,
    Place,
    Sent,
    Setting,
    Spread,
    failures,
    place,
    scored,
    send,
    warmed,
)
from bench.milterclient import Mail, MilterClient
from bench.report import Measure

CONNECTIONS = 200
LATENCY = 1.0  # seconds
ROUNDS, SHORT_ROUNDS = 14, 8  # mails of each connection, the first not counted

LEAST = 143.0
MEDIAN_MOST = 1.35
"""Messages a second, and seconds: what Rspamd 4.1.5 with its GPT plugin and two worker processes
did on 2 cores, with loader and stub beside it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Meter:
    """The clock, and seconds of CPU: of the daemon, of the stub, of this process (the loader), and
    of the cores."""

    at: float
    daemon: float
    model: float
    loader: float
    cores: cpu.Cores

    @classmethod
    def read(cls, daemon: int, model: int) -> Meter:
        """Of the processes with these numbers."""
        return cls(
            at=time.perf_counter(),
            daemon=cpu.seconds(daemon),
            model=cpu.seconds(model),
            loader=time.process_time(),
            cores=cpu.Cores.now(),
        )


class Window(Generic[T]):
    """The time in which all connections are under load: `opened` and `closed` are what `read`
    gave then, None while it has not come to that."""

    def __init__(self, connections: int, rounds: int, read: Callable[[], T]) -> None:
        self._due = connections
        self._rounds = rounds
        self._read = read
        self.opened: T | None = None
        self.closed: T | None = None

    def answered(self, rounds: int) -> None:
        """A connection has had so many answers now."""
        if rounds == 1:
            self._due -= 1
            if self._due == 0:
                self.opened = self._read()
        if rounds == self._rounds and self.opened is not None and self.closed is None:
            self.closed = self._read()


def run(setting: Setting) -> list[Measure]:
    rounds = SHORT_ROUNDS if setting.short else ROUNDS
    with place(setting, LATENCY) as where:
        return asyncio.run(measured(setting, where, CONNECTIONS, rounds))


async def measured(setting: Setting, where: Place, connections: int, rounds: int) -> list[Measure]:
    mails = setting.mails()
    await warmed(where.target, mails)
    # Made before the clock starts: making them is not what is measured.
    mine = [replay.take(mails, rounds) for _ in range(connections)]
    window = Window(connections, rounds, lambda: Meter.read(where.target.pid, where.model_pid))
    told = await asyncio.gather(*(_connection(where.target, some, window) for some in mine))
    if window.opened is None or window.closed is None:
        raise SystemExit("one connection had all its answers before another had its first")
    return measures([one for some in told for one in some], window.opened, window.closed)


async def _connection(target: Daemon, mails: Sequence[Mail], window: Window[Meter]) -> list[Sent]:
    told: list[Sent] = []
    async with MilterClient.connect(target.address, patience=PATIENCE) as client:
        for mail in mails:
            told.append(await send(target, client, mail))
            window.answered(len(told))
    return told


def measures(sent: Sequence[Sent], opened: Meter, closed: Meter) -> list[Measure]:
    """What the answers between two readings come to."""
    counted = [one for one in sent if opened.at < one.ended <= closed.at]
    times = scored(counted)
    spread = Spread.of(times)
    seconds = closed.at - opened.at
    cores = closed.cores - opened.cores
    used = {
        "daemon": closed.daemon - opened.daemon,
        "stub": closed.model - opened.model,
        "loader": closed.loader - opened.loader,
    }
    return [
        Measure("rate, 200 connections, model 1 s", len(times) / seconds, "/s", least=LEAST),
        Measure("rate, time of a message, median", spread.median, "s", most=MEDIAN_MOST),
        Measure("  p95", spread.p95, "s"),
        Measure("  p99", spread.p99, "s"),
        Measure("  slowest", spread.slowest, "s"),
        failures(sent),
        *(
            Measure(f"  CPU of a message, {who}", 1000 * one / len(counted), "ms")
            for who, one in used.items()
        ),
        Measure("  idle share of the cores", 100 * cores.idle / cores.whole, "%"),
    ]
