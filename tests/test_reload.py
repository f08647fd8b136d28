"""SIGHUP: instructions, lists and keys are read again, and the daemon never stops for it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.milterclient import Envelope, Mail, MilterClient
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.waiting import wait_until

DONE = "read again: instructions, lists, keys"
REFUSED = "not reloaded, all stays as it was"
ENVELOPE = Envelope("a@example.net", ("bob@example.org",), macros={"i": "4XyZ1F2z3aB"})
MAIL = Mail.parse(b"From: a@example.net\r\nTo: bob@example.org\r\nSubject: s\r\n\r\nhello\r\n")


@pytest.fixture
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


def settings(stub: StubModel, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"llm": {"base_url": stub.base_url, "model": "stub"}, **sections}


def reloaded(daemon: PrivateDaemon, told: str = DONE) -> None:
    """Sends the signal and waits until the log tells what came of it."""
    before = daemon.log().count(told)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.log().count(told) > before)


def sent(daemon: PrivateDaemon) -> Mail:
    async def story() -> Mail:
        async with MilterClient.connect(daemon.address) as client:
            return client.applied(MAIL, await client.send(MAIL, ENVELOPE))

    return asyncio.run(story())


def key_id(one: Mail) -> str:
    (value,) = one.values("X-GPT-Verdict")
    return value.rpartition("; k=")[2][:8]


def id_of(key: str) -> str:
    return hashlib.sha256(bytes.fromhex(key)).hexdigest()[:8]


def prompt_id(one: Mail) -> str:
    (value,) = one.values("X-GPT-Model")
    return value.partition("; prompt=")[2][:8]


def test_keys_are_rotated_without_a_restart(stub: StubModel) -> None:
    with PrivateDaemon(settings(stub)) as daemon:
        assert key_id(sent(daemon)) == id_of(daemon.keys[0])
        fresh, file = secrets.token_hex(32), daemon.folder / "verdict.key"
        file.write_text(f"{fresh}\n{daemon.keys[0]}\n")
        assert key_id(sent(daemon)) == id_of(daemon.keys[0])
        reloaded(daemon)
        assert key_id(sent(daemon)) == id_of(fresh)
        assert fresh not in daemon.log()


def test_instructions_and_what_is_remembered_under_them(stub: StubModel, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Judge the mail. Categories: {categories}")
    sections: dict[str, dict[str, Any]] = {
        "prompt": {"file": str(prompt)},
        "store": {"verdict_ttl": 3600},
    }
    with PrivateDaemon(settings(stub, **sections)) as daemon:
        before = prompt_id(sent(daemon))
        assert sent(daemon).values("X-GPT-Model")[0].endswith("cache=hit")
        prompt.write_text("Judge the mail sternly. Categories: {categories}")
        reloaded(daemon)
        (after,) = sent(daemon).values("X-GPT-Model")
        assert before not in after
        assert after.endswith("cache=miss")
        assert "sternly" in stub.requests[-1].body["messages"][0]["content"]


def test_the_model_servers_key(stub: StubModel, tmp_path: Path) -> None:
    key = tmp_path / "api.key"
    key.write_text("first")
    llm = {"base_url": stub.base_url, "model": "stub", "api_key_file": str(key)}
    with PrivateDaemon({"llm": llm}) as daemon:
        sent(daemon)
        key.write_text("second")
        reloaded(daemon)
        sent(daemon)
    told = [request.headers["authorization"] for request in stub.requests]
    assert told == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("fault", ["key", "prompt", "list"])
def test_what_has_a_fault_changes_nothing(stub: StubModel, tmp_path: Path, fault: str) -> None:
    prompt, optout = tmp_path / "prompt.txt", tmp_path / "optout.txt"
    prompt.write_text("Judge the mail. Categories: {categories}")
    optout.write_text("nobody@example.org\n")
    sections = {"prompt": {"file": str(prompt)}, "gate": {"optout_file": str(optout)}}
    with PrivateDaemon(settings(stub, **sections)) as daemon:
        before = sent(daemon)
        key = daemon.folder / "verdict.key"
        key.write_text(f"{secrets.token_hex(32)}\n" if fault != "key" else "rubbish\n")
        prompt.write_text("Another. {categories}")
        if fault == "prompt":
            prompt.unlink()
        if fault == "list":
            optout.write_text("no such thing as this\n")
        reloaded(daemon, REFUSED)
        after = sent(daemon)
        assert key_id(after) == key_id(before)
        assert prompt_id(after) == prompt_id(before)
        named = {"key": "trust.key_file", "prompt": "prompt.file", "list": "gate.optout_file"}
        assert f"{REFUSED}: {named[fault]}: " in daemon.log()


def test_many_signals_under_load_stop_nothing(stub: StubModel) -> None:
    async def load(daemon: PrivateDaemon) -> set[str]:
        told: list[str] = []

        async def connection() -> None:
            async with MilterClient.connect(daemon.address) as client:
                for _ in range(10):
                    done = client.applied(MAIL, await client.send(MAIL, ENVELOPE))
                    told.extend(done.values("X-GPT-Status"))

        async def signals() -> None:
            for _ in range(100):
                daemon.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.005)

        await asyncio.gather(signals(), *(connection() for _ in range(10)))
        assert len(told) == 100
        return set(told)

    with PrivateDaemon(settings(stub)) as daemon:
        assert asyncio.run(load(daemon)) == {"scored"}
        reloaded(daemon)
        assert daemon.stop() == 0


def test_signals_as_soon_as_it_serves_stop_nothing(stub: StubModel) -> None:
    with PrivateDaemon(settings(stub)) as daemon:
        for _ in range(3):
            assert daemon.stop() == 0
            daemon.start()
            for _ in range(50):
                daemon.process.send_signal(signal.SIGHUP)
            assert sent(daemon).values("X-GPT-Status") == ["scored"]
