"""Who is asked about at all."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from rspamd_llm.domain import Attachment, Envelope, Link, Mail, Message, Skip
from rspamd_llm.gate import Gate, is_empty

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
