"""The chain that a row of the fault suite runs in: a stub model, a daemon, a Postfix and the
Rspamd of all rows; sending mails that can be counted, and waiting until the last one has come.

What is broken, and what is right then, is faults_rows'; what counts is faults_tally's.
"""

from __future__ import annotations

import contextlib
import itertools
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from bench import faults_tally as tallies
from bench.faults_forgeries import Forgery
from bench.faults_tally import Sent, Tally
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.chain.postfix import DOMAIN, PrivatePostfix
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import KEY

DEADLINE = 3.0
CONNECT_TIMEOUT, COMMAND_TIMEOUT, CONTENT_TIMEOUT = 1, 2, 5
"""Seconds, short so that the suite is: a daemon sends a sign of life every 2 s."""

SLACK = 6.0
"""Seconds for Postfix, Rspamd and a busy machine beside what the row itself waits for."""

DRAIN_SECONDS = 120.0
"""In which Postfix delivers all that it has taken."""

PACE = 0.05
"""Seconds between two mails of a sender of a steady stream: without a daemon Postfix takes mail far
faster than with one, and those mails would be nearly all."""

HEAL_SECONDS = 30.0
"""In which a mail must be scored again after a fault; a breaker is probed after 5 s and 10 s."""

RSPAMD = {
    # A mail that is rejected is not delivered, and the suite counts deliveries.
    "local.d/actions.conf": "reject = null;\ngreylist = null;\n",
}
POSTFIX = {
    # What a mail of the corpus may have had on its way.
    "hopcount_limit": "10000",
}
_QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")


