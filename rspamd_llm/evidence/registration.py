"""What a registry says of a domain: Registration, by RDAP (RFC 9082, RFC 9083).

What may not live here: which server is asked (registries.py), how (fetch.py), and the remembering
of answers.
"""

from __future__ import annotations

import asyncio
import math
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

from rspamd_llm.domain import EvidenceError, Registration
from rspamd_llm.domains import icann_domain, registered_domain
from rspamd_llm.evidence.fetch import Fetcher, Reply
from rspamd_llm.evidence.pace import RefusedError
from rspamd_llm.evidence.registries import Registries, Servers, origin
from rspamd_llm.store import Store

ANSWER_BYTES = 200_000
"""Of a registry's answer, which has 2 to 30 kB."""

REDIRECTS = 2
"""From a registry to the one that it has moved to, and once more."""

RATE = 2.0
"""Questions a second to one server; registries tell no limits and block who asks too much."""

BURST = 10
"""Questions to one server at once: those of three mails."""

REST = 60.0
"""Seconds for which a server is left alone that refuses us and does not say for how long."""

REGISTRAR_LIMIT = 40
"""Characters of a registrar's name; the prompt has 60 tokens for all there is on a domain."""

FIRST = date(1985, 1, 1)
"""The year in which the first .com was registered."""

FAILURES = 5
"""Questions in a row without an answer, after which a server is left alone for REST seconds; each
registry for itself, as the sender of a mail chooses which are asked."""

_ENTRIES = 100  # events, entities and vCard fields that are looked through; answers have some ten


def is_registrable(domain: str) -> bool:
    """Whether a domain has a registration of its own, so that a registry may be asked for it.

    A customer of a shared host, as in `someone.github.io`, has none.
    """
    return bool(domain) and domain == registered_domain(domain) == icann_domain(domain)


class Rdap:
    """Asks registries.  Lives in one asyncio loop.

    `seconds` bounds one look-up with all that it needs.  `bootstrap_file` is the operator's own
    list of servers, in IANA's form (RFC 9224): https, but wherever they are.  Raises ConfigError
    for a file that is no such list.
    """

    def __init__(
        self, *, fetcher: Fetcher, store: Store, bootstrap_file: str = "", seconds: float
    ) -> None:
        self._fetcher = fetcher
        self._registries = Registries(fetcher=fetcher, store=store, file=bootstrap_file)
        self._seconds = seconds
        self._manners: dict[str, _Manners] = {}

    async def look_up(self, domain: str) -> Registration | None:
        """What the registry says of a registered domain, in ASCII; None where none can say.

        That is so for a domain that is not `is_registrable`, under a suffix without an RDAP
        server, and not found under a suffix such as ac.uk, which others than the registry of .uk
        may keep.  Raises EvidenceError.
        """
        if not is_registrable(domain):
            return None
        try:
            async with asyncio.timeout(self._seconds):
                servers = await self._registries.servers(self._seconds / 2)
                base = servers.of(domain)
                return await self._ask(f"{base}domain/{domain}", domain, servers) if base else None
        except TimeoutError:
            raise EvidenceError("no registration data in time") from None

    async def _ask(self, url: str, domain: str, servers: Servers) -> Registration | None:
        for _ in range(1 + REDIRECTS):
            reply = await self._get(url, servers)
            if reply.status == 200:
                return _registration(reply.document, domain)
            if reply.status == 404:
                return Registration(found=False) if domain.count(".") == 1 else None
            if reply.status not in (301, 302, 303, 307, 308):
                raise EvidenceError(f"{origin(url)} answered with status {reply.status}")
            try:
                url = urljoin(url, reply.location)
            except ValueError:
                url = ""
            if not servers.lists(url):
                raise EvidenceError("a registry redirects to a server that is none")
        raise EvidenceError("registries redirect too often")

    async def _get(self, url: str, servers: Servers) -> Reply:
        server = origin(url)
        manners = self._manners.setdefault(server, _Manners())
        if not manners.may_ask():
            raise RefusedError(f"{server} is left alone for now")
        try:
            reply = await self._fetcher.json(
                url,
                public=servers.public,
                # Less than the whole has, so that it is this that ends, and tells on the server.
                seconds=0.9 * self._seconds,
                headers={"Accept": "application/rdap+json, application/json"},
                limit=ANSWER_BYTES,
            )
        except EvidenceError:
            manners.failed()
            raise
        if reply.status in (403, 429, 503):
            manners.rest(reply.retry_after or REST)
        manners.failures = 0
        return reply


