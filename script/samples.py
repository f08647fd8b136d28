"""The demonstration's mails, and what registries, the web, DNS and Rspamd know of their domains.

The mails themselves are in tests/data/demo.  Nothing but data may live here.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.standins import Domain, Found


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample mail: its file, what it is, where it seems to come from, who signs it with DKIM.

    The clients' addresses are of the open internet, as SPF and reverse names tell nothing of
    others: of 192.0.32.0/20, which is IANA's, who keep the example domains too.  Nothing is sent
    there.
    """

    file: str
    what: str
    client: str
    signer: str = ""
    recipient: str = "user@example.org"
    is_telling: bool = False
    """Whether what was looked up is shown."""


SAMPLES = (
    Sample("01-personal", "a personal mail", "192.0.35.1", "postbox.example"),
    Sample(
        "03-invoice",
        "an invoice of a real firm that few know",
        "192.0.35.3",
        "holm-roofing.example",
        is_telling=True,
    ),
    Sample(
        "04-parcel-phish",
        "a parcel phish with domains of this week",
        "192.0.35.4",
        is_telling=True,
    ),
    Sample("05-advance-fee", "an advance-fee scam", "192.0.35.5", "freepost.example"),
    Sample(
        "06-forged-headers",
        "casino spam with forged X-GPT headers",
        "192.0.35.6",
        "vip-spins.example",
    ),
    Sample(
        "08-french-phish",
        "a bank phish in French in a joiner's name",
        "192.0.35.66",
        is_telling=True,
    ),
    Sample(
        "09-campaign",
        "the first mail of a campaign",
        "192.0.35.9",
        "cloudnest-billing.example",
        recipient="sam.okonkwo@example.org",
    ),
    Sample(
        "10-campaign-copy",
        "the next one: other name, link, number",
        "192.0.35.9",
        "cloudnest-billing.example",
        recipient="lena.marchetti@example.org",
    ),
    Sample("07-french", "a mail in French", "192.0.35.7", "ecole-des-tilleuls.example"),
    Sample("02-newsletter", "a newsletter", "192.0.35.2", "riverside-museum.example"),
    Sample(
        "11-library",
        "a library's notice",
        "192.0.35.11",
        "alder-bridge-library.example",
    ),
)

"""In the order in which they are sent.  First come those of which a registry has something to tell:
it is asked ten questions in a row, and then two a second."""

TRUSTED = ("alder-bridge-library.example",)
"""Domains that Rspamd's administrator has put on its allow-list for mail that passes DMARC."""

WORLD = (
    Domain(
        name="postbox.example",
        days=6_800,
        address="192.0.35.1",
        dmarc="quarantine",
        pages=[Found("Postbox", "https://www.postbox.example/", "Mail for small offices")],
    ),
    Domain(
        name="riverside-museum.example",
        days=5_100,
        address="192.0.35.2",
        bounces="news.riverside-museum.example",
        dmarc="none",
        pages=[Found("Riverside Museum", "https://www.riverside-museum.example/", "4 Quay Street")],
    ),
    Domain(
        name="holm-roofing.example",
        days=4_300,
        address="192.0.35.3",
        dmarc="quarantine",
        pages=[
            Found(
                "Holm Roofing: slate, zinc and dormers",
                "https://www.holm-roofing.example/",
                "A family business at 12 Foundry Lane since 1987",
            ),
            Found(
                "Our members",
                "https://www.guild-of-roofers.example/members",
                "Holm Roofing, holm-roofing.example, member since 1991",
            ),
        ],
    ),
    Domain(
        name="cheap-racks.example",
        address="192.0.35.4",
        bounces="vps-8841.cheap-racks.example",
    ),
    Domain(name="lawn-and-hedge-care.example", days=3, address="192.0.35.44"),
    Domain(name="parcel-desk-24.example", days=3),
    Domain(
        name="freepost.example",
        days=5_900,
        address="192.0.35.5",
        pages=[Found("Freepost: mail for everyone", "https://freepost.example/", "Sign up free")],
    ),
    Domain(name="quickletter.example", days=12),
    Domain(name="vip-spins.example", days=6, address="192.0.35.6"),
    Domain(name="spin-palace-bonus.example", days=6),
    Domain(
        name="ecole-des-tilleuls.example",
        days=3_300,
        address="192.0.35.7",
        dmarc="none",
        pages=[Found("Ecole des Tilleuls", "https://ecole-des-tilleuls.example/", "Le projet")],
    ),
    Domain(
        name="menuiserie-arbois.example",
        days=4_700,
        address="192.0.35.8",
        dmarc="reject",
        pages=[
            Found(
                "Menuiserie Arbois",
                "https://menuiserie-arbois.example/",
                "Portes, fenêtres et escaliers sur mesure",
            )
        ],
    ),
    Domain(name="clef-numerique.example", days=1),
    Domain(
        name="cloudnest-billing.example",
        days=2,
        address="192.0.35.9",
        bounces="mail.cloudnest-billing.example",
    ),
    Domain(
        name="alder-bridge-library.example",
        days=6_100,
        address="192.0.35.11",
        dmarc="reject",
        pages=[
            Found(
                "Alder Bridge Library",
                "https://www.alder-bridge-library.example/",
                "2 Mill Lane, open from ten to six",
            )
        ],
    ),
)
