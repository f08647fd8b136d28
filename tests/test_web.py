"""The daemon's port for those who watch it: real sockets and a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bench.milterclient import Envelope, Mail, MilterClient
from bench.stubanswers import Behaviour
from bench.stubmodel import StubModel
from rspamd_llm import cli, running
from rspamd_llm.health import Health, ServerHealth, SourceHealth
from rspamd_llm.history import Reader
from rspamd_llm.login import SESSION_SECONDS, Login, load
from rspamd_llm.page import Page
from rspamd_llm.web import CONNECTIONS, HEADERS, SESSION, Web
from tests.chain.daemon import DaemonError, PrivateDaemon
from tests.chain.ports import HOST, free_port
from tests.kept import MESSAGE, keep, scored
from tests.waiting import wait_until

HEALTH = Health(
    version="1",
    model="m",
    is_stopping=False,
    in_flight=3,
    waiting=2,
    servers=(ServerHealth(url="http://a/v1", is_well=True, retry_in=0.0, calls=1),),
    sources=(SourceHealth(name="dns", is_well=True),),
    is_rspamd_well=None,
    deadline=60.0,
    store_fault="",
)
MAIL = Mail.parse(b"From: a@example.net\r\nTo: b@example.org\r\nSubject: s\r\n\r\nhello\r\n")


async def sent(address: str) -> str:
    """What X-GPT-Status says of one mail."""
    envelope = Envelope("<a@example.net>", ("<b@example.org>",), macros={"i": "4XyZ1F2z3aB"})
    async with MilterClient.connect(address) as client:
        answer = await client.send(MAIL, envelope)
        (status,) = client.applied(MAIL, answer).values("X-GPT-Status")
        return status


async def healthy() -> Health:
    return HEALTH


@contextlib.contextmanager
def served(listen: str, **options: Any) -> Iterator[Web]:
    web = Web(listen, **{"health": healthy, "text": lambda _health: b"x 1\n", **options})
    web.start()
    try:
        yield web
    finally:
        web.stop()


@pytest.fixture
def listen() -> str:
    return f"{HOST}:{free_port()}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


def ask(
    listen: str, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> Answer:
    """One request, with `Host` as http.client sets it unless it is given."""
    connection = http.client.HTTPConnection(*running.address(listen), timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def get(listen: str, path: str) -> tuple[int, bytes]:
    answer = ask(listen, path)
    return answer.status, answer.body


def answers(listen: str) -> bool:
    try:
        return get(listen, "/healthz")[0] == 200
    except OSError:
        return False


class TestAnswers:
    def test_what_is_told(self, listen: str) -> None:
        with served(listen):
            wait_until(lambda: answers(listen))
            assert get(listen, "/healthz") == (200, b"ok\n")
            assert get(listen, "/metrics") == (200, b"x 1\n")
            assert get(listen, "/readyz")[0] == 200
            assert running.ask(*running.address(listen)) == HEALTH
            assert get(listen, "/nothing")[0] == 404
            assert get(listen, "/../../etc/passwd")[0] == 404

    def test_not_ready_without_a_server_that_is_well(self, listen: str) -> None:
        async def ill() -> Health:
            server = ServerHealth(url="http://a/v1", is_well=False, retry_in=4.5, calls=0)
            return Health(
                version="1",
                model="m",
                is_stopping=False,
                in_flight=0,
                waiting=0,
                servers=(server,),
                sources=(),
                is_rspamd_well=False,
                deadline=60.0,
                store_fault="",
            )

        with served(listen, health=ill):
            wait_until(lambda: answers(listen))
            status, body = get(listen, "/readyz")
            assert (status, json.loads(body)["ready"]) == (503, False)

    def test_a_core_that_does_not_answer(
        self, listen: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.ANSWER_SECONDS", 0.05)

        async def stuck() -> Health:
            await asyncio.sleep(3600)
            return HEALTH

        with served(listen, health=stuck):

            def told() -> bool:
                with contextlib.suppress(OSError):
                    return get(listen, "/healthz") == (503, b"the daemon does not answer\n")
                return False

            wait_until(told)
            assert get(listen, "/readyz")[0] == 503
            assert get(listen, "/metrics")[0] == 503


TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.db"
    keep(path, (MESSAGE, scored(reason="a-reason"), None), clock=time.time)
    return path


@pytest.fixture
def open_page(listen: str, history: Path) -> Iterator[str]:
    """A port with a page that needs no token."""
    login = load(listen=listen, page=True, token_file="")
    page = Page(Reader(history), days=21, has_login=False)
    with served(listen, page=page, login=login):
        wait_until(lambda: answers(listen))
        yield listen


@pytest.fixture
def closed_page(listen: str, history: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port with a page that needs one."""
    monkeypatch.setattr("rspamd_llm.web.WRONG_SECONDS", 0.05)
    page = Page(Reader(history), days=21, has_login=True)
    with served(listen, page=page, login=Login(token=TOKEN)):
        wait_until(lambda: answers(listen))
        yield listen


