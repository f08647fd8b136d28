"""The load of the soak: several MTAs at once, which keep connections and open new ones, and which
send, send as authenticated users, give up in the middle, hang up, and leave while the model is
asked.

What is sent is soakmails'.  Nothing of the daemon's own code is used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from bench import milterwire as wire
from bench.milterclient import Answer, Closed, MilterClient, Offer
from bench.soakmails import Letter, Mails

CLIENTS = 60
"""Connections at a time, of which half wait for the slow model server."""

KEPT = (1, 1, 1, 2, 5, 20)
"""Messages of a connection, each number as often as the others: most clients send one."""

PATIENCE = 90.0
"""Seconds for any answer: the daemon's own deadline is 60."""

LEAVES = (0.005, 0.03, 0.5, 2.1)
"""Seconds after its end of message at which an MTA leaves: while the mail is read, while the fast
model is asked and the slow, and after the daemon's first sign of life, which finds it gone."""


class Manner(StrEnum):
    """What an MTA does with a message."""

    JUDGED = "judged"
    AUTHENTICATED = "authenticated"
    GIVEN_UP = "given up"  # in the middle of its body, and the connection goes on
    HUNG_UP = "hung up"  # there, and it does not
    LEFT = "left"  # while its answer is due


SHARES = {Manner.AUTHENTICATED: 5, Manner.GIVEN_UP: 2, Manner.HUNG_UP: 2, Manner.LEFT: 2}
"""Of each hundred messages; the others are judged."""

RIGHT = {
    Manner.JUDGED: {"scored", "scored; injection", "skipped; no-text", "skipped; size"},
    Manner.AUTHENTICATED: {"no status"},
}
"""What may become of those that stay for their answer.  The mail of authenticated users gains no
headers."""


def manner(number: int) -> Manner:
    """What is done with the message of this number, evenly mixed."""
    at = number * 37 % 100
    for name, share in SHARES.items():
        if at < share:
            return name
        at -= share
    return Manner.JUDGED


class Load:
    """Sends messages by number and counts what becomes of them.

    `done` is how many have ended.  `outcomes` counts by manner and the daemon's status, which is
    empty for messages that had no answer, as it should be.
    """

    def __init__(self, address: str, mails: Mails) -> None:
        self.done = 0
        self.outcomes: Counter[tuple[Manner, str]] = Counter()
        self._address = address
        self._mails = mails

    @property
    def wrong(self) -> dict[str, int]:
        """Outcomes that should not be, and how many messages had them."""
        return {
            f"{name}: {status}": count
            for (name, status), count in self.outcomes.items()
            if status not in RIGHT.get(name, {status})
        }

    async def send(self, numbers: range) -> None:
        """Sends the messages of these numbers, over CLIENTS connections at a time."""
        coming = iter(numbers)
        await asyncio.gather(*(self._client(coming) for _ in range(CLIENTS)))

    async def _client(self, coming: Iterator[int]) -> None:
        for first in coming:
            kept = random.Random(first).choice(KEPT)
            await self._connection(itertools.chain([first], itertools.islice(coming, kept - 1)))

    async def _connection(self, numbers: Iterator[int]) -> None:
        """One connection, until its messages are sent or one of them ends it."""
        client: MilterClient | None = None
        number = -1
        try:
            for number in numbers:
                letter = self._mails.letter(number)
                if client is None:
                    client = await MilterClient.open(self._address, patience=PATIENCE)
                    await client.negotiate(Offer())
                    await client.greet(letter.peer)
                status = await self._message(client, number, letter)
                self._count(number, status)
                if status is None:
                    return
            if client is not None:
                with contextlib.suppress(Closed):
                    await client.quit()
        except (Closed, OSError) as error:
            self._count(number, f"the connection failed: {type(error).__name__}")
        finally:
            if client is not None:
                client.close()

    def _count(self, number: int, status: str | None) -> None:
        self.done += 1
        self.outcomes[manner(number), status or ""] += 1

    async def _message(self, client: MilterClient, number: int, letter: Letter) -> str | None:
        """The daemon's status; empty where there is none, None where the connection is over."""
        mail, envelope = letter.mail, letter.envelope
        match manner(number):
            case Manner.GIVEN_UP:
                await begin(client, letter)
                client.abort()
                await client.flush()
                return ""
            case Manner.HUNG_UP:
                await begin(client, letter)
                await client.flush()
                return None
            case Manner.LEFT:
                after = random.Random(number).choice(LEAVES)
                with contextlib.suppress(TimeoutError):
                    return status_of(await asyncio.wait_for(client.send(mail, envelope), after))
                return None
            case Manner.AUTHENTICATED:
                macros = {**envelope.macros, "{auth_authen}": "user"}
                envelope = dataclasses.replace(envelope, macros=macros)
        return status_of(await client.send(mail, envelope))


async def begin(client: MilterClient, letter: Letter) -> None:
    """A message up to the middle of its body."""
    macros = letter.envelope.macros
    await client.event(wire.MAIL, wire.strings(f"<{letter.envelope.sender}>"))
    for recipient in letter.envelope.recipients:
        await client.event(wire.RCPT, wire.strings(f"<{recipient}>"), macros)
    await client.event(wire.DATA, b"", macros)
    for name, value in letter.mail.headers:
        await client.event(wire.HEADER, wire.strings(name, value), macros)
    await client.event(wire.EOH, b"", macros)
    half = letter.mail.body[: len(letter.mail.body) // 2]
    for chunk in wire.chunks(half):
        await client.event(wire.BODY, chunk, macros)


def status_of(answer: Answer) -> str:
    """What the daemon says of a message: its X-GPT-Status, or the answer that is no `continue`."""
    if answer.final not in ("accept", "continue"):
        return f"answered {answer.final}"
    found = [edit.value.strip() for edit in answer.edits if edit.name == "X-GPT-Status"]
    return "; ".join(found) or "no status"
