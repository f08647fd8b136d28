"""What leaves the machine, proven over mail of all kinds with everything switched on.

The parts are put together as the daemon does it, but for the outermost edges: what would go to
name servers, the search engine and registries is recorded and answered here.  What may be asked is
worked out here once more, from the mail and the RFCs, without the code that asks.
"""

from __future__ import annotations

import asyncio
import email.parser
import ipaddress
import re
import ssl
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn

import dns.asyncresolver
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from publicsuffixlist import PublicSuffixList

from rspamd_llm import config, domains, facts, lookups
from rspamd_llm import mail as reader
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Deadline, Envelope, EvidenceError, Facts, Mail, Message
from rspamd_llm.evidence import network, registries
from rspamd_llm.evidence.fetch import Fetcher, Reply
from rspamd_llm.store import MemoryStore

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parents[1] / "shared" / "corpus"
KEY = (HERE / "data" / "dkim" / "key.txt").read_text(encoding="utf-8").strip()
PARTS = 8
MAX_DOMAINS = 3
LOOKED_UP = 4
MAX_BODY = 1_000_000
LONG = 300.0

SEARXNG = "http://searx.house.example:8888"
RDAP = "https://rdap.registry.example/"
CONTROL = "wikipedia.org"
RECIPIENT = "quentin.zz9plural@mail.house.example"
"""Of every mail, beside the first address of its To header."""
OWN = ("house.example", "www.sourceforge.net")
"""The second is linked to by many mails of the corpus."""
LOCAL = "bounce-4711+quentin.zz9plural=house.example"
"""Of envelope senders: as mailing services write their victims' addresses into it."""
FREE_MAIL = {"gmail.com", "googlemail.com", "yahoo.com", "hotmail.com", "outlook.com", "gmx.de"}
MARK = "zz9plural"
"""What both have in them, and no mail of the corpus."""
CLIENTS = ("9.20.30.40", "2a01:4f8::25")

_ALL = PublicSuffixList()
_ICANN = PublicSuffixList(only_icann=True)
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")
_TAG = re.compile(rb"(?:^|;)\s*([a-z]+)\s*=([^;]*)")
_LINE_END = re.compile(rb"\r?\n")
_AT = re.compile(r"@([^\s<>()\",;:@]+)")


# --- The edges --------------------------------------------------------------------------------


@dataclass
class Outside:
    """The world: all that it was asked about one mail, and what it answers."""

    names: list[tuple[str, str]] = field(default_factory=list)
    urls: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def resolve(self, name: dns.name.Name, kind: str, **_: Any) -> dns.resolver.Answer:
        """In place of dnspython's resolver, which would send the question."""
        text = name.to_text(omit_final_dot=True)
        self.names.append((text, kind))
        response = dns.message.make_response(dns.message.make_query(name, kind))
        chance = zlib.crc32(text.encode())
        if chance % 13 == 0:
            raise dns.resolver.LifetimeTimeout(timeout=0, errors=[])  # type: ignore[no-untyped-call]
        if chance % 7 == 0:
            response.set_rcode(dns.rcode.NXDOMAIN)
            told = {name: response}
            raise dns.resolver.NXDOMAIN(qnames=[name], responses=told)  # type: ignore[no-untyped-call]
        data = records(text, kind)
        rdtype, rdclass = dns.rdatatype.from_text(kind), dns.rdataclass.IN
        if data:
            # By find_rrset, for what is merely put into the section is not found there.
            section = response.find_rrset(response.answer, name, rdclass, rdtype, create=True)
            section.update(dns.rrset.from_text_list(name, 300, rdclass, rdtype, data))  # type: ignore[no-untyped-call]
        return dns.resolver.Answer(name, rdtype, rdclass, response)  # type: ignore[arg-type]

    async def json(self, url: str, params: Mapping[str, str] | None = None, **_: Any) -> Reply:
        """In place of the request that would be sent."""
        if url == registries.LIST_URL:
            return Reply(200, "", bootstrap())
        self.urls.append((url, params or {}))
        if url.startswith(RDAP):
            domain = url.rpartition("/")[2]
            return Reply(200, "", {"objectClassName": "domain", "ldhName": domain})
        words = (params or {}).get("q", "")
        is_known = words == CONTROL or zlib.crc32(words.encode()) % 5 > 0
        page = {"title": f"About {words}", "url": f"https://www.{words}/", "content": "Words"}
        return Reply(200, "", {"results": [page] if is_known else []})


