"""What fills the slots of a sentence: people, places, brands, numbers, and above all domains.

Real brands stand here with the domains they really send from, as facts; the invented ones are
made anew each time, so that the model has to look at whether domain and name fit together and
cannot just learn names.
"""

import random
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LISTS: Mapping[str, Any] = tomllib.loads(
    (Path(__file__).parent / "lists.toml").read_text(encoding="utf-8")
)
FREE_MAIL: Sequence[str] = LISTS["free_mail"]
FREE_HOSTS: Sequence[str] = LISTS["free_hosts"]
SHORTENERS: Sequence[str] = LISTS["shorteners"]
TRACKERS: Sequence[str] = LISTS["trackers"]
SYLLABLES: Sequence[str] = LISTS["syllables"]
WORDS: Sequence[str] = LISTS["words"]
LURES: Sequence[str] = LISTS["lures"]
TLDS: Sequence[str] = LISTS["tlds"]
CHEAP: Sequence[str] = LISTS["cheap"]
HOME: Mapping[str, Sequence[str]] = LISTS["home"]


@dataclass(frozen=True, slots=True)
class Brand:
    name: str
    domain: str


def invented_word(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))
    return rng.choice(WORDS) + rng.choice(WORDS)


def brand(rng: random.Random, trade: str, language: str) -> Brand:
    """A brand with the domain that fits it; every other time an invented one."""
    if rng.random() < 0.5 and trade in LISTS["real"]:
        name, _, domain = rng.choice(LISTS["real"][trade]).rpartition(" ")
        return Brand(name, domain)
    word = invented_word(rng)
    tail = rng.choice(LISTS["invented"][trade])
    end = rng.choice(HOME[language]) if rng.random() < 0.5 else rng.choice(TLDS)
    form = rng.randrange(4)
    if form == 0:
        return Brand(word.capitalize(), f"{word}.{end}")
    if form == 1:
        return Brand(f"{word.capitalize()} {tail}", f"{word}-{tail.lower()}.{end}")
    if form == 2:
        return Brand(f"{word.capitalize()}{tail}", f"{word}{tail.lower()}.{end}")
    return Brand(f"{word.capitalize()} {tail}", f"{word}{tail.lower()}.{end}")


def company_domain(rng: random.Random, language: str) -> str:
    """The domain of some company or person that has nothing to do with anything."""
    joint = rng.choice(["", "-"])
    end = rng.choice(HOME[language]) if rng.random() < 0.5 else rng.choice(TLDS)
    return f"{invented_word(rng)}{joint}{rng.choice([*WORDS, *SYLLABLES])}.{end}"


def bad_domain(rng: random.Random, brand: Brand, language: str) -> str:
    """A domain that has nothing to do with the brand, or only pretends to."""
    form = rng.random()
    stem = "".join(char for char in brand.name.lower() if char.isascii() and char.isalnum())
    end = rng.choice(CHEAP) if rng.random() < 0.6 else rng.choice(TLDS)
    if form < 0.3:
        return company_domain(rng, language)
    if form < 0.5:
        lure = rng.sample(LURES, rng.randint(1, 2))
        return f"{'-'.join(rng.sample([stem, *lure], len(lure) + 1))}.{end}"
    if form < 0.65:
        return f"{'-'.join(rng.sample(LURES, 2))}{rng.choice(['', '24', '365', '1'])}.{end}"
    if form < 0.8:
        return f"{token(rng, rng.randint(5, 12))}.{end}"
    if form < 0.9:
        front = rng.choice([token(rng, 8), f"{stem}-{rng.choice(LURES)}"])
        return f"{front}.{rng.choice(FREE_HOSTS)}"
    return f"{invented_word(rng)}{invented_word(rng)}.{end}"


