"""Bytes -> Mail: the message as its reader sees it.

The only importer of mailparser, which reads the header; the body is walked here, for mail-parser
gives up on some broken structures that mail programs show.  What may not live here: judgement
(facts.py) and the way a mail is shown to the model (prompt.py).  `read` never raises: any bytes at
all give a Mail, and what could not be read is said in its `defects`.  Nor does it take long: each
thing that a sender can repeat is bounded, so that 1 MB of the worst costs about a second.
"""

from __future__ import annotations

import codecs
import email.errors
import email.header
import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.parser import BytesFeedParser
from email.policy import Compat32

import mailparser

from rspamd_llm import visible
from rspamd_llm.domain import Attachment, Hop, Link, Mail

# mail-parser warns of what it does not handle and quotes the mail; mail stays out of our log.
logging.getLogger("mailparser").setLevel(logging.CRITICAL + 1)

HEADER_LIMIT = 1_000
"""Characters kept of one header's text.  RFC 5322 2.1.1 allows lines of 998."""

FIELD_LIMIT = 4_000
"""Characters read of one header field: 1,000 in any script once encoded (RFC 2047, RFC 2231).  The
parsers take time that grows with the square of a field's length: 30 ms here, minutes at 1 MB."""

PARAMETER_LIMIT = 100
"""Parameters read of a Content-Type; RFC 2231 spreads a long one over some dozen.  Here, too, the
time grows with the square, and each part has such fields."""

ADDRESS_FIELD_LIMIT = 102_400
"""Characters read of an address field, which may name thousands: Postfix's header_size_limit."""

ATTACHMENT_LIMIT = 50
"""Attachments kept of one mail; the prompt shows the first few."""

PART_LIMIT = 1_000
"""MIME parts read: a digest has some hundred."""

DEPTH_LIMIT = 100
"""Nesting of parts read: Postfix's mime_nesting_limit."""

WORK_LIMIT = 5_000_000
"""Lines times depth read: the parser tries every open boundary on every line, 0.15 us each."""

_CHUNK = 4_096  # the limits above are looked at once a chunk

