"""The lines that a model reads of what was looked up."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from rspamd_llm.domain import (
    Authentication,
    DomainRecords,
    Envelope,
    Evidence,
    Facts,
    Page,
    Registration,
    ReverseName,
    Signature,
    Source,
)
from rspamd_llm.evidence import words

NOBODY = Envelope()
TODAY = date(2026, 11, 22)
FACTS = Facts(sender_domain="acme.example", link_domains=("pay.example",))


def known(evidence: Evidence, facts: Facts = FACTS, sent: Envelope = NOBODY) -> list[str]:
    return [*words.known(evidence, facts, sent)]


def test_nothing_looked_up_and_nothing_known_is_no_line() -> None:
    assert known(Evidence()) == []


def test_what_our_lists_know_is_told_without_looking_anything_up() -> None:
    facts = Facts(sender_domain="gmail.com", link_domains=("bit.ly", "acme.example"))
    assert known(Evidence(), facts) == [
        "Known domains: gmail.com is a free-mail provider, bit.ly is a link shortener"
    ]


def test_a_correspondent_comes_first() -> None:
    found = Evidence(is_correspondent=True, missing=(Source.WEB,))
    assert known(found)[1] == (
        "The recipient has written to this address before, and it is authenticated"
    )


def test_authentication_names_who_vouches_for_what() -> None:
    found = Authentication(
        spf="pass",
        spf_domain="bounce.mailer.example",
        signatures=(
            Signature(domain="mail.acme.example", result="pass", aligned=True),
            Signature(domain="mailer.example", result="fail"),
        ),
        dmarc="pass",
        policy="reject",
        arc="pass",
        sealer="list.example",
    )
    assert known(Evidence(authentication=found)) == [
        "DMARC: pass (policy reject)",
        "SPF: pass for mailer.example",
        "DKIM: pass by acme.example",
        "DKIM: fail by mailer.example, not the From domain",
        "ARC: pass by list.example",
    ]


def test_authentication_that_tells_nothing_is_no_line() -> None:
    assert known(Evidence(authentication=Authentication())) == []


def test_the_client_and_its_name() -> None:
    sent = Envelope(client_address="192.0.2.7", helo="mx.acme.example")
    named = replace(sent, client_name="mx.acme.example")
    unnamed = Envelope(client_address="192.0.2.7", client_name="[192.0.2.7]")
    confirmed = Evidence(reverse=ReverseName(name="a.acme.example", confirmed=True))
    lying = Evidence(reverse=ReverseName(name="a.acme.example", confirmed=False))
    told = "Sent by: [192.0.2.7], "
    assert known(Evidence(), sent=named) == [f"{told}name acme.example, HELO acme.example"]
    assert known(confirmed, sent=sent) == [f"{told}name acme.example, HELO acme.example"]
    assert known(lying, sent=sent) == [f"{told}unconfirmed name acme.example, HELO acme.example"]
    assert known(Evidence(), sent=sent) == ["Sent by: [192.0.2.7], HELO acme.example"]
    assert known(Evidence(reverse=ReverseName()), sent=replace(sent, helo="")) == [
        f"{told}no confirmed name"
    ]
    assert known(Evidence(), sent=unnamed) == [f"{told}no confirmed name"]


def test_dns() -> None:
    full = DomainRecords(exists=True, mail=True, spf=True, dmarc="reject")
    assert known(Evidence(records=full)) == [
        "Sender's domain in DNS: takes mail, has SPF, DMARC policy reject"
    ]
    assert known(Evidence(records=DomainRecords(exists=True))) == [
        "Sender's domain in DNS: takes no mail"
    ]
    assert known(Evidence(records=DomainRecords(exists=False))) == [
        "Sender's domain in DNS: does not exist"
    ]


def test_ages_and_what_the_web_does_not_know() -> None:
    found = Evidence(
        day=TODAY,
        registrations={
            "acme.example": Registration(found=True, created=date(2009, 3, 4)),
            "pay.example": Registration(found=True, created=date(2026, 11, 19)),
            "new.example": Registration(found=True, created=date(2026, 11, 21)),
            "gone.example": Registration(found=False),
            "odd.example": Registration(found=True),
        },
        web={"acme.example": (Page(title="Acme", host="acme.example"),), "pay.example": ()},
        missing=(Source.DNS, Source.WEB),
    )
    assert known(found) == [
        "Not found out in time: dns, web",
        "Registered: acme.example 2009-03",
        "Registered: pay.example 3 days ago",
        "The web knows nothing of: pay.example",
        "Registered: new.example 1 day ago",
        "Registered: gone.example is not registered",
        "Registered: odd.example at an unknown date",
    ]


def test_others_words_stand_apart_by_domain() -> None:
    found = Evidence(
        web={
            "acme.example": (
                Page(title="Acme Letting", host="www.acme.example", snippet="Homes in Leeds"),
                Page(title="Acme on Maps", host="maps.example"),
            ),
            "pay.example": (),
        },
        registrations={"acme.example": Registration(found=True, registrar="Names Ltd")},
        named=(Page(title="Who is Acme", host="who.example", snippet="They let homes"),),
    )
    assert words.told(found) == [
        'acme.example: "Acme Letting" at www.acme.example: Homes in Leeds; '
        '"Acme on Maps" at maps.example; registrar Names Ltd',
        'The sender\'s name: "Who is Acme" at who.example: They let homes',
    ]
    assert words.told(Evidence(web={"pay.example": ()})) == []


def test_what_weighs_against_a_mail() -> None:
    bad = Evidence(
        day=TODAY,
        registrations={
            "acme.example": Registration(found=True, created=date(2026, 11, 19)),
            "pay.example": Registration(found=False),
            "old.example": Registration(found=True, created=date(2001, 1, 1)),
        },
        records=DomainRecords(exists=False),
        authentication=Authentication(dmarc="fail"),
        web={"acme.example": (), "pay.example": ()},
    )
    assert words.warnings(bad, FACTS) == (
        "the sender's domain was registered 3 days ago",
        "a link's domain is not registered",
        "the sender's domain does not exist",
        "the sender's domain did not authenticate this mail",
        "the web knows nothing of the sender's domain",
    )
    good = Evidence(
        day=TODAY,
        registrations={"acme.example": Registration(found=True, created=date(2001, 1, 1))},
        records=DomainRecords(exists=True),
        authentication=Authentication(dmarc="pass"),
        web={"acme.example": (Page(title="Acme", host="acme.example"),)},
    )
    assert words.warnings(good, FACTS) == words.warnings(Evidence(), FACTS) == ()


def test_a_warning_names_the_domain_for_replies_as_such() -> None:
    young = Registration(found=True, created=date(2026, 11, 19))
    evidence = Evidence(day=TODAY, registrations=dict.fromkeys(("r.example", "l.example"), young))
    facts = Facts(
        sender_domain="acme.example",
        reply_domains=("r.example", "l.example"),
        link_domains=("l.example",),
    )
    assert words.warnings(evidence, facts) == (
        "the domain for replies was registered 3 days ago",
        "a link's domain was registered 3 days ago",
    )
