"""What is kept of a judged message: a Record, made of its scan, and what may be asked of many.

Plain values and functions.  What may not live here: the file they are kept in (history.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rspamd_llm import redact
from rspamd_llm.domain import Message, Scan, Scored, Skipped, Unscored
from rspamd_llm.evidence import words

EVIDENCE_LINES = 20
"""Lines of evidence that are kept: a prompt has room for about as many."""

LINE = 300
"""Characters of a line of evidence, a subject, an address or a name that are kept: the longest line
of evidence is shorter, and an address has at most 254 (RFC 5321 4.5.3.1)."""

TEXT = 2_000
"""Characters kept of a mail's text: what a reader sees without scrolling far."""

ADDRESSES = 20
"""Recipients whose addresses are kept: a page shows no more."""

HAM, SPAM = 0.25, 0.75
"""Scores up to which and from which the Rspamd plugin calls a mail wanted and unwanted."""

BANDS = ("unwanted", "uncertain", "wanted")
"""What a score may be, by these bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of one message.  Empty strings and tuples are what is not known or not kept."""

    id: int = 0
    """Of the file it is kept in, growing with time; 0 before it is kept."""
    at: float
    """When it was answered, in seconds since 1970."""
    queue_id: str = ""
    status: str
    """`scored`, `skipped` or `unscored`."""
    code: str = ""
    """Why it is not scored."""
    cause: str = ""
    """What went wrong, for the administrator; no text of the mail."""
    score: float | None = None
    """From 0 (wanted) to 1 (unwanted); None unless scored."""
    category: str = ""
    reason: str = ""
    model: str = ""
    cache: str = ""
    """`miss`, `hit` or `joined`, as domain.Cache."""
    injection: bool = False
    """The mail's text speaks to a model."""
    forged: int = 0
    """X-GPT headers that arrived with it."""
    sender_domain: str = ""
    """Registered domain of the From address."""
    evidence: tuple[str, ...] = ()
    """Our own lines about what was looked up."""
    missing: tuple[str, ...] = ()
    """Sources of evidence that did not answer in time."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    tokens_in: int = 0
    tokens_out: int = 0
    recipients: int = 0
    """How many there were."""
    size: int = 0
    """Bytes of the message."""
    subject: str = ""
    """This and what follows is kept only where all is to be kept."""
    sender: str = ""
    """The envelope's."""
    addresses: tuple[str, ...] = ()
    """The envelope's recipients, the first of them."""
    text: str = ""
    """The beginning of what the mail shows."""

    @property
    def seconds(self) -> float:
        """Seconds that the mail waited with us."""
        return sum(self.stages.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are wanted; what is empty does not matter."""

    status: str = ""
    category: str = ""
    band: str = ""
    """One of BANDS."""
    text: str = ""
    """Stands somewhere in the queue ID, the names, the reason, or what else is kept; ASCII letters
    of either case are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Counts of a span of time that begins `at`, and how long mail that was read waited with us."""

    at: float
    wanted: int
    uncertain: int
    unwanted: int
    skipped: int
    unscored: int
    median: float | None
    """Seconds; None where no mail was read."""
    p95: float | None
    """Seconds that 95 of 100 did not exceed."""


def band(score: float) -> str:
    """The one of BANDS that a score falls into."""
    if score >= SPAM:
        return "unwanted"
    return "wanted" if score <= HAM else "uncertain"


def record(message: Message, scan: Scan, *, at: float, full: bool) -> Record:
    """What is to be kept of a message; with `full` also what tells whose mail it is.

    A reason is the model's, which has read the mail: without `full` it tells no address either.
    """
    envelope = message.envelope
    told: Iterator[str] = iter(())
    if scan.evidence is not None and scan.facts is not None:
        told = words.known(scan.evidence, scan.facts, envelope)
    values: dict[str, object] = {}
    match scan.outcome:
        case Scored(verdict=verdict) as scored:
            values = {
                "status": "scored",
                "score": verdict.score,
                "category": bounded(verdict.category),
                "reason": bounded(verdict.reason if full else redact.mask(verdict.reason)),
                "model": bounded(scored.model),
                "cache": scored.cache.value,
                "injection": scored.injection,
                "tokens_in": scored.tokens_in,
                "tokens_out": scored.tokens_out,
            }
        case Skipped(code=skip):
            values = {"status": "skipped", "code": skip.value}
        case Unscored(code=failure, cause=cause):
            values = {"status": "unscored", "code": failure.value, "cause": bounded(cause)}
    if full:
        values |= {
            "sender": bounded(envelope.sender),
            "addresses": tuple(bounded(one) for one in envelope.recipients[:ADDRESSES]),
        }
        if scan.mail is not None:
            values |= {"subject": bounded(scan.mail.subject), "text": bounded(scan.mail.text, TEXT)}
    return Record(
        at=at,
        queue_id=bounded(envelope.queue_id),
        forged=message.forged,
        sender_domain=bounded(scan.facts.sender_domain) if scan.facts is not None else "",
        evidence=tuple(bounded(line) for line, _ in zip(told, range(EVIDENCE_LINES), strict=False)),
        missing=tuple(source.value for source in scan.evidence.missing) if scan.evidence else (),
        stages={bounded(stage): seconds for stage, seconds in scan.stages.items()},
        recipients=envelope.recipient_count,
        size=message.size,
        **values,  # type: ignore[arg-type]
    )


def bounded(text: str, most: int = LINE) -> str:
    """A text as a file can hold it: bounded, and without lone surrogates."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")
