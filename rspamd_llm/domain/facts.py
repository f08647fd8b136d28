"""What is known of a message without asking anyone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rspamd_llm.domain.mail import Mail


class Flag(StrEnum):
    """A fact that weighs.  The value is its short name in the compact prompt."""

    NAME_HAS_ADDRESS = "name-has-other-address"
    REPLY_ELSEWHERE = "reply-elsewhere"
    LINK_MISMATCH = "link-shows-other-domain"
    LINK_ADDRESS = "link-to-ip"
    LINK_PUNYCODE = "link-punycode"
    LINK_CREDENTIALS = "link-has-login"
    LINKS_ELSEWHERE = "links-elsewhere"
    ATTACHMENT_RUNS = "attachment-runs-code"
    ATTACHMENT_ARCHIVE = "attachment-archive"
    ATTACHMENT_PAGE = "attachment-web-page"
    ENVELOPE_ELSEWHERE = "envelope-elsewhere"
    SENDER_MISSING = "no-sender-address"
    RECIPIENTS_HIDDEN = "recipients-hidden"
    DAMAGED = "damaged"
    BRAND_ELSEWHERE = "brand-elsewhere"
    SENDER_LOOKALIKE = "sender-lookalike"
    LINK_LOOKALIKE = "link-lookalike"
    LINK_MIXED_SCRIPT = "link-mixed-script"
    LINK_SHORTENER = "link-shortener"
    LINK_REDIRECT = "link-redirect"
    PARTS_DIFFER = "parts-differ"
    TEXT_HIDDEN = "text-hidden"
    SPELLING_EVADES = "spelling-evades"
    IMAGE_ONLY = "image-only"
    DATE_OFF = "date-off"
    ATTACHMENT_MACROS = "attachment-macros"
    ATTACHMENT_ENCRYPTED = "attachment-encrypted"
    ATTACHMENT_MISNAMED = "attachment-misnamed"
    ATTACHMENT_BOMB = "attachment-bomb"
    ADDRESSES_MODEL = "addresses-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A flag with what it was found on: domain names or file types, bounded in length."""

    flag: Flag
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What can be known of a message without asking anyone.

    Domains are registered domains (eTLD+1 by the public-suffix list) in lower case ASCII;
    empty where there is none.
    """

    sender_domain: str = ""
    envelope_domain: str = ""
    reply_domains: tuple[str, ...] = ()
    link_domains: tuple[str, ...] = ()
    """Of the links' targets, without repeats, in the order of their first link."""
    findings: tuple[Finding, ...] = ()

    def has(self, flag: Flag) -> bool:
        """Whether the flag was found."""
        return any(finding.flag is flag for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A message read: what its reader sees, and what is known of that."""

    mail: Mail
    facts: Facts
    content: str
    """What a fingerprint takes of it, as 64 hex digits: alike for the copies of a campaign."""
