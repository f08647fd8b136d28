"""DKIM (RFC 6376) and ARC (RFC 8617): header, body and keys -> results.

The only importer of dkimpy; its errors become results here.  Nothing here waits: keys are given.
What may not live here: asking DNS for them (authentication.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dkim  # type: ignore[import-untyped]
import dkim.canonicalization  # type: ignore[import-untyped]
import dkim.util  # type: ignore[import-untyped]

from rspamd_llm.evidence.dmarc import is_aligned
from rspamd_llm.evidence.names import is_host, is_name

SIGNATURES = 4
"""Signatures checked: a sender's, and those of a few services between."""

SETS = 5
"""ARC sets checked, each with two signatures; mail that passes more hands is rare."""

FIELDS = 2_000
"""Header fields of a message whose signatures are checked: real mail has 20 to 200, and dkimpy
goes through all of them for each one that is signed."""

SIGNED = 300
"""Names in h=; real ones have 5 to 60."""

VALUE = 8_192
"""Bytes of a signature's field: with a 4096-bit key and a long h= about 2,000."""

KEY = 2_048
"""Characters of a key's record: one of 4096 bits has 740."""

LEAST_BITS, MOST_BITS = 1_024, 4_096
"""Of RSA keys: RFC 8301 3.2 refuses shorter ones, and asks for no longer ones."""

EXPONENT_BITS = 33
"""Of an RSA key's public exponent, which is 65,537 nearly always; a long one costs 100 ms."""

# dkimpy's patterns take the square of a run of blanks, and blanks can be folded.
_BLANKS = re.compile(rb"\s{200}")
# dkimpy 1.1.8 strips blanks at lines' ends by a pattern that takes the square of every run of
# them: a body of 1 MB of blanks would take hours.  This one starts at no place within a run.
_TRAILING = re.compile(rb"(?<![\t ])[\t ]+\r\n")
dkim.canonicalization.strip_trailing_whitespace = lambda content: _TRAILING.sub(b"\r\n", content)

# RFC 5322 3.6 and RFC 2045.
_ONCE = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date")) | {
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
}

_KEY = re.compile(r"(?:\A|;)\s*p\s*=")

# What dkimpy may make of hostile fields, beside its own errors.
_UNREADABLE = (
    dkim.DKIMException,
    dkim.util.InvalidTagValueList,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)