def records(name: str, kind: str) -> list[str]:
    """What DNS holds: for every name all that makes the checks ask for more."""
    if kind == "TXT":
        return [
            " ".join(f'"{part}"' for part in re.findall(".{1,255}", each)) for each in texts(name)
        ]
    if kind == "PTR":
        return ["client.reverse.example.", "other.reverse.example."]
    if kind == "MX":
        return [f"10 mx.{name}."] if zlib.crc32(name.encode()) % 3 and len(name) < 200 else []
    if name.startswith(("client.", "postmaster.")):
        return []
    return ["203.0.113.5"] if kind == "A" else ["2001:db8::5"]


def texts(name: str) -> list[str]:
    if "._domainkey." in name:
        return [KEY]
    if name.startswith("_dmarc."):
        return ["v=DMARC1; p=quarantine; rua=mailto:reports@dmarc.example"]
    if name.startswith("_spf."):
        return ["v=spf1 ip4:198.51.100.0/24 ~all"]
    wants = f"mx a:mail.{name} include:_spf.{name} exists:%{{l}}.%{{i}}.limit.%{{d}}"
    return [f"v=spf1 {wants} ?exists:%{{L}}.%{{o}} -all", "site-verification=x"]


@cache
def bootstrap() -> dict[str, Any]:
    tops = ["com", "net", "org", "info", "biz", "io", "us", "uk", "de", "fr", "jp", "example"]
    return {"version": "1.0", "services": [[tops, [RDAP]]]}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    """The recorder, with nothing left that could reach further."""
    made = Outside()

    async def resolve(_: object, *asked: Any, **named: Any) -> dns.resolver.Answer:
        return await made.resolve(*asked, **named)

    async def json(_: object, url: str, **named: Any) -> Reply:
        return await made.json(url, **named)

    async def connect(_: object, host: str, *__: object, **___: object) -> NoReturn:
        made.urls.append((f"a connection to {host}", {}))
        raise EvidenceError("nothing is reached from here")

    trusted = ssl.create_default_context()  # once: each takes 20 ms
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusted)
    monkeypatch.setattr(dns.asyncresolver.Resolver, "resolve", resolve)
    monkeypatch.setattr(Fetcher, "json", json)
    monkeypatch.setattr(network.Network, "connect_tcp", connect)
    return made


CONFIG = config.parse(
    {
        "evidence": {"timeout": LONG, "own_domains": [*OWN]},
        "search": {"provider": "searxng", "url": SEARXNG, "max_domains": MAX_DOMAINS},
    }
)


# --- What may be asked --------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A mail as it comes in."""

    message: Message
    mail: Mail
    facts: Facts

    @cached_property
    def header(self) -> list[tuple[str, bytes]]:
        """Its fields, as a mail server tells a milter of them."""
        fields = email.parser.BytesHeaderParser().parsebytes(self.message.data)
        return [
            (name.lower(), _LINE_END.sub(b"\r\n", str(value).encode("utf-8", "surrogateescape")))
            for name, value in fields.raw_items()
        ]

    def values(self, *names: str) -> list[bytes]:
        """The values of all fields of these names."""
        return [value for name, value in self.header if name in names]


