"""Who has written to whom: what is learned, what is known of it, and what the store tells."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rspamd_llm.correspondents import ASKED, EXPIRES, KIND, LEARNT, Correspondents
from rspamd_llm.domain import Envelope, Key, Message
from rspamd_llm.store import MemoryStore, SqliteStore, Store

NEW, OLD = Key(b"n" * 32), Key(b"o" * 32)
BOB, CAROL, DORA = "<bob@ours.example>", "<carol@theirs.example>", "<dora@theirs.example>"
FROM_CAROL = "carol@theirs.example"

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


def outgoing(
    sender: str, *recipients: str, header: str = "", count: int = 0, authenticated: bool = True
) -> Message:
    envelope = Envelope(
        sender=sender,
        recipients=recipients,
        recipient_count=count or len(recipients),
        authenticated=authenticated,
    )
    data = f"From: {sender}\r\n{header}\r\nHello\r\n".encode()
    return Message(envelope=envelope, data=data, size=len(data))


def knows(
    message: Message, recipients: tuple[str, ...], from_address: str, *, store: Store | None = None
) -> bool:
    """Whether what was learned from one message tells that others are correspondents."""

    async def work() -> bool:
        known = Correspondents(store or MemoryStore(), [NEW])
        await known.learn(message)
        return await known.has_written(recipients, from_address)

    return run(work())


class TestPairs:
    def test_whoever_was_written_to_is_known_to_the_writer(self) -> None:
        mail = outgoing(BOB, CAROL, DORA)
        assert knows(mail, (BOB,), FROM_CAROL)
        assert knows(mail, (BOB,), "dora@theirs.example")

    def test_not_the_other_way_round(self) -> None:
        assert not knows(outgoing(BOB, CAROL), (CAROL,), "bob@ours.example")

    def test_not_to_others_and_nobody_else(self) -> None:
        mail = outgoing(BOB, CAROL, DORA)
        assert not knows(mail, ("<ann@ours.example>",), FROM_CAROL)
        assert not knows(mail, (BOB,), "eve@theirs.example")
        assert not knows(mail, (BOB,), "carol@sub.theirs.example")
        assert not knows(mail, (CAROL,), "dora@theirs.example")
        for nobody in ("", "carol", "@theirs.example", "theirs.example"):
            assert not knows(mail, (BOB,), nobody)

    def test_each_recipient_must_have_written(self) -> None:
        ann = "<ann@ours.example>"

        async def work() -> None:
            known = Correspondents(MemoryStore(), [NEW])
            await known.learn(outgoing(BOB, CAROL))
            assert not await known.has_written([BOB, ann], FROM_CAROL)
            await known.learn(outgoing(ann, CAROL))
            assert await known.has_written([BOB, ann], FROM_CAROL)
            assert not await known.has_written([BOB, ann, "<nobody>"], FROM_CAROL)
            assert not await known.has_written([], FROM_CAROL)

        run(work())

    def test_of_a_mail_to_many_nothing_is_known(self) -> None:
        many = [f"<user{number}@ours.example>" for number in range(ASKED + 1)]

        async def work() -> None:
            known = Correspondents(MemoryStore(), [NEW])
            for each in many:
                await known.learn(outgoing(each, CAROL))
            assert await known.has_written(many[:ASKED], FROM_CAROL)
            assert not await known.has_written(many, FROM_CAROL)
            assert not await known.has_written([BOB] * (ASKED + 1), FROM_CAROL)

        run(work())

    @pytest.mark.parametrize(
        ("written", "asked"),
        [
            (CAROL, "Carol@THEIRS.example"),
            ("<CAROL@Theirs.Example>", FROM_CAROL),
            ("carol@theirs.example", " carol@theirs.example. "),
            ("<@relay.example:carol@theirs.example>", FROM_CAROL),
            ("<carol+orders@theirs.example>", FROM_CAROL),
            (CAROL, "carol+orders@theirs.example"),
            ("<jörg@bücher.example>", "JÖRG@xn--bcher-kva.example"),
            ("<j\u00f6rg@b.example>", "jo\u0308rg@b.example"),
        ],
    )
    def test_spellings_of_an_address(self, written: str, asked: str) -> None:
        assert knows(outgoing(BOB, written), (BOB,), asked)
        # And of the writer's.
        assert knows(outgoing(written, DORA), (asked,), "dora@theirs.example")

    @pytest.mark.parametrize(
        ("writer", "other"),
        [
            ("bob@ours.examplecarol@theirs.example", "x@theirs.example"),
            ("bob@ours.example\0carol@theirs.example", ""),
            ("bob@ours.example", "\0carol@theirs.example"),
            ("bob@ours.exampl", "ecarol@theirs.example"),
            ('"bob@ours.example\0carol"@theirs.example', ""),
            ("b\ufffdb@ours.example", FROM_CAROL),
        ],
    )
    def test_no_pair_looks_like_another(self, writer: str, other: str) -> None:
        assert not knows(outgoing(BOB, CAROL), (writer,), other)
        assert not knows(outgoing(writer, other), (BOB,), FROM_CAROL)

    def test_bytes_that_were_no_utf8_are_nobody(self) -> None:
        unclear = "<b\ufffdb@ours.example>"
        assert not knows(outgoing(unclear, CAROL), (unclear,), FROM_CAROL)


class TestLearning:
    @pytest.mark.parametrize(
        "message",
        [
            outgoing(BOB, CAROL, authenticated=False),
            outgoing("<>", CAROL),
            outgoing("", CAROL),
            outgoing("bob", CAROL),
            outgoing(BOB, CAROL, header="Auto-Submitted: auto-replied\r\n"),
            outgoing(BOB, CAROL, header="auto-submitted:\r\n (x) auto-generated; a=b\r\n"),
            outgoing(BOB, CAROL, header='Content-Type: Multipart/Report;\r\n boundary="x"\r\n'),
            outgoing(BOB, CAROL, count=LEARNT + 1),
            outgoing(BOB, CAROL, *(f"<{number}@a.example>" for number in range(LEARNT))),
        ],
    )
    def test_what_teaches_nothing(self, message: Message) -> None:
        store = MemoryStore()
        assert not knows(message, (BOB,), FROM_CAROL, store=store)
        assert not store._entries

    @pytest.mark.parametrize(
        "message",
        [
            outgoing(BOB, CAROL, header="Auto-Submitted: No\r\n"),
            outgoing(BOB, CAROL, header="Content-Type: multipart/mixed; boundary=x\r\n"),
            outgoing(BOB, CAROL, *(f"<{number}@a.example>" for number in range(LEARNT - 1))),
            outgoing(BOB, "<root>", "<>", CAROL),
        ],
    )
    def test_what_does(self, message: Message) -> None:
        assert knows(message, (BOB,), FROM_CAROL)

    @pytest.mark.parametrize("same", [BOB, "<Bob+notes@OURS.example>"])
    def test_a_note_to_oneself_makes_no_correspondent(self, same: str) -> None:
        assert not knows(outgoing(BOB, same), (BOB,), "bob@ours.example")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class TestStore:
    def test_a_pair_expires_a_while_after_the_last_mail(self) -> None:
        clock = Clock()

        async def work() -> None:
            known = Correspondents(MemoryStore(clock=clock), [NEW])
            for _ in range(2):
                await known.learn(outgoing(BOB, CAROL))
                clock.now += EXPIRES - 1
                assert await known.has_written([BOB], FROM_CAROL)
            clock.now += 2
            assert not await known.has_written([BOB], FROM_CAROL)

        run(work())

    def test_another_key_knows_nothing_and_a_rotated_one_all(self) -> None:
        async def work() -> None:
            store = MemoryStore()
            await Correspondents(store, [OLD]).learn(outgoing(BOB, CAROL))
            assert not await Correspondents(store, [NEW]).has_written([BOB], FROM_CAROL)
            rotated = Correspondents(store, [NEW, OLD])
            assert await rotated.has_written([BOB], FROM_CAROL)
            await rotated.learn(outgoing(BOB, DORA))
            new = Correspondents(store, [NEW])
            assert await new.has_written([BOB], "dora@theirs.example")
            assert not await new.has_written([BOB], FROM_CAROL)

        run(work())

    def test_the_verdict_key_itself_hashes_nothing(self) -> None:
        """What is signed for verdicts and what is hashed here can never be taken for each other."""
        store = MemoryStore()
        run(Correspondents(store, [NEW]).learn(outgoing(BOB, CAROL)))
        ((kind, key),) = store._entries
        assert kind == KIND
        assert len(bytes.fromhex(key)) == 32
        pair = b"bob@ours.example\0carol@theirs.example"
        assert key != hmac.new(NEW.secret, pair, hashlib.sha256).hexdigest()

    def test_it_outlives_the_daemon_and_its_file_shows_no_address(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"

        async def learn() -> None:
            store = SqliteStore(path)
            await Correspondents(store, [NEW]).learn(outgoing(BOB, CAROL, DORA))
            await store.close()

        async def ask() -> None:
            store = SqliteStore(path)
            known = Correspondents(store, [NEW])
            # On a busy machine a read of the file may come too late.
            while not await known.has_written([BOB], FROM_CAROL):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await store.close()

        run(learn())
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir()).lower()
        assert KIND.encode() in content
        for part in (b"bob", b"carol", b"dora", b"ours", b"theirs"):
            assert part not in content
        run(ask())

    def test_a_store_that_cannot_work_costs_the_fact_alone(self, tmp_path: Path) -> None:
        async def work() -> None:
            path = tmp_path / "absent" / "store.db"
            store = SqliteStore(path)
            await Correspondents(store, [NEW]).learn(outgoing(BOB, CAROL))
            await store.close()
            other = SqliteStore(path)
            assert not await Correspondents(other, [NEW]).has_written([BOB], FROM_CAROL)
            await other.close()

        run(work())
