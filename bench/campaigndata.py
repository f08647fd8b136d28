"""A campaign for benchmarks: copies of one mail, each with its own Message-ID, recipient, name and
token. No real mail and nobody's name is in it."""

from __future__ import annotations

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.milterwire import Mail

NAMES = (
    "Anna",
    "Bert",
    "Clara",
    "Dirk",
    "Elena",
    "Frank",
    "Greta",
    "Hans",
    "Ines",
    "Jakob",
    "Mona",
)
SURNAMES = (
    "Adler",
    "Bach",
    "Conrad",
    "Dorn",
    "Engel",
    "Falk",
    "Gruber",
    "Huber",
    "Imhof",
    "Keller",
)

TEXT = """\
Dear {name},

your parcel {parcel} could not be delivered on {day}.{month}., as no customs fee was paid for it.
Please confirm your address and pay the fee of 2.99 EUR within 48 hours; after that it goes back to
its sender.

Confirm here: https://parcel.example.net/c/{token}?id={number}

With kind regards
Your delivery team

You receive this mail because a parcel was announced to {recipient}.
"""

PAGE = """\
<html><body><table width="600"><tr><td style="font-family:Arial;font-size:14px">
<p>Dear {name},</p>
<p>your parcel <b>{parcel}</b> could not be delivered on {day}.{month}., as no customs fee was paid
for it. Please confirm your address and pay the fee of 2.99 EUR within 48 hours; after that it goes
back to its sender.</p>
<p><a href="https://parcel.example.net/c/{token}?id={number}" style="background-color:#0055aa">
Confirm address</a></p>
<p>With kind regards<br>Your delivery team</p>
<p style="font-size:11px">You receive this mail because a parcel was announced to {recipient}.</p>
<img src="https://parcel.example.net/o/{token}.gif" width="1" height="1">
</td></tr></table></body></html>
"""

WHOLE = """\
From: "Parcel Service" <notice-{number}@parcel.example.net>
To: "{name}" <{recipient}>
Subject: {name}, your parcel {parcel} is waiting
Date: {date}
Message-ID: <{token}@parcel.example.net>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="b{number}"

--b{number}
Content-Type: text/plain; charset=utf-8

{text}
--b{number}
Content-Type: text/html; charset=utf-8

{page}
--b{number}--
"""


@dataclass(frozen=True)
class Copy:
    """One of them, and whom it goes to."""

    mail: Mail
    recipient: str


def copies(count: int) -> list[Copy]:
    """So many copies, the same ones each time but for their date, which is now."""
    rng = random.Random(0)
    return [_copy(rng, at) for at in range(count)]


def another() -> Copy:
    """A mail of no campaign."""
    data = b"From: a@example.net\r\nTo: user@example.org\r\nSubject: Lunch\r\n\r\nAt noon?\r\n"
    return Copy(Mail.parse(data), "user@example.org")


def _copy(rng: random.Random, number: int) -> Copy:
    first, last = rng.choice(NAMES), rng.choice(SURNAMES)
    recipient = f"{first}.{last}{number}@example.org".lower()
    about = {
        "date": email.utils.format_datetime(datetime.now(UTC)),
        "name": f"{first} {last}",
        "recipient": recipient,
        "parcel": f"{rng.randrange(10**9, 10**10)}",
        "day": f"{rng.randrange(10, 30)}",
        "month": f"{rng.randrange(10, 13)}",
        "token": f"{rng.getrandbits(96):024x}",
        "number": f"{rng.randrange(10**7, 10**8)}",
    }
    whole = WHOLE.format(text=TEXT.format(**about), page=PAGE.format(**about), **about)
    return Copy(Mail.parse(whole.replace("\n", "\r\n").encode()), recipient)
