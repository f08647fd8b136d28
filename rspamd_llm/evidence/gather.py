"""All sources side by side, to a deadline: Message + Mail + Facts -> Evidence.

Lives in the core's asyncio loop.  What may not live here: how a source is asked (one module each),
what may be asked (privacy.py), and words for the model (words.py).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from rspamd_llm import domains
from rspamd_llm.counters import Counters
from rspamd_llm.domain import (
    Authentication,
    Deadline,
    DomainRecords,
    Evidence,
    EvidenceError,
    Facts,
    Mail,
    Message,
    Page,
    Registration,
    ReverseName,
    Source,
)
from rspamd_llm.evidence.privacy import LOOKED_UP, Privacy, kind, knows_recipients

SHARE = 3
"""Evidence takes at most one part in so many of the time that is left: the model needs the rest."""

LATE = 1_000
"""Look-ups that may go on after their mail was judged, so that the next mail finds the answer."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_FROM = re.compile(rb"^from:((?:[^\r\n]|\r\n[ \t]){0,998})", re.IGNORECASE | re.MULTILINE)
# Whole names alone: what is cut at a sign that is not ASCII is the name of somebody else.
_AT = re.compile(rb"@([A-Za-z0-9._-]{1,253})(?![A-Za-z0-9._\x80-\xff-])")

_ASIDE = re.compile(rb'"(?:[^"\\]|\\.)*"|\([^()]*\)')  # quoted names and comments, RFC 5322 3.2

_log = logging.getLogger(__name__)


class Lookup(Protocol[T_co]):
    """One source's answers by registered domain."""

    async def get(self, domain: str, *, first: bool = True) -> T_co:
        """The answer; `first` for the sender's own domain.  Raises EvidenceError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Who is asked; None for sources that are switched off."""

    authenticate: Callable[[Message, str], Awaitable[Authentication | None]] | None = None
    """By message and the exact domain of its From address."""
    prefetch: Callable[[Message, str], Awaitable[None]] | None = None
    reverse: Callable[[str], Awaitable[ReverseName | None]] | None = None
    records: Lookup[DomainRecords] | None = None
    registration: Lookup[Registration | None] | None = None
    web: Lookup[tuple[Page, ...]] | None = None
    is_web_scarce: Callable[[], bool] | None = None
    web_name: Callable[[str, str], Awaitable[tuple[Page, ...]]] | None = None
    """By display name and domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _House:
    """What all inquiries share."""

    sources: Sources
    privacy: Privacy
    counters: Counters
    max_searches: int
    late: set[asyncio.Task[Any]] = field(default_factory=set)
    """Look-ups that go on after their mail was judged."""

    def dns_work(self, message: Message, sender: str) -> dict[str, Awaitable[Any]]:
        """What DNS is asked of a sender's registered domain and of the client."""
        work: dict[str, Awaitable[Any]] = {}
        known = not sender or kind(sender) or not domains.has_suffix(sender)
        if self.sources.records is not None and not known:
            work[_RECORDS] = self.sources.records.get(sender)
        envelope = message.envelope
        # Postfix names a client by its confirmed name, and else by its address in brackets.
        named = domains.registered_domain(envelope.client_name)
        if self.sources.reverse is not None and envelope.client_address and not named:
            work[_REVERSE] = self.sources.reverse(envelope.client_address)
        return work

    def leave(self, source: Source, task: asyncio.Task[Any]) -> None:
        """Lets a look-up go on for the mails to come; one for this mail alone is ended."""
        if source is Source.AUTHENTICATION or len(self.late) >= LATE:
            task.cancel()
            return
        self.late.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.late.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: a late failure has been counted where it happened


