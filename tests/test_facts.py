"""Message + Mail -> Facts: each flag with what raises it and what nearly does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import facts
from rspamd_llm.domain import Attachment, Envelope, Facts, Finding, Flag, Link, Mail, Message
from rspamd_llm.facts import domain_of, registered_domain

FINE = Mail(from_name="Ada", from_address="ada@sender.example", to_count=1, text="Hello")


def gather(mail: Mail, sender: str = "") -> Facts:
    return facts.gather(Message(envelope=Envelope(sender=sender), data=b"", size=0), mail)


def mail_with(**changes: object) -> Mail:
    values = {"from_name": "Ada", "from_address": "ada@sender.example", "to_count": 1}
    return Mail(**(values | changes))  # type: ignore[arg-type]


def link(target: str, text: str = "") -> Mail:
    return mail_with(links=(Link(text=text, target=target),))


def file(name: str) -> Mail:
    return mail_with(attachments=(Attachment(name=name, type="application/x", size=1),))


def details(found: Facts, flag: Flag) -> list[str]:
    return [finding.detail for finding in found.findings if finding.flag is flag]


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "example.com"),
        ("www.mail.example.com.", "example.com"),
        ("WWW.EXAMPLE.COM", "example.com"),
        (" example.com ", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", ""),
        ("com", ""),
        ("someone.github.io", "someone.github.io"),  # the private section counts
        ("github.io", ""),
        ("deep.host.sender.example", "sender.example"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("例え。jp", "xn--r8jz45g.jp"),  # an ideographic full stop
        ("192.0.2.1", ""),
        ("2001:db8::1", ""),
        ("[2001:db8::1]", ""),
        ("3221225985", ""),
        ("0xC0000201", ""),
        ("192.0.2", ""),
        ("", ""),
        (".", ""),
        ("a..example.com", ""),
        ("exa mple.com", ""),
        ("a" * 64 + ".com", ""),
        ("a." * 130 + "com", ""),
        ("\ud800.com", ""),
        ("bücher" * 12 + ".com", ""),
    ],
)
def test_registered_domain(host: str, domain: str) -> None:
    assert registered_domain(host) == domain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@b.example.org", "example.org"),
        ("a@b@example.org", "example.org"),
        ("a@[192.0.2.1]", ""),
        ("a@localhost", ""),
        ("example.org", ""),
        ("", ""),
        ("@", ""),
    ],
)
def test_domain_of(address: str, domain: str) -> None:
    assert domain_of(address) == domain


class TestFlags:
    def test_an_ordinary_mail_has_none(self) -> None:
        found = gather(FINE, "<ada@bounces.sender.example>")
        assert found == Facts(sender_domain="sender.example", envelope_domain="sender.example")

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("service@bank.example", "bank.example"),
            ('"billing@pay.bank.example" (Bank)', "bank.example"),
            ("ada@sender.example", None),
            ("ada@news.sender.example", None),
            ("Bank @ home", None),
            ("bank.example", None),
            ("me@localhost", None),
        ],
    )
    def test_name_has_address(self, name: str, detail: str | None) -> None:
        found = gather(mail_with(from_name=name))
        assert details(found, Flag.NAME_HAS_ADDRESS) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("replies", "detail"),
        [
            (("x@other.example",), "other.example"),
            (("a@sender.example", "x@other.example"), "other.example"),
            (("a@reply.sender.example",), None),
            (("nonsense",), None),
            ((), None),
        ],
    )
    def test_reply_elsewhere(self, replies: tuple[str, ...], detail: str | None) -> None:
        found = gather(mail_with(reply_to=replies))
        assert details(found, Flag.REPLY_ELSEWHERE) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("text", "target", "detail"),
        [
            ("bank.example", "http://evil.test/", "bank.example leads to evil.test"),
            ("https://www.bank.example/l?x", "http://evil.test", "bank.example leads to evil.test"),
            (" WWW.BANK.COM ", "https://evil.test", "bank.com leads to evil.test"),
            ("bank.example", "https://login.bank.example", None),
            ("see bank.example now", "http://evil.test", None),
            ("Click here", "http://evil.test", None),
            ("invoice.pdf", "http://evil.test", None),
            ("19.99", "http://evil.test", None),
            ("v1.2b", "http://evil.test", None),
            ("bank.example", "http://192.0.2.1", None),  # told as link-to-ip
            ("bank.example", "mailto:a@evil.test", None),
            ("", "http://evil.test", None),
        ],
    )  # fmt: skip
    def test_link_mismatch(self, text: str, target: str, detail: str | None) -> None:
        found = gather(link(target, text))
        assert details(found, Flag.LINK_MISMATCH) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("target", "detail"),
        [
            ("http://192.0.2.1/x", "192.0.2.1"),
            ("https://[2001:db8::1]:8443/", "2001:db8::1"),
            ("http://3221225985/", "3221225985"),
            ("http://0x7f.1/", "0x7f.1"),
            ("http://1.2.3.4.example.com/", None),
            ("ftp://192.0.2.1/", None),
            ("http://a.example/?u=192.0.2.1", None),
        ],
    )
    def test_link_to_an_address(self, target: str, detail: str | None) -> None:
        assert details(gather(link(target)), Flag.LINK_ADDRESS) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("target", "raised"),
        [
            ("https://xn--pypal-4ve.com", True),
            ("https://pаypal.com", True),  # a Cyrillic letter
            ("https://paypal.com/xn--", False),
        ],
    )
    def test_punycode(self, target: str, raised: bool) -> None:
        assert gather(link(target)).has(Flag.LINK_PUNYCODE) is raised

    @pytest.mark.parametrize(
        ("target", "raised"),
        [
            ("https://bank.example@evil.test/", True),
            ("https://user:pw@evil.test/", True),
            ("https://evil.test/@bank.example", False),
            ("https://evil.test/?a=b@c.example", False),
            ("mailto:a@b.example", False),
        ],
    )
    def test_login_in_a_link(self, target: str, raised: bool) -> None:
        assert gather(link(target)).has(Flag.LINK_CREDENTIALS) is raised

    def test_links_elsewhere(self) -> None:
        elsewhere = mail_with(links=(Link(text="", target="http://a.test"),) * 3)
        assert details(gather(elsewhere), Flag.LINKS_ELSEWHERE) == ["a.test"]
        partly = mail_with(links=(*elsewhere.links, Link(text="", target="http://sender.example")))
        assert not gather(partly).has(Flag.LINKS_ELSEWHERE)
        assert not gather(link("mailto:a@b.test")).has(Flag.LINKS_ELSEWHERE)

    @pytest.mark.parametrize(
        ("name", "flag"),
        [
            ("setup.exe", Flag.ATTACHMENT_RUNS),
            ("invoice.pdf.EXE", Flag.ATTACHMENT_RUNS),
            ("x.docm", Flag.ATTACHMENT_RUNS),
            ("x.iso", Flag.ATTACHMENT_RUNS),
            ("x.zip", Flag.ATTACHMENT_ARCHIVE),
            ("x.tar.gz", Flag.ATTACHMENT_ARCHIVE),
            ("x.html", Flag.ATTACHMENT_PAGE),
            ("x.SVG", Flag.ATTACHMENT_PAGE),
            ("x.docx", None),
            ("exe.pdf", None),
            ("", None),
        ],
    )
    def test_files(self, name: str, flag: Flag | None) -> None:
        kinds = {Flag.ATTACHMENT_RUNS, Flag.ATTACHMENT_ARCHIVE, Flag.ATTACHMENT_PAGE}
        assert {f.flag for f in gather(file(name)).findings} & kinds == ({flag} if flag else set())

    @pytest.mark.parametrize(
        ("sender", "detail"),
        [
            ("<bounce@mailer.test>", "mailer.test"),
            ("bounce@mailer.test", "mailer.test"),
            ("<x@bounce.sender.example>", None),
            ("<>", None),
            ("", None),
        ],
    )
    def test_envelope_elsewhere(self, sender: str, detail: str | None) -> None:
        found = gather(FINE, sender)
        assert details(found, Flag.ENVELOPE_ELSEWHERE) == ([detail] if detail else [])

    def test_no_sender_no_recipients_damage(self) -> None:
        bare = gather(Mail(text="x", defects=("the date is malformed",)))
        assert [finding.flag for finding in bare.findings] == [
            Flag.SENDER_MISSING,
            Flag.RECIPIENTS_HIDDEN,
            Flag.DAMAGED,
        ]


class TestBounds:
    def test_a_flag_is_found_once(self) -> None:
        many = mail_with(
            links=tuple(Link(text="a.com", target=f"http://1.2.3.{i}") for i in range(9))
        )
        assert gather(many).findings == (Finding(flag=Flag.LINK_ADDRESS, detail="1.2.3.0"),)

    def test_details_are_bounded(self) -> None:
        found = gather(link("http://" + "é" * 5_000 + ".com/"))
        assert all(len(finding.detail) <= facts.DETAIL_LIMIT for finding in found.findings)

    def test_domains_come_in_order_without_repeats(self) -> None:
        targets = (
            "http://b.test",
            "http://x.a.test",
            "https://y.b.test",
            "mailto:c@c.test",
            "http://[",
        )
        found = gather(mail_with(links=tuple(Link(text="", target=t) for t in targets)))
        assert found.link_domains == ("b.test", "a.test")

    @given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_nothing_raises(self, name: str, address: str, url: str) -> None:
        odd = mail_with(
            from_name=name,
            from_address=address,
            reply_to=(address,),
            links=(Link(text=name, target=f"http://{url}"), Link(text=url, target=address)),
            attachments=(Attachment(name=name, type=url, size=0),),
        )
        found = gather(odd, f"<{address}>")
        for domain in (found.sender_domain, *found.link_domains, *found.reply_domains):
            assert domain.isascii()
            assert domain == domain.lower()
