"""Message + Mail -> Facts: all that can be known of a message without asking anyone.

Plain functions over values.  What may not live here: names and how they resemble each other
(domains.py, brands.py), anything that opens a connection or a file of the mail's choosing, and the
wording of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rspamd_llm import brands, domains, spelling
from rspamd_llm.brands import Brand
from rspamd_llm.domain import (
    Attachment,
    Facts,
    Finding,
    Flag,
    Hiding,
    Link,
    Mail,
    Message,
    Trait,
)
from rspamd_llm.domains import Place, domain_of, registered_domain

DETAIL_LIMIT = 120
"""Characters of a finding's detail: two domain names of common length."""

OWN_LIMIT = 5
"""Domains of the recipients that others are compared with; a message has one or two."""

FILE_LINKS = 50
"""Links looked at of all attached files together; a document that lures has one."""

HIDDEN_LETTERS = 15
"""Letters of words that hidden text may have: a page's leftovers (`nbsp`, `View online`) have."""

TEXT_LETTERS = 40
"""Letters below which an image's mail says nothing itself: a greeting or `Sent from my phone`."""

PART_LETTERS = 100
"""Letters from which a part says something: two lines; a hint at the other part has fewer."""

PART_READ = 8_000
"""Characters read of each part to compare them; the beginning tells, and costs 0.4 ms."""

DATE_PAST, DATE_AHEAD = timedelta(days=7), timedelta(days=2)
"""A queue gives up after 5 days (RFC 5321 4.5.4.1); ahead are only wrong clocks and time zones."""

RANKING: tuple[Flag, ...] = (
    # What an honest sender does not do.
    Flag.SENDER_LOOKALIKE,
    Flag.LINK_LOOKALIKE,
    Flag.BRAND_ELSEWHERE,
    Flag.ATTACHMENT_BOMB,
    Flag.ATTACHMENT_RUNS,
    Flag.LINK_MIXED_SCRIPT,
    Flag.NAME_HAS_ADDRESS,
    Flag.LINK_MISMATCH,
    Flag.LINK_CREDENTIALS,
    Flag.SPELLING_EVADES,
    Flag.ADDRESSES_MODEL,
    Flag.TEXT_HIDDEN,
    Flag.LINK_ADDRESS,
    Flag.LINK_REDIRECT,
    Flag.ATTACHMENT_MISNAMED,
    Flag.ATTACHMENT_MACROS,
    Flag.ATTACHMENT_ENCRYPTED,
    # What few do.
    Flag.ATTACHMENT_PAGE,
    Flag.REPLY_ELSEWHERE,
    Flag.LINK_PUNYCODE,
    Flag.PARTS_DIFFER,
    Flag.LINK_SHORTENER,
    Flag.SENDER_MISSING,
    Flag.DATE_OFF,
    Flag.IMAGE_ONLY,
    Flag.ATTACHMENT_ARCHIVE,
    # What is common in wanted mail too.
    Flag.LINKS_ELSEWHERE,
    Flag.RECIPIENTS_HIDDEN,
    Flag.ENVELOPE_ELSEWHERE,
    Flag.DAMAGED,
)
"""The flags by weight, heaviest first."""

_RANK = {flag: rank for rank, flag in enumerate(RANKING)}

