"""Which names may leave the house."""

from __future__ import annotations

import pytest

from rspamd_llm.domain import Attachment, Envelope, Facts, Link, Mail
from rspamd_llm.domains import registered_domain
from rspamd_llm.evidence import privacy
from rspamd_llm.evidence.privacy import Privacy

SENT = Envelope(recipients=("<bob@victim.example>",), recipient_count=1)


def link(target: str, *, button: bool = False) -> Link:
    return Link(text="", target=target, is_button=button)


def askable(
    *links: Link,
    sender: str = "acme.example",
    replies: tuple[str, ...] = (),
    envelope: Envelope = SENT,
    own: frozenset[str] = frozenset(),
    files: tuple[Attachment, ...] = (),
) -> tuple[str, ...]:
    facts = Facts(sender_domain=sender, reply_domains=replies)
    return Privacy(own=own).askable(envelope, Mail(links=links, attachments=files), facts)


def test_the_sender_comes_first_then_buttons_then_reading_order_then_replies() -> None:
    several = askable(
        link("https://first.example/a"),
        link("https://second.example/b"),
        link("https://pay.button.example/c", button=True),
        link("https://first.example/again"),
        replies=("reply.example",),
        files=(Attachment(name="a.pdf", type="", size=1, links=("https://file.example/",)),),
    )
    assert several == (
        "acme.example",
        "button.example",
        "first.example",
        "second.example",
        "file.example",
        "reply.example",
    )


def test_only_registered_domains_leave() -> None:
    several = askable(
        link("https://bob.victim-id-123.evil.example/path/bob?mail=bob@victim.example#x"),
        link("https://user:secret@login.other.example:8443/"),
        link("https://someone.github.io/x"),
    )
    assert several == ("acme.example", "evil.example", "other.example", "someone.github.io")
    assert all(registered_domain(domain) == domain for domain in several)


@pytest.mark.parametrize(
    "domain",
    [
        "gmail.com",
        "outlook.de",
        "bit.ly",
        "list-manage.com",
        "paypal.com",
        "victim.example",
        "own.example",
        "intranet.corp",
        "printer.lan",
    ],
)
def test_what_is_known_ours_or_private_stays(domain: str) -> None:
    own = frozenset({"own.example"})
    assert askable(sender=domain, own=own) == ()
    assert askable(link(f"https://www.{domain}/x"), own=own) == ("acme.example",)
    assert askable(replies=(domain,), own=own) == ("acme.example",)


def test_addresses_bare_suffixes_and_nonsense_stay() -> None:
    links = ("http://203.0.113.9/", "http://[2001:db8::1]/", "http://co.uk/", "http://0x7f.1/")
    assert askable(*map(link, (*links, "mailto:bob@other.example", "http://", "x"))) == (
        "acme.example",
    )
    assert askable(sender="") == ()


def test_recipients_domains_stay_however_they_are_written() -> None:
    sent = Envelope(recipients=("<Bob@Mail.Victim.EXAMPLE>", "carol@other.example"))
    links = (link("https://victim.example/"), link("https://other.example/"))
    assert askable(*links, envelope=sent) == ("acme.example",)


def test_nothing_leaves_where_recipients_are_not_all_known() -> None:
    sent = Envelope(recipients=("<bob@victim.example>",), recipient_count=2)
    assert askable(link("https://unkept.example/"), envelope=sent) == ()


def test_what_a_domain_is_known_for() -> None:
    assert privacy.kind("gmail.com") == "free-mail provider"
    assert privacy.kind("bit.ly") == "link shortener"
    assert privacy.kind("sendgrid.net") == "mailing service"
    assert privacy.kind("paypal.com") == "well-known company"
    assert privacy.kind("acme.example") == ""
    assert privacy.kind("yahoo.co.uk") == "free-mail provider"


@pytest.mark.parametrize("domain", ["netflix.rs", "paypal.tc", "ing.vg", "live.bz", "dhl.ag"])
def test_a_known_name_under_a_suffix_that_anybody_may_use_is_not_known(domain: str) -> None:
    assert privacy.kind(domain) == ""
    assert askable(sender=domain) == (domain,)
