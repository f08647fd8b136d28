"""The mails of the soak: of many sizes and shapes, each different, the same again for its number.

A third of them name a domain that no other has, so that what remembers domains fills up and lets
old ones go; the others name one of those that came before.  No real mail and nobody's name is in
them, unless files are given to be mixed in.
"""

from __future__ import annotations

import io
import quopri
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.evidencedata import found
from bench.mails import DOMAINS, WORDS, make
from bench.milterclient import Envelope, Mail, Peer
from bench.standins import Domain, signed

SIZES = (2_000, 4_000, 8_000, 8_000, 15_000, 25_000, 40_000, 120_000, 600_000)
"""Bytes, each as often as the others: real mail has 8 to 15 kB at the median, some with files."""

NEW_DOMAINS = 1 / 3
"""Share of mails whose domain is new."""

KNOWN_DOMAINS = 300
"""Domains that the others share."""

SIGNED = 40
"""Mails with a DKIM signature, of domains that the name server knows; signing takes 2 ms."""

REAL_SHARE = 1 / 3
"""Of real mails, where files are given."""


@dataclass(frozen=True)
class Letter:
    """A mail, its envelope and who sends it."""

    mail: Mail
    envelope: Envelope
    peer: Peer


class Mails:
    """Letters by number."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self._files = files
        self._signed = [_signed(at) for at in range(SIGNED)]

    @staticmethod
    def world() -> list[Domain]:
        """The domains that DNS is to know.  All others do not exist there, which is an answer, and
        is remembered, too."""
        return [
            Domain(name=_signer(at), address=_client(at), dmarc="reject", pages=found(_signer(at)))
            for at in range(SIGNED)
        ]

    def letter(self, number: int) -> Letter:
        """The letter of this number."""
        rng = random.Random(number)
        known = rng.random() >= NEW_DOMAINS
        at = rng.randrange(KNOWN_DOMAINS) if known else KNOWN_DOMAINS + number
        domain, client = f"firm-{at}.example", _client(SIGNED + at)
        if self._files and rng.random() < REAL_SHARE:
            mail = Mail.parse(rng.choice(self._files).read_bytes())
        elif (kind := rng.randrange(10)) == 0:
            at = rng.randrange(SIGNED)
            domain, client, mail = _signer(at), _client(at), self._signed[at]
        else:
            shape = SHAPES[kind % len(SHAPES)] if kind < 6 else make
            mail = _of(shape(rng.choice(SIZES), number), domain)
        received = ("Received", f" from mail.{domain} by mx.example.org with SMTP id {number:08d}")
        return Letter(
            Mail((received, *mail.headers), mail.body),
            Envelope(f"bounce@{domain}", macros={"i": f"4soak{number:08d}"}),
            # A client without a confirmed name has its address looked up.
            Peer(client, "" if number % 3 == 0 else f"mail.{domain}", helo=f"mail.{domain}"),
        )


def plain(size: int, number: int) -> Mail:
    """Text alone, with a link."""
    rng = random.Random(f"plain {number}")
    words = " ".join(rng.choices(WORDS, k=min(size, 20_000) // 6))
    text = f"{words}\r\nhttps://www.{DOMAINS[0]}/{number}\r\n"
    return _with(make(1_000, number), "text/plain; charset=us-ascii", text.encode())


def foreign(size: int, number: int) -> Mail:
    """Russian in a charset of old, as quoted-printable."""
    rng = random.Random(f"foreign {number}")
    words = ("счёт", "оплата", "договор", "письмо", "встреча", "сегодня", "проверьте", "ссылка")
    text = "\n".join(" ".join(rng.choices(words, k=9)) for _ in range(min(size, 20_000) // 200))
    body = quopri.encodestring(text.encode("koi8-r")).replace(b"\n", b"\r\n")
    mail = _with(make(1_000, number), "text/plain; charset=koi8-r", body)
    encoding = ("Content-Transfer-Encoding", " quoted-printable")
    return Mail((*mail.headers, encoding), mail.body)


def forwarded(size: int, number: int) -> Mail:
    """A mail in a mail."""
    inner = make(min(size, 40_000), number).raw()
    note = b"--cut\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
    body = note + b"--cut\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--cut--\r\n"
    return _with(make(1_000, number), 'multipart/mixed; boundary="cut"', body)


def packed(size: int, number: int) -> Mail:
    """A ZIP file with a page and a program in it."""
    rng = random.Random(f"packed {number}")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        # ZipInfo, as a bare name would get the time of day.
        page, program = zipfile.ZipInfo("invoice.html"), zipfile.ZipInfo("invoice.pdf.exe")
        archive.writestr(page, " ".join(rng.choices(WORDS, k=200)))
        archive.writestr(program, rng.randbytes(min(size, 100_000)))
    # Eight bits, as many senders do it.
    head = b"--cut\r\nContent-Type: text/plain\r\n\r\nYour invoice.\r\n--cut\r\nContent-Type: "
    head += b'application/zip; name="invoice.zip"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    body = head + file.getvalue() + b"\r\n--cut--\r\n"
    return _with(make(1_000, number), 'multipart/mixed; boundary="cut"', body)


def torn(size: int, number: int) -> Mail:
    """A mail whose end is missing."""
    mail = make(size, number)
    return Mail(mail.headers, mail.body[: len(mail.body) * 2 // 3])


SHAPES: tuple[Callable[[int, int], Mail], ...] = (plain, foreign, forwarded, packed, torn)


def _with(mail: Mail, kind: str, body: bytes) -> Mail:
    headers = [
        (name, f" {kind}" if name == "Content-Type" else text) for name, text in mail.headers
    ]
    return Mail(tuple(headers), body)


def _of(mail: Mail, domain: str) -> Mail:
    """The mail with this domain in the place of the one that it was made with."""
    made = mail.values("From")[0].rpartition("@")[2].rstrip(">")
    headers = tuple((name, text.replace(made, domain)) for name, text in mail.headers)
    body = mail.body
    for one in DOMAINS:
        body = body.replace(b"//www.%s/" % one.encode(), b"//www.%s/" % domain.encode())
    return Mail(headers, body)


def _signer(at: int) -> str:
    return f"signed-{at}.example"


def _signed(at: int) -> Mail:
    return Mail.parse(signed(_of(make(6_000, at), _signer(at)).raw(), _signer(at)))


def _client(at: int) -> str:
    """An address of the open internet, which nothing here connects to."""
    return f"9.{20 + at // 62_500}.{at // 250 % 250}.{at % 250 + 1}"
