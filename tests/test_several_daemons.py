"""Three daemons, one Valkey and two model servers, all of them processes, some killed under load.

Run as a program this file is such a model server, see serve_model.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import random
import re
import secrets
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench import campaigndata
from bench.milterclient import Answer, Closed, Envelope, Mail, MilterClient
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import Request, StubModel
from tests.chain.daemon import ROOT, PrivateDaemon
from tests.chain.ports import HOST, answers, free_port
from tests.valkeyserver import PrivateValkey, running
from tests.waiting import SECONDS, eventually, wait_until

DAEMONS = ("one", "two", "three")
CAMPAIGNS, COPIES, CONNECTIONS = 30, 20, 30

DEADLINE = 60.0
"""Seconds from the end of a mail to its answer, as [milter] deadline has it."""

LATENCY = 0.05
"""Seconds of a model call."""

HELD = 5
"""Campaigns that the model servers do not answer before they are told to: what waits for those is
under way when something is killed."""

UNDER_LOAD = 60
"""Mails answered before something is killed.  More than that can be while the held ones wait, in
the order of Letters.dealt."""

NAME = re.compile(r"(?:held|firm)[a-z]{3}")


def campaign(story: str, number: int) -> str:
    """What stands in its sender, its links and its text."""
    kind = "held" if number < HELD else "firm"
    return f"{kind}{story}{chr(97 + number // 26)}{chr(97 + number % 26)}"


# --- Model servers that write down what they are asked ----------------------------------------


@dataclass(frozen=True)
class Call:
    """When (time.monotonic) which daemon asked which server about what."""

    server: int
    daemon: str
    campaign: str
    at: float
    is_answered: bool


class Model(StubModel):
    """Writes down each call as it comes and when it is answered, to be read after SIGKILL too.

    No two answers are the same.  A daemon is known by its API key.
    """

    def __init__(self, port: int, record: Path) -> None:
        numbers = itertools.count(1)
        super().__init__(
            Behaviour(
                latency=LATENCY,
                answer=lambda _: verdict(0.9, "scam", f"Judgement {next(numbers)} of {port}."),
            ),
            port,
        )
        self._numbers = itertools.count()
        self._record = record.open("ab", buffering=0)
        self._folder = record.parent

    async def answer(self, request: Request, line: Any) -> None:
        number = next(self._numbers)
        daemon = request.headers["authorization"].removeprefix("Bearer ")
        found = NAME.search(json.dumps(request.body))
        assert found
        self._write(number, daemon, found[0], time.monotonic())
        is_held, permission = found[0].startswith("held"), permit(self._folder, found[0])
        while is_held and not permission.exists():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)
        await super().answer(request, line)
        self._write(number)

    def _write(self, *words: object) -> None:
        self._record.write((" ".join(map(str, words)) + "\n").encode())


def permit(folder: Path, name: str) -> Path:
    """The file that a held campaign waits for."""
    return folder / f"{name}.permit"


def serve_model(port: str, record: str) -> None:
    """Such a server, until it is killed."""

    async def serve() -> None:
        async with Model(int(port), Path(record)):
            await asyncio.Event().wait()

    asyncio.run(serve())


@dataclass
class ModelServer:
    """Its process."""

    number: int
    record: Path
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", __name__, str(self.port), str(self.record)]
        self.process = subprocess.Popen(command, cwd=ROOT)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def calls(self) -> list[Call]:
        """All that it was asked."""
        asked: dict[str, list[str]] = {}
        answered = set()
        *lines, _ = self.record.read_text().split("\n")  # the last may be half there
        for line in lines:
            number, *about = line.split(" ")
            if about:
                asked[number] = about
            else:
                answered.add(number)
        return [
            Call(self.number, daemon, name, float(at), number in answered)
            for number, (daemon, name, at) in asked.items()
        ]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


# --- What is sent, and by whom ----------------------------------------------------------------


@dataclass(frozen=True)
class Letter:
    """A copy of a campaign."""

    campaign: str
    mail: Mail
    envelope: Envelope


@dataclass(frozen=True)
class Got:
    """What came of a letter: of which daemon, and the mail as Postfix then keeps it."""

    letter: Letter
    daemon: str
    answer: Answer
    mail: Mail

    @property
    def cache(self) -> str:
        (about,) = self.mail.values("X-GPT-Model")
        return about.rpartition("cache=")[2]


class Letters:
    """The letters of a story: each has its own recipient, name, token and queue ID."""

    def __init__(self, story: str) -> None:
        self.campaigns = [campaign(story, number) for number in range(CAMPAIGNS)]
        self._story = story
        self._copies = itertools.cycle(campaigndata.copies(CAMPAIGNS * COPIES))
        self._numbers = itertools.count(1)
        self._others = itertools.count(CAMPAIGNS)

    def of(self, name: str) -> Letter:
        """One more of a campaign."""
        copy = next(self._copies)
        raw = copy.mail.raw().replace(b"parcel.example.net", f"{name}.example".encode())
        raw = raw.replace(b"Your delivery team", f"Your team of {name}".encode())
        envelope = Envelope(
            sender=f"bounce@{name}.example",
            recipients=(copy.recipient,),
            macros={"i": f"4{self._story}{next(self._numbers)}"},
        )
        return Letter(name, Mail.parse(raw), envelope)

    def other(self) -> Letter:
        """One of another campaign than all before."""
        return self.of(campaign(self._story, next(self._others)))

    def dealt(self) -> list[list[Letter]]:
        """COPIES of each campaign for CONNECTIONS, in the same odd order each time."""
        names = COPIES * self.campaigns
        random.Random(1).shuffle(names)
        letters = [self.of(name) for name in names]
        return [letters[at::CONNECTIONS] for at in range(CONNECTIONS)]


class Postfix:
    """Sends letters to daemons; what the one that is to die leaves goes to the others."""

    def __init__(self, daemons: Mapping[str, PrivateDaemon], dying: str = "") -> None:
        self._daemons = daemons
        self._dying = dying
        self._living = itertools.cycle(name for name in daemons if name != dying)
        self.got: list[Got] = []
        self.cut = 0
        """Connections to the dying one that ended before all was answered."""

    async def send(
        self, name: str, letters: Sequence[Letter], ready: asyncio.Barrier | None = None
    ) -> list[Got]:
        """Over one connection, and from where that ends, over one to another daemon."""
        left = list(letters)
        try:
            return await self._spoken(name, left, ready)
        except Closed:
            assert name == self._dying, f"{name} hung up"
            self.cut += 1
            return await self._spoken(next(self._living), left, None)

    async def crowd(self, dealt: Sequence[Sequence[Letter]]) -> None:
        """All connections at once, spread over the daemons."""
        ready = asyncio.Barrier(len(dealt))
        turns = itertools.cycle(self._daemons)
        async with asyncio.TaskGroup() as tasks:
            for name, letters in zip(turns, dealt, strict=False):
                tasks.create_task(self.send(name, letters, ready))

    async def _spoken(
        self, name: str, left: list[Letter], ready: asyncio.Barrier | None
    ) -> list[Got]:
        told = []
        address = self._daemons[name].address
        async with MilterClient.connect(address, patience=SECONDS) as client:
            if ready:
                await ready.wait()
            while left:
                letter = left[0]
                answer = await client.send(letter.mail, letter.envelope)
                del left[0]
                told.append(Got(letter, name, answer, client.applied(letter.mail, answer)))
                self.got.append(told[-1])
        return told


# --- What runs --------------------------------------------------------------------------------


@dataclass
class Site:
    """All of it."""

    folder: Path
    key: str
    valkey: PrivateValkey
    models: Sequence[ModelServer]
    daemons: Mapping[str, PrivateDaemon]

    def calls(self, letters: Letters) -> list[Call]:
        """All calls about a story's campaigns, the earliest first."""
        calls = [call for model in self.models for call in model.calls()]
        return sorted(
            (call for call in calls if call.campaign in letters.campaigns),
            key=lambda call: call.at,
        )

    def permit(self, letters: Letters) -> None:
        """Lets the held campaigns be answered."""
        for name in letters.campaigns[:HELD]:
            permit(self.folder, name).touch()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, key = tmp_path_factory.mktemp("site"), secrets.token_hex(32)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        valkey = stack.enter_context(running(folder))
        models = [ModelServer(number, folder / f"model{number}") for number in (1, 2)]
        for model in models:
            stack.callback(model.kill)
        daemons = {}
        for name in DAEMONS:
            (folder / name).write_text(name)
            llm = {
                "base_url": [model.base_url for model in models],
                "model": "stub",
                "api_key_file": str(folder / name),
                "concurrency": 64,
            }
            store = {"url": valkey.url, "verdict_ttl": 3_600}
            daemons[name] = PrivateDaemon(
                {"milter": {"deadline": DEADLINE}, "llm": llm, "store": store}, keys=(key,)
            )
        stack.callback(
            lambda: list(pool.map(lambda one: one.__exit__(None, None, None), daemons.values()))
        )
        list(pool.map(PrivateDaemon.start, daemons.values()))
        wait_until(lambda: all(answers(model.port) for model in models))
        yield Site(folder, key, valkey, models, daemons)


