"""What was read and found out of a mail -> its campaign: one fingerprint, one verdict.

Plain functions over values; the costly one, `content`, belongs where mail is read.  What may not
live here: how texts and links are masked (masks.py, targets.py), and remembering.

All that the model may be shown is in it, masked or to the letter, or follows from what is in it.
What depends on a domain alone (registration, records, the web) is left out: the domains are in.
So is what no campaign keeps the same: date, queue ID, exact sizes and counts, points.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from bisect import bisect
from typing import Any

from rspamd_llm import brands, domains
from rspamd_llm import opinion as opinions
from rspamd_llm import personal as personals
from rspamd_llm.domain import (
    Attachment,
    Authentication,
    Envelope,
    Evidence,
    Facts,
    Finding,
    Flag,
    Mail,
    Quoted,
)
from rspamd_llm.domains import registered_domain
from rspamd_llm.masks import Masks

VERSION = 1
"""Of what a fingerprint is made of: another one makes all that is remembered be forgotten."""

COUNTS = (1, 2, 6, 21)
"""Where classes of counts begin: none, one, a few, many, a crowd."""

NETWORK_V4, NETWORK_V6 = 24, 48
"""Bits of a client's network: a sender's machines stand beside each other.  Smaller networks are
neither announced on their own nor given to different customers' mail servers as a rule."""


def content(envelope: Envelope, mail: Mail, facts: Facts) -> str:
    """SHA-256, as 64 hex digits, of all that was read of a mail.  Never raises."""
    masks = Masks(personals.personal(envelope, mail))
    told = [
        _sender(mail, envelope, facts, masks),
        _texts(mail, masks),
        [[link.is_button, masks.target(link.target)] for link in mail.links],
        # All names together, for they have one bound.
        masks.names(name for file in mail.attachments for name in (file.name, *file.members)),
        [_file(file, masks) for file in mail.attachments],
        [_quoted(quoted, masks) for quoted in mail.quoted],
        _known(mail, facts),
    ]
    return _hashed(told)


def fingerprint(read: str, evidence: Evidence, *, instructions: str, model: str) -> str:
    """SHA-256, as 64 hex digits, of what a verdict on a mail depends on.  Never raises.

    `read` is its content.  Of the evidence only authentication, opinion and correspondent are
    looked at: the others may come later.  `instructions` names the fixed text and how a mail is put
    to the model.
    """
    return _hashed([VERSION, instructions, model, read, _looked_up(evidence)])


def _hashed(told: list[Any]) -> str:
    # ASCII: no text, whatever its signs, is without a form.
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()


def prepare() -> None:
    """Loads all tables now (some 60 ms), so that the first mail does not wait for them."""
    domains.prepare()
    brands.prepare()
    personals.prepare()


# --- What the sender says -------------------------------------------------------------------


def _sender(mail: Mail, envelope: Envelope, facts: Facts, masks: Masks) -> list[Any]:
    return [
        masks.text(mail.from_name),
        masks.address(mail.from_address),
        [masks.address(address) for address in mail.reply_to],
        facts.sender_domain,
        facts.envelope_domain,
        list(facts.reply_domains),
        registered_domain(envelope.client_name),
        network(envelope.client_address),
        registered_domain(envelope.helo),
        envelope.authenticated,
        registered_domain(mail.hop.host),
        network(mail.hop.address),
    ]


def _texts(mail: Mail, masks: Masks) -> list[Any]:
    text = masks.text(mail.text)
    return [
        masks.text(mail.subject, line=True),
        text,
        text if mail.plain == mail.text else masks.text(mail.plain),
        masks.text(mail.hidden),
        [hiding.value for hiding in mail.hidings],
        masks.texts(mail.alts),
        masks.texts(link.text for link in mail.links),
    ]


def _file(file: Attachment, masks: Masks) -> list[Any]:
    return [
        len(file.members),
        file.type.casefold(),
        file.found,
        # How large, by its digits: of the content the model knows no more.
        len(str(file.size)),
        [masks.target(target) for target in file.links],
        [trait.value for trait in file.traits],
    ]


def _quoted(quoted: Quoted, masks: Masks) -> list[Any]:
    return [
        masks.address(quoted.from_address),
        masks.text(quoted.subject, line=True),
        masks.text(quoted.text),
    ]


# --- What we know ---------------------------------------------------------------------------


def _known(mail: Mail, facts: Facts) -> list[Any]:
    return [
        list(facts.link_domains),
        [_finding(finding) for finding in facts.findings],
        bisect(COUNTS, mail.to_count),
        bisect(COUNTS, mail.images),
        [mail.listed, mail.reply, mail.automatic],
        list(mail.defects),
    ]


def _finding(finding: Finding) -> list[str]:
    if finding.flag is Flag.DATE_OFF:  # in days, which pass
        return [finding.flag.value, finding.detail.rpartition(" ")[2]]
    return [finding.flag.value, finding.detail]


def _looked_up(evidence: Evidence) -> list[Any]:
    authentication, opinion = evidence.authentication, evidence.opinion
    return [
        None if authentication is None else _authentication(authentication),
        None if opinion is None else sorted(opinions.told(opinion)),
        evidence.is_correspondent,
    ]


def _authentication(found: Authentication) -> list[Any]:
    signatures = [[one.domain.casefold(), one.result, one.aligned] for one in found.signatures]
    return [
        [found.spf, registered_domain(found.spf_domain)],
        signatures,
        [found.dmarc, found.policy],
        [found.arc, registered_domain(found.sealer)],
    ]


def network(address: str) -> str:
    """The network of an address; the text itself where it is no address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    bits = NETWORK_V4 if found.version == 4 else NETWORK_V6
    return str(ipaddress.ip_network((found, bits), strict=False))
