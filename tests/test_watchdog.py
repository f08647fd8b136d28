"""systemd's watchdog is fed by a handshake with ourselves, and by nothing less."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.stubmodel import StubModel
from rspamd_llm import watchdog
from rspamd_llm.libmilter import Address
from rspamd_llm.watchdog import Watchdog
from tests.chain.daemon import PrivateDaemon
from tests.test_serve import settings

SECONDS = 20


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield told


@contextmanager
def peer(answer: bytes | None) -> Iterator[Address]:
    """A listener that says this to each who speaks to it, and nothing for None."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.recv(100)
                    if answer is None:
                        ended.wait(SECONDS)
                    else:
                        line.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield Address.parse(f"inet:{server.getsockname()[1]}@127.0.0.1")
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


def drained(told: socket.socket) -> None:
    """Reads what was sent, until there is a second of silence."""
    told.settimeout(1.0)
    with contextlib.suppress(TimeoutError):
        for _ in range(50):
            told.recv(100)
        pytest.fail("it goes on")


class TestPeriod:
    @pytest.mark.parametrize(
        ("told", "pid", "seconds"),
        [
            ("60000000", None, 60.0),
            ("60000000", "own", 60.0),
            ("60000000", "1", 0.0),
            ("", None, 0.0),
            ("soon", None, 0.0),
        ],
    )
    def test_as_systemd_tells(
        self, monkeypatch: pytest.MonkeyPatch, told: str, pid: str | None, seconds: float
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", told)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if pid:
            monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
        assert watchdog.period() == seconds


class TestHandshake:
    def test_a_milter_answers(self, stub: StubModel) -> None:
        for unix in (True, False):
            with PrivateDaemon(settings(stub), unix=unix) as daemon:
                watchdog.shake_hands(Address.parse(daemon.address), SECONDS)

    @pytest.mark.parametrize("answer", [None, b"", b"\0\0\0\1", b"HTTP/1.1 400 Bad Request\r\n"])
    def test_what_is_no_milter_or_says_nothing(self, answer: bytes | None) -> None:
        with peer(answer) as address, pytest.raises(OSError):  # noqa: PT011  timeouts are some
            watchdog.shake_hands(address, 0.3)

    def test_nobody_there(self) -> None:
        with pytest.raises(OSError, match="refused"):
            watchdog.shake_hands(Address.parse("inet:1@127.0.0.1"), 0.3)


class TestFeeding:
    def test_the_daemon_feeds_it_until_it_hangs(
        self, stub: StubModel, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        with PrivateDaemon(settings(stub)) as daemon:
            assert systemd.recv(100) == b"READY=1"
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            daemon.process.send_signal(signal.SIGSTOP)
            drained(systemd)
            daemon.process.send_signal(signal.SIGCONT)
            systemd.settimeout(SECONDS)
            assert systemd.recv(100) == b"WATCHDOG=1"
            assert daemon.stop() == 0
            assert any(systemd.recv(100) == b"STOPPING=1" for _ in range(50))

    def test_a_core_that_does_not_answer_is_no_life(
        self, systemd: socket.socket, caplog: pytest.LogCaptureFixture
    ) -> None:
        never: concurrent.futures.Future[None] = concurrent.futures.Future()
        with peer(b"\0\0\0\15O") as address:
            fed = Watchdog(address, lambda: never, 0.15)
            fed.start()
            systemd.settimeout(0.5)
            with pytest.raises(TimeoutError):
                systemd.recv(100)
            fed.stop()
        assert "no sign of life" in caplog.text

    def test_without_systemds_wish_there_is_none(self) -> None:
        before = threading.active_count()
        Watchdog(Address.parse("inet:1@127.0.0.1"), concurrent.futures.Future, 0.0).start()
        assert threading.active_count() == before
