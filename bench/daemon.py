"""The processes that benchmarks measure: the daemon with a configuration of its own, and the
stub model server beside it, each in a process of its own so that neither slows the other."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.milterclient import Answer, Closed, MilterClient

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 30.0  # seconds for a process to come up: far above the requirement, to measure misses

CONFIGURATION = """\
[milter]
socket = "{address}"
[llm]
engine = "openai"
base_url = "{model}"
model = "stub"
concurrency = 300
[evidence]
dns = false
registration = false
authentication = "off"
[search]
provider = "none"
[gate]
skip_networks = []
[store]
url = "{store}"
verdict_ttl = {verdict_ttl}
[trust]
key_file = "{key}"
[history]
keep = "none"
[metrics]
listen = "127.0.0.1:{port}"
"""


def configuration(
    address: str, model: str, key: Path, *, store: str = "memory://", verdict_ttl: int = 0
) -> str:
    """The daemon's configuration, as TOML."""
    return CONFIGURATION.format(
        address=address,
        model=model,
        key=key,
        port=free_port(),
        store=store,
        verdict_ttl=verdict_ttl,
    )


@dataclass(frozen=True)
class Daemon:
    """A running daemon. `ready` is how many seconds passed from its start to the end of the
    first option negotiation."""

    address: str
    pid: int
    ready: float
    stand_in: bool = False

    def scored(self, answer: Answer) -> bool:
        """Whether the message was let through with a score, as a benchmark's mails must be."""
        if self.stand_in:
            return answer.final == "continue"
        found = [edit.value.strip() for edit in answer.edits if edit.name == "X-GPT-Status"]
        return answer.final in ("accept", "continue") and found == ["scored"]


@contextlib.contextmanager
def daemon(
    model: str,
    *,
    stand_in: bool = False,
    unix: bool = False,
    store: str = "memory://",
    verdict_ttl: int = 0,
) -> Iterator[Daemon]:
    """The daemon, asking the given model server. The stand-in is a bare pymilter program, which
    shows what libmilter and one HTTP call cost. Listens on TCP, or on a unix socket. Asks about
    each mail, unless verdicts are remembered."""
    with tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-") as name:
        folder = Path(name)
        address = f"unix:{folder}/milter" if unix else f"inet:{free_port()}@127.0.0.1"
        key, config = folder / "verdict.key", folder / "rspamd-llm.toml"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32) + "\n")
        config.write_text(configuration(address, model, key, store=store, verdict_ttl=verdict_ttl))
        command = ["rspamd_llm", "serve", "-c", str(config)]
        if stand_in:
            command = ["bench.echomilter", address, f"model={model}"]
        log = folder / "log"
        began = time.perf_counter()
        with started(command, log) as process:
            came_up = asyncio.run(_negotiated(address, process))
            if came_up is None:
                raise SystemExit(f"the daemon did not start:\n{log.read_text()}")
            try:
                yield Daemon(address, process.pid, came_up - began, stand_in)
            except BaseException:
                sys.stderr.write(f"The daemon's last words:\n{log.read_text()[-4000:]}\n")
                raise


@dataclass(frozen=True)
class ModelServer:
    """A running stub model server."""

    url: str
    pid: int


@contextlib.contextmanager
def model_server(latency: float) -> Iterator[str]:
    """The stub model server; its base URL."""
    with model_process(latency) as server:
        yield server.url


@contextlib.contextmanager
def model_process(latency: float, fault: str = "") -> Iterator[ModelServer]:
    """The stub model server, with a fault of bench/stubanswers.py where one is named."""
    with tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-") as name:
        log, port = Path(name) / "log", free_port()
        command = ["bench.stubmodel", "--port", str(port), "--latency", str(latency)]
        command += ["--fault", fault]
        with started(command, log) as process:
            until = time.monotonic() + PATIENCE
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the stub model server did not start:\n{log.read_text()}")
                time.sleep(0.01)
            yield ModelServer(f"http://127.0.0.1:{port}/v1", process.pid)


@contextlib.contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m` with the given words; ended politely, then not."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def _negotiated(address: str, process: subprocess.Popen[bytes]) -> float | None:
    """When the first connection had its options negotiated; None when that did not come."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            async with MilterClient.connect(address):
                return time.perf_counter()
        except (OSError, Closed):
            await asyncio.sleep(0.002)
    return None


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
