"""Who is asked about at all."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from rspamd_llm.domain import (
    Attachment,
    Authentication,
    Envelope,
    Link,
    Mail,
    Message,
    Signature,
    Skip,
)
from rspamd_llm.gate import FROM, Gate, is_aligned, is_empty
from rspamd_llm.lists import Kind, ListFile

NETWORKS = ("127.0.0.0/8", "::1/128", "192.0.2.0/24", "2001:db8::/32")


def gate(**changes: Any) -> Gate:
    values: dict[str, Any] = {
        "skip_authenticated": True,
        "skip_networks": tuple(ipaddress.ip_network(network) for network in NETWORKS),
        "max_size": 1_000,
        "sample": 1.0,
    }
    return Gate(**(values | changes))


def message(
    client: str = "198.51.100.7", size: int = 10, data: bytes = b"", **rest: Any
) -> Message:
    return Message(envelope=Envelope(client_address=client, **rest), data=data, size=size)


def test_strangers_are_asked_about() -> None:
    assert gate().before_reading(message()) is None


@pytest.mark.parametrize(("skip", "expected"), [(True, Skip.AUTHENTICATED), (False, None)])
def test_authenticated_users(skip: bool, expected: Skip | None) -> None:
    assert gate(skip_authenticated=skip).before_reading(message(authenticated=True)) is expected


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("127.0.0.1", Skip.NETWORK),
        ("127.255.0.9", Skip.NETWORK),
        ("::1", Skip.NETWORK),
        ("192.0.2.255", Skip.NETWORK),
        ("192.0.3.0", None),
        ("2001:db8:9::1", Skip.NETWORK),
        ("2001:db9::1", None),
        ("::ffff:192.0.2.1", Skip.NETWORK),
        ("::ffff:198.51.100.7", None),
        ("fe80::1%eth0", None),
        ("", None),
        ("unknown", None),
        ("192.0.2.1.evil.test", None),
    ],
)
def test_networks(client: str, expected: Skip | None) -> None:
    assert gate().before_reading(message(client)) is expected


def test_without_networks_even_our_own_host_is_asked_about() -> None:
    assert gate(skip_networks=()).before_reading(message("127.0.0.1")) is None


@pytest.mark.parametrize(("size", "expected"), [(1_000, None), (1_001, Skip.SIZE)])
def test_size(size: int, expected: Skip | None) -> None:
    assert gate().before_reading(message(size=size)) is expected


def test_what_is_told_first_is_who_then_size_then_chance() -> None:
    everything = message("127.0.0.1", size=9_999, authenticated=True)
    assert gate(sample=0.0).before_reading(everything) is Skip.AUTHENTICATED
    without_login = message("127.0.0.1", size=9_999)
    assert gate(sample=0.0).before_reading(without_login) is Skip.NETWORK
    assert gate(sample=0.0).before_reading(message(size=9_999)) is Skip.SIZE
    assert gate(sample=0.0).before_reading(message()) is Skip.SAMPLED


def test_an_opt_out_is_told_after_size_and_before_chance(tmp_path: Path) -> None:
    strict = gate(sample=0.0, optout=names(tmp_path, "all.example", Kind.RECIPIENTS))
    to: dict[str, Any] = {"recipients": ("<a@all.example>",), "recipient_count": 1}
    assert strict.before_reading(message(size=9_999, **to)) is Skip.SIZE
    assert strict.before_reading(message(**to)) is Skip.OPTOUT


def names(folder: Path, text: str, kind: Kind) -> ListFile:
    path = folder / "list"
    path.write_text(text, encoding="utf-8")
    return ListFile(path, kind, setting="gate.file")


class TestOptOut:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> Gate:
        text = "all.example\nann@some.example\n"
        return gate(optout=names(tmp_path, text, Kind.RECIPIENTS))

    @pytest.mark.parametrize(
        ("recipients", "count", "expected"),
        [
            (("<ann@some.example>",), 1, Skip.OPTOUT),
            (("<bob@some.example>",), 1, None),
            (("<bob@all.example>", "<Ann@Some.example>"), 2, Skip.OPTOUT),
            (("<bob@sub.all.example>",), 1, Skip.OPTOUT),
            # Nobody opts out for another, and nobody can be made to by a sender.
            (("<ann@some.example>", "<bob@some.example>"), 2, None),
            (("<bob@some.example>", "<ann@some.example>"), 2, None),
            (("<ann@some.example>",), 2, None),
            ((), 0, None),
            ((), 1, None),
            (("<>",), 1, None),
        ],
    )
    def test_all_recipients_must_have_opted_out(
        self, kept: Gate, recipients: tuple[str, ...], count: int, expected: Skip | None
    ) -> None:
        found = kept.before_reading(message(recipients=recipients, recipient_count=count))
        assert found is expected

    def test_nothing_is_looked_up_early_for_them(self, kept: Gate) -> None:
        assert not kept.would_read(message(recipients=("<x@all.example>",), recipient_count=1))
        assert kept.would_read(message(recipients=("<x@some.example>",), recipient_count=1))

    def test_without_a_list_nobody_has(self) -> None:
        assert gate().before_reading(message(recipients=("<a@b.example>",))) is None


def signed(domain: str, result: str = "pass", *, aligned: bool = True) -> Authentication:
    return Authentication(signatures=(Signature(domain=domain, result=result, aligned=aligned),))


DMARC = Authentication(dmarc="pass")


class TestAllowed:
    @pytest.fixture
    def open_to(self, tmp_path: Path) -> Gate:
        text = "example.org\nmail.example.com\nbücher.example\n"
        return gate(allow=names(tmp_path, text, Kind.SENDERS))

    def allows(self, chosen: Gate, address: str, authentication: Authentication | None) -> bool:
        mail = message(data=f"From: Ada <{address}>\r\n\r\nHello\r\n".encode())
        return chosen.allows(mail, address, authentication)

    @pytest.mark.parametrize(
        ("address", "listed"),
        [
            ("a@example.org", True),
            ("a@EXAMPLE.org", True),
            ("a@sub.example.org", True),
            ("a@mail.example.com", True),
            ("a@bücher.example", True),
            ("a@xn--bcher-kva.example", True),
            ("a@example.com", False),
            ("a@other.example.com", False),
            ("a@evilexample.org", False),
            ("a@example.org.evil.test", False),
            ("example.org", False),
            ("", False),
        ],
    )
    def test_the_domains_that_are_listed(self, open_to: Gate, address: str, listed: bool) -> None:
        assert open_to.lists_sender(address) is listed
        assert self.allows(open_to, address, DMARC) is listed

    def test_never_on_the_senders_word(self, open_to: Gate) -> None:
        assert not self.allows(open_to, "a@example.org", None)
        assert not self.allows(open_to, "a@example.org", Authentication())

    def test_without_a_list_nobody_is(self) -> None:
        assert not gate().lists_sender("a@example.org")
        assert not self.allows(gate(), "a@example.org", DMARC)

    @pytest.mark.parametrize(
        ("signer", "expected"), [("mail.example.com", True), ("other.example.com", False)]
    )
    def test_one_host_of_many_owners_does_not_speak_for_another(
        self, open_to: Gate, signer: str, expected: bool
    ) -> None:
        """For DMARC's relaxed alignment both are of example.com."""
        assert self.allows(open_to, "a@mail.example.com", signed(signer)) is expected


