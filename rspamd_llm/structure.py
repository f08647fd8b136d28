"""Bytes -> the bounded tree of MIME parts, and what of it is shown, attached or quoted.

The stdlib's parser, held to limits: each thing that a sender can repeat is bounded.  What may not
live here: HTML, what files contain, and the values of the domain, which mail.py makes of this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesFeedParser
from email.policy import Compat32

from rspamd_llm import charsets

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

QUOTED_LIMIT = 5
"""Quoted mails kept: a report quotes one, a forward of a thread a few."""

PART_LIMIT = 1_000
"""MIME parts read: a digest has some hundred."""

DEPTH_LIMIT = 100
"""Nesting of parts read: Postfix's mime_nesting_limit."""

WORK_LIMIT = 5_000_000
"""Lines times depth read: the parser tries every open boundary on every line, 0.15 us each."""

_CHUNK = 4_096  # the limits above are looked at once a chunk

_ADDRESS_FIELDS = frozenset(("from", "reply-to", "to", "cc"))
_FIELDS = ("From", "Reply-To", "To", "Cc", "Subject", "Date")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Parts for machines (RFC 3464, 3798, 3885, 5965, 6533) and a pointer elsewhere (RFC 2046 5.2.3):
# of all other messages within a message a reader sees a mail.
_REPORTS = frozenset(
    ("delivery-status", "disposition-notification", "external-body", "feedback-report",
     "global-delivery-status", "global-disposition-notification", "tracking-status")
)  # fmt: skip


def clean(text: str) -> str:
    """The text without NUL and controls (but for line breaks and tabs) and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode("utf-8")


def line(text: str) -> str:
    """The text on one line, bounded."""
    return " ".join(clean(text).split())[:HEADER_LIMIT]


def after_header(data: bytes) -> str:
    """What stands after the header, as it stands."""
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.partition(b"\n\n")[2].decode("utf-8", "replace")


# --- The tree -------------------------------------------------------------------------------


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
        return charsets.utf8(value).strip()


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


def parse(data: bytes) -> tuple[Message, bool]:
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


def header(message: Message, charset: str) -> Message:
    """The first copies of the fields that a reader sees, alone, all in UTF-8.

    RFC 5322 3.6 allows one copy of each; of several, mail programs show the first.  `charset` is
    that of the body, which raw bytes in the header mostly share.
    """
    fields = Message()
    first: dict[str, str] = {}
    for name, value in message.raw_items():
        first.setdefault(name.lower(), value)
    for name in _FIELDS:
        if name.lower() in first:
            fields[name] = charsets.field(first[name.lower()].strip(), charset)
    return fields


# --- What is in it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A part of text that is shown: HTML or plain."""

    text: str
    is_html: bool
    is_aside: bool
    """Plain text that stands for an HTML part, which is shown in its place (RFC 2046 5.1.4)."""


@dataclass(frozen=True, slots=True)
class File:
    """An attached file or mail."""

    part: Message
    name: str
    type: str

    @property
    def is_mail(self) -> bool:
        """Whether it is a tree of parts of its own, which has no content but theirs."""
        return self.part.is_multipart()


@dataclass(slots=True)
class Body:
    """The parts of one mail by what becomes of them; of quoted mails nothing but `quoted`."""

    texts: list[Text] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    quoted: list[Message] = field(default_factory=list)
    defects: set[str] = field(default_factory=set)
    """Names of the parsers' defect classes."""
    charset: str = ""
    """The first that a text part names."""
    _others: list[Text] = field(default_factory=list)


def collect(message: Message) -> Body:
    """The texts, files and quoted mails of a message.

    Shown as text is each part of text that is not expressly an attachment: named ones too, which
    mail programs show as well as list.
    """
    body = Body()
    _collect(message, body, is_aside=False)
    if not any(text.text.strip() for text in body.texts):
        body.texts = body._others  # RFC 2046 4.1.4: text of an unknown kind is shown as plain
    return body