class TestPage:
    def test_what_is_there(self, open_page: str) -> None:
        overview = ask(open_page, "/?text=a-reason&status=scored")
        assert overview.status == 200
        assert overview.headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"a-reason" in overview.body
        assert b"ready" in overview.body
        assert b"a-reason" in ask(open_page, "/verdict/1").body
        style = ask(open_page, "/page.css")
        assert (style.status, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
        icon = ask(open_page, "/icon.svg")
        assert icon.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
        assert get(open_page, "/metrics") == (200, b"x 1\n")

    def test_there_is_none_unless_it_is_asked_for(self, listen: str) -> None:
        with served(listen):
            wait_until(lambda: answers(listen))
            for path in ("/", "/verdict/1", "/login", "/logout", "/page.css", "/icon.svg"):
                assert get(listen, path)[0] == 404

    def test_every_answer_tells_the_browser_to_be_careful(self, open_page: str) -> None:
        for path, status in {
            "/": 200, "/?before=x": 200, "/verdict/1": 200, "/verdict/2": 404, "/nothing": 404,
            "/login": 200, "/page.css": 200, "/icon.svg": 200, "/healthz": 200, "/readyz": 200,
            "/metrics": 200,
        }.items():  # fmt: skip
            answer = ask(open_page, path)
            assert answer.status == status, path
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
        for answer in (
            ask(open_page, "/", Host="evil.test"),
            ask(open_page, "/", "POST"),
            ask(open_page, "/login", "POST", "x" * 10_000),
        ):
            assert answer.status in (405, 413, 421)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        policy = HEADERS["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert not [part for part in policy if "unsafe" in part or "script" in part or "*" in part]

    @pytest.mark.parametrize(
        "path",
        [
            "/../../etc/passwd",
            "/verdict/../../../../etc/passwd",
            "/verdict/..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/page.css/../../__init__.py",
            "/data/page/base.html",
            "/base.html",
            "//etc/passwd",
            "/verdict/1%00",
            "/verdict/1/",
            "/verdict/",
            "/verdict/{{7*7}}",
            "/verdict/1'--",
            "/verdict/%F0%9F%92%A9",
            "/verdict/%ff%fe",
        ],
    )
    def test_other_paths(self, open_page: str, path: str) -> None:
        assert ask(open_page, path).status == 404

    @pytest.mark.parametrize(
        "query", ["%00", "text=%00%ff", "&&&=&", "text=" + "a" * 7_000, "before=%F0", "span[]=x"]
    )
    def test_odd_questions(self, open_page: str, query: str) -> None:
        assert ask(open_page, f"/?{query}").status == 200

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200), ("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:1", 200),
            ("evil.test", 421), ("127.0.0.1.evil.test", 421), ("", 421), ("\xff", 421),
        ],
    )  # fmt: skip
    def test_one_led_here_under_anothers_name_learns_nothing(
        self, open_page: str, host: str, status: int
    ) -> None:
        for path in ("/", "/verdict/1", "/login"):
            answer = ask(open_page, path, Host=host)
            assert answer.status == status
            assert (b"a-reason" in answer.body) == (status == 200 and path != "/login")
        assert ask(open_page, "/metrics", Host=host).status == 200

    def test_our_own_mistakes_are_told_to_nobody(
        self, listen: str, history: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(Page):
            def overview(self, health: Health | None, query: Mapping[str, str]) -> str:
                raise LookupError("secret")

        page = Broken(Reader(history), days=21, has_login=False)
        with served(listen, page=page, login=load(listen=listen, page=True, token_file="")):
            wait_until(lambda: answers(listen))
            answer = ask(listen, "/", Accept="text/html")
            assert (answer.status, answer.body) == (500, b"this failed\n")
            assert answer.headers["Content-Security-Policy"]
        assert "a request failed: LookupError" in caplog.text
        assert "secret" not in caplog.text

    def test_a_page_that_takes_too_long_disturbs_nothing_else(
        self, listen: str, history: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.PAGE_SECONDS", 0.2)

        class Slow(Page):
            def overview(self, health: Health | None, query: Mapping[str, str]) -> str:
                time.sleep(1)
                return ""

        page = Slow(Reader(history), days=21, has_login=False)
        with served(listen, page=page, login=load(listen=listen, page=True, token_file="")):
            wait_until(lambda: answers(listen))
            assert ask(listen, "/").status == 503
            assert answers(listen)
            wait_until(lambda: ask(listen, "/verdict/1").status == 200)

    def test_a_core_that_does_not_answer(
        self, listen: str, history: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.ANSWER_SECONDS", 0.05)

        async def stuck() -> Health:
            await asyncio.sleep(3600)
            return HEALTH

        page = Page(Reader(history), days=21, has_login=False)
        login = load(listen=listen, page=True, token_file="")
        with served(listen, health=stuck, page=page, login=login):

            def told() -> bool:
                with contextlib.suppress(OSError):
                    return b"The daemon does not say how it is." in get(listen, "/")[1]
                return False

            wait_until(told)


class TestToken:
    def test_without_it_there_is_the_form(self, closed_page: str) -> None:
        for path in ("/", "/verdict/1", "/?text=x"):
            answer = ask(closed_page, path)
            assert (answer.status, answer.headers["Location"]) == (303, "/login")
            assert b"a-reason" not in answer.body
        form = ask(closed_page, "/login")
        assert form.status == 200
        assert b'name="token"' in form.body
        assert b"That is not the token." not in form.body

    @pytest.mark.parametrize("path", ["/metrics", "/readyz"])
    def test_programs_tell_it_in_a_header(self, closed_page: str, path: str) -> None:
        refused = ask(closed_page, path)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert ask(closed_page, path, Authorization=f"Bearer {TOKEN[:-1]}").status == 401
        assert ask(closed_page, f"{path}?token={TOKEN}").status == 401
        assert ask(closed_page, path, Authorization=f"Bearer {TOKEN}").status == 200

    def test_on_the_machine_itself_programs_need_none(self, listen: str, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(TOKEN)
        file.chmod(0o600)
        login = load(listen=listen, page=True, token_file=str(file))
        with served(listen, page=Page(None, days=1, has_login=True), login=login):
            wait_until(lambda: answers(listen))
            assert running.ask(*running.address(listen)) == HEALTH
            assert get(listen, "/metrics") == (200, b"x 1\n")
            assert get(listen, "/")[0] == 303

    def test_whether_it_lives_is_told_to_anyone(self, closed_page: str) -> None:
        assert get(closed_page, "/healthz") == (200, b"ok\n")

    def test_the_header_opens_the_page_too(self, closed_page: str) -> None:
        assert b"a-reason" in ask(closed_page, "/", Authorization=f"Bearer {TOKEN}").body

    @pytest.mark.parametrize(
        "form",
        ["", "token=", "token=wrong", f"token={TOKEN}0", f"TOKEN={TOKEN}", f"token[]={TOKEN}",
         f"token=wrong&token={TOKEN}", "token=%ff%fe%00", "\0", "x" * 3_000, "a=b&" * 900],
    )  # fmt: skip
    def test_a_wrong_one(self, closed_page: str, form: str) -> None:
        answer = ask(closed_page, "/login", "POST", form)
        assert answer.status == 403
        assert b"That is not the token." in answer.body
        assert "Set-Cookie" not in answer.headers

    def test_a_wrong_one_takes_its_time(
        self, closed_page: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.WRONG_SECONDS", 0.5)
        began = time.monotonic()
        ask(closed_page, "/login", "POST", "token=wrong")
        assert time.monotonic() - began >= 0.5

    def test_the_right_one_buys_a_session(self, closed_page: str) -> None:
        answer = ask(closed_page, "/login", "POST", f"token={TOKEN}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert set(attributes) == {
            "HttpOnly", f"Max-Age={SESSION_SECONDS}", "Path=/", "SameSite=Strict",
        }  # fmt: skip
        assert cookie.startswith(f"{SESSION}=")
        assert TOKEN not in cookie
        assert b"a-reason" in ask(closed_page, "/", Cookie=cookie).body
        assert ask(closed_page, "/metrics", Cookie=cookie).status == 200
        assert ask(closed_page, "/", Cookie=f"{cookie}0").status == 303
        assert ask(closed_page, "/", Cookie=f"{SESSION}={TOKEN}").status == 303

    def test_signing_out(self, closed_page: str) -> None:
        answer = ask(closed_page, "/logout", "POST")
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
        assert f'{SESSION}=""' in answer.headers["Set-Cookie"]
        assert ask(closed_page, "/logout").status == 405

    def test_the_token_stands_in_no_log(
        self, closed_page: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", logger="rspamd_llm")
        ask(closed_page, "/login", "POST", f"token={TOKEN}")
        ask(closed_page, "/", Authorization=f"Bearer {TOKEN}")
        assert TOKEN not in caplog.text


class TestBadClients:
    def test_garbage_and_huge_headers(self, listen: str) -> None:
        with served(listen):
            wait_until(lambda: answers(listen))
            for sent in (
                b"\0\xff\xfe\r\n\r\n",
                b"GET /metrics HTTP/9.9\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_000_000 + b"\r\n\r\n",
                b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
            ):
                with socket.create_connection(running.address(listen), timeout=30) as line:
                    with contextlib.suppress(OSError):
                        line.sendall(sent)
                    with contextlib.suppress(ConnectionError):
                        assert line.recv(100).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
            assert answers(listen)

    def test_slow_clients_are_bounded_and_sent_away_in_time(
        self, listen: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.CONNECTION_SECONDS", 2.0)
        with served(listen), contextlib.ExitStack() as stack:
            wait_until(lambda: answers(listen))
            slow = []
            for _ in range(CONNECTIONS + 20):
                line = stack.enter_context(
                    socket.create_connection(running.address(listen), timeout=30)
                )
                slow.append(line)
                with contextlib.suppress(OSError):
                    line.send(b"GET /metr")
            # Those beyond the bound are cut at once, the others when their time is over.
            for line in slow:
                with contextlib.suppress(ConnectionError):
                    assert line.recv(100) == b""
            wait_until(lambda: answers(listen))

    @pytest.mark.parametrize(
        "sent",
        [
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\ntok",
            b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a=b;" * 1_900 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"GET http://elsewhere.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT elsewhere.test:80 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        ],
    )
    def test_none_breaks_the_page(self, closed_page: str, sent: bytes) -> None:
        with socket.create_connection(running.address(closed_page), timeout=30) as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while line.recv(10_000):
                    pass
        assert ask(closed_page, "/", Authorization=f"Bearer {TOKEN}").status == 200


class TestPort:
    def test_a_taken_port_is_told_and_had_once_it_is_free(
        self, listen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("rspamd_llm.web.RETRY", 0.05)
        with socket.create_server(running.address(listen)) as other, served(listen):
            wait_until(lambda: f"metrics.listen: {listen}: " in caplog.text)
            other.close()
            wait_until(lambda: answers(listen))
        assert caplog.text.count("metrics.listen") == 1

    def test_the_port_is_given_up_at_the_end(self, listen: str) -> None:
        with served(listen):
            wait_until(lambda: answers(listen))
        socket.create_server(running.address(listen)).close()


class TestRunning:
    """What `check` makes of an answer that is none of the daemon's."""

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>...",
            b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"servers": 1}',
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"",
        ],
    )
    def test_rubbish_is_a_value_error_or_no_answer(self, said: bytes) -> None:
        with socket.create_server((HOST, 0)) as server:
            port = server.getsockname()[1]

            async def asked() -> Health:
                return await asyncio.to_thread(running.ask, HOST, port)

            async def answered() -> None:
                task = asyncio.create_task(asked())
                line, _ = await asyncio.to_thread(server.accept)
                with line:
                    line.sendall(said)
                    line.shutdown(socket.SHUT_WR)
                    await task

            with pytest.raises((ValueError, OSError)):
                asyncio.run(answered())


@pytest.fixture
def descriptors() -> Iterator[int]:
    """How many this process may open: as many as the system lets it."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual[1], usual[1]))
    yield usual[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


class TestDaemon:
    def test_ten_thousand_slow_clients_do_not_disturb_mail(self, descriptors: int) -> None:
        """As many of them as this process may have."""
        number = min(10_000, descriptors - 1_000)
        with StubModel.running() as stub, contextlib.ExitStack() as stack:
            daemon = stack.enter_context(
                PrivateDaemon({"llm": {"base_url": stub.base_url, "model": "stub"}})
            )
            wait_until(lambda: answers(daemon.listen))
            address = running.address(daemon.listen)
            for count in range(number):
                line = stack.enter_context(socket.create_connection(address, timeout=30))
                with contextlib.suppress(OSError):
                    line.send(b"GET /metr")
                if count % (CONNECTIONS // 2) == 0:
                    time.sleep(0.01)  # a full queue would cost a second (RFC 6298 2.1)
                if count % (number // 4) == number // 8:
                    assert asyncio.run(sent(daemon.address)) == "scored"
            assert asyncio.run(sent(daemon.address)) == "scored"
            opened = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
            assert opened < CONNECTIONS + 200
            wait_until(lambda: answers(daemon.listen))

    def test_a_daemon_tells_its_counts_and_its_breakers(self) -> None:
        async def send(address: str) -> str:
            envelope = Envelope(
                "<a@example.net>", ("<b@example.org>",), macros={"i": "4XyZ1F2z3aB"}
            )
            async with MilterClient.connect(address) as client:
                answer = await client.send(MAIL, envelope)
                (status,) = client.applied(MAIL, answer).values("X-GPT-Status")
                return status

        with StubModel.running() as stub:
            llm = {"base_url": stub.base_url, "model": "stub"}
            with PrivateDaemon({"llm": llm}) as daemon:
                wait_until(lambda: answers(daemon.listen))
                assert asyncio.run(sent(daemon.address)) == "scored"
                before = running.ask(*running.address(daemon.listen))
                assert [server.is_well for server in before.servers] == [True]
                stub.set(Behaviour(fault="down"))
                for _ in range(4):
                    assert asyncio.run(sent(daemon.address)) == "unscored; model-unavailable"
                after = running.ask(*running.address(daemon.listen))
                assert [(s.url, s.is_well) for s in after.servers] == [(stub.base_url, False)]
                text = get(daemon.listen, "/metrics")[1].decode()
        lines = text.splitlines()
        assert 'rspamd_llm_messages_total{code="",status="scored"} 1.0' in lines
        told = 'rspamd_llm_messages_total{code="model-unavailable",status="unscored"} 4.0'
        assert told in lines
        verdict = 'rspamd_llm_verdicts_total{band="0.90-1.00",cache="miss",category="phishing"} 1.0'
        assert verdict in lines
        assert f'rspamd_llm_server_up{{server="{stub.base_url}"}} 0.0' in lines
        assert "rspamd_llm_ready 0.0" in lines
        assert 'rspamd_llm_stage_seconds_count{stage="read"} 5.0' in lines
        assert any(line.startswith("process_resident_memory_bytes") for line in lines)

    @pytest.mark.parametrize("keep", ["none", "verdicts", "full"])
    def test_the_page_shows_a_mail_as_far_as_it_is_kept(self, tmp_path: Path, keep: str) -> None:
        kept = tmp_path / "history.db"
        with StubModel.running() as stub:
            settings: dict[str, dict[str, Any]] = {
                "llm": {"base_url": stub.base_url, "model": "stub"},
                "metrics": {"page": True},
                "history": {"keep": keep, "file": str(kept)},
            }
            with PrivateDaemon(settings) as daemon:
                wait_until(lambda: answers(daemon.listen))
                assert asyncio.run(sent(daemon.address)) == "scored"
                if keep == "none":
                    assert b"No verdicts are kept" in get(daemon.listen, "/")[1]
                    assert not kept.exists()
                    return
                wait_until(lambda: get(daemon.listen, "/verdict/1")[0] == 200)
                overview = get(daemon.listen, "/")[1].decode()
                verdict = get(daemon.listen, "/verdict/1")[1].decode()
                assert daemon.stop() == 0
        assert "phishing" in overview
        assert "example.net" in overview
        is_full = keep == "full"
        assert ("a@example.net" in verdict) == is_full
        assert ("hello" in verdict) == is_full
        assert (b"a@example.net" in kept.read_bytes()) == is_full
        (record,) = Reader(kept).recent()
        assert (record.subject, record.text.strip()) == (("s", "hello") if is_full else ("", ""))

    def test_a_page_for_everyone_without_a_token_is_none(self) -> None:
        daemon = PrivateDaemon({"metrics": {"page": True, "listen": f"0.0.0.0:{free_port()}"}})
        with pytest.raises(DaemonError, match=r"metrics\.page: .* the page needs a token"), daemon:
            pass

    def test_two_daemons_with_one_port_both_judge_mail(self) -> None:
        with (
            StubModel.running() as stub,
            PrivateDaemon({"llm": {"base_url": stub.base_url}}) as one,
        ):
            settings = {"llm": {"base_url": stub.base_url}, "metrics": {"listen": one.listen}}
            with PrivateDaemon(settings) as other:
                wait_until(lambda: "metrics.listen" in other.log())
                assert other.answers()


class TestCheck:
    """What `rspamd-llm check` tells of the daemon that runs."""

    def told(self, path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
        cli.main(["check", "-c", str(path), "--json"])
        checks = json.loads(capsys.readouterr().out)["checks"]
        return [result for result in checks if result["check"] == "daemon"]

    def test_each_breaker_as_the_daemon_has_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        dead = f"http://{HOST}:{free_port()}/v1"
        with StubModel.running() as stub:
            llm = {"base_url": [dead, stub.base_url], "model": "stub"}
            with PrivateDaemon({"llm": llm}) as daemon:
                wait_until(lambda: answers(daemon.listen))
                for _ in range(3):
                    assert asyncio.run(sent(daemon.address)) == "scored"
                found = self.told(daemon.config_file, capsys)
        of_daemon, of_dead, of_stub, of_store = found
        assert of_store["detail"] == "its store works: memory://"
        assert of_daemon["status"] == "ok"
        assert of_daemon["detail"].startswith(f"version {metadata.version('rspamd-llm')} runs, ")
        assert of_dead["status"] == "warning"
        assert of_dead["detail"].startswith(f"{dead}: its breaker is open, ")
        assert of_dead["cure"]
        assert of_stub["status"] == "ok"
        assert of_stub["detail"].startswith(f"{stub.base_url}: its breaker is closed, ")

    def test_a_token_is_shown_where_one_is_wanted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listen, token = f"0.0.0.0:{free_port()}", tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text("0123456789abcdef0123\n")
        with StubModel.running() as stub:
            sections: dict[str, dict[str, Any]] = {
                "llm": {"base_url": stub.base_url, "model": "stub"},
                "metrics": {"listen": listen, "token_file": str(token)},
            }
            with PrivateDaemon(sections) as daemon:
                wait_until(lambda: answers(listen))
                of_daemon, *_ = self.told(daemon.config_file, capsys)
                assert of_daemon["status"] == "ok"
                with pytest.raises(ValueError, match="401"):
                    running.ask(*running.address(listen))

    def test_a_daemon_of_another_version(
        self, listen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "c.toml"
        path.write_text(f'[metrics]\nlisten = "{listen}"\n[search]\nprovider = "none"\n')
        with served(listen):
            wait_until(lambda: answers(listen))
            of_daemon, _, _ = self.told(path, capsys)
        assert of_daemon["status"] == "warning"
        assert "version 1 runs" in of_daemon["detail"]
        assert "restart" in of_daemon["cure"]

    def test_a_daemon_that_says_other_things_of_itself(
        self, listen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "c.toml"
        path.write_text(f'[metrics]\nlisten = "{listen}"\n[search]\nprovider = "none"\n')
        body = b'{"version": "0.0.9", "servers": []}'
        said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        with socket.create_server(running.address(listen)) as server:

            def answer() -> None:
                line, _ = server.accept()
                with line:
                    line.recv(1_000)
                    line.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            (found,) = self.told(path, capsys)
            thread.join()
        assert found["status"] == "warning"
        assert "a daemon of version 0.0.9 runs; installed is" in found["detail"]
        assert "restart" in found["cure"]

    def test_nobody_there_and_another_program_there(
        self, listen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "c.toml"
        path.write_text(f'[metrics]\nlisten = "{listen}"\n[search]\nprovider = "none"\n')
        (nobody,) = self.told(path, capsys)
        assert nobody["status"] == "warning"
        assert "nobody answers" in nobody["detail"]
        with StubModel.running() as stub:
            other = stub.base_url.removeprefix("http://").removesuffix("/v1")
            path.write_text(f'[metrics]\nlisten = "{other}"\n[search]\nprovider = "none"\n')
            (wrong,) = self.told(path, capsys)
        assert "is not our daemon's" in wrong["detail"]
        assert "choose another metrics.listen" in wrong["cure"]
