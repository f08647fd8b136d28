"""What every generated mail starts from: a language, a recipient, a brand, and a voice."""

import random
from dataclasses import dataclass

from script.model import slots
from script.model.phrases import Voice

OWN_DOMAINS = ("example.org", "example.com", "example.net", "uni.example", "firma.example")


@dataclass(frozen=True, slots=True)
class Setting:
    rng: random.Random
    language: str
    voice: Voice
    brand: slots.Brand
    to_name: str
    to_address: str

    def host(self, domain: str) -> str:
        front = self.rng.choice(["mail", "mx1", "smtp", "out", "mta12", "relay"])
        return f"{front}.{domain}"

    def url(self, domain: str, front: str | None = None) -> str:
        """A web address there; long ones stand for tracking."""
        rng = self.rng
        head = rng.choice(["", "www.", "www.", "click.", "my."]) if front is None else front
        path = rng.choice(["", "a/", "t/", "account/", "c?u="]) + slots.token(
            rng, rng.randint(4, 24)
        )
        return f"{rng.choice(['https', 'https', 'http'])}://{head}{domain}/{path}"


def start(rng: random.Random, language: str, trade: str, *, held_out: bool) -> Setting:
    brand = slots.brand(rng, trade, language)
    to = slots.person(rng, language)
    user = rng.choice(
        [
            slots.ascii_only(to[0]),
            f"{slots.ascii_only(to[0])}.{slots.ascii_only(to[1])}",
            "user",
            "info",
        ]
    )
    address = f"{user}@{rng.choice(OWN_DOMAINS)}"
    values = slots.fill(rng, language, to, address)
    values |= {
        "brand": brand.name,
        "site": f"www.{brand.domain}",
        "support": f"{rng.choice(['support', 'service', 'contact', 'help'])}@{brand.domain}",
    }
    voice = Voice(rng, language, held_out, values)
    return Setting(rng, language, voice, brand, rng.choice([" ".join(to), "", to[0]]), address)
