"""How long mail that is not judged takes while 200 calls of the model hang.

Mail of authenticated users only loses headers of ours: nothing of it may wait for a model. 1,000
such mails come over 8 connections at a time, 100 a second: first each on a connection of its own,
as from most clients of an MTA, counted from connecting on; then on connections that stay open.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from bench import replay
from bench.daemon import Daemon
from bench.load_setting import PATIENCE, Place, Sent, Setting, Spread, alone, paced, place, send
from bench.milterclient import Mail, MilterClient
from bench.report import Measure

HANGING = 200
MAILS, SHORT_MAILS = 1_000, 320
AT_ONCE = 8
OFFERED = 100.0  # messages a second: a fraction of what passes of mail that is not read
P99_MOST = 50.0  # ms

AUTHENTICATED = {"{auth_authen}": "user", "{auth_type}": "PLAIN"}
UNTOUCHED = "no status; continue"


def run(setting: Setting) -> list[Measure]:
    count = SHORT_MAILS if setting.short else MAILS
    with place(setting, 0.0, "hang") as where:
        return asyncio.run(measured(setting, where, HANGING, count))


async def measured(setting: Setting, where: Place, hanging: int, count: int) -> list[Measure]:
    mails = setting.mails()
    async with _hanging(where, hanging):
        await _alone(where.target, replay.take(mails, AT_ONCE))  # warm-up, not counted
        own = await _alone(where.target, replay.take(mails, count))
        kept = await _kept(where.target, replay.take(mails, count))
        if (still := await asyncio.to_thread(where.calls)) != hanging:
            raise SystemExit(f"{still} calls of the model hang, not {hanging}: nothing is shown")
    return [
        *measures("skipped, each on a connection of its own", own),
        *measures("skipped, on connections that stay open", kept),
    ]


@contextlib.asynccontextmanager
async def _hanging(where: Place, count: int) -> AsyncIterator[None]:
    """While the model has been asked about so many made mails, and answers none."""
    mails = replay.take(replay.made(), count)
    tasks = [asyncio.create_task(alone(where.target, mail)) for mail in mails]
    try:
        await _reached(where, count)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reached(where: Place, calls: int) -> None:
    """Returns when the stub is being asked so many times at once."""
    until = time.monotonic() + PATIENCE
    while await asyncio.to_thread(where.calls) < calls:
        if time.monotonic() > until:
            raise SystemExit(f"the model was not asked {calls} times at once")
        await asyncio.sleep(0.05)


async def _alone(target: Daemon, mails: Sequence[Mail]) -> list[Sent]:
    return await _lanes(mails, lambda mail: alone(target, mail, AUTHENTICATED))


async def _kept(target: Daemon, mails: Sequence[Mail]) -> list[Sent]:
    async with contextlib.AsyncExitStack() as stack:
        idle = deque[MilterClient]()
        for _ in range(AT_ONCE):
            opened = MilterClient.connect(target.address, patience=PATIENCE)
            idle.append(await stack.enter_async_context(opened))

        async def one(mail: Mail) -> Sent:
            client = idle.popleft()
            try:
                return await send(target, client, mail, AUTHENTICATED)
            finally:
                idle.append(client)

        return await _lanes(mails, one)


async def _lanes(mails: Sequence[Mail], act: Callable[[Mail], Awaitable[Sent]]) -> list[Sent]:
    """Sends the mails, at most AT_ONCE at a time and OFFERED a second."""
    rng = random.Random(0)
    lanes = [mails[number::AT_ONCE] for number in range(AT_ONCE)]
    told = await asyncio.gather(*(paced(act, mine, AT_ONCE / OFFERED, rng) for mine in lanes))
    return [one for some in told for one in some]


def measures(name: str, sent: Sequence[Sent]) -> list[Measure]:
    """What became of the skipped; another answer than letting them pass untouched is a miss."""
    spread = Spread.of([1000 * one.seconds for one in sent])
    others = sum(one.status != UNTOUCHED for one in sent)
    return [
        Measure(f"{name}, p99", spread.p99, "ms", most=P99_MOST),
        Measure("  median", spread.median, "ms"),
        Measure("  p95", spread.p95, "ms"),
        Measure("  slowest", spread.slowest, "ms"),
        Measure("  answered otherwise", others, "", most=0),
    ]
