"""Whether the daemon's memory stays flat: `python -m bench soak [--messages 100000]`.

    python -m bench soak --picture docs/soak.svg
    python -m bench soak --big

A daemon with all its sources of evidence switched on and its store in a file gets mail of all
shapes, each different, from MTAs that keep connections or open new ones, give up, hang up and leave
(soakload).  Its memory, threads and descriptors are looked at every few seconds; at the end memory
must be where it was in the middle.  With `--big`, see soakbig.  Exit status 1 when a requirement is
missed.

Fewer than 50,000 messages tell little: what remembers domains is full after some 20,000.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import report, soakbig, svgplot
from bench.daemon import model_server
from bench.rdapstub import Behaviour
from bench.report import Measure, median
from bench.soakload import Load
from bench.soakmails import Mails
from bench.standins import StandIns
from bench.usage import Usage
from tests.chain.daemon import PrivateDaemon

MESSAGES = 100_000

WARM_UP = 1_000
"""Messages before threads and descriptors are first counted: all code has run, all pools are up."""

LATENCIES = (0.02, 2.5)
"""Seconds for an answer of each model server.  The second is there for MTAs that leave while it is
asked: the daemon's first sign of life, which finds them gone, comes after 2 s."""

SAMPLE_SECONDS = 2.0
"""Seconds between two looks at the daemon."""

REST_SECONDS = 12.0
"""Seconds for idle threads and connections to end: the longest are kept for 10."""

GROWTH_MB, GROWTH_SHARE = 5.0, 0.05
"""What memory may grow by from the middle to the end, in MB or as a share of it, whichever is more.
What the allocator keeps for its threads wanders by 2 to 3 MB while nothing leaks.  Between middle
and end lie 40 of 100 messages: of 100,000 that shows a leak of 125 bytes a message."""

MIDDLE, END = (0.4, 0.6), (0.8, 1.0)
"""Shares of the messages between which samples count as the middle and the end."""

MORE_THREADS, MORE_DESCRIPTORS = 4, 8
"""What may be more than after WARM_UP, at rest: libmilter keeps a worker or two, and connections to
the model and the store come and go.  A leak of one in 1,000 messages makes 100."""

WRONG_MOST = 0.01
"""Share of messages that may have another outcome than they should: a busy machine may answer late,
and then what is measured is still the daemon at work."""

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Sample:
    """A look at the daemon after so many messages."""

    messages: int
    usage: Usage


@dataclass(frozen=True)
class Run:
    """All that was seen.  `before` and `after` are at rest."""

    samples: Sequence[Sample]
    before: Usage
    after: Usage
    messages: int
    wrong: int
    rate: float
    """Messages a second, after the warm-up."""


def between(samples: Sequence[Sample], low: float, high: float) -> list[float]:
    """Memory in the samples between two shares of all messages.  The nearest one, if none is."""
    total = samples[-1].messages
    found = [one for one in samples if low * total <= one.messages <= high * total]
    nearest = min(samples, key=lambda one: abs(one.messages - high * total))
    return [one.usage.memory for one in found or [nearest]]


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """MB that memory has grown by from the middle to the end, and what it may have."""
    middle = median(between(samples, *MIDDLE))
    return median(between(samples, *END)) - middle, max(GROWTH_MB, GROWTH_SHARE * middle)


def measures(run: Run) -> list[Measure]:
    """The numbers, with their requirements."""
    found = []
    for share in SHARES:
        at = round(share * run.messages)
        nearest = min(run.samples, key=lambda one: abs(one.messages - at))
        name = f"memory after {share:.0%}, {nearest.messages:,} messages"
        found.append(Measure(name, nearest.usage.memory, "MB"))
    grown, most = growth(run.samples)
    apart = run.messages * ((sum(END) - sum(MIDDLE)) / 2)
    return [
        *found,
        Measure("  most", max(one.usage.memory for one in run.samples), "MB"),
        Measure("  at rest, before and", run.before.memory, "MB"),
        Measure("  after", run.after.memory, "MB"),
        Measure("growth from the middle to the end", grown, "MB", most=most),
        Measure("  which each message would have to leak", 1e6 * most / apart, "bytes"),
        Measure(
            f"threads at rest, {run.before.threads} before",
            run.after.threads,
            "",
            most=run.before.threads + MORE_THREADS,
        ),
        Measure(
            f"descriptors at rest, {run.before.descriptors} before",
            run.after.descriptors,
            "",
            most=run.before.descriptors + MORE_DESCRIPTORS,
        ),
        Measure("messages with a wrong outcome", run.wrong, "", most=WRONG_MOST * run.messages),
        Measure("messages a second", run.rate, "/s"),
    ]


