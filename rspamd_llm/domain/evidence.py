"""What was looked up of a message: authentication, DNS, registration, the web.

A value that is None, or a domain that is not in a mapping, was not looked up or did not answer; a
value that says "nothing there" was looked up and is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class Source(StrEnum):
    """Where evidence comes from; the value is what it is called in logs, counters and prompts."""

    AUTHENTICATION = "authentication"
    DNS = "dns"
    REGISTRATION = "registration"
    WEB = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM signature: its domain (d=) and result, as RFC 8601 2.7.1 names results."""

    domain: str
    result: str
    aligned: bool = False
    """Whether the domain is the From address's, by their registered domains (RFC 7489 3.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """SPF, DKIM, DMARC and ARC of one message; results as RFC 8601 2.7 names them.

    An empty result was not checked or not told.
    """

    spf: str = ""
    spf_domain: str = ""
    """The domain that SPF was checked for: of the envelope sender, or of HELO."""
    signatures: tuple[Signature, ...] = ()
    dmarc: str = ""
    policy: str = ""
    """What the From domain wants done on failure: none, quarantine or reject (RFC 7489 6.3)."""
    arc: str = ""
    sealer: str = ""
    """Domain of the newest ARC seal (RFC 8617), where `arc` is `pass`."""
    told_by: str = ""
    """The trusted host whose Authentication-Results said so; empty where we checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecords:
    """What DNS says of a domain as a mail domain."""

    exists: bool
    mail: bool = False
    """Takes mail: has MX or an address (RFC 5321 5.1), and no null MX (RFC 7505)."""
    spf: bool = False
    dmarc: str = ""
    """The policy of its DMARC record: none, quarantine, reject; empty where it has no record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseName:
    """The client's name by its address; confirmed if the name leads back to the address."""

    name: str = ""
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registry says of a domain (RDAP, RFC 9083)."""

    found: bool
    created: date | None = None
    registrar: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One result of a web search, cleaned and bounded: somebody else's words."""

    title: str
    host: str
    snippet: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What Rspamd makes of a message by itself, without any symbol of ours."""

    action: str
    """As Rspamd names actions: `no action`, `greylist`, `add header`, `rewrite subject`,
    `soft reject`, `reject` or one of the administrator's own."""
    score: float
    symbols: Mapping[str, float] = field(default_factory=dict)
    """The points that each symbol has in this message; 0 for those that only tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was looked up for one message.  Domains are registered domains (eTLD+1)."""

    authentication: Authentication | None = None
    records: DomainRecords | None = None
    """Of the sender's domain."""
    reverse: ReverseName | None = None
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    web: Mapping[str, tuple[Page, ...]] = field(default_factory=dict)
    """By domain; an empty tuple: the web knows nothing of it."""
    named: tuple[Page, ...] = ()
    """What the web says of the sender's display name beside its domain, where that is searched."""
    opinion: Opinion | None = None
    """Rspamd's, where it was asked and answered."""
    is_correspondent: bool = False
    """Every recipient has written to the From address before, which this mail authenticates."""
    day: date = date.min
    """When it was looked up (UTC)."""
    missing: tuple[Source, ...] = ()
    """Sources that were asked and did not answer, or not in time."""