_ADDRESS_FIELDS = frozenset(("from", "reply-to", "to", "cc"))
_FIELDS = ("From", "Reply-To", "To", "Cc", "Subject", "Date")
# No mail program writes these, and decoding punycode takes time by the square of its length.
_NO_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "unicode-escape"))
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HOP_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_HOP_ADDRESS = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]{3,45})\]|\b(\d{1,3}(?:\.\d{1,3}){3})\b")
_BEGINNING = "only the beginning of the message was read"
# What the parsers report, in our words; their own details quote the mail.
_DEFECTS: Mapping[str, str] = {
    "CharsetDecodeDefect": "a text part was not in the character set it names",
    "AddressHeaderDefect": "an address header is malformed",
    "DateHeaderDefect": "the date is malformed",
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
    defects = {_BEGINNING} if truncated else set()
    try:
        message, whole = _parsed(data)
        body = _body(message)
        texts = [*body.plain, *body.html]
        blank = not body.attachments and not any(text.strip() for text in texts)
        if blank and not (whole and texts):
            # No part that makes sense: what stands there must not pass for an empty mail.
            body.plain.append(_after_header(data))
        header = mailparser.MailParser(_header_of(message))
    except Exception:  # noqa: BLE001  the parsers raise of many kinds on hostile mail
        return _rescue(data, (*sorted(defects), "the MIME structure could not be read"))
    if not whole:
        defects.add(_BEGINNING)
    named = {*body.defects, *header.defects_categories}
    defects |= {_DEFECTS.get(name, "the message is malformed") for name in named}
    return _mail(message, body, header, defects)


def _mail(message: Message, body: _Body, header: mailparser.MailParser, defects: set[str]) -> Mail:
    plain = visible.tidy(_clean("\n".join(body.plain)))
    html_text, html_links, html_whole = _rendered(body.html)
    if not html_whole:
        defects.add(_BEGINNING)
    shown = {link.target for link in html_links}
    bare = (link for link in visible.bare_links(plain) if link.target not in shown)
    senders = _addresses(header.from_)
    return Mail(
        from_name=senders[0][0] if senders else "",
        from_address=senders[0][1] if senders else "",
        reply_to=tuple(address for _, address in _addresses(header.reply_to)[:10]),
        to_count=len(header.to or ()) + len(header.cc or ()),
        subject=_line(str(header.subject or "")),
        date=header.date if isinstance(header.date, datetime) else None,
        text=html_text or plain,
        plain=plain,
        links=(*html_links, *bare)[: visible.LINK_LIMIT],
        attachments=tuple(body.attachments),
        hop=_hop([str(value) for value in message.get_all("Received", [])]),
        listed="List-Id" in message or "List-Unsubscribe" in message,
        reply="In-Reply-To" in message or "References" in message,
        automatic=_automatic(str(message.get("Auto-Submitted", "")), message.get_content_type()),
        defects=tuple(sorted(defects)),
    )


def _rescue(data: bytes, defects: tuple[str, ...]) -> Mail:
    """The Mail of bytes that defeat the parsers: what stands after the header, as it stands."""
    text = visible.tidy(_clean(_after_header(data)))
    return Mail(text=text, links=visible.bare_links(text), defects=defects)


def _after_header(data: bytes) -> str:
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.partition(b"\n\n")[2].decode("utf-8", "replace")


# --- Structure ------------------------------------------------------------------------------


class _Bounded(Compat32):
    """The policy that mail-parser works with, but for a limit to the length of a field."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        if name.lower() in _ADDRESS_FIELDS:
            return name, value[:ADDRESS_FIELD_LIMIT]
        if name.lower().startswith("content-"):
            value = ";".join(value.split(";", PARAMETER_LIMIT)[:PARAMETER_LIMIT])
        return name, value[:FIELD_LIMIT]

    def header_fetch_parse(self, name: str, value: str) -> str:
        # Raw bytes as UTF-8, and no blanks around: the stdlib does not know `base64 `.
        _ = name
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


@dataclass(slots=True)
class _Tally:
    parts: int = 0
    depth: int = 0


class _Part(Message):
    """A part that counts itself, and knows how deep it is once it stands in another."""

    def __init__(self, tally: _Tally) -> None:
        super().__init__(_POLICY)
        self._tally = tally
        self._depth = 0
        tally.parts += 1

    def attach(self, payload: Message) -> None:  # type: ignore[override]
        """Called by the parser as it meets a part, before it reads on."""
        if isinstance(payload, _Part):
            payload._depth = self._depth + 1
            self._tally.depth = max(self._tally.depth, payload._depth)
        super().attach(payload)


_POLICY = _Bounded()


def _parsed(data: bytes) -> tuple[Message, bool]:
    """The message's structure, and whether all of it was read."""
    tally = _Tally()
    parser = BytesFeedParser(lambda **_: _Part(tally), policy=_POLICY)
    work = 0
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        work += (chunk.count(b"\n") + chunk.count(b"\r")) * tally.depth
        if tally.parts > PART_LIMIT or tally.depth > DEPTH_LIMIT or work > WORK_LIMIT:
            return parser.close(), False
        parser.feed(chunk)
    return parser.close(), True


def _header_of(message: Message) -> Message:
    """The first copies of the fields that mail-parser reads for us, alone.

    RFC 5322 3.6 allows one copy of each; of several, mail programs show the first.
    """
    header = Message()
    first: dict[str, str] = {}
    for name, value in message.raw_items():
        first.setdefault(name.lower(), value)
    for name in _FIELDS:
        if name.lower() in first:
            header[name] = first[name.lower()]
    return header


# --- The body -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Body:
    plain: list[str]
    html: list[str]
    attachments: list[Attachment]
    defects: set[str]


def _body(message: Message) -> _Body:
    """The texts and attachments of all parts.

    Shown as text is each part of text that is not expressly an attachment: named ones too, which
    mail programs show as well as list.
    """
    body = _Body([], [], [], set())
    others: list[str] = []
    for part in message.walk():
        kind, subtype = part.get_content_maintype(), part.get_content_subtype()
        disposition = part.get_content_disposition()
        name = _file_name(part)
        is_leaf = not part.is_multipart()
        # A multipart without parts: all that can be done with it is to show it as it is.
        is_text = is_leaf and kind in ("text", "multipart")
        shown = is_text and disposition != "attachment"
        attached = disposition == "attachment" or (is_leaf and (bool(name) or not is_text))
        if attached and len(body.attachments) < ATTACHMENT_LIMIT:
            body.attachments.append(_attachment(part, name))
        if shown:
            text, well = _text(part)
            if not well:
                body.defects.add("CharsetDecodeDefect")
            {"plain": body.plain, "html": body.html}.get(subtype, others).append(text)
        body.defects |= {type(defect).__name__ for defect in part.defects}
    if not any(text.strip() for text in (*body.plain, *body.html)):
        body.plain = others  # RFC 2046 4.1.4: what is text of an unknown kind is shown as plain
    return body


def _text(part: Message) -> tuple[str, bool]:
    """A text part decoded, and whether it was in the character set that it names."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return "", True
    charset = part.get_content_charset("utf-8")
    try:
        if codecs.lookup(charset).name in _NO_CHARSETS:
            raise LookupError
        text = payload.decode(charset)
        text.encode("utf-8")  # some codecs give surrogates, which are no text
    except (LookupError, ValueError):
        return payload.decode("utf-8", "replace"), False
    return text, True


def _file_name(part: Message) -> str:
    """The name of an attached file, decoded; empty where there is none or it makes no sense."""
    try:
        name = part.get_filename("")
    except (LookupError, TypeError, ValueError):
        return ""
    return _line(_decoded(name))[:200]


def _decoded(value: str) -> str:
    """A header's text with its encoded words (RFC 2047) decoded."""
    if "=?" not in value:
        return value
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.MessageError):
        return value


