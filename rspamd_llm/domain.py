"""Every value that crosses a module's border, and the errors.

What may live here: frozen values, enumerations and exceptions.  What may not: behaviour that
reaches outside, and any import but the standard library's.

A message travels one way, and each stop has its value:

    Message -> Mail -> Facts -> Prompt -> Completion -> Verdict -> Outcome -> HeaderEdits
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


# --- What arrives ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What SMTP said of a message, as the MTA told us.  Empty strings are unknown values."""

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


# --- What its reader sees -------------------------------------------------------------------
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


# --- What is known without asking -----------------------------------------------------------
class Flag(StrEnum):
    """A fact that weighs.  The value is its short name in the compact prompt."""

    NAME_HAS_ADDRESS = "name-has-other-address"
    REPLY_ELSEWHERE = "reply-elsewhere"
    LINK_MISMATCH = "link-shows-other-domain"
    LINK_ADDRESS = "link-to-ip"
    LINK_PUNYCODE = "link-punycode"
    LINK_CREDENTIALS = "link-has-login"
    LINKS_ELSEWHERE = "links-elsewhere"
    ATTACHMENT_RUNS = "attachment-runs-code"
    ATTACHMENT_ARCHIVE = "attachment-archive"
    ATTACHMENT_PAGE = "attachment-web-page"
    ENVELOPE_ELSEWHERE = "envelope-elsewhere"
    SENDER_MISSING = "no-sender-address"
    RECIPIENTS_HIDDEN = "recipients-hidden"
    DAMAGED = "damaged"
    BRAND_ELSEWHERE = "brand-elsewhere"
    SENDER_LOOKALIKE = "sender-lookalike"
    LINK_LOOKALIKE = "link-lookalike"
    LINK_MIXED_SCRIPT = "link-mixed-script"
    LINK_SHORTENER = "link-shortener"
    LINK_REDIRECT = "link-redirect"
    PARTS_DIFFER = "parts-differ"
    TEXT_HIDDEN = "text-hidden"
    SPELLING_EVADES = "spelling-evades"
    IMAGE_ONLY = "image-only"
    DATE_OFF = "date-off"
    ATTACHMENT_MACROS = "attachment-macros"
    ATTACHMENT_ENCRYPTED = "attachment-encrypted"
    ATTACHMENT_MISNAMED = "attachment-misnamed"
    ATTACHMENT_BOMB = "attachment-bomb"
    ADDRESSES_MODEL = "addresses-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A flag with what it was found on: domain names or file types, bounded in length."""

    flag: Flag
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What can be known of a message without asking anyone.

    Domains are registered domains (eTLD+1 by the public-suffix list) in lower case ASCII;
    empty where there is none.
    """

    sender_domain: str = ""
    envelope_domain: str = ""
    reply_domains: tuple[str, ...] = ()
    link_domains: tuple[str, ...] = ()
    """Of the links' targets, without repeats, in the order of their first link."""
    findings: tuple[Finding, ...] = ()

    def has(self, flag: Flag) -> bool:
        """Whether the flag was found."""
        return any(finding.flag is flag for finding in self.findings)


# --- The question and the answer ------------------------------------------------------------
class AnswerForm(StrEnum):
    """How an answer is asked for."""

    JSON = "json"
    """The object of docs/reference: score, category, reason."""
    LABEL = "label"
    """One token that names the category; the score is read from the probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is asked.  `system` is the same for every mail, so a server can cache it."""

    system: str
    user: str
    form: AnswerForm
    categories: tuple[str, ...]
    id: str
    """First 8 hex digits of SHA-256 over the fixed text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model server answered, not yet understood."""

    text: str
    reasoning: str = ""
    finish: str = ""
    label_probabilities: Mapping[str, float] = field(default_factory=dict)
    """For `AnswerForm.LABEL`: token text to probability (0 to 1), as far as the server told."""
    tokens_in: int = 0
    tokens_out: int = 0


NO_CATEGORY = "none"
REASON_LIMIT = 240
"""Characters of a reason; fixed by the header contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgement: `score` from 0 (wanted) to 1 (unwanted), a configured category or `none`."""

    score: float
    category: str
    reason: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score {self.score!r} is not within 0 and 1")


# --- What became of it ----------------------------------------------------------------------
class Skip(StrEnum):
    """Why the model was not asked, by rule."""

    AUTHENTICATED = "authenticated"
    NETWORK = "network"
    SIZE = "size"
    ALLOWLIST = "allowlist"
    OPTOUT = "optout"
    SAMPLED = "sampled"
    DECIDED = "decided"
    NO_TEXT = "no-text"


class Failure(StrEnum):
    """Why there is no verdict although one was wanted."""

    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    MODEL_UNAVAILABLE = "model-unavailable"
    MODEL_INVALID = "model-invalid"
    CONTEXT_OVERFLOW = "context-overflow"
    STOPPING = "stopping"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The model judged."""

    verdict: Verdict
    model: str
    prompt_id: str
    seconds: float
    tokens_in: int = 0
    tokens_out: int = 0
    injection: bool = False
    """The mail's text speaks to a model: a fact, told in X-GPT-Status."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The model was not asked."""

    code: Skip


@dataclass(frozen=True, slots=True)
class Unscored:
    """The model was to be asked and there is no verdict."""

    code: Failure
    cause: str = ""
    """For the log: what went wrong, without any text of the mail."""


Outcome = Scored | Skipped | Unscored


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What became of a message, the seconds each stage took, and what stood on the way there."""

    outcome: Outcome
    stages: Mapping[str, float] = field(default_factory=dict)
    facts: Facts | None = None
    prompt: Prompt | None = None
    completion: Completion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdits:
    """What is to happen to a message's header.

    `delete` holds names and 1-based indexes among the headers of that name (case-insensitive),
    in the order in which they must be deleted: a deletion renumbers what follows it.
    """

    delete: tuple[tuple[str, int], ...] = ()
    add: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key: 32 bytes, never shown."""

    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, handed down; every wait takes what is left of it."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.at - time.monotonic())


# --- Errors ---------------------------------------------------------------------------------
class RspamdLlmError(Exception):
    """The base of our own errors."""


class ConfigError(RspamdLlmError):
    """The configuration, or a file it names, is not usable.  Holds every fault found."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class AddressError(RspamdLlmError):
    """The milter socket cannot be opened; the text names cause and cure."""


class ModelError(RspamdLlmError):
    """No verdict came of asking the model; `code` says how that is reported."""

    def __init__(self, code: Failure, cause: str) -> None:
        super().__init__(cause)
        self.code = code