_ADDRESS = re.compile(r"[^\s@<>\"'(),;:]{1,64}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8})")
_SHOWN_DOMAIN = re.compile(
    r"^(?:https?://)?(?:[^\s/@]{1,60}@)?([\w-]{1,63}(?:\.[\w-]{1,63}){1,8})(?:[:/?#]\S*)?$"
)
_PROGRAMS = {"exe", "scr", "com", "pif", "msi", "msix", "jar", "lnk", "cpl", "reg"}
_SCRIPTS = {"bat", "cmd", "ps1", "vbs", "vbe", "js", "jse", "wsf", "hta"}
_MACROS = {"docm", "xlsm", "pptm", "dotm", "xltm", "xll"}
_DISKS = {"iso", "img", "vhd", "vhdx"}  # Windows mounts them on a click, without a warning
_RUNS = frozenset(_PROGRAMS | _SCRIPTS | _MACROS | _DISKS)
# By content (filetypes.py), whatever the name is.
_RUNS_FOUND = frozenset(("exe", "elf", "lnk", "script", "bat", "vbs", "class", "vhd", "iso", "hta"))
_ARCHIVES = frozenset(("zip", "rar", "7z", "gz", "tgz", "bz2", "xz", "tar", "ace", "cab", "lzh"))
_PAGES = frozenset(("html", "htm", "xhtml", "shtml", "svg", "mht", "mhtml"))
_TRAITS = (
    (Trait.MACROS, Flag.ATTACHMENT_MACROS),
    (Trait.ENCRYPTED, Flag.ATTACHMENT_ENCRYPTED),
    (Trait.BOMB, Flag.ATTACHMENT_BOMB),
)
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+"
)
# A word; of scripts that put no blanks between words, a sign.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+")
_LONG_WORD = re.compile(r"[^\W\d_]{2,}")


def gather(message: Message, mail: Mail, *, now: datetime | None = None) -> Facts:
    """The Facts of a message, its findings by weight.  Never raises.

    `now` is what the date is compared with; without it the date is not judged.
    """
    sender = domain_of(mail.from_address)
    envelope = domain_of(message.envelope.sender.strip("<>"))
    replies = _unique(domain_of(address) for address in mail.reply_to)
    links = [_Way(link, domains.place(link.target), "") for link in mail.links]
    targets = _unique(registered_domain(way.to.host) for way in links)
    in_files = _file_links(mail)
    claimed = _claimed(mail, sender)
    own = _own_domains(message)
    found: dict[Flag, Finding] = {}
    for finding in (
        *_sender_findings(mail, sender, claimed, own),
        *_way_findings((*links, *in_files), sender, claimed, own),
        *_elsewhere(sender, envelope, replies, links),
        *_file_findings(mail.attachments),
        *_text_findings(mail),
        *_header_findings(mail, now),
    ):
        found.setdefault(finding.flag, finding)
    return Facts(
        sender_domain=sender,
        envelope_domain=envelope,
        reply_domains=replies,
        link_domains=_unique((*targets, *(registered_domain(way.to.host) for way in in_files))),
        findings=tuple(sorted(found.values(), key=lambda finding: _RANK[finding.flag])),
    )


def prepare() -> None:
    """Load all tables now (some 60 ms): a reader of mail can open no file."""
    domains.prepare()
    brands.prepare()


# --- The sender -----------------------------------------------------------------------------


def _claimed(mail: Mail, sender: str) -> Brand | None:
    """The brand that a mail says it is from; in subjects of private senders it is a topic."""
    brand = brands.claimed_in_name(spelling.undo(mail.from_name).text)
    if brand is None and not mail.reply and not domains.is_free_mail(sender):
        brand = brands.claimed_in_subject(spelling.undo(mail.subject).text)
    return brand


def _own_domains(message: Message) -> tuple[str, ...]:
    """The recipients' own domains: not those where everybody gets an address."""
    several = _unique(
        domain_of(address.strip("<>")) for address in message.envelope.recipients[:50]
    )
    return tuple(domain for domain in several if not domains.is_free_mail(domain))[:OWN_LIMIT]


def _sender_findings(
    mail: Mail, sender: str, claimed: Brand | None, own: tuple[str, ...]
) -> Iterator[Finding]:
    match = _ADDRESS.search(mail.from_name)
    if match is not None:
        named = registered_domain(match.group(1))
        if named and named != sender:
            yield _finding(Flag.NAME_HAS_ADDRESS, named)
    if not sender:
        return
    if claimed is not None and not brands.owns(claimed, sender):
        yield _finding(Flag.BRAND_ELSEWHERE, f"{claimed.name}, from {_with_kind(sender)}")
    meant = "" if domains.is_free_mail(sender) else brands.lookalike(sender, own, claimed)
    if meant:
        yield _finding(Flag.SENDER_LOOKALIKE, _resembles(sender, meant, own))


