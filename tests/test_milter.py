"""What a session holds of a message's body.  The conversation itself is in test_serve.py."""

from __future__ import annotations

from typing import cast

import Milter
import pytest

from rspamd_llm import milter
from rspamd_llm.domain import Key
from rspamd_llm.libmilter import Listener
from rspamd_llm.milter import Service, Session, Traffic


class Client(Session):
    """A session without libmilter: no macros."""

    _protocol = Milter.P_SKIP

    def getsymval(self, sym: str) -> str:
        return ""

    def held(self) -> bytes | None:
        return b"".join(self._message.body) if self._message else None

    def is_dropped(self) -> bool:
        assert self._message is not None
        return self._message.is_dropped


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(milter, "BYTES_HELD", 100)
    never = cast("milter.Scanning", None)
    return Service(
        scan=never,
        begin=None,
        report=lambda _message, _scan: None,
        key=lambda: Key(b"k" * 32),
        deadline=1.0,
        max_body=60,
        max_size=1_000,
        tempfail=False,
        listener=cast("Listener", None),
        traffic=Traffic(),
    )


def client(service: Service) -> Client:
    made = Client(service)
    made.envfrom("<a@b.example>")
    return made


def test_a_body_is_held_up_to_max_body(service: Service) -> None:
    one = client(service)
    assert [one.body(b"x" * 40) for _ in range(3)] == [Milter.CONTINUE] * 3
    assert one.held() == b"x" * 60
    assert not one.is_dropped()


def test_one_that_is_too_large_to_be_judged_is_let_go_and_skipped(service: Service) -> None:
    one, other = client(service), client(service)
    one.body(b"x" * 60)
    assert one.body(b"x" * 941) == Milter.SKIP
    assert one.held() == b""
    other.body(b"y" * 60)
    assert other.held() == b"y" * 60
    one._protocol = 0
    assert one.body(b"x") == Milter.CONTINUE
    assert one.held() == b""


def test_what_there_is_no_room_for_is_dropped_whole(service: Service) -> None:
    one, other = client(service), client(service)
    one.body(b"x" * 60)
    other.body(b"y" * 30)
    other.body(b"y" * 30)
    assert (other.held(), other.is_dropped()) == (b"", True)
    other.body(b"y" * 10)
    assert other.held() == b""  # no part of a message that is dropped
    assert (one.held(), one.is_dropped()) == (b"x" * 60, False)


@pytest.mark.parametrize("end", ["abort", "close", "next"])
def test_room_comes_back_with_the_end_of_a_message(service: Service, end: str) -> None:
    one, other = client(service), client(service)
    one.body(b"x" * 60)
    if end == "abort":
        one.abort()
        one.abort()  # Postfix may repeat it
    elif end == "close":
        one.close()
    else:
        one.envfrom("<c@d.example>")
    for part in (b"y" * 60, b"y"):
        other.body(part)
    assert (other.held(), other.is_dropped()) == (b"y" * 60, False)
    assert service.traffic.hold(40)
    assert not service.traffic.hold(1)
