"""How much time a message costs beyond a bare call of the model: at 1, 10, 50, 200 connections.

At each number of connections the same 20 messages a second are offered, which is moderate (an MTA
of 1.7 million a day): every connection sends one, waits for the answer, and thinks until its next
is due. So what shows is what open connections cost, not what a queue does. The model takes 20 ms.

Beside them, in the same run, as many connections make bare calls of the same stub at the same
rate: the least one can do to ask it. Added is a message's time less the median of these.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from bench import latency, replay
from bench.daemon import Daemon
from bench.load_setting import (
    PATIENCE,
    Place,
    Sent,
    Setting,
    Spread,
    failures,
    paced,
    place,
    scored,
    send,
    warmed,
)
from bench.milterclient import Mail, MilterClient
from bench.report import Measure

CONNECTIONS = (1, 10, 50, 200)
OFFERED = 20.0  # messages a second; one connection can do about 30
LATENCY = 0.02  # seconds
SECONDS, SHORT_SECONDS = 30.0, 10.0  # of each number of connections; 200 have one mail each in 10


def run(setting: Setting) -> list[Measure]:
    seconds = SHORT_SECONDS if setting.short else SECONDS
    with place(setting, LATENCY) as where:
        return asyncio.run(measured(setting, where, CONNECTIONS, seconds))


async def measured(
    setting: Setting, where: Place, levels: Sequence[int], seconds: float
) -> list[Measure]:
    mails = setting.mails()
    await warmed(where.target, mails)
    told: list[Measure] = []
    for connections in levels:
        each = max(round(OFFERED * seconds / connections), 1)
        mine = [replay.take(mails, each) for _ in range(connections)]
        rng = random.Random(connections)
        whole, bare = await asyncio.gather(
            asyncio.gather(*(_connection(where.target, some, connections, rng) for some in mine)),
            asyncio.gather(*(_bare(where.url, each, connections, rng) for _ in mine)),
        )
        sent = [one for some in whole for one in some]
        told += measures(connections, sent, [one for some in bare for one in some])
    return told


async def _connection(
    target: Daemon, mails: Sequence[Mail], connections: int, rng: random.Random
) -> list[Sent]:
    async with MilterClient.connect(target.address, patience=PATIENCE) as client:
        return await paced(
            lambda mail: send(target, client, mail), mails, connections / OFFERED, rng
        )


async def _bare(url: str, count: int, connections: int, rng: random.Random) -> list[float]:
    call = await latency.BareCall.open(url)
    try:
        return await paced(lambda _: call.seconds(), range(count), connections / OFFERED, rng)
    finally:
        call.close()


def measures(connections: int, sent: Sequence[Sent], bare: Sequence[float]) -> list[Measure]:
    """What so many connections add; `bare` are the seconds of the bare calls beside them."""
    call = Spread.of(bare)
    added = Spread.of([1000 * (one - call.median) for one in scored(sent)])
    name = f"added, {connections} connection{'s' * (connections > 1)}"
    return [
        Measure(f"{name}, median", added.median, "ms", most=latency.MOST),
        Measure(f"{name}, p95", added.p95, "ms"),
        Measure(f"{name}, p99", added.p99, "ms"),
        Measure("  a bare call, median", 1000 * call.median, "ms"),
        Measure("  a bare call, p99", 1000 * call.p99, "ms"),
        Measure("  offered", offered(sent), "/s"),
        failures(sent),
    ]


def offered(sent: Sequence[Sent]) -> float:
    """Messages a second, from the first sent to the last."""
    began = sorted(one.began for one in sent)
    return (len(began) - 1) / (began[-1] - began[0])
