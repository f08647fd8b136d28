"""The daemon's port for those who watch it: real sockets and a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bench.milterclient import Envelope, Mail, MilterClient
from bench.stubanswers import Behaviour
from bench.stubmodel import StubModel
from rspamd_llm import cli, running
from rspamd_llm.health import Health, ServerHealth
from rspamd_llm.web import CONNECTIONS, Web
from tests.chain.daemon import PrivateDaemon
from tests.chain.ports import HOST, free_port
from tests.waiting import wait_until

HEALTH = Health(
    version="1",
    model="m",
    is_stopping=False,
    in_flight=3,
    waiting=2,
    servers=(ServerHealth(url="http://a/v1", is_well=True, retry_in=0.0, calls=1),),
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
    web = Web(listen, health=options.get("health", healthy), text=lambda _health: b"x 1\n")
    web.start()
    try:
        yield web
    finally:
        web.stop()


@pytest.fixture
def listen() -> str:
    return f"{HOST}:{free_port()}"


def get(listen: str, path: str, timeout: float = 30.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*running.address(listen), timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


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


class TestDaemon:
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
