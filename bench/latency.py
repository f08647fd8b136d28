"""How much time a message costs beyond the model's own: one at a time, each on a connection of
its own as from an MTA, against a bare HTTP call of the same model server made right after it."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import urlsplit

from bench.daemon import Daemon, daemon, model_server
from bench.mails import make
from bench.milterclient import Envelope, MilterClient
from bench.report import Measure, median, percentile

MOST = 15.0  # milliseconds at the median over all sizes
SIZES = (2_000, 20_000, 200_000)  # bytes: a note, a newsletter, a mail with an attachment
ROUNDS = 60  # of each size
WARM_UP = 10  # messages not counted: imports done late, connections made
LATENCY = 0.02  # seconds: a model that really makes one wait, but not for long


def run(*, stand_in: bool = False) -> list[Measure]:
    with model_server(LATENCY) as url, daemon(url, stand_in=stand_in) as target:
        return asyncio.run(_measure(target, url))


async def _measure(target: Daemon, url: str) -> list[Measure]:
    bare = await BareCall.open(url)
    for number in range(WARM_UP):
        await _message(target, SIZES[0], ROUNDS + number)
        await bare.seconds()
    added: dict[int, list[float]] = {size: [] for size in SIZES}
    for number in range(ROUNDS):
        for size in SIZES:
            whole = await _message(target, size, number)
            added[size].append(1000 * (whole - await bare.seconds()))
    bare.close()
    mixed = [value for values in added.values() for value in values]
    measures = [
        Measure("latency added, all sizes, median", median(mixed), "ms", most=MOST),
        Measure("latency added, all sizes, p95", percentile(mixed, 95), "ms"),
    ]
    for size, values in added.items():
        measures.append(Measure(f"  {size // 1000} kB, median", median(values), "ms"))
    return measures


async def _message(target: Daemon, size: int, number: int) -> float:
    """Seconds from connecting to the final answer."""
    mail = make(size, number)
    began = time.perf_counter()
    async with MilterClient.connect(target.address) as client:
        answer = await client.send(mail, Envelope(macros={"i": f"4bench{number:05d}"}))
        seconds = time.perf_counter() - began
    if not target.scored(answer):
        raise SystemExit(f"a message was not scored: {answer}")
    return seconds


class BareCall:
    """The least one can do to ask the model: one request on an open connection, a fixed body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        content = "x" * 6000  # characters, about what a prompt of 1,500 tokens has
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": "stub", "temperature": 0, "messages": messages}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: stub\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    @classmethod
    async def open(cls, url: str) -> BareCall:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def seconds(self) -> float:
        began = time.perf_counter()
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        json.loads(await self._reader.readexactly(size))
        return time.perf_counter() - began

    def close(self) -> None:
        self._writer.close()
