"""The embedded engine: a supervised child process that runs llama.cpp.

Started with the daemon, restarted with backoff when it dies, ended with it.  What may not live
here: llama.cpp itself (engine_child.py) and asking it (llm.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

from rspamd_llm.domain import ConfigError, RspamdLlmError
from rspamd_llm.servers import Endpoint

BUILTIN = "builtin"
BUILTIN_CONTEXT = 2_048
"""Tokens for each slot: the compact prompt's bytes at worst, see compact.COMPACT_LIMIT."""

START_TIMEOUT = 300.0
"""Seconds for a model to load: 12 GB from a slow disk, and no more."""

BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds before each restart in a row; the last one repeats."""

STEADY = 60.0
"""Seconds after which a running engine counts as sound and the backoff begins anew."""

_log = logging.getLogger(__name__)


class EngineError(RspamdLlmError):
    """The engine did not start; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the child is to run."""

    model: Path
    context: int
    """Tokens for each slot."""
    slots: int
    threads: int


def plan(*, model: str, context_tokens: int, slots: int, threads: int) -> Order:
    """The Order for the settings of [llm].

    Raises ConfigError if the engine is not installed or the model is no file.
    """
    if util.find_spec("xllamacpp") is None:
        raise ConfigError(
            (
                'llm.engine: "embedded" needs the package xllamacpp; '
                'install it with `pip install "rspamd-llm[embedded]"`',
            )
        )
    builtin = model == BUILTIN
    path = (
        Path(str(resources.files("rspamd_llm") / "data" / "builtin.gguf"))
        if builtin
        else Path(model)
    )
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        fault = f"llm.model: {path} cannot be read: {error.strerror}"
        raise ConfigError((f'{fault}; give a GGUF file or "{BUILTIN}"',)) from error
    if magic != b"GGUF":
        raise ConfigError((f'llm.model: {path} is no GGUF file; give one or "{BUILTIN}"',))
    return Order(
        model=path.absolute(),
        context=BUILTIN_CONTEXT if builtin else context_tokens,
        slots=slots,
        threads=threads or len(os.sched_getaffinity(0)),
    )


class Engine:
    """The child and its supervision.  Lives in one asyncio loop."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._supervision: asyncio.Task[None] | None = None

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the engine serves; empty while it is down."""
        return (self._endpoint,) if self._endpoint else ()

    @property
    def pid(self) -> int | None:
        """The child's process ID while there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the engine and waits until it serves.  Raises EngineError."""
        await self._launch()
        self._supervision = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Ends the engine and its supervision."""
        if self._supervision:
            self._supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervision
        await self._end()

    async def _launch(self) -> None:
        key = secrets.token_hex(16)
        try:
            self._endpoint = await self._ordered(key)
        except (TimeoutError, OSError, ValueError, KeyError) as error:
            await self._end()
            raise EngineError(
                f"the embedded engine could not load {self._order.model}: is it a whole GGUF "
                "file of a kind that llama.cpp knows, and is there memory for it?"
            ) from error
        _log.info("embedded engine serves %s", self._order.model.name)

    async def _ordered(self, key: str) -> Endpoint:
        """A child that serves what was ordered."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rspamd_llm.engine_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None  # noqa: S101  both were asked for above
        assert process.stdout is not None  # noqa: S101
        order = {
            "model": str(self._order.model),
            "context": self._order.context,
            "slots": self._order.slots,
            "threads": self._order.threads,
            "key": key,
        }
        process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
        return Endpoint(json.loads(line)["url"], key)

    async def _supervise(self) -> None:
        failures = 0
        while True:
            assert self._process is not None  # noqa: S101  launched before
            began = asyncio.get_running_loop().time()
            status = await self._process.wait()
            self._endpoint = None
            if asyncio.get_running_loop().time() - began > STEADY:
                failures = 0
            _log.warning("embedded engine ended with status %s; it is started again", status)
            while self._endpoint is None:
                await asyncio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1
                try:
                    await self._launch()
                except EngineError as error:
                    _log.error("%s", error)

    async def _end(self) -> None:
        self._endpoint = None
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
