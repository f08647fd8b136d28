"""How many messages a second pass when 50 SMTP clients send at once and the model takes a second
for each: nothing but the model may make them wait. Each message is different and comes on a
connection of its own, as from most clients of an MTA."""

from __future__ import annotations

import asyncio
import time

from bench.daemon import Daemon, daemon, model_server
from bench.mails import make
from bench.milterclient import Envelope, Mail, MilterClient
from bench.report import Measure, median

LEAST = 40.0  # messages a second; the model alone allows 50
CLIENTS = 50
EACH = 10  # messages of each client
SIZE = 8_000  # bytes
LATENCY = 1.0  # seconds


def run(*, stand_in: bool = False) -> list[Measure]:
    with model_server(LATENCY) as url, daemon(url, stand_in=stand_in) as target:
        return asyncio.run(_measure(target))


async def _measure(target: Daemon) -> list[Measure]:
    await _client(target, [make(SIZE, CLIENTS * EACH)])
    # Made before the clock starts: making them is not what is measured.
    mails = [[make(SIZE, EACH * client + i) for i in range(EACH)] for client in range(CLIENTS)]
    began = time.perf_counter()
    results = await asyncio.gather(*(_client(target, mine) for mine in mails))
    seconds = time.perf_counter() - began
    times = [one for result in results for one in result]
    return [
        Measure("throughput, 50 at once, model 1 s", len(times) / seconds, "/s", least=LEAST),
        Measure("  time of a message, median", median(times), "s"),
        Measure("  time of a message, slowest", max(times), "s"),
    ]


async def _client(target: Daemon, mails: list[Mail]) -> list[float]:
    times = []
    for mail in mails:
        began = time.perf_counter()
        async with MilterClient.connect(target.address, patience=120) as client:
            answer = await client.send(mail, Envelope(macros={"i": "4bench"}))
            times.append(time.perf_counter() - began)
        if not target.scored(answer):
            raise SystemExit(f"a message was not scored: {answer}")
    return times