Fields = Sequence[tuple[bytes, bytes]]
"""A header as headerfields.split gives it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a signature says it is by, and its place among the fields of its name."""

    domain: str
    selector: str
    place: int
    is_whole: bool
    """Whether it signs From (RFC 6376 5.4), and not a part of the body only (l=)."""

    @property
    def key_name(self) -> str:
        """Where its key is (RFC 6376 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def claims(fields: Fields, from_domain: str) -> list[Claim]:
    """The signatures to check: those that speak for the From domain first, then by their order.

    Left out are those without a readable domain and selector.
    """
    if len(fields) > FIELDS:
        return []
    found = []
    for place, value in enumerate(_named(fields, b"dkim-signature")):
        claim = _claim(value, place)
        if claim:
            found.append(claim)
    found.sort(key=lambda claim: not is_aligned(claim.domain, from_domain))
    return found[:SIGNATURES]


def key_among(texts: Iterable[str]) -> str:
    """The key's record among the TXT records of its name; empty where there is none.

    RFC 6376 3.6.2.2 wants no other record there; some zones have one all the same.
    """
    return next((text for text in texts if _KEY.search(text)), "")


def verify(fields: Fields, body: bytes, claim: Claim, key: str) -> str:
    """The result for a signature with its key's record, as RFC 8601 2.7.1 names it.

    permerror: the signature or key is unusable; policy: valid, but not for From or not for the
    whole body, to which anything may have been added (RFC 6376 8.2; dkimpy accepts both), or for
    another Subject and the like than the one on top.  Empty:
    not checked, for ed25519 needs PyNaCl.
    """
    value = _named(fields, b"dkim-signature")[claim.place]
    try:
        tags = dkim.util.parse_tag_value(value)
        dkim.validate_signature_fields(tags)
        # RFC 8301 3.1 forbids SHA-1, which dkimpy does not.
        if tags[b"a"] == b"rsa-sha1" or not _is_usable(key):
            return "permerror"
    except dkim.NaClNotFoundError:
        return ""
    except _UNREADABLE:
        return "permerror"
    verifier = dkim.DKIM()
    verifier.headers, verifier.body = [list(field) for field in fields], body
    try:
        is_valid = verifier.verify(claim.place, dnsfunc=lambda *_, **__: key.encode("latin-1"))
    except _UNREADABLE:
        return "fail"
    if not is_valid:
        return "fail"
    signed = [name.strip().lower() for name in tags[b"h"].split(b":")]
    return "pass" if claim.is_whole and not _has_more(fields, signed) else "policy"


def _has_more(fields: Fields, signed: Sequence[bytes]) -> bool:
    """Whether a field that may stand once stands more often than it was signed: the one on top is
    what mail programs show, and it is not the signed one (RFC 6376 8.15)."""
    there = Counter(name.lower() for name, _ in fields)
    return any(there[name] > signed.count(name) for name in _ONCE & {*signed})


def chain_keys(fields: Fields) -> tuple[str, ...]:
    """Where the keys of a message's ARC sets are; empty where no chain will be checked."""
    seals, signatures = _named(fields, b"arc-seal"), _named(fields, b"arc-message-signature")
    told = _named(fields, b"arc-authentication-results")
    several = (seals, signatures, told)
    if any(not 0 < len(each) <= SETS for each in several) or len(fields) > FIELDS:
        return ()
    found = [_claim(value, place) for place, value in enumerate((*seals, *signatures))]
    if any(map(_is_too_long, told)):
        return ()
    if not all(claim and claim.is_whole for claim in found[len(seals) :]):
        return ()  # which RFC 8617 leaves open, and dkimpy accepts: it says nothing of this mail
    names = [claim.key_name for claim in found if claim]
    return tuple(dict.fromkeys(names)) if len(names) == len(found) else ()


def verify_chain(fields: Fields, body: bytes, keys: Mapping[str, str]) -> tuple[str, str]:
    """pass or fail for the ARC sets, and the domain of the newest seal; empty if unreadable.

    `keys` are the keys' records by their names, without those that are not there.
    """

    def key(name: bytes, **_: object) -> bytes | None:
        record = keys.get(name.decode("ascii").removesuffix(".").lower(), "")
        return record.encode("latin-1") if _is_usable(record) else None

    verifier = dkim.ARC()
    verifier.headers, verifier.body = [list(field) for field in fields], body
    try:
        result, sets, _ = verifier.verify(dnsfunc=key)
        sealer = sets[0]["as-domain"].decode("ascii").lower() if result == dkim.CV_Pass else ""
    except _UNREADABLE:
        return "", ""
    return ("pass" if sealer else "fail"), sealer


def _named(fields: Fields, name: bytes) -> list[bytes]:
    return [value for each, value in fields if each.lower() == name]


def _claim(value: bytes, place: int) -> Claim | None:
    """Who a signature or seal says it is by; None for what is not to be read."""
    if _is_too_long(value):
        return None
    try:
        tags = dkim.util.parse_tag_value(value)
        domain = tags[b"d"].decode("ascii").lower()
        selector = tags[b"s"].decode("ascii").lower()
    except _UNREADABLE:
        return None
    signed = [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]
    claim = Claim(domain, selector, place, b"from" in signed and b"l" not in tags)
    fits = is_host(domain) and is_name(claim.key_name) and len(signed) <= SIGNED
    return claim if fits else None


def _is_too_long(value: bytes) -> bool:
    return len(value) > VALUE or _BLANKS.search(value) is not None


def _is_usable(key: str) -> bool:
    """Whether a key's record holds a key that we work with.  Raises NaClNotFoundError."""
    if not key or len(key) > KEY:
        return False
    try:
        public, bits, kind, _ = dkim.evaluate_pk("", key.encode("latin-1"))
        if kind != b"rsa":
            return bool(kind)
        exponent = int(public["publicExponent"])
        return LEAST_BITS <= bits <= MOST_BITS and exponent.bit_length() <= EXPONENT_BITS
    except dkim.NaClNotFoundError:
        raise
    except _UNREADABLE:
        return False
