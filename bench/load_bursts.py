"""Bursts of simultaneous mails with a model that takes 1 s and has slots enough: how long the last
one waits.

libmilter hands ready sessions to idle workers and starts no new one for those that find none:
without a cure some of a burst wait for as long as the others' calls of the model take. Each mail
has a connection of its own, which stands and is greeted before the burst, as an MTA's does when its
client comes to send the content.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence

from bench import replay
from bench.daemon import Daemon
from bench.load_setting import PATIENCE, Sent, Setting, failures, place, send, warmed
from bench.milterclient import Mail, MilterClient, Peer
from bench.report import Measure, median

MOST = {2: 1.2, 3: 1.2, 5: 1.2, 10: 1.2, 20: 1.2, 100: 1.6}
"""Seconds that the slowest mail of any burst may take, by the number of mails in it."""

BURSTS, SHORT_BURSTS = 30, 5
LATENCY = 1.0  # seconds
PAUSE = 0.3
"""Seconds between two bursts, at most, each time others: libmilter's workers end one by one when
there is nothing to do, and a burst may find any number of them."""


def run(setting: Setting) -> list[Measure]:
    bursts = SHORT_BURSTS if setting.short else BURSTS
    with place(setting, LATENCY) as where:
        return asyncio.run(measured(where.target, setting.mails(), MOST, bursts))


async def measured(
    target: Daemon, mails: Iterator[Mail], sizes: Iterable[int], bursts: int
) -> list[Measure]:
    """So many bursts of each of the sizes."""
    await warmed(target, mails)
    rng = random.Random(0)
    told: list[Measure] = []
    for size in sizes:
        some: list[list[Sent]] = []
        for _ in range(bursts):
            await asyncio.sleep(rng.uniform(0, PAUSE))
            some.append(await _burst(target, replay.take(mails, size)))
        told += measures(size, some)
    return told


async def _burst(target: Daemon, mails: Sequence[Mail]) -> list[Sent]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(MilterClient.connect(target.address, patience=PATIENCE))
            for _ in mails
        ]
        for client in clients:
            await client.greet(Peer())
        return list(
            await asyncio.gather(
                *(send(target, *pair) for pair in zip(clients, mails, strict=True))
            )
        )


def measures(size: int, bursts: Sequence[Sequence[Sent]]) -> list[Measure]:
    """What bursts of so many mails took."""
    slowest = [max(one.seconds for one in burst) for burst in bursts]
    name = f"bursts of {size}, the slowest mail of {len(bursts)} bursts"
    return [
        Measure(name, max(slowest), "s", most=MOST[size]),
        Measure("  the slowest mail of a burst, median", median(slowest), "s"),
        Measure("  bursts too slow", sum(one > MOST[size] for one in slowest), ""),
        failures([one for burst in bursts for one in burst]),
    ]
