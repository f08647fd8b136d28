"""What became of a message, and how it is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rspamd_llm.domain.evidence import Evidence
from rspamd_llm.domain.facts import Facts
from rspamd_llm.domain.judgement import Completion, Prompt, Verdict
from rspamd_llm.domain.mail import Mail


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


class Cache(StrEnum):
    """Where a verdict came from, as X-GPT-Model and the log tell it."""

    MISS = "miss"
    """The model was asked about this message."""
    HIT = "hit"
    """It was remembered."""
    JOINED = "joined"
    """The model was being asked about a message like this one, and its answer waited for."""


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
    cache: Cache = Cache.MISS
    is_whole: bool = True
    """All evidence that was asked for was there: one without is remembered for a short time."""


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
    seconds: float = 0.0
    """From the message's end to the outcome; 0 for what was settled without a look at it."""
    stages: Mapping[str, float] = field(default_factory=dict)
    mail: Mail | None = None
    facts: Facts | None = None
    evidence: Evidence | None = None
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
