"""The store: what it keeps, for how long, and that no disk or file can make it raise or wait."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rspamd_llm.store import ENTRY_LIMIT, MemoryStore, SqliteStore, Store, open_store
from rspamd_llm.store import sqlite as stores
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
SECONDS = 60.0
"""After which a test that hangs fails."""

T = TypeVar("T")
Opener = Callable[..., Store]


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, path: Path, clock: Clock) -> Opener:
    if request.param == "memory":
        return lambda **options: MemoryStore(**options, clock=clock)
    return lambda **options: SqliteStore(path, **options, clock=clock)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of the file are waited for, however busy the machine is."""
    monkeypatch.setattr(stores, "READ_SECONDS", SECONDS)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The texts of the warnings so far."""
    with caplog.at_level(logging.INFO, "rspamd_llm.store"):
        yield lambda: [
            entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING
        ]


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(bounded())


def through(store: Store, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """What comes of work with a store, which is closed then."""

    async def whole() -> T:
        try:
            return await work(store)
        finally:
            await store.close()

    return run(whole())


def put(store: Store, *entries: tuple[str, str], ttl: float = 100.0) -> None:
    async def work(opened: Store) -> None:
        for key, value in entries:
            await opened.put("dns", key, value, ttl)

    through(store, work)


def get(store: Store, key: str) -> str | None:
    return through(store, lambda opened: opened.get("dns", key))


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT kind, key, value FROM entries ORDER BY key").fetchall()


@pytest.mark.usefixtures("patient")
class TestBoth:
    def test_what_was_put_is_there(self, opened: Opener) -> None:
        async def work(store: Store) -> list[str | None]:
            await store.put("dns", "a.example", "of dns", 100)
            await store.put("web", "a.example", "ⓦ\0 \n", 100)
            await store.put("web", "b.example", "old", 100)
            await store.put("web", "b.example", "new", 100)
            asked = [("dns", "a"), ("web", "a"), ("web", "b"), ("dns", "b")]
            return [await store.get(kind, f"{key}.example") for kind, key in asked]

        assert through(opened(), work) == ["of dns", "ⓦ\0 \n", "new", None]

    def test_it_expires(self, opened: Opener, clock: Clock) -> None:
        async def work(store: Store) -> list[str | None]:
            await store.put("dns", "short", "x", 10)
            await store.put("dns", "long", "y", 20)
            clock.now += 10
            return [await store.get("dns", "short"), await store.get("dns", "long")]

        assert through(opened(), work) == [None, "y"]

    def test_a_count_grows_and_ends_as_it_began(self, opened: Opener, clock: Clock) -> None:
        async def work(store: Store) -> list[object]:
            seen: list[object] = [await store.add("quota", "today", 1, 10)]
            clock.now += 6
            seen.append(await store.add("quota", "today", 2, 10))
            seen.append(await store.get("quota", "today"))
            seen.append(await store.add("quota", "other", 7, 10))
            clock.now += 4
            seen.append(await store.add("quota", "today", 1, 10))
            return seen

        assert through(opened(), work) == [1, 3, "3", 7, 1]

    def test_counting_side_by_side_gives_each_its_own_number(self, opened: Opener) -> None:
        async def work(store: Store) -> list[int]:
            return await asyncio.gather(*(store.add("quota", "x", 1, 100) for _ in range(50)))

        assert sorted(through(opened(), work)) == list(range(1, 51))

    def test_a_count_in_place_of_a_text_begins_at_nothing(self, opened: Opener) -> None:
        async def work(store: Store) -> int:
            await store.put("quota", "x", "no number", 100)
            return await store.add("quota", "x", 2, 100)

        assert through(opened(), work) == 2

    def test_what_is_too_long_is_not_kept(self, opened: Opener) -> None:
        async def work(store: Store) -> list[int]:
            most = ENTRY_LIMIT - len("key")
            await store.put("dns", "key", "x" * most, 100)
            await store.put("dns", "KEY", "x" * (most + 1), 100)
            await store.put("dns", "k" * ENTRY_LIMIT, "x", 100)
            keys = ("key", "KEY", "k" * ENTRY_LIMIT)
            return [len(await store.get("dns", key) or "") for key in keys]

        assert through(opened(), work) == [ENTRY_LIMIT - 3, 0, 0]

    def test_text_that_no_file_can_hold_harms_nothing_else(self, opened: Opener) -> None:
        async def work(store: Store) -> str | None:
            await store.put("dns", "\ud800", "x", 100)
            await store.put("dns", "x", "\udfff", 100)
            await store.get("dns", "\udc00")
            await store.add("dns", "\ud801", 1, 100)
            await store.put("dns", "key", "sound", 100)
            return await store.get("dns", "key")

        assert through(opened(), work) == "sound"

    def test_nobody_shares_it_so_that_a_claim_is_always_granted(self, opened: Opener) -> None:
        async def work(store: Store) -> list[bool]:
            granted = [await store.claim("verdict", "a", 100) for _ in range(2)]
            await store.release("verdict", "a")
            return [*granted, await store.claim("verdict", "a", 100)]

        assert through(opened(), work) == [True, True, True]

    def test_closed_it_does_nothing(self, opened: Opener) -> None:
        async def work() -> None:
            store = opened()
            await store.put("dns", "a", "x", 100)
            await store.close()
            await store.put("dns", "b", "x", 100)
            assert await store.add("dns", "c", 1, 100) == 1
            assert await store.get("dns", "d") is None
            await store.close()

        run(work())


class TestMemory:
    def test_what_was_not_used_for_the_longest_time_goes_first(self) -> None:
        async def work(store: Store) -> list[str | None]:
            await store.put("dns", "a", "1", 100)
            await store.put("dns", "b", "2", 100)
            await store.get("dns", "a")
            await store.put("dns", "c", "3", 100)
            return [await store.get("dns", key) for key in "abc"]

        assert through(MemoryStore(rows=2), work) == ["1", None, "3"]


@pytest.mark.usefixtures("patient")
class TestFile:
    def test_it_survives_a_restart(self, path: Path) -> None:
        async def count(store: Store) -> int:
            return await store.add("quota", "today", 1, 100)

        put(SqliteStore(path), ("a.example", "kept"))
        assert [through(SqliteStore(path), count) for _ in range(3)] == [1, 2, 3]
        assert get(SqliteStore(path), "a.example") == "kept"

    def test_it_is_for_its_owner_alone_and_so_is_what_lies_beside_it(self, path: Path) -> None:
        async def work(store: Store) -> dict[str, int]:
            await store.add("quota", "x", 1, 100)
            return {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}

        usual = os.umask(0)
        try:
            modes = through(SqliteStore(path), work)
        finally:
            os.umask(usual)
        assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}

    def test_it_has_a_bounded_number_of_rows_and_the_first_to_expire_go(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "SWEEP", 10)

        async def work(store: Store) -> None:
            for number in range(41):  # the last one sweeps
                await store.put("dns", f"{number:02d}", "x", 1_000 - number)

        through(SqliteStore(path, rows=5), work)
        assert [key for _, key, _ in rows(path)] == ["00", "01", "02", "03", "04"]

    def test_no_kind_pushes_out_another(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stores, "SWEEP", 10)

        async def work(store: Store) -> None:
            await store.put("verdict", "a", "x", 10)
            for number in range(41):
                await store.put("correspondent", f"{number:02d}", "x", 1_000)

        through(SqliteStore(path, rows=5), work)
        assert [kind for kind, _, _ in rows(path)] == ["correspondent"] * 5 + ["verdict"]

    def test_old_rows_go(self, path: Path, clock: Clock) -> None:
        put(SqliteStore(path, clock=clock), ("a", "x"), ("b", "x"), ttl=10)
        clock.now += 10
        put(SqliteStore(path, clock=clock), ("c", "x"))
        assert rows(path) == [("dns", "c", "x")]

    def test_a_file_of_another_version_begins_anew(self, path: Path) -> None:
        put(SqliteStore(path), ("a", "x"))
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE entries")
            db.execute("CREATE TABLE entries (other)")
            db.execute(f"PRAGMA user_version = {stores.VERSION + 1}")
            db.commit()
        put(SqliteStore(path), ("b", "y"))
        assert rows(path) == [("dns", "b", "y")]

    @pytest.mark.parametrize("value", [b"\xff\xfe", None, 5, 1.5])
    def test_a_value_of_another_type_does_no_harm(self, path: Path, value: object) -> None:
        put(SqliteStore(path), ("a", "x"), ("b", "y"))
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute("DROP TABLE entries")
            db.execute("CREATE TABLE entries (kind, key, value, expires, PRIMARY KEY (kind, key))")
            db.execute("INSERT INTO entries VALUES ('dns', 'a', ?, 1e12)", (value,))
            db.execute("INSERT INTO entries VALUES ('dns', 'c', CAST(x'80ff' AS TEXT), 1e12)")
            db.execute("INSERT INTO entries VALUES ('dns', 'b', 'y', 1e12)")
            db.commit()

        async def work(store: Store) -> list[str | None]:
            return [await store.get("dns", key) for key in "acb"]

        assert through(SqliteStore(path), work) == [None, "\ufffd\ufffd", "y"]

    def test_killed_while_it_writes_it_leaves_a_sound_file(self, path: Path) -> None:
        source = """
            import asyncio, sys
            from pathlib import Path
            from rspamd_llm.store import SqliteStore

            async def work():
                store = SqliteStore(Path(sys.argv[1]))
                for number in range(10_000_000):
                    await store.put("dns", str(number), "x" * 200, 1e9)
                    await asyncio.sleep(0)

            asyncio.run(work())
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), str(path)], cwd=ROOT
        ) as writer:
            try:
                wait_until(lambda: count(path) > 500)
            finally:
                writer.kill()
        assert path.with_name("store.db-wal").exists()
        assert get(SqliteStore(path), "7") == "x" * 200
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not path.with_name("store.db.corrupt").exists()