def case(data: bytes, number: int) -> Case:
    to = re.search(rb"(?im)^(?:to|delivered-to):.*?([^\s<>\"@,;:]+@[a-z0-9.-]+)", data[:50_000])
    named = [to[1].decode("latin-1")] if to else []
    envelope = Envelope(
        client_address=CLIENTS[number % 2],
        client_name=("", "[unknown]", "mail.client.example")[number % 3],
        helo=f"helo{number % 10}.client.example",
        sender=f"<{LOCAL}@{return_domain(data)}>" if number % 4 else "<>",
        recipients=(f"<{RECIPIENT}>", *(f"<{address}>" for address in named)),
        recipient_count=1 + len(named),
    )
    message = Message(envelope=envelope, data=data[:MAX_BODY], size=len(data))
    mail = reader.read(message.data, truncated=message.size > MAX_BODY)
    return Case(message, mail, facts.gather(message, mail))


def return_domain(data: bytes) -> str:
    found = re.search(rb"(?im)^(?:return-path|from):.*@([a-z0-9.-]+\.[a-z]+)", data[:50_000])
    return found[1].decode() if found else "sender.example"


def ascii_host(host: str) -> str:
    host = host.strip().strip(".").lower()
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def registered(host: str) -> str:
    return _ALL.privatesuffix(ascii_host(host)) or ""


def permitted(one: Case) -> set[str]:
    """All names that the RFCs and the facts of the sender's domain call for."""
    envelope = one.message.envelope
    sender = envelope.sender.strip("<>")
    spf = ascii_host(sender.rpartition("@")[2] if sender else envelope.helo)
    client = ipaddress.ip_address(envelope.client_address)
    # RFC 7208 7.3: the address as %{i} writes it.
    digits = client.exploded.replace(":", "")
    dotted = str(client) if client.version == 4 else ".".join(digits)
    names = {spf, f"_spf.{spf}", f"mail.{spf}", f"mx.{spf}", f"postmaster.{spf}"}
    names.add(f"postmaster.{dotted}.limit.{spf}")
    names |= {client.reverse_pointer, "client.reverse.example", "other.reverse.example"}
    for value in one.values("dkim-signature", "arc-seal", "arc-message-signature"):
        tags = {name: b"".join(text.split()).decode() for name, text in _TAG.findall(value)}
        names.add(f"{tags.get(b's')}._domainkey.{tags.get(b'd')}".lower())
    # The From address as the reader has it, and as a look at the raw field may have it before;
    # the recipients' own domain only where it is no part of another sender's name.
    written = {*_AT.findall(b" ".join(one.values("from")).decode("utf-8", "replace"))}
    others = {each for each in written if registered(each) not in house(one)}
    for domain in map(ascii_host, {*(others or written), one.mail.from_address.rpartition("@")[2]}):
        above = registered(domain)
        names |= {f"_dmarc.{domain}", f"_dmarc.{above}", above, f"mx.{above}"}
    return names


def house(one: Case) -> set[str]:
    """The registered domains of the recipients, and the operator's own."""
    recipients = (address.strip("<>") for address in one.message.envelope.recipients)
    return {registered(each.rpartition("@")[2]) for each in recipients} | {*map(registered, OWN)}


def candidates(one: Case) -> set[str]:
    """The registered domains of sender, replies and links."""
    targets = [link.target for link in one.mail.links]
    targets += [target for file in one.mail.attachments for target in file.links]
    hosts = {domains.place(target).host for target in targets}
    found = {one.facts.sender_domain, *one.facts.reply_domains, *map(registered, hosts)}
    return found - {""}


# --- The proof ----------------------------------------------------------------------------------


async def asked(one: Case, outside: Outside) -> Outside:
    """What is asked about one mail, from the end of its header on."""
    outside.names.clear()
    outside.urls.clear()
    started = await lookups.start(CONFIG, api_key="", store=MemoryStore(), counters=Counters())
    try:
        head = b"".join(b"%b:%b\r\n" % (name.encode(), value) for name, value in one.header)
        early = Message(envelope=one.message.envelope, data=head + b"\r\n", size=len(head))
        await started.gatherer.begin(early)
        inquiry = started.gatherer.inquire(one.message, one.mail, one.facts, Deadline.after(LONG))
        await inquiry.evidence()
    finally:
        await started.stop()
    return outside


