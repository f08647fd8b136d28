"""A daemon of one's own: `rspamd-llm serve` in a process, with a configuration in a temporary
folder.  What the model or the mail is like is not known here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from rspamd_llm.libmilter import Address
from tests.chain.ports import HOST, free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0

EMBEDDED: Mapping[str, Any] = {"engine": "embedded", "model": "builtin"}
"""[llm] for the builtin model."""


class DaemonError(Exception):
    """The daemon did not start; the message carries its log."""


class PrivateDaemon:
    """Context manager around one daemon.

    settings     sections of the configuration, over a start that asks nothing outside: no lookups,
                 mail from this machine is judged like any other, and each mail by itself
    unix         listen at a unix socket, open to Postfix's user, instead of a port
    keys         lines of the key file
    environment  variables beside those of this process
    """

    def __init__(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        *,
        unix: bool = False,
        keys: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-daemon-"))
        self.folder.chmod(0o755)  # Postfix's user must reach the socket
        self.keys = keys or (secrets.token_hex(32),)
        self.address = f"unix:{self.folder}/milter.sock" if unix else f"inet:{free_port()}@{HOST}"
        self.listen = f"{HOST}:{free_port()}"
        self._settings = settings
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def milter(self) -> str:
        """Its address as an entry of smtpd_milters."""
        kind, _, place = self.address.partition(":")
        port, _, host = place.partition("@")
        return self.address if kind == "unix" else f"inet:{host}:{port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def config_file(self) -> Path:
        return self.folder / "rspamd-llm.toml"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._remove()

    def start(self) -> None:
        """Starts the daemon and waits until it accepts connections."""
        self._write()
        self.launch()
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise DaemonError(f"the daemon did not start:\n{self.log()}")
            time.sleep(0.02)

    def launch(self) -> None:
        """Starts the process and returns at once."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rspamd_llm", "serve", "-c", str(self.config_file)],
                cwd=ROOT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The daemon's process."""
        assert self._process is not None, "the daemon was not started"
        return self._process

    def answers(self) -> bool:
        """Whether the address accepts connections."""
        try:
            Address.parse(self.address).knock()
        except OSError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the daemon with a signal and returns its exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def log(self) -> str:
        """Everything the daemon has logged so far."""
        try:
            return (self.folder / "log").read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def told(self, message: str) -> list[dict[str, Any]]:
        """The records of the log with this message, oldest first; for a log that is JSON."""
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return [record for record in map(json.loads, lines) if record["message"] == message]

    def _write(self) -> None:
        key_file = self.folder / "verdict.key"
        key_file.touch(mode=0o600)
        key_file.write_text("".join(f"{key}\n" for key in self.keys))
        document: dict[str, dict[str, Any]] = {
            "milter": {"socket": self.address, "socket_mode": "0666"},
            "evidence": {"dns": False, "registration": False, "authentication": "off"},
            "search": {"provider": "none"},
            "gate": {"skip_networks": []},
            "store": {"url": "memory://", "verdict_ttl": 0},
            "metrics": {"listen": self.listen},
            "history": {"keep": "none"},
            "trust": {"key_file": str(key_file)},
        }
        for section, values in self._settings.items():
            document.setdefault(section, {}).update(values)
        self.config_file.write_text(tomli_w.dumps(document))

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def processes_of(parent: int) -> list[int]:
    """The process IDs of a process's children."""
    try:
        tasks = Path(f"/proc/{parent}/task").iterdir()
        found = [pid for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []
    return [int(pid) for pid in found]


def engine_of(daemon: int) -> int:
    """The process ID of a daemon's embedded engine."""
    (found,) = (pid for pid in processes_of(daemon) if b"engine_child" in _command(pid))
    return found


def nursery_of(daemon: int) -> int:
    """The process ID of what a daemon's readers come from: a copy of itself."""
    (found,) = (pid for pid in processes_of(daemon) if _command(pid) == _command(daemon))
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
