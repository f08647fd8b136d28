"""Authentication-Results (RFC 8601) of hosts that we trust: header bytes -> Authentication.

A plain function.  What may not live here: checks of our own (authentication.py), and any other
header: ARC-Authentication-Results are the word of whoever made the chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rspamd_llm.domain import Authentication, Signature
from rspamd_llm.evidence import headerfields
from rspamd_llm.evidence.dmarc import POLICIES, is_aligned
from rspamd_llm.evidence.names import is_host

HEADERS = 20
"""Headers of trusted hosts that are read: each filter of a mail server adds one."""

VALUE = 8_192
"""Bytes of a header that is read; with five signatures and a word on each one has 2,000."""

SIGNATURES = 10
"""DKIM results taken; mail has up to 5."""

_RESULTS = {
    "spf": {"none", "neutral", "pass", "fail", "softfail", "policy", "temperror", "permerror"},
    "dkim": {"none", "neutral", "pass", "fail", "policy", "temperror", "permerror"},
    "dmarc": {"none", "pass", "fail", "temperror", "permerror"},
    "arc": {"none", "pass", "fail"},
}
"""The methods and results that mean something here (RFC 8601 2.7, RFC 7489 11.2, RFC 8617)."""

_OLD = {"hardfail": "fail", "error": "temperror", "unknown": "permerror"}
"""Results of before RFC 7001, which some servers still write."""

# The host's name (authserv-id, RFC 8601 2.2), to its end; comments may come first.
_HOST = re.compile(r'\s*(?:\([^()]*\)\s*)*("[^\s;"()]+"|[^\s;"()]+)(?=[\s;(]|\Z)')
# Quoted text, an escaped sign, brackets and semicolons, and what is between.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[();]|[^"\\();]+|.', re.DOTALL)
# `name=value`, blanks around the sign; no value spans a blank, but a quoted one.
_PAIR = re.compile(r'(?<![^\s;])([A-Za-z][\w./-]*)\s*=\s*("(?:[^"\\]|\\.)*"\S*|[^\s"]\S*)')
_QUOTING = re.compile(r'\\(.)|"', re.DOTALL)
# The policy: Fastmail's filter tells it in a property; OpenDMARC, Gmail, Rspamd in a comment.
_POLICY_PROPERTIES = ("policy.dmarc", "policy.published-domain-policy")
_COMMENTED = re.compile(r"(?:^|\s)(?:p|policy)=([a-z]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Result:
    """What one host says of one method: `dkim=pass (a comment) header.d=example.com`."""

    method: str
    result: str
    properties: dict[str, str]
    comments: tuple[str, ...]


def told(data: bytes, trusted: frozenset[str], from_domain: str) -> Authentication | None:
    """What trusted hosts say of a message; None where they say nothing.

    `trusted` holds names (authserv-id), compared whole and without case; `from_domain` is the
    domain of the From address in lower-case ASCII.  Of each method the topmost header that tells
    of it is believed, for a server puts its own on top.
    """
    names = {name.lower() for name in trusted}
    found: dict[str, list[_Result]] = {}
    told_by = ""
    for value in _trusted(data, names):
        new: dict[str, list[_Result]] = {}
        for result in _results(value):
            if result.method not in found:
                new.setdefault(result.method, []).append(result)
        found |= new
        if new and not told_by:
            told_by = _host(value)
    return _authentication(found, told_by, from_domain) if found else None


def is_full(told: Authentication) -> bool:
    """Whether nothing is left to be checked that matters: SPF, a signature's and DMARC's result."""
    return bool(told.spf and told.signatures and told.dmarc)


def completed(told: Authentication, own: Authentication) -> Authentication:
    """What was told, and of our own check what was not."""
    return Authentication(
        spf=told.spf or own.spf,
        spf_domain=told.spf_domain if told.spf else own.spf_domain,
        signatures=told.signatures or own.signatures,
        dmarc=told.dmarc or own.dmarc,
        policy=told.policy or own.policy,
        arc=told.arc or own.arc,
        sealer=told.sealer if told.arc else own.sealer,
        told_by=told.told_by,
    )


def _trusted(data: bytes, names: set[str]) -> Iterator[str]:
    """The values of the headers that the named hosts have set, the topmost first."""
    count = 0
    for name, value in headerfields.split(headerfields.head(data))[0]:
        if name.lower() == b"authentication-results" and len(value) <= VALUE and count < HEADERS:
            text = value.decode("utf-8", "replace")
            if _host(text) in names:
                count += 1
                yield text


def _host(value: str) -> str:
    match = _HOST.match(value)
    return match[1].strip('"').lower() if match else ""


# --- Understanding a header -----------------------------------------------------------------


def _results(value: str) -> Iterator[_Result]:
    """The results that a header tells and that mean something here."""
    parts = _parts(value)
    next(parts)  # the host
    for text, comments in parts:
        pairs = [(name.lower(), _unquoted(found)) for name, found in _PAIR.findall(text)]
        if not pairs:
            continue
        method = pairs[0][0].partition("/")[0]  # RFC 8601 2.2: `spf/1`
        result = _OLD.get(pairs[0][1].lower(), pairs[0][1].lower())
        if result in _RESULTS.get(method, ()):
            yield _Result(method, result, dict(reversed(pairs[1:])), tuple(comments))


def _parts(value: str) -> Iterator[tuple[str, list[str]]]:
    """What stands between semicolons, each without its comments, and these."""
    text: list[str] = []
    comments: list[str] = []
    comment: list[str] = []
    depth = 0
    for match in _PIECE.finditer(value):
        piece = match[0]
        if piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
            if not depth:
                comments.append("".join(comment))
                comment = []
                text.append(" ")
        elif depth:
            comment.append(piece)
        elif piece == ";":
            yield "".join(text), comments
            text, comments = [], []
        else:
            text.append(piece)
    if not depth:
        yield "".join(text), comments


def _unquoted(value: str) -> str:
    return _QUOTING.sub(r"\1", value) if value.startswith('"') else value


# --- What was told --------------------------------------------------------------------------


def _authentication(
    found: dict[str, list[_Result]], told_by: str, from_domain: str
) -> Authentication:
    spf = next(iter(found.get("spf", ())), None)
    arc = next(iter(found.get("arc", ())), None)
    # Of a mail with several From addresses each may have a result; only ours is wanted.
    dmarc = next((each for each in found.get("dmarc", ()) if _is_about(each, from_domain)), None)
    return Authentication(
        spf=spf.result if spf else "",
        spf_domain=_domain(spf, "smtp.mailfrom", "smtp.helo") if spf else "",
        signatures=tuple(_signatures(found.get("dkim", ()), from_domain)),
        dmarc=dmarc.result if dmarc else "",
        policy=_policy(dmarc) if dmarc else "",
        arc=arc.result if arc else "",
        told_by=told_by,
    )


def _signatures(results: Sequence[_Result], from_domain: str) -> Iterator[Signature]:
    for each in results[:SIGNATURES]:
        domain = _domain(each, "header.d", "header.i")
        if domain:
            yield Signature(
                domain=domain, result=each.result, aligned=is_aligned(domain, from_domain)
            )


def _domain(result: _Result, *properties: str) -> str:
    """The domain that the first of these properties names, which may be an address."""
    for each in properties:
        domain = result.properties.get(each, "").rpartition("@")[2].removesuffix(".").lower()
        if domain and is_host(domain):
            return domain
    return ""


def _is_about(result: _Result, from_domain: str) -> bool:
    domain = _domain(result, "header.from")
    return not domain or not from_domain or is_aligned(domain, from_domain)


def _policy(result: _Result) -> str:
    """The policy of the From domain, as properties or comments tell it; empty where they do not."""
    said = [value for name, value in result.properties.items() if name in _POLICY_PROPERTIES]
    said += [each for text in result.comments for each in _COMMENTED.findall(text)]
    return next((each.lower() for each in said if each.lower() in POLICIES), "")