def _collect(part: Message, body: Body, *, is_aside: bool) -> None:
    kind, subtype = part.get_content_maintype(), part.get_content_subtype()
    is_attached = part.get_content_disposition() == "attachment"
    is_tree = part.is_multipart()
    # A multipart without parts: all that can be done with it is to show it as it is.
    is_text = not is_tree and kind in ("text", "multipart")
    is_mail = (kind == "message" and subtype not in _REPORTS) or subtype == "rfc822-headers"
    is_shown = is_text and not is_attached and not is_mail
    is_listed = not is_text or subtype == "calendar"  # shown as an invitation, and as a file
    name = _file_name(part)
    is_file = is_attached or (not is_tree and not is_mail and (bool(name) or is_listed))
    if is_file and len(body.files) < ATTACHMENT_LIMIT:
        body.files.append(File(part, name, line(part.get_content_type())[:100]))
    if is_mail:
        if len(body.quoted) < QUOTED_LIMIT:
            body.quoted.append(_quoted(part))
    elif is_shown:
        text = _text(part, body)
        shown = Text(text, is_html=subtype == "html", is_aside=is_aside and subtype == "plain")
        (body.texts if subtype in ("plain", "html") else body._others).append(shown)
    elif is_tree and kind != "message":
        children = [child for child in part.get_payload() if isinstance(child, Message)]
        chosen = _chosen(children) if subtype == "alternative" else None
        for child in children:
            _collect(child, body, is_aside=is_aside or (chosen is not None and child is not chosen))
    # At the end, for decoding a text finds some.
    body.defects |= {type(defect).__name__ for defect in part.defects}


def _chosen(children: list[Message]) -> Message | None:
    """The alternative that is shown: the last with HTML, if there is one (RFC 2046 5.1.4)."""
    for child in reversed(children[-_LOOK:]):
        for depth, part in enumerate(child.walk()):
            if depth > _LOOK:
                break
            if part.get_content_type() == "text/html":
                return child
    return None


_LOOK = 20
"""Alternatives, and parts of each, looked at: mail programs write two or three.  Alternatives that
stand in each other would else be walked once a level."""


def _quoted(part: Message) -> Message:
    """The mail in a message part; in transfer encodings too, which RFC 2046 5.2.1 forbids."""
    payload = part.get_payload()
    inner = payload[0] if isinstance(payload, list) and payload else None
    if not isinstance(inner, Message):
        return parse(content(part))[0]
    encoding = str(part.get("Content-Transfer-Encoding", "")).lower()
    if encoding in ("base64", "quoted-printable") and not inner.keys():
        inner["Content-Transfer-Encoding"] = encoding
        return parse(content(inner))[0]
    return inner


def content(part: Message) -> bytes:
    """The bytes of a part once decoded; of a tree of parts none."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def size(part: Message) -> int:
    """The bytes of all parts of a tree; of base64 by its length, without decoding it."""
    return sum(_size(leaf) for leaf in part.walk() if not leaf.is_multipart())


def _size(part: Message) -> int:
    if str(part.get("Content-Transfer-Encoding", "")).lower() == "base64":
        text = str(part.get_payload())
        return (len(text) - text.count("\n") - text.count("\r") - text.count("=")) * 3 // 4
    return len(content(part))


def _text(part: Message, body: Body) -> str:
    """A text part decoded.  That it is not in the set that it names is told in `body`."""
    payload = content(part)
    label = part.get_content_charset("")
    body.charset = body.charset or label
    hint = charsets.meta(payload) if part.get_content_subtype() == "html" else ""
    text, is_well = charsets.decode(payload, label, hint=hint)
    if not is_well:
        body.defects.add("CharsetDecodeDefect")
    return text


def _file_name(part: Message) -> str:
    """The name of an attached file, decoded; empty where there is none or it makes no sense."""
    try:
        name = part.get_filename("")
    except (LookupError, TypeError, ValueError):
        return ""
    return line(charsets.words(name))[:200]
