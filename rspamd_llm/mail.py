"""Bytes -> Mail: the message as its reader sees it, and what it keeps from the reader.

The only importer of mailparser, which reads the header; structure.py walks the body, for
mail-parser gives up on some broken structures that mail programs show.  What may not live here:
judgement (facts.py) and the way a mail is shown to the model (prompt.py).  `read` never raises: any
bytes at all give a Mail, and what could not be read is said in its `defects`.  Nor does it take
long: each thing that a sender can repeat is bounded, so that 1 MB of the worst costs a second.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.message import Message

import mailparser

from rspamd_llm import attachments, charsets, structure, visible
from rspamd_llm.domain import Attachment, Hiding, Hop, Link, Mail, Quoted
from rspamd_llm.structure import clean, line

# mail-parser warns of what it does not handle and quotes the mail; mail stays out of our log.
logging.getLogger("mailparser").setLevel(logging.CRITICAL + 1)

HIDDEN_LIMIT = 4_000
"""Characters kept of what is hidden: twice what the prompt has room for in a whole mail."""

QUOTED_TEXT_LIMIT = 4_000
"""Characters kept of a quoted mail's text: a report is judged by its own words."""

NAMES = 5
"""Display names kept of To: a mail that calls its reader by name has one."""

ALTS_LIMIT = 50
"""Alternative texts kept; the prompt shows the first few."""

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
        message, whole = structure.parse(data)
        body = structure.collect(message)
        if not whole:
            defects.add(_BEGINNING)
        blank = not any(text.text.strip() for text in body.texts)
        if blank and not (body.files or body.quoted) and not (whole and body.texts):
            # No part that makes sense: what stands there must not pass for an empty mail.
            text = structure.after_header(data)
            body.texts.append(structure.Text(text, is_html=False, is_aside=False))
        return _mail(message, body, defects)
    except Exception:  # noqa: BLE001  the parsers raise of many kinds on hostile mail
        defects.add("the MIME structure could not be read")
        return _rescue(data, tuple(sorted(defects)))


def _mail(message: Message, body: structure.Body, defects: set[str]) -> Mail:
    header = _header(message, body)
    senders = _addresses(header.from_)
    seen = _Seen()
    subject = seen.line(line(str(header.subject or "")))
    name = seen.line(senders[0][0]) if senders else ""
    text, plain = seen.show(body.texts)
    files = _files(body.files, seen)
    quoted = tuple(_quoted(inner, seen) for inner in body.quoted)
    if seen.markup < 0:
        defects.add(_BEGINNING)
    named = {*body.defects, *header.defects_categories}
    defects |= {_DEFECTS.get(kind, "the message is malformed") for kind in named}
    return Mail(
        from_name=name,
        from_address=senders[0][1] if senders else "",
        reply_to=tuple(address for _, address in _addresses(header.reply_to)[:10]),
        to_count=len(header.to or ()) + len(header.cc or ()),
        to_names=tuple(name for name, _ in _addresses((header.to or [])[:NAMES]) if name),
        subject=subject,
        date=header.date if isinstance(header.date, datetime) else None,
        text=text,
        plain=plain,
        hidden=seen.hidden_text(),
        hidings=tuple(hiding for hiding in Hiding if hiding in seen.hidings),
        links=tuple(seen.links[: visible.LINK_LIMIT]),
        images=seen.images,
        alts=tuple(seen.alts),
        attachments=files,
        quoted=quoted,
        hop=_hop([str(value) for value in message.get_all("Received", [])]),
        listed="List-Id" in message or "List-Unsubscribe" in message,
        reply="In-Reply-To" in message or "References" in message,
        automatic=_automatic(str(message.get("Auto-Submitted", "")), message.get_content_type()),
        defects=tuple(sorted(defects)),
    )


def _rescue(data: bytes, defects: tuple[str, ...]) -> Mail:
    """The Mail of bytes that defeat the parsers: what stands after the header, as it stands."""
    seen = _Seen()
    text = seen.reveal(structure.after_header(data))
    return Mail(
        text=text,
        plain=text,
        hidden=seen.hidden_text(),
        hidings=tuple(hiding for hiding in Hiding if hiding in seen.hidings),
        links=visible.bare_links(text),
        defects=defects,
    )


