"""Mail read in processes of their own: what they say, what they cannot do, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rspamd_llm import nursery, readers, reading
from rspamd_llm.domain import Envelope, Facts, Failure, Mail, Message, Reading, ReadingError
from rspamd_llm.nursery import Nursery
from rspamd_llm.readers import Readers
from tests.chain.daemon import alive, processes_of
from tests.waiting import eventually

T = TypeVar("T")

DATA = Path(__file__).parent / "data"


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def message(text: str = "Hello") -> Message:
    data = f"From: a@b.example\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
    return Message(envelope=Envelope(), data=data, size=len(data))


def mails() -> list[Message]:
    found = [path.read_bytes() for path in sorted(DATA.rglob("*.eml"))]
    return [Message(envelope=Envelope(), data=data, size=len(data)) for data in found]


@contextlib.asynccontextmanager
async def working(lost: Callable[[], None] = lambda: None) -> AsyncIterator[Readers]:
    made = Readers(Nursery(), lost=lost)
    try:
        yield made
    finally:
        await made.close()


def told(text: str) -> Reading:
    """What a reader says instead of a mail's reading."""
    return Reading(mail=Mail(text=text), facts=Facts(), content="0" * 64)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Message], Any]], None]:
    """Sets what readers that are made from now on do with a mail."""
    return lambda function: monkeypatch.setattr(reading, "read", function)


class TestAnswers:
    def test_they_say_what_is_read_here(self) -> None:
        async def read() -> list[Reading | None]:
            async with working() as made:
                return await asyncio.gather(*map(made.read, mails()))

        assert len(mails()) > 10
        assert run(read()) == [reading.read(one) for one in mails()]

    def test_nothing_to_judge(self) -> None:
        async def read() -> Reading | None:
            async with working() as made:
                return await made.read(replace(message(), data=b"From: a@b.example\r\n\r\n"))

        assert run(read()) is None

    def test_every_character_set_is_there(self) -> None:
        """None can be imported later: a text in the rarest of them is read as it is here."""
        letters = "Приве́т Καλημέρα שלום 你好 こんにちは 안녕 żółć"
        sent = []
        for charset in (
            "koi8-t",
            "cp1125",
            "iso2022-jp-ext",
            "hz",
            "mac-centeuro",
            "johab",
            "x-no",
        ):
            body = letters.encode("utf-8" if charset == "x-no" else charset, "ignore")
            head = f"From: a@b.example\r\nContent-Type: text/plain; charset={charset}\r\n\r\n"
            data = head.encode() + body
            sent.append(Message(envelope=Envelope(), data=data, size=len(data)))

        async def read() -> list[Reading | None]:
            async with working() as made:
                return await asyncio.gather(*map(made.read, sent))

        found = run(read())
        assert found == [reading.read(one) for one in sent]
        assert "Приве" in (found[1].mail.text if found[1] else "")


