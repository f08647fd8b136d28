"""Speaks broken milter to the daemon, and looks at what is left of it: `python -m bench fuzz`.

    python -m bench fuzz --seed 7 --seconds 600

The cases are fuzzcases'; the same seed gives the same ones in the same order.  After them the
daemon must be alive, judge a good message in time, use no more memory, threads and descriptors
than before, and end at once when told to.  Exit status 1 when it does not; each complaint names the
case that brought it about, where one did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import milterwire as wire
from bench.daemon import configuration, free_port, model_server, started
from bench.fuzzcases import KINDS, Case, make
from bench.milterclient import Closed, Envelope, Mail, MilterClient
from bench.usage import Usage

AT_ONCE = 16
"""Connections at a time: more than libmilter keeps workers for."""

PATIENCE = 20.0
"""Seconds for what takes milliseconds on a machine that does nothing else."""

STOP_SECONDS = 3.0
"""Seconds for a stop with nothing under way: half a second of it is the daemon's own last wait. A
message that it believes to be under way would cost it milter.drain, which is 15."""

MORE_MEMORY = 30.0
"""MB that the daemon may grow by after the first cases, which have touched all of its code: what
the allocator keeps for its threads differs by half of that from run to run."""

MORE_THREADS = 4
"""Threads that may have come since: libmilter keeps an idle worker or two, readers start late."""

MORE_DESCRIPTORS = AT_ONCE + 8
"""Descriptors that may have come since: connections to the model server are kept for a while."""

WARM_UP = 8 * len(KINDS)
"""Cases before the daemon's use of things is first measured."""

LATENCY = 0.03
"""Seconds of a model call: long enough to leave in the middle of one."""

MAIL = Mail.parse(
    b"From: Alice <alice@example.net>\r\nTo: bob@example.org\r\nSubject: hello\r\n"
    b"X-GPT-Verdict: forged\r\n\r\nSee http://www.example.net/ for more.\r\n"
)


class Complaint(Exception):  # noqa: N818 - a finding
    """The daemon did what it must not do."""


@dataclass(frozen=True)
class Target:
    """The daemon under fire: its address, process, and the key it signs with."""

    address: str
    pid: int
    key: bytes


def excess(now: Usage, before: Usage) -> str:
    """What is more than it was, and more than it may be; empty if nothing."""
    grown = (
        ("MB", now.memory, before.memory, MORE_MEMORY),
        ("threads", now.threads, before.threads, MORE_THREADS),
        ("descriptors", now.descriptors, before.descriptors, MORE_DESCRIPTORS),
    )
    return ", ".join(f"{b:.0f} -> {a:.0f} {n}" for n, a, b, most in grown if a > b + most)


async def attack(target: Target, cases: Iterable[Case]) -> list[str]:
    """Plays the cases, some at a time; what the daemon did wrong meanwhile."""
    complaints: list[str] = []
    coming = iter(cases)

    async def line() -> None:
        for case in coming:
            try:
                check(await play(target.address, case), target.key)
            except (Complaint, OSError) as error:
                told = b" | ".join(case.pieces)[:2_000]
                complaints.append(f"{case.kind}, {case.end}: {error or type(error)}\n  {told!r}")

    await asyncio.gather(*(line() for _ in range(AT_ONCE)))
    return complaints


async def play(address: str, case: Case) -> bytes:
    """One case on a connection of its own; what the daemon said to it.

    Raises Complaint if the daemon keeps the connection of one who has nothing more to say.
    """
    port, _, host = address.removeprefix("inet:").partition("@")
    reader, writer = await asyncio.open_connection(host, int(port))
    # What the daemon says is read all the time: it must not wait for us.
    heard = asyncio.create_task(_heard(reader))
    try:
        with contextlib.suppress(OSError):  # it may well hang up on such a peer
            for at, piece in enumerate(case.pieces):
                if at and case.pause:
                    await asyncio.sleep(case.pause)
                writer.write(piece)
                await writer.drain()
            if case.end == "finish":
                writer.write_eof()
        if case.end == "finish":
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(heard), PATIENCE)
            raise Complaint(f"the connection is still open after {PATIENCE:g} s")
        if case.end == "reset":
            line = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return b""
    finally:
        heard.cancel()
        writer.transport.abort() if case.end == "reset" else writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _heard(reader: asyncio.StreamReader) -> bytes:
    said = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            said += part
    return bytes(said)


def check(said: bytes, key: bytes) -> None:
    """Looks at all that the daemon said on one connection.  Raises Complaint.

    Whatever it was asked, it speaks milter, adds its own headers alone, and signs what it adds.
    """
    while said:
        if len(said) < 4:
            raise Complaint(f"it broke off in a packet: {said!r}")
        (size,) = struct.unpack("!I", said[:4])
        if not 0 < size <= len(said) - 4:
            # A connection that is reset may have lost the rest.
            raise Complaint(f"a packet of {size} bytes, of which {len(said) - 4} are there")
        code, payload, said = said[4:5], said[5 : 4 + size], said[4 + size :]
        if code in (wire.OPTNEG, wire.PROGRESS) or code in wire.FINAL:
            continue
        try:
            edit = wire.read_edit(code, payload)
        except (wire.ProtocolError, struct.error) as error:
            raise Complaint(f"an edit that is none: {error}") from error
        if edit is None or edit.kind not in ("addheader", "chgheader"):
            raise Complaint(f"it asks for what it never should: {code!r} {payload[:100]!r}")
        if not edit.name.lower().startswith("x-gpt-"):
            raise Complaint(f"it changes a header that is not its own: {edit}")
        if edit.kind == "chgheader" and edit.value:
            raise Complaint(f"it changes what it is to delete: {edit}")
        if any(sign in edit.value.replace("\n ", "").replace("\n\t", "") for sign in "\r\n"):
            raise Complaint(f"a header that becomes two: {edit}")
        if edit.kind == "addheader" and edit.name == "X-GPT-Verdict":
            check_verdict(edit.value.strip(), key)


