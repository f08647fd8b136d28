"""Which names of a message may leave the house, and which of them are worth a question.

Plain functions; the privacy rule of docs/privacy.md lives here.  What may not live here: asking.

To search engines and registries go registered domains alone (eTLD+1, with the private section of
the public-suffix list): never addresses, names, subjects, URLs or the hosts below a domain; never
the recipients' domains, the own ones or free-mail providers'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from rspamd_llm import brands, domains
from rspamd_llm.domain import Envelope, Facts, Mail

LOOKED_UP = 4
"""Domains of a mail that registries are asked about: the sender's and those of three links."""

_KINDS = (
    ("freemail", "free-mail provider"),
    ("shorteners", "link shortener"),
    ("mailing", "mailing service"),
    ("rewriters", "mail gateway"),
)


@lru_cache(maxsize=4_096)
def kind(domain: str) -> str:
    """What our own lists know a registered domain for; empty for the others."""
    for name, told in _KINDS:
        if domains.services(name).names(domain):
            return told
    return "well-known company" if brands.is_a_brands(domain) else ""


def knows_recipients(envelope: Envelope) -> bool:
    """Whether all recipients of a message were kept."""
    return envelope.recipient_count <= len(envelope.recipients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """The rule, with the operator's own domains (registered domains)."""

    own: frozenset[str]

    def askable(self, envelope: Envelope, mail: Mail, facts: Facts) -> tuple[str, ...]:
        """The domains that others may be asked about: the sender's first, then links' by weight.

        Those that our own lists know are left out: to ask about them is pointless.
        """
        if not knows_recipients(envelope):
            return ()  # a domain of one that was not kept could be among them
        recipients = (address.strip("<>") for address in envelope.recipients)
        house = self.own | set(map(domains.domain_of, recipients))
        ordered = dict.fromkeys((facts.sender_domain, *_of_links(mail), *facts.reply_domains))
        return tuple(
            domain
            for domain in ordered
            # Suffixes that the list does not know are of private networks: .lan, .corp.
            if domain and domain not in house and domains.has_suffix(domain) and not kind(domain)
        )


def _of_links(mail: Mail) -> Iterator[str]:
    """Buttons first, then reading order, so that footers come last; then links in files."""
    for link in sorted(mail.links, key=lambda link: not link.is_button):
        yield domains.registered_domain(domains.place(link.target).host)
    for file in mail.attachments:
        for target in file.links:
            yield domains.registered_domain(domains.place(target).host)
