"""Message + Mail -> Facts: each flag with what raises it and what nearly does."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import facts
from rspamd_llm import mail as reader
from rspamd_llm.domain import (
    Attachment,
    Envelope,
    Facts,
    Finding,
    Flag,
    Hiding,
    Link,
    Mail,
    Message,
    Trait,
)

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven wizards pack my box with five dozen jugs"
)
OTHERS = (
    "please update billing details today because our records show that several payments "
    "were refused twice"
)
FINE = Mail(from_name="Ada", from_address="ada@sender.example", to_count=1, text="Hello")


def gather(
    mail: Mail, sender: str = "", *, to: tuple[str, ...] = (), now: datetime | None = None
) -> Facts:
    envelope = Envelope(sender=sender, recipients=to)
    return facts.gather(Message(envelope=envelope, data=b"", size=0), mail, now=now)


def mail_with(**changes: object) -> Mail:
    values = {"from_name": "Ada", "from_address": "ada@sender.example", "to_count": 1}
    return Mail(**(values | changes))  # type: ignore[arg-type]


def link(target: str, text: str = "") -> Mail:
    return mail_with(links=(Link(text=text, target=target),))


def file(name: str = "a.bin", type_: str = "application/x", /, **changes: object) -> Mail:
    values = {"name": name, "type": type_, "size": 1} | changes
    return mail_with(attachments=(Attachment(**values),))  # type: ignore[arg-type]


def details(found: Facts, flag: Flag) -> list[str]:
    return [finding.detail for finding in found.findings if finding.flag is flag]


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


class TestBrands:
    @pytest.mark.parametrize(
        ("name", "address", "detail"),
        [
            ("PayPal", "x@evil.test", "PayPal, from evil.test"),
            ("PayPal Support", "x@gmail.com", "PayPal, from gmail.com (free mail)"),
            ("Pay\u0440al", "x@evil.test", "PayPal, from evil.test"),  # a Cyrillic letter
            ("NETFLlX", "x@evil.test", "Netflix, from evil.test"),
            ("Votre espace Orange", "x@evil.test", "Orange, from evil.test"),
            ("ING", "x@evil.test", "ING, from evil.test"),
            ("Cr\u00e9dit Agricole", "x@evil.test", "Cr\u00e9dit Agricole, from evil.test"),
            ("Outlook Team", "x@outlook.com", "Microsoft, from outlook.com (free mail)"),
            ("PayPal", "service@mail.paypal.fr", None),
            ("Sparkasse Hannover", "x@sparkasse-hannover.de", None),
            ("Apple users mailing list", "x@lists.example", None),
            ("Orange County Register", "x@ocregister.example", None),
            ("Tim", "tim@sender.example", None),
            ("Free gift cards", "x@sender.example", None),
            ("Chase Smith", "chase@sender.example", None),
            ("Paypalooza", "x@sender.example", None),
            ("PayPal", "", None),
        ],
    )
    def test_in_the_name(self, name: str, address: str, detail: str | None) -> None:
        found = gather(mail_with(from_name=name, from_address=address))
        assert details(found, Flag.BRAND_ELSEWHERE) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("subject", "changes", "raised"),
        [
            ("Your PayPal account is limited", {}, True),
            ("Netflix account on hold", {}, True),
            ("Votre colis DHL", {}, True),
            ("PayPal buys a bank", {}, False),
            ("Who has a PayPal account?", {}, False),
            ("Your Apple account", {}, False),
            ("Your PayPal account is limited", {"reply": True}, False),
            ("Your PayPal account", {"from_address": "ada@gmail.com"}, False),
            ("Your PayPal account", {"from_address": "x@paypal.com"}, False),
        ],
    )
    def test_in_the_subject(self, subject: str, changes: dict[str, object], raised: bool) -> None:
        found = gather(mail_with(subject=subject, **changes))
        assert found.has(Flag.BRAND_ELSEWHERE) is raised

    def test_private_replies_are_told(self) -> None:
        found = gather(mail_with(reply_to=("x@gmail.com",)))
        assert details(found, Flag.REPLY_ELSEWHERE) == ["gmail.com (free mail)"]


class TestLookalikes:
    @pytest.mark.parametrize(
        ("address", "detail"),
        [
            ("x@paypa1.com", "paypa1.com resembles paypal.com"),
            ("x@mail.paypal-secure.example", "paypal-secure.example resembles paypal.com"),
            ("x@acmecorps.com", "acmecorps.com resembles the recipient's acmecorp.com"),
            ("x@acmecorp.co", "acmecorp.co resembles the recipient's acmecorp.com"),
            ("x@acmecorp.com", None),
            ("x@acmecorp.de", None),  # likely the same firm
            ("x@gmail.com", None),
            ("x@paypal.co.uk", None),
            ("x@sender.example", None),
        ],
    )
    def test_senders(self, address: str, detail: str | None) -> None:
        to = ("<ada@mail.acmecorp.com>", "bob@gmail.com")
        found = gather(mail_with(from_address=address), to=to)
        assert details(found, Flag.SENDER_LOOKALIKE) == ([detail] if detail else [])

    def test_free_mail_of_a_recipient_is_not_its_own(self) -> None:
        found = gather(mail_with(from_address="x@gmai1.test"), to=("ada@gmail.com",))
        assert "recipient" not in "".join(details(found, Flag.SENDER_LOOKALIKE))

    def test_the_claimed_brand_makes_it_clear(self) -> None:
        odd = "x@dhlxpaketo.test"
        assert not gather(mail_with(from_address=odd)).has(Flag.SENDER_LOOKALIKE)
        assert gather(mail_with(from_address=odd, from_name="DHL")).has(Flag.SENDER_LOOKALIKE)

    @pytest.mark.parametrize(
        ("target", "detail"),
        [
            ("https://rnicrosoft.com/", "rnicrosoft.com resembles microsoft.com"),
            ("https://paypal.com.evil.test/", "paypal.com.evil.test resembles paypal.com"),
            ("https://xn--pypal-4ve.com", "p\u0430ypal.com resembles paypal.com"),
            ("https://www.paypal.com/", None),
            ("https://evil.test/paypal.com", None),
        ],
    )
    def test_links(self, target: str, detail: str | None) -> None:
        assert details(gather(link(target)), Flag.LINK_LOOKALIKE) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("target", "label"),
        [
            ("https://p\u0430ypal.com", "p\u0430ypal"),
            ("https://xn--pypal-4ve.com", "p\u0430ypal"),
            ("https://xn--mnchen-3ya.de", None),
            ("https://\u0430\u0431\u0432.example", None),
            ("https://\u4f8b\u3048abc.jp", None),
            ("https://paypal.com", None),
        ],
    )
    def test_mixed_scripts(self, target: str, label: str | None) -> None:
        found = gather(link(target))
        assert details(found, Flag.LINK_MIXED_SCRIPT) == ([label] if label else [])


class TestLinks:
    @pytest.mark.parametrize(
        ("target", "detail"),
        [
            ("https://bit.ly/abc", "bit.ly"),
            ("https://www.tinyurl.com/abc", "www.tinyurl.com"),
            ("https://www.linkedin.com/slink?code=x", "www.linkedin.com"),
            ("https://www.linkedin.com/in/ada", None),
            ("https://notbit.ly.example/", None),
        ],
    )
    def test_shorteners(self, target: str, detail: str | None) -> None:
        assert details(gather(link(target)), Flag.LINK_SHORTENER) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("target", "detail"),
        [
            (
                "https://www.google.com/url?q=https://evil.test/x",
                "google.com leads on to evil.test",
            ),
            ("https://www.google.fr/amp/s/evil.test", "google.fr leads on to elsewhere"),
            ("https://a.test/?u=https%3A%2F%2Fevil.example", "a.test leads on to evil.example"),
            ("https://a.test/r/http://evil.example/", "a.test leads on to evil.example"),
            ("https://www.google.com/search?q=evil", None),
            ("https://a.test/?u=https://www.a.test/next", None),
            ("https://sender.example/?u=https://shop.test", None),
            ("https://a.test/?u=https://sender.example/x", None),
            ("https://www.facebook.com/sharer.php?u=https://news.test", None),
            ("https://x.list-manage.com/track?u=https://news.test", None),
            ("https://a.test/?http", None),
        ],
    )
    def test_redirects(self, target: str, detail: str | None) -> None:
        assert details(gather(link(target)), Flag.LINK_REDIRECT) == ([detail] if detail else [])

    def test_a_mailing_service_is_not_elsewhere(self) -> None:
        assert not gather(link("https://u1.ct.sendgrid.net/x")).has(Flag.LINKS_ELSEWHERE)
        both = mail_with(
            links=(
                Link(text="", target="https://u1.ct.sendgrid.net/x"),
                Link(text="", target="https://a.test"),
            )
        )
        assert details(gather(both), Flag.LINKS_ELSEWHERE) == ["a.test"]

    def test_links_in_files_count(self) -> None:
        found = gather(file("a.pdf", links=("http://192.0.2.1/", "https://bit.ly/x")))
        assert details(found, Flag.LINK_ADDRESS) == ["192.0.2.1 (in a file)"]
        assert details(found, Flag.LINK_SHORTENER) == ["bit.ly (in a file)"]
        assert found.link_domains == ("bit.ly",)
        assert not found.has(Flag.LINKS_ELSEWHERE)


class TestFiles:
    @pytest.mark.parametrize(
        ("changes", "flag", "detail"),
        [
            ({"found": "exe"}, Flag.ATTACHMENT_RUNS, "exe by its content"),
            ({"found": "script"}, Flag.ATTACHMENT_RUNS, "script by its content"),
            ({"members": ("a/readme.txt", "a/run.JS")}, Flag.ATTACHMENT_RUNS, "js in an archive"),
            ({"traits": (Trait.MACROS,)}, Flag.ATTACHMENT_MACROS, "pdf"),
            ({"traits": (Trait.ENCRYPTED,)}, Flag.ATTACHMENT_ENCRYPTED, "pdf"),
            ({"traits": (Trait.BOMB,)}, Flag.ATTACHMENT_BOMB, "pdf"),
            ({"traits": (Trait.MISNAMED,), "found": "ole"}, Flag.ATTACHMENT_MISNAMED,
             "ole named pdf"),
        ],
    )  # fmt: skip
    def test_by_content(self, changes: dict[str, object], flag: Flag, detail: str) -> None:
        assert details(gather(file("a.pdf", **changes)), flag) == [detail]

    @pytest.mark.parametrize(
        "changes", [{"found": "pdf"}, {"members": ("a.txt", "js")}, {"traits": (Trait.LINKS,)}]
    )
    def test_harmless_content(self, changes: dict[str, object]) -> None:
        assert gather(file("a.pdf", **changes)).findings == ()


class TestText:
    @pytest.mark.parametrize(
        ("hidden", "hidings", "detail"),
        [
            ("buy these cheap watches", (Hiding.DISPLAY, Hiding.SIZE), "display, size"),
            ("view it online", (Hiding.DISPLAY,), None),
            ("a b c d e f g h i j k l m n o p q r", (Hiding.COLOUR,), None),
            ("", (Hiding.INVISIBLE_SIGNS,), "invisible-signs"),
            ("", (Hiding.BIDI,), "bidi"),
            ("a template's comment of some length", (Hiding.COMMENT,), None),
            ("buy these cheap watches", (), None),
        ],
    )
    def test_hidden(self, hidden: str, hidings: tuple[Hiding, ...], detail: str | None) -> None:
        found = gather(mail_with(hidden=hidden, hidings=hidings))
        assert details(found, Flag.TEXT_HIDDEN) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("changes", "detail"),
        [
            ({"text": "cheap V1agra"}, "in the text"),
            ({"subject": "E n t r e g a now"}, "in the subject"),
            ({"from_name": "Am\u0430zon"}, "in the name"),
            ({"text": "a plain text"}, None),
            ({"text": "x" * 20_000 + " V1agra"}, None),
        ],
    )
    def test_spelling(self, changes: dict[str, object], detail: str | None) -> None:
        found = gather(mail_with(**changes))
        assert details(found, Flag.SPELLING_EVADES) == ([detail] if detail else [])

    @pytest.mark.parametrize(
        ("plain", "text", "raised"),
        [
            (WORDS * 2, OTHERS * 2, True),
            (WORDS * 2, WORDS * 2 + OTHERS, False),
            (WORDS, WORDS, False),
            ("Your program shows no HTML.", OTHERS * 2, False),
            ("", OTHERS * 2, False),
            (OTHERS * 2, "", False),
        ],
    )
    def test_parts_differ(self, plain: str, text: str, raised: bool) -> None:
        assert gather(mail_with(plain=plain, text=text)).has(Flag.PARTS_DIFFER) is raised

    def test_image_only(self) -> None:
        picture = file("a.png", "image/png")
        assert gather(picture).has(Flag.IMAGE_ONLY)
        assert gather(mail_with(images=1, text="Hello!")).has(Flag.IMAGE_ONLY)
        assert not gather(mail_with(images=1, text=WORDS)).has(Flag.IMAGE_ONLY)
        assert not gather(mail_with(text="Hello!")).has(Flag.IMAGE_ONLY)


class TestDate:
    @pytest.mark.parametrize(
        ("off", "detail"),
        [
            (timedelta(days=-8), "8 days ago"),
            (timedelta(days=3), "3 days ahead"),
            (timedelta(days=-7), None),
            (timedelta(days=2), None),
            (timedelta(0), None),
        ],
    )
    def test_off(self, off: timedelta, detail: str | None) -> None:
        for date in (NOW + off, (NOW + off).replace(tzinfo=None)):
            found = gather(mail_with(date=date), now=NOW)
            assert details(found, Flag.DATE_OFF) == ([detail] if detail else [])

    def test_unknown(self) -> None:
        old = mail_with(date=datetime(1970, 1, 1, tzinfo=UTC))
        assert not gather(old).has(Flag.DATE_OFF)
        assert not gather(mail_with(), now=NOW).has(Flag.DATE_OFF)
        assert gather(mail_with(date=datetime.min), now=datetime.max).has(Flag.DATE_OFF)


class TestCost:
    def test_hostile_mail_takes_no_longer(self) -> None:
        facts.prepare()
        hosts = (f"{'a-' * 30}{i}.{'paypal.com.' * 15}{'b-' * 12}{i}.test" for i in range(200))
        bad = mail_with(
            from_name="paypal " * 140,
            subject="V 1 a g r a " * 80,
            text="p\u0430ypal V I A G R A v1agra \U0001d5db" * 700,
            plain="a\u0430 " * 9_000,
            hidden="word " * 5_000,
            links=tuple(Link(text=f"a.test/{h}", target=f"https://{h}/?http") for h in hosts),
        )
        start = time.process_time()
        gather(bad, to=tuple(f"a@b{i}.test" for i in range(1_000)), now=NOW)
        # Some 30 ms; the limit leaves room for slow machines, not for squares.
        assert time.process_time() - start < 0.3


class TestOrder:
    def test_each_flag_has_its_rank(self) -> None:
        assert sorted(facts.RANKING) == sorted(Flag)
        assert len(set(facts.RANKING)) == len(facts.RANKING)

    def test_findings_come_by_weight(self) -> None:
        bad = mail_with(
            from_name="PayPal",
            to_count=0,
            reply_to=("x@other.example",),
            links=(Link(text="", target="http://192.0.2.1/"),),
        )
        flags = [finding.flag for finding in gather(bad).findings]
        assert flags == [
            Flag.BRAND_ELSEWHERE,
            Flag.LINK_ADDRESS,
            Flag.REPLY_ELSEWHERE,
            Flag.RECIPIENTS_HIDDEN,
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

    @given(
        name=st.text(max_size=60),
        address=st.text(max_size=60),
        url=st.text(max_size=60),
        date=st.datetimes(),
        hidings=st.sets(st.sampled_from(Hiding)),
        traits=st.sets(st.sampled_from(Trait)),
    )
    @settings(max_examples=300, deadline=None)
    def test_nothing_raises(
        self,
        *,
        name: str,
        address: str,
        url: str,
        date: datetime,
        hidings: set[Hiding],
        traits: set[Trait],
    ) -> None:
        odd = mail_with(
            from_name=name,
            from_address=address,
            subject=url,
            text=url + name,
            plain=address * 9,
            hidden=name * 3,
            hidings=tuple(hidings),
            date=date,
            reply_to=(address,),
            links=(
                Link(text=name, target=f"http://{url}"),
                Link(text=url, target=address),
                Link(text=url, target=f"https://paypal.com.{url}/{name}?http://{address}"),
            ),
            attachments=(
                Attachment(
                    name=name,
                    type=url,
                    size=0,
                    found=name,
                    members=(url,),
                    links=(f"http://{name}",),
                    traits=tuple(traits),
                ),
            ),
        )
        found = gather(odd, f"<{address}>", to=(address, f"a@{name}.com"), now=NOW)
        for domain in (found.sender_domain, *found.link_domains, *found.reply_domains):
            assert domain.isascii()
            assert domain == domain.lower()
        ranks = [facts.RANKING.index(finding.flag) for finding in found.findings]
        assert ranks == sorted(set(ranks))
        for finding in found.findings:
            assert len(finding.detail) <= facts.DETAIL_LIMIT
            assert not any(
                ord(sign) < 32 or sign in "\x7f\x85\u2028\u202e" for sign in finding.detail
            )


RARE = (
    Flag.BRAND_ELSEWHERE,
    Flag.SENDER_LOOKALIKE,
    Flag.LINK_LOOKALIKE,
    Flag.SPELLING_EVADES,
    Flag.TEXT_HIDDEN,
)


@pytest.mark.corpus
def test_wanted_mail_seldom_raises_what_settles_cases() -> None:
    if not CORPUS.is_dir():
        pytest.skip("no shared/corpus beside the project")
    files = sorted((CORPUS / "ham").rglob("easy-*"))
    raised: Counter[Flag] = Counter()
    for path in files:
        data = path.read_bytes()
        found = facts.gather(
            Message(envelope=Envelope(), data=data, size=len(data)), reader.read(data)
        )
        raised.update(finding.flag for finding in found.findings)
    assert files
    for flag in RARE:
        assert raised[flag] < 0.02 * len(files), flag


@pytest.mark.corpus
def test_facts_cost_little() -> None:
    if not CORPUS.is_dir():
        pytest.skip("no shared/corpus beside the project")
    facts.prepare()
    seconds = []
    for path in sorted((CORPUS / "unwanted" / "phishing_pot").rglob("*.eml")):
        data = path.read_bytes()
        mail = reader.read(data)
        start = time.process_time()
        facts.gather(Message(envelope=Envelope(), data=data, size=len(data)), mail)
        seconds.append(time.process_time() - start)
    seconds.sort()
    assert seconds[len(seconds) // 2] < 0.0015
    assert seconds[-1] < 0.030
