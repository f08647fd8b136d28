"""Wanted mail of people and of companies: what the sender claims fits where it comes from."""

import random
from collections.abc import Callable, Mapping

from script.model import slots
from script.model.mime import Draft, File
from script.model.setting import Setting

PDF = "application/pdf"
ROLES = (
    "office",
    "info",
    "team",
    "colleague",
    "hr",
    "contact",
    "post",
    "sales",
    "secretary",
    "club",
)
# Wanted mail of companies: kind -> trade of the brand.
TRADES: Mapping[str, str] = {
    "newsletter": "shop",
    "order": "shop",
    "invoice": "service",
    "parcel": "parcel",
    "calendar": "service",
    "bank": "bank",
    "reset": "service",
    "verify": "service",
    "service": "streaming",
}
# Companies do write what phishers write; then all that fits together is the sender and its links.
ALARMING: Mapping[str, str] = {
    "bank": "bank_phish",
    "parcel": "parcel_phish",
    "service": "streaming_phish",
    "reset": "mailbox_phish",
}


def filler(rng: random.Random, size: int) -> bytes:
    return rng.randbytes(size)


def _person_address(here: Setting, kind: str, name: str) -> tuple[str, str]:
    """An address that fits the name, private or at some company; and its domain."""
    rng = here.rng
    first, _, last = name.partition(" ")
    first, last = slots.ascii_only(first), slots.ascii_only(last)
    user = rng.choice(
        [f"{first}.{last}", f"{first}{last}", f"{first[:1]}{last}", f"{first}{rng.randint(1, 99)}"]
    )
    if kind == "work" and rng.random() < 0.35:
        domain = here.to_address.partition("@")[2]  # from the next room
    elif kind != "work" and rng.random() < 0.5:
        domain = rng.choice(slots.FREE_MAIL)
    else:
        domain = slots.company_domain(rng, here.language)
    if rng.random() < 0.25:
        user = rng.choice([*ROLES, first, last])
    return f"{user}@{domain}", domain


def person(here: Setting, kind: str) -> Draft:
    """Personal mail, work mail and list mail, with quotes, signatures, pictures, documents."""
    rng, voice = here.rng, here.voice
    name = voice.values["sender"]
    address, domain = _person_address(here, kind, name)
    pool = {"personal": "chat", "work": rng.choice(["work", "office"]), "list": "tech"}[kind]
    subject = voice.subject(kind)
    count = rng.choice([1, 2, 3, 4, 5, 6, 7, 9, 12])
    sentences = voice.sample(pool, count)
    body = [" ".join(sentences[at : at + 3]) for at in range(0, len(sentences), 3)]
    if kind != "list" or rng.random() < 0.3:
        body.insert(0, voice.words("hello"))
    body.append(voice.words("bye") + "\n" + rng.choice([name, name.partition(" ")[0]]))
    if rng.random() < 0.12:
        body = voice.sample("short", 1)  # people also write next to nothing
        subject = rng.choice([subject, "", "test", body[0]])
    headers: dict[str, str] = {}
    if rng.random() < 0.5:
        quoted = "\n".join(f"> {line}" for line in voice.sample(pool, rng.randint(1, 8)))
        quote = voice.words("wrote") + "\n" + quoted
        body.insert(1 if rng.random() < 0.3 else len(body), quote)
        headers["In-Reply-To"] = f"<{slots.token(rng, 12)}@{domain}>"
        headers["References"] = headers["In-Reply-To"]
        subject = (
            subject
            if subject.startswith("Re")
            else f"{rng.choice(['Re', 'Re', 'AW', 'RE'])}: {subject}"
        )
    links = []
    if rng.random() < 0.25:
        target = here.url(slots.company_domain(rng, here.language))
        links.append((target, target))
    footer = []
    if kind == "work" and rng.random() < 0.6:
        footer = [
            name,
            voice.values["company"],
            f"{voice.values['street']}, {voice.values['city']}",
            voice.values["phone"],
        ]
        footer += voice.sample("legal", rng.choice([0, 0, 1, 2]))
    if kind == "list":
        listname = slots.invented_word(rng)
        home = slots.company_domain(rng, here.language)
        headers["List-Id"] = f"<{listname}.{home}>"
        headers["List-Unsubscribe"] = f"<mailto:{listname}-leave@{home}>"
        subject = f"[{listname}] {subject}" if rng.random() < 0.6 else subject
        page = f"https://{home}/mailman/listinfo/{listname}"
        links.append((page, page))
        footer = ["_" * 40, f"{listname} mailing list", f"{listname}@{home}"]
    files = []
    if kind != "list" and rng.random() < 0.25:
        files.append(
            rng.choice(
                [
                    File(f"IMG_{rng.randrange(9999):04}.jpg", "image/jpeg", filler(rng, 90)),
                    File(f"{voice.values['topic'].replace(' ', '_')}.pdf", PDF, filler(rng, 90)),
                    File("minutes.docx", "application/msword", filler(rng, 90)),
                    File(
                        f"{slots.token(rng, 5)}.xlsm", "application/vnd.ms-excel", filler(rng, 90)
                    ),
                    File(f"photos_{rng.randint(1, 9)}.zip", "application/zip", filler(rng, 90)),
                ]
            )
        )
    return Draft(
        from_name=rng.choice([name, name, name, voice.values["company"], "", ""]),
        from_address=address,
        to_name=here.to_name,
        to_address=here.to_address if kind != "list" else f"{listname}@{home}",
        subject=subject,
        paragraphs=body,
        links=links,
        footer=footer,
        files=files,
        headers=headers,
        look=rng.choice(["text", "text", "both", "html"]),
        host=here.host(domain),
        hidden_to=kind == "personal" and rng.random() < 0.04,
    )


