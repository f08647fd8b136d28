"""The milter: events of a message in, header edits out.

The only importer of Milter beside libmilter.py.  A callback converts its arguments, keeps them and
returns; the judgement is the core's.  What may not live here: anything about the content of mail.

Callbacks of one session run on different threads (libmilter's worker pool), one at a time: state
belongs to the session object, nothing is thread-local.  A connection carries many messages.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import Milter

from rspamd_llm import headers
from rspamd_llm.charsets import utf8
from rspamd_llm.domain import (
    Deadline,
    Envelope,
    Failure,
    Key,
    Message,
    Scan,
    Unscored,
)
from rspamd_llm.libmilter import Listener, macro

PROGRESS_INTERVAL = 2.0
"""Seconds between signs of life to the MTA; each restarts its content_timeout."""

GRACE = 1.0
"""Seconds that a scan may be late: it keeps its own deadline, so this only bounds our mistakes."""

RECIPIENTS_KEPT = 1_000
"""Recipients kept of one message, for rules about them; all are counted.  Postfix's default for
smtpd_recipient_limit."""

HEADER_BYTES_KEPT = 256_000
"""Bytes kept of a header.  Postfix's header_size_limit is 102,400 for one header line."""

# Junk in front of these must not keep them from the reader.
_NEEDED = frozenset(("from", "reply-to", "to", "cc", "subject", "date", "mime-version")) | {
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
}
NEEDED_KEPT = 20
LINE_KEPT = 8_000
"""How many of these are kept beyond HEADER_BYTES_KEPT, and how many bytes of each."""

BYTES_HELD = 200_000_000
"""Bytes held of all bodies together: 200 messages of 1 MB, where Postfix takes 100 at once by
default.  Reading makes copies of a few at a time."""

FORGED_LIMIT = 10_000
"""Arriving headers of ours that are deleted.  Postfix walks its queue file for each deletion: this
many cost it 4 s, ten times as many 6 minutes.  No honest mail has more than a handful."""

_log = logging.getLogger(__name__)

_SIZE = re.compile(r"SIZE=(\d{1,15})", re.IGNORECASE)  # RFC 1870

Scanning = Callable[[Message, Deadline], "concurrent.futures.Future[Scan]"]
Beginning = Callable[[Message], "concurrent.futures.Future[None]"]


class Traffic:
    """Counts the messages between MAIL FROM and their end, for a stop that waits for them, and the
    bytes that are held of them."""

    def __init__(self) -> None:
        self._count = 0
        self._bytes = 0
        self._changed = threading.Condition()

    def hold(self, size: int) -> bool:
        """Whether there is room for so many bytes more; counts them if so."""
        with self._changed:
            if self._bytes + size > BYTES_HELD:
                return False
            self._bytes += size
            return True

    def release(self, size: int) -> None:
        """So many bytes are held no more."""
        with self._changed:
            self._bytes -= size

    def enter(self) -> None:
        """A message begins."""
        with self._changed:
            self._count += 1

    def leave(self) -> None:
        """A message has ended, however it did."""
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_empty(self, timeout: float) -> bool:
        """Waits until no message is under way; False when the time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all sessions share."""

    scan: Scanning
    begin: Beginning | None
    """Told of a message when its header has ended; its work is cancelled when the message ends."""
    report: Callable[[Message, Scan], None]
    key: Callable[[], Key]
    deadline: float
    max_body: int
    """Bytes of a body that are read."""
    max_size: int
    """Bytes from which on a message is not judged, so that it need not be counted further."""
    tempfail: bool
    listener: Listener
    traffic: Traffic


@dataclass(slots=True)
class _Gathered:
    """What has come of the message under way."""

    sender: str
    queue_id: str
    authenticated: bool
    recipients: list[str] = field(default_factory=list)
    recipient_count: int = 0
    names: list[str] = field(default_factory=list)
    header: list[bytes] = field(default_factory=list)
    needed: list[bytes] = field(default_factory=list)
    """What the mail cannot be read without, of the headers beyond HEADER_BYTES_KEPT."""
    header_size: int = 0
    body: list[bytes] = field(default_factory=list)
    body_kept: int = 0
    body_size: int = 0
    is_dropped: bool = False
    declared: int = 0
    """Size in bytes as the client announced it: a hint before the end, and no more than that."""
    early: concurrent.futures.Future[None] | None = None


class _MtaGoneError(Exception):
    """The MTA closed the connection while a message was being judged."""


