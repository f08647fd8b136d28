"""What arrives, and what its reader sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What SMTP said of a message, as the MTA told us, with U+FFFD for bytes that are no UTF-8.

    Empty strings are unknown values.
    """

    queue_id: str = ""
    client_address: str = ""
    client_name: str = ""
    helo: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    recipient_count: int = 0
    """How many there were, also when not all of them are kept."""
    authenticated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message at its end: the envelope and the RFC 5322 bytes as far as they were kept."""

    envelope: Envelope
    data: bytes
    size: int
    """Size of the whole message in bytes, also where `data` was cut at `max_body`."""
    is_dropped: bool = False
    """Parts of `data` were not kept, as too many bytes of too many messages were held."""
    forged: int = 0
    """X-GPT headers that arrived with it."""


class Hiding(StrEnum):
    """A way in which text was kept from the reader."""

    DISPLAY = "display"
    VISIBILITY = "visibility"
    OPACITY = "opacity"
    SIZE = "size"
    COLOUR = "colour"
    OFF_SCREEN = "off-screen"
    ATTRIBUTE = "attribute"
    COMMENT = "comment"
    INVISIBLE_SIGNS = "invisible-signs"
    """Zero-width and tag characters; taken out, their spelled text is in `hidden`."""
    BIDI = "bidi"
    """Overrides of the writing direction that show a text in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link: what it shows (empty for a bare URL in plain text) and where it leads."""

    text: str
    target: str
    is_button: bool = False
    """Styled as a button, or the only link of its block: what the reader is to press."""


class Trait(StrEnum):
    """What the content of an attached file tells."""

    ENCRYPTED = "encrypted"
    MACROS = "macros"
    LINKS = "links"
    """A document that links to the web."""
    BOMB = "bomb"
    """An archive that claims to unpack to far more than its size."""
    MISNAMED = "misnamed"
    """The content is of another kind than the name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attached file: its name and type as the sender states them, its size in bytes."""

    name: str
    type: str
    size: int
    found: str = ""
    """The type by the content's first bytes, such as `zip`, `pdf`, `ole`, `exe`; may be empty."""
    members: tuple[str, ...] = ()
    """Names of the files in an archive, as far as they were read."""
    links: tuple[str, ...] = ()
    """Targets of the links in a document."""
    traits: tuple[Trait, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """The newest Received header that names a host with a public address."""

    host: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A mail within the mail (message/rfc822): a forward, a report.  It is not the mail itself."""

    from_address: str = ""
    subject: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A message as its reader sees it.  Every text is decoded and free of surrogates and NUL."""

    from_name: str = ""
    from_address: str = ""
    reply_to: tuple[str, ...] = ()
    to_count: int = 0
    """Addresses in To and Cc together."""
    to_names: tuple[str, ...] = ()
    """Display names in To, of the first addresses."""
    subject: str = ""
    date: datetime | None = None
    text: str = ""
    """What a mail program shows: the HTML's visible text, or the plain text where there is none."""
    plain: str = ""
    """The text/plain parts."""
    hidden: str = ""
    """Text that the reader is not shown, bounded."""
    hidings: tuple[Hiding, ...] = ()
    links: tuple[Link, ...] = ()
    """Of the visible text, in reading order."""
    images: int = 0
    alts: tuple[str, ...] = ()
    """Alternative texts of images, as far as they say something."""
    attachments: tuple[Attachment, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    hop: Hop = Hop()
    listed: bool = False
    """Has List-Id or List-Unsubscribe (RFC 2919, RFC 2369): a claim of the sender's."""
    reply: bool = False
    """Has In-Reply-To or References: a claim of the sender's."""
    automatic: bool = False
    """Has Auto-Submitted other than `no` (RFC 3834) or is a delivery report (RFC 3464)."""
    defects: tuple[str, ...] = ()
    """What could not be read, or was read by a guess; fixed sentences, no text of the mail."""
