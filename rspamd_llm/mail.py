"""Bytes -> Mail: the message as its reader sees it.

The only importer of mailparser.  What may not live here: judgement (facts.py) and the way a mail
is shown to the model (prompt.py).  `read` never raises: any bytes at all give a Mail, and what
could not be read is said in its `defects`.
"""

from __future__ import annotations

import email
import email.policy
import ipaddress
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import mailparser

from rspamd_llm import visible
from rspamd_llm.domain import Attachment, Hop, Mail

# mail-parser warns of what it does not handle and quotes the mail; mail stays out of our log.
logging.getLogger("mailparser").setLevel(logging.CRITICAL + 1)

HEADER_LIMIT = 1_000
"""Characters kept of one header's text.  RFC 5322 2.1.1 allows lines of 998."""

ATTACHMENT_LIMIT = 50
"""Attachments kept of one mail; the prompt shows the first few."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HOP_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_HOP_ADDRESS = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]{3,45})\]|\b(\d{1,3}(?:\.\d{1,3}){3})\b")
# What mail-parser reports, in our words; its own details quote the mail.
_DEFECTS: Mapping[str, str] = {
    "CharsetDecodeDefect": "a text part was not in the character set it names",
    "AddressHeaderDefect": "an address header is malformed",
    "DateHeaderDefect": "the date is malformed",
    "ReceivedHeaderDefect": "a Received header is malformed",
    "MimeHeaderDefect": "a MIME header is malformed",
    "StartBoundaryNotFoundDefect": "a MIME boundary is missing",
    "CloseBoundaryNotFoundDefect": "the last MIME boundary is missing",
    "NoBoundaryInMultipartDefect": "a MIME boundary is missing",
    "InvalidBase64PaddingDefect": "base64 text is damaged",
    "InvalidBase64CharactersDefect": "base64 text is damaged",
    "InvalidBase64LengthDefect": "base64 text is damaged",
    "MissingHeaderBodySeparatorDefect": "the header does not end properly",
    "FirstHeaderLineIsContinuationDefect": "the header begins with a continuation line",
}


def read(data: bytes, *, truncated: bool = False) -> Mail:
    """The Mail that these RFC 5322 bytes show to a reader.

    `truncated` says that the message went on after them.  Never raises.
    """
    cut = ("only the beginning of the message was read",) if truncated else ()
    try:
        return _read(mailparser.parse_from_bytes(data), cut)
    except Exception:  # noqa: BLE001  mail-parser and the stdlib raise of many kinds on hostile mail
        return _rescue(data, (*cut, "the MIME structure could not be read"))


def _read(parsed: mailparser.MailParser, defects: tuple[str, ...]) -> Mail:
    message = parsed.message
    plain = visible.tidy(_clean("\n".join(parsed.text_plain)))
    rendered = [visible.render(_clean(html)) for html in parsed.text_html]
    html_text = "\n".join(text for text, _ in rendered).strip()
    html_links = tuple(link for _, links in rendered for link in links)
    shown = {link.target for link in html_links}
    bare = (link for link in visible.bare_links(plain) if link.target not in shown)
    senders = _addresses(parsed.from_)
    found = sorted(
        {_DEFECTS.get(name, "the message is malformed") for name in parsed.defects_categories}
    )
    return Mail(
        from_name=senders[0][0] if senders else "",
        from_address=senders[0][1] if senders else "",
        reply_to=tuple(address for _, address in _addresses(parsed.reply_to)[:10]),
        to_count=len(parsed.to or ()) + len(parsed.cc or ()),
        subject=_line(_first(parsed.subject)),
        date=parsed.date if isinstance(parsed.date, datetime) else None,
        text=plain or html_text,
        html_text=html_text,
        links=(*html_links, *bare)[: visible.LINK_LIMIT],
        attachments=tuple(_attachment(part) for part in parsed.attachments[:ATTACHMENT_LIMIT]),
        hop=_hop([str(value) for value in message.get_all("Received", [])]),
        listed="List-Id" in message or "List-Unsubscribe" in message,
        reply="In-Reply-To" in message or "References" in message,
        automatic=_automatic(str(message.get("Auto-Submitted", "")), message.get_content_type()),
        defects=(*defects, *found),
    )


def _rescue(data: bytes, defects: tuple[str, ...]) -> Mail:
    """The Mail of bytes whose structure defeats the parser: its header, and the rest as text."""
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    message = email.message_from_bytes(head[:100_000] + b"\n\n", policy=email.policy.compat32)
    text = visible.tidy(_clean(body.decode("utf-8", "replace")))
    return Mail(
        subject=_line(str(message.get("Subject", ""))),
        text=text,
        links=visible.bare_links(text),
        defects=defects,
    )


def _clean(text: str) -> str:
    """The text without NUL and controls (but for line breaks and tabs) and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")


def _line(text: str) -> str:
    """The text on one line, bounded."""
    return " ".join(_clean(text).split())[:HEADER_LIMIT]


def _first(value: object) -> str:
    """The first of a header's copies: mail-parser gives a list when a header repeats."""
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value or "")


def _addresses(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """mail-parser's address pairs, cleaned."""
    return [(_line(name), _line(address)) for name, address in pairs]


def _attachment(part: Mapping[str, Any]) -> Attachment:
    payload = part["payload"]
    size = len(payload) * 3 // 4 if part["content_transfer_encoding"] == "base64" else len(payload)
    return Attachment(
        name=_line(str(part["filename"] or ""))[:200],
        type=_line(str(part["mail_content_type"] or "")).lower()[:100],
        size=size,
    )


def _automatic(submitted: str, content_type: str) -> bool:
    keyword = submitted.partition(";")[0].strip().lower()
    return keyword not in ("", "no") or content_type == "multipart/report"


def _hop(received: list[str]) -> Hop:
    """The newest Received header that names a public address (RFC 5321 4.4: newest first)."""
    for value in received[:20]:
        origin = re.split(r"\bby\b", value[:1_000], maxsplit=1)[0]
        for match in _HOP_ADDRESS.finditer(origin):
            try:
                address = ipaddress.ip_address(match.group(1) or match.group(2))
            except ValueError:
                continue
            if address.is_global:
                host = _HOP_HOST.match(origin.removeprefix("from").strip())
                return Hop(host=host.group() if host else "", address=str(address))
    return Hop()