# --- What is shown --------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """What a reader of some texts comes to see, and what not."""

    markup: int = visible.MARKUP_LIMIT
    """What may still be read of HTML; below 0 where there was more."""
    links: list[Link] = field(default_factory=list)
    images: int = 0
    alts: list[str] = field(default_factory=list)
    hidden: dict[str, None] = field(default_factory=dict)
    hidings: set[Hiding] = field(default_factory=set)

    def show(self, texts: list[structure.Text]) -> tuple[str, str]:
        """The text that a mail program shows of these parts, and their plain text.

        Notes the links of what is shown in reading order.
        """
        shown: list[str] = []
        plain: list[str] = []
        asides: list[str] = []
        pages = False
        for part in texts:
            if not part.is_html:
                plain.append(self.reveal(part.text))
                if part.is_aside:
                    asides.append(plain[-1])
                else:
                    shown.append(self._linked(plain[-1]))
            elif self.markup >= 0:
                shown.append(self._page(part.text))
                pages = pages or bool(shown[-1])
        if not pages:
            # HTML that says nothing: programs for plain text show what stands beside it.
            shown += map(self._linked, asides)
        self._drop_repeats()
        return _joined(shown), _joined(plain)

    def reveal(self, text: str) -> str:
        """A text tidied and without the signs that nobody sees; what they spell is hidden text."""
        text = visible.tidy(clean(text))
        revealed = visible.reveal(text)
        self._hide(revealed.hidden, revealed.hidings)
        return text if revealed.text == text else visible.tidy(revealed.text)

    def line(self, text: str) -> str:
        """The same, of a line."""
        return " ".join(self.reveal(text).split())

    def hidden_text(self) -> str:
        """All that is hidden, bounded."""
        return visible.tidy("\n".join(self.hidden))[:HIDDEN_LIMIT].strip()

    def _hide(self, text: str, hidings: Iterable[Hiding]) -> None:
        self.hidings.update(hidings)
        # Once each: a text stands in its links as well, and in a plain part beside the HTML.
        if text.strip() and sum(map(len, self.hidden)) < HIDDEN_LIMIT:
            self.hidden.setdefault(clean(text[:HIDDEN_LIMIT]))

    def _page(self, html: str) -> str:
        page = visible.render(clean(html), self.markup)
        self.markup -= html.count("<")
        if not page.whole:
            self.markup = min(self.markup, -1)
        self._hide(page.hidden, page.hidings)
        # Clean again, for character references (&#1;) spell controls too.
        text = self.reveal(page.text)
        links = [
            replace(link, text=self.line(link.text), target=clean(link.target))
            for link in page.links
        ]
        # Programs make links of bare URLs too, but not of those in a link's own text.
        named = {bare.target for link in links for bare in visible.bare_links(link.text)}
        self.links += links
        self.links += (bare for bare in visible.bare_links(text) if bare.target not in named)
        self.images += page.images
        self.alts += (alt for alt in map(self.line, page.alts) if alt)
        del self.alts[ALTS_LIMIT:]
        return text

    def _linked(self, text: str) -> str:
        self.links += visible.bare_links(text)
        return text

    def _drop_repeats(self) -> None:
        """Leave out bare URLs where the same target is linked already."""
        named = {link.target for link in self.links if link.text}
        bare: set[str] = set()
        kept: list[Link] = []
        for link in self.links:
            if not link.text:
                if link.target in named or link.target in bare:
                    continue
                bare.add(link.target)
            kept.append(link)
        self.links = kept


def _joined(texts: list[str]) -> str:
    return "\n".join(text for text in texts if text)


def _quoted(message: Message, outer: _Seen) -> Quoted:
    """A mail within the mail: its sender, subject and text, and nothing of mails within it."""
    body = structure.collect(message)
    header = _header(message, body)
    senders = _addresses(header.from_)
    # What is hidden in it, its links and its pictures are not the mail's: they go no further.
    seen = _Seen(markup=outer.markup)
    text, _ = seen.show(body.texts)
    outer.markup = seen.markup
    return Quoted(
        from_address=senders[0][1] if senders else "",
        subject=seen.line(line(str(header.subject or ""))),
        text=text[:QUOTED_TEXT_LIMIT],
    )


def _files(files: list[structure.File], seen: _Seen) -> tuple[Attachment, ...]:
    budget = attachments.Budget()
    found: list[Attachment] = []
    for file in files:
        # The name in the order of its signs, for that decides what opens it, not the order shown.
        seen.line(file.name)
        name = visible.reveal("".join(sign for sign in file.name if sign.isprintable())).text
        if file.is_mail:
            size = structure.size(file.part)
            found.append(Attachment(name=name, type=file.type, size=size, found="eml"))
        else:
            content = structure.content(file.part)
            found.append(attachments.inspect(name, file.type, content, budget))
    return tuple(found)


# --- Header ---------------------------------------------------------------------------------


def _header(message: Message, body: structure.Body) -> mailparser.MailParser:
    return mailparser.MailParser(structure.header(message, body.charset))


def _addresses(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """mail-parser's address pairs, cleaned.

    Names with encoded words in quotes are decoded too: RFC 2047 5 says no, mail programs do.
    """
    return [(line(charsets.words(name)), line(address)) for name, address in pairs]


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