def words(outside: Outside) -> list[str]:
    """What the search engine was asked for, but for the control query."""
    several = [params["q"] for url, params in outside.urls if url.startswith(SEARXNG)]
    return [each for each in several if each != CONTROL]


def looked_up(outside: Outside) -> list[str]:
    """What registries were asked for."""
    return [url.removeprefix(f"{RDAP}domain/") for url, _ in outside.urls if url.startswith(RDAP)]


def faults(one: Case, outside: Outside) -> Iterator[str]:
    """Whatever was asked that must not be, in words."""
    yield from faults_of_requests(outside)
    yield from faults_of_domains(one, words(outside))
    yield from faults_of_domains(one, looked_up(outside))
    required = permitted(one)
    for name, _ in outside.names:
        if name not in required:
            yield f"{name} is of no use to any check"
        if MARK in name and MARK.encode() not in one.message.data:
            yield f"{name} holds what the envelope's addresses alone know"


def faults_of_requests(outside: Outside) -> Iterator[str]:
    """What is wrong with the requests, whichever domain they are about."""
    for url, params in outside.urls:
        if url == f"{SEARXNG}/search":
            if params.keys() != {"q", "format"} or params["format"] != "json":
                yield f"a search tells more than its words: {params}"
        elif params or not url.startswith(f"{RDAP}domain/"):
            yield f"a request that nothing calls for: {url} {params}"
    searched, registrations = words(outside), looked_up(outside)
    if len(searched) > MAX_DOMAINS or len(outside.urls) > len(registrations) + MAX_DOMAINS + 1:
        yield f"too many searches: {outside.urls}"
    if len(registrations) > LOOKED_UP:
        yield f"too many registrations: {registrations}"
    for domain in registrations:
        if _ICANN.privatesuffix(domain) != domain:
            yield f"{domain} has no registration of its own"


def faults_of_domains(one: Case, several: list[str]) -> Iterator[str]:
    """What is wrong with the domains that one source was asked about."""
    if one.facts.sender_domain in several[1:]:
        yield f"the sender is not the first of {several}"
    for domain in several:
        if not _NAME.fullmatch(domain) or registered(domain) != domain:
            yield f"{domain} is not a registered domain"
        if domain in FREE_MAIL or domains.is_free_mail(domain):
            yield f"{domain} is a free-mail provider's"
        if domain in house(one):
            yield f"{domain} is the recipients' or our own"
        if domain not in candidates(one):
            yield f"{domain} is not in the mail"


async def proven(mails: Iterable[tuple[str, bytes]], outside: Outside) -> Counter[str]:
    """Asks about all mails and finds nothing wrong; what was asked of what kind, and held back."""
    count: Counter[str] = Counter()
    for number, (name, data) in enumerate(mails):
        one = case(data, number)
        await asked(one, outside)
        found = [*faults(one, outside)]
        assert not found, f"{name}: {found}"
        names = [each for each, _ in outside.names]
        count["searches"] += len(words(outside))
        count["registrations"] += len(looked_up(outside))
        count["held back"] += len(candidates(one) & (house(one) | FREE_MAIL))
        count["keys"] += sum("._domainkey." in each for each in names)
        count["policies"] += sum(each.startswith("_dmarc.") for each in names)
        count["included"] += sum(each.startswith("_spf.") for each in names)
        count["macros"] += sum(each.startswith("postmaster.") for each in names)
        count["reverse"] += sum(kind == "PTR" for _, kind in outside.names)
    return count


@pytest.mark.corpus
@pytest.mark.parametrize("part", range(PARTS))
def test_no_mail_of_the_corpus_makes_more_leave_than_it_must(part: int, outside: Outside) -> None:
    if not CORPUS.is_dir():
        pytest.skip("no shared/corpus beside the project")
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file())[part::PARTS]
    count = asyncio.run(proven(((str(path), path.read_bytes()) for path in files), outside))
    # Every way out was taken, often enough for the proof to mean something.
    least = len(files) // 10
    assert count.pop("keys") > least // 4
    assert min(count.values()) > least, count


