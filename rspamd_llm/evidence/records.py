"""What DNS says of a mail domain and of a client's address.

What may not live here: how DNS is asked (dns.py), and results for one message (authentication.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from rspamd_llm.domain import DomainRecords, ReverseName
from rspamd_llm.evidence import dmarc
from rspamd_llm.evidence.dns import Answer, Dns
from rspamd_llm.evidence.guard import is_public
from rspamd_llm.evidence.names import is_host

NAMES = 3
"""Reverse names that are tried: a host has one; RFC 8601 2.7.3 wants a bound."""

_FIELDS = {"exists": bool, "mail": bool, "spf": bool, "dmarc": str}


async def domain_records(dns: Dns, domain: str) -> DomainRecords:
    """What DNS says of a domain as a mail domain.  Raises EvidenceError where any part is missing,
    for what is remembered must be whole."""
    exchangers, texts, published = await asyncio.gather(
        dns.query(domain, "MX"), dns.query(domain, "TXT"), dns.query(f"_dmarc.{domain}", "TXT")
    )
    if not exchangers.exists and not texts.exists:
        return DomainRecords(exists=False)
    hosts = [value.split()[-1].rstrip(".") for value in exchangers.values]
    # RFC 5321 5.1: a domain without MX is its own; RFC 7505: one whose MX is the root takes none.
    takes_mail = any(hosts) if hosts else bool(await dns.addresses(domain))
    record = dmarc.only(dmarc.records(published.values))
    return DomainRecords(
        exists=True,
        mail=takes_mail,
        spf=any(f"{value} ".lower().startswith("v=spf1 ") for value in texts.values),
        dmarc=record.policy if record else "",
    )


async def reverse_name(dns: Dns, address: str) -> ReverseName | None:
    """The client's name by its address, confirmed if the name leads back (RFC 8601 2.7.3).

    None for an address that is not of the open internet, of which DNS is not asked.  Raises
    EvidenceError.
    """
    if not is_public(address):
        return None
    client = ipaddress.ip_address(address)
    found = await dns.query(client.reverse_pointer, "PTR")
    names = [value.rstrip(".").lower() for value in found.values if is_host(value)][:NAMES]
    kind = "A" if client.version == 4 else "AAAA"
    answers = await asyncio.gather(
        *(dns.query(name, kind) for name in names), return_exceptions=True
    )
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, Answer) and any(
            ipaddress.ip_address(value) == client for value in answer.values
        ):
            return ReverseName(name=name, confirmed=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return ReverseName(name=names[0]) if names else ReverseName()


def encode(records: DomainRecords) -> dict[str, bool | str]:
    """What JSON can hold."""
    return {name: getattr(records, name) for name in _FIELDS}


def decode(data: Any) -> DomainRecords:
    """The records that were encoded.  Raises ValueError for anything else."""
    if not isinstance(data, dict) or data.keys() != _FIELDS.keys():
        raise ValueError("not the fields of domain records")
    if any(type(data[name]) is not kind for name, kind in _FIELDS.items()):
        raise ValueError("a field of domain records is of the wrong type")
    if data["dmarc"] not in ("", *dmarc.POLICIES):
        raise ValueError("not a DMARC policy")
    return DomainRecords(**data)
