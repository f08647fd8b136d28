"""The mixture of generated mail: which kinds in which languages how often, all from one seed.

Held-out mail differs from training mail by its wordings (phrases.py) and by whole kinds in some
languages, which training never sees.
"""

import random
from collections.abc import Iterator

from script.model import machine, unwanted, wanted
from script.model.labels import Sample
from script.model.mime import write
from script.model.phrases import LANGUAGES
from script.model.setting import start

LANGUAGE_WEIGHTS = {"en": 34, "fr": 15, "de": 13, "es": 10, "it": 9, "pt": 10, "nl": 9}
PERSONS = ("personal", "work", "list")
WANTED_WEIGHTS = {
    "personal": 13,
    "work": 14,
    "list": 6,
    "newsletter": 14,
    "order": 6,
    "invoice": 8,
    "parcel": 8,
    "calendar": 4,
    "bank": 7,
    "reset": 6,
    "verify": 5,
    "service": 7,
    "bounce": 4,
    "away": 2,
    "cron": 2,
    "monitor": 2,
    "build": 3,
    "abuse": 2,
}
UNWANTED_WEIGHTS = {
    "parcel_phish": 9,
    "bank_phish": 11,
    "mailbox_phish": 8,
    "streaming_phish": 6,
    "tax_phish": 5,
    "crypto_phish": 5,
    "document_phish": 6,
    "ceo": 4,
    "advance": 7,
    "lottery": 3,
    "romance": 4,
    "loan": 4,
    "invest": 5,
    "extortion": 5,
    "reward": 7,
    "malware": 10,
    "pills": 5,
    "casino": 4,
    "seo": 4,
    "leads": 4,
    "adult": 4,
    "offers": 6,
}
UNSEEN = frozenset(
    {
        ("parcel", "pt"),
        ("parcel_phish", "pt"),
        ("bank", "it"),
        ("bank_phish", "it"),
        ("mailbox_phish", "es"),
        ("reset", "es"),
        ("advance", "nl"),
        ("newsletter", "nl"),
        ("extortion", "de"),
        ("invoice", "de"),
    }
)


def one(rng: random.Random, kind: str, language: str, *, held_out: bool) -> Sample:
    if kind in unwanted.KINDS:
        label, trade = unwanted.KINDS[kind]
        draft = unwanted.draft(start(rng, language, trade, held_out=held_out), kind)
    else:
        label = "none"
        here = start(rng, language, wanted.TRADES.get(kind, "service"), held_out=held_out)
        if kind in machine.KINDS:
            draft = machine.draft(here, kind)
        elif kind in PERSONS:
            draft = wanted.person(here, kind)
        else:
            draft = wanted.company(here, kind)
    return Sample("generated", kind, language, label, write(rng, draft), held_out)


def many(seed: int, count: int, *, held_out: bool = False) -> Iterator[Sample]:
    """`count` mails, as many wanted as unwanted; the same for the same seed."""
    rng = random.Random(f"{seed}:{held_out}")
    tongues, shares = list(LANGUAGE_WEIGHTS), list(LANGUAGE_WEIGHTS.values())
    for number in range(count):
        weights = UNWANTED_WEIGHTS if number % 2 else WANTED_WEIGHTS
        while True:
            kind = rng.choices(list(weights), list(weights.values()))[0]
            language = rng.choices(tongues, shares)[0]
            if held_out or (kind, language) not in UNSEEN:
                break
        # A generator of its own for each mail: one more choice in one does not change the rest.
        yield one(random.Random(rng.random()), kind, language, held_out=held_out)


__all__ = ["LANGUAGES", "UNSEEN", "many", "one"]