def check_verdict(value: str, key: bytes) -> None:
    """Raises Complaint if a verdict is not signed with the key."""
    told, _, mac = value.rpartition("; m=")
    if mac != hmac.new(key, told.encode(), hashlib.sha256).hexdigest():
        raise Complaint(f"a verdict that is not signed: {value}")


async def judged(target: Target) -> None:
    """Has a good message judged.  Raises Complaint unless it gains its headers, and loses the
    forged one, in time."""
    began = time.monotonic()
    try:
        async with MilterClient.connect(target.address, patience=PATIENCE) as client:
            answer = await client.send(MAIL, Envelope(macros={"i": "4good0000001"}))
            mail = client.applied(MAIL, answer)
    except (OSError, Closed) as error:
        raise Complaint(f"a good message is not answered: {error or type(error)}") from error
    verdicts = mail.values("X-GPT-Verdict")
    if answer.final != "continue" or mail.values("X-GPT-Status") != ["scored"]:
        raise Complaint(f"a good message is not scored: {answer}")
    if len(verdicts) != 1 or "; q=4good0000001; " not in verdicts[0]:
        raise Complaint(f"a good message has other verdicts than its own: {verdicts}")
    check_verdict(verdicts[0], target.key)
    if (seconds := time.monotonic() - began) > PATIENCE:
        raise Complaint(f"a good message took {seconds:.1f} s")


async def settled(pid: int, before: Usage) -> Usage:
    """What the daemon uses once it is at rest.  Raises Complaint if that stays above what it was.

    Idle connections and threads take a moment to end.
    """
    until = time.monotonic() + PATIENCE
    while more := excess(now := Usage.of(pid), before):
        if time.monotonic() > until:
            raise Complaint(f"it has grown: {more}")
        await asyncio.sleep(0.1)
    return now


def stopped(process: subprocess.Popen[bytes], most: float = STOP_SECONDS) -> None:
    """Ends the daemon with SIGTERM.  Raises Complaint unless it ends in so many seconds, with
    status 0."""
    began = time.monotonic()
    process.terminate()
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise Complaint(f"it does not end within {PATIENCE:g} s") from None
    if status:
        raise Complaint(f"it ends with status {status}")
    if (seconds := time.monotonic() - began) > most:
        raise Complaint(f"its end takes {seconds:.1f} s: it believes in messages under way")


def limited(cases: Iterable[Case], seconds: float) -> Iterator[Case]:
    """The cases until the time is over."""
    until = time.monotonic() + seconds
    for case in cases:
        if time.monotonic() > until:
            return
        yield case


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    parser.add_argument("--kind", default="", choices=["", *KINDS], help="cases of one kind only")
    args = parser.parse_args(arguments)
    try:
        asyncio.run(_run(args.seed, args.seconds, args.kind))
    except Complaint as complaint:
        print(f"FAIL: {complaint}")
        return 1
    return 0


async def _run(seed: int, seconds: float, kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-") as name, model_server(
        LATENCY
    ) as model:  # fmt: skip
        folder, secret = Path(name), secrets.token_hex(32)
        address = f"inet:{free_port()}@127.0.0.1"
        key, config, log = folder / "verdict.key", folder / "rspamd-llm.toml", folder / "log"
        key.touch(mode=0o600)
        key.write_text(secret + "\n")
        config.write_text(configuration(address, model, key))
        with started(["rspamd_llm", "serve", "-c", str(config)], log) as process:
            target = Target(address, process.pid, bytes.fromhex(secret))
            try:
                await _fuzz(target, seed, seconds, kind)
                stopped(process)
            except (Complaint, OSError, ValueError) as error:  # /proc has little of the dead
                sys.stderr.write(f"The daemon's last words:\n{log.read_text()[-2000:]}\n")
                if (status := process.poll()) is not None:
                    raise Complaint(f"the daemon ended with status {status}; {error}") from error
                raise


async def _fuzz(target: Target, seed: int, seconds: float, kind: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            await judged(target)
            break
        except Complaint:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
    played = 0

    def cases(most: float) -> Iterator[Case]:
        nonlocal played
        while played < most:
            yield make(seed, played, kind)
            played += 1

    complaints = await attack(target, cases(WARM_UP))
    await asyncio.sleep(1.0)
    before = Usage.of(target.pid)
    complaints += await attack(target, limited(cases(float("inf")), seconds))
    await judged(target)
    now = await settled(target.pid, before)
    print(f"{played} cases of seed {seed}; before: {before}; after: {now}")
    if complaints:
        raise Complaint("\n".join([f"{len(complaints)} complaints", *complaints[:20]]))
