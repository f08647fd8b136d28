"""Which mails have one fingerprint, and that all a prompt shows is in it."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import fingerprint as fingerprints
from rspamd_llm.domain import (
    Attachment,
    Authentication,
    Brief,
    DomainRecords,
    Envelope,
    Evidence,
    Facts,
    Finding,
    Flag,
    Hiding,
    Hop,
    Link,
    Mail,
    Message,
    Opinion,
    Page,
    Quoted,
    Registration,
    ReverseName,
    Signature,
    Source,
    Trait,
)

ENVELOPE = Envelope(
    queue_id="4bench",
    client_address="198.51.100.7",
    client_name="mail.sender.example",
    helo="mail.sender.example",
    sender="<bounce-1@sender.example>",
    recipients=("<alice.smith@example.org>",),
    recipient_count=1,
)
LINK = Link(text="Track it", target="https://www.sender.example/t/1", is_button=True)
FILE = Attachment(
    name="terms.zip",
    type="application/zip",
    size=20_000,
    found="zip",
    members=("terms.pdf",),
    links=("https://files.example/a",),
    traits=(Trait.LINKS,),
)
QUOTED = Quoted(from_address="bob@other.example", subject="Question", text="Where is it?")
MAIL = Mail(
    from_name="Parcel Service",
    from_address="notice@sender.example",
    reply_to=("help@sender.example",),
    to_count=1,
    to_names=("Alice Smith",),
    subject="Your parcel is on its way",
    date=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
    text="Dear Alice Smith,\nyour parcel 4711 comes on Monday. "
    "If nobody is there, it will be next door.",
    plain="Dear Alice Smith, your parcel 4711 comes.",
    hidden="see it in your browser",
    hidings=(Hiding.DISPLAY,),
    links=(LINK,),
    images=1,
    alts=("a parcel",),
    attachments=(FILE,),
    quoted=(QUOTED,),
    hop=Hop(host="mx.relay.example", address="203.0.113.5"),
    defects=("the date is malformed",),
)
FACTS = Facts(
    sender_domain="sender.example",
    envelope_domain="sender.example",
    reply_domains=("sender.example",),
    link_domains=("sender.example",),
    findings=(Finding(flag=Flag.REPLY_ELSEWHERE, detail="other.example"),),
)
SIGNATURE = Signature(domain="sender.example", result="pass", aligned=True)
AUTHENTICATION = Authentication(
    spf="pass",
    spf_domain="sender.example",
    signatures=(SIGNATURE,),
    dmarc="pass",
    policy="reject",
    arc="pass",
    sealer="relay.example",
    told_by="mx.example.org",
)
OPINION = Opinion(action="no action", score=1.5, symbols={"DBL_SPAM": 3.0, "R_SPF_ALLOW": -0.2})
EVIDENCE = Evidence(authentication=AUTHENTICATION, opinion=OPINION)
BRIEF = Brief(
    message=Message(envelope=ENVELOPE, data=b"x", size=1), mail=MAIL, facts=FACTS, evidence=EVIDENCE
)


def mark(brief: Brief, instructions: str = "i", model: str = "m") -> str:
    content = fingerprints.content(brief.message.envelope, brief.mail, brief.facts)
    return fingerprints.fingerprint(content, brief.evidence, instructions=instructions, model=model)


def of_mail(mail: Mail, envelope: Envelope = ENVELOPE) -> str:
    return mark(replace(BRIEF, mail=mail, message=replace(BRIEF.message, envelope=envelope)))


# --- All that a prompt shows ----------------------------------------------------------------

# For each class: another value of each field that makes another fingerprint.
CHANGES: Mapping[type, Mapping[str, Any]] = {
    Mail: {
        "from_name": "Tax Office",
        "from_address": "notice@other.example",
        "reply_to": ("help@other.example",),
        "to_count": 40,
        "subject": "Your tax is due",
        "text": "Dear Alice Smith,\npay at once.",
        "plain": "Pay at once.",
        "hidden": "pay at once",
        "hidings": (Hiding.COLOUR,),
        "links": (),
        "images": 0,
        "alts": ("a bill",),
        "attachments": (),
        "quoted": (),
        "hop": Hop(),
        "listed": True,
        "reply": True,
        "automatic": True,
        "defects": (),
    },
    Link: {"text": "Pay", "target": "https://www.other.example/t/1", "is_button": False},
    Attachment: {
        "name": "bill.zip",
        "type": "application/pdf",
        "size": 2_000_000,
        "found": "exe",
        "members": ("bill.exe",),
        "links": ("https://other.example/a",),
        "traits": (Trait.ENCRYPTED,),
    },
    Quoted: {"from_address": "bob@evil.example", "subject": "Invoice", "text": "Pay."},
    Hop: {"host": "mx.other.example", "address": "203.0.114.5"},
    Envelope: {
        "client_address": "198.51.101.7",
        "client_name": "mail.other.example",
        "helo": "mail.other.example",
        "authenticated": True,
    },
    Facts: {
        "sender_domain": "other.example",
        "envelope_domain": "other.example",
        "reply_domains": ("other.example",),
        "link_domains": ("other.example",),
        "findings": (),
    },
    Finding: {"flag": Flag.LINK_MISMATCH, "detail": "evil.example"},
    Authentication: {
        "spf": "fail",
        "spf_domain": "other.example",
        "signatures": (),
        "dmarc": "fail",
        "policy": "none",
        "arc": "fail",
        "sealer": "other.example",
    },
    Signature: {"domain": "other.example", "result": "fail", "aligned": False},
    Opinion: {"symbols": {"DBL_SPAM": -3.0, "R_SPF_ALLOW": -0.2}},
    Evidence: {
        "authentication": None,
        "opinion": None,
        "is_correspondent": True,
    },
}

DOMAINS_ALONE = "follows from domains that are in, and comes after the memory was asked"
# The others, each with the reason why it may differ under one verdict.
LEFT_OUT: Mapping[type, Mapping[str, str]] = {
    Mail: {
        "to_names": "no prompt shows them; a greeting by one of them is masked",
        "date": "passes; that it is far from now is a finding",
    },
    Envelope: {
        "queue_id": "of one copy",
        "sender": "its domain is among the facts; before it stands a copy's own mark",
        "recipients": "whom a copy goes to is what copies differ in",
        "recipient_count": "the number in To and Cc is what a prompt shows",
    },
    Authentication: {"told_by": "who told, not what"},
    Opinion: {
        "action": "follows from points, which differ from copy to copy; no prompt shows it",
        "score": "differs from copy to copy; no prompt shows it",
    },
    Evidence: {
        "records": DOMAINS_ALONE,
        "registrations": DOMAINS_ALONE,
        "web": DOMAINS_ALONE,
        "named": "follows from name and domain, which are in, and comes after",
        "reverse": "follows from the client's address, whose network is in, and comes after",
        "day": "passes",
        "missing": "chance",
    },
}
OTHERS: Mapping[str, Any] = {
    "to_names": ("Robert Jones", "Carol"),
    "date": datetime(2026, 3, 2, 10, 0, tzinfo=UTC),
    "queue_id": "5bench",
    "sender": "<bounce-2@sender.example>",
    "told_by": "mx2.example.org",
    "action": "greylist",
    "score": 2.5,
    "records": DomainRecords(exists=True),
    "registrations": {"sender.example": Registration(found=True)},
    "web": {"sender.example": (Page(title="Parcels", host="sender.example"),)},
    "named": (Page(title="Parcels", host="sender.example"),),
    "reverse": ReverseName(name="mail.sender.example", confirmed=True),
    "day": date(2026, 3, 2),
    "missing": (Source.WEB,),
}


def changed(kind: type, name: str, value: Any) -> Brief:
    """The brief with another value in one field of one of its parts."""
    mail, facts, evidence, message = BRIEF.mail, BRIEF.facts, BRIEF.evidence, BRIEF.message
    part: Any = {
        Mail: mail,
        Link: LINK,
        Attachment: FILE,
        Quoted: QUOTED,
        Hop: mail.hop,
        Envelope: ENVELOPE,
        Facts: facts,
        Finding: facts.findings[0],
        Authentication: AUTHENTICATION,
        Signature: SIGNATURE,
        Opinion: OPINION,
        Evidence: evidence,
    }[kind]
    part = replace(part, **{name: value})
    if kind is Signature:
        kind, part = Authentication, replace(AUTHENTICATION, signatures=(part,))
    match part:
        case Mail():
            mail = part
        case Link():
            mail = replace(mail, links=(part,))
        case Attachment():
            mail = replace(mail, attachments=(part,))
        case Quoted():
            mail = replace(mail, quoted=(part,))
        case Hop():
            mail = replace(mail, hop=part)
        case Envelope():
            message = replace(message, envelope=part)
        case Facts():
            facts = part
        case Finding():
            facts = replace(facts, findings=(part,))
        case Authentication():
            evidence = replace(evidence, authentication=part)
        case Opinion():
            evidence = replace(evidence, opinion=part)
        case Evidence():
            evidence = part
    return Brief(message=message, mail=mail, facts=facts, evidence=evidence)


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.__name__)
def test_every_field_is_thought_of(kind: type) -> None:
    names = {field.name for field in dataclasses.fields(kind)}
    assert names == {*CHANGES[kind]} | {*LEFT_OUT.get(kind, ())}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, fields in CHANGES.items() for name in fields],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_what_a_prompt_shows_makes_another_fingerprint(kind: type, name: str) -> None:
    assert mark(changed(kind, name, CHANGES[kind][name])) != mark(BRIEF)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, fields in LEFT_OUT.items()
        for name in fields
        if name not in ("recipients", "recipient_count")
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_what_is_left_out_makes_none(kind: type, name: str) -> None:
    plain = replace(BRIEF, mail=replace(MAIL, text="Hello.", plain="Hello."))
    other = changed(kind, name, OTHERS[name])
    other = replace(other, mail=replace(other.mail, text="Hello.", plain="Hello."))
    assert mark(other) == mark(plain)


def test_instructions_and_model_make_another() -> None:
    several = {mark(BRIEF), mark(BRIEF, instructions="j"), mark(BRIEF, model="n")}
    assert len(several) == 3
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in several)


def test_it_is_the_same_for_the_same_mail_wherever_it_is_made() -> None:
    # Another value here calls for another VERSION: daemons of two kinds share a store.
    assert fingerprints.VERSION == 1
    assert mark(BRIEF) == "5aaf82b810d6fa0e833f7d3501f591682873c7189045394e9a250c84022a0e22"


def test_no_two_fields_run_into_each_other() -> None:
    one = of_mail(replace(MAIL, subject="a", text="b c"))
    assert one != of_mail(replace(MAIL, subject="a b", text="c"))
    alts = of_mail(replace(MAIL, alts=("a", "b")))
    assert alts != of_mail(replace(MAIL, alts=("a b",)))


# --- Copies of a campaign -------------------------------------------------------------------


def copy(
    address: str, name: str = "", *, number: str = "4711", token: str = "", subject: str = ""
) -> str:
    """The fingerprint of one copy: to whom, and what is its own in it."""
    local = address.partition("@")[0]
    url = f"https://www.sender.example/c/{token}?id={number}&u={address.replace('@', '%40')}"
    text = (
        f"Dear {name or local},\nyour order {number} of 12.03.2026 is on its way, for EUR 49.90.\n"
        f"See {url}\nWho has questions writes to help@sender.example or calls +49 30 555 0123.\n"
        f"This mail was sent to {address}. Reference: {token or 'none'}"
    )
    mail = replace(
        MAIL,
        from_address=f"notice-{number}@sender.example",
        to_names=(name,) if name else (),
        subject=subject or f"Your order {number}",
        text=text,
        plain=f"{text}\n",
        links=(replace(LINK, target=url),),
        attachments=(replace(FILE, name=f"Order_{number}.pdf", size=20_000 + len(token)),),
    )
    envelope = replace(
        ENVELOPE, queue_id=token[:4], recipients=(f"<{address}>",), sender=f"<b{number}@x.example>"
    )
    return of_mail(mail, envelope)


def test_a_copy_for_another_is_the_same() -> None:
    assert copy("alice.smith@example.org", "Alice Smith") == copy("bob@example.com", "Robert Jones")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("carol@example.org", "Carol"),
        ("CAROL.KING@example.org", "carol king"),
        ("c.king@example.org", "Carol King"),
        ("customer731@example.org", "customer731"),
        ("jean-luc@example.org", "Jean-Luc Dupont"),
        ("maria@example.org", "María José de la Cruz"),
    ],
)
def test_whatever_he_is_called(address: str, name: str) -> None:
    assert copy(address, name) == copy("alice.smith@example.org", "Alice Smith")


def test_without_a_display_name_the_address_tells_the_name() -> None:
    def greeted(address: str, name: str) -> str:
        envelope = replace(ENVELOPE, recipients=(address,))
        text = f"Hi {name}, all is well."
        return of_mail(replace(MAIL, to_names=(), text=text, plain=text), envelope)

    assert greeted("alice.smith@example.org", "Alice") == greeted("bob@example.org", "Bob")


@pytest.mark.parametrize(
    "subject", ["{}, your parcel is waiting", "Your parcel is waiting, {}!", "Hello {}, good news"]
)
def test_a_subject_may_call_him_too(subject: str) -> None:
    several = {
        copy(f"{name.lower()}@example.org", name, subject=subject.format(name))
        for name in ("Alice", "Bob")
    }
    assert len(several) == 1


def tokens(kind: str, count: int = 300) -> list[str]:
    rng = random.Random(kind)
    signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    made = {
        "hexadecimal": lambda: f"{rng.getrandbits(96):024x}",
        "uuid": lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "base64": lambda: "".join(rng.choices(signs + "-_", k=43)),
        "digits": lambda: str(rng.randrange(10**9, 10**10)),
    }
    return [made[kind]() for _ in range(count)]


@pytest.mark.parametrize("kind", ["hexadecimal", "uuid", "base64", "digits"])
def test_copies_with_a_token_each_are_the_same(kind: str) -> None:
    several: dict[str, int] = {}
    for at, token in enumerate(tokens(kind)):
        found = copy(f"user{at}@example.org", token=token, number=str(10_000 + at))
        several[found] = several.get(found, 0) + 1
    # A token that chance made look like a word costs a question.
    assert max(several.values()) >= 290


def test_the_recipients_address_may_stand_anywhere_in_a_text() -> None:
    def told(address: str) -> str:
        text = f"Account: {address}. Log in as {address.upper()}; https://x.example/?e={address}"
        mail = replace(MAIL, text=text, plain=text)
        return of_mail(mail, replace(ENVELOPE, recipients=(address,)))

    assert told("alice@example.org") == told("bob.jones@example.com")


def test_blanks_and_case_and_styles_make_none() -> None:
    one = of_mail(replace(MAIL, text="Your parcel\n is HERE"))
    assert one == of_mail(replace(MAIL, text="your parcel is here"))
    assert one == of_mail(replace(MAIL, text="your  p\uff41rcel is here"))


def test_machines_of_one_network_send_one_campaign() -> None:
    def sent(address: str) -> str:
        return of_mail(MAIL, replace(ENVELOPE, client_address=address))

    assert sent("198.51.100.200") == sent("198.51.100.7")
    assert sent("2001:db8:1:2::3") == sent("2001:db8:1:ffff::4") != sent("2001:db8:2::3")
    assert sent("::ffff:198.51.100.9") == sent("198.51.100.7")
    assert sent("nonsense") != sent("other nonsense")


def test_days_pass() -> None:
    def dated(detail: str) -> str:
        found = Finding(flag=Flag.DATE_OFF, detail=detail)
        return mark(replace(BRIEF, facts=replace(FACTS, findings=(found,))))

    assert dated("8 days ago") == dated("9 days ago") != dated("9 days ahead")


def test_rspamds_points_differ_and_what_it_means_does_not() -> None:
    def thought(points: float) -> str:
        opinion = Opinion(action="no action", score=points, symbols={"BAYES_HAM": points})
        return mark(replace(BRIEF, evidence=replace(EVIDENCE, opinion=opinion)))

    assert thought(-1.2) == thought(-2.8) != thought(1.0)


ANY_TEXT = st.text(max_size=60) | st.text(alphabet="a1@./:%-+ \0hiDear,\u0661\uff11", max_size=60)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_it_never_raises(one: str, two: str, three: str) -> None:
    mail = Mail(
        from_name=two,
        from_address=one,
        reply_to=(two,),
        to_names=(three,),
        subject=three,
        text=f"Dear {three}, {one}",
        plain=two,
        links=(Link(text=two, target=one), Link(text="", target=f"https://x.example/{two}")),
        attachments=(Attachment(name=one, type=two, size=-1, members=(three,), links=(one,)),),
        quoted=(Quoted(from_address=three, subject=one, text=two),),
        hop=Hop(host=one, address=two),
    )
    envelope = Envelope(client_address=one, client_name=two, helo=three, recipients=(three,))
    message = Message(envelope=envelope, data=b"", size=0)
    assert len(mark(Brief(message=message, mail=mail, facts=Facts()))) == 64
