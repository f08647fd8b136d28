"""A private Valkey or Redis, on a port of its own and in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.chain.ports import HOST, free_port
from tests.waiting import wait_until

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")


def require_valkey() -> None:
    """Skips the test where there is no server, but never where it has to run: in CI."""
    if PROGRAM:
        return
    reason = "not installed: valkey-server or redis-server"
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(reason)
    pytest.skip(reason)


class PrivateValkey:
    """A server that keeps nothing on disk.  `options` stand on its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Starts it, empty, and waits until it serves."""
        assert PROGRAM
        fixed = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no"]
        fixed += ["--dir", str(self._folder), "--logfile", str(self._folder / "valkey.log")]
        self._process = subprocess.Popen([PROGRAM, *fixed, *self._options])
        wait_until(self._serves)

    def stop(self) -> None:
        """Ends it as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections, and does nothing more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def do(self, *command: str | bytes | int) -> Any:
        """What the server answers to a command."""
        with Redis(HOST, self.port, protocol=2, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def lives(self) -> dict[str, int]:
        """Each key with the milliseconds it has to live, -1 for ever."""
        return {key.decode(): self.do("PTTL", key) for key in self.do("KEYS", "*")}

    def _serves(self) -> bool:
        assert self._process
        assert self._process.poll() is None, "the server does not start"
        try:
            return bool(self.do("PING"))
        except RedisError as error:
            return "NOAUTH" in str(error) or "Authentication" in str(error)


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[PrivateValkey]:
    """A server with these options."""
    require_valkey()
    server = PrivateValkey(folder, *options)
    try:
        yield server
    finally:
        server.stop()
