"""What the scanner needs of others: who asks, who looks up, who remembers.

Protocols alone, which adapters fulfil and tests stand in for.  What may not live here: any work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rspamd_llm.domain import (
    Authentication,
    Brief,
    Completion,
    Deadline,
    Evidence,
    Facts,
    Mail,
    Message,
    ModelError,
    Opinion,
    Outcome,
    Prompt,
    Reading,
)

Read = Callable[[Message], Awaitable[Reading | None]]
"""Reads a message; None where there is nothing to judge.  Raises ReadingError."""


class Asker(Protocol):
    """Who asks the model."""

    async def excess(self, prompt: Prompt, deadline: Deadline) -> float:
        """What the prompt takes of the context, as a share of what it may; above 1 is too much."""
        ...

    async def ask(self, prompt: Prompt, deadline: Deadline) -> Completion:
        """The model's answer.  Raises ModelError."""
        ...

    def refusal(self, deadline: Deadline) -> ModelError | None:
        """Why an answer cannot be had in time, as far as one can tell before asking."""
        ...


class Inquiry(Protocol):
    """The look-ups for one message."""

    def go_on(self) -> None:
        """Begins all but the authentication, which has begun."""
        ...

    async def authentication(self, seconds: float) -> Authentication | None:
        """How the message authenticates, if that is known in time, and in so many seconds."""
        ...

    async def evidence(self) -> Evidence:
        """What is found out in time.  Raises nothing but CancelledError."""
        ...

    def drop(self) -> None:
        """Ends what goes on for this message alone."""
        ...


class Gatherer(Protocol):
    """Who looks things up."""

    async def begin(self, head: Message) -> None:
        """Looks up early what a header tells; cancelled when the message ends."""
        ...

    def inquire(self, message: Message, mail: Mail, facts: Facts, deadline: Deadline) -> Inquiry:
        """Begins to ask how a message authenticates."""
        ...


class Memory(Protocol):
    """Who knows the verdicts on messages alike."""

    async def judged(
        self, fingerprint: str, ask: Callable[[], Awaitable[Outcome]], deadline: Deadline
    ) -> Outcome:
        """The outcome remembered, of a message alike that is being judged, or of `ask`.

        Raises what `ask` does, and TimeoutError.
        """
        ...


class Correspondents(Protocol):
    """Who knows whom the recipients have written to."""

    async def learn(self, message: Message) -> None:
        """Takes note of an outgoing message.  Raises nothing."""
        ...

    async def has_written(self, recipients: Sequence[str], from_address: str) -> bool:
        """Whether each recipient has written to an address.  Raises nothing."""
        ...


Opining = Callable[[Message, Deadline], Awaitable[Opinion | None]]
"""Asks Rspamd for its opinion, which may not come.  Raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a mail is put to the model in use, and what stands for its sentence if it has none."""

    prompt: Callable[[Brief, int | None], Prompt]
    """The prompt that costs at most so many tokens by our bound; None for all that it may."""
    room: int
    fingerprint: Callable[[str, Evidence], str]
    """Of a mail's content and what is known beside it: verdicts are remembered by it.  Another one
    for each way of putting a mail to the model."""
    fallback_reason: Callable[[Facts, Evidence], str]