@dataclass(slots=True)
class _Manners:
    """How much one server is asked: a bucket of BURST questions that fills at RATE."""

    left: float = BURST
    failures: int = 0
    at: float = -math.inf
    """When `left` was true, on the monotonic clock; in the future while the server rests."""

    def may_ask(self) -> bool:
        """Whether a question may be asked now; then it counts as asked."""
        now = time.monotonic()
        if now < self.at:
            return False
        left = min(BURST, self.left + (now - self.at) * RATE)
        may = left >= 1.0
        self.left, self.at = left - may, now
        return may

    def failed(self) -> None:
        """The server did not answer; after FAILURES in a row it is left alone."""
        self.failures += 1
        if self.failures >= FAILURES:
            self.failures = 0
            self.rest(REST)

    def rest(self, seconds: float) -> None:
        """Leaves the server alone for so long."""
        self.at = max(self.at, time.monotonic() + seconds)


# --- The answer -----------------------------------------------------------------------------


def _registration(document: Any, domain: str) -> Registration:
    """The value of a domain object (RFC 9083 5.3).  Raises EvidenceError if it is of another."""
    name = document.get("ldhName") if isinstance(document, dict) else None
    if not isinstance(name, str) or name.strip().rstrip(".").lower() != domain:
        raise EvidenceError("the registry's answer is not about the domain")
    dates = (
        _day(event.get("eventDate"))
        for event in _objects(document.get("events"))
        if str(event.get("eventAction")).lower() == "registration"
    )
    names = (
        registrar
        for entity in _objects(document.get("entities"))
        if _is_registrar(entity.get("roles"))
        for registrar in _names(entity.get("vcardArray"))
    )
    return Registration(
        found=True, created=next(filter(None, dates), None), registrar=next(names, "")
    )


def _objects(value: Any) -> Iterator[dict[Any, Any]]:
    entries = value[:_ENTRIES] if isinstance(value, list) else []
    return (entry for entry in entries if isinstance(entry, dict))


def _is_registrar(roles: Any) -> bool:
    several = roles[:_ENTRIES] if isinstance(roles, list) else [roles]
    return any(isinstance(role, str) and role.lower() == "registrar" for role in several)


def _names(card: Any) -> Iterator[str]:
    """The formatted names of a jCard (RFC 7095): ["vcard", [["fn", {}, "text", "A name"], ...]]."""
    fields = card[1] if isinstance(card, list) and len(card) == 2 else None
    for field in fields[:_ENTRIES] if isinstance(fields, list) else []:
        match field:
            case [str(kind), _, _, str(text)] if kind.lower() == "fn" and (name := _clean(text)):
                yield name


def _clean(text: str) -> str:
    """A name on one line, without signs that steer, hide or are none."""
    return " ".join("".join(map(_shown, text[:1_000])).split())[:REGISTRAR_LIMIT].rstrip()


def _shown(sign: str) -> str:
    kind = unicodedata.category(sign)
    if kind == "Cc" or kind[0] == "Z":
        return " "
    return "" if kind[0] == "C" else sign


def _day(text: Any) -> date | None:
    """The UTC day of a time (RFC 3339), also in lower case, without zone or time of day.

    None for what is no time, and for one in which no domain can have been registered.
    """
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    today = datetime.now(UTC).date()
    # A registry's own time without its zone may be ahead by some hours, on a domain of today.
    is_possible = FIRST <= moment.date() <= today + timedelta(days=1)
    return min(moment.date(), today) if is_possible else None


# --- What is remembered ---------------------------------------------------------------------


def encode(registration: Registration | None) -> Any:
    """A registration as JSON has it."""
    if registration is None:
        return None
    created = registration.created
    return {
        "found": registration.found,
        "created": created and created.isoformat(),
        "registrar": registration.registrar,
    }


def decode(value: Any) -> Registration | None:
    """The registration that was encoded.  Raises ValueError for everything else."""
    match value:
        case None:
            return None
        case {"found": False, "created": None, "registrar": "", **more} if not more:
            return Registration(found=False)
        case {"found": True, "created": created, "registrar": str(registrar), **more} if not more:
            day = _day(created)
            if (day and day.isoformat()) == created and _clean(registrar) == registrar:
                return Registration(found=True, created=day, registrar=registrar)
    raise ValueError("this is no registration")
