"""The store in Valkey: what daemons share there, and that no server can make it raise or wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme

from rspamd_llm.store import ENTRY_LIMIT, open_store
from rspamd_llm.store import valkey as stores
from rspamd_llm.store.valkey import PREFIX, ValkeyStore
from tests.chain.ports import HOST, free_port
from tests.valkeyserver import PrivateValkey, running
from tests.waiting import eventually

SECONDS = 60.0
"""After which a test that hangs fails."""

T = TypeVar("T")


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[PrivateValkey]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are waited for, however busy the machine is."""
    for name in ("READ_SECONDS", "CONNECT_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(stores, name, SECONDS)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that failed is tried again at once."""
    monkeypatch.setattr(stores, "RETRY", 0.0)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The levels of what the store said in the log."""
    with caplog.at_level(logging.INFO, "rspamd_llm.store"):
        yield lambda: [entry.levelname for entry in caplog.records]


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


@contextlib.asynccontextmanager
async def opened(*urls: str, clock: Callable[[], float] = time.time) -> AsyncIterator[Any]:
    """A store for each URL; one alone where there is one."""
    found = [ValkeyStore(url, clock=clock) for url in urls]
    try:
        yield found[0] if len(found) == 1 else found
    finally:
        for store in found:
            await store.close()


def name(kind: str, key: str) -> str:
    return f"{PREFIX}{kind}:{key}"


@pytest.mark.usefixtures("patient")
class TestSharing:
    def test_what_one_puts_another_gets(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                await one.put("dns", "a.example", "of dns", 100)
                await one.put("web", "a.example", "ⓦ\0 \n", 100)
                await one.put("web", "b.example", "old", 100)
                assert await other.get("web", "b.example") == "old"
                await one.put("web", "b.example", "new", 100)
                for store in (one, other):
                    assert await store.get("dns", "a.example") == "of dns"
                    assert await store.get("web", "a.example") == "ⓦ\0 \n"
                    assert await store.get("web", "b.example") == "new"
                    assert await store.get("dns", "b.example") is None

        run(work())

    def test_all_that_is_put_there_is_named_as_ours_and_ends_by_itself(
        self, valkey: PrivateValkey
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url) as store:
                await store.put("dns", "a", "x", 100)
                await store.add("quota", "b", 1, 100)
                await store.claim("verdict", "c", 50)

        run(work())
        lives = valkey.lives()
        assert len(lives) == 3
        assert all(key.startswith(PREFIX) and 0 < left <= 100_000 for key, left in lives.items())
        assert sum(left <= 50_000 for left in lives.values()) == 1

    def test_it_expires(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                await one.put("dns", "short", "x", 0.01)
                await one.put("dns", "long", "x", 100)
                await asyncio.sleep(0.02)
                for store in (one, other):
                    assert await store.get("dns", "short") is None
                    assert await store.get("dns", "long") == "x"

        run(work())

    def test_what_another_prolonged_is_seen_when_our_own_ends(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            clock = Clock()
            async with opened(valkey.url, clock=clock) as one, opened(valkey.url) as other:
                await one.put("dns", "a", "x", 100)
                await other.put("dns", "a", "y", 200)
                clock.now += 101
                assert await one.get("dns", "a") == "y"

        run(work())

    def test_a_count_is_of_all(self, valkey: PrivateValkey) -> None:
        async def work() -> list[int]:
            async with opened(valkey.url, valkey.url) as both:
                adding = [store.add("quota", "x", 1, 100) for store in both for _ in range(50)]
                counts = await asyncio.gather(*adding)
                assert await both[0].get("quota", "x") is not None
                return sorted(counts)

        assert run(work()) == list(range(1, 101))

    def test_a_count_lives_from_its_first_addition(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            clock = Clock()
            async with opened(valkey.url, valkey.url, clock=clock) as (one, other):
                for number, store in enumerate([one, other, one, other]):
                    assert await store.add("quota", "x", 1, 100 + 1_000 * number) == number + 1
                assert 0 < valkey.lives()[name("quota", "x")] <= 100_000
                valkey.do("FLUSHALL")
                clock.now += 101
                assert await one.add("quota", "x", 5, 100) == 5
                assert await other.add("quota", "x", 1, 100) == 6

        run(work())

    def test_a_lone_surrogate_harms_nothing_else(
        self, valkey: PrivateValkey, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url) as store:
                await store.put("dns", "\ud800", "x", 100)
                await store.put("dns", "x", "\udfff", 100)
                assert await store.get("dns", "\udc00") is None
                assert await store.add("dns", "\ud801", 1, 100) == 1
                assert await store.claim("dns", "\ud802", 1)
                await store.put("dns", "key", "sound", 100)

        run(work())
        assert list(valkey.lives()) == [name("dns", "key")]
        assert told() == []

    def test_many_at_once_all_have_their_own_answer(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                keys = [str(number) for number in range(500)]
                await asyncio.gather(*(one.put("dns", key, f"of {key}", 100) for key in keys))
                found = await asyncio.gather(*(other.get("dns", key) for key in keys))
                assert found == [f"of {key}" for key in keys]
                assert (
                    int(valkey.do("INFO", "clients")["connected_clients"]) < 3 * stores.CONNECTIONS
                )

        run(work())

    def test_a_command_that_was_cancelled_leaves_no_answer_for_the_next(
        self, valkey: PrivateValkey
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                keys = [str(number) for number in range(200)]
                await asyncio.gather(*(one.put("dns", key, f"of {key}", 100) for key in keys))
                reading = [asyncio.create_task(other.get("dns", key)) for key in keys]
                for number, task in enumerate(reading):
                    await asyncio.sleep(0)
                    if number % 2:
                        task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
                assert any(task.cancelled() for task in reading)
                for key, task in zip(keys, reading, strict=True):
                    assert task.cancelled() or task.result() == f"of {key}"
                    assert await other.get("dns", key) == f"of {key}"

        run(work())

    def test_no_deadline_is_lost_in_it(self, valkey: PrivateValkey) -> None:
        async def reads_on(store: ValkeyStore) -> None:
            give_up = time.monotonic() + SECONDS / 4
            while time.monotonic() < give_up:
                await store.get("dns", "unknown")

        async def work() -> None:
            async with opened(valkey.url) as store:
                for number in range(500):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.00001 * number):
                            await reads_on(store)

        run(work())

    def test_closed_it_does_nothing(
        self, valkey: PrivateValkey, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            store = ValkeyStore(valkey.url)
            await store.put("dns", "a", "x", 100)
            await store.close()
            await store.put("dns", "b", "x", 100)
            assert await store.get("dns", "a") is None
            assert await store.add("dns", "c", 1, 100) == 1
            await store.close()

        run(work())
        assert list(valkey.lives()) == [name("dns", "a")]
        assert told() == []

    def test_through_tls_with_a_certificate_that_fits_the_name(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        port = free_port()
        options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
        for what, file in (("cert", "cert"), ("key", "key"), ("ca-cert", "ca")):
            options += [f"--tls-{what}-file", str(tmp_path / f"{file}.pem")]
        monkeypatch.setenv(
            ssl.get_default_verify_paths().openssl_cafile_env, str(tmp_path / "ca.pem")
        )

        async def work(url: str) -> None:
            async with opened(url) as store:
                await store.put("dns", "a", "x", 100)

        with running(tmp_path, *options) as server:
            run(work(f"valkeys://{HOST}:{port}"))
            assert server.lives() == {}
            assert "certificate" in caplog.text
            run(work(f"rediss://localhost:{port}/0"))
            assert list(server.lives()) == [name("dns", "a")]


@pytest.mark.usefixtures("patient")
class TestClaims:
    def test_only_one_has_it_until_he_gives_it_back(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                assert await one.claim("verdict", "a", 50)
                assert not await other.claim("verdict", "a", 50)
                assert await other.claim("verdict", "b", 50)
                assert await other.claim("dns", "a", 50)
                await other.release("verdict", "a")
                assert not await other.claim("verdict", "a", 50)
                await one.release("verdict", "a")
                await one.release("verdict", "a")
                assert await other.claim("verdict", "a", 50)
                assert not await one.claim("verdict", "a", 50)

        run(work())

    def test_it_ends_by_itself_unless_it_is_prolonged(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                assert await one.claim("verdict", "a", 0.01)
                assert await one.claim("verdict", "a", 50)
                assert await one.claim("verdict", "b", 0.01)
                await asyncio.sleep(0.02)
                assert not await other.claim("verdict", "a", 50)
                assert await other.claim("verdict", "b", 50)

        run(work())

    @pytest.mark.parametrize(
        "command",
        [
            ("SET", "KEY", "of another program"),
            ("SET", "KEY", "x" * 1_000_000, "PX", int(1_000 * stores.LONGEST_CLAIM) + 60_000),
            ("RPUSH", "KEY", "x"),
            ("HSET", "KEY", "a", "x"),
        ],
        ids=["for ever", "too long", "list", "hash"],
    )
    def test_what_is_no_claim_is_not_waited_for(
        self, valkey: PrivateValkey, command: tuple[str, ...]
    ) -> None:
        key = f"{PREFIX}verdict.claim:a"
        valkey.do(*(key if part == "KEY" else part for part in command))

        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                assert await one.claim("verdict", "a", 50)
                assert not await other.claim("verdict", "a", 50)

        run(work())
        assert 0 < valkey.lives()[key] <= 50_000


@pytest.mark.usefixtures("patient")
class TestKeysOfOthers:
    @pytest.mark.parametrize(
        "command",
        [
            ("RPUSH", "KEY", "x"),
            ("HSET", "KEY", "a", "x"),
            ("SET", "KEY", b"\xff\xfe"),
            ("SET", "KEY", ""),
            ("SET", "KEY", "x" * (ENTRY_LIMIT + 1)),
            ("SETRANGE", "KEY", 50_000_000, "x"),
        ],
        ids=["list", "hash", "no text", "empty", "long", "50 MB"],
    )
    def test_what_is_under_our_key_is_no_text_and_is_replaced(
        self, valkey: PrivateValkey, told: Callable[[], list[str]], command: tuple[str, ...]
    ) -> None:
        for key in (name("dns", "a"), name("quota", "a")):
            valkey.do(*(key if part == "KEY" else part for part in command))

        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                assert await one.get("dns", "a") is None
                await one.put("dns", "a", "x", 100)
                assert await other.get("dns", "a") == "x"
                assert await one.add("quota", "a", 2, 100) == 2
                assert await other.add("quota", "a", 3, 100) == 5

        run(work())
        assert told() == []
        assert all(0 < left <= 100_000 for left in valkey.lives().values())

    def test_the_server_sends_no_more_than_an_entry_of_it(self, valkey: PrivateValkey) -> None:
        valkey.do("SETRANGE", name("dns", "a"), 50_000_000, "x")

        async def work() -> None:
            async with opened(valkey.url) as store:
                assert await store.get("dns", "a") is None

        run(work())
        assert int(valkey.do("INFO", "stats")["total_net_output_bytes"]) < 1_000_000

    def test_what_is_too_long_is_not_kept(self, valkey: PrivateValkey) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (one, other):
                await one.put("dns", "key", "ⓦ" * (ENTRY_LIMIT - 3), 100)
                await one.put("dns", "KEY", "x" * (ENTRY_LIMIT - 2), 100)
                assert await other.get("dns", "key") == "ⓦ" * (ENTRY_LIMIT - 3)
                assert await other.get("dns", "KEY") is None

        run(work())
        assert list(valkey.lives()) == [name("dns", "key")]


async def serves_from_memory(store: ValkeyStore, key: str) -> None:
    """All of a store's services work, if for this daemon alone."""
    await store.put("dns", key, "x", 100)
    assert await store.get("dns", key) == "x"
    assert await store.get("dns", f"no {key}") is None
    assert await store.add("quota", key, 1, 100) == 1
    assert await store.add("quota", key, 1, 100) == 2
    assert await store.claim("verdict", key, 5)
    await store.release("verdict", key)


class TestFaults:
    @pytest.mark.usefixtures("patient", "eager")
    def test_one_that_is_restarted_is_used_again(
        self, valkey: PrivateValkey, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (store, other):
                await store.put("dns", "a", "x", 100)
                valkey.stop()
                for number in range(20):
                    await serves_from_memory(store, str(number))
                assert told() == ["WARNING"]
                valkey.start()
                assert await store.get("dns", "unknown") is None
                assert told() == ["WARNING", "INFO"]
                await store.put("dns", "b", "y", 100)
                assert await other.get("dns", "b") == "y"

        run(work())
        assert told() == ["WARNING", "INFO"]

    @pytest.mark.usefixtures("patient")
    def test_a_restart_between_two_commands_is_not_noticed(
        self, valkey: PrivateValkey, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url) as store:
                await store.put("dns", "a", "x", 100)
                valkey.stop()
                valkey.start()
                await asyncio.sleep(0.01)  # in which the loop is told of its end
                await store.put("dns", "b", "x", 100)

        run(work())
        assert list(valkey.lives()) == [name("dns", "b")]
        assert told() == []

    @pytest.mark.usefixtures("patient")
    def test_one_that_is_not_there_is_tried_again_only_later(
        self, tmp_path: Path, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            store = ValkeyStore(f"valkey://{HOST}:{free_port()}")
            await serves_from_memory(store, "a")
            with running(tmp_path) as server:
                server.stop()
                server.port = store._address.port
                server.start()
                await serves_from_memory(store, "b")
                assert server.lives() == {}
            await store.close()

        run(work())
        assert told() == ["WARNING"]

    def test_one_that_hangs_is_not_waited_for(
        self, valkey: PrivateValkey, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setattr(stores, "RETRY", SECONDS)

        async def work() -> None:
            async with opened(valkey.url) as store:
                await store.put("dns", "a", "x", 100)
                with valkey.frozen():
                    began = time.monotonic()
                    keys = [str(number) for number in range(100)]
                    found = await asyncio.gather(*(store.get("dns", key) for key in keys))
                    assert found == [None] * len(keys)
                    for key in keys:
                        await serves_from_memory(store, key)
                    assert time.monotonic() - began < SECONDS / 4
                    assert told() == ["WARNING"]
                monkeypatch.setattr(stores, "RETRY", 0.0)
                store._retry_at = 0.0
                while told() != ["WARNING", "INFO"]:
                    await store.get("dns", "unknown")

        run(work())

    def test_what_is_lost_in_one_moment_counts_once(
        self, valkey: PrivateValkey, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setattr(stores, "CONNECT_SECONDS", SECONDS)

        async def work() -> None:
            async with opened(valkey.url) as store:
                with valkey.frozen():
                    reading = (store.get("dns", str(number)) for number in range(stores.SLOW + 1))
                    assert set(await asyncio.gather(*reading)) == {None}

        run(work())
        assert told() == []

    def test_a_lost_answer_or_two_are_no_failure(
        self, valkey: PrivateValkey, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url) as store:
                for _ in range(5):
                    monkeypatch.setattr(stores, "READ_SECONDS", 0.001)
                    with valkey.frozen():
                        for _ in range(stores.SLOW - 1):
                            assert await store.get("dns", "unknown") is None
                    monkeypatch.setattr(stores, "READ_SECONDS", SECONDS)
                    await store.put("dns", "a", "x", 100)

        run(work())
        assert list(valkey.lives()) == [name("dns", "a")]
        assert told() == []

    def test_those_that_wait_for_a_connection_are_soon_told_that_it_hangs(self) -> None:
        async def work() -> None:
            async with FakeServer(b"") as server, opened(server.url) as store:
                reading = (store.get("dns", str(number)) for number in range(500))
                assert set(await asyncio.gather(*reading)) == {None}
                assert server.connections < 250

        run(work())

    def test_one_command_alone_tries_whether_it_is_back(self) -> None:
        async def work() -> None:
            async with FakeServer(b"") as server, opened(server.url) as store:
                store._fault = "it fails"
                reading = (store.get("dns", str(number)) for number in range(50))
                assert set(await asyncio.gather(*reading)) == {None}
                assert server.connections == 1

        run(work())

    @pytest.mark.usefixtures("patient")
    def test_closed_while_it_tries_it_stays_closed(self, told: Callable[[], list[str]]) -> None:
        async def work() -> None:
            async with FakeServer(b"+OK\r\n", hold=asyncio.Event()) as server:
                store = ValkeyStore(server.url)
                store._fault = "it fails"
                trying = asyncio.create_task(store.get("dns", "a"))
                await eventually(lambda: server.connections == 1)
                store._retry_at = math.inf
                server.hold.set()
                assert await trying is None
                await store.close()

        run(work())
        assert told() == []

    @pytest.mark.usefixtures("patient", "eager")
    @pytest.mark.parametrize(
        ("begin", "end"),
        [
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE")),
            (
                ("ACL", "SETUSER", "default", "-set", "-eval"),
                ("ACL", "SETUSER", "default", "+set", "+eval"),
            ),
        ],
        ids=["full", "read-only", "no right"],
    )
    def test_one_that_takes_no_writes_costs_no_more_than_sharing(
        self,
        valkey: PrivateValkey,
        told: Callable[[], list[str]],
        begin: tuple[str, ...],
        end: tuple[str, ...],
    ) -> None:
        async def work() -> None:
            async with opened(valkey.url, valkey.url) as (store, other):
                await store.put("dns", "a", "x", 100)
                valkey.do(*begin)
                for number in range(20):
                    await serves_from_memory(store, str(number))
                    await store.get("dns", "unknown")
                assert told() == ["WARNING"]
                valkey.do(*end)
                await store.put("dns", "b", "x", 100)
                assert told() == ["WARNING", "INFO"]
                assert await other.get("dns", "b") == "x"

        run(work())


class TestPassword:
    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize("login", ["", ":wr0ng@", "me:wr0ng@", "nobody@"])
    def test_without_the_right_one_memory_serves_and_the_log_tells_why(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, login: str
    ) -> None:
        async def work(url: str) -> None:
            async with opened(url) as store:
                for number in range(5):
                    await serves_from_memory(store, str(number))

        with running(tmp_path, "--requirepass", "r1ght") as server:
            run(work(f"redis://{login}{HOST}:{server.port}"))
        assert [entry.levelname for entry in caplog.records] == ["WARNING"]
        assert "refuses the user or password" in caplog.text
        assert f"valkey://{HOST}:" in caplog.text
        assert "wr0ng" not in caplog.text

    @pytest.mark.usefixtures("patient")
    def test_one_with_odd_signs_is_written_as_in_any_url(
        self, tmp_path: Path, told: Callable[[], list[str]]
    ) -> None:
        async def work(url: str) -> None:
            async with opened(url) as store:
                await serves_from_memory(store, "a")

        with running(tmp_path, "--requirepass", "a/b@c:%ä") as server:
            run(work(f"redis://:a%2Fb%40c%3A%25%C3%A4@{HOST}:{server.port}/"))
        assert told() == []

    @pytest.mark.usefixtures("patient")
    def test_a_user_needs_few_rights(
        self, valkey: PrivateValkey, told: Callable[[], list[str]]
    ) -> None:
        rights = "~rspamd-llm:* +select +getrange +set +del +incrby +pttl +pexpire +eval"
        valkey.do("ACL", "SETUSER", "rspamd-llm", "on", ">pw", *rights.split())

        async def work() -> None:
            url = f"valkey://rspamd-llm:pw@{HOST}:{valkey.port}/1"
            async with opened(url, url) as (one, other):
                await serves_from_memory(one, "a")
                assert await other.get("dns", "a") == "x"
                assert await other.add("quota", "a", 1, 100) == 3
                assert await one.claim("verdict", "b", 5)
                await one.release("verdict", "b")
                assert await other.claim("verdict", "b", 5)

        run(work())
        assert told() == []
        assert valkey.do("ACL", "LOG") == []
        assert valkey.lives() == {}  # in database 0


REPLIES = [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"220 mail.example ESMTP\r\n",
    b"\0" * 5_000,
    b"\xff" * 200_000,
    b"*1000000000\r\n",
    b"*1\r\n" * 10_000,
    b"$99999999999\r\nxxx",
    b"$-7\r\n",
    b"$x\r\n",
    b":1e5\r\n",
    b"-\r\n",
    b"+\r\n",
    b"$3\r\n\xff\xff\xff\r\n",
    b"*2\r\n$1\r\nx\r\n:-1\r\n",
    b"*2\r\n:-5\r\n:-1\r\n",
    b"_\r\n",
    b"%1\r\n+a\r\n+b\r\n",
    b"",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MISCONF Redis is configured to save RDB snapshots\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"-ERR max number of clients reached\r\n",
    b"-ERR unknown command `AUTH`, with args beginning with: `me` `s3cret`\r\n",
    b"-s3cret\r\n",
    b"s3cret\r\n",
]


class FakeServer:
    """Answers to whatever it is sent."""

    def __init__(
        self,
        reply: bytes,
        *,
        pause: float = 0.0,
        is_open: bool = True,
        hold: asyncio.Event | None = None,
    ) -> None:
        self._reply = reply
        self._pause = pause
        self._is_open = is_open
        self.hold = hold or asyncio.Event()
        if hold is None:
            self.hold.set()
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> FakeServer:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"valkey://{HOST}:{self.port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        size = 1 if self._pause else len(self._reply) or 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while await reader.read(65_536):
                await self.hold.wait()
                for start in range(0, len(self._reply), size):
                    writer.write(self._reply[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(self._pause)
                if not self._is_open:
                    break
        writer.close()


class TestRubbish:
    @pytest.mark.usefixtures("eager")
    @pytest.mark.parametrize("is_open", [True, False], ids=["stays", "hangs up"])
    @pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: repr(reply[:20]))
    def test_a_server_that_speaks_it_costs_speed_alone(
        self,
        reply: bytes,
        is_open: bool,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(stores, "CONNECT_SECONDS", 0.1)

        async def work() -> None:
            async with FakeServer(reply, is_open=is_open) as server:
                url = f"valkey://me:s3cret@{HOST}:{server.port}/3"
                async with opened(url) as store:
                    for number in range(3):
                        await store.put("dns", str(number), "x", 100)
                        assert await store.get("dns", str(number)) == "x"
                        await store.get("dns", "unknown")
                        assert await store.add("quota", "x", 1, 100) == number + 1
                        assert await store.claim("verdict", "a", 5)
                        await store.release("verdict", "a")
                assert server.connections > 0

        run(work())
        levels = [entry.levelname for entry in caplog.records]
        assert levels == ["WARNING"]
        assert "s3cret" not in caplog.text

    def test_one_that_agrees_to_everything_does_no_harm(self) -> None:
        async def work() -> None:
            async with (
                FakeServer(b"+OK\r\n") as server,
                opened(server.url) as store,
            ):
                for number in range(3):
                    assert await store.add("quota", "x", 1, 100) == number + 1
                    assert await store.claim("verdict", "a", 5)
                    await store.release("verdict", "a")

        run(work())

    def test_one_that_drips_is_not_waited_for(self, told: Callable[[], list[str]]) -> None:
        async def work() -> None:
            drip = FakeServer(b"$100000\r\n" + b"x" * 1_000, pause=0.02)
            async with drip as server, opened(server.url) as store:
                began = time.monotonic()
                for number in range(50):
                    await serves_from_memory(store, str(number))
                assert time.monotonic() - began < SECONDS / 4

        run(work())
        assert told() == ["WARNING"]

    def test_one_whose_port_takes_connections_and_no_more_is_not_waited_for(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work(port: int) -> None:
            async with opened(f"valkeys://:pw@{HOST}:{port}") as store:
                began = time.monotonic()
                for number in range(50):
                    await serves_from_memory(store, str(number))
                assert time.monotonic() - began < SECONDS / 4

        with socket.create_server((HOST, 0)) as listening:
            run(work(listening.getsockname()[1]))
        assert [entry.levelname for entry in caplog.records] == ["WARNING"]
        assert "does not answer in time" in caplog.text


class TestOpening:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("valkey://host", "valkey://host:6379/0"),
            ("valkey://host/", "valkey://host:6379/0"),
            ("redis://host:1/2", "valkey://host:1/2"),
            ("rediss://me:pw@host.example:1/2", "valkeys://host.example:1/2"),
            ("valkeys://:p%40w@[2001:db8::1]:1", "valkeys://[2001:db8::1]:1/0"),
        ],
    )
    def test_by_url(self, url: str, address: str) -> None:
        async def work() -> None:
            store = open_store(url)
            assert isinstance(store, ValkeyStore)
            assert str(store._address) == address
            assert "pw" not in repr(store._address)
            await store.close()

        run(work())

    @pytest.mark.parametrize(
        "url",
        [
            "valkey://",
            "valkey:///0",
            "valkey://:s3cret@/0",
            "valkey://:s3cret@host:x",
            "valkey://:s3cret@host:0",
            "valkey://:s3cret@host:70000",
            "valkey://:s3cret@host/x",
            "valkey://:s3cret@host/12345",
            "valkey://:s3cret@host/-1",
            "valkey://:s3cret@host/1/2",
            "valkey://host/0?password=s3cret",
            "valkey://host/0#s3cret",
            "valkey://:s3cret/x@host",
            "valkey://:s3cret#x@host",
            "valkey://:x:s3cret@[::1",
            "valkey://:s3cret@ho st",
            "valkey://:s3cret@hö.example",
            "redis://:s3cret@host\0",
        ],
    )
    def test_a_url_that_is_of_no_use_is_refused_without_its_password(self, url: str) -> None:
        with pytest.raises(ValueError, match="of no use") as caught:
            open_store(url)
        assert "s3cret" not in "".join([str(caught.value), str(caught.value.__cause__)])
