"""Mails, the world that they come from, and evidence, made up for the benchmark of evidence.

Of each number the same again, and with domains that no other number has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from bench import brief
from bench.mails import WORDS
from bench.standins import Domain, Found, signed
from rspamd_llm.domain import (
    Authentication,
    DomainRecords,
    Envelope,
    Evidence,
    Facts,
    Mail,
    Message,
    Page,
    Registration,
    Signature,
    Source,
)

LINKS = 3  # domains beside the sender's


@dataclass(frozen=True)
class Story:
    """A mail, as it was read, and the domains that it names, the sender's first."""

    message: Message
    mail: Mail
    facts: Facts
    domains: tuple[str, ...]


def names_of(number: int) -> tuple[str, ...]:
    """The domains of a mail: its sender's and its links'."""
    return tuple(
        f"{word}-{number}.example" for word in ("acme", "shop", "pay", "news")[: 1 + LINKS]
    )


def client_of(number: int) -> str:
    """Where a mail comes from: an address of the open internet, which nothing here connects to."""
    return f"9.20.{number // 250}.{number % 250 + 1}"


def world_of(number: int) -> list[Domain]:
    """What the stand-ins know of a mail's domains."""
    sender, *links = names_of(number)
    address = client_of(number)
    several = [Domain(name=sender, address=address, dmarc="reject", pages=found(sender))]
    return several + [Domain(name=name, pages=found(name)) for name in links]


def found(name: str) -> list[Found]:
    rng = random.Random(name)
    text = " ".join(rng.choices(WORDS, k=20)).capitalize() + "."
    own = Found(f"{name}: official site", f"https://www.{name}/", text)
    return [own, Found(f"Reviews of {name}", "https://reviews.example.net/r", text)]


def story(number: int, *, copy: int = 0, size: int = 3_000, is_named: bool = True) -> Story:
    """A mail with a signature of its sender's domain and a link to each other one.

    Copies differ in their text. Without a name the MTA did not find the client's.
    """
    sender, *links = names_of(number)
    rng = random.Random(f"{number} {copy}")
    lines = [f"https://www.{name}/{copy}" for name in links]
    while sum(map(len, lines)) < size:
        lines.append(" ".join(rng.choices(WORDS, k=10)).capitalize() + ".")
    head = (
        f"From: Acme <info@mail.{sender}>",
        "To: user@example.org",
        f"Subject: {' '.join(rng.sample(WORDS, 5))}",
        "Date: Mon, 2 Feb 2026 10:00:00 +0000",
        f"Message-ID: <{number}.{copy}@{sender}>",
    )
    data = signed("\r\n".join((*head, "", *lines, "")).encode(), sender)
    envelope = Envelope(
        client_address=client_of(number),
        client_name=f"mail.{sender}" if is_named else "unknown",
        helo=f"mail.{sender}",
        sender=f"<bounce@{sender}>",
        recipients=("<user@example.org>",),
        recipient_count=1,
    )
    message = Message(envelope=envelope, data=data, size=len(data))
    mail = brief.mail_of(message)
    return Story(message, mail, brief.facts_known(message, mail, brief.NOW), names_of(number))


def pieces(count: int) -> Iterator[tuple[Evidence, Facts]]:
    """Evidence of all sorts, from little to all that there can be."""
    rng = random.Random(count)
    for number in range(count):
        names = names_of(number)[: rng.randint(1, 1 + LINKS)]
        links = tuple(rng.sample(("bit.ly", "gmail.com", *names), rng.randint(0, 3)))
        facts = Facts(sender_domain=names[0], link_domains=links)
        yield evidence(rng, names), facts


def evidence(rng: random.Random, names: tuple[str, ...]) -> Evidence:
    results = ("pass", "fail", "softfail", "temperror", "none")
    signatures = [
        Signature(domain=name, result=rng.choice(results), aligned=name == names[0])
        for name in names
    ]
    authentication = Authentication(
        spf=rng.choice(results),
        spf_domain=rng.choice(names),
        signatures=tuple(signatures[: rng.randint(0, len(signatures))]),
        dmarc=rng.choice(("pass", "fail", "")),
        policy=rng.choice(("reject", "none", "")),
        arc=rng.choice(("pass", "")),
        sealer="list.example",
    )
    registrars = ("", "Example Registrar, Inc.", "Key-Systems GmbH", "Онлайн Регистратор")
    registrations = {
        name: Registration(
            found=rng.random() < 0.9,
            created=date(rng.randint(1995, 2026), rng.randint(1, 12), 3),
            registrar=rng.choice(registrars),
        )
        for name in names
    }
    return Evidence(
        authentication=authentication,
        records=DomainRecords(exists=True, mail=True, spf=True, dmarc="reject"),
        registrations=registrations,
        web={name: page(rng, name) for name in names[:3]},
        day=date(2026, 3, 16),
        missing=tuple(rng.sample([*Source], rng.randint(0, 2))),
    )


def page(rng: random.Random, name: str) -> tuple[Page, ...]:
    """Up to two results with as much text as is kept of one (pages.py)."""
    many = (" ".join(WORDS), "Оплата услуг и доставка товаров по всей стране. " * 20, "詐欺" * 400)
    text = rng.choice(many)[rng.randint(0, 300) :]
    shown = Page(title=f"{name} {text}"[:60], host=f"www.{name}", snippet=text[60:180])
    return (shown,) * rng.randint(0, 2)