def company(here: Setting, kind: str) -> Draft:
    """Mail of a company: sender and links fit the brand, or a mailing service carries both."""
    rng, voice, brand = here.rng, here.voice, here.brand
    user = rng.choice(
        ["noreply", "no-reply", "info", "service", "news", "hello", "kontakt", "notify"]
    )
    front = rng.choice(["", "", "mail.", "news.", "email.", "e."])
    body: list[str] = []
    words = ALARMING[kind] if kind in ALARMING and rng.random() < 0.06 else kind
    if kind == "newsletter":
        body += [voice.words("browser"), *voice.says(kind)]
        for headline, teaser in zip(
            voice.sample("news", rng.randint(2, 5)), voice.sample("teaser", 5), strict=False
        ):
            body += [headline, teaser] if rng.random() < 0.8 else [f"{headline}. {teaser}"]
    else:
        body += [voice.words("formal"), *voice.says(words)]
        if kind in ("reset", "verify", "bank", "service") and rng.random() < 0.4:
            body.append(voice.words("security"))
    reach: Callable[[], str] = lambda: here.url(brand.domain)  # noqa: E731  a choice of two ways
    if words == kind and rng.random() < (0.35 if kind == "newsletter" else 0.1):
        tracker = f"{slots.token(rng, 6)}.{rng.choice(slots.TRACKERS)}"
        reach = lambda: here.url(tracker, "")  # noqa: E731
    count = rng.randint(3, 12) if kind == "newsletter" else rng.choice([0, 1, 1, 1, 2, 3])
    links = [(voice.button(kind), reach()) for _ in range(count)]
    if rng.random() < 0.3:
        links.append((f"www.{brand.domain}", f"https://www.{brand.domain}/"))
    headers = {}
    footer = [voice.words("footer") for _ in range(rng.randint(0, 2))]
    footer += voice.sample("legal", rng.choice([0, 0, 1, 2, 4, 6]))
    if kind == "newsletter" or rng.random() < 0.1:
        headers["List-Unsubscribe"] = f"<{reach()}>"
        links.append((voice.words("unsubscribe"), reach()))
    if kind in ("reset", "verify", "order", "parcel") and rng.random() < 0.3:
        headers["Auto-Submitted"] = "auto-generated"
    if rng.random() < 0.1:
        headers["Reply-To"] = f"{rng.choice(['contact', 'service'])}@{brand.domain}"
    files = []
    if (kind == "invoice" and rng.random() < 0.7) or (
        kind in ("order", "bank") and rng.random() < 0.15
    ):
        files.append(File(f"{voice.values['id']}.pdf".replace("/", "-"), PDF, filler(rng, 120)))
    if kind == "calendar":
        files.append(File("invite.ics", "text/calendar", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"))
    return Draft(
        from_name=rng.choice(
            [brand.name, brand.name, f"{brand.name} {rng.choice(['Service', 'Team', 'Info'])}", ""]
        ),
        from_address=f"{user}@{front}{brand.domain}",
        to_name=here.to_name,
        to_address=here.to_address,
        subject=voice.subject(words),
        paragraphs=body,
        links=links,
        footer=footer,
        files=files,
        headers=headers,
        look=rng.choice(["both", "html", "both", "text"]),
        host=here.host(rng.choice([brand.domain, brand.domain, rng.choice(slots.TRACKERS)])),
    )