async def under_load(
    site: Site, postfix: Postfix, letters: Letters, first: Sequence[str]
) -> list[asyncio.Task[Any]]:
    """Sends all that is dealt, and returns in the middle of it what still runs.

    To each of the daemons in `first` goes a mail of another held campaign before all others, so
    that it is certain who asks about that.
    """
    tasks: list[asyncio.Task[Any]] = []
    for count, (name, held) in enumerate(zip(first, letters.campaigns, strict=False), start=1):
        tasks.append(asyncio.create_task(postfix.send(name, [letters.of(held)])))
        await eventually(lambda count=count: len(site.calls(letters)) == count)  # type: ignore[misc]
    tasks.append(asyncio.create_task(postfix.crowd(letters.dealt())))
    await eventually(lambda: len(postfix.got) >= UNDER_LOAD or tasks[-1].done())
    return tasks


# --- What must hold ---------------------------------------------------------------------------


def assert_all_are_scored(postfix: Postfix, site: Site, count: int) -> None:
    """Each letter has one answer, in time, with one verdict that is signed with the key."""
    ids = {got.letter.envelope.macros["i"] for got in postfix.got}
    assert len(postfix.got) == len(ids) == count
    assert {got.answer.final for got in postfix.got} == {"continue"}
    assert {tuple(got.mail.values("X-GPT-Status")) for got in postfix.got} == {("scored",)}
    assert max(got.answer.waited for got in postfix.got) < DEADLINE
    for got in postfix.got:
        (signed,) = got.mail.values("X-GPT-Verdict")
        text, _, mac = signed.rpartition("; m=")
        assert mac == hmac.new(bytes.fromhex(site.key), text.encode(), hashlib.sha256).hexdigest()
        assert f"; q={got.letter.envelope.macros['i']};" in text
        assert "; s=0.90; c=scam;" in text


