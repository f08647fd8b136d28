"""Unwanted mail that is after an answer or an opened file: fraud letters, and malware.

The lures that are after a click are in unwanted.py.
"""

from collections.abc import Sequence

from script.model import slots
from script.model.mime import Draft, File
from script.model.setting import Setting

DANGEROUS: Sequence[str] = slots.LISTS["dangerous"]


def noisy(here: Setting, subject: str) -> str:
    rng = here.rng
    way = rng.random()
    if way < 0.08:
        return subject.upper()
    if way < 0.16:
        return f"{rng.choice(['⚠️', '🔔', '📦', 'RE:', '[EXT]', '❗', '🎁'])} {subject}"
    if way < 0.24:
        values = here.voice.values
        return f"{subject} {rng.choice(['!!!', values['id'], '- ' + values['email'], '✅'])}"
    return subject


def letter(here: Setting, kind: str) -> Draft:
    """Written as by a person, for an answer rather than a click."""
    rng, voice = here.rng, here.voice
    name, reply = voice.values["sender"], voice.values["evil"]
    sender = rng.choice(
        [
            reply,
            reply,
            f"info@{slots.company_domain(rng, here.language)}",
            f"{slots.token(rng, 6)}@{slots.bad_domain(rng, here.brand, here.language)}",
        ]
    )
    headers: dict[str, str] = {}
    if sender != reply and rng.random() < 0.6:
        headers["Reply-To"] = reply
    if kind == "ceo" and rng.random() < 0.2:
        headers["In-Reply-To"] = f"<{slots.token(rng, 8)}@{sender.partition('@')[2]}>"
    if kind == "extortion" and rng.random() < 0.4:
        sender, headers = here.to_address, {}
    greeting = voice.words("hello") if kind in ("ceo", "romance") else voice.words("cold")
    body = [greeting if rng.random() < 0.85 else ""]
    says = voice.says(kind)
    if rng.random() < 0.4:
        says = [" ".join(says)]
    body += says
    if kind == "advance" and rng.random() < 0.5:
        body += voice.says(kind)[1:]
    body.append(f"{voice.words('bye')}\n{name}" if kind != "extortion" else "")
    links = []
    if kind in ("seo", "leads", "romance") and rng.random() < 0.2:
        target = here.url(slots.bad_domain(rng, here.brand, here.language))
        links.append((target, target))
    footer = voice.sample("legal", rng.choice([1, 3])) if rng.random() < 0.15 else []
    return Draft(
        footer=footer,
        from_name=rng.choice([name, name, name.upper(), f"Mr {name}", f"Dr. {name}", ""]),
        from_address=sender,
        to_name="",
        to_address=here.to_address,
        subject=noisy(here, voice.subject(kind)),
        paragraphs=body,
        links=links,
        headers=headers,
        look=rng.choice(["text", "text", "html", "both"]),
        host=here.host(slots.company_domain(rng, here.language)),
        hidden_to=rng.random() < 0.35,
    )


def malware(here: Setting) -> Draft:
    rng, voice = here.rng, here.voice
    stem = rng.choice(
        [
            voice.values["id"].replace("/", "-"),
            f"Invoice_{rng.randrange(99999)}",
            f"PO-{rng.randrange(99999)}",
            f"Scan_{rng.randrange(9999)}",
            "payment copy",
            "document",
            f"Rechnung_{rng.randrange(9999)}",
            f"Facture-{rng.randrange(9999)}",
            "DHL_label",
            "resume",
        ]
    )
    ending = rng.choice(DANGEROUS)
    if rng.random() < 0.2:
        ending = f"pdf.{ending}"
    kind = rng.choice(
        ["application/octet-stream", "application/zip", "text/html", "application/x-zip-compressed"]
    )
    files = [
        File(
            f"{stem}.{ending}",
            kind if kind != "text/html" else "application/octet-stream",
            rng.randbytes(150),
        )
    ]
    links = []
    if rng.random() < 0.15:
        links.append(
            (voice.button("invoice"), here.url(slots.bad_domain(rng, here.brand, here.language)))
        )
    sender = rng.choice(
        [
            slots.company_domain(rng, here.language),
            rng.choice(slots.FREE_MAIL),
            slots.bad_domain(rng, here.brand, here.language),
        ]
    )
    user = rng.choice(["info", "accounting", "sales", "scanner", slots.token(rng, 6)])
    words = "invoice" if rng.random() < 0.25 else "malware"
    return Draft(
        from_name=rng.choice(
            [voice.values["sender"], here.brand.name, "Accounts", "sales", "", "DHL Express"]
        ),
        from_address=f"{user}@{sender}",
        to_name="",
        to_address=here.to_address,
        subject=noisy(here, voice.subject(words)),
        paragraphs=[voice.words("cold"), *voice.says(words), voice.words("bye")],
        links=links,
        files=files,
        look=rng.choice(["text", "html", "both"]),
        host=here.host(slots.company_domain(rng, here.language)),
        hidden_to=rng.random() < 0.2,
    )