class Session(Milter.Base):
    """One connection of the MTA's."""

    _told_no_edits = False

    def __init__(self, service: Service) -> None:
        self._service = service
        self._may_edit = True
        self._keeps_space = False
        self._client_name = ""
        self._client_address = ""
        self._helo = ""
        self._message: _Gathered | None = None

    def negotiate(self, opts: list[int]) -> int:
        """Asks for what we need: to add and change headers, and the steps we have callbacks for."""
        offered, steps = opts[0], opts[1]
        wanted = Milter.ADDHDRS | Milter.CHGHDRS
        self._may_edit = offered & wanted == wanted
        self._actions = offered & (wanted | Milter.SETSYMLIST)
        if self._actions & Milter.SETSYMLIST:
            # pymilter 1.0.5's own setsymlist passes bytes where its C code wants text.
            # `j` has a value always: where a packet has no macro at all, libmilter keeps those of
            # the message before, and with them its authentication.
            self._ctx.setsymlist(Milter.M_ENVFROM, "j i {auth_authen} {auth_type}")
            self._ctx.setsymlist(Milter.M_EOM, "i")
        # DKIM signs the blank behind a header's colon; without this flag one blank is eaten.
        self._keeps_space = bool(steps & Milter.P_HDR_LEADSPC)
        self._protocol = steps & ~self.protocol_mask() | steps & Milter.P_HDR_LEADSPC
        opts[:] = [self._actions, self._protocol, 0, 0]
        if not self._may_edit and not Session._told_no_edits:
            Session._told_no_edits = True
            _log.warning(
                "the MTA does not let us change headers: mail passes untouched and unjudged; "
                "allow it in the MTA's milter settings"
            )
        return int(Milter.CONTINUE)

    # pymilter decodes host names and header names as strict UTF-8 before our code runs, and answers
    # CONTINUE where that fails.  libmilter keeps that answer back where none was negotiated.

    @Milter.noreply
    def connect(self, hostname: str, _family: int, hostaddr: Any) -> int:
        """Keeps the client's name and address; a unix client has none."""
        self._client_name = utf8(hostname)
        self._client_address = str(hostaddr[0]) if isinstance(hostaddr, tuple) else ""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def hello(self, hostname: str) -> int:
        """Keeps the HELO name."""
        self._helo = utf8(hostname)
        return int(Milter.CONTINUE)

    @Milter.noreply
    def envfrom(self, sender: str, *params: str) -> int:
        """A message begins; whatever was before it on this connection is gone."""
        self._forget()
        self._service.traffic.enter()
        self._message = _Gathered(
            sender=utf8(sender),
            queue_id=macro(self, "i"),
            authenticated=bool(macro(self, "{auth_authen}") or macro(self, "{auth_type}")),
            declared=max((int(m[1]) for p in params if (m := _SIZE.fullmatch(p))), default=0),
        )
        return int(Milter.CONTINUE)

    @Milter.noreply
    def envrcpt(self, recipient: str, *_params: str) -> int:
        """Keeps the first recipients and counts all."""
        if self._message is not None:
            self._message.recipient_count += 1
            if len(self._message.recipients) < RECIPIENTS_KEPT:
                self._message.recipients.append(utf8(recipient))
        return int(Milter.CONTINUE)

    @Milter.noreply
    @Milter.decode("bytes")
    def header(self, name: str, value: bytes) -> int:
        """Keeps the header's bytes; of those of ours only the name, which is to be deleted."""
        message = self._message
        if message is None:
            return int(Milter.CONTINUE)
        if headers.is_ours(name):
            if len(message.names) <= FORGED_LIMIT:
                message.names.append(name)
            return int(Milter.CONTINUE)
        line = b"%s:%s%s\r\n" % (
            name.encode(),
            b"" if self._keeps_space else b" ",
            value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        )
        message.header_size += len(line)
        if message.header_size <= HEADER_BYTES_KEPT:
            message.header.append(line)
        elif name.lower() in _NEEDED and len(message.needed) < NEEDED_KEPT:
            message.needed.append(line if len(line) <= LINE_KEPT else line[:LINE_KEPT] + b"\r\n")
        return int(Milter.CONTINUE)

    @Milter.noreply
    def eoh(self) -> int:
        """The header has ended: what can be looked up of it is, while the body arrives."""
        message = self._message
        if message is not None and self._may_edit and self._service.begin is not None:
            head = self._assembled(message)
            size = max(head.size, message.declared)
            message.early = self._service.begin(dataclasses.replace(head, size=size))
        return int(Milter.CONTINUE)

    def body(self, chunk: bytes) -> int:
        """Keeps the body up to `max_body`, counts it up to `max_size`, and skips the rest."""
        message = self._message
        if message is None:
            return int(Milter.CONTINUE)
        message.body_size += len(chunk)
        if message.body_size > self._service.max_size:
            # It is not going to be judged: nothing of it needs to be held, or sent to us.
            self._let_go(message)
            return int(Milter.SKIP if self._protocol & Milter.P_SKIP else Milter.CONTINUE)
        part = chunk[: self._service.max_body - message.body_kept]
        if part and not message.is_dropped:
            if self._service.traffic.hold(len(part)):
                message.body.append(part)
                message.body_kept += len(part)
            else:
                self._let_go(message)
                message.is_dropped = True
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        """The message's end: waits for the judgement, applies the edits, and answers."""
        gathered = self._message
        if gathered is None or not self._may_edit:
            self._forget()
            return int(Milter.CONTINUE)
        try:
            return self._finish(gathered)
        except (_MtaGoneError, Milter.error):  # the edits were negotiated: the connection fails
            _log.info("the MTA left before queue_id=%s was judged", gathered.queue_id or "-")
            return int(Milter.TEMPFAIL)
        except Exception as error:  # noqa: BLE001  mail flows whatever our own mistakes
            _log.error("internal error at end of message: %s", type(error).__name__)
            _log.debug("end of message", exc_info=True)
            return int(Milter.TEMPFAIL if self._service.tempfail else Milter.CONTINUE)
        finally:
            self._forget()

    def abort(self) -> int:
        """The message is given up.  Postfix may say so more than once."""
        self._forget()
        return int(Milter.CONTINUE)

    def close(self) -> int:
        """The connection ends."""
        self._forget()
        return int(Milter.CONTINUE)

    def _forget(self) -> None:
        if self._message is not None:
            if self._message.early is not None:
                self._message.early.cancel()
            self._let_go(self._message)
            self._message = None
            self._service.traffic.leave()

    def _let_go(self, message: _Gathered) -> None:
        """Holds no more of a message's body."""
        self._service.traffic.release(message.body_kept)
        message.body.clear()
        message.body_kept = 0

    def _finish(self, gathered: _Gathered) -> int:
        if len(gathered.names) > FORGED_LIMIT:
            _log.warning("refused queue_id=%s: too many X-GPT headers", macro(self, "i") or "-")
            self.setreply("554", "5.7.1", "Too many X-GPT headers")
            return int(Milter.REJECT)
        message = self._assembled(gathered)
        gathered.body.clear()  # held once; its bytes still count until the message ends
        scan = self._await(message)
        self._service.report(message, scan)
        if self._service.tempfail and isinstance(scan.outcome, Unscored):
            self.setreply("451", "4.7.1", "Message could not be checked, try again later")
            return int(Milter.TEMPFAIL)
        edits = headers.edits(
            gathered.names,
            scan.outcome,
            queue_id=message.envelope.queue_id,
            now=int(time.time()),
            key=self._service.key(),
        )
        for name, index in edits.delete:
            self.chgheader(name, index, "")
        for name, value in edits.add:
            self.addheader(name, f" {value}" if self._keeps_space else value)
        return int(Milter.CONTINUE)

    def _assembled(self, gathered: _Gathered) -> Message:
        return Message(
            envelope=Envelope(
                # Postfix has it from DATA on; at MAIL only where the queue file is made early.
                queue_id=macro(self, "i") or gathered.queue_id,
                client_address=self._client_address,
                client_name=self._client_name,
                helo=self._helo,
                sender=gathered.sender,
                recipients=tuple(gathered.recipients),
                recipient_count=gathered.recipient_count,
                authenticated=gathered.authenticated,
            ),
            data=b"".join((*gathered.header, *gathered.needed, b"\r\n", *gathered.body)),
            is_dropped=gathered.is_dropped,
            forged=len(gathered.names),
            size=gathered.header_size + len(b"\r\n") + gathered.body_size,
        )

    def _await(self, message: Message) -> Scan:
        """The scan's end, with signs of life to the MTA meanwhile."""
        deadline = Deadline.after(self._service.deadline)
        late = Deadline(deadline.at + GRACE)
        with self._service.listener.long_callback():
            future = self._service.scan(message, deadline)
            while not concurrent.futures.wait(
                (future,), timeout=min(PROGRESS_INTERVAL, late.left())
            ).done:
                if late.left() <= 0:
                    future.cancel()
                    return Scan(outcome=Unscored(Failure.TIMEOUT, "the scan kept no deadline"))
                self._progress_or_cancel(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            return Scan(outcome=Unscored(Failure.INTERNAL, "the scan was cancelled"))

    def _progress_or_cancel(self, future: concurrent.futures.Future[Scan]) -> None:
        try:
            self.progress()
        except Exception as error:
            # The MTA is gone: nobody waits for the answer, and the model shall not work on it.
            future.cancel()
            raise _MtaGoneError from error