def count(path: Path) -> int:
    """The rows of a file that may be just in the making."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM entries").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.usefixtures("patient")
class TestFaults:
    @pytest.mark.parametrize(
        "content", [b"not a database, but long enough for one" * 100, b"\0" * 600]
    )
    def test_what_is_no_database_is_set_aside(
        self, path: Path, content: bytes, warnings: Callable[[], list[str]]
    ) -> None:
        path.write_bytes(content)
        path.with_name("store.db-wal").write_bytes(b"of the old one")

        async def work(store: Store) -> str | None:
            await store.get("dns", "a")  # finds out
            await store.put("dns", "a", "x", 100)
            return await store.get("dns", "a")

        assert through(SqliteStore(path), work) == "x"
        assert rows(path) == [("dns", "a", "x")]
        assert path.with_name("store.db.corrupt").read_bytes() == content
        assert len(warnings()) == 1

    def test_a_damaged_database_is_set_aside(
        self, path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        put(SqliteStore(path), *((f"{number:04d}", "x" * 500) for number in range(400)))
        size = path.stat().st_size
        with path.open("r+b") as file:  # all pages but the first
            file.seek(4_096)
            file.write(b"\xa5" * (size - 4_096))

        async def work(store: Store) -> str | None:
            assert await store.get("dns", "0001") is None
            await store.put("dns", "0001", "new", 100)
            return await store.get("dns", "0001")

        assert through(SqliteStore(path), work) == "new"
        assert path.with_name("store.db.corrupt").stat().st_size == size
        assert rows(path) == [("dns", "0001", "new")]
        assert len(warnings()) == 1

    def test_the_log_of_a_database_that_is_set_aside_goes(self, path: Path) -> None:
        put(SqliteStore(path), *((str(number), "x" * 500) for number in range(20)))
        log = path.with_name("store.db-wal")
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE entries SET value = 'of the old one' WHERE key = '7'")
            db.commit()
            kept = log.read_bytes()  # which closing removes
        assert kept
        log.write_bytes(kept)
        path.write_bytes(b"?" * path.stat().st_size)

        async def work(store: Store) -> None:
            await store.get("dns", "a")
            await store.put("dns", "a", "x", 100)

        through(SqliteStore(path), work)
        assert rows(path) == [("dns", "a", "x")]

    def test_without_its_folder_it_lives_in_memory_until_there_is_one(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        warnings: Callable[[], list[str]],
    ) -> None:
        monkeypatch.setattr(stores, "RETRY", 0.0)
        path = tmp_path / "absent" / "store.db"

        async def work(store: Store) -> None:
            for number in range(1, 4):
                await store.put("dns", "a", "x", 100)
                assert await store.get("dns", "a") == "x"
                assert await store.get("dns", "b") is None
                assert await store.add("quota", "today", 1, 100) == number
            assert len(warnings()) == 1
            path.parent.mkdir()
            await store.put("dns", "a", "y", 100)
            await store.get("dns", "b")
            assert rows(path) == [("dns", "a", "y")]
            # The file knows less of it than we do.
            assert await store.add("quota", "today", 1, 100) == 4

        through(SqliteStore(path), work)
        assert len(warnings()) == 1
        assert [entry.levelname for entry in caplog.records] == ["WARNING", "INFO"]

    def test_it_tries_again_only_later(self, tmp_path: Path) -> None:
        path = tmp_path / "absent" / "store.db"

        async def work(store: Store) -> None:
            await store.get("dns", "a")
            path.parent.mkdir()
            await store.put("dns", "a", "x", 100)
            assert await store.get("dns", "a") == "x"

        through(SqliteStore(path), work)
        assert not path.exists()

    def test_a_file_that_cannot_be_written_costs_nothing_but_speed(self, tmp_path: Path) -> None:
        """A full disk, as far as a limit on the size of files is like one."""
        source = """
            import asyncio, logging, resource, sys
            from pathlib import Path
            from rspamd_llm.store import sqlite as stores

            stores.RETRY, stores.READ_SECONDS = 0.0, 60.0
            logging.basicConfig(level=logging.INFO, format="%(levelname)s", stream=sys.stdout)

            async def work():
                store = stores.SqliteStore(Path(sys.argv[1]))
                await store.put("dns", "early", "x", 1e9)
                await store.add("quota", "x", 1, 1e9)
                usual = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, usual[1]))
                for number in range(100):
                    await store.put("dns", str(number), "x" * 2_000, 1e9)
                    assert await store.get("dns", str(number)) == "x" * 2_000
                    assert await store.add("quota", "x", 1, 1e9) == number + 2
                resource.setrlimit(resource.RLIMIT_FSIZE, usual)
                await store.put("dns", "late", "x", 1e9)
                await store.close()

            asyncio.run(work())
        """
        path = tmp_path / "store.db"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), str(path)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, "")
        # Once it is closed for its failure, SQLite tidies up and has a little room again.
        told = done.stdout.split()
        assert told == ["WARNING", "INFO"] * (len(told) // 2) != []
        assert {"early", "late"} <= {key for _, key, _ in rows(path)}

    @pytest.mark.parametrize("what", ["folder", "file"])
    def test_what_may_not_be_written_costs_nothing_but_speed(self, what: str) -> None:
        source = """
            import asyncio, logging, os, sys
            from pathlib import Path
            from rspamd_llm.store import sqlite as stores

            stores.READ_SECONDS = 60.0
            logging.basicConfig(level=logging.INFO, format="%(levelname)s", stream=sys.stdout)
            if os.geteuid() == 0:  # who may write everything
                os.setuid(65534)

            async def work():
                store = stores.SqliteStore(Path(sys.argv[1]))
                for number in range(3):
                    await store.put("dns", "a", "x", 1e9)
                    assert await store.get("dns", "a") == "x"
                    assert await store.get("dns", "b") is None
                    assert await store.add("quota", "x", 1, 1e9) == number + 1
                await store.close()

            asyncio.run(work())
        """
        with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
            path = Path(folder) / "store.db"
            if what == "file":
                put(SqliteStore(path), ("b", "x"))
                path.chmod(0o444)
            Path(folder).chmod(0o555)
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(source), str(path)],
                cwd=ROOT,
                check=False,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            Path(folder).chmod(0o700)
        assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["WARNING"])


class TestSlowness:
    """The thread is held, as a disk that hangs holds it."""

    def test_reads_count_as_not_there(self, path: Path) -> None:
        put(SqliteStore(path), ("a", "x"))
        release = threading.Event()

        async def work() -> None:
            store = SqliteStore(path)
            store._queue(release.wait)
            began = time.monotonic()
            found = await asyncio.gather(*(store.get("dns", "a") for _ in range(20)))
            assert time.monotonic() - began < SECONDS / 4
            assert found == [None] * 20
            await store.put("dns", "b", "y", 100)
            assert await store.get("dns", "b") == "y"
            assert await store.add("quota", "x", 5, 100) == 5
            release.set()
            await store.close()

        run(work())
        assert [key for _, key, _ in rows(path)] == ["a", "b", "x"]

    def test_no_more_than_so_many_writes_wait(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "QUEUED", 20)
        release = threading.Event()

        async def work() -> None:
            store = SqliteStore(path)
            store._queue(release.wait)
            for number in range(100):
                await store.put("dns", str(number), "x", 100)
            assert await store.get("dns", "99") == "x"
            assert await store.get("dns", "unknown") is None
            release.set()
            await store.close()

        run(work())
        assert len(rows(path)) == 19

    def test_room_comes_free_with_each_write(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "QUEUED", 1)

        async def work() -> None:
            store = SqliteStore(path)
            for number in range(5):
                while count(path) == number:
                    await store.put("dns", str(number), "x", 100)
                    await asyncio.sleep(0.001)
            await store.close()

        run(work())
        assert len(rows(path)) == 5

    def test_without_a_thread_it_lives_in_memory_until_there_is_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "QUEUED", 1)

        def refused(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        async def work() -> None:
            store = SqliteStore(path)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refused)
                for number in range(5):
                    await store.put("dns", str(number), "x", 100)
                    assert await store.get("dns", str(number)) == "x"
                    assert await store.get("dns", "unknown") is None
            await store.put("dns", "late", "x", 100)
            await store.close()

        run(work())
        assert "late" in {key for _, key, _ in rows(path)}

    def test_closing_does_not_wait_for_ever(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "CLOSE_SECONDS", 0.05)
        release = threading.Event()

        async def work() -> None:
            store = SqliteStore(path)
            store._queue(release.wait)
            await store.put("dns", "a", "x", 100)
            await store.close()

        try:
            run(work())
        finally:
            release.set()

    @pytest.mark.usefixtures("patient")
    def test_a_file_that_another_process_holds_is_left_alone_for_a_while(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setattr(stores, "LOCK_SECONDS", 0.01)
        put(SqliteStore(path), ("a", "x"))

        async def work(store: Store) -> None:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA locking_mode = EXCLUSIVE")
                other.execute("BEGIN EXCLUSIVE")
                assert await store.get("dns", "a") is None
            monkeypatch.setattr(stores, "RETRY", 0.0)
            assert await store.get("dns", "a") is None  # later has not come

        through(SqliteStore(path), work)
        assert len(warnings()) == 1
        assert get(SqliteStore(path), "a") == "x"


class TestOpening:
    def test_by_url(self, path: Path) -> None:
        assert isinstance(open_store("memory://"), MemoryStore)
        put(open_store(f"sqlite://{path}"), ("a", "x"))
        assert rows(path) == [("dns", "a", "x")]

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "memory",
            "memory:///x",
            "/x",
            "file:///x",
            "http://host:1/0",
            "SQLITE:///x",
            "sqlite://",
            "sqlite://x/y",
            "sqlite:///",
            "sqlite:///x/",
            "sqlite:///a\0b",
        ],
    )
    def test_another_url_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="is no store"):
            open_store(url)

    @pytest.mark.parametrize("url", ["sql://me:s3cret@x/y", "s://me:s3cret/#?@x", "s://s3cret@"])
    def test_a_refusal_does_not_tell_the_password(self, url: str) -> None:
        with pytest.raises(ValueError, match="is no store") as caught:
            open_store(url)
        assert "s3cret" not in str(caught.value)
