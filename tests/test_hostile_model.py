"""A model server that is broken, lies or attacks: what a mail becomes then, through a real daemon.

What is expected of each fault stands in ROWS and SLOW.  After each the next mail is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench.milterclient import Answer, Mail
from bench.stubanswers import GOOD, Behaviour, completion, failure, response, verdict
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.test_serve import envelope, run, sent

DEADLINE = 3.0
ROOM = 2.0
"""Seconds that an answer may come after the deadline: this machine may be busy."""

Act = Callable[["Hostile", asyncio.StreamWriter, bytes], Awaitable[None]]


class Hostile:
    """A server that reads requests, and answers each by calling the `act` of its mail's subject.

    It runs in a thread of its own.  `asked` holds the bodies of all requests.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.acts: dict[str, Act] = {}
        self.port = 0
        self._lines: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Hostile]:
        server, loop, ready = cls(), asyncio.new_event_loop(), threading.Event()

        async def listen() -> asyncio.Server:
            listening = await asyncio.start_server(server._serve, "127.0.0.1", 0)
            server.port = listening.sockets[0].getsockname()[1]
            ready.set()
            return listening

        listening = loop.create_task(listen())
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        assert ready.wait(20)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server._end(listening.result()), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _end(self, listening: asyncio.Server) -> None:
        listening.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer_all(reader, writer)
        writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"(?i)content-length: *(\d+)", head)
            body = await reader.readexactly(int(size[1]) if size else 0)
            self.asked.append(body)
            subject = re.search(rb"Subject: row (\d+)", body)
            await self.acts[subject[1].decode() if subject else ""](self, writer, body)
            await writer.drain()


def says(*answers: bytes) -> Act:
    """Sends these bytes, and nothing else, whatever it is asked."""

    async def act(_server: Hostile, writer: asyncio.StreamWriter, _body: bytes) -> None:
        for answer in answers:
            writer.write(answer)

    return act