class TestAligned:
    def proves(
        self,
        authentication: Authentication | None,
        address: str = "ada@mail.example.org",
        header: str = "From: Ada <ada@mail.example.org>",
    ) -> bool:
        mail = message(data=f"Subject: x\r\n{header}\r\n\r\nFrom: x@y.test\r\n".encode())
        return is_aligned(mail, address, authentication)

    @pytest.mark.parametrize(
        "authentication",
        [
            DMARC,
            signed("mail.example.org"),
            signed("example.org"),
            Authentication(
                dmarc="fail",
                signatures=(
                    Signature(domain="mailer.test", result="pass"),
                    Signature(domain="example.org", result="fail", aligned=True),
                    Signature(domain="mail.example.org", result="pass", aligned=True),
                ),
            ),
        ],
    )
    def test_proofs(self, authentication: Authentication) -> None:
        assert self.proves(authentication)

    @pytest.mark.parametrize(
        "authentication",
        [
            None,
            Authentication(),
            Authentication(spf="pass", spf_domain="mail.example.org"),
            Authentication(arc="pass", sealer="mail.example.org"),
            *(Authentication(dmarc=result) for result in ("fail", "none", "temperror", "PASS?")),
            *(signed("example.org", result) for result in ("fail", "policy", "temperror", "")),
            signed("mailer.test", aligned=False),
            signed("other.example.org"),
            signed("sub.mail.example.org"),
            signed("org", aligned=False),
            signed("", aligned=True),
            signed("ail.example.org"),
        ],
    )
    def test_what_is_none(self, authentication: Authentication | None) -> None:
        assert not self.proves(authentication)

    @pytest.mark.parametrize(
        "header",
        [
            "From: ada@mail.example.org",
            "from : <Ada@MAIL.example.org>",
            'From: "Ada (x@y.test), \\" <a@b.test>" <ada@mail.example.org> (or c@d.test)',
            "From: =?utf-8?q?Ada?=\r\n <ada@mail.example.org>",
            'From: "ada@x"@mail.example.org',
        ],
    )
    def test_one_sender_in_whatever_form(self, header: str) -> None:
        assert self.proves(DMARC, header=header)

    @pytest.mark.parametrize(
        "header",
        [
            "To: ada@mail.example.org",
            "From: <ada@mail.example.org>\r\nFrom: <eve@evil.test>",
            "From: <eve@evil.test>\r\nFROM: <ada@mail.example.org>",
            "From: <ada@mail.example.org>, <eve@evil.test>",
            'From: <ada@mail.example.org>, "x\\" <eve@evil.test>',
            "From: eve@evil.test <ada@mail.example.org>",
            "From: <eve@evil.test>",
            "From: <ada@mail.example.org.evil.test>",
            "From: ada@ mail.example.org",
            "From: ada",
            "From:",
            "From: " + "x" * FROM + " <ada@mail.example.org>",
        ],
    )
    def test_several_senders_or_none_that_is_clear(self, header: str) -> None:
        assert not self.proves(DMARC, header=header)

    @pytest.mark.parametrize("address", ["", "ada", "ada@", "ada@other.test"])
    def test_another_address_than_the_headers(self, address: str) -> None:
        assert not self.proves(DMARC, address=address)

    def test_international_domains(self) -> None:
        header = "From: <ada@bücher.example>"
        signature = signed("xn--bcher-kva.example")
        assert self.proves(signature, address="ada@bücher.example", header=header)


class TestSample:
    def asked(self, sample: float) -> list[bool]:
        chosen = gate(sample=sample)
        return [
            chosen.before_reading(message(data=str(number).encode())) is None
            for number in range(2_000)
        ]

    def test_all_or_none(self) -> None:
        assert all(self.asked(1.0))
        assert not any(self.asked(0.0))

    def test_a_share_and_the_same_one_each_time(self) -> None:
        first = self.asked(0.25)
        assert first == self.asked(0.25)
        assert 400 < sum(first) < 600

    def test_what_a_small_sample_asks_a_larger_one_asks_too(self) -> None:
        small, large = self.asked(0.2), self.asked(0.4)
        assert all(more for less, more in zip(small, large, strict=True) if less)


class TestEmpty:
    def test_nothing_to_judge(self) -> None:
        assert is_empty(Mail(from_name="Ada", from_address="a@b.example", to_count=1))

    @pytest.mark.parametrize(
        "mail",
        [
            Mail(text="x"),
            Mail(subject="x"),
            Mail(links=(Link(text="", target="http://a.test"),)),
            Mail(attachments=(Attachment(name="", type="a/b", size=0),)),
        ],
    )
    def test_anything_at_all(self, mail: Mail) -> None:
        assert not is_empty(mail)
