"""`rspamd-llm serve` as an MTA meets it: a real daemon and libmilter, our milter client, and a
stub model server whose answers and faults are chosen by each test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import milterwire as wire
from bench.milterclient import Answer, Envelope, Mail, MilterClient, Offer, Peer
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from tests.chain.daemon import EMBEDDED, PrivateDaemon, alive, nursery_of
from tests.waiting import eventually, wait_until

MAIL = Mail.parse(
    b"From: Alice <alice@example.net>\r\nTo: bob@example.org\r\nSubject: secret subject\r\n"
    b"\r\nSee http://www.example.net/ for the secret body.\r\n"
)
FORGED = Mail.parse(
    b"X-GPT-Verdict: first\r\nSubject: hello\r\nx-gpt-VERDICT: second\r\nX-Gpt-Score: 0.00\r\n"
    b"X-GPT-Verdict: third\r\nX-GPT-Unheard-Of: yes\r\nX-GPTX: not ours\r\n\r\nhello\r\n"
)
BOB = ("<bob@example.org>",)


def envelope(queue_id: str = "4XyZ1F2z3aB", **macros: str) -> Envelope:
    return Envelope("<alice@example.net>", BOB, macros={"i": queue_id, **macros})


run = asyncio.run


async def sent(
    daemon: PrivateDaemon, mail: Mail = MAIL, about: Envelope | None = None, **options: Any
) -> tuple[Answer, Mail]:
    """The answer to one mail on a connection of its own, and the mail as Postfix then keeps it."""
    async with MilterClient.connect(daemon.address, **options) as client:
        answer = await client.send(mail, about or envelope())
        return answer, client.applied(mail, answer)


async def asked(stub: StubModel) -> None:
    """Waits until the model is working on a question."""
    await eventually(lambda: stub.active > 0)


def settings(stub: StubModel, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    llm = {"base_url": stub.base_url, "model": "stub", "concurrency": 64}
    return {**sections, "llm": llm | sections.get("llm", {})}


def fields(mail: Mail) -> dict[str, str]:
    """The fields of the one X-GPT-Verdict of a mail."""
    (value,) = mail.values("X-GPT-Verdict")
    return dict(part.split("=", 1) for part in value.strip().split("; "))


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(autouse=True)
def well_behaved(stub: StubModel) -> None:
    stub.set(Behaviour())


@pytest.fixture(scope="module")
def daemon(stub: StubModel) -> Iterator[PrivateDaemon]:
    small = {"deadline": 3.0, "max_body": 100_000}
    with PrivateDaemon(settings(stub, milter=small, gate={"max_size": 1_000_000})) as started:
        yield started


class TestHeaders:
    """What a message gains and loses."""

    def test_scored_mail_gains_the_signed_headers(self, daemon: PrivateDaemon) -> None:
        answer, mail = run(sent(daemon))
        assert answer.final == "continue"
        (signed,) = mail.values("X-GPT-Verdict")
        text, _, mac = signed.strip().rpartition("; m=")
        key = bytes.fromhex(daemon.keys[0])
        assert mac == hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        assert re.fullmatch(
            r"v=1; st=scored; q=4XyZ1F2z3aB; t=\d{10}; s=0\.97; c=phishing; k=[0-9a-f]{8}", text
        )
        assert abs(int(fields(mail)["t"]) - time.time()) < 60
        shown = {name: mail.values(f"X-GPT-{name}") for name in ("Status", "Score", "Category")}
        assert shown == {"Status": ["scored"], "Score": ["0.97"], "Category": ["phishing"]}
        assert mail.values("X-GPT-Reason") == ["It asks for a password."]
        (model,) = mail.values("X-GPT-Model")
        assert re.fullmatch(r"stub; prompt=[0-9a-f]{8}; seconds=\d+\.\d\d; cache=miss", model)

    def test_arriving_headers_of_ours_are_deleted_whatever_their_case(
        self, daemon: PrivateDaemon
    ) -> None:
        answer, mail = run(sent(daemon, FORGED))
        deletions = [(e.name, e.index) for e in answer.edits if e.kind == "chgheader"]
        assert [i for name, i in deletions if name.lower() == "x-gpt-verdict"] == [3, 2, 1]
        assert len(mail.values("X-GPT-Verdict")) == 1
        assert mail.values("X-GPT-Score") == ["0.97"]
        assert mail.values("X-GPT-Unheard-Of") == []
        assert mail.values("X-GPTX") == ["not ours"]

    def test_without_leave_to_delete_nothing_is_added_and_it_is_said_once(
        self, daemon: PrivateDaemon
    ) -> None:
        for _ in range(2):
            answer, _ = run(sent(daemon, FORGED, offer=Offer.without(wire.F_CHGHDRS)))
            assert answer.final == "continue"
            assert answer.edits == ()
        assert daemon.log().count("does not let us change headers") == 1

    def test_only_what_is_needed_is_negotiated(self, daemon: PrivateDaemon) -> None:
        async def negotiated() -> int:
            async with MilterClient.connect(daemon.address) as client:
                return client.actions

        needed = wire.F_ADDHDRS | wire.F_CHGHDRS
        assert run(negotiated()) & ~wire.F_SETSYMLIST == needed

    def test_mail_of_authenticated_users_only_loses_headers(self, daemon: PrivateDaemon) -> None:
        about = envelope(**{"{auth_authen}": "alice", "{auth_type}": "plain"})
        answer, mail = run(sent(daemon, FORGED, about))
        assert answer.final == "continue"
        assert {edit.kind for edit in answer.edits} == {"chgheader"}
        assert not [name for name, _ in mail.headers if name.lower().startswith("x-gpt-")]

    def test_a_user_s_authentication_ends_with_his_message(self, daemon: PrivateDaemon) -> None:
        async def both() -> list[str]:
            async with MilterClient.connect(daemon.address) as client:
                user = envelope(**{"{auth_authen}": "alice", "{auth_type}": "plain"})
                stranger = Envelope("", BOB, macros={})  # of whom the MTA has no macro to tell
                return [
                    client.applied(MAIL, await client.send(MAIL, about)).values("X-GPT-Status")[0]
                    if about is stranger
                    else (await client.send(MAIL, about)).final
                    for about in (user, stranger)
                ]

        assert run(both()) == ["continue", "scored"]

    def test_a_missing_queue_id_is_a_dash(self, daemon: PrivateDaemon) -> None:
        _, mail = run(sent(daemon, about=Envelope("<a@example.net>", BOB)))
        assert fields(mail)["q"] == "-"

    @pytest.mark.parametrize(
        "reason",
        [
            "one\r\nX-Spam: no",
            "one\nX-GPT-Verdict: v=1",
            "one\x00two\x1bthree\x85four\u2028five",
            "Grüße; s=0.00; \u202egnihsihp",
            "=?utf-8?q?X?=\r\n\r\nbody",
            "x" * 5_000,
        ],
    )
    def test_a_reason_never_becomes_a_header_line(
        self, daemon: PrivateDaemon, stub: StubModel, reason: str
    ) -> None:
        stub.set(Behaviour(answer=verdict(0.9, "scam", reason)))
        answer, mail = run(sent(daemon))
        added = [edit.name for edit in answer.edits if edit.kind == "addheader"]
        names = ["Verdict", "Status", "Score", "Category", "Reason", "Model"]
        assert added == [f"X-GPT-{name}" for name in names]
        (text,) = mail.values("X-GPT-Reason")
        assert all(line.startswith((" ", "\t")) for line in text.split("\n")[1:])
        assert "\r" not in text


class TestConversations:
    """Many messages, on one connection and on many."""

    def test_no_state_passes_from_one_message_to_the_next(self, daemon: PrivateDaemon) -> None:
        async def both() -> tuple[Mail, Mail]:
            async with MilterClient.connect(daemon.address) as client:
                first = await client.send(FORGED, envelope("first"))
                second = await client.send(MAIL, envelope("second"))
                assert not [edit for edit in second.edits if edit.kind == "chgheader"]
                return client.applied(FORGED, first), client.applied(MAIL, second)

        first, second = run(both())
        assert (fields(first)["q"], fields(second)["q"]) == ("first", "second")

    def test_an_aborted_message_leaves_nothing(self, daemon: PrivateDaemon) -> None:
        async def aborted() -> Answer:
            async with MilterClient.connect(daemon.address) as client:
                await client.greet(Peer())
                await client.event(wire.MAIL, b"<x@example.net>\0", {"i": "gone"})
                await client.event(wire.RCPT, b"<bob@example.org>\0")
                await client.event(wire.HEADER, b"X-GPT-Score\x000.00\0")
                client.abort()
                client.abort()
                await client.flush()
                return await client.send(MAIL, envelope("kept"))

        answer = run(aborted())
        assert not [edit for edit in answer.edits if edit.kind == "chgheader"]

    def test_each_of_many_connections_gets_its_own_answer(
        self, daemon: PrivateDaemon, stub: StubModel
    ) -> None:
        def echo(body: Any) -> str:
            number = re.search(r"number (\d+)", body["messages"][-1]["content"])
            assert number is not None
            return verdict(int(number[1]) / 100, "none", f"number {number[1]}")

        stub.set(Behaviour(latency=0.2, answer=echo))

        async def one(number: int) -> None:
            mail = Mail.parse(b"Subject: mail\r\n\r\nnumber %d\r\n" % number)
            answer, after = await sent(daemon, mail, envelope(f"queue{number}"))
            assert answer.final == "continue"
            assert fields(after)["q"] == f"queue{number}"
            assert fields(after)["s"] == f"{number / 100:.2f}"
            assert after.values("X-GPT-Reason") == [f"number {number}"]

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number) for number in range(40)))

        run(all_of_them())

    def test_the_mta_sees_signs_of_life(self, daemon: PrivateDaemon, stub: StubModel) -> None:
        stub.set(Behaviour(latency=2.4))
        answer, mail = run(sent(daemon))
        assert answer.progress >= 1
        assert fields(mail)["st"] == "scored"

    def test_an_mta_that_leaves_ends_the_models_work(
        self, daemon: PrivateDaemon, stub: StubModel
    ) -> None:
        stub.set(Behaviour(fault="hang"))
        before = stub.cancelled

        async def leave() -> None:
            async with MilterClient.connect(daemon.address) as client:
                sending = asyncio.create_task(client.send(MAIL, envelope()))
                await asked(stub)
                sending.cancel()
                client.close()

        run(leave())
        run(eventually(lambda: stub.cancelled == before + 1))


class TestModelFaults:
    """Mail passes within its deadline, and its header says why it has no score."""

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (Behaviour(fault="hang"), "timeout"),
            (Behaviour(fault="drip", interval=0.5), "timeout"),
            (Behaviour(fault="close"), "model-unavailable"),
            (Behaviour(fault="reset"), "model-unavailable"),
            (Behaviour(fault="early"), "model-unavailable"),
            (Behaviour(status=503), "model-unavailable"),
            (Behaviour(status=500), "model-unavailable"),
            (Behaviour(status=429), "model-unavailable"),
            (Behaviour(status=401), "model-unavailable"),
            (Behaviour(status=400, error="context-llamacpp"), "context-overflow"),
            (Behaviour(fault="html"), "model-invalid"),
            (Behaviour(fault="not-json"), "model-invalid"),
            (Behaviour(fault="no-choices"), "model-invalid"),
            (Behaviour(fault="empty"), "model-invalid"),
            (Behaviour(fault="nan"), "model-invalid"),
            (Behaviour(fault="length"), "model-invalid"),
            (Behaviour(answer="I am 95% sure that this is spam."), "model-invalid"),
            (Behaviour(answer=verdict(1.7)), "model-invalid"),
        ],
        ids=lambda value: value.fault or str(value.status) if isinstance(value, Behaviour) else "",
    )
    def test_unscored_with_its_code(
        self, daemon: PrivateDaemon, stub: StubModel, fault: Behaviour, code: str
    ) -> None:
        # One success before each: a server that fails in a row is left alone.
        assert fields(run(sent(daemon))[1])["st"] == "scored"
        stub.set(fault)
        answer, mail = run(sent(daemon, FORGED))
        assert answer.final == "continue"
        assert answer.waited < 3.0 + 2.0  # the deadline and some room
        assert {name: fields(mail)[name] for name in ("st", "s", "c")} == {
            "st": "unscored",
            "s": "-",
            "c": code,
        }
        assert mail.values("X-GPT-Status") == [f"unscored; {code}"]
        assert mail.values("X-GPT-Score") == []

    def test_a_model_server_that_is_down(self, stub: StubModel) -> None:
        nobody = {"base_url": "http://127.0.0.1:1/v1", "model": "stub"}
        with PrivateDaemon({"llm": nobody}) as daemon:
            _, mail = run(sent(daemon))
        assert mail.values("X-GPT-Status") == ["unscored; model-unavailable"]

    def test_tempfail_is_for_unscored_mail_alone(self, stub: StubModel) -> None:
        told = settings(stub, milter={"on_error": "tempfail"}, gate={"max_size": 10_000})
        with PrivateDaemon(told) as daemon:
            assert run(sent(daemon))[0].final == "continue"
            stub.set(Behaviour(status=503))
            answer, _ = run(sent(daemon))
            assert answer.final in ("tempfail", "replycode")
            assert answer.edits == ()
            large = Mail.parse(b"Subject: x\r\n\r\n" + b"large\r\n" * 5_000)
            assert run(sent(daemon, large))[0].final == "continue"
            skipped = run(sent(daemon, Mail.parse(b"\r\n")))[0]
            assert skipped.final == "continue"


HOSTILE = {
    "8-bit header": b"Subject: Gr\xfc\xdfe \xff\r\n\r\nhello\r\n",
    "8-bit header name": b"S\xfcbject: x\r\nSubject: y\r\n\r\nhello\r\n",
    "NUL in the body": b"Subject: x\r\n\r\nhel\0lo\r\n",
    "bare CR and LF": b"Subject: x\r\n\r\nhello\rworld\nagain\r\n",
    "no header": b"\r\nhello\r\n",
    "no body": b"Subject: x\r\n\r\n",
    "10,000 headers": b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\nhello\r\n",
    "10,000 headers of ours": b"X-GPT-Score: 0\r\n" * 10_000 + b"\r\nhello\r\n",
    "a deep multipart": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    + b'--b\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n' * 2_000,
}


class TestHostileMail:
    """Whatever comes, it passes, with correct headers."""

    @pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
    def test_passes(self, daemon: PrivateDaemon, raw: bytes) -> None:
        answer, mail = run(sent(daemon, Mail.parse(raw)))
        assert answer.final == "continue"
        assert fields(mail)["st"] == "scored"
        assert len(mail.values("X-GPT-Score")) == 1

    def test_junk_in_front_does_not_keep_the_header_from_the_reader(
        self, daemon: PrivateDaemon, stub: StubModel
    ) -> None:
        junk = b"".join(b"X-Junk: " + b"j" * 50_000 + b"\r\n" for _ in range(6))
        mail = Mail.parse(
            junk + b"From: Eve <eve@junk.example>\r\nSubject: behind the junk\r\n"
            b"Content-Type: text/html\r\n\r\n<p>formatted <b>text</b></p>\r\n"
        )
        _, after = run(sent(daemon, mail))
        assert fields(after)["st"] == "scored"
        asked = stub.requests[-1].body["messages"][-1]["content"]
        for told in ("eve@junk.example", "Subject: behind the junk", "formatted text"):
            assert told in asked

    def test_a_flood_of_forged_headers_is_refused(self, daemon: PrivateDaemon) -> None:
        """Each deletion makes Postfix walk its queue file: a flood would bind it for minutes."""
        flood = Mail.parse(b"X-GPT-Score: 0\r\n" * 10_001 + b"\r\nhello\r\n")
        answer, _ = run(sent(daemon, flood))
        assert (answer.final, answer.edits) == ("replycode", ())
        assert answer.text.startswith("554 5.7.1")

    def test_nothing_at_all(self, daemon: PrivateDaemon) -> None:
        _, mail = run(sent(daemon, Mail.parse(b"\r\n")))
        assert mail.values("X-GPT-Status") == ["skipped; no-text"]

    def test_a_thousand_recipients(self, daemon: PrivateDaemon) -> None:
        many = tuple(f"<user{number}@example.org>" for number in range(1_000))
        _, mail = run(sent(daemon, about=replace(envelope(), recipients=many)))
        assert fields(mail)["st"] == "scored"
        assert "recipients=1000" in daemon.log()

    def test_fifty_megabytes(self, daemon: PrivateDaemon) -> None:
        body = b"0123456789abcdef" * 4 + b"\r\n"
        large = Mail.parse(b"Subject: large\r\n\r\n" + body * (50_000_000 // len(body)))
        _, mail = run(sent(daemon, large))
        assert mail.values("X-GPT-Status") == ["skipped; size"]

    def test_more_than_max_body_is_judged_by_its_beginning(
        self, daemon: PrivateDaemon, stub: StubModel
    ) -> None:
        large = Mail.parse(b"Subject: large\r\n\r\n" + b"words and words\r\n" * 20_000)
        _, mail = run(sent(daemon, large))
        assert fields(mail)["st"] == "scored"
        asked = stub.requests[-1].body["messages"][-1]["content"]
        assert "only the beginning of the message was read" in asked


class TestLife:
    """Start, stop, restart."""

    def test_a_stop_answers_what_is_under_way(self, stub: StubModel) -> None:
        stub.set(Behaviour(latency=1.0))

        async def stopped(daemon: PrivateDaemon) -> Mail:
            sending = asyncio.create_task(sent(daemon))
            await asked(stub)
            daemon.process.terminate()
            return (await sending)[1]

        with PrivateDaemon(settings(stub)) as daemon:
            mail = run(stopped(daemon))
            assert daemon.process.wait(10) == 0
        assert fields(mail)["st"] == "scored"

    @pytest.mark.parametrize("unix", [True, False])
    def test_while_it_stops_its_address_is_free_and_new_messages_are_not_judged(
        self, stub: StubModel, unix: bool
    ) -> None:
        stub.set(Behaviour(latency=1.5))

        async def stopped(daemon: PrivateDaemon) -> tuple[Mail, Mail]:
            async with MilterClient.connect(daemon.address) as early:
                sending = asyncio.create_task(sent(daemon))
                await asked(stub)
                daemon.process.terminate()
                await eventually(lambda: not daemon.answers())
                late = early.applied(FORGED, await early.send(FORGED, envelope("late")))
                return (await sending)[1], late

        with PrivateDaemon(settings(stub), unix=unix) as daemon:
            first, late = run(stopped(daemon))
            assert daemon.process.wait(10) == 0
        assert fields(first)["st"] == "scored"
        assert late.values("X-GPT-Status") == ["unscored; stopping"]

    def test_without_the_mother_of_readers_it_ends_for_systemd_to_start_it_anew(
        self, stub: StubModel
    ) -> None:
        stub.set(Behaviour(latency=1.0))

        async def killed(daemon: PrivateDaemon) -> Mail:
            sending = asyncio.create_task(sent(daemon))
            await asked(stub)
            mother = nursery_of(daemon.pid)
            os.kill(mother, signal.SIGKILL)
            return (await sending)[1]

        with PrivateDaemon(settings(stub)) as daemon:
            mail = run(killed(daemon))
            assert daemon.process.wait(10) == 1
            assert "readers come from" in daemon.log()
        assert fields(mail)["st"] == "scored"

    def test_the_loss_of_the_readers_at_the_start_is_a_failure(self) -> None:
        daemon = PrivateDaemon({"llm": dict(EMBEDDED)})
        with daemon:
            # A hand may be slower than the start: the loss is a failure then, too.
            daemon.stop(signal.SIGKILL)
            daemon.launch()
            mothers: list[int] = []

            def found() -> bool:
                with contextlib.suppress(ValueError):
                    mothers.append(nursery_of(daemon.pid))
                return bool(mothers)

            wait_until(found)
            os.kill(mothers[0], signal.SIGKILL)
            assert daemon.process.wait(30) == 1

    def test_the_drain_time_ends_the_wait(self, stub: StubModel) -> None:
        stub.set(Behaviour(fault="hang"))

        async def stopped(daemon: PrivateDaemon) -> Mail:
            sending = asyncio.create_task(sent(daemon))
            await asked(stub)
            daemon.process.terminate()
            return (await sending)[1]

        with PrivateDaemon(settings(stub, milter={"drain": 0.3})) as daemon:
            mail = run(stopped(daemon))
            assert daemon.process.wait(10) == 0
        assert mail.values("X-GPT-Status") == ["unscored; stopping"]

    def test_sighup_does_not_stop_it_and_sigint_does(self, stub: StubModel) -> None:
        with PrivateDaemon(settings(stub)) as daemon:
            daemon.process.send_signal(signal.SIGHUP)
            _, mail = run(sent(daemon))
            assert fields(mail)["st"] == "scored"
            assert daemon.stop(signal.SIGINT) == 0

    @pytest.mark.parametrize("unix", [True, False])
    def test_it_restarts_at_once(self, stub: StubModel, unix: bool) -> None:
        with PrivateDaemon(settings(stub), unix=unix) as daemon:
            for _ in range(3):
                assert daemon.stop() == 0
                daemon.start()
            assert fields(run(sent(daemon))[1])["st"] == "scored"

    def test_a_dead_process_s_socket_is_replaced(self, stub: StubModel) -> None:
        with PrivateDaemon(settings(stub), unix=True) as daemon:
            daemon.process.kill()
            daemon.process.wait()
            assert Path(daemon.address.removeprefix("unix:")).is_socket()
            daemon.start()
            assert fields(run(sent(daemon))[1])["st"] == "scored"

    @pytest.mark.parametrize("unix", [True, False])
    def test_a_living_process_s_address_is_an_error(self, stub: StubModel, unix: bool) -> None:
        with PrivateDaemon(settings(stub), unix=unix) as daemon:
            second = serve(daemon.config_file)
            assert second.returncode == 2
            assert "milter.socket" in second.stderr
            assert "stop it" in second.stderr
            assert fields(run(sent(daemon))[1])["st"] == "scored"

    def test_the_socket_has_its_mode(self, stub: StubModel) -> None:
        told = settings(stub, milter={"socket_mode": "0620"})
        with PrivateDaemon(told, unix=True) as daemon:
            path = Path(daemon.address.removeprefix("unix:"))
            assert path.stat().st_mode & 0o777 == 0o620

    def test_systemd_is_told(self, stub: StubModel, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind("")
            notify.settimeout(10)
            name = notify.getsockname().decode()
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:])
            with PrivateDaemon(settings(stub)) as daemon:
                assert notify.recv(100) == b"READY=1"
                assert daemon.stop() == 0
            assert notify.recv(100) == b"STOPPING=1"

    def test_the_log_has_a_line_a_message_and_no_mail(self, stub: StubModel) -> None:
        with PrivateDaemon(settings(stub)) as daemon:
            run(sent(daemon))
            daemon.stop()
            log = daemon.log()
        (line,) = [line for line in log.splitlines() if "queue_id=4XyZ1F2z3aB" in line]
        assert "status=scored score=0.97 category=phishing model=stub cache=miss" in line
        for secret in ("secret", "alice", "bob", "password", daemon.keys[0]):
            assert secret not in log


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    """`serve` where it is to end at once."""
    return subprocess.run(
        [sys.executable, "-m", "rspamd_llm", "serve", "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestRefusals:
    """It does not start on what it cannot trust, and says all of it."""

    @pytest.mark.parametrize(
        ("content", "mode", "told"),
        [
            (None, 0o600, "does not exist"),
            ("", 0o600, "holds no key"),
            ("abcd\n", 0o600, "line 1 is no key of 64 hex digits"),
            ("z" * 64 + "\n", 0o600, "line 1 is no key of 64 hex digits"),
            ("ab" * 32 + "\n", 0o644, "is open to everyone"),
        ],
        ids=["missing", "empty", "short", "no hex", "open"],
    )
    def test_keys(self, tmp_path: Path, content: str | None, mode: int, told: str) -> None:
        key = tmp_path / "key"
        if content is not None:
            key.write_text(content)
            key.chmod(mode)
        config = tmp_path / "c.toml"
        config.write_text(f'[trust]\nkey_file = "{key}"\n')
        ended = serve(config)
        assert ended.returncode == 2
        assert told in ended.stderr
        assert "zzzz" not in ended.stderr

    def test_settings(self, tmp_path: Path) -> None:
        config = tmp_path / "c.toml"
        config.write_text('[milter]\ndeadline = 0\nfoo = 1\n[bar]\n[llm]\nengine = "magic"\n')
        ended = serve(config)
        assert ended.returncode == 2
        for path in ("milter.deadline", "milter.foo", "bar", "llm.engine"):
            assert f"rspamd-llm: {path}: " in ended.stderr

    @pytest.mark.parametrize("address", ["unix:/nonexistent/x.sock", "inet:11390@192.0.2.1"])
    def test_addresses(self, tmp_path: Path, address: str) -> None:
        key = tmp_path / "key"
        key.touch(mode=0o600)
        key.write_text("ab" * 32)
        config = tmp_path / "c.toml"
        config.write_text(f'[trust]\nkey_file = "{key}"\n[milter]\nsocket = "{address}"\n')
        ended = serve(config)
        assert ended.returncode == 2
        assert "milter.socket" in ended.stderr


def test_no_process_is_left(stub: StubModel) -> None:
    with PrivateDaemon(settings(stub)) as daemon:
        pid = daemon.pid
        assert alive(pid)
    assert not alive(pid)