def reasons(several: Sequence[Got]) -> dict[str, set[str]]:
    """The reasons given with each campaign's verdicts."""
    found = defaultdict(set)
    for got in several:
        found[got.letter.campaign].update(got.mail.values("X-GPT-Reason"))
    return found


def by_campaign(calls: Sequence[Call]) -> list[list[Call]]:
    found = defaultdict(list)
    for call in calls:
        found[call.campaign].append(call)
    return list(found.values())


# --- The stories ------------------------------------------------------------------------------


def test_the_valkey_is_killed_under_load_and_comes_back(site: Site) -> None:
    letters = Letters("v")
    postfix = Postfix(site.daemons)

    async def killed() -> float:
        async with asyncio.timeout(3 * SECONDS):
            tasks = await under_load(site, postfix, letters, DAEMONS)
            at = time.monotonic()
            site.valkey.stop()
            site.permit(letters)
            await asyncio.gather(*tasks)
            return at

    killed_at = asyncio.run(killed())
    assert_all_are_scored(postfix, site, CAMPAIGNS * COPIES + len(DAEMONS))
    calls = site.calls(letters)
    before = Counter(call.campaign for call in calls if call.at < killed_at)
    assert set(before.values()) == {1}
    each = Counter((call.campaign, call.daemon) for call in calls)
    assert set(each.values()) == {1}
    assert len(calls) > CAMPAIGNS  # nothing was shared any more

    async def shared_again() -> list[Got]:
        """A daemon tries the server again with a mail, some seconds after it failed."""
        async with asyncio.timeout(SECONDS):
            for name, daemon in site.daemons.items():
                while "works again" not in daemon.log():
                    await postfix.send(name, [letters.other()])
                    await asyncio.sleep(0.1)
            news = letters.other().campaign
            told = [await postfix.send(name, [letters.of(news)]) for name in DAEMONS]
            return [got for several in told for got in several]

    site.valkey.start()
    several = asyncio.run(shared_again())
    assert [got.cache for got in several] == ["miss", "hit", "hit"]
    assert [len(told) for told in reasons(several).values()] == [1]


