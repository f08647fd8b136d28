"""Peers that speak broken milter to a real daemon, and what is left of it afterwards.

The long run is `python -m bench fuzz`; here are a few hundred of its cases, and some that are too
special for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import pytest

from bench import fuzz, fuzzcases
from bench import milterwire as wire
from bench.fuzz import Complaint, Target, excess
from bench.fuzzcases import KINDS, Case
from bench.milterclient import Answer, Envelope, Mail, MilterClient, Peer
from bench.stubanswers import Behaviour
from bench.stubmodel import StubModel
from bench.usage import Usage
from tests.chain.daemon import PrivateDaemon
from tests.test_serve import BOB, FORGED, asked, fields, run, settings
from tests.waiting import eventually

STOP_SECONDS = 10.0
"""Seconds for a stop with nothing under way: a message miscounted costs 15, whatever the load."""


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(autouse=True)
def well_behaved(stub: StubModel) -> None:
    stub.set(Behaviour())


@pytest.fixture(scope="module")
def daemon(stub: StubModel) -> Iterator[PrivateDaemon]:
    """A daemon that must end well, whatever was done to it."""
    with PrivateDaemon(settings(stub)) as started:
        yield started
        fuzz.stopped(started.process, STOP_SECONDS)


def target(daemon: PrivateDaemon) -> Target:
    return Target(daemon.address, daemon.pid, bytes.fromhex(daemon.keys[0]))


class TestCases:
    def test_the_same_number_is_the_same_case(self) -> None:
        numbers = range(3 * len(KINDS))
        assert [fuzzcases.make(1, n) for n in numbers] == [fuzzcases.make(1, n) for n in numbers]
        assert [fuzzcases.make(1, n) for n in numbers] != [fuzzcases.make(2, n) for n in numbers]

    def test_all_kinds_take_turns(self) -> None:
        assert {fuzzcases.make(1, n).kind for n in range(len(KINDS))} == set(KINDS)

    @pytest.mark.parametrize(
        ("strings", "fatal"),
        [(b"", False), (b"i\0", True), (b"i\0x\0", False), (b"i\0x", True), (b"i\0\0j\0", True)],
    )
    def test_what_libmilter_cannot_bear_is_known(self, strings: bytes, fatal: bool) -> None:
        said = wire.packet(wire.HELO, b"x\0") + wire.packet(wire.MACRO, b"M" + strings)
        assert fuzzcases.is_fatal(Case("", (said[:7], said[7:]))) is fatal


ADDED = wire.packet(b"h", b"X-GPT-Score\0 0.97\0")


class TestCheck:
    """The fuzzer sees what is wrong."""

    @pytest.mark.parametrize(
        "said", [b"", ADDED, wire.packet(b"p"), wire.packet(b"m", b"\0\0\0\1x-gpt-a\0\0")]
    )
    def test_what_is_well(self, said: bytes) -> None:
        fuzz.check(said, b"k")

    @pytest.mark.parametrize(
        "said",
        [
            b"\0\0\0",
            b"\0\0\0\0",
            ADDED[:-1],
            wire.packet(b"?"),
            wire.packet(b"+", b"<a@b.example>\0"),
            wire.packet(b"b", b"another body"),
            wire.packet(b"h", b"X-Spam\0 no\0"),
            wire.packet(b"h", b"X-GPT-Score\0 0.97"),
            wire.packet(b"h", b"X-GPT-Reason\0 one\nX-Spam: no\0"),
            wire.packet(b"m", b"\0\0\0\1Subject\0\0"),
            wire.packet(b"m", b"\0\0\0\1X-GPT-Score\0 0.00\0"),
            wire.packet(b"h", b"X-GPT-Verdict\0 v=1; st=scored; m=00\0"),
        ],
    )
    def test_what_is_not(self, said: bytes) -> None:
        with pytest.raises(Complaint):
            fuzz.check(ADDED + said, b"k")

    def test_growth(self) -> None:
        before = Usage(70.0, 12, 20)
        assert excess(Usage(75.0, 13, 25), before) == ""
        assert excess(Usage(175.0, 13, 25), before) == "70 -> 175 MB"
        assert excess(Usage(70.0, 112, 120), before) == "12 -> 112 threads, 20 -> 120 descriptors"


def test_the_daemon_is_none_the_worse(daemon: PrivateDaemon) -> None:
    async def fuzzed() -> None:
        one = target(daemon)
        first, more = 3 * len(KINDS), 12 * len(KINDS)
        assert await fuzz.attack(one, (fuzzcases.make(11, n) for n in range(first))) == []
        await asyncio.sleep(0.5)  # threads and connections of the last case end
        before = Usage.of(one.pid)
        cases = (fuzzcases.make(11, n) for n in range(first, first + more))
        assert await fuzz.attack(one, cases) == []
        await fuzz.judged(one)
        await fuzz.settled(one.pid, before)

    run(fuzzed())


def test_lines_that_stay_half_open_keep_nobody_waiting(daemon: PrivateDaemon) -> None:
    word = wire.packet(*fuzzcases.greeting()[0])

    async def besieged() -> None:
        one = target(daemon)
        before = Usage.of(one.pid)
        port = int(daemon.address.removeprefix("inet:").partition("@")[0])
        lines = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(300)]
        for number, line in enumerate(lines):
            line.write(word[: number % len(word)])
        await eventually(lambda: Usage.of(one.pid).descriptors >= before.descriptors + 300)
        for _ in range(5):
            await fuzz.judged(one)
        for line in lines:
            line.close()
        await fuzz.settled(one.pid, before)

    run(besieged())


def test_those_who_leave_while_the_model_hangs_are_forgotten(
    daemon: PrivateDaemon, stub: StubModel
) -> None:
    stub.set(Behaviour(fault="hang"))
    cancelled = stub.cancelled

    async def left() -> None:
        leaving = [fuzzcases.make(5, number, "leaves at the end") for number in range(20)]
        port = int(daemon.address.removeprefix("inet:").partition("@")[0])
        lines = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in leaving]
        for line, case in zip(lines, leaving, strict=True):
            line.write(case.pieces[0])
        await asked(stub)
        await eventually(lambda: stub.active == len(lines))
        for line in lines:
            line.transport.abort()
        await eventually(lambda: stub.cancelled == cancelled + len(lines))

    run(left())


class TestOddText:
    """What is no UTF-8 where pymilter wants some: a message is judged all the same, and ends."""

    def sent(self, daemon: PrivateDaemon, about: Envelope, peer: Peer) -> tuple[Answer, Mail]:
        async def sending() -> tuple[Answer, Mail]:
            async with MilterClient.connect(daemon.address) as client:
                answer = await client.send(FORGED, about, peer)
                return answer, client.applied(FORGED, answer)

        return run(sending())

    def test_macros(self, daemon: PrivateDaemon) -> None:
        _, mail = self.sent(daemon, Envelope("a@example.net", BOB, macros={"i": "\udcff"}), Peer())
        assert (fields(mail)["st"], fields(mail)["q"]) == ("scored", "-")
        someone = {"i": "4XyZ", "{auth_authen}": "\udcff"}
        _, mail = self.sent(daemon, Envelope("a@example.net", BOB, macros=someone), Peer())
        assert not [name for name, _ in mail.headers if name.lower().startswith("x-gpt-")]

    def test_names(self, daemon: PrivateDaemon) -> None:
        odd = Peer(host="\udcff", helo="\udced\udca0\udc80")
        about = Envelope("\udcff@example.net", ("\udcff@example.org",), ("SIZE=\udcff",))
        _, mail = self.sent(daemon, about, odd)
        assert fields(mail)["st"] == "scored"
        assert len(mail.values("X-GPT-Score")) == 1


def test_another_offer_in_the_middle_leaves_no_message_behind(daemon: PrivateDaemon) -> None:
    again = struct.pack("!III", wire.VERSION, wire.ALL_ACTIONS, wire.ALL_STEPS)
    begun = [*fuzzcases.greeting(), (wire.MAIL, b"<a@example.net>\0")]
    said = [*begun, (wire.OPTNEG, again), *begun, (fuzzcases.NEW_CONNECTION, b""), *begun]
    case = Case("offers", (b"".join(wire.packet(*packet) for packet in said),))
    run(fuzz.play(daemon.address, case))
