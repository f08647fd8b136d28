"""The question to the model, its answer, and what was understood of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rspamd_llm.domain.evidence import Evidence
from rspamd_llm.domain.facts import Facts
from rspamd_llm.domain.mail import Mail, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """All that is known of a message when the model is asked."""

    message: Message
    mail: Mail
    facts: Facts
    evidence: Evidence = field(default_factory=Evidence)


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
