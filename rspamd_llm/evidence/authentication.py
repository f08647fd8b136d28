"""SPF, DKIM, DMARC and ARC of one message, checked by ourselves: Message -> Authentication.

Asks DNS for what the checks need, runs them side by side, each to the same time.  What may not live
here: the checks themselves (spf.py, dkim.py, dmarc.py), and what others say of a message
(authresults.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rspamd_llm.domain import Authentication, Envelope, EvidenceError, Message, Signature
from rspamd_llm.domains import ascii_host, registered_domain
from rspamd_llm.evidence import dkim, dmarc, headerfields, spf
from rspamd_llm.evidence.dns import Dns
from rspamd_llm.evidence.guard import is_public
from rspamd_llm.evidence.names import is_host

WORKERS = 4
"""Threads for the checks, which compute for milliseconds, hostile ones longer: the core's loop goes
on meanwhile.  They never wait for anything."""

T = TypeVar("T")

_workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="authentication")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Published:
    """What the From domain publishes: its record and the policy that holds for it, or the DMARC
    result of there being none (none, temperror; empty without a From domain)."""

    otherwise: str = ""
    record: dmarc.Record | None = None
    policy: str = ""


async def authenticate(
    message: Message, from_domain: str, dns: Dns, seconds: float
) -> Authentication:
    """What comes of checking a message ourselves.  Raises nothing but CancelledError.

    `from_domain` is the exact domain of the From address in lower-case ASCII.  What has no result
    after `seconds` is temperror; a chain of ARC sets, which knows none, stays empty.  Signatures
    that were not checked are left out: all of a message that was cut, and ed25519 without PyNaCl.
    """
    fields, body = await _computed(headerfields.split, message.data)
    is_whole = message.size <= len(message.data)
    spf_domain = _spf_domain(message.envelope)
    spf_result, published, signatures, (arc, sealer) = await asyncio.gather(
        _within(seconds, _spf(message.envelope, spf_domain, dns), "temperror"),
        _within(seconds, _published(from_domain, dns), _Published("temperror")),
        _signatures(fields, body if is_whole else None, from_domain, dns, seconds),
        _within(seconds, _arc(fields, body if is_whole else None, dns), ("", "")),
    )
    result = published.otherwise
    if published.record is not None:
        result = dmarc.result(
            published.record,
            from_domain,
            spf=spf_result,
            spf_domain=spf_domain,
            signatures=signatures,
        )
    return Authentication(
        spf=spf_result,
        spf_domain=spf_domain if spf_result else "",
        signatures=tuple(signature for signature in signatures if signature.result),
        dmarc=result,
        policy=published.policy,
        arc=arc,
        sealer=sealer,
    )


async def prefetch(head: Message, from_domain: str, dns: Dns) -> None:
    """Asks DNS what `authenticate` will ask for a message of which the header is there, so that its
    answers are remembered or under way then.  Raises nothing but CancelledError."""
    fields, _ = headerfields.split(headerfields.head(head.data))
    names = {claim.key_name for claim in dkim.claims(fields, from_domain)}
    await asyncio.gather(
        _spf(head.envelope, _spf_domain(head.envelope), dns),
        _published(from_domain, dns),
        *(dns.query(name, "TXT") for name in (*names, *dkim.chain_keys(fields))),
        return_exceptions=True,
    )


async def _within(seconds: float, work: Coroutine[Any, Any, T], otherwise: T) -> T:
    """What comes of one check in its time; no check may harm another."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except (EvidenceError, TimeoutError):
        return otherwise
    except Exception as error:  # noqa: BLE001 - whatever a library makes of hostile mail
        _log.warning("a check of authentication failed with %s", type(error).__name__)
        return otherwise


async def _computed(function: Callable[..., T], *values: object) -> T:
    """A function's result, from a worker."""
    return await asyncio.get_running_loop().run_in_executor(_workers, function, *values)


async def _text(dns: Dns, name: str) -> list[str]:
    return list((await dns.query(name, "TXT")).values)


# --- SPF ------------------------------------------------------------------------------------


def _spf_domain(envelope: Envelope) -> str:
    """The domain that SPF is checked for: of the sender, or of HELO where it is empty (RFC 7208
    2.4); empty where there is no name to ask for."""
    sender = envelope.sender.strip().strip("<>")
    domain = (sender.rpartition("@")[2] if sender else envelope.helo).removesuffix(".").lower()
    domain = ascii_host(domain)
    return domain if "." in domain and is_host(domain) else ""


async def _spf(envelope: Envelope, domain: str, dns: Dns) -> str:
    """The result; empty where the client is unknown or of our own networks."""
    client = _client(envelope.client_address)
    if not client:
        return ""
    if not domain:
        return "none"  # RFC 7208 4.3
    known: dict[spf.Question, tuple[str, ...] | None] = {}
    for _ in range(spf.LOOKUPS):
        told = await _computed(spf.check, client, domain, envelope.helo, known)
        if isinstance(told, str):
            return told
        try:
            known[told] = (await dns.query(told.name, told.kind)).values
        except EvidenceError:
            known[told] = None
    return "permerror"


def _client(address: str) -> str:
    """The client's address if it is one of the open internet, else empty."""
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        mapped = None
    address = str(mapped) if mapped else address
    return address if is_public(address) else ""


# --- DKIM and ARC ---------------------------------------------------------------------------


async def _signatures(
    fields: dkim.Fields, body: bytes | None, from_domain: str, dns: Dns, seconds: float
) -> list[Signature]:
    """The signatures with their results; empty ones where there is no whole body."""
    found = dkim.claims(fields, from_domain)
    results = await asyncio.gather(
        *(_within(seconds, _dkim(fields, body, claim, dns), "temperror") for claim in found)
    )
    return [
        Signature(
            domain=claim.domain,
            result=result,
            aligned=dmarc.is_aligned(claim.domain, from_domain),
        )
        for claim, result in zip(found, results, strict=True)
    ]


async def _dkim(fields: dkim.Fields, body: bytes | None, claim: dkim.Claim, dns: Dns) -> str:
    if body is None:
        return ""
    key = dkim.key_among(await _text(dns, claim.key_name))
    return await _computed(dkim.verify, fields, body, claim, key)


async def _arc(fields: dkim.Fields, body: bytes | None, dns: Dns) -> tuple[str, str]:
    names = dkim.chain_keys(fields)
    if body is None or not names:
        return "", ""
    records = await asyncio.gather(*(_text(dns, name) for name in names))
    keys = {name: dkim.key_among(texts) for name, texts in zip(names, records, strict=True)}
    return await _computed(dkim.verify_chain, fields, body, keys)


# --- DMARC ----------------------------------------------------------------------------------


async def _published(from_domain: str, dns: Dns) -> _Published:
    """What the From domain publishes, or else its registered domain for it (RFC 7489 6.6.3)."""
    if not is_host(from_domain) or "." not in from_domain:
        return _Published()
    above = registered_domain(from_domain) or from_domain
    own, inherited = await asyncio.gather(
        _text(dns, f"_dmarc.{from_domain}"),
        _text(dns, f"_dmarc.{above}"),
        return_exceptions=True,
    )
    if isinstance(own, BaseException):
        raise own
    texts = dmarc.records(own)
    if texts or above == from_domain:
        record = dmarc.only(texts)
        return _Published("none", record, record.policy if record else "")
    if isinstance(inherited, BaseException):
        raise inherited
    record = dmarc.only(dmarc.records(inherited))
    return _Published("none", record, record.subdomains if record else "")
