"""Whether the daemon's memory is bounded when big mails come at once: `python -m bench soak --big`.

200 MTAs begin at the same time, each with one mail.  Above gate.max_size nothing of a mail is kept
once that is known, and it passes at once.  Below it the first milter.max_body bytes are kept and
read; these 200 are all that milter.BYTES_HELD lets in.  How many times these bytes may be there at
most is told by CASES: the last one, with a slow model, has them all at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.daemon import Daemon, daemon, model_server
from bench.mails import WORDS, make
from bench.memory import memory
from bench.milterclient import Closed, Envelope, Mail, MilterClient
from bench.report import Measure
from bench.soakload import status_of
from rspamd_llm.milter import BYTES_HELD

AT_ONCE = 200
LATENCY, SLOW = 1.0, 30.0
"""Seconds of a model call; the slow one ends half the time before the deadline."""

SAMPLE_SECONDS = 0.05
REST_SECONDS = 5.0
PATIENCE = 120.0
"""Seconds for an answer: twice the daemon's own deadline."""

ANSWERED_MOST = 90.0
"""Seconds until all have their answer: the deadline of 60 runs from the end of each, and a busy
machine takes 20 to bring 2 GB there."""

ABOVE, BELOW = 10_000_000, 4_900_000
"""Bytes of a mail: gate.max_size is 5,000,000."""

OTHER_MB = 300.0
"""For all else: 1 MB of text takes 25 MB to be read (seen with tracemalloc) in a process with 40 of
its own, of which there are two on a machine of two cores; 200 threads and connections have stacks
and buffers; and some of what was free in between the allocator cannot use again."""


@dataclass(frozen=True)
class Case:
    """Mails of one kind, and how many times the bytes that are held of bodies there may be."""

    name: str
    make: Callable[[], Mail]
    copies: int
    is_announced: bool = False
    """Whether every second MTA says how big its mail is."""
    status: str = ""
    """What becomes of all; of those without it some may have no answer of the model in time."""
    latency: float = LATENCY


@dataclass(frozen=True)
class Wave:
    """What came of mails that arrived at once: MB before, at most and at rest after them, and
    seconds until the last was answered."""

    before: float
    most: float
    after: float
    statuses: Counter[str]
    seconds: float


def filed(size: int) -> Mail:
    """A mail of that size with a file; lines of base64 make it 3 % bigger than it was ordered."""
    return make(size * 97 // 100, 0)


def written(size: int, sign: str = "") -> Mail:
    """A mail all of text, with a sign at its beginning."""
    words = " ".join(WORDS).encode() + b"\r\n"
    kind = ("Content-Type", " text/plain; charset=utf-8")
    headers = [kind if one[0] == kind[0] else one for one in make(1_000, 0).headers]
    return Mail(tuple(headers), sign.encode() + words * (size // len(words)))


CASES = (
    # The pieces that came, until the mail is known to be too big.
    Case("10 MB, a file", lambda: filed(ABOVE), 1, True, "skipped; size"),
    # The pieces, and the message that they were joined to, or what was read of it.
    Case("4.9 MB, a file", lambda: filed(BELOW), 2, status="scored"),
    Case("4.9 MB of text", lambda: written(BELOW), 2),
    # For one such sign Python keeps four bytes for every letter of the text.
    Case(
        "4.9 MB of text, one emoji, a slow model",
        lambda: written(BELOW, "\N{GRINNING FACE}"),
        2,
        latency=SLOW,
    ),
)


def run() -> list[Measure]:
    """All cases, each with a daemon of its own."""
    found: list[Measure] = []
    for case in CASES:
        print(f"{AT_ONCE} x {case.name} ...", file=sys.stderr, flush=True)
        with model_server(case.latency) as url, daemon(url) as target:
            wave = asyncio.run(_wave(target, case))
        print(f"{case.name}: {dict(wave.statuses)}")
        found += measures(case, wave)
    return found


def measures(case: Case, wave: Wave) -> list[Measure]:
    """The numbers of a case, with their requirements."""
    most = wave.before + case.copies * BYTES_HELD / 1e6 + OTHER_MB
    right = case.status or "scored"
    unanswered = sum(
        count for status, count in wave.statuses.items() if not is_fit(case.status, status)
    )
    return [
        Measure(f"{case.name}: memory before", wave.before, "MB"),
        Measure("  memory, most", wave.most, "MB", most=most),
        Measure("  memory at rest, after", wave.after, "MB"),
        Measure("  until all are answered", wave.seconds, "s", most=ANSWERED_MOST),
        Measure(f"  answered {right!r}", wave.statuses[right], ""),
        Measure("  with a wrong answer, or none", unanswered, "", most=0),
    ]


def is_fit(wanted: str, status: str) -> bool:
    """Whether a mail may have this status; where none is wanted: any that the daemon gives."""
    return status == wanted if wanted else status.startswith(("scored", "unscored"))


async def _wave(target: Daemon, case: Case) -> Wave:
    mail = case.make()
    statuses: Counter[str] = Counter()
    with watching(target.pid) as seen:
        await asyncio.sleep(REST_SECONDS)
        before = seen[-1]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                is_told = case.is_announced and number % 2 == 0
                group.create_task(_send(target, mail, number, is_told, statuses))
        seconds = time.perf_counter() - began
        await asyncio.sleep(REST_SECONDS)
    return Wave(before, max(seen), seen[-1], statuses, seconds)


async def _send(
    target: Daemon, mail: Mail, number: int, is_told: bool, statuses: Counter[str]
) -> None:
    arguments = (f"SIZE={len(mail.body)}",) if is_told else ()
    envelope = Envelope(arguments=arguments, macros={"i": f"4big{number:05d}"})
    mine = Mail((("X-Number", f" {number}"), *mail.headers), mail.body)
    try:
        async with MilterClient.connect(target.address, patience=PATIENCE) as client:
            statuses[status_of(await client.send(mine, envelope))] += 1
    except (Closed, OSError) as error:
        statuses[f"no answer: {type(error).__name__}"] += 1


@contextlib.contextmanager
def watching(pid: int) -> Iterator[list[float]]:
    """MB of the daemon, looked at all the time; in a thread, as the client is busy."""
    seen = [memory(pid)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            with contextlib.suppress(OSError, ValueError):  # it has ended, which the mails tell
                seen.append(memory(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
