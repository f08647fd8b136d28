"""Mails made for benchmarks: of a wanted size, each different from all others, the same again
for the same number. No real mail and nobody's name is in them."""

from __future__ import annotations

import base64
import random

from bench.milterwire import Mail

TEXT = """
account address agreement answer arrive attach balance bank before begin bill book bring
build business calendar call cancel change charge check claim click close collect common
company confirm contact continue contract copy corner cost customer date deliver department
describe design detail document each early email employee energy every example expect family
file final first follow form friend garden general give group health help holiday house
however include invoice issue join kitchen large later leave letter light line list live
local long look machine market matter meeting message minute money month morning move name
never next note notice number offer office open order other package page paper part password
payment people period person phone place plan please point post present price problem
product project public question quick reach read reason receive record refund regular reply
report request reserve result return review room safe school season second secure send
service shop short simple small special staff start station statement story street study
subject summer system table team thank ticket today together track travel update user visit
wait water week welcome window winter work world year yesterday young
"""
WORDS = TEXT.split()

CELL = (
    'style="margin:0;padding:12px 24px;font-family:Arial,Helvetica,sans-serif;font-size:14px;'
    'line-height:20px;color:#333333;background-color:#ffffff" align="left" valign="top"'
)
# What newsletters wrap a paragraph in: tables in tables, with styles on each.
MARKUP = (
    '<table width="600" cellpadding="0" cellspacing="0" border="0" style="margin:0 auto">'
    f'<tr><td {CELL}><table width="100%" border="0"><tr><td {CELL}><span {CELL}>{{line}}</span>'
    "</td></tr></table></td></tr></table>"
)

DOMAINS = ("example.com", "example.net", "example.org", "mail.example", "shop.example")


def make(size: int, number: int) -> Mail:
    """A mail of about `size` bytes: text and HTML with links up to 40 kB, the rest attached."""
    rng = random.Random(f"{size} {number}")
    domain = rng.choice(DOMAINS)
    readable = max(min(size - 900, 40_000), 400)  # bytes; the headers and marks take 900
    # A tenth of such a mail is text, or less: of real ones of 12 to 32 kB the median is 3 %, a
    # quarter have 6 % and more.  The rest is markup.  They have a link for each 1,700 bytes.
    lines = _lines(rng, max(readable // 13, 60))
    text = "\r\n".join(lines)
    paragraphs = "\r\n".join(
        MARKUP.format(
            line=f'{line} <a href="https://www.{domain}/{rng.randrange(10**6)}">more</a>'
            if at % 2 == 0
            else line
        )
        for at, line in enumerate(lines)
    )
    page = f"<!doctype html><html><body>{paragraphs}</body></html>"
    parts = [
        ("text/plain; charset=utf-8", "8bit", text),
        ("text/html; charset=utf-8", "8bit", page),
    ]
    if size > 45_000:
        data = base64.encodebytes(rng.randbytes((size - readable) * 3 // 4)).decode()
        attached = 'application/pdf; name="report.pdf"'
        parts.append((attached, "base64", data.replace("\n", "\r\n")))
    mark = f"=_{rng.randrange(16**12):012x}"
    body = "".join(
        f"--{mark}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        f"{content}\r\n"
        for kind, encoding, content in parts
    )
    kind = "mixed" if len(parts) > 2 else "alternative"
    name = rng.choice(WORDS).title()
    headers = (
        ("Received", f" from relay.{domain} (relay.{domain} [192.0.2.7])\n\tby mx.example.org"
                     f" with ESMTPS id {number:08x}; Mon, 2 Feb 2026 10:00:00 +0000"),
        ("From", f' "{name} {rng.choice(WORDS).title()}" <{name.lower()}@{domain}>'),
        ("To", " user@example.org"),
        ("Subject", " " + " ".join(rng.sample(WORDS, 6))),
        ("Date", " Mon, 2 Feb 2026 10:00:00 +0000"),
        ("Message-ID", f" <{rng.randrange(16**16):016x}@{domain}>"),
        ("MIME-Version", " 1.0"),
        ("Content-Type", f' multipart/{kind};\n\tboundary="{mark}"'),
    )  # fmt: skip
    return Mail(headers, f"{body}--{mark}--\r\n".encode())


def _lines(rng: random.Random, size: int) -> list[str]:
    lines: list[str] = []
    while size > 0:
        line = " ".join(rng.choices(WORDS, k=rng.randint(6, 12))).capitalize() + "."
        lines.append(line)
        size -= len(line) + 2
    return lines
