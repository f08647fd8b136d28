"""Who is asked about at all: Message -> Skip or None.

Plain functions.  `Gate.before_reading` needs the envelope and the size, `is_empty` the Mail, and
`Gate.allows` what came of checking who sent it.  What may not live here: where lists come from
(lists.py), and the checks (evidence/authentication.py).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol

from rspamd_llm import domains
from rspamd_llm.domain import Authentication, Envelope, Mail, Message, Skip
from rspamd_llm.evidence import headerfields

FROM = 998
"""Characters of a From field that is read: RFC 5322 2.1.1 allows as many on a line, and one sender
needs no second."""

# What may hold an @ that is no address's: quoted names and comments (RFC 5322 3.2).
_ASIDE = re.compile(r'"(?:[^"\\]|\\.)*"|\([^()]*\)')
_HOST = re.compile(r"@([^\s<>,;]+)")


class Names(Protocol):
    """A list of domains, each with all below it, and perhaps of addresses."""

    def has_domain(self, domain: str) -> bool:
        """Whether a domain, or one above it, stands on the list."""
        ...

    def has_address(self, address: str) -> bool:
        """Whether an address, which may be an SMTP path, or its domain stands on the list."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The policy of [gate]; None for lists that are not kept."""

    skip_authenticated: bool
    skip_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    max_size: int
    sample: float
    allow: Names | None = None
    """Domains of senders whose mail is not judged where it proves to be theirs."""
    optout: Names | None = None
    """Recipients whose mail is not judged."""

    def would_read(self, head: Message) -> bool:
        """Whether a message is likely to be read, as far as its header and announced size tell."""
        return self.sample >= 1.0 and self.before_reading(head) is None

    def before_reading(self, message: Message) -> Skip | None:
        """What settles a message without a look at its content.

        A message is left alone for its recipients' sake only if each of them has opted out and all
        of them are known: else one more recipient would be all that a sender needs.
        """
        envelope = message.envelope
        if envelope.authenticated and self.skip_authenticated:
            return Skip.AUTHENTICATED
        if self._is_skipped_network(envelope.client_address):
            return Skip.NETWORK
        if message.size > self.max_size:
            return Skip.SIZE
        if self._have_opted_out(envelope):
            return Skip.OPTOUT
        if not self._is_sampled(message):
            return Skip.SAMPLED
        return None

    def lists_sender(self, from_address: str) -> bool:
        """Whether a From address is on the allow-list, which alone is no more than the sender's
        word: authentication is worth asking for before all else then."""
        return self.allow is not None and self.allow.has_domain(_domain(from_address))

    def allows(
        self, message: Message, from_address: str, authentication: Authentication | None
    ) -> bool:
        """Whether a message is from one on the allow-list, and proves it (`skipped; allowlist`)."""
        return self.lists_sender(from_address) and is_aligned(message, from_address, authentication)

    def _is_skipped_network(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.skip_networks)

    def _have_opted_out(self, envelope: Envelope) -> bool:
        recipients = envelope.recipients
        if self.optout is None or not recipients or envelope.recipient_count > len(recipients):
            return False
        return all(map(self.optout.has_address, recipients))

    def _is_sampled(self, message: Message) -> bool:
        if self.sample >= 1.0:
            return True
        # By content, so that a message that is sent again meets the same decision.
        digest = hashlib.sha256(message.data).digest()
        return int.from_bytes(digest[:8]) / 2**64 < self.sample


def is_empty(mail: Mail) -> bool:
    """Whether there is nothing in a mail to judge (`skipped; no-text`)."""
    seen = mail.text or mail.subject or mail.links or mail.attachments or mail.images
    return not (seen or mail.hidden or mail.quoted)


def is_aligned(message: Message, from_address: str, authentication: Authentication | None) -> bool:
    """Whether a message proves the domain of its From address, which must be its only one.

    By a DMARC pass, or by a valid DKIM signature of that domain or of one above it.  A signature by
    a domain beside or below it would do for DMARC (RFC 7489 3.1.1) where the owner publishes so;
    without his word it may be that of another of his customers.  SPF alone and ARC prove nothing.
    """
    domain = _domain(from_address)
    if authentication is None or not domain or not _is_sole_sender(message.data, domain):
        return False
    return authentication.dmarc == "pass" or any(
        signature.result == "pass"
        and signature.aligned
        and f".{domain}".endswith(f".{signature.domain}")
        for signature in authentication.signatures
    )


def _domain(address: str) -> str:
    """The domain of an address in lower-case ASCII; empty where it has none."""
    host = address.rpartition("@")[2] if "@" in address else ""
    return domains.ascii_host(host.strip().strip(".").lower())


def _is_sole_sender(data: bytes, domain: str) -> bool:
    """Whether a header has one From field, with one address, which is of this domain.

    Of several senders programs show now the one, now the other.  What is not clear counts as no.
    """
    fields, _ = headerfields.split(headerfields.head(data))
    senders = [value for name, value in fields if name.lower() == b"from"]
    if len(senders) != 1 or len(senders[0]) > FROM:
        return False
    text = _ASIDE.sub(" ", senders[0].decode("utf-8", "replace"))
    hosts = _HOST.findall(text)
    return text.count("@") == 1 == len(hosts) and _domain(f"@{hosts[0]}") == domain
