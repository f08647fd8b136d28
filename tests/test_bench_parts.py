"""The benchmarks' parts, proven against other people's code: the milter client against pymilter,
the stub model server against the standard library's HTTP client. No timing is judged here."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import milterwire as wire
from bench.mails import make
from bench.memory import memory
from bench.milterclient import Answer, Closed, Edit, Envelope, Mail, MilterClient, Offer, Peer
from bench.report import Measure, percentile, table
from bench.stubanswers import FAULTS, Behaviour, verdict
from bench.stubmodel import StubModel
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
MESSAGE = b"Subject: hello\r\nX-Echo: forged\r\nx-ECHO : folded\r\n\ttwice\r\n\r\nbody\r\n"


# --- the protocol as values ---


def edit(kind: str, name: str, value: str = "", index: int = 0) -> Edit:
    return Edit(kind, name, value, index)


HEADERS = (("A", " 1"), ("X", " 1"), ("B", " 1"), ("x", " 2"), ("X", " 3"))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([edit("addheader", "N", "v")], [*HEADERS, ("N", " v")]),
        ([edit("chgheader", "x", "", 2)], [*HEADERS[:3], HEADERS[4]]),
        ([edit("chgheader", "X", "", i) for i in (3, 2, 1)], [HEADERS[0], HEADERS[2]]),
        # Deletion is at once: counting upwards misses every other one.
        ([edit("chgheader", "X", "", i) for i in (1, 2, 3)], [HEADERS[0], *HEADERS[2:4]]),
        ([edit("chgheader", "X", "", 0)], [HEADERS[0], *HEADERS[2:]]),
        ([edit("chgheader", "X", "", 4)], list(HEADERS)),
        ([edit("chgheader", "X", "new", 2)], [*HEADERS[:3], ("X", " new"), HEADERS[4]]),
        ([edit("chgheader", "X", "new", 9)], [*HEADERS, ("X", " new")]),
        ([edit("insheader", "N", "v", 0)], [("N", " v"), *HEADERS]),
        ([edit("insheader", "N", "v", 1)], [("N", " v"), *HEADERS]),
        ([edit("insheader", "N", "v", 2)], [HEADERS[0], ("N", " v"), *HEADERS[1:]]),
        ([edit("insheader", "N", "v", 99)], [*HEADERS, ("N", " v")]),
        ([edit("addheader", "X", "4"), edit("chgheader", "X", "", 4)], list(HEADERS)),
    ],
)
def test_edits_apply_as_postfix_applies_them(
    edits: list[Edit], expected: list[tuple[str, str]]
) -> None:
    assert list(wire.apply_edits(HEADERS, edits)) == expected


def test_a_filter_with_leading_space_brings_its_own() -> None:
    assert wire.apply_edits((), [edit("addheader", "N", " v")], leading_space=True) == (
        ("N", " v"),
    )


@pytest.mark.parametrize(
    ("raw", "headers", "body"),
    [
        (b"A: 1\r\nB:2\r\n\r\nx\r\n", [("A", " 1"), ("B", "2")], b"x\r\n"),
        (b"A: 1\n\n", [("A", " 1")], b""),
        (b"A: 1\n\t2\n 3\n\nx", [("A", " 1\n\t2\n 3")], b"x"),
        (b"A : 1\nno header here\nC: 3\n", [("A", " 1")], b"no header here\r\nC: 3\r\n"),
        (b"A: 1", [("A", " 1")], b""),
        (b"", [], b""),
        (b"A: \xff\xc3\xa4\n\n", [("A", " \udcff\u00e4")], b""),
    ],
)
def test_a_message_is_read_as_postfix_reads_it(
    raw: bytes, headers: list[tuple[str, str]], body: bytes
) -> None:
    mail = Mail.parse(raw)
    assert (list(mail.headers), mail.body) == (headers, body)
    assert Mail.parse(mail.raw()) == mail


def test_values_finds_all_copies_in_any_case() -> None:
    assert Mail.parse(MESSAGE).values("X-Echo") == ["forged", "folded\n\ttwice"]


def test_a_string_ends_at_its_first_nul() -> None:
    assert wire.strings("a\0b", "c") == b"a\0c\0"


def test_bodies_are_cut_at_the_protocols_limit() -> None:
    sizes = [len(chunk) for chunk in wire.chunks(b"x" * (2 * wire.CHUNK + 1))]
    assert sizes == [wire.CHUNK, wire.CHUNK, 1]
    assert list(wire.chunks(b"")) == []


@pytest.mark.parametrize("payload", [b"name", b"name\0", b"name\0value", b"a\0b\0c\0"])
def test_malformed_edits_are_errors(payload: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.read_edit(b"h", payload)


# --- the client against pymilter ---


@contextlib.contextmanager
def echo(address: str, *options: str) -> Iterator[str]:
    """A pymilter program listening at the address."""
    command = [sys.executable, "-m", "bench.echomilter", address, *options]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        until = time.monotonic() + 20
        while not listening(address):
            assert process.poll() is None, "the echo filter did not start"
            assert time.monotonic() < until, "the echo filter does not listen"
            time.sleep(0.02)
        yield address
    finally:
        process.kill()
        process.wait()


def listening(address: str) -> bool:
    async def probe() -> None:
        (await MilterClient.open(address)).close()

    try:
        asyncio.run(probe())
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module", params=["inet", "unix"])
def echo_address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    path = tmp_path_factory.mktemp("echo") / "s"
    address = f"unix:{path}" if request.param == "unix" else f"inet:{free_port()}@127.0.0.1"
    with echo(address) as running:
        yield running


def run(
    address: str,
    steps: Callable[[MilterClient], Coroutine[Any, Any, Any]],
    offer: Offer | None = None,
) -> Any:
    async def main() -> Any:
        async with MilterClient.connect(address, offer, patience=10) as client:
            return await steps(client)

    return asyncio.run(main())


def said(answer: Answer) -> dict[str, Any]:
    """What the echo filter says that it was shown."""
    added = [edit.value for edit in answer.edits if edit.kind == "addheader"]
    return {key: ast.literal_eval(value) for key, _, value in (v.partition("=") for v in added)}


def test_the_filter_sees_the_message_as_sent(echo_address: str) -> None:
    envelope = Envelope(
        "a@example.net",
        ("b@example.org", "c@example.org"),
        ("SIZE=100", "BODY=8BITMIME"),
        {"i": "4XyZ1F2z3aB", "{auth_authen}": "user"},
    )
    body = bytes(range(256)) * 300

    async def steps(client: MilterClient) -> Answer:
        mail = Mail(Mail.parse(MESSAGE).headers, body)
        return await client.send(mail, envelope, Peer("2001:db8::1", "host", 123, "helo.name"))

    answer = run(echo_address, steps)
    assert answer.final == "continue"
    assert said(answer) == {
        "client": ["host", ("2001:db8::1", 123, 0, 0), "helo.name"],
        "from": ["<a@example.net>", "SIZE=100", "BODY=8BITMIME"],
        "user": "user",
        "early": None,
        "rcpts": [["<b@example.org>", "b@example.org"], ["<c@example.org>", "c@example.org"]],
        "headers": [["Subject", "hello"], ["X-Echo", "forged"], ["x-ECHO", "folded\n\ttwice"]],
        "id": "4XyZ1F2z3aB",
        "chunks": [wire.CHUNK, len(body) - wire.CHUNK],
        "digest": hashlib.sha256(body).hexdigest(),
    }


def test_its_edits_apply(echo_address: str) -> None:
    mail = Mail.parse(MESSAGE)

    async def steps(client: MilterClient) -> Mail:
        return client.applied(mail, await client.send(mail))

    after = run(echo_address, steps)
    assert after.headers[0] == ("Subject", " hello")
    assert len(after.values("X-Echo")) == 9
    assert not {"forged", "folded\n\ttwice"} & set(after.values("x-echo"))
    assert after.body == mail.body


def test_one_connection_carries_many_messages(echo_address: str) -> None:
    subjects = ("reject", "tempfail", "discard", "replycode", "skip", "none")

    async def steps(client: MilterClient) -> list[tuple[str, str]]:
        found = []
        for subject in subjects:
            mail = Mail((("Subject", f" {subject}"),), b"x" * 3 * wire.CHUNK)
            answer = await client.send(mail)
            found.append((answer.final, answer.text))
            assert len(said(answer)["chunks"]) == (1 if subject == "skip" else 3)
            await client.event(wire.MAIL, wire.strings("<x@example.net>"))
            client.abort()
            client.abort()
        return found

    assert run(echo_address, steps) == [
        ("reject", ""),
        ("tempfail", ""),
        ("discard", ""),
        ("replycode", "550 5.7.1 no thank you"),
        ("continue", ""),
        ("continue", ""),
    ]


def test_answers_before_the_end_of_message(echo_address: str) -> None:
    mail = Mail.parse(MESSAGE)

    async def steps(client: MilterClient) -> list[Answer]:
        good, bad = "user@example.org", "refused@example.org"
        return [
            await client.send(mail, Envelope("waved@example.net")),
            await client.send(mail, Envelope(recipients=(bad, good))),
            await client.send(mail, Envelope(recipients=(bad,))),
            await client.send(mail),
        ]

    waved, partly, refused, after = run(echo_address, steps)
    assert (waved.final, waved.step, waved.edits) == ("accept", wire.MAIL, ())
    assert (partly.final, partly.refused) == ("continue", ("refused@example.org",))
    assert said(partly)["rcpts"] == [["<user@example.org>", "user@example.org"]]
    assert (refused.final, refused.step) == ("reject", wire.RCPT)
    assert after.final == "continue"


def test_progress_is_counted(echo_address: str) -> None:
    async def steps(client: MilterClient) -> Answer:
        return await client.send(Mail((("Subject", " sleep 0.1"),)))

    answer = run(echo_address, steps)
    assert answer.progress >= 1
    assert said(answer)["chunks"] == []


def test_an_mta_that_allows_no_deletion(echo_address: str) -> None:
    async def steps(client: MilterClient) -> Answer:
        assert not client.actions & wire.F_CHGHDRS
        return await client.send(Mail.parse(MESSAGE))

    answer = run(echo_address, steps, Offer.without(wire.F_CHGHDRS))
    assert {edit.kind for edit in answer.edits} == {"addheader"}


def test_an_mta_that_waits_for_every_answer(echo_address: str) -> None:
    """Without the NR_ flags on offer the filter has to answer each step."""

    async def steps(client: MilterClient) -> Answer:
        assert not client.steps & sum(wire.P_NR.values())
        return await client.send(Mail.parse(MESSAGE))

    few = Offer(steps=wire.ALL_STEPS & ~sum(wire.P_NR.values()))
    assert run(echo_address, steps, few).final == "continue"


def test_raw_bytes_and_hanging_up(echo_address: str) -> None:
    async def main() -> None:
        client = await MilterClient.open(echo_address, patience=10)
        await client.flush(b"\0\0\0\1Zgarbage")
        with pytest.raises(Closed):
            await client.reply()
        client.close()

    asyncio.run(main())


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 's'}"


def test_leading_space_and_symbol_lists_are_honoured(address: str) -> None:
    mail = Mail.parse(b"A: 1\nB:2\nC:  3\n\n")
    envelope = Envelope(macros={"i": "QID", "{auth_authen}": "user"})

    async def steps(client: MilterClient) -> tuple[Answer, Mail]:
        assert client.macro_lists == wire.MACROS | {wire.EOM: ("i", "j")}
        answer = await client.send(mail, envelope)
        return answer, client.applied(mail, answer)

    with echo(address, "leading-space", "symbols") as running:
        answer, after = run(running, steps)
    assert said(answer)["headers"] == [["A", " 1"], ["B", "2"], ["C", "  3"]]
    assert (said(answer)["id"], said(answer)["user"]) == ("QID", "user")
    assert said(answer)["server"] == "mx.example.org"
    assert after.headers[3][1].startswith("client=")


def test_a_filter_that_dies_leaves_its_first_edits(address: str) -> None:
    async def steps(client: MilterClient) -> Closed:
        with pytest.raises(Closed) as caught:
            await client.send(Mail((("Subject", " die"),)))
        return caught.value

    with echo(address) as running:
        assert [edit.kind for edit in run(running, steps).edits] == ["addheader"]


# --- the stub model server ---


def ask(stub: StubModel, **body: Any) -> tuple[int, Any]:
    """One completion over a connection of its own: status and parsed body."""
    connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=10)
    try:
        content = json.dumps({"model": "stub", "messages": [], **body})
        connection.request("POST", "/v1/chat/completions", content)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, text


@pytest.fixture(scope="module")
def shared_stub() -> Iterator[StubModel]:
    with StubModel.running() as stub:
        yield stub


@pytest.fixture
def stub(shared_stub: StubModel) -> StubModel:
    shared_stub.set(Behaviour())
    shared_stub.requests.clear()
    shared_stub.calls = shared_stub.peak = shared_stub.cancelled = 0
    return shared_stub


def test_a_good_answer_is_a_completion(stub: StubModel) -> None:
    status, body = ask(stub, seed=7)
    assert status == 200
    assert json.loads(body["choices"][0]["message"]["content"])["score"] == 0.97
    assert body["choices"][0]["finish_reason"] == "stop"
    assert (stub.calls, stub.cancelled) == (1, 0)
    wait_until(lambda: stub.active == 0)  # the stub is done a moment after we have the answer
    assert stub.requests[0].body["seed"] == 7


def test_the_answer_may_depend_on_the_request(stub: StubModel) -> None:
    stub.set(Behaviour(answer=lambda body: verdict(body["seed"] / 10)))
    _, body = ask(stub, seed=3)
    assert json.loads(body["choices"][0]["message"]["content"])["score"] == 0.3


def test_models_and_unknown_paths(stub: StubModel) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=10)
    seen = []
    for path in ("/v1/models", "/stats", "/nothing"):  # on one connection, kept alive
        connection.request("GET", path)
        answer = connection.getresponse()
        seen.append((answer.status, sorted(json.loads(answer.read()))))
    connection.close()
    assert seen[0] == (200, ["data", "object"])
    assert seen[1] == (200, ["active", "calls", "cancelled", "connections", "peak"])
    assert seen[2] == (404, ["error"])


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, "context", "context_length_exceeded"),
        (400, "context-llamacpp", "exceed_context_size_error"),
        (400, "context-vllm", "maximum context length"),
        (404, "", "model_not_found"),
        (429, "", "rate_limit_exceeded"),
        (500, "", "server_error"),
        (503, "Loading model", "Loading model"),
    ],
)
def test_errors_are_worded_as_servers_word_them(
    stub: StubModel, status: int, error: str, expected: str
) -> None:
    stub.set(Behaviour(status=status, error=error))
    found, body = ask(stub)
    assert found == status
    assert expected in json.dumps(body)


def test_content_faults(stub: StubModel) -> None:
    contents: dict[str, Any] = {}
    for fault in ("empty", "null", "length", "nan", "reasoning", "huge"):
        stub.set(Behaviour(fault=fault, size=1000))
        choice = ask(stub)[1]["choices"][0]
        contents[fault] = (choice["message"]["content"], choice["finish_reason"])
    assert contents["empty"] == ("", "stop")
    assert contents["null"] == (None, "stop")
    assert contents["length"][1] == contents["reasoning"][1] == "length"
    assert "NaN" in contents["nan"][0]
    assert contents["reasoning"][0] == ""
    assert contents["huge"][0] == "a" * 1000
    stub.set(Behaviour(fault="html"))
    assert b"<!doctype html>" in ask(stub)[1]
    stub.set(Behaviour(fault="no-choices"))
    assert ask(stub)[1]["choices"] == []
    stub.set(Behaviour(fault="not-json"))
    assert ask(stub) == (200, b"upstream connect error")


def test_line_faults(stub: StubModel) -> None:
    errors = {"close": http.client.RemoteDisconnected, "early": http.client.IncompleteRead}
    errors |= {"reset": ConnectionResetError, "down": ConnectionRefusedError}
    for fault, error in errors.items():
        stub.set(Behaviour(fault=fault))
        with pytest.raises(error):
            ask(stub)
    stub.set(Behaviour())  # and the port is back
    assert ask(stub)[0] == 200
    stub.set(Behaviour(fault="drip", interval=0))
    assert ask(stub)[1]["object"] == "chat.completion"


def test_response_format_is_refused_once_or_always(stub: StubModel) -> None:
    stub.set(Behaviour(reject_format="once"))
    wanted = {"response_format": {"type": "json_schema"}}
    assert [ask(stub, **wanted)[0], ask(stub, **wanted)[0]] == [400, 200]
    stub.set(Behaviour(reject_format="always"))
    assert [ask(stub, **wanted)[0], ask(stub, **wanted)[0], ask(stub)[0]] == [400, 400, 200]


def test_hanging_calls_are_counted_and_so_are_those_given_up(stub: StubModel) -> None:
    stub.set(Behaviour(fault="hang"))
    content = b'{"messages": []}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(content)}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", stub.port)) for _ in range(3)]
    for client in clients:
        client.sendall(head.encode() + content)
    wait_until(lambda: stub.active == 3)
    for client in clients:
        client.close()
    wait_until(lambda: stub.active == 0)
    assert (stub.calls, stub.peak, stub.cancelled) == (3, 3, 3)


def test_unknown_faults_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="drip"):
        Behaviour(fault="drop")
    assert all(Behaviour(fault=fault) for fault in FAULTS)


def test_the_stub_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "bench.stubmodel", "--status", "503"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        with process.stdout as output:
            port = int(output.readline().strip().removesuffix("/v1").rpartition(":")[2])
        assert ask(StubModel(port=port))[0] == 503
    finally:
        process.kill()
        process.wait()


# --- what benchmarks share ---


def test_made_mails_differ_repeat_and_have_their_size() -> None:
    for size in (2_000, 20_000, 200_000):
        mails = [make(size, number) for number in range(5)]
        assert len({mail.body for mail in mails}) == 5
        assert make(size, 3) == mails[3]
        assert all(0.8 * size < len(mail.raw()) < 1.2 * size for mail in mails)
        assert Mail.parse(mails[0].raw()) == mails[0]


def test_a_missed_requirement_shows() -> None:
    measures = [
        Measure("a", 15.0, "ms", most=15.0),
        Measure("b", 39.9, "/s", least=40.0),
        Measure("c", 1.0, "s"),
    ]
    assert [measure.met for measure in measures] == [True, False, None]
    assert [line.split()[-1] for line in table(measures).splitlines()[1:]] == ["pass", "FAIL", "s"]


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([5.0], 95) == 5.0
    assert percentile([float(n) for n in range(100)], 95) == 95.0


def test_memory_counts_children() -> None:
    command = [sys.executable, "-c", "import time; x = b'x' * 50_000_000; time.sleep(60)"]
    parent = [sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"]
    process = subprocess.Popen(parent, process_group=0)
    try:
        wait_until(lambda: memory(process.pid) > 50)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