def test_a_daemon_and_a_model_server_are_killed_under_load(site: Site) -> None:
    letters = Letters("k")
    postfix = Postfix(site.daemons, dying="one")
    dying, lost_model = site.daemons["one"], site.models[1]

    async def killed() -> float:
        async with asyncio.timeout(3 * SECONDS):
            twice = ["one", "two", "two", "three", "three"]
            tasks = await under_load(site, postfix, letters, twice)
            at = time.monotonic()
            dying.process.kill()
            lost_model.kill()
            site.permit(letters)
            dying.process.wait()
            await asyncio.gather(*tasks, asyncio.to_thread(dying.start))
            return at

    killed_at = asyncio.run(killed())
    assert_all_are_scored(postfix, site, CAMPAIGNS * COPIES + HELD)
    assert postfix.cut >= 1
    told = reasons(postfix.got)
    assert {name: len(told[name]) for name in told} == dict.fromkeys(letters.campaigns, 1)

    # One call for each campaign, and one more for each that was lost with its server or its asker.
    calls = site.calls(letters)
    lost = []
    for several in by_campaign(calls):
        for call, following in itertools.pairwise(several):
            with_server = call.server == lost_model.number and not call.is_answered
            with_asker = call.daemon == "one" and following.at >= killed_at
            assert with_server or with_asker, (call, following)
            lost.append(call)
    assert len(calls) == CAMPAIGNS + len(lost)
    # The least busy server is asked: of two calls at once the second one's is the one that died.
    first = [(call.daemon, call.server) for call in calls[:HELD]]
    assert first == [("one", 1), ("two", 1), ("two", 2), ("three", 1), ("three", 2)]
    assert {calls[at] for at in (0, 2, 4)} <= set(lost)

    async def known_to_all() -> list[Got]:
        again = Postfix(site.daemons)
        for name in DAEMONS:
            await again.send(name, [letters.of(each) for each in letters.campaigns])
        return again.got

    again = asyncio.run(known_to_all())
    hits = Counter((got.daemon, got.cache) for got in again)
    assert hits == {(name, "hit"): CAMPAIGNS for name in DAEMONS}
    assert reasons(again) == told
    assert site.calls(letters) == calls


if __name__ == "__main__":
    serve_model(*sys.argv[1:])
