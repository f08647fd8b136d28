"""What a campaign costs: `python -m bench campaign [PART...]`.

    wave        1,000 copies of one mail over 100 connections, with a model that takes 1 s: how
                often it is asked, how long the mails wait that came meanwhile, and how many a
                second pass after it                                                   (10 seconds)
    remembered  what is added to a mail whose verdict is remembered, in memory, SQLite and Valkey,
                one mail at a time                                             (30 seconds)
    rspamd      what it costs to ask Rspamd first, and what it saves, on the mails of a folder
                (--mails) or made ones                                                 (30 seconds)

Every copy has its own Message-ID, recipient, name and token. Valkey is a redis-server or
valkey-server of one's own, and Rspamd too: as root, with both installed (script/setup). Exit
status 1 when a requirement is missed. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from bench import campaigndata, replay, report
from bench.campaigndata import Copy
from bench.daemon import Daemon, daemon, model_process
from bench.load_setting import PATIENCE, SCORED, Sent, status, stub_counter
from bench.milterclient import Envelope, MilterClient
from bench.report import Measure, median, percentile
from rspamd_llm.config import Rspamd as Settings
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Deadline, Message
from rspamd_llm.domain import Envelope as Sender
from rspamd_llm.opinion import Doubt
from rspamd_llm.rspamd import Rspamd
from tests import valkeyserver
from tests.chain.dns import NxDomainServer
from tests.chain.rspamd import PrivateRspamd

COPIES = 1_000
CONNECTIONS = 100
LATENCY = 1.0  # seconds
TTL = 3_600  # seconds

WAVE_MOST = 1.3
"""Seconds that the slowest of those may take that come while the model is asked."""

RATE_LEAST = 300.0
"""Mails a second, once the verdict is there."""

ADDED_MOST = 10.0
"""Milliseconds at the median that a remembered verdict may add."""

ALONE = 200  # mails sent one at a time
QUESTIONS = 50  # mails that Rspamd is asked about


def run(parts: Sequence[str], folder: Path | None) -> list[Measure]:
    """The parts of these names, one after the other."""
    told: list[Measure] = []
    for part in parts:
        told += PARTS[part](folder)
    return told


# --- The wave -------------------------------------------------------------------------------


def wave(_folder: Path | None) -> list[Measure]:
    """All of them at once."""
    with model_process(LATENCY) as model, daemon(model.url, verdict_ttl=TTL) as target:
        sent = asyncio.run(_wave(target))
        calls = stub_counter(model.url, "calls") - 1  # the warm-up's
    verdict_at = min(one.ended for one in sent)
    first = [one for one in sent if one.began < verdict_at]
    after = [one for one in sent if one.began >= verdict_at]
    seconds = max(one.ended for one in after) - min(one.began for one in after)
    return [
        Measure(f"wave, model calls for {COPIES} copies", calls, "", most=1),
        Measure(
            f"  the slowest of {len(first)} that came while it was asked",
            max(one.seconds for one in first),
            "s",
            most=WAVE_MOST,
        ),
        Measure("  after it", len(after) / seconds, "/s", least=RATE_LEAST),
        Measure("  after it, time of a mail, median", 1000 * median(_times(after)), "ms"),
        Measure("  failed", sum(one.status != SCORED for one in sent), "", most=0),
    ]


async def _wave(target: Daemon) -> list[Sent]:
    copies = campaigndata.copies(COPIES)
    async with _connected(target) as client:
        await _send(target, client, campaigndata.another())  # imports done late, connections made
    shares = [copies[at::CONNECTIONS] for at in range(CONNECTIONS)]

    async def connection(some: Sequence[Copy], ready: asyncio.Barrier) -> list[Sent]:
        async with _connected(target) as client:
            await ready.wait()
            return [await _send(target, client, one) for one in some]

    barrier = asyncio.Barrier(CONNECTIONS)
    told = await asyncio.gather(*(connection(some, barrier) for some in shares))
    return [one for some in told for one in some]


# --- What is remembered ---------------------------------------------------------------------


def remembered(_folder: Path | None) -> list[Measure]:
    """A mail at a time, in each of the stores."""
    told = []
    with (
        tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-") as folder,
        valkeyserver.running(Path(folder)) as valkey,
    ):
        stores = {
            "memory": "memory://",
            "SQLite": f"sqlite://{folder}/store.db",
            "Valkey": valkey.url,
        }
        for name, url in stores.items():
            with model_process(0.02) as model, daemon(model.url, store=url, verdict_ttl=TTL) as to:
                sent = asyncio.run(_alone(to, campaigndata.copies(ALONE)))
                calls = stub_counter(model.url, "calls")
            times = [1000 * one for one in _times(sent[1:])]
            told += [
                Measure(f"remembered in {name}, median", median(times), "ms", most=ADDED_MOST),
                Measure("  p95", percentile(times, 95), "ms"),
                Measure(f"  model calls for {ALONE} copies", calls, "", most=1),
            ]
    return told


async def _alone(target: Daemon, copies: Sequence[Copy]) -> list[Sent]:
    async with _connected(target) as client:
        return [await _send(target, client, one) for one in copies]


# --- Rspamd first ---------------------------------------------------------------------------


def rspamd(folder: Path | None) -> list[Measure]:
    """The question as the daemon asks it, to a stock Rspamd without a network."""
    settings = Settings()
    doubt = Doubt(
        ham_below=settings.ham_below,
        except_symbols=settings.except_symbols,
        trigger_symbols=settings.trigger_symbols,
    )
    mails = replay.filed(folder) if folder else replay.made()
    messages = [one.raw() for one in replay.take(mails, QUESTIONS)]

    async def story(url: str) -> tuple[list[float], int]:
        asked = Rspamd(url, "", settings.timeout, Counters())
        times, decided = [], 0
        for data in messages:
            message = Message(envelope=Sender(queue_id="4bench"), data=data, size=len(data))
            began = time.perf_counter()
            opinion = await asked.opinion(message, Deadline.after(PATIENCE))
            times.append(1000 * (time.perf_counter() - began))
            if opinion is None:
                raise SystemExit("Rspamd has no opinion")
            decided += doubt.settles(opinion)
        await asked.close()
        return times, decided

    with NxDomainServer() as dns, PrivateRspamd(dns.port) as server:
        times, decided = asyncio.run(story(server.url))
    return [
        Measure("rspamd, a question, median", median(times), "ms"),
        Measure("  p95", percentile(times, 95), "ms"),
        Measure("  mails that it decides", 100 * decided / len(messages), "%"),
    ]


# --- Sending --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _connected(target: Daemon) -> AsyncIterator[MilterClient]:
    async with MilterClient.connect(target.address, patience=PATIENCE) as client:
        yield client


async def _send(target: Daemon, client: MilterClient, one: Copy) -> Sent:
    began = time.perf_counter()
    envelope = Envelope(recipients=(one.recipient,), macros={"i": "4bench"})
    answer = await client.send(one.mail, envelope)
    return Sent(began, time.perf_counter() - began, status(target, answer))


def _times(sent: Sequence[Sent]) -> list[float]:
    return [one.seconds for one in sent]


PARTS: Mapping[str, Callable[[Path | None], list[Measure]]] = {
    "wave": wave,
    "remembered": remembered,
    "rspamd": rspamd,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench campaign", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--mails", type=Path, metavar="FOLDER", help="for rspamd")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return report.told(run(args.parts or [*PARTS], args.mails), as_json=args.json)
