"""Rspamd's client against servers that behave, fail, stall and lie."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rspamd_llm import breaker, rspamd
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Deadline, Envelope, Message, Opinion
from rspamd_llm.rspamd import Rspamd
from tests.waiting import eventually

LONG = 60.0
SHORT = 0.2
"""For a server that does not answer."""

DATA = b"From: Ann <ann@firm.example>\r\nSubject: x\r\n\r\nbody\r\n"
ENVELOPE = Envelope(
    queue_id="4XyZ1F2z3aB",
    client_address="192.0.2.7",
    client_name="mail.firm.example",
    helo="helo.firm.example",
    sender="<ann@firm.example>",
    recipients=("<bob@example.org>", "<eve@example.org>"),
    recipient_count=2,
)
ANSWER: dict[str, Any] = {
    "is_skipped": False,
    "score": 4.5,
    "required_score": 15.0,
    "action": "add header",
    "symbols": {
        "R_SPF_FAIL": {"name": "R_SPF_FAIL", "score": 1.0, "options": ["-all"]},
        "MIME_GOOD": {"name": "MIME_GOOD", "score": -0.1},
        "RCPT_COUNT_ONE": {"name": "RCPT_COUNT_ONE", "score": 0},
    },
    "messages": {"rspamd_llm": "kept aside"},
    "urls": ["example.com"],
}
OPINION = Opinion(
    action="add header",
    score=4.5,
    symbols={"R_SPF_FAIL": 1.0, "MIME_GOOD": -0.1, "RCPT_COUNT_ONE": 0.0},
)

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What comes in, and the URL; each request is answered by `behaviour`."""

    behaviour: Behaviour
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The last request's header."""
        head = self.requests[-1].partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return [(name, value) for name, _, value in (line.partition(": ") for line in head[1:])]

    def of(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                self.requests.append(head + await reader.readexactly(size))
                await self.behaviour(writer)
                await writer.drain()
                if writer.is_closing():
                    break
        writer.close()


def raw(body: object, *more: str, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = (f"HTTP/1.1 {status}", "Content-Type: application/json", *more)
    lines = "".join(f"{each}\r\n" for each in (*fields, f"Content-Length: {len(data)}"))
    return lines.encode() + b"\r\n" + data


def says(answer: bytes) -> Behaviour:
    async def behaviour(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return behaviour


async def hangs(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drips(writer: asyncio.StreamWriter) -> None:
    for byte in raw(ANSWER):
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.05)


async def closes(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def floods(writer: asyncio.StreamWriter) -> None:
    """100 MB, of which the client takes as much as it likes."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(100):
        writer.write(b"[" * 1_000_000)
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[Server]:
    server = Server(behaviour)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def asking(
    url: str, *, seconds: float = LONG, password: str = "", counters: Counters | None = None
) -> AsyncIterator[Rspamd]:
    client = Rspamd(url, password, seconds, counters or Counters())
    try:
        yield client
    finally:
        await client.close()


def message(data: bytes = DATA, **envelope: Any) -> Message:
    return Message(envelope=dataclasses.replace(ENVELOPE, **envelope), data=data, size=len(data))


def ask(
    behaviour: Behaviour,
    sent: Message | None = None,
    *,
    seconds: float = LONG,
    left: float = 3 * LONG,
    password: str = "",
) -> tuple[Opinion | None, Server, Mapping[str, int]]:
    """The opinion, what the server saw, and what was counted."""

    async def work() -> tuple[Opinion | None, Server]:
        async with (
            serving(behaviour) as server,
            asking(server.url, seconds=seconds, password=password, counters=counters) as client,
        ):
            return await client.opinion(sent or message(), Deadline.after(left)), server

    counters = Counters()
    found, server = asyncio.run(work())
    return found, server, outcomes(counters)


def outcomes(counters: Counters) -> dict[str, int]:
    return {dict(labels)["outcome"]: count for (_, labels), count in counters.snapshot().items()}


class TestQuestion:
    def test_the_opinion(self) -> None:
        found, server, counted = ask(says(raw(ANSWER)))
        assert found == OPINION
        assert counted == {"answered": 1}
        (request,) = server.requests
        assert request.startswith(b"POST /checkv2 HTTP/1.1\r\n")
        assert request.endswith(b"\r\n\r\n" + DATA)

    def test_the_envelope(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)))
        assert server.of("IP") == ["192.0.2.7"]
        assert server.of("From") == ["<ann@firm.example>"]
        assert server.of("Rcpt") == ["<bob@example.org>", "<eve@example.org>"]
        assert server.of("Helo") == ["helo.firm.example"]
        assert server.of("Hostname") == ["mail.firm.example"]
        assert server.of("Queue-Id") == ["4XyZ1F2z3aB"]
        names = {name for name, _ in server.fields}
        assert not names & {"User", "Password", "Settings", "Cookie", "Authorization"}

    def test_it_asks_to_leave_no_trace(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)))
        assert server.of("Flags") == ["no_log,no_stat"]
        assert server.of("User-Agent") == ["rspamc"]
        assert server.of("X-GPT-Question") == ["1"]
        assert server.of("Accept-Encoding") == ["identity"]

    def test_the_password(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)), password="q1")
        assert server.of("Password") == ["q1"]

    def test_an_authenticated_user(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)), message(authenticated=True))
        assert server.of("User") == ["authenticated"]

    def test_a_bounce(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)), message(sender="<>"))
        assert server.of("From") == ["<>"]

    def test_addresses_that_are_not_ascii(self) -> None:
        _, server, _ = ask(says(raw(ANSWER)), message(sender="<\u00e4nn@f\u00efrm.example>"))
        assert server.of("From") == ["<\u00e4nn@f\u00efrm.example>"]

    @pytest.mark.parametrize("name", ["unknown.example\r\nUser: root", "a\nb", "a\0b", "", "[::1]"])
    def test_names_that_cannot_be_sent(self, name: str) -> None:
        sent = message(client_name=name, helo=name.strip("[]"), queue_id=name, client_address=name)
        found, server, _ = ask(says(raw(ANSWER)), sent)
        assert found == OPINION
        told = {key for key, _ in server.fields}
        assert not told & {"Hostname", "Queue-Id", "IP", "User"}

    @pytest.mark.parametrize(
        "address",
        [
            "<a@b>\r\nUser: root",
            "<a@b\r\n>",
            "<a,b@c>",
            '<"un"closed\\">',
            "<a@b>,<c@d>",
            "<a b@c>",
            f"<{chr(0xDCFF)}@c>",
            "<\ufffd@c>",
            "<\u2028@c>",
            f"<{'x' * 1_000}@c>",
        ],
    )
    def test_addresses_that_cannot_be_sent(self, address: str) -> None:
        sent = message(sender=address, recipients=(address, "<bob@example.org>"))
        found, server, _ = ask(says(raw(ANSWER)), sent)
        assert found == OPINION
        assert server.of("From") == server.of("User") == []
        assert server.of("Rcpt") == ["<bob@example.org>"]

    def test_recipients_are_bounded(self) -> None:
        many = tuple(f"<{n}@example.org>" for n in range(1_000))
        _, server, _ = ask(says(raw(ANSWER)), message(recipients=many))
        assert server.of("Rcpt") == list(many[: rspamd.RECIPIENTS])

    def test_a_mail_that_was_cut_is_not_asked_about(self) -> None:
        """Its signatures could not be right."""
        cut = dataclasses.replace(message(), size=len(DATA) + 1)
        found, server, counted = ask(says(raw(ANSWER)), cut)
        assert found is None
        assert (server.requests, counted) == ([], {"cut": 1})

    def test_a_large_mail(self) -> None:
        found, server, _ = ask(says(raw(ANSWER)), message(DATA + b"x" * 5_000_000))
        assert found == OPINION
        assert len(server.requests[0]) > 5_000_000

    def test_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        assert ask(says(raw(ANSWER)))[0] == OPINION

    def test_connections_are_kept_and_cookies_are_not(self) -> None:
        async def work() -> Server:
            async with (
                serving(says(raw(ANSWER, "Set-Cookie: a=b"))) as server,
                asking(server.url) as client,
            ):
                for _ in range(3):
                    assert await client.opinion(message(), Deadline.after(LONG)) == OPINION
                return server

        server = asyncio.run(work())
        assert server.connections == 1
        assert server.of("Cookie") == []


ODD_ANSWERS: Mapping[str, bytes] = {
    "rubbish": raw(b"<html>"),
    "empty": raw(b""),
    "no object": raw([ANSWER]),
    "null": raw(None),
    "nested": raw(b"[" * 500_000),
    "nested objects": raw(b'{"symbols":' * 80_000),
    "half": raw(json.dumps(ANSWER).encode()[:-20]),
    "no UTF-8": raw(b'{"action": "\xff\xfe"}'),
    "NaN": raw({**ANSWER, "score": float("nan")}),
    "infinite": raw({**ANSWER, "score": float("-inf")}),
    "1e999": raw(json.dumps(ANSWER).replace("4.5", "1e999").encode()),
    "a large number": raw(json.dumps(ANSWER).replace("4.5", "9" * 400).encode()),
    "a number of many digits": raw(json.dumps(ANSWER).replace("4.5", "9" * 9_000).encode()),
    "score is a text": raw({**ANSWER, "score": "4.5"}),
    "score is true": raw({**ANSWER, "score": True}),
    "no score": raw({"action": "reject"}),
    "no action": raw({"score": 1.0}),
    "action is a number": raw({**ANSWER, "action": 7}),
    "action is empty": raw({**ANSWER, "action": ""}),
    "action is long": raw({**ANSWER, "action": "x" * 1_000}),
    "symbols is a list": raw({**ANSWER, "symbols": ["R_SPF_FAIL"]}),
    "a symbol is a number": raw({**ANSWER, "symbols": {"A": 1.0}}),
    "a symbol is NaN": raw({**ANSWER, "symbols": {"A": {"score": float("nan")}}}),
    "a symbol without a score": raw({**ANSWER, "symbols": {"A": {}}}),
    "too many symbols": raw({**ANSWER, "symbols": {f"S{n}": {"score": 1} for n in range(2_000)}}),
    "error of its own": raw({"error": "unknown command"}),
    "404": raw(ANSWER, status="404 Not Found"),
    "403": raw(ANSWER, status="403 Forbidden"),
    "500": raw(ANSWER, status="500 Internal Server Error"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirect": raw(ANSWER, "Location: /checkv2", status="307 Temporary Redirect"),
    "compressed": raw(gzip.compress(json.dumps(ANSWER).encode()), "Content-Encoding: gzip"),
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000 + b"\r\n\r\n",
}


class TestFaults:
    @pytest.mark.parametrize("name", ODD_ANSWERS)
    def test_an_answer_that_is_none(self, name: str) -> None:
        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(ODD_ANSWERS[name])
            writer.close()

        found, server, counted = ask(answer)
        assert found is None
        assert counted == {"failed": 1}
        assert len(server.requests) == 1

    @pytest.mark.parametrize("behaviour", [hangs, drips])
    def test_a_server_that_is_slow(self, behaviour: Behaviour) -> None:
        found, _, counted = ask(behaviour, seconds=SHORT)
        assert (found, counted) == (None, {"late": 1})

    def test_it_takes_a_part_of_what_is_left(self) -> None:
        async def work() -> float:
            async with serving(hangs) as server, asking(server.url) as client:
                deadline = Deadline.after(3.0)
                assert await client.opinion(message(), deadline) is None
                return deadline.left()

        assert asyncio.run(work()) > 0

    @pytest.mark.parametrize("behaviour", [closes, floods])
    def test_a_server_that_is_rude(self, behaviour: Behaviour) -> None:
        found, _, counted = ask(behaviour)
        assert (found, counted) == (None, {"failed": 1})

    def test_nobody_there(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            counters = Counters()

            async def work() -> Opinion | None:
                async with asking(f"http://127.0.0.1:{port}", counters=counters) as client:
                    return await client.opinion(message(), Deadline.after(LONG))

            assert asyncio.run(work()) is None
        assert outcomes(counters) == {"failed": 1}

    def test_no_mail_is_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        ask(says(raw(ANSWER, status="500 ann@firm.example")))
        ask(hangs, seconds=SHORT)
        ask(closes)
        assert "status 500" in caplog.text
        assert "ann@" not in caplog.text

    def test_a_question_that_is_cancelled_ends(self) -> None:
        async def work() -> None:
            counters = Counters()
            async with (
                serving(hangs) as server,
                asking(server.url, counters=counters) as client,
            ):
                task = asyncio.create_task(client.opinion(message(), Deadline.after(LONG)))
                await eventually(lambda: bool(server.requests))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert outcomes(counters) == {}
                assert client.state == "ok"

        asyncio.run(work())


class TestBreaker:
    def test_a_dead_rspamd_is_not_asked_for_each_mail(self) -> None:
        async def work() -> None:
            counters = Counters()
            async with serving(closes) as server, asking(server.url, counters=counters) as client:
                for _ in range(breaker.FAILURES + 3):
                    assert await client.opinion(message(), Deadline.after(LONG)) is None
                assert client.state == "open"
                assert len(server.requests) == breaker.FAILURES
                assert outcomes(counters) == {"failed": breaker.FAILURES, "refused": 3}

        asyncio.run(work())

    def test_one_that_answers_again_is_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rspamd, "PAUSE", 0.01)

        async def work() -> None:
            async with serving(closes) as server, asking(server.url) as client:
                for _ in range(breaker.FAILURES):
                    await client.opinion(message(), Deadline.after(LONG))
                assert client.state == "open"
                server.behaviour = says(raw(ANSWER))
                await asyncio.sleep(0.02)
                assert await client.opinion(message(), Deadline.after(LONG)) == OPINION
                assert client.state == "ok"

        asyncio.run(work())

    @pytest.mark.parametrize(
        ("seconds", "left", "state"), [(0.01, LONG, "open"), (LONG, 0.03, "ok")]
    )
    def test_being_late_counts_where_there_was_time(
        self, seconds: float, left: float, state: str
    ) -> None:
        async def work() -> str:
            async with serving(hangs) as server, asking(server.url, seconds=seconds) as client:
                for _ in range(breaker.FAILURES):
                    assert await client.opinion(message(), Deadline.after(left)) is None
                return client.state

        assert asyncio.run(work()) == state


class TestOurPlugin:
    """Whether it is there to keep the question aside is told in the answer."""

    @pytest.mark.parametrize("messages", [None, {}, [], "rspamd_llm", {"smtp_message": "x"}])
    def test_its_absence_is_told_once(
        self, messages: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            answer = raw({**ANSWER, "messages": messages})
            async with serving(says(answer)) as server, asking(server.url) as client:
                for _ in range(3):
                    assert await client.opinion(message(), Deadline.after(LONG)) == OPINION

        asyncio.run(work())
        assert caplog.text.count("without our plugin") == 1

    def test_nothing_is_told_where_it_is_there(self, caplog: pytest.LogCaptureFixture) -> None:
        ask(says(raw(ANSWER)))
        assert caplog.text == ""
