"""Who is asked about at all: Message -> Skip or None.

Plain functions.  `Gate.before_reading` needs the envelope and the size, `is_empty` the Mail.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

from rspamd_llm.domain import Mail, Message, Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The policy of [gate]."""

    skip_authenticated: bool
    skip_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    max_size: int
    sample: float

    def would_read(self, head: Message) -> bool:
        """Whether a message is likely to be read, as far as its header and announced size tell."""
        return self.sample >= 1.0 and self.before_reading(head) is None

    def before_reading(self, message: Message) -> Skip | None:
        """What settles a message without a look at its content."""
        envelope = message.envelope
        if envelope.authenticated and self.skip_authenticated:
            return Skip.AUTHENTICATED
        if self._is_skipped_network(envelope.client_address):
            return Skip.NETWORK
        if message.size > self.max_size:
            return Skip.SIZE
        if not self._is_sampled(message):
            return Skip.SAMPLED
        return None

    def _is_skipped_network(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.skip_networks)

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
