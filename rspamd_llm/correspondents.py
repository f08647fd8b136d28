"""Who has written to whom, from outgoing mail of authenticated users, as keyed hashes.

Lives in the core's asyncio loop.  What may not live here: what is made of it: that somebody was
written to is a fact for the model where mail proves its From address (gate.is_aligned), and never a
pass.  Nothing here raises; a store that fails costs the fact.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence

from rspamd_llm.domain import Key, Message
from rspamd_llm.evidence import headerfields
from rspamd_llm.lists import parted, without_suffix
from rspamd_llm.store import Store

KIND = "correspondent"
"""What the store calls the hashes."""

EXPIRES = 400 * 86_400.0
"""Seconds from the last mail to somebody until that is forgotten: a year and a month, for those who
are written to once a year, and not to the day."""

LEARNT = 50
"""Recipients of a mail from which is learned: whoever writes to more at once sends a circular, and
has not chosen each of them."""

ASKED = 10
"""Recipients of a mail for whom is looked: one to more is a circular, and few of them will all have
written to its sender."""

PURPOSE = b"rspamd-llm correspondents 1"
"""What the key of the hashes is derived for, with the version of what is hashed."""


class Correspondents:
    """Remembers pairs of addresses in a store: learned with the first key, known by all of them.

    An address stands for all its spellings: without case, brackets and a `+suffix`, its domain in
    ASCII.  Only who holds the verdict key can tell whether a pair is in the store, one at a time.
    """

    def __init__(self, store: Store, keys: Sequence[Key]) -> None:
        self._store = store
        self.use(keys)

    def use(self, keys: Sequence[Key]) -> None:
        """Learns and knows with these from now on."""
        self._keys = tuple(hmac.digest(key.secret, PURPOSE, hashlib.sha256) for key in keys)

    async def learn(self, message: Message) -> None:
        """Remembers that a message's envelope sender wrote to its recipients, for EXPIRES from now.

        Nothing is learned from mail that nobody logged in to send, that has no sender, more than
        LEARNT recipients, or says it was sent by a program: whoever is answered by an absent user's
        program was not written to by the user.
        """
        envelope = message.envelope
        count = max(envelope.recipient_count, len(envelope.recipients))
        writer = _address(envelope.sender)
        if not (envelope.authenticated and writer) or count > LEARNT or _is_automatic(message.data):
            return
        others = {_address(recipient) for recipient in envelope.recipients} - {writer, ""}
        key = self._keys[0]
        await asyncio.gather(
            *(self._store.put(KIND, _hash(key, writer, other), "1", EXPIRES) for other in others)
        )

    async def has_written(self, recipients: Sequence[str], from_address: str) -> bool:
        """Whether each of a message's recipients, ASKED at most, has written to its From address.

        Says nothing of who really sent the message: see gate.is_aligned.
        """
        if not 0 < len(recipients) <= ASKED:
            return False
        # What is no address is an empty text here, which was never learned.
        other = _address(from_address)
        writers = {_address(recipient) for recipient in recipients}
        return all(await asyncio.gather(*(self._knows(writer, other) for writer in writers)))

    async def _knows(self, writer: str, other: str) -> bool:
        for key in self._keys:
            if await self._store.get(KIND, _hash(key, writer, other)) is not None:
                return True
        return False


def _address(address: str) -> str:
    """The one spelling of an address; empty for what is none."""
    local, domain = parted(address)
    return f"{without_suffix(local)}@{domain}" if local else ""


def _hash(key: bytes, writer: str, other: str) -> str:
    """HMAC-SHA-256 of a pair in hex.  No address has a NUL, so no two pairs give the same text."""
    return hmac.new(key, f"{writer}\0{other}".encode(), hashlib.sha256).hexdigest()


def _is_automatic(data: bytes) -> bool:
    """Whether a header says that no person sent the mail: Auto-Submitted (RFC 3834 5), or a report
    such as that of a mail's having been read (RFC 8098 3)."""
    fields, _ = headerfields.split(headerfields.head(data))
    told = {name.lower(): value.strip().lower() for name, value in fields}
    submitted = told.get(b"auto-submitted", b"no").partition(b";")[0].strip()
    return submitted != b"no" or told.get(b"content-type", b"").startswith(b"multipart/report")