@dataclass
class Chain:
    """One row's programs, what was sent through them and what was seen besides."""

    name: str
    stub: StubModel
    daemon: PrivateDaemon
    postfix: PrivatePostfix
    rspamd: PrivateRspamd
    sent: list[Sent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    healed: list[float] = field(default_factory=list)
    """Seconds until a mail was scored again, after each fault."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # -- sending ---------------------------------------------------------------------------

    def send(
        self,
        *may: str,
        within: float = SLACK,
        forgery: Forgery | None = None,
        mail: bytes = b"",
        sender: str = "ann@sender.example",
    ) -> Sent:
        """Sends one mail, `mail` or one of our own, which may have these outcomes."""
        number = f"{self.name}-{next(self._numbers):05d}"
        content = mail or letter(number, sender)
        content = (forgery.lines if forgery else b"") + content
        began = time.monotonic()
        try:
            code, reply = self.postfix.send(content, sender, [f"{number}@{DOMAIN}"])
        except (OSError, smtplib.SMTPException) as error:
            code, reply = 0, repr(error)
        one = Sent(
            id=number,
            may=frozenset(may),
            within=within,
            seconds=time.monotonic() - began,
            code=code,
            reply=reply,
        )
        self.sent.append(one)
        return one

    def burst(
        self,
        n: int,
        *may: str,
        within: float = SLACK,
        forgeries: Sequence[Forgery] = (),
        forged: Sequence[str] = (),
    ) -> list[Sent]:
        """Sends n mails at the same time.  Each second one has a forgery, where there are any;
        `forged` may become of these, and what their forgery says, where that is not given."""

        def one(at: int) -> Sent:
            if not forgeries or at % 2 == 0:
                return self.send(*may, within=within)
            forgery = forgeries[at // 2 % len(forgeries)]
            return self.send(*(forged or forgery.may), within=within, forgery=forgery)

        with ThreadPoolExecutor(max_workers=n) as pool:
            return list(pool.map(one, range(n)))

    @contextlib.contextmanager
    def under_way(self, send: Callable[[], object], calls: int) -> Iterator[None]:
        """While `send` waits for the model, with so many calls of it under way."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            sending = pool.submit(send)
            if not eventually(lambda: self.stub.active >= calls):
                self.faults.append(f"{self.stub.active} model calls instead of {calls}")
            yield
            sending.result()

    @contextlib.contextmanager
    def load(self, senders: int, send: Callable[[int], object]) -> Iterator[None]:
        """Meanwhile so many senders send one mail after the other: `send` is told its number."""
        ended = False
        numbers = itertools.count()

        def one() -> None:
            while not ended:
                send(next(numbers))
                time.sleep(PACE)

        with ThreadPoolExecutor(max_workers=senders) as pool:
            sending = [pool.submit(one) for _ in range(senders)]
            try:
                yield
            finally:
                ended = True
            for each in sending:
                each.result()

    # -- what must hold --------------------------------------------------------------------

    def heals(self, *may: str) -> None:
        """Sends mails until one is scored; until then they may have these outcomes."""
        began = time.monotonic()
        while time.monotonic() - began < HEAL_SECONDS:
            self.send(tallies.SCORED, *may)
            if any(one.id == self.sent[-1].id and one.outcome == tallies.SCORED
                   for one in self.delivered()):  # fmt: skip
                self.healed.append(time.monotonic() - began)
                return
            time.sleep(0.5)
        self.faults.append(f"no mail is scored again in {HEAL_SECONDS:g} s")

    def check(self, holds: bool, what: str) -> None:
        """Notes a fault where something does not hold."""
        if not holds:
            self.faults.append(what)

    def check_idle(self) -> None:
        """No model call may go on once nobody waits for it."""
        if not eventually(lambda: self.stub.active == 0, 2.0):
            self.faults.append(f"{self.stub.active} model calls go on for nobody")

    # -- the end ---------------------------------------------------------------------------

    def delivered(self) -> list[tallies.Delivered]:
        """All mails delivered so far, once Postfix has none left."""
        queue = self.postfix.folder / "queue"
        if not eventually(lambda: not _files(queue), DRAIN_SECONDS):
            self.faults.append(f"{_files(queue)} mails stay in Postfix's queue")
        self.files += self.postfix.wait_delivered(1_000_000, timeout=0.0)
        return [tallies.read(mail) for mail in self.files]

    def tally(self) -> Tally:
        """What became of everything."""
        delivered = self.delivered()
        if self.daemon.process.poll() is not None:
            self.faults.append(f"the daemon has ended: {self.daemon.log()[-500:]}")
        panics = [
            line
            for line in self.daemon.log().splitlines()
            if "Traceback" in line or "internal error" in line or '"internal"' in line
        ]
        if self.healed:
            most = max(self.healed)
            self.notes.append(f"scored again {len(self.healed)} times, within {most:.1f} s")
        self.check(not panics, f"in the daemon's log: {panics[:3]}")
        return tallies.count(self.sent, delivered, faults=self.faults, notes=self.notes)


@contextlib.contextmanager
def running(
    name: str,
    rspamd: PrivateRspamd,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    second_milter: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Chain]:
    """A row's chain.  `second_milter` stands in the place of Rspamd's address."""
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(StubModel.running())
        told: dict[str, dict[str, Any]] = {
            "llm": {"base_url": stub.base_url, "model": "stub", "concurrency": 100},
            "milter": {"deadline": DEADLINE},
            "log": {"format": "json"},
        }
        for section, values in (settings or {}).items():
            told.setdefault(section, {}).update(values)
        daemon = stack.enter_context(
            PrivateDaemon(told, keys=(KEY.hex(),), environment=environment)
        )
        ours = (
            f"{{ {daemon.milter}, default_action=accept, connect_timeout={CONNECT_TIMEOUT}s, "
            f"command_timeout={COMMAND_TIMEOUT}s, content_timeout={CONTENT_TIMEOUT}s }}"
        )
        theirs = (
            f"{{ {second_milter or rspamd.milter}, default_action=accept, content_timeout=120s }}"
        )
        postfix = stack.enter_context(PrivatePostfix([ours, theirs], POSTFIX))
        yield Chain(name, stub, daemon, postfix, rspamd)


def letter(subject: str, sender: str) -> bytes:
    """A mail with something to judge."""
    domain = sender.partition("@")[2]
    return (
        f"From: Ann <{sender}>\r\nTo: Bob <bob@{DOMAIN}>\r\nSubject: minutes {subject}\r\n"
        f"Date: {formatdate()}\r\nMessage-ID: <{subject}@{domain}>\r\n\r\n"
        f"Hello Bob,\r\n\r\nhere are the minutes: https://www.{domain}/{subject}\r\n"
    ).encode()


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether something comes to hold in time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _files(queue: Path) -> int:
    return sum(path.is_file() for name in _QUEUES for path in (queue / name).rglob("*"))
