"""A Redis of one's own: nothing on disk, on a free port, with a look at all that it holds.

What the keys mean is not known here.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from tests.chain.ports import HOST, free_port, wait_for_port

_PROGRAM = shutil.which("redis-server")
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_READS = {
    "string": ("GET", ()),
    "hash": ("HGETALL", ()),
    "list": ("LRANGE", ("0", "-1")),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", ("0", "-1", "WITHSCORES")),
}


def missing_programs() -> list[str]:
    """What a PrivateRedis needs and this machine lacks."""
    return [] if _PROGRAM else ["redis-server"]


class RedisError(Exception):
    """Redis did not start, or refused a command."""


class PrivateRedis:
    """Context manager around one Redis."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        options = {
            "--bind": HOST,
            "--port": str(self.port),
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "no",
        }
        try:
            with (self.folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [_PROGRAM or "redis-server", *itertools.chain(*options.items())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if not wait_for_port(self.port, _START_SECONDS):
                raise RedisError((self.folder / "log").read_text("utf-8", "replace"))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops Redis and removes its folder. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *command: str) -> Any:
        """The answer to one command: bytes, a number, None or a list of these."""
        with (
            socket.create_connection((HOST, self.port), timeout=10) as connection,
            connection.makefile("rwb") as stream,
        ):
            return _asked(cast(BinaryIO, stream), *command)

    def content(self) -> dict[str, Any]:
        """Every key with all that it holds; what has no order is sorted."""
        found: dict[str, Any] = {}
        for key in sorted(name.decode("latin-1") for name in self.ask("KEYS", "*")):
            kind = self.ask("TYPE", key).decode()
            command, more = _READS[kind]
            value = self.ask(command, key, *more)
            found[key] = sorted(value) if kind == "set" else value
            if kind == "hash":
                found[key] = dict(zip(value[::2], value[1::2], strict=True))
        return found

    def calls(self, command: str) -> int:
        """How often a command was called."""
        for line in self.ask("INFO", "commandstats").decode().splitlines():
            name, _, told = line.partition(":")
            if name == f"cmdstat_{command.lower()}":
                return int(dict(pair.split("=") for pair in told.split(","))["calls"])
        return 0


def _asked(stream: BinaryIO, *command: str) -> Any:
    parts = [part.encode("latin-1") for part in command]
    stream.write(b"*%d\r\n" % len(parts))
    stream.writelines(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    stream.flush()
    return _read(stream)


def _read(stream: BinaryIO) -> Any:
    """One value of RESP2."""
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(rest.decode("utf-8", "replace"))
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
    if kind == b"*":
        return [_read(stream) for _ in range(int(rest))]
    return rest
