"""Draft -> RFC 5322 bytes: headers, bodies in text or HTML or both, encodings, attachments."""

import html
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime


@dataclass(frozen=True, slots=True)
class File:
    name: str
    type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A mail before it is written down. `links` are (shown text, target) pairs."""

    from_name: str
    from_address: str
    to_name: str
    to_address: str
    subject: str
    paragraphs: Sequence[str]
    links: Sequence[tuple[str, str]] = ()
    footer: Sequence[str] = ()
    files: Sequence[File] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    look: str = "text"  # text, html or both
    host: str = "mail.example.net"
    hidden_to: bool = False


_STYLES = ("", ' style="font-family:Arial,sans-serif;font-size:14px"', ' class="c1"')


def write(rng: random.Random, draft: Draft) -> bytes:
    message = EmailMessage(policy=SMTP)
    moment = datetime(2021, 1, 4, tzinfo=UTC) + timedelta(minutes=rng.randrange(60 * 24 * 365 * 6))
    address = (
        f"{rng.randint(11, 99)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randint(1, 254)}"
    )
    message["Return-Path"] = f"<{draft.from_address}>"
    message["Received"] = (
        f"from {draft.host} ({draft.host} [{address}]) by mx.example.org with ESMTPS id "
        f"{rng.randrange(16**10):X}; {format_datetime(moment)}"
    )
    message["Date"] = format_datetime(moment)
    message["From"] = _address(draft.from_name, draft.from_address)
    if draft.hidden_to:
        message["To"] = "undisclosed-recipients:;"
    else:
        message["To"] = _address(draft.to_name, draft.to_address)
    message["Subject"] = " ".join(draft.subject.split())
    message["Message-ID"] = f"<{rng.randrange(16**16):x}@{draft.from_address.partition('@')[2]}>"
    for name, value in draft.headers.items():
        message[name] = value
    encoding = rng.choice(["quoted-printable", "base64", "quoted-printable"])
    if draft.look in ("text", "both"):
        message.set_content(_text(draft), cte=encoding, charset="utf-8")
    if draft.look == "html":
        message.set_content(_html(rng, draft), subtype="html", cte=encoding, charset="utf-8")
    elif draft.look == "both":
        message.add_alternative(_html(rng, draft), subtype="html", cte=encoding, charset="utf-8")
    for file in draft.files:
        main, _, sub = file.type.partition("/")
        message.add_attachment(file.data, maintype=main, subtype=sub, filename=file.name)
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{rng.randrange(16**12):x}_{number}")
    return message.as_bytes()


def _address(name: str, address: str) -> Address:
    user, _, domain = address.partition("@")
    return Address(display_name=name, username=user, domain=domain)


def _text(draft: Draft) -> str:
    parts = list(draft.paragraphs)
    for shown, target in draft.links:
        parts.append(target if shown == target else f"{shown}: {target}")
    if draft.footer:
        parts.append("-- \n" + "\n".join(draft.footer))
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(rng: random.Random, draft: Draft) -> str:
    style = rng.choice(_STYLES)
    lines = ["<html><head><title>", html.escape(draft.subject), "</title></head><body>"]
    tables = rng.random() < 0.5
    if tables:
        lines.append('<table width="600" align="center"><tr><td>')
    lines += [
        f"<p{style}>{html.escape(paragraph)}</p>".replace("\n", "<br>\n")
        for paragraph in draft.paragraphs
        if paragraph
    ]
    for shown, target in draft.links:
        anchor = f'<a href="{html.escape(target)}">{html.escape(shown)}</a>'
        lines.append(rng.choice([f"<p>{anchor}</p>", f"<div align=center>{anchor}</div>"]))
    if draft.footer:
        lines.append("<hr>" + "<br>".join(html.escape(line) for line in draft.footer))
    lines.append("</td></tr></table>" if tables else "")
    return "\n".join([*lines, "</body></html>"])
