"""What looking things up costs: `python -m bench evidence`.

Everything is asked, through the parts that the daemon asks with, of stand-ins for a name server, a
SearXNG and a registry, which run in a process of their own and take 300 ms for each answer. Exit
status 1 when a requirement is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import brief, report, webstub
from bench.evidencedata import Story, client_of, pieces, story, world_of
from bench.report import Measure, median, percentile
from bench.standins import StandIns
from rspamd_llm import config as configs
from rspamd_llm import lookups, tokens
from rspamd_llm.config import Config
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Brief, Deadline, Envelope, Evidence, Facts, Mail, Message
from rspamd_llm.evidence.authentication import authenticate
from rspamd_llm.evidence.dns import Dns
from rspamd_llm.lookups import Lookups
from rspamd_llm.store import open_store

LATENCY = 0.3  # seconds for each answer of a stand-in
MAILS = 40  # each of domains that nobody has heard of before
AT_ONCE = 50  # mails that name the same domains
CHECKS = 50  # of one mail's authentication
PROMPTS = 500  # pieces of evidence of all sorts
ALONE = 4  # mails of measures by themselves, before those of which there are MAILS
DEADLINE = 60.0  # seconds; nothing here comes near it

NEW_MOST = 350.0  # ms at the median
KNOWN_MOST = 5.0  # ms at the median
QUERIES_MOST = 1  # for one domain at one source, by mails at once
TOKENS_MOST = 250
SIGNED_SIZE = 20_000  # bytes of the mail whose authentication is measured


# --- The stand-ins --------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """How often the stand-ins were asked each question, by source."""

    dns: Counter[tuple[str, str]]
    web: Counter[str]
    registry: Counter[str]


class World:
    """The stand-ins, in a process of their own, so that they do not hold up what is measured."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self.settings, self.environment = line.recv()

    @classmethod
    @contextlib.contextmanager
    def running(cls, mails: int, latency: float) -> Iterator[World]:
        """With the domains of so many mails."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs, mails, latency), daemon=True)
        child.start()
        theirs.close()
        try:
            yield cls(ours)
        finally:
            ours.close()
            child.join(10)
            child.kill()

    def asked(self) -> Asked:
        """What came since this was asked last."""
        self._line.send("")
        told: Asked = self._line.recv()
        return told


def _serve(line: Connection, mails: int, latency: float) -> None:
    domains = [domain for number in range(mails) for domain in world_of(number)]
    with StandIns.running(*domains) as world:
        world.zone.latency = latency
        world.web.set(webstub.Behaviour(latency=latency))
        world.registry.set(dataclasses.replace(world.registry.behaviour, latency=latency))
        line.send((world.settings(), world.environment))
        with contextlib.suppress(EOFError):
            while True:
                line.recv()
                line.send(
                    Asked(
                        dns=Counter(world.zone.asked),
                        web=Counter(world.web.words()),
                        registry=Counter(world.registry.paths),
                    )
                )
                for heard in (world.zone.asked, world.web.queries, world.registry.requests):
                    heard.clear()


# --- What is measured -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def looking(config: Config) -> AsyncIterator[Lookups]:
    """The daemon's own lookups, freshly started."""
    store = open_store(config.store.url)
    started = await lookups.start(config, api_key="", store=store, counters=Counters())
    try:
        yield started
    finally:
        await started.stop()
        await store.close()


async def seconds(started: Lookups, one: Story) -> float:
    """How long it takes to gather everything on a mail.  Ends the benchmark if anything lacks."""
    began = time.perf_counter()
    inquiry = started.gatherer.inquire(one.message, one.mail, one.facts, Deadline.after(DEADLINE))
    told = await inquiry.evidence()
    took = time.perf_counter() - began
    whole = told.authentication is not None and told.authentication.dmarc == "pass"
    if told.missing or not whole or {*told.registrations} != {*one.domains} or len(told.web) != 3:
        raise SystemExit(f"not everything was found out: {told}")
    return took


@dataclass(frozen=True)
class Times:
    """ms for each mail: when its domains are new, and when they are not."""

    new: list[float]
    known: list[float]


async def timed(config: Config, stories: Sequence[Story]) -> Times:
    """Each mail twice, with lookups of its own, so that no limit on queries a second is met."""
    new, known = [], []
    for one in stories:
        async with looking(config) as started:
            new.append(1_000 * await seconds(started, one))
            known.append(1_000 * await seconds(started, one))
    return Times(new, known)


async def stored(config: Config, stories: Sequence[Story]) -> Times:
    """The same with a file that all lookups share, and that the second ones must read: only what
    DNS says of the mail itself, which is kept in memory, they have been told before."""
    new, known = [], []
    for one in stories:
        async with looking(config) as started:
            new.append(1_000 * await seconds(started, one))
    for one in stories:
        async with looking(config) as started:
            await started.gatherer.begin(head_of(one))
            known.append(1_000 * await seconds(started, one))
    return Times(new, known)


async def burst(config: Config, stories: Sequence[Story]) -> float:
    """Seconds for all mails at once."""
    async with looking(config) as started:
        began = time.perf_counter()
        await asyncio.gather(*(seconds(started, one) for one in stories))
        return time.perf_counter() - began