def _attachment(part: Message, name: str) -> Attachment:
    size = sum(_size(leaf) for leaf in part.walk() if not leaf.is_multipart())
    return Attachment(name=name, type=_line(part.get_content_type())[:100], size=size)


def _size(part: Message) -> int:
    """The bytes of a part once decoded; of base64 by its length, for nobody needs the content."""
    if str(part.get("Content-Transfer-Encoding", "")).lower() == "base64":
        text = str(part.get_payload())
        return (len(text) - text.count("\n") - text.count("\r") - text.count("=")) * 3 // 4
    content = part.get_payload(decode=True)
    return len(content) if isinstance(content, bytes) else 0


def _rendered(parts: Iterable[str]) -> tuple[str, tuple[Link, ...], bool]:
    """The text and links of the HTML parts, and whether all of it was read."""
    texts: list[str] = []
    links: list[Link] = []
    left = visible.MARKUP_LIMIT
    for html in parts:
        text, found = visible.render(_clean(html), left)
        # Again, for character references (&#1;) spell controls too.
        texts.append(_clean(text))
        links += (Link(text=_clean(link.text), target=link.target) for link in found)
        left -= html.count("<")
        if left < 0:
            break
    return "\n".join(texts).strip(), tuple(links), left >= 0


# --- Header ---------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """The text without NUL and controls (but for line breaks and tabs) and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")


def _line(text: str) -> str:
    """The text on one line, bounded."""
    return " ".join(_clean(text).split())[:HEADER_LIMIT]


def _addresses(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """mail-parser's address pairs, cleaned."""
    return [(_line(name), _line(address)) for name, address in pairs]


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