def token(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def address(rng: random.Random) -> str:
    parts = (rng.randint(1, 223), rng.randrange(256), rng.randrange(256), rng.randint(1, 254))
    return ".".join(str(part) for part in parts)


def person(rng: random.Random, language: str) -> tuple[str, str]:
    return rng.choice(LISTS["people"][language]), rng.choice(LISTS["surnames"][language])


def ascii_only(text: str) -> str:
    table = str.maketrans("àáâãäåçèéêëìíîïñòóôõöøùúûüýß", "aaaaaaceeeeiiiinoooooouuuuys")
    return "".join(c for c in text.lower().translate(table) if c.isascii() and c.isalnum())


def money(rng: random.Random, language: str, low: float, high: float) -> str:
    value = rng.uniform(low, high)
    text = f"{value:,.2f}" if value < 3000 else f"{value:,.0f}"
    if language == "en":
        return rng.choice(["${}", "£{}", "€{}", "{} USD", "{} EUR"]).format(text)
    if language == "pt" and rng.random() < 0.5:
        return "R$ " + text.translate(str.maketrans(",.", ".,"))
    return text.translate(str.maketrans(",.", ".,")) + rng.choice([" €", " EUR", " euros", "€"])


def fill(rng: random.Random, language: str, to: tuple[str, str], mailbox: str) -> dict[str, str]:
    """A value for every slot but those of the sender's side (brand, site, support, evil)."""
    people = [person(rng, language) for _ in range(3)]
    identity = rng.choice(
        [
            str(rng.randrange(10**5, 10**9)),
            token(rng, 10).upper(),
            token(rng, 2).upper()
            + str(rng.randrange(10**8, 10**9))
            + rng.choice(["DE", "FR", "GB", ""]),
            f"{rng.randint(2019, 2026)}-{rng.randrange(10**5)}",
        ]
    )
    big = rng.choice([1.5, 2.5, 4.7, 8.5, 10.5, 12, 18, 25, 0.85])
    currency = rng.choice(["$", "€", "£", "USD ", "US$"])
    month = rng.choice(LISTS["months"][language])
    return {
        "name": to[0],
        "surname": to[1],
        "user": mailbox.partition("@")[0],
        "email": mailbox,
        "sender": " ".join(people[0]),
        "sender2": " ".join(people[1]),
        "other": people[2][0],
        "weekday": rng.choice(LISTS["weekdays"][language]),
        "month": month,
        "date": rng.choice(
            [
                f"{rng.randint(1, 28)} {month}",
                f"{rng.randint(1, 28):02}/{rng.randint(1, 12):02}/{rng.randint(2021, 2026)}",
            ]
        ),
        "year": str(rng.randint(2021, 2026)),
        "pastyear": str(rng.randint(2005, 2020)),
        "time": f"{rng.randint(7, 15)}:{rng.choice(['00', '15', '30', '45'])}",
        "time2": f"{rng.randint(16, 21)}:{rng.choice(['00', '30'])}",
        "city": rng.choice(LISTS["places"][language]),
        "street": f"{rng.choice(LISTS['streets'][language])} {rng.randint(1, 180)}",
        "num": str(rng.choice([2, 3, 4, 5, 7, 8, 10, 12, 15, 20, 24, 25, 30, 40, 50, 60])),
        "days": str(rng.choice([3, 5, 7, 10, 14, 30])),
        "hours": rng.choice(["12", "24", "48", "72"]),
        "pct": str(rng.choice([10, 15, 20, 25, 30, 40, 50, 70, 80, 90, 98]))
        + rng.choice(["%", " %"]),
        "four": f"{rng.randrange(10000):04}",
        "code": f"{rng.randrange(10**6):06}",
        "id": identity,
        "ver": f"{rng.randint(0, 5)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}",
        "amount": money(rng, language, 9, 900),
        "small": money(rng, language, 0.9, 9),
        "big": f"{currency}{big:g} million"
        if rng.random() < 0.5
        else f"{currency}{int(big * 1e6):,}",
        "btc": f"{rng.uniform(0.05, 3):.4f}",
        "topic": rng.choice(LISTS["topics"]),
        "product": rng.choice(LISTS["products"]),
        "product2": rng.choice(LISTS["products"]),
        "company": brand(rng, "shop", language).name,
        "phone": f"+{rng.randint(1, 99)} {rng.randrange(10**8, 10**9)}",
        "wallet": rng.choice(["bc1q", "1", "3"]) + token(rng, 30),
        "url": f"https://meet.{company_domain(rng, language)}/{token(rng, 9)}",
        "evil": f"{ascii_only(''.join(people[0]))}{rng.randrange(1000)}@{rng.choice(FREE_MAIL)}",
    }
