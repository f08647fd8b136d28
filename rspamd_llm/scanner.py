"""The straight line that a message takes, on one page.

Lives in the core's asyncio loop.  Imports functions and protocols, never an adapter: what reaches
outside is handed in.  Whatever happens, a scan ends with an Outcome, within its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rspamd_llm import gate as gates
from rspamd_llm import verdict as verdicts
from rspamd_llm.domain import (
    Brief,
    Completion,
    Deadline,
    Evidence,
    Facts,
    Failure,
    Flag,
    Mail,
    Message,
    ModelError,
    Outcome,
    Prompt,
    Reading,
    ReadingError,
    Scan,
    Scored,
    Skip,
    Skipped,
    Unscored,
)

WRITERS = 2
"""Threads that make prompts.  That holds the interpreter: more would not be faster, and one that
takes long shall not stand in every other's way."""

FITTINGS = 4
"""Tries to make a prompt fit.  Each takes what the last count says, so that two are common."""

_log = logging.getLogger(__name__)


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


class Gatherer(Protocol):
    """Who looks things up."""

    async def begin(self, head: Message) -> None:
        """Looks up early what a header tells; cancelled when the message ends."""
        ...

    async def gather(
        self, message: Message, mail: Mail, facts: Facts, deadline: Deadline
    ) -> Evidence:
        """What is found out in time.  Raises nothing but CancelledError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a mail is put to the model in use, and what stands for its sentence if it has none."""

    prompt: Callable[[Brief, int | None], Prompt]
    """The prompt that costs at most so many tokens by our bound; None for all that it may."""
    room: int
    fallback_reason: Callable[[Facts, Evidence], str]


@dataclass(slots=True)
class _Progress:
    """What a scan has come to so far: kept aside so that it can be told however the scan ends."""

    stages: dict[str, float] = field(default_factory=dict)
    facts: Facts | None = None
    evidence: Evidence | None = None
    prompt: Prompt | None = None
    completion: Completion | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what runs within."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = time.monotonic() - began

    def ended(self, outcome: Outcome) -> Scan:
        """The Scan with this outcome."""
        return Scan(
            outcome=outcome,
            stages=self.stages,
            facts=self.facts,
            evidence=self.evidence,
            prompt=self.prompt,
            completion=self.completion,
        )


class Scanner:
    """Scans messages, at most `max_in_flight` at a time."""

    def __init__(
        self,
        *,
        gate: gates.Gate,
        read: Callable[[Message], Awaitable[Reading | None]],
        profile: Profile,
        gatherer: Gatherer,
        asker: Asker,
        model: str,
        max_in_flight: int,
    ) -> None:
        self._gate = gate
        self._read = read
        self._profile = profile
        self._gatherer = gatherer
        self._asker = asker
        self._model = model
        self._max_in_flight = max_in_flight
        self._stopping = False
        self._tasks: set[asyncio.Task[Scan]] = set()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")

    async def begin(self, head: Message) -> None:
        """A message is arriving, and its header is there.  Runs until it is cancelled, or ends."""
        if not self._stopping and self._gate.would_read(head):
            await self._gatherer.begin(head)

    async def scan(self, message: Message, deadline: Deadline) -> Scan:
        """What becomes of a message.  Raises nothing but CancelledError."""
        skip = self._gate.before_reading(message)
        if skip is not None:
            return Scan(outcome=Skipped(skip))
        if self._stopping:
            return Scan(outcome=Unscored(Failure.STOPPING))
        if message.is_dropped:
            return Scan(outcome=Unscored(Failure.OVERLOADED, "too many bytes of mail at once"))
        if len(self._tasks) >= self._max_in_flight:
            return Scan(outcome=Unscored(Failure.OVERLOADED, "milter.max_in_flight is reached"))
        task = asyncio.create_task(self._judge(message, deadline))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        except asyncio.CancelledError:
            # Either our caller was cancelled, or `abandon` ended the task under it.
            current = asyncio.current_task()
            if task.cancelled() and self._stopping and not (current and current.cancelling()):
                return Scan(outcome=Unscored(Failure.STOPPING))
            raise

    @property
    def in_flight(self) -> int:
        """Messages that are being judged."""
        return len(self._tasks)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is judged."""
        return self._stopping

    def begin_stop(self) -> None:
        """From now on nothing new is judged; what is being judged goes on."""
        self._stopping = True

    def abandon(self) -> None:
        """Ends what is still being judged: those scans come back as `unscored; stopping`."""
        for task in self._tasks:
            task.cancel()

    async def _judge(self, message: Message, deadline: Deadline) -> Scan:
        progress = _Progress()
        outcome: Outcome
        try:
            outcome = await self._line(message, deadline, progress)
        except (ModelError, ReadingError) as error:
            outcome = Unscored(error.code, str(error))
        except TimeoutError:
            what = "the model did not answer" if progress.prompt else "the mail was not read"
            outcome = Unscored(Failure.TIMEOUT, f"{what} in time")
        except Exception as error:  # noqa: BLE001  mail flows whatever our own mistakes
            # The traceback's text may quote the mail: it is for debug alone.
            _log.debug("scan failed", exc_info=True)
            outcome = Unscored(Failure.INTERNAL, f"unexpected {type(error).__name__}")
        return progress.ended(outcome)

    async def _line(self, message: Message, deadline: Deadline, progress: _Progress) -> Outcome:
        began = time.monotonic()
        with progress.stage("read"):
            async with asyncio.timeout(deadline.left()):
                reading = await self._read(message)
        if reading is None:
            return Skipped(Skip.NO_TEXT)
        mail, progress.facts = reading.mail, reading.facts
        refusal = self._asker.refusal(deadline)
        if refusal is not None:
            raise refusal
        with progress.stage("evidence"):
            progress.evidence = await self._gatherer.gather(message, mail, progress.facts, deadline)
        with progress.stage("fit"):
            brief = Brief(
                message=message, mail=mail, facts=progress.facts, evidence=progress.evidence
            )
            progress.prompt = await self._fitted(brief, deadline)
        with progress.stage("model"):
            # The asker keeps the deadline itself; a scan keeps it whatever an asker does.
            async with asyncio.timeout(deadline.left()):
                completion = await self._asker.ask(progress.prompt, deadline)
        progress.completion = completion
        reason = self._profile.fallback_reason(progress.facts, progress.evidence)
        return Scored(
            verdict=verdicts.understand(completion, progress.prompt, reason),
            model=self._model,
            prompt_id=progress.prompt.id,
            seconds=time.monotonic() - began,
            tokens_in=completion.tokens_in,
            tokens_out=completion.tokens_out,
            injection=progress.facts.has(Flag.ADDRESSES_MODEL),
        )

    async def _fitted(self, brief: Brief, deadline: Deadline) -> Prompt:
        """The prompt, made shorter until it fits the context by the best count there is."""
        loop = asyncio.get_running_loop()
        room = self._profile.room
        for _ in range(FITTINGS):
            prompt = await asyncio.wait_for(
                loop.run_in_executor(self._writers, self._profile.prompt, brief, room),
                deadline.left(),
            )
            excess = await self._asker.excess(prompt, deadline)
            if excess <= 1.0:
                return prompt
            room = int(room * 0.95 / excess)
        raise ModelError(Failure.CONTEXT_OVERFLOW, "the prompt does not fit the context")
