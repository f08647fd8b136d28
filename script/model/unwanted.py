"""Unwanted mail: what the sender claims does not fit where the mail and its links come from."""

from collections.abc import Mapping
from dataclasses import dataclass

from script.model import letters, slots
from script.model.mime import Draft, File
from script.model.setting import Setting

# Kind -> label, trade of the brand claimed.
KINDS: Mapping[str, tuple[str, str]] = {
    "parcel_phish": ("phishing", "parcel"),
    "bank_phish": ("phishing", "bank"),
    "mailbox_phish": ("phishing", "service"),
    "streaming_phish": ("phishing", "streaming"),
    "tax_phish": ("phishing", "state"),
    "crypto_phish": ("phishing", "crypto"),
    "document_phish": ("phishing", "document"),
    "ceo": ("scam", "service"),
    "advance": ("scam", "bank"),
    "lottery": ("scam", "service"),
    "romance": ("scam", "service"),
    "loan": ("scam", "bank"),
    "invest": ("scam", "crypto"),
    "extortion": ("scam", "service"),
    "reward": ("scam", "shop"),
    "malware": ("malware", "service"),
    "pills": ("marketing", "shop"),
    "casino": ("marketing", "shop"),
    "seo": ("marketing", "service"),
    "leads": ("marketing", "service"),
    "adult": ("marketing", "shop"),
    "offers": ("marketing", "shop"),
}
BY_LETTER = {"ceo", "advance", "lottery", "romance", "seo", "leads"}  # written as by a person
# Wanted kinds whose very words phishers copy: only where it comes from tells them apart.
COPIED = {
    "parcel_phish": "parcel",
    "bank_phish": "bank",
    "streaming_phish": "service",
    "document_phish": "service",
    "mailbox_phish": "reset",
}


def draft(here: Setting, kind: str) -> Draft:
    label, _ = KINDS[kind]
    if label == "malware":
        return letters.malware(here)
    if kind in BY_LETTER or kind == "extortion" or (kind == "loan" and here.rng.random() < 0.6):
        return letters.letter(here, kind)
    return _lure(here, kind, label)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a lure comes from and where it leads."""

    sender: str
    target: str
    front: str


def _ground(here: Setting, label: str) -> Ground:
    rng = here.rng
    lures = [slots.bad_domain(rng, here.brand, here.language) for _ in range(2)]
    way = rng.random()
    if way < 0.12:
        sender = here.brand.domain if label == "phishing" else lures[0]  # forged
    elif way < 0.55:
        sender = lures[0]
    elif way < 0.62:
        sender = rng.choice(slots.FREE_MAIL)
    else:
        sender = slots.company_domain(rng, here.language)  # somebody's stolen account
    way = rng.random()
    if way < 0.03:
        return Ground(sender, slots.address(rng), "")
    if way < 0.17:
        return Ground(sender, rng.choice(slots.SHORTENERS), "")
    target = lures[0] if rng.random() < 0.7 else lures[1]
    return Ground(sender, target, rng.choice(["", "", "www.", "login.", f"{slots.token(rng, 5)}."]))


def _lure(here: Setting, kind: str, label: str) -> Draft:
    """Written as by a company, for a click."""
    rng, voice = here.rng, here.voice
    words = COPIED[kind] if kind in COPIED and rng.random() < 0.12 else kind
    ground = _ground(here, label)
    url = here.url(ground.target, ground.front)
    button = voice.button(words) or voice.button("bank_phish")
    links = [(button, url)] * rng.choice([1, 1, 1, 2, 3])
    if label == "phishing" and rng.random() < 0.15:
        links.append((f"https://www.{here.brand.domain}/", url))
    if rng.random() < 0.15:
        links.append((here.brand.name, f"https://www.{here.brand.domain}/"))
    headers: dict[str, str] = {}
    if rng.random() < (0.4 if label == "marketing" or kind == "reward" else 0.06):
        leave = here.url(ground.target, ground.front)
        headers["List-Unsubscribe"] = f"<{leave}>"
        links.append((voice.words("unsubscribe"), leave))
    if rng.random() < 0.06:
        headers["Reply-To"] = voice.values["evil"]
    files = []
    if label == "phishing" and rng.random() < 0.06:
        name = rng.choice(["document.html", "form.htm", "invoice.pdf", "secure.svg"])
        files.append(File(name, "text/html", b"<html>"))
    user = rng.choice(
        ["noreply", "info", "support", "service", "admin", "contact", slots.token(rng, 7), "mail"]
    )
    return Draft(
        from_name=_claimed_name(here, label),
        from_address=f"{user}@{ground.sender}",
        to_name="" if rng.random() < 0.8 else here.to_name,
        to_address=here.to_address,
        subject=letters.noisy(here, voice.subject(words)),
        paragraphs=_body(here, words, label),
        links=links,
        footer=_footer(here),
        files=files,
        headers=headers,
        look=rng.choice(["html", "html", "both", "text"]),
        host=here.host(slots.company_domain(rng, here.language)),
        hidden_to=rng.random() < 0.12,
    )


def _body(here: Setting, words: str, label: str) -> list[str]:
    rng, voice = here.rng, here.voice
    says = voice.says(words)
    if rng.random() < 0.07:
        return says[:1]  # a picture would say the rest
    body = [voice.words("cold") if rng.random() < 0.8 else "", *says]
    if label == "phishing" and rng.random() < 0.2:
        body.append(voice.words("security"))
    return body


def _footer(here: Setting) -> list[str]:
    rng, voice = here.rng, here.voice
    footer = [voice.words("footer")] if rng.random() < 0.4 else []
    if rng.random() < 0.4:
        footer += voice.sample("legal", rng.choice([1, 2, 4, 6]))
    if rng.random() < 0.08:  # innocent text, to look like other mail
        footer += voice.sample(rng.choice(["chat", "news", "tech", "work"]), rng.randint(2, 8))
    return footer


def _claimed_name(here: Setting, label: str) -> str:
    rng, name = here.rng, here.brand.name
    if label == "marketing" and rng.random() < 0.5:
        return rng.choice(
            [here.voice.values["sender"], "Newsletter", "Best Offers", "Promo", "", "VIP Club"]
        )
    return rng.choice(
        [
            name,
            name,
            name.upper(),
            f"{name} {rng.choice(['Service', 'Support', 'Team', 'Security', 'Info', 'Alert'])}",
            f"{rng.choice(['noreply', 'service'])}@{here.brand.domain}",
            "Support",
            "Customer Service",
            "",
        ]
    )
