"""Message + Mail -> Facts: all that can be known of a message without asking anyone.

Plain functions over values; the only importer of publicsuffixlist.  What may not live here:
anything that opens a connection or a file of the mail's choosing, and the wording of the prompt.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

from rspamd_llm.domain import Facts, Finding, Flag, Link, Mail, Message

DETAIL_LIMIT = 120
"""Characters of a finding's detail: two domain names of common length."""

_ADDRESS = re.compile(r"[^\s@<>\"'(),;:]{1,64}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8})")
_SHOWN_DOMAIN = re.compile(
    r"^(?:https?://)?(?:[^\s/@]{1,60}@)?([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})(?:[:/?#]\S*)?$"
)
_PROGRAMS = {"exe", "scr", "com", "pif", "msi", "msix", "jar", "lnk", "cpl", "reg"}
_SCRIPTS = {"bat", "cmd", "ps1", "vbs", "vbe", "js", "jse", "wsf", "hta"}
_MACROS = {"docm", "xlsm", "pptm", "dotm", "xltm", "xll"}
_DISKS = {"iso", "img", "vhd", "vhdx"}  # Windows mounts them on a click, without a warning
_RUNS = frozenset(_PROGRAMS | _SCRIPTS | _MACROS | _DISKS)
# WHATWG URL 3.5: a host whose last label is a number is an IPv4 address, in whatever spelling.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.DOTALL)
_ARCHIVES = frozenset(("zip", "rar", "7z", "gz", "tgz", "bz2", "xz", "tar", "ace", "cab", "lzh"))
_PAGES = frozenset(("html", "htm", "xhtml", "shtml", "svg", "mht", "mhtml"))


@functools.cache
def _suffixes() -> PublicSuffixList:
    # The list that the package ships; it never goes to the network.
    return PublicSuffixList()


@functools.lru_cache(maxsize=4_096)
def registered_domain(host: str) -> str:
    """The registered domain (eTLD+1, private section included) of a host name, in ASCII.

    Empty for an address literal, a bare suffix and what is no host name.
    """
    host = host.strip().strip(".").lower()
    if not host or len(host) > 253 or _is_address(host):
        return ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    if not re.fullmatch(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", host):
        return ""
    return _suffixes().privatesuffix(host) or ""


def domain_of(address: str) -> str:
    """The registered domain of a mail address; empty where there is none."""
    return registered_domain(address.rpartition("@")[2]) if "@" in address else ""


def gather(message: Message, mail: Mail) -> Facts:
    """The Facts of a message.  Never raises."""
    sender = domain_of(mail.from_address)
    envelope = domain_of(message.envelope.sender.strip("<>"))
    replies = _unique(domain_of(address) for address in mail.reply_to)
    places = [_place(link.target) for link in mail.links]
    targets = _unique(registered_domain(place.host) for place in places)
    findings = [
        *_name_findings(mail, sender),
        *_link_findings(mail, places, sender, targets),
        *_file_findings(mail),
    ]
    if sender and (elsewhere := [domain for domain in replies if domain != sender]):
        findings.append(_finding(Flag.REPLY_ELSEWHERE, elsewhere[0]))
    if sender and envelope and envelope != sender:
        findings.append(_finding(Flag.ENVELOPE_ELSEWHERE, envelope))
    if not mail.from_address:
        findings.append(Finding(flag=Flag.SENDER_MISSING))
    if mail.to_count == 0:
        findings.append(Finding(flag=Flag.RECIPIENTS_HIDDEN))
    if mail.defects:
        findings.append(Finding(flag=Flag.DAMAGED))
    return Facts(
        sender_domain=sender,
        envelope_domain=envelope,
        reply_domains=replies,
        link_domains=targets,
        findings=tuple(findings),
    )


def _name_findings(mail: Mail, sender: str) -> list[Finding]:
    match = _ADDRESS.search(mail.from_name)
    if match is None:
        return []
    claimed = registered_domain(match.group(1))
    if claimed and claimed != sender:
        return [_finding(Flag.NAME_HAS_ADDRESS, claimed)]
    return []


def _link_findings(
    mail: Mail, places: list[_Place], sender: str, targets: tuple[str, ...]
) -> list[Finding]:
    findings: dict[Flag, Finding] = {}
    for link, place in zip(mail.links, places, strict=True):
        host = place.host
        if not host:
            continue
        shown, target = _shown_domain(link), registered_domain(host)
        if shown and target and shown != target:
            mismatch = _finding(Flag.LINK_MISMATCH, f"{shown} leads to {target}")
            findings.setdefault(Flag.LINK_MISMATCH, mismatch)
        if _is_address(host):
            findings.setdefault(Flag.LINK_ADDRESS, _finding(Flag.LINK_ADDRESS, host))
        if "xn--" in host or not host.isascii():
            findings.setdefault(Flag.LINK_PUNYCODE, _finding(Flag.LINK_PUNYCODE, host))
        if place.login:
            findings.setdefault(Flag.LINK_CREDENTIALS, _finding(Flag.LINK_CREDENTIALS, host))
    if sender and targets and sender not in targets:
        findings[Flag.LINKS_ELSEWHERE] = _finding(Flag.LINKS_ELSEWHERE, ", ".join(targets[:3]))
    return list(findings.values())


def _file_findings(mail: Mail) -> list[Finding]:
    kinds = (
        (Flag.ATTACHMENT_RUNS, _RUNS),
        (Flag.ATTACHMENT_ARCHIVE, _ARCHIVES),
        (Flag.ATTACHMENT_PAGE, _PAGES),
    )
    endings = [file.name.rpartition(".")[2].lower() for file in mail.attachments]
    return [
        _finding(flag, next(ending for ending in endings if ending in kind))
        for flag, kind in kinds
        if kind.intersection(endings)
    ]


def _finding(flag: Flag, detail: str) -> Finding:
    return Finding(flag=flag, detail=detail[:DETAIL_LIMIT])


def _unique(domains: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(domain for domain in domains if domain))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a link leads: its host in lower case, and whether login data stands before it."""

    host: str
    login: bool


_NOWHERE = _Place("", login=False)


def _place(url: str) -> _Place:
    """The place of an http or https URL; nowhere for other schemes and nonsense."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return _NOWHERE
        return _Place((parts.hostname or "").lower(), login="@" in parts.netloc)
    except ValueError:
        return _NOWHERE


def _shown_domain(link: Link) -> str:
    """The registered domain that a link's text shows, where the text is a host or a URL."""
    match = _SHOWN_DOMAIN.match(link.text.strip().lower())
    if match is None or not _has_suffix(match.group(1)):
        return ""
    return registered_domain(match.group(1))


def _has_suffix(host: str) -> bool:
    """Whether a name ends as domain names do: `invoice.pdf` and `v1.2b` do not."""
    is_reserved = host.rpartition(".")[2] in ("example", "test", "invalid")  # RFC 2606
    return is_reserved or bool(_suffixes().publicsuffix(host, accept_unknown=False))


@functools.lru_cache(maxsize=4_096)
def _is_address(host: str) -> bool:
    if _NUMERIC.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
