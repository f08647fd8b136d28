"""A milter client that speaks to a filter as Postfix does, for tests and benchmarks.

    async with MilterClient.connect("inet:11390@127.0.0.1") as client:
        answer = await client.send(Mail.parse(raw), Envelope(macros={"i": "4XyZ1F2z3aB"}))
        after = client.applied(mail, answer)

One object is one connection of an SMTP client; it carries as many messages as you send. The order
of steps, what is left out and what is waited for follow Postfix's src/milter/milter8.c (3.x).
Nothing of the daemon's own code may be imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from bench import milterwire as wire
from bench.milterwire import Edit, Mail, ProtocolError

__all__ = ["Answer", "Closed", "Edit", "Envelope", "Mail", "MilterClient", "Offer", "Peer"]

_SERVER = {"j": "mx.example.org", "{daemon_name}": "mx.example.org", "v": "Postfix 3.7.11"}


class Closed(Exception):  # noqa: N818 - an event that tests wait for, not only an error
    """The filter closed the connection. `edits` are those that came before: an MTA whose default
    action is accept keeps them."""

    def __init__(self, edits: tuple[Edit, ...] = ()) -> None:
        super().__init__(f"the filter closed the connection ({len(edits)} edits came before)")
        self.edits = edits


@dataclass(frozen=True)
class Offer:
    """What the MTA says it can do. Postfix offers everything."""

    version: int = wire.VERSION
    actions: int = wire.ALL_ACTIONS
    steps: int = wire.ALL_STEPS

    @classmethod
    def without(cls, *actions: int) -> Offer:
        return cls(actions=wire.ALL_ACTIONS & ~sum(actions))


@dataclass(frozen=True)
class Peer:
    """The SMTP client. An address with a colon is IPv6, one with a slash a unix path, an empty
    one is unknown. An unknown host name is the address in brackets, as Postfix sends it."""

    address: str = "192.0.2.25"
    host: str = "mail.example.net"
    port: int = 40000
    helo: str = "mail.example.net"
    macros: Mapping[str, str] = field(default_factory=lambda: dict(_SERVER))


@dataclass(frozen=True)
class Envelope:
    """Sender and recipients without brackets, with ESMTP arguments, and the macros' values by
    name ("i", "{auth_authen}", ...); those that follow from the addresses need not be given."""

    sender: str = "sender@example.net"
    recipients: tuple[str, ...] = ("user@example.org",)
    arguments: tuple[str, ...] = ()
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the filter made of one message. `step` is where the final answer came; `seconds` run
    from MAIL to it, `waited` from the end of message."""

    final: str
    edits: tuple[Edit, ...] = ()
    progress: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    step: bytes = wire.EOM
    text: str = ""
    refused: tuple[str, ...] = ()


