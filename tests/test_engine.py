"""The embedded engine's supervision: it heals from whatever keeps a child from starting."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from rspamd_llm import engine as engines
from rspamd_llm.engine import Engine, EngineError


def plan() -> engines.Order:
    return engines.plan(model="builtin", context_tokens=2_048, slots=1, threads=1)


def test_a_machine_without_processes_to_spare_is_an_error_with_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refused(*_arguments: object, **_options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)

    async def work() -> None:
        engine = Engine(plan())
        with pytest.raises(EngineError, match="could not load"):
            await engine.start()
        await engine.stop()

    asyncio.run(work())


def test_it_comes_back_after_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BACKOFF", (0.01,))
    real = asyncio.create_subprocess_exec
    refusals = [True, True]

    async def sometimes(*arguments: str, **options: int) -> asyncio.subprocess.Process:
        if refusals:
            refusals.pop()
            raise BlockingIOError("no more processes")
        return await real(*arguments, **options)  # type: ignore[arg-type]

    async def work() -> None:
        engine = Engine(plan())
        await engine.start()
        first = engine.pid
        assert first is not None
        monkeypatch.setattr(asyncio, "create_subprocess_exec", sometimes)
        os.kill(first, signal.SIGTERM)  # which the child does not inherit as blocked
        async with asyncio.timeout(20):
            while engine.pid in (first, None) or not engine.endpoints():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await engine.stop()
        assert refusals == []
        assert engine.endpoints() == ()

    asyncio.run(work())