def _resembles(host: str, meant: str, own: tuple[str, ...]) -> str:
    whose = "the recipient's " if meant in own else ""
    return f"{domains.shown(host)[-60:]} resembles {whose}{meant}"


def _with_kind(domain: str) -> str:
    return f"{domain} (free mail)" if domains.is_free_mail(domain) else domain


def _elsewhere(
    sender: str, envelope: str, replies: tuple[str, ...], links: list[_Way]
) -> Iterator[Finding]:
    """What leaves the sender's domain."""
    if not sender:
        return
    if others := [domain for domain in replies if domain != sender]:
        yield _finding(Flag.REPLY_ELSEWHERE, _with_kind(others[0]))
    if envelope and envelope != sender:
        yield _finding(Flag.ENVELOPE_ELSEWHERE, envelope)
    targets = _unique(registered_domain(way.to.host) for way in links)
    if sender not in targets:
        # A service that counts clicks, or checks them, hides where a link leads: no elsewhere.
        named = (way.to.host for way in links if not domains.is_between(way.to.host))
        if others := [*_unique(map(registered_domain, named))]:
            yield _finding(Flag.LINKS_ELSEWHERE, ", ".join(others[:3]))


# --- Links ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """A link, where it leads, and what to say of where it stands."""

    link: Link
    to: Place
    where: str


def _file_links(mail: Mail) -> tuple[_Way, ...]:
    targets = [target for file in mail.attachments for target in file.links][:FILE_LINKS]
    links = (Link(text="", target=target) for target in dict.fromkeys(targets))
    return tuple(_Way(link, domains.place(link.target), " (in a file)") for link in links)


def _way_findings(
    ways: tuple[_Way, ...], sender: str, claimed: Brand | None, own: tuple[str, ...]
) -> Iterator[Finding]:
    hosts: set[str] = set()
    for way in ways:
        to = way.to
        if not to.host:
            continue
        if to.host not in hosts:
            hosts.add(to.host)
            for flag, detail in _host_findings(to.host, claimed, own):
                yield _finding(flag, detail + way.where)
        if shown := _shown_domain(way.link):
            target = registered_domain(to.host)
            if target and shown != target:
                yield _finding(Flag.LINK_MISMATCH, f"{shown} leads to {target}{way.where}")
        if to.login:
            yield _finding(Flag.LINK_CREDENTIALS, to.host + way.where)
        if domains.services("shorteners").has(to.host, to.rest):
            yield _finding(Flag.LINK_SHORTENER, to.host + way.where)
        if onward := domains.redirect(to, sender):
            by = registered_domain(to.host)
            yield _finding(Flag.LINK_REDIRECT, f"{by} leads on to {onward}{way.where}")


def _host_findings(
    host: str, claimed: Brand | None, own: tuple[str, ...]
) -> Iterator[tuple[Flag, str]]:
    if domains.is_address(host):
        yield Flag.LINK_ADDRESS, host
    if "xn--" in host or not host.isascii():
        yield Flag.LINK_PUNYCODE, host
    if label := domains.mixed_label(host):
        yield Flag.LINK_MIXED_SCRIPT, label
    if meant := brands.lookalike(host, own, claimed):
        yield Flag.LINK_LOOKALIKE, _resembles(host, meant, own)


def _shown_domain(link: Link) -> str:
    """The registered domain that a link's text shows, where the text is a host or a URL."""
    if "." not in link.text:
        return ""
    match = _SHOWN_DOMAIN.match(link.text.strip().lower())
    if match is None or not domains.has_suffix(match.group(1)):
        return ""
    return registered_domain(match.group(1))