class Gatherer:
    """Asks all sources about one mail at a time, for many mails at a time."""

    def __init__(
        self,
        *,
        sources: Sources,
        privacy: Privacy,
        counters: Counters,
        timeout: float,
        max_searches: int,
    ) -> None:
        self._house = _House(
            sources=sources, privacy=privacy, counters=counters, max_searches=max_searches
        )
        self._timeout = timeout

    async def begin(self, head: Message) -> None:
        """Asks DNS early, with no more than the header there.  Ends by being cancelled, or itself.

        What it asked is then remembered or under way when an inquiry asks for the same.
        """
        sender = _head_domain(head.data)
        sources = self._house.sources
        early = [
            *([sources.prefetch(head, sender)] if sources.prefetch else []),
            *self._house.dns_work(head, domains.registered_domain(sender)).values(),
        ]
        await asyncio.gather(*early, return_exceptions=True)

    def inquire(self, message: Message, mail: Mail, facts: Facts, deadline: Deadline) -> Inquiry:
        """Begins to ask about a mail: at first how it authenticates."""
        seconds = min(self._timeout, deadline.left() / SHARE)
        return Inquiry(self._house, message, mail, facts, Deadline.after(seconds))

    async def stop(self) -> None:
        """Ends the look-ups that still go on."""
        late = [*self._house.late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class Inquiry:
    """The look-ups for one mail, until `until`.  Ended with `drop`, whatever came of it."""

    def __init__(
        self, house: _House, message: Message, mail: Mail, facts: Facts, until: Deadline
    ) -> None:
        self._house = house
        self._message = message
        self._mail = mail
        self._facts = facts
        self._until = until
        self._tasks: dict[tuple[Source, str], asyncio.Task[Any]] = {}
        self._is_full = False
        if house.sources.authenticate is not None:
            exact = _exact(mail.from_address)
            self._add(Source.AUTHENTICATION, "", house.sources.authenticate(message, exact))

    def go_on(self) -> None:
        """Begins all other look-ups."""
        if self._is_full:
            return
        self._is_full = True
        for key, work in self._house.dns_work(self._message, self._facts.sender_domain).items():
            self._add(Source.DNS, key, work)
        sources, sender = self._house.sources, self._facts.sender_domain
        several = self._house.privacy.askable(self._message.envelope, self._mail, self._facts)
        if sources.registration is not None:
            for domain in several[:LOOKED_UP]:
                self._add(Source.REGISTRATION, domain, sources.registration.get(domain))
        if sources.web is not None:
            for domain in several[: self._house.max_searches]:
                self._add(Source.WEB, domain, self._searched(domain, first=domain == sender))
            if sources.web_name is not None and sender in several and self._mail.from_name:
                self._add(Source.WEB, _NAMED, sources.web_name(self._mail.from_name, sender))

    async def authentication(self, seconds: float) -> Authentication | None:
        """How the mail authenticates; None where that is not known in time, or in so many seconds.

        Raises nothing but CancelledError.
        """
        task = self._tasks.get((Source.AUTHENTICATION, ""))
        if task is None:
            return None
        await asyncio.wait([task], timeout=min(seconds, self._until.left()))
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        found: Authentication | None = task.result()
        return found

    async def evidence(self) -> Evidence:
        """All that was found out in time.  Raises nothing but CancelledError."""
        self.go_on()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._until.left())
        found: dict[tuple[Source, str], Any] = {}
        missing: dict[Source, None] = {}
        if not knows_recipients(self._message.envelope):
            others = (
                (Source.REGISTRATION, self._house.sources.registration),
                (Source.WEB, self._house.sources.web),
            )
            missing = {source: None for source, asked_of in others if asked_of is not None}
        for (source, key), task in self._tasks.items():
            if not task.done():
                self._house.leave(source, task)
                missing[source] = None
                self._house.counters.add("evidence", source=source.value, outcome="late")
            elif task.cancelled() or (error := task.exception()) is not None:
                missing[source] = None
                cause = "cancelled" if task.cancelled() else error
                if not isinstance(cause, EvidenceError | str):
                    _log.error("%s failed with %s", source.value, type(cause).__name__)
                _log.debug("%s of %s: %s", source.value, key, cause)
            elif task.result() is not None:
                found[source, key] = task.result()
        self._tasks.clear()
        return _evidence(found, missing)

    def drop(self) -> None:
        """Ends what was begun and is not waited for any more."""
        for task in self._tasks.values():
            task.cancel()
            task.add_done_callback(_looked_at)
        self._tasks.clear()

    def _add(self, source: Source, key: str, work: Awaitable[Any]) -> None:
        self._tasks[source, key] = asyncio.create_task(_as(work))

    async def _searched(self, domain: str, *, first: bool) -> tuple[Page, ...] | None:
        """The search for a domain.  While searches are scarce not for a sender's that does not
        exist: invented ones could use up the day's."""
        sources = self._house.sources
        assert sources.web is not None  # noqa: S101  or it would not be asked for
        records = self._tasks.get((Source.DNS, _RECORDS))
        is_scarce = sources.is_web_scarce
        if first and records is not None and is_scarce is not None and is_scarce():
            await asyncio.wait([records])
            if not records.cancelled() and records.exception() is None:
                found: DomainRecords = records.result()
                if not found.exists:
                    return None
        return await sources.web.get(domain, first=first)


def _evidence(found: Mapping[tuple[Source, str], Any], missing: Iterable[Source]) -> Evidence:
    def by_domain(source: Source) -> dict[str, Any]:
        told = found.items()
        return {key: value for (of, key), value in told if of is source and key != _NAMED}

    return Evidence(
        authentication=found.get((Source.AUTHENTICATION, "")),
        records=found.get((Source.DNS, _RECORDS)),
        reverse=found.get((Source.DNS, _REVERSE)),
        registrations=by_domain(Source.REGISTRATION),
        web=by_domain(Source.WEB),
        named=found.get((Source.WEB, _NAMED), ()),
        day=datetime.now(UTC).date(),
        missing=tuple(missing),
    )


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # or asyncio complains that nobody did


_RECORDS, _REVERSE, _NAMED = "records", "reverse", "named"


async def _as(work: Awaitable[T]) -> T:
    return await work


def _exact(address: str) -> str:
    """The domain of an address in lower-case ASCII, empty where it has none."""
    host = address.rpartition("@")[2].strip().strip(".").lower() if "@" in address else ""
    return domains.ascii_host(host)


def _head_domain(data: bytes) -> str:
    """The domain of the first From line, by a look at its bytes: good enough to begin with."""
    line = _FROM.search(data)
    first = _AT.search(_ASIDE.sub(b"", line.group(1))) if line else None
    return first.group(1).decode("ascii").lower() if first else ""