def says_and_closes(answer: bytes) -> Act:
    async def act(_server: Hostile, writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(answer)
        writer.close()

    return act


def repeats(first: bytes, again: bytes, pause: float = 0.0, most: int = 100_000_000) -> Act:
    """Sends the one once and the other again and again, up to so many bytes."""

    async def act(_server: Hostile, writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(first)
        for _ in range(most // len(again)):
            writer.write(again)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)

    return act


def redirects(status: int, location: str = "") -> Act:
    """Sends the client to another address, or to where it is already."""

    async def act(server: Hostile, writer: asyncio.StreamWriter, _body: bytes) -> None:
        target = location or f"{server.base_url}/chat/completions"
        writer.write(response(status, b"", {"location": target}))

    return act


async def hangs(_server: Hostile, _writer: asyncio.StreamWriter, _body: bytes) -> None:
    await asyncio.sleep(3_600)


async def is_late(_server: Hostile, writer: asyncio.StreamWriter, _body: bytes) -> None:
    await asyncio.sleep(DEADLINE + 0.2)
    writer.write(answered(verdict(0.01)))


def answered(answer: str = GOOD, fault: str = "") -> bytes:
    return completion(Behaviour(answer=answer, fault=fault), {"messages": "x" * 4_000})


def cut(answer: bytes, share: float = 0.5) -> bytes:
    head = answer.index(b"\r\n\r\n") + 4
    return answer[: head + int((len(answer) - head) * share)]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ENDLESS = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LARGE = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
BOMB = gzip.compress(b" " * 50_000_000)
ERROR = {"error": {"message": "busy", "type": "server_error", "code": 503}}
DEEP = b'{"choices":' * 50_000
UNAVAILABLE, INVALID, TIMEOUT = (
    f"unscored; {code}" for code in ("model-unavailable", "model-invalid", "timeout")
)


@dataclass(frozen=True)
class Row:
    """A fault, and the X-GPT-Status expected of it."""

    act: Act
    status: str


ROWS = {
    "closes without a word": Row(says_and_closes(b""), UNAVAILABLE),
    "closes in the head": Row(says_and_closes(HEAD), UNAVAILABLE),
    "closes in the middle of its answer": Row(says_and_closes(cut(answered())), UNAVAILABLE),
    "closes before the last chunk": Row(says_and_closes(ENDLESS + b"2\r\n{}\r\n"), UNAVAILABLE),
    "speaks no HTTP": Row(says_and_closes(b"220 mx.example ESMTP\r\n"), UNAVAILABLE),
    "503": Row(says(failure(503)), UNAVAILABLE),
    "503, come again in an hour": Row(says(failure(503, retry_after="3600")), UNAVAILABLE),
    "an error with status 200": Row(says(response(200, ERROR)), INVALID),
    "an error beside an empty answer": Row(says(response(200, ERROR | {"choices": []})), INVALID),
    "a page with status 200": Row(says(answered(fault="html")), INVALID),
    "an event stream": Row(says(response(200, b"data: {}\n\ndata: [DONE]\n\n")), INVALID),
    "a score in prose": Row(says(answered("I am 95% sure.")), INVALID),
    "two verdicts": Row(says(answered(GOOD + verdict(0.0))), INVALID),
    "a score of NaN": Row(says(answered(fault="nan")), INVALID),
    "a score of 1e999": Row(says(answered('{"score": 1e999, "category": "none"}')), INVALID),
    "nested beyond reason": Row(says(response(200, DEEP)), INVALID),
    "100 MB that it announces": Row(
        repeats(HEAD + b"content-length: 100000000\r\n\r\n", b"a" * 65_536), INVALID
    ),
    "100 MB in chunks": Row(repeats(ENDLESS, LARGE), INVALID),
    "100 MB of an error": Row(
        repeats(ENDLESS.replace(b"200 OK", b"500 Oops"), LARGE), INVALID
    ),
    "100 MB of a head": Row(repeats(HEAD, b"x-more: " + b"a" * 1_000 + b"\r\n"), UNAVAILABLE),
    "50 MB, packed": Row(says(response(200, BOMB, {"content-encoding": "gzip"})), INVALID),
    "redirects to itself": Row(redirects(307), UNAVAILABLE),
    "redirects to itself for good": Row(redirects(308), UNAVAILABLE),
    "refuses whatever it is asked": Row(says(failure(400)), UNAVAILABLE),
    # A server that mixes up its clients cannot be told from one that answers.
    "a well-formed answer to another question": Row(says(answered(verdict(0.5))), "scored"),
}  # fmt: skip

SLOW = {
    "hangs": hangs,
    "answers too late": is_late,
    "a byte a second": repeats(cut(answered(), 0.0), b" ", pause=1.0),
    "a byte a second of the head": repeats(b"HTTP/1.1 200 OK\r\nx-more: ", b"a", pause=1.0),
    "a word now and then that it is at work": repeats(
        b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.5
    ),
}
"""They all end at the deadline, as `unscored; timeout`; no answer of theirs is the next mail's."""


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    with Hostile.running() as made:
        yield made


def told(server: Hostile) -> dict[str, dict[str, Any]]:
    """The daemon's settings."""
    llm = {"base_url": server.base_url, "model": "stub", "concurrency": 64}
    return {"llm": llm, "milter": {"deadline": DEADLINE}}


@pytest.fixture(scope="module")
def daemon(server: Hostile) -> Iterator[PrivateDaemon]:
    with PrivateDaemon(told(server)) as started:
        yield started
        assert started.stop() == 0


def mail(row: int) -> Mail:
    return Mail.parse(b"Subject: row %d\r\n\r\nSee http://www.example.net/ now.\r\n" % row)


async def meets(daemon: PrivateDaemon, server: Hostile, row: int, act: Act) -> tuple[Answer, Mail]:
    """What becomes of a mail whose question the server answers so."""
    server.acts[str(row)] = act
    return await sent(daemon, mail(row), envelope())


async def judged(daemon: PrivateDaemon, server: Hostile) -> None:
    """A mail is judged, by its own answer."""
    _, after = await meets(daemon, server, 0, says(answered(verdict(0.25, "scam"))))
    assert after.values("X-GPT-Status") == ["scored"]
    assert after.values("X-GPT-Score") == ["0.25"]


def recovered(daemon: PrivateDaemon, server: Hostile) -> None:
    """The next mail is judged."""
    run(judged(daemon, server))


@pytest.mark.parametrize("name", ROWS)
def test_fault(daemon: PrivateDaemon, server: Hostile, name: str) -> None:
    recovered(daemon, server)
    row, number = ROWS[name], 1 + list(ROWS).index(name)
    before = len(server.asked)
    answer, after = run(meets(daemon, server, number, row.act))
    assert answer.final == "continue"
    assert answer.waited < DEADLINE + ROOM
    assert after.values("X-GPT-Status") == [row.status]
    assert len(after.values("X-GPT-Verdict")) == 1
    assert len(after.values("X-GPT-Score")) == (row.status == "scored")
    assert len(server.asked) == before + 1  # nothing is asked twice, nor anew where it leads
    recovered(daemon, server)


def test_slow_ones_are_left_at_the_deadline(daemon: PrivateDaemon, server: Hostile) -> None:
    """Others' mail is judged meanwhile, which also tells the daemon that the server is well."""

    async def slow(number: int, act: Act) -> tuple[Answer, Mail]:
        await asyncio.sleep(0.5 * number)  # so that there are others between their ends
        return await meets(daemon, server, 1_000 + number, act)

    async def all_at_once() -> list[tuple[Answer, Mail]]:
        rows = [asyncio.create_task(slow(*row)) for row in enumerate(SLOW.values())]
        while not all(row.done() for row in rows):
            await judged(daemon, server)
            await asyncio.sleep(0.05)
        return [row.result() for row in rows]

    found = dict(zip(SLOW, run(all_at_once()), strict=True))
    assert {name: after.values("X-GPT-Status") for name, (_, after) in found.items()} == {
        name: [TIMEOUT] for name in SLOW
    }
    assert all(answer.waited < DEADLINE + ROOM for answer, _ in found.values())
    recovered(daemon, server)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_mail_does_not_follow_a_redirect(
    daemon: PrivateDaemon, server: Hostile, status: int
) -> None:
    with StubModel.running() as other:
        elsewhere = redirects(status, f"{other.base_url}/chat/completions")
        _, after = run(meets(daemon, server, 2_000, elsewhere))
        assert after.values("X-GPT-Status") == [UNAVAILABLE]
        assert (other.connections, other.calls) == (0, 0)
    recovered(daemon, server)


def test_an_answer_that_nobody_asked_for_is_not_the_next_mails(server: Hostile) -> None:
    """It comes in one go with the right one, and would lie there when the next question is put."""
    twice = says(answered(verdict(0.9)) + answered(verdict(0.01)))
    with PrivateDaemon(told(server)) as daemon:
        _, after = run(meets(daemon, server, 3_000, twice))
        assert after.values("X-GPT-Score") == ["0.90"]
        recovered(daemon, server)


def test_a_server_that_changes_its_mind_about_schemas(
    daemon: PrivateDaemon, server: Hostile
) -> None:
    """Takes them, refuses them, and takes them again: it costs one mail, and one only."""

    async def refuses(_: Hostile, writer: asyncio.StreamWriter, body: bytes) -> None:
        refused = b'"response_format"' in body
        writer.write(failure(400, "response_format is unknown") if refused else answered())

    recovered(daemon, server)
    found = [run(meets(daemon, server, 4_000, refuses))[1] for _ in range(3)]
    statuses = [after.values("X-GPT-Status")[0] for after in found]
    assert statuses == [UNAVAILABLE, "scored", "scored"]
    recovered(daemon, server)