# --- Files ----------------------------------------------------------------------------------


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _file_findings(files: tuple[Attachment, ...]) -> Iterator[Finding]:
    for file in files:
        ending = _ending(file.name) or file.name.lower()
        if ending in _RUNS:
            yield _finding(Flag.ATTACHMENT_RUNS, ending)
        elif file.found in _RUNS_FOUND:
            yield _finding(Flag.ATTACHMENT_RUNS, f"{file.found} by its content")
        for member in file.members:
            if (inner := _ending(member)) in _RUNS:
                yield _finding(Flag.ATTACHMENT_RUNS, f"{inner} in an archive")
        if ending in _ARCHIVES:
            yield _finding(Flag.ATTACHMENT_ARCHIVE, ending)
        if ending in _PAGES:
            yield _finding(Flag.ATTACHMENT_PAGE, ending)
        for trait, flag in _TRAITS:
            if trait in file.traits:
                yield _finding(flag, ending[:20] or file.found)
        if Trait.MISNAMED in file.traits:
            named = ending[:20] or file.type
            yield _finding(Flag.ATTACHMENT_MISNAMED, f"{file.found or 'other'} named {named}")


# --- Text -----------------------------------------------------------------------------------


def _text_findings(mail: Mail) -> Iterator[Finding]:
    if mail.hidings and _is_hiding(mail):
        yield _finding(Flag.TEXT_HIDDEN, ", ".join(mail.hidings))
    for where, text in (("name", mail.from_name), ("subject", mail.subject), ("text", mail.text)):
        if spelling.undo(text[: spelling.LIMIT]).evades:
            yield _finding(Flag.SPELLING_EVADES, f"in the {where}")
    if mail.plain != mail.text and _differ(mail.plain[:PART_READ], mail.text[:PART_READ]):
        yield _finding(Flag.PARTS_DIFFER, "")
    pictures = sum(file.type.lower().startswith("image/") for file in mail.attachments)
    if (pictures or mail.images) and _letters(mail.text) < TEXT_LETTERS:
        yield _finding(Flag.IMAGE_ONLY, "")


def _is_hiding(mail: Mail) -> bool:
    if {Hiding.INVISIBLE_SIGNS, Hiding.BIDI} & {*mail.hidings}:
        return True
    if {*mail.hidings} <= {Hiding.COMMENT}:
        return False  # templates and editors leave them: two in three newsletters have some
    return sum(map(len, _LONG_WORD.findall(mail.hidden[:2_000]))) > HIDDEN_LETTERS


def _letters(text: str) -> int:
    """The letters at a text's beginning, as far as the limits here ask."""
    return sum(map(str.isalpha, text[: 10 * PART_LETTERS]))


def _differ(one: str, other: str) -> bool:
    """Whether two parts that both say something share less than a third of the shorter's words.

    Both tell the same tale in different detail: the shorter is to be found in the longer.
    """
    if min(_letters(one), _letters(other)) <= PART_LETTERS:
        return False
    words = {*_WORD.findall(one.lower())}, {*_WORD.findall(other.lower())}
    return len(words[0] & words[1]) * 3 < min(map(len, words))


# --- Header ---------------------------------------------------------------------------------


def _header_findings(mail: Mail, now: datetime | None) -> Iterator[Finding]:
    if not mail.from_address:
        yield _finding(Flag.SENDER_MISSING, "")
    if mail.to_count == 0:
        yield _finding(Flag.RECIPIENTS_HIDDEN, "")
    if mail.defects:
        yield _finding(Flag.DAMAGED, "")
    if now is not None and mail.date is not None:
        # A date without a zone is taken for UTC (RFC 5322 3.3 wants one).
        date = mail.date if mail.date.tzinfo else mail.date.replace(tzinfo=UTC)
        now = now if now.tzinfo else now.replace(tzinfo=UTC)
        if not -DATE_PAST <= date - now <= DATE_AHEAD:
            days = (date - now).days
            yield _finding(Flag.DATE_OFF, f"{abs(days)} days {'ahead' if days > 0 else 'ago'}")


def _finding(flag: Flag, detail: str) -> Finding:
    detail = _UNSAFE.sub(" ", detail[: 2 * DETAIL_LIMIT])
    return Finding(flag=flag, detail=detail.strip()[:DETAIL_LIMIT])


def _unique(several: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(domain for domain in several if domain))