def picture(run: Run, day: str, machine: str) -> str:
    """The memory curve as an SVG."""
    return svgplot.line(
        [(one.messages, one.usage.memory) for one in run.samples],
        title=f"Memory of the daemon over {run.messages:,} messages",
        note=f"{day}; {machine}",
        across="messages",
        up="MB, resident",
    )


@contextlib.contextmanager
def running() -> Iterator[PrivateDaemon]:
    """The daemon, with the whole world of stand-ins around it."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-"))
        world = stack.enter_context(StandIns.running(*Mails.world()))
        world.registry.set(Behaviour())  # all domains are registered
        models = [stack.enter_context(model_server(latency)) for latency in LATENCIES]
        settings = world.settings()
        settings["search"] |= {"max_per_day": 10_000_000}
        settings["llm"] = {"base_url": models, "model": "stub", "concurrency": 300}
        settings["store"] = {"url": f"sqlite://{folder}/store.db"}
        yield stack.enter_context(PrivateDaemon(settings, environment=world.environment))


async def measured(daemon: PrivateDaemon, messages: int, files: Sequence[Path]) -> Run:
    """Sends the messages and looks at the daemon meanwhile."""
    load = Load(daemon.address, Mails(files))
    samples: list[Sample] = []

    def look() -> None:
        samples.append(Sample(load.done, Usage.of(daemon.pid)))

    async def watch() -> None:
        while True:
            look()
            if len(samples) % 15 == 0:
                told = f"{load.done:,} messages, {samples[-1].usage.memory:.1f} MB"
                print(told, file=sys.stderr, flush=True)
            await asyncio.sleep(SAMPLE_SECONDS)

    warm_up = min(WARM_UP, messages // 2)
    watching = asyncio.create_task(watch())
    await load.send(range(warm_up))
    await asyncio.sleep(REST_SECONDS)
    before = Usage.of(daemon.pid)
    warmed_up = time.monotonic()
    await load.send(range(warm_up, messages))
    rate = (messages - warm_up) / (time.monotonic() - warmed_up)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching  # raises what ended it before
    look()
    await asyncio.sleep(REST_SECONDS)
    for (name, status), count in sorted(load.outcomes.items()):
        print(f"{count:8,}  {name}{f': {status}' if status else ''}", flush=True)
    after = Usage.of(daemon.pid)
    return Run(samples, before, after, messages, sum(load.wrong.values()), rate)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"how many ({MESSAGES:,})")
    parser.add_argument("--mails", type=Path, help="a folder of mails to be mixed in")
    parser.add_argument("--picture", type=Path, help="an SVG file for the curve")
    parser.add_argument("--big", action="store_true", help="200 mails of 10 MB at once instead")
    args = parser.parse_args(arguments)
    if args.big:
        found = soakbig.run()
    else:
        files = sorted(one for one in args.mails.rglob("*") if one.is_file()) if args.mails else []
        with running() as daemon:
            try:
                seen = asyncio.run(measured(daemon, args.messages, files))
            except (OSError, ValueError):
                sys.stderr.write(f"The daemon's last words:\n{daemon.log()[-4000:]}\n")
                raise
        found = measures(seen)
        if args.picture:
            machine = report.machine()
            told = f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}"
            args.picture.write_text(picture(seen, f"{datetime.now(UTC):%Y-%m-%d}", told))
    return report.told(found)