HOSTILE = {
    "a beacon for each victim": """\
DKIM-Signature: v=1; a=rsa-sha256; d=Mail.click.example; s=zz9plural;
 i=quentin.zz9plural@click.example; h=from; bh=x; b=x
From: "quentin.zz9plural@mail.house.example" <news@zz9plural.mailer.example>
Reply-To: quentin.zz9plural@replies.example
Subject: quentin zz9plural

https://zz9plural.v-77.beacon.example/zz9plural?to=quentin.zz9plural@mail.house.example
https://zz9plural@login.example/
""",
    "the recipients' own domain in every place": """\
From: "Boss" <boss@www.house.example>
Reply-To: <boss@mail.house.example>
Sender: <x@house.example>

https://intranet.house.example/ https://www.sourceforge.net/ https://real.example/
""",
    "a customer of a shared host, a bare suffix, addresses, private names": """\
From: Someone <a@someone.github.io>

https://other.github.io/x http://co.uk/ http://203.0.113.9/ http://nas.lan/ http://[::1]/
https://sub.shop.co.uk/ https://a.b.c.d.evil.example/
""",
    "several senders, an unfinished one, letters of other scripts": """\
From: <a@first.example>, "x" <b@second.example> (c@third.example),
 d@b\u00fccher.example, e@mail.under_score.example

https://xn--bcher-kva.example/ https://www.b\u00fccher.example/
""",
    "free mail": """\
From: <bob@gmail.com>
Reply-To: <bob@yahoo.com>

https://mail.yahoo.com/ https://outlook.com/ mailto:bob@hotmail.com
""",
}


def test_no_mail_of_our_own_makes_more_leave_than_it_must(outside: Outside) -> None:
    paths = sorted((HERE / "data").rglob("*.eml"))
    mails = [(path.name, path.read_bytes()) for path in paths]
    mails += [(name, text.encode()) for name, text in HOSTILE.items()]
    count = asyncio.run(proven(mails * 4, outside))
    assert min(count.values()) > 0, count


def test_what_the_hostile_mails_do_let_out(outside: Outside) -> None:
    """That the proof above is not one about nothing."""

    def about(name: str) -> tuple[list[str], list[str]]:
        asyncio.run(asked(case(HOSTILE[name].encode(), 1), outside))
        return words(outside), looked_up(outside)

    beacon, of_house, shared, several, free = map(about, HOSTILE)
    assert beacon[0] == ["mailer.example", "beacon.example", "login.example"]
    assert beacon[1] == [*beacon[0], "replies.example"]
    assert of_house == (["real.example"], ["real.example"])
    assert shared[0] == ["someone.github.io", "other.github.io", "shop.co.uk"]
    assert shared[1] == ["shop.co.uk", "evil.example"]
    assert several[0] == ["first.example", "xn--bcher-kva.example"]
    assert free == ([], [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("www.mailer.example", "registered domain"),
        ("quentin@mailer.example", "registered domain"),
        ("Acme mailer.example", "registered domain"),
        ("gmail.com", "free-mail"),
        ("house.example", "recipients"),
        ("sourceforge.net", "our own"),
        ("elsewhere.example", "not in the mail"),
    ],
)
def test_the_proof_finds_what_must_not_leave(words: str, told: str) -> None:
    one = case(HOSTILE["a beacon for each victim"].encode(), 1)
    search = (f"{SEARXNG}/search", {"q": words, "format": "json"})
    assert any(told in fault for fault in faults(one, Outside(urls=[search])))
    assert any(
        told in fault for fault in faults(one, Outside(urls=[(f"{RDAP}domain/{words}", {})]))
    )


@pytest.mark.parametrize(
    "name", ["house.example", "beacon.example", "v-77.beacon.example", "quentin.mailer.example"]
)
def test_the_proof_finds_names_that_dns_must_not_be_asked(name: str) -> None:
    one = case(HOSTILE["a beacon for each victim"].encode(), 1)
    assert [*faults(one, Outside(names=[(name, "A")]))]
