"""What the parts of the load benchmark share: where they run, and how one mail is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import replay
from bench.daemon import Daemon, daemon, model_process
from bench.milterclient import Answer, Envelope, Mail, MilterClient
from bench.report import Measure, median, percentile

PATIENCE = 120.0
"""Seconds that the client waits for a packet: far above the requirements, to measure misses."""

WARM_UP = 20
"""Messages not counted before the first that is: imports done late, connections made."""

UNEVEN = 0.25
"""Share by which the time between two messages of a connection varies: without that those of many
would meet again and again, or never."""

SCORED = "scored"

_NO_MACROS: Mapping[str, str] = {}

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """How the daemon is reached and what it is sent: made mails, or those of a folder."""

    unix: bool = False
    short: bool = False
    folder: Path | None = None

    def mails(self) -> Iterator[Mail]:
        """Each part sends these from the first on, to a daemon of its own."""
        return replay.filed(self.folder) if self.folder else replay.made()


@dataclass(frozen=True)
class Place:
    """One daemon and the stub model server that it asks."""

    target: Daemon
    url: str
    model_pid: int

    def calls(self) -> int:
        """How many calls the stub model is answering now."""
        return stub_counter(self.url, "active")


@dataclass(frozen=True)
class Sent:
    """One mail's fate: when it was sent (perf_counter), seconds to its final answer, and what the
    daemon made of it: `scored`, or what X-GPT-Status says, or else the answer itself."""

    began: float
    seconds: float
    status: str

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@dataclass(frozen=True)
class Spread:
    """Times from the middle to the worst, in their own unit."""

    median: float
    p95: float
    p99: float
    slowest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), percentile(values, 95), percentile(values, 99), max(values))


def stub_counter(url: str, name: str) -> int:
    """One of the counters of the stub model with this base URL (stubmodel.StubModel.stats)."""
    # "/v1" is the API's; the stub's counters stand beside it.
    address = url.removesuffix("/v1") + "/stats"
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310  our own stub
        return int(json.load(answer)[name])


@contextlib.contextmanager
def place(setting: Setting, latency: float, fault: str = "") -> Iterator[Place]:
    with (
        model_process(latency, fault) as model,
        daemon(model.url, unix=setting.unix) as target,
    ):
        yield Place(target, model.url, model.pid)


async def warmed(target: Daemon, mails: Iterator[Mail]) -> None:
    """Sends some mails that are not counted, all at once."""
    await asyncio.gather(*(alone(target, mail) for mail in replay.take(mails, WARM_UP)))


async def alone(target: Daemon, mail: Mail, macros: Mapping[str, str] = _NO_MACROS) -> Sent:
    """Sends a mail on a connection of its own; its time is counted from connecting on."""
    began = time.perf_counter()
    async with MilterClient.connect(target.address, patience=PATIENCE) as client:
        sent = await send(target, client, mail, macros)
    return Sent(began, sent.ended - began, sent.status)


async def send(
    target: Daemon, client: MilterClient, mail: Mail, macros: Mapping[str, str] = _NO_MACROS
) -> Sent:
    """Sends a mail on an open connection."""
    began = time.perf_counter()
    answer = await client.send(mail, Envelope(macros={"i": "4bench", **macros}))
    return Sent(began, time.perf_counter() - began, status(target, answer))


async def paced(
    act: Callable[[S], Awaitable[T]], items: Sequence[S], period: float, rng: random.Random
) -> list[T]:
    """Acts on an item in each period of so many seconds, on the average; at once where late."""
    due = time.perf_counter() + rng.uniform(0, period)
    told = []
    for item in items:
        await asyncio.sleep(due - time.perf_counter())
        told.append(await act(item))
        due += period * rng.uniform(1 - UNEVEN, 1 + UNEVEN)
    return told


def status(target: Daemon, answer: Answer) -> str:
    """What became of a message, in a few words."""
    if target.scored(answer):
        return SCORED
    said = [edit.value.strip() for edit in answer.edits if edit.name == "X-GPT-Status"]
    return "; ".join([*said, *([] if said else ["no status"]), answer.final])


def scored(sent: Sequence[Sent]) -> list[float]:
    """The seconds that scored mails took. Ends the benchmark where there is none."""
    times = [one.seconds for one in sent if one.status == SCORED]
    if not times:
        raise SystemExit(f"no mail was scored: {sorted({one.status for one in sent})}")
    return times


def failures(sent: Sequence[Sent]) -> Measure:
    """How many were neither scored nor rightly skipped (a folder may hold mail without text), and
    what became of them."""
    others = [one.status for one in sent if not one.status.startswith((SCORED, "skipped; no-text"))]
    kinds = ", ".join(sorted({*others}))
    return Measure(f"  failed{kinds and f' ({kinds})'}", len(others), "", most=0)
