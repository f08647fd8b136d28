"""All sources side by side, to a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import pytest

from rspamd_llm.counters import Counters
from rspamd_llm.domain import (
    Authentication,
    Deadline,
    DomainRecords,
    Envelope,
    Evidence,
    EvidenceError,
    Facts,
    Link,
    Mail,
    Message,
    Page,
    Registration,
    ReverseName,
    Source,
)
from rspamd_llm.evidence.gather import Gatherer, Sources
from rspamd_llm.evidence.privacy import Privacy

T = TypeVar("T")
LONG = 60.0
SENT = Envelope(client_address="192.0.2.7", recipients=("<bob@victim.example>",), recipient_count=1)
DATA = b"Subject: x\r\nFrom: Acme <info@Mail.Acme.example>\r\n\r\nbody"
MESSAGE = Message(envelope=SENT, data=DATA, size=len(DATA))
FACTS = Facts(sender_domain="acme.example")
MAIL = Mail(
    from_name="Acme",
    from_address="info@Mail.Acme.example",
    links=tuple(Link(text="", target=f"https://www.link{n}.example/x") for n in range(9)),
)
DOMAINS = ["acme.example", *(f"link{n}.example" for n in range(9))]
FOUND = (Page(title="t", host="h.example"),)


@dataclass
class Fake(Generic[T]):
    """Answers, raises, or waits; remembers what it was asked, and whether it was cancelled."""

    answer: T
    error: Exception | None = None
    waits: bool = False
    asked: list[Any] = field(default_factory=list)
    cancelled: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, domain: str, *, first: bool = True) -> T:
        return await self(domain, first)

    async def __call__(self, *asked: Any) -> T:
        self.asked.append(asked)
        if self.waits:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error:
            raise self.error
        return self.answer


@dataclass
class Fakes:
    authenticate: Fake[Authentication | None] = field(
        default_factory=lambda: Fake(Authentication(spf="pass"))
    )
    prefetch: Fake[None] = field(default_factory=lambda: Fake(None))
    reverse: Fake[ReverseName | None] = field(
        default_factory=lambda: Fake(ReverseName(name="r.example"))
    )
    records: Fake[DomainRecords] = field(
        default_factory=lambda: Fake(DomainRecords(exists=True, spf=True))
    )
    registration: Fake[Registration | None] = field(
        default_factory=lambda: Fake(Registration(found=True))
    )
    web: Fake[tuple[Page, ...]] = field(default_factory=lambda: Fake(FOUND))

    def sources(self) -> Sources:
        return Sources(
            authenticate=self.authenticate,
            prefetch=self.prefetch,
            reverse=self.reverse,
            records=self.records,
            registration=self.registration,
            web=self.web,
        )


def gatherer(
    sources: Sources, timeout: float = LONG, searches: int = 3, counters: Counters | None = None
) -> Gatherer:
    return Gatherer(
        sources=sources,
        privacy=Privacy(own=frozenset()),
        counters=counters or Counters(),
        timeout=timeout,
        max_searches=searches,
    )


async def begun(fake: Fake[Any], count: int) -> None:
    """Waits until a fake has been asked so often."""
    async with asyncio.timeout(LONG):
        while len(fake.asked) < count:  # noqa: ASYNC110 - it is asked from another task
            await asyncio.sleep(0.001)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def asked(
    made: Gatherer,
    message: Message = MESSAGE,
    mail: Mail = MAIL,
    facts: Facts = FACTS,
    deadline: float = LONG,
) -> Evidence:
    inquiry = made.inquire(message, mail, facts, Deadline.after(deadline))
    try:
        return await inquiry.evidence()
    finally:
        inquiry.drop()


def gathered(made: Gatherer, deadline: float = LONG) -> Evidence:
    return run(asked(made, deadline=deadline))


def test_everything_that_answers_is_told() -> None:
    fakes = Fakes()
    found = gathered(gatherer(fakes.sources()))
    assert found.authentication == Authentication(spf="pass")
    assert found.records == DomainRecords(exists=True, spf=True)
    assert found.reverse == ReverseName(name="r.example")
    assert [*found.registrations] == DOMAINS[:4]
    assert found.web == dict.fromkeys(DOMAINS[:3], FOUND)
    assert found.missing == ()


def test_each_is_asked_for_no_more_than_it_needs() -> None:
    fakes = Fakes()
    gathered(gatherer(fakes.sources()))
    assert fakes.authenticate.asked == [(MESSAGE, "mail.acme.example")]
    assert fakes.records.asked == [("acme.example", True)]
    assert fakes.reverse.asked == [("192.0.2.7",)]
    assert fakes.web.asked == [("acme.example", True), *((d, False) for d in DOMAINS[1:3])]
    assert fakes.prefetch.asked == []


def test_a_client_that_the_mta_named_is_not_looked_up_again() -> None:
    fakes = Fakes()
    named = Envelope(client_address="192.0.2.7", client_name="mx.acme.example")
    message = Message(envelope=named, data=DATA, size=len(DATA))
    run(asked(gatherer(fakes.sources()), message))
    assert fakes.reverse.asked == []


@pytest.mark.parametrize("sender", ["", "gmail.com", "printer.lan"])
def test_dns_is_not_asked_about_senders_that_need_no_look_up(sender: str) -> None:
    fakes = Fakes()
    facts = Facts(sender_domain=sender)
    run(asked(gatherer(fakes.sources()), mail=Mail(), facts=facts))
    assert fakes.records.asked == fakes.web.asked == fakes.registration.asked == []


def test_nothing_switched_on_is_nothing_found_and_nothing_missing() -> None:
    found = gathered(gatherer(Sources()))
    assert (found.missing, found.web, found.authentication) == ((), {}, None)


def test_what_fails_is_missing_and_the_rest_is_there() -> None:
    fakes = Fakes()
    fakes.web.error = EvidenceError("banned")
    fakes.records.error = RuntimeError("our own mistake")
    found = gathered(gatherer(fakes.sources()))
    assert {*found.missing} == {Source.WEB, Source.DNS}
    assert found.web == {}
    assert found.records is None
    assert found.reverse is not None


def test_what_has_nothing_to_tell_is_neither_found_nor_missing() -> None:
    fakes = Fakes()
    fakes.registration.answer = None
    fakes.authenticate.answer = None
    found = gathered(gatherer(fakes.sources()))
    assert (found.registrations, found.authentication, found.missing) == ({}, None, ())


@pytest.mark.parametrize(("timeout", "deadline"), [(0.05, LONG), (LONG, 0.15)])
def test_what_is_late_is_left_out_and_goes_on_for_the_next_mail(
    timeout: float, deadline: float
) -> None:
    fakes, counters = Fakes(), Counters()
    fakes.web.waits = fakes.authenticate.waits = True

    async def story() -> Evidence:
        made = gatherer(fakes.sources(), timeout, counters=counters)
        found = await asked(made, deadline=deadline)
        await asyncio.sleep(0)
        # One that is of use to this mail alone is ended.
        assert (fakes.web.cancelled, fakes.authenticate.cancelled) == (0, 1)
        await made.stop()
        return found

    found = run(story())
    assert {*found.missing} == {Source.WEB, Source.AUTHENTICATION}
    assert [*found.registrations] == DOMAINS[:4]
    assert fakes.web.cancelled == 3
    assert counters.value("evidence", source="web", outcome="late") == 3


def test_one_that_is_cancelled_ends_its_lookups() -> None:
    fakes = Fakes()
    fakes.web.waits = True

    async def story() -> None:
        made = gatherer(fakes.sources())
        task = asyncio.create_task(asked(made))
        await begun(fakes.web, 3)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert task.cancelled()

    run(story())
    assert fakes.web.cancelled == 3


def test_at_first_only_the_authentication_is_asked_for() -> None:
    fakes = Fakes()

    async def story() -> None:
        inquiry = gatherer(fakes.sources()).inquire(MESSAGE, MAIL, FACTS, Deadline.after(LONG))
        assert await inquiry.authentication(LONG) == Authentication(spf="pass")
        assert fakes.records.asked == fakes.web.asked == fakes.registration.asked == []
        inquiry.go_on()
        await begun(fakes.web, 3)
        assert (await inquiry.evidence()).authentication == Authentication(spf="pass")
        inquiry.drop()

    run(story())
    assert len(fakes.authenticate.asked) == 1


def test_what_was_begun_in_vain_is_dropped() -> None:
    fakes = Fakes()
    fakes.web.waits = True

    async def story() -> None:
        inquiry = gatherer(fakes.sources()).inquire(MESSAGE, MAIL, FACTS, Deadline.after(LONG))
        inquiry.go_on()
        await begun(fakes.web, 3)
        inquiry.drop()
        await asyncio.sleep(0)

    run(story())
    assert fakes.web.cancelled == 3


def test_one_who_has_no_time_does_not_wait_for_it() -> None:
    fakes = Fakes()
    fakes.authenticate.waits = True

    async def story() -> None:
        inquiry = gatherer(fakes.sources()).inquire(MESSAGE, MAIL, FACTS, Deadline.after(LONG))
        async with asyncio.timeout(LONG / 2):
            assert await inquiry.authentication(0.01) is None
        fakes.authenticate.go.set()
        assert await inquiry.authentication(LONG) == Authentication(spf="pass")
        inquiry.drop()

    run(story())


@pytest.mark.parametrize("fault", ["late", "failed", "off"])
def test_an_authentication_that_is_not_known_is_none(fault: str) -> None:
    fakes = Fakes()
    fakes.authenticate.waits = fault == "late"
    fakes.authenticate.error = EvidenceError("no") if fault == "failed" else None
    sources = fakes.sources()
    if fault == "off":
        sources = replace(sources, authenticate=None)

    async def story() -> None:
        made = gatherer(sources, timeout=0.05)
        inquiry = made.inquire(MESSAGE, MAIL, FACTS, Deadline.after(LONG))
        assert await inquiry.authentication(LONG) is None
        missing = (await inquiry.evidence()).missing
        assert (Source.AUTHENTICATION in missing) is (fault != "off")

    run(story())


@pytest.mark.parametrize(("scarce", "exists"), [(True, True), (True, False), (False, False)])
def test_while_searches_are_scarce_a_sender_that_does_not_exist_gets_none(
    scarce: bool, exists: bool
) -> None:
    fakes = Fakes()
    fakes.records.answer = DomainRecords(exists=exists)
    found = gathered(gatherer(replace(fakes.sources(), is_web_scarce=lambda: scarce)))
    assert ("acme.example" in found.web) is (exists or not scarce)
    assert "link0.example" in found.web
    assert found.missing == ()


def test_where_not_all_recipients_are_known_nothing_leaves_and_that_is_told() -> None:
    fakes = Fakes()
    many = Message(envelope=replace(SENT, recipient_count=2), data=DATA, size=len(DATA))
    found = run(asked(gatherer(fakes.sources()), many))
    assert fakes.web.asked == fakes.registration.asked == []
    assert {*found.missing} == {Source.WEB, Source.REGISTRATION}
    assert found.records is not None


class TestBegin:
    def test_only_dns_is_asked_early(self) -> None:
        fakes = Fakes()
        run(gatherer(fakes.sources()).begin(MESSAGE))
        assert fakes.prefetch.asked == [(MESSAGE, "mail.acme.example")]
        assert fakes.records.asked == [("acme.example", True)]
        assert fakes.reverse.asked == [("192.0.2.7",)]
        assert fakes.web.asked == fakes.registration.asked == fakes.authenticate.asked == []

    def test_an_aborted_session_ends_it(self) -> None:
        fakes = Fakes()
        fakes.records.waits = fakes.prefetch.waits = True

        async def story() -> None:
            task = asyncio.create_task(gatherer(fakes.sources()).begin(MESSAGE))
            await begun(fakes.records, 1)
            task.cancel()
            await asyncio.wait([task])

        run(story())
        assert fakes.records.cancelled == fakes.prefetch.cancelled == 1

    @pytest.mark.parametrize(
        ("head", "domain"),
        [
            (b"From: a@b.example\r\n\r\n", "b.example"),
            (b'X: y\r\nfrom: "x@other.example" <a@B.example>\r\nTo: c@d.example\r\n', "b.example"),
            (b"From: a@b.example, c@d.example (e@f.example)\r\n\r\n", "b.example"),
            (b"From: (e@f.example) a@b.example\r\n\r\n", "b.example"),
            (b'From: "' + b"\\" * 900 + b"\r\n\r\n", ""),
            (b"From: Long\r\n Name <a@b.example>\r\n\r\n", "b.example"),
            (b"To: c@d.example\r\n\r\nFrom the other side", ""),
            (b"From: " + b"@" * 100_000, ""),
        ],
    )
    def test_the_from_domain_by_a_look_at_the_header(self, head: bytes, domain: str) -> None:
        fakes = Fakes()
        message = Message(envelope=SENT, data=head, size=len(head))
        run(gatherer(fakes.sources()).begin(message))
        assert fakes.prefetch.asked == [(message, domain)]

    def test_a_failure_is_nobodys_loss(self) -> None:
        fakes = Fakes()
        fakes.records.error = EvidenceError("down")
        run(gatherer(fakes.sources()).begin(MESSAGE))
        assert len(fakes.records.asked) == 1
