"""DMARC (RFC 7489): its records, and what SPF and DKIM results make of one.

Plain functions over values.  What may not live here: where records come from (authentication.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rspamd_llm.domain import Signature
from rspamd_llm.domains import registered_domain

POLICIES = ("none", "quarantine", "reject")

RECORD = 4_096
"""Characters of a record that is read; real ones have 100 to 400."""

# RFC 7489 6.4: the version comes first; blanks are allowed around the equals sign.
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class Record:
    """What a domain publishes, as far as it decides: policies, and whether alignment is strict."""

    policy: str
    subdomains: str
    strict_dkim: bool = False
    strict_spf: bool = False


def records(texts: Iterable[str]) -> list[str]:
    """The DMARC records among the TXT records of a name."""
    return [text for text in texts if _VERSION.match(text)]


def only(published: Sequence[str]) -> Record | None:
    """What a name's records say: nothing where there is not exactly one (RFC 7489 6.6.3)."""
    if len(published) != 1 or len(published[0]) > RECORD:
        return None
    tags: dict[str, str] = {}
    for part in published[0].split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip().lower())
    policy = tags.get("p", "")
    subdomains = tags.get("sp", policy)
    if policy not in POLICIES or subdomains not in POLICIES:
        # RFC 7489 6.6.3: a policy that cannot be read is none if reports are wanted, else nothing.
        if not tags.get("rua"):
            return None
        policy = subdomains = "none"
    return Record(
        policy=policy,
        subdomains=subdomains,
        strict_dkim=tags.get("adkim") == "s",
        strict_spf=tags.get("aspf") == "s",
    )


def is_aligned(domain: str, from_domain: str, *, strict: bool = False) -> bool:
    """Whether an authenticated domain speaks for the From domain (RFC 7489 3.1): it is the same,
    or, if not strict, of the same registered domain."""
    if not domain or not from_domain:
        return False
    if domain == from_domain:
        return True
    return not strict and registered_domain(domain) == registered_domain(from_domain) != ""


def result(
    record: Record, from_domain: str, *, spf: str, spf_domain: str, signatures: Sequence[Signature]
) -> str:
    """pass, fail, temperror, or empty where a check that could have passed was not made."""
    results = {
        signature.result
        for signature in signatures
        if is_aligned(signature.domain, from_domain, strict=record.strict_dkim)
    }
    if not spf_domain or is_aligned(spf_domain, from_domain, strict=record.strict_spf):
        results.add(spf)
    return next((each for each in ("pass", "", "temperror") if each in results), "fail")