class TestConfinement:
    def test_what_a_reader_can_do(self, reads: Callable[..., None], tmp_path: Path) -> None:
        target = tmp_path / "written"
        known = tmp_path / "known"
        known.write_text("secret")

        def attempt(function: Callable[[], object]) -> str:
            try:
                return repr(function())
            except (OSError, ImportError, subprocess.SubprocessError):
                return "refused"

        def closed_before() -> socket.socket:
            os.close(0)
            return socket.socket()

        def reach(_message: Message) -> Reading:
            tries: list[Callable[[], object]] = [
                lambda: socket.socket().fileno(),
                lambda: socket.socket(socket.AF_UNIX).fileno(),
                known.read_text,
                lambda: target.write_text("x"),
                os.pipe,
                lambda: subprocess.run(["/bin/true"], check=True),
                lambda: __import__("this"),
                closed_before,
            ]
            return told(" ".join(map(attempt, tries)))

        reads(reach)

        async def read() -> Reading | None:
            async with working() as made:
                return await made.read(message())

        found = run(read())
        assert found is not None
        assert found.mail.text.split() == ["refused"] * 8
        assert not target.exists()

    def test_it_inherits_no_descriptor(self) -> None:
        def descriptors(pid: int) -> list[str]:
            return sorted(str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())

        async def look() -> list[list[str]]:
            before = set(processes_of(os.getpid()))
            async with working() as made:
                await made.read(message())
                (mother,) = set(processes_of(os.getpid())) - before
                (child,) = processes_of(mother)
                return [descriptors(mother), descriptors(child)]

        with socket.create_server(("127.0.0.1", 0)) as server, Path("/dev/zero").open() as file:
            os.set_inheritable(server.fileno(), True)
            os.set_inheritable(file.fileno(), True)
            both = run(look())
        for found in both:
            assert found[:3] == ["/dev/null"] * 3
            assert len(found) == 4
            assert found[3].startswith("socket:")

    def test_its_memory_is_bounded(
        self, reads: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def grow(one: Message) -> Reading:
            return told(str(len(bytearray(500_000_000)))) if one.size > 99 else told("small")

        reads(grow)
        monkeypatch.setattr(nursery, "MEMORY", 50_000_000)

        async def read() -> Reading | None:
            async with working() as made:
                with pytest.raises(ReadingError) as caught:
                    await made.read(replace(message(), size=100))
                assert caught.value.code is Failure.INTERNAL
                return await made.read(message())

        assert run(read()) == told("small")

    @pytest.mark.parametrize("in_c", [False, True])
    def test_its_time_is_bounded(
        self, reads: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, in_c: bool
    ) -> None:
        def hang(one: Message) -> Reading:
            if one.size < 100:
                return told("quick")
            while True:
                if in_c:
                    re.fullmatch(r"(a+)+b", "a" * 64)

        reads(hang)
        monkeypatch.setattr(nursery, "CPU_SECONDS", 0.2)
        monkeypatch.setattr(readers, "CPU_SECONDS", 0.2)

        async def read() -> list[Any]:
            async with working() as made:
                late = [made.read(replace(message(), size=100)) for _ in range(5)]
                found: list[Any] = await asyncio.gather(*late, return_exceptions=True)
                return [*found, await made.read(message())]

        *late, quick = run(read())
        assert [error.code for error in late] == [Failure.TIMEOUT] * 5
        assert quick == told("quick")


class TestFaults:
    def test_a_mistake_of_ours_costs_one_mail(self, reads: Callable[..., None]) -> None:
        def fail(one: Message) -> Reading:
            if one.size > 99:
                raise RuntimeError("SECRET")
            return told("well")

        reads(fail)

        async def read() -> Reading | None:
            async with working() as made:
                for _ in range(5):
                    with pytest.raises(ReadingError) as caught:
                        await made.read(replace(message(), size=100))
                    assert "SECRET" not in str(caught.value)
                return await made.read(message())

        assert run(read()) == told("well")

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            b"\xff",
            b"cos\nsystem\n(S'true'\ntR.",
            b"\x82\xa4mail\x80\xa5facts\x80"[:-1],
            b"\x82\xa4mail\x81\xa4text\x01\xa5facts\x80",
            b"\x82\xa4mail\x81\xa4text\xa1\xff\xa5facts\x80",
            b"\xc3",
        ],
    )
    def test_what_is_no_reading_is_refused(self, said: bytes) -> None:
        with pytest.raises(ReadingError):
            nursery.answer(said)

    def test_a_reader_that_says_too_much_is_not_listened_to(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readers, "ANSWER_BYTES", 200)

        async def read() -> None:
            async with working() as made:
                with pytest.raises(ReadingError):
                    await made.read(message())

        run(read())

    def test_one_who_is_cancelled_leaves_the_reader_to_the_next(
        self, reads: Callable[..., None]
    ) -> None:
        def slow(one: Message) -> Reading:
            if one.size > 99:
                time.sleep(0.3)
            return told(one.envelope.queue_id)

        reads(slow)
        count = 4 * (os.cpu_count() or 1)

        async def read() -> list[Any]:
            async with working() as made:
                given_up = [
                    asyncio.create_task(made.read(replace(message(), size=100)))
                    for _ in range(count)
                ]
                await asyncio.sleep(0.05)
                for task in given_up:
                    task.cancel()
                kept = [
                    made.read(replace(message(), envelope=Envelope(queue_id=str(number))))
                    for number in range(count)
                ]
                return await asyncio.gather(*kept)

        assert run(read()) == [told(str(number)) for number in range(count)]

    def test_it_outlives_the_signals_that_end_the_daemon(self) -> None:
        async def read() -> Reading | None:
            before = set(processes_of(os.getpid()))
            async with working() as made:
                await made.read(message("one"))
                (mother,) = (
                    pid for pid in set(processes_of(os.getpid())) - before if processes_of(pid)
                )
                (child,) = processes_of(mother)
                for pid in (child, mother):
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                        os.kill(pid, number)
                os.kill(child, signal.SIGKILL)
                await eventually(lambda: not processes_of(mother))
                with contextlib.suppress(ReadingError):
                    await made.read(message("two"))
                return await made.read(message("three"))

        found = run(read())
        assert found is not None
        assert found.mail.subject == "three"

    def test_readers_that_are_idle_for_long_are_ended_but_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readers, "IDLE", 0.2)

        async def read() -> tuple[int, int, Reading | None]:
            before = set(processes_of(os.getpid()))
            async with working() as made:
                await asyncio.gather(*(made.read(message()) for _ in range(10)))
                (mother,) = set(processes_of(os.getpid())) - before
                most = len(processes_of(mother))
                await eventually(lambda: len(processes_of(mother)) == 1)
                await asyncio.sleep(0.5)
                least = len(processes_of(mother))
                return most, least, await made.read(message())

        most, least, found = run(read())
        assert most >= 2
        assert least == 1
        assert found is not None

    def test_the_loss_of_the_nursery_is_told(self) -> None:
        async def read() -> tuple[list[str], Reading | None]:
            before = set(processes_of(os.getpid()))
            calls: list[str] = []
            async with working(lost=lambda: calls.append("lost")) as made:
                await made.read(message())
                (mother,) = set(processes_of(os.getpid())) - before
                os.kill(mother, signal.SIGKILL)
                await eventually(lambda: bool(calls))
                return calls, await made.read(message())

        calls, found = run(read())
        assert calls == ["lost"]
        assert found is not None  # the readers that are there go on


@pytest.fixture
def core(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with readers, which has read a mail."""
    program = """
import asyncio, sys
from rspamd_llm.domain import Envelope, Message
from rspamd_llm.nursery import Nursery
from rspamd_llm.readers import Readers
from tests.chain.daemon import alive, processes_of
async def main():
    made = Readers(Nursery(), lost=lambda: None)
    await made.read(Message(envelope=Envelope(), data=b"From: a@b.example\\r\\n\\r\\nHi", size=30))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as it:
        try:
            yield it
        finally:
            it.kill()


def test_nobody_is_left_when_the_core_is_killed(core: subprocess.Popen[str]) -> None:
    assert core.stdout is not None
    assert core.stdout.readline() == "ready\n"
    (mother,) = processes_of(core.pid)
    left = [mother, *processes_of(mother)]
    assert len(left) == 2
    core.kill()
    run(eventually(lambda: not any(map(alive, left))))