async def begun(config: Config, one: Story) -> float:
    """ms for a mail whose DNS look-ups were made while its body arrived."""
    async with looking(config) as started:
        await started.gatherer.begin(head_of(one))
        return 1_000 * await seconds(started, one)


def head_of(one: Story) -> Message:
    head, _, _ = one.message.data.partition(b"\r\n\r\n")
    return dataclasses.replace(one.message, data=head + b"\r\n\r\n")


# --- Tokens ----------------------------------------------------------------------------------


def added(told: Evidence, facts: Facts) -> int:
    """What evidence adds to a prompt, by the bound that the budget is kept with."""
    mail = Mail(subject="Hello", text="Hello.", from_address=f"info@{facts.sender_domain}")
    envelope = Envelope(
        client_address=client_of(0), client_name=facts.sender_domain, helo="mx.example"
    )
    whole = Message(envelope=envelope, data=b"", size=0)
    bare = Message(envelope=Envelope(), data=b"", size=0)
    instructions = brief.instructions(Config())
    briefs = (
        Brief(message=whole, mail=mail, facts=facts, evidence=told),
        Brief(message=bare, mail=mail, facts=facts, evidence=Evidence()),
    )
    prompts = [brief.prompt(each, instructions, mark="8" * 12) for each in briefs]
    most, least = (tokens.at_most(prompt.user) for prompt in prompts)
    return most - least


# --- Authentication -------------------------------------------------------------------------


async def checked(config: Config, one: Story, times: int) -> list[float]:
    """ms of CPU for each check of a mail, in all threads, with DNS's answers at hand."""
    dns = Dns(config.evidence.nameservers)
    sender = f"mail.{one.domains[0]}"
    await authenticate(one.message, sender, dns, DEADLINE)
    costs = []
    for _ in range(times):
        began = time.process_time()
        told = await authenticate(one.message, sender, dns, DEADLINE)
        costs.append(1_000 * (time.process_time() - began))
        if told.dmarc != "pass":
            raise SystemExit(f"the mail does not authenticate: {told}")
    return costs


# --- All of it ------------------------------------------------------------------------------


def run(
    *, mails: int = MAILS, at_once: int = AT_ONCE, checks: int = CHECKS, latency: float = LATENCY
) -> list[Measure]:
    """All measures.  Each has mails of its own, whose domains are new to it."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-evidence-") as folder,
        World.running(ALONE + 2 * mails, latency) as world,
        _environment(world.environment),
    ):
        return asyncio.run(_measured(world, Path(folder), mails, at_once, checks))


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


async def _measured(
    world: World, folder: Path, mails: int, at_once: int, checks: int
) -> list[Measure]:
    def settings(url: str) -> Config:
        more: dict[str, Any] = {"store": {"url": url}}
        return configs.parse(world.settings | more)

    memory, file = settings("memory://"), settings(f"sqlite://{folder}/store.db")
    # What is loaded or drawn up on the first mail is the daemon's start, not a mail's.
    await timed(memory, [story(0)])
    in_memory = await timed(memory, [story(ALONE + number) for number in range(mails)])
    filed = [story(ALONE + mails + number) for number in range(mails)]
    in_file = await stored(file, filed)
    after = await timed(file, filed[:1])
    unnamed = await timed(memory, [story(1, is_named=False)])
    early = await begun(memory, story(2, is_named=False))
    found: list[Measure] = []
    for name, times in (("memory", in_memory), ("SQLite", in_file)):
        found += [
            Measure(f"a new mail, kept in {name}, median", median(times.new), "ms", most=NEW_MOST),
            Measure(f"a new mail, kept in {name}, p95", percentile(times.new, 95), "ms"),
            Measure(f"the same from {name}, median", median(times.known), "ms", most=KNOWN_MOST),
            Measure(f"the same from {name}, p95", percentile(times.known, 95), "ms"),
        ]
    found += [
        Measure("  and DNS not asked before", after.new[0], "ms"),
        Measure("a new mail, client unnamed", unnamed.new[0], "ms"),
        Measure("  begun at the header's end", early, "ms"),
    ]
    world.asked()
    took = await burst(memory, [story(3, copy=copy) for copy in range(at_once)])
    asked = world.asked()
    found.append(Measure(f"{at_once} mails of one new domain", 1_000 * took, "ms"))
    for source in dataclasses.fields(Asked):
        counts = getattr(asked, source.name)
        name = f"  {len(counts)} questions to {source.name}, most often asked"
        found.append(Measure(name, max(counts.values()), "", most=QUERIES_MOST))
    costs = [added(*piece) for piece in pieces(PROMPTS)]
    cpu = await checked(memory, story(3, size=SIGNED_SIZE), checks)
    return [
        *found,
        Measure("tokens of evidence, median", median(costs), ""),
        Measure("tokens of evidence, most", max(costs), "", most=TOKENS_MOST),
        Measure("authentication of 20 kB, CPU, median", median(cpu), "ms"),
        Measure("authentication of 20 kB, CPU, p95", percentile(cpu, 95), "ms"),
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench evidence", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args(arguments)
    print("evidence ...", file=sys.stderr, flush=True)
    found = run()
    return report.told(found, as_json=args.json)