class MilterClient:
    """One connection. Use connect(), then send(); or the steps one by one; or command() and
    reply() for what a well-behaved MTA would not do."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        self.version = self.actions = self.steps = 0
        self.macro_lists = dict(wire.MACROS)
        self._reader, self._writer, self._patience = reader, writer, patience
        self._buffer = bytearray()
        self._skip = b""
        self._over = ""  # the answer at CONNECT or HELO that settled the whole connection
        self._greeted = False
        self._known: Mapping[str, str] = {}  # macros of the connection, sent where asked for
        self._edits: list[Edit] = []
        self._progress = 0
        self._text = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, address: str, offer: Offer | None = None, *, patience: float = 30.0
    ) -> AsyncIterator[MilterClient]:
        """An open connection whose options are negotiated; says goodbye at the end."""
        client = await cls.open(address, patience=patience)
        try:
            await client.negotiate(offer or Offer())
            yield client
            with contextlib.suppress(OSError, Closed):
                await client.quit()
        finally:
            client.close()

    @classmethod
    async def open(cls, address: str, *, patience: float = 30.0) -> MilterClient:
        """A connection on which nothing has been said yet."""
        kind, _, rest = address.partition(":")
        if kind in ("unix", "local"):
            return cls(*await asyncio.open_unix_connection(rest), patience)
        if kind not in ("inet", "inet6"):
            raise ValueError(f"inet:PORT@HOST or unix:/PATH expected, not {address!r}")
        port, _, host = rest.partition("@")
        return cls(*await asyncio.open_connection(host or "127.0.0.1", int(port)), patience)

    async def negotiate(self, offer: Offer) -> None:
        options = struct.pack("!III", offer.version, offer.actions, offer.steps)
        self.command(wire.OPTNEG, options)
        code, payload = await self.reply()
        if code != wire.OPTNEG or len(payload) < 12:
            raise ProtocolError(f"no option negotiation: {code!r} {payload!r}")
        self.version, self.actions, self.steps = struct.unpack("!III", payload[:12])
        # Both are fatal for Postfix as well (milter8_connect).
        if self.version > offer.version or self.actions & ~offer.actions:
            raise ProtocolError(f"more asked for than offered: {self.version} {self.actions:#x}")
        self.macro_lists |= wire.read_symbols(payload[12:])

    async def send(
        self, mail: Mail, envelope: Envelope | None = None, peer: Peer | None = None
    ) -> Answer:
        """One message from MAIL to its final answer, greeting first where that is still due."""
        began = time.perf_counter()
        envelope = envelope or Envelope()
        self._edits, self._progress, self._text = [], 0, ""
        if not self._greeted:
            await self.greet(peer or Peer())
        if self._over:
            return Answer(self._over, step=wire.CONNECT, text=self._text)
        final, step, refused, asked = await self._message(mail, envelope)
        now = time.perf_counter()
        self.abort()  # Postfix says so after every message, the finished ones too
        return Answer(
            final, tuple(self._edits), self._progress, now - began, now - asked, step,
            self._text, refused,
        )  # fmt: skip

    def applied(self, mail: Mail, answer: Answer) -> Mail:
        """The message as Postfix has it after the filter's edits."""
        leading = bool(self.steps & wire.P_LEADING_SPACE)
        return mail.edited(answer.edits, leading_space=leading)

    async def greet(self, peer: Peer) -> str:
        """CONNECT and HELO; anything but continue settles the connection (IN_CONNECT_EVENT)."""
        self._greeted = True
        self._known = peer.macros
        payload = wire.strings(peer.host or f"[{peer.address}]")
        if "/" in peer.address:
            payload += b"L" + struct.pack("!H", 0) + wire.strings(peer.address)
        elif peer.address:
            family = b"6" if ":" in peer.address else b"4"
            payload += family + struct.pack("!H", peer.port) + wire.strings(peer.address)
        else:
            payload += b"U"
        for step, data in ((wire.CONNECT, payload), (wire.HELO, wire.strings(peer.helo))):
            final = await self.event(step, data)
            if final != "continue":
                self._over = final
                break
        return self._over or "continue"

    async def _message(
        self, mail: Mail, envelope: Envelope
    ) -> tuple[str, bytes, tuple[str, ...], float]:
        """(final answer, where it came, refused recipients, when the last question was put)"""
        macros = {**_address_macros("mail", envelope.sender, "smtp"), **envelope.macros}
        no_queue_id = {**macros, "i": ""}  # Postfix has one once it took a recipient
        asked = time.perf_counter()
        arguments = wire.strings(f"<{envelope.sender}>", *envelope.arguments)
        final = await self.event(wire.MAIL, arguments, no_queue_id)
        if final != "continue":
            return final, wire.MAIL, (), asked
        refused: list[str] = []
        for number, rcpt in enumerate(envelope.recipients):
            mine = _address_macros("rcpt", rcpt, "virtual") | (
                macros if number > len(refused) else no_queue_id
            )
            final = await self.event(wire.RCPT, wire.strings(f"<{rcpt}>"), mine)
            if final in ("accept", "discard"):
                return final, wire.RCPT, tuple(refused), asked
            if final != "continue":  # settles this recipient, not the message
                refused.append(rcpt)
        if len(refused) == len(envelope.recipients):
            return final, wire.RCPT, tuple(refused), asked
        keeps_space = bool(self.steps & wire.P_LEADING_SPACE)
        content = [(wire.DATA, b"")]
        for name, value in mail.headers:
            # Sendmail, and so Postfix, eats one space (not a tab) after the colon.
            shown = value if keeps_space else value.removeprefix(" ")
            content.append((wire.HEADER, wire.strings(name, shown)))
        content.append((wire.EOH, b""))
        content += [(wire.BODY, chunk) for chunk in wire.chunks(mail.body)]
        content.append((wire.EOM, b""))
        step = wire.DATA
        for step, data in content:
            asked = time.perf_counter()
            final = await self.event(step, data, macros)
            if final != "continue":
                break
        return final, step, tuple(refused), asked

    async def event(
        self, step: bytes, payload: bytes, macros: Mapping[str, str] | None = None
    ) -> str:
        """One step: its macros, itself unless unwanted, and the answer unless none is due.

        Postfix sends the macros even of an unwanted step, save for headers, end of headers and
        body, which it never looks at then; and nothing once the filter said SKIP.
        """
        if self._skip == step:
            return "continue"
        self._skip = b""
        wanted = not self.steps & wire.P_NO.get(step, 0)
        if wanted or step not in (wire.HEADER, wire.EOH, wire.BODY):
            # Headers carry the macros of the end of headers, chunks those of end of message.
            listed = {wire.HEADER: wire.EOH, wire.BODY: wire.EOM}.get(step, step)
            names = self.macro_lists.get(listed, ())
            values = {**self._known, **(macros or {})}
            pairs = [part for n in names if values.get(n) for part in (n, values[n])]
            self.command(wire.MACRO, step + wire.strings(*pairs))
        if not wanted:
            return "continue"
        self.command(step, payload)
        if self.steps & wire.P_NR.get(step, 0):
            return "continue"
        return await self._final(step)

    async def _final(self, step: bytes) -> str:
        while True:
            code, payload = await self.reply()
            if code == wire.PROGRESS:
                self._progress += 1
            elif edit := wire.read_edit(code, payload):
                if step != wire.EOM and edit.kind != "quarantine":
                    raise ProtocolError(f"{edit.kind} after {step!r}")
                self._edits.append(edit)
            elif code == b"s":
                self._skip = step
                return "continue"
            elif code in wire.FINAL:
                self._text = wire.text(payload.rstrip(b"\0"))
                return wire.FINAL[code]
            else:
                raise ProtocolError(f"unknown reply {code!r} {payload!r}")

    def command(self, command: bytes, payload: bytes = b"") -> None:
        """Any packet, sent with the next read or flush: Postfix too writes macros, step and all
        unanswered steps in one go."""
        self._buffer += wire.packet(command, payload)

    async def flush(self, raw: bytes = b"") -> None:
        """Sends what is waiting, and any bytes you like after it."""
        data = bytes(self._buffer + raw)
        self._buffer.clear()
        try:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self._patience)
        except ConnectionError:
            raise Closed(tuple(self._edits)) from None

    async def reply(self) -> tuple[bytes, bytes]:
        """The next packet from the filter: its code and what follows it."""
        await self.flush()
        try:
            async with asyncio.timeout(self._patience):
                (size,) = struct.unpack("!I", await self._reader.readexactly(4))
                data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(tuple(self._edits)) from None
        return data[:1], data[1:]

    def abort(self) -> None:
        """The message is off; expects no answer."""
        self._skip = b""
        self.command(wire.ABORT)

    async def quit(self) -> None:
        if self._greeted:
            self.abort()  # once more at the end of the session, as Postfix does
        self.command(wire.QUIT)
        await self.flush()

    def close(self) -> None:
        """Hangs up without a word."""
        self._writer.close()


def _address_macros(which: str, address: str, mailer: str) -> dict[str, str]:
    host = address.rpartition("@")[2]
    values = {"addr": address, "host": host, "mailer": mailer}
    return {f"{{{which}_{name}}}": value for name, value in values.items()}
