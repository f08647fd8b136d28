"""The straight line that a message takes, on one page.

Lives in the core's asyncio loop.  Imports functions and protocols, never an adapter: what reaches
outside is handed in.  Whatever happens, a scan ends with an Outcome, within its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rspamd_llm import gate as gates
from rspamd_llm import verdict as verdicts
from rspamd_llm.domain import (
    Authentication,
    Brief,
    Cache,
    Completion,
    Deadline,
    Evidence,
    Facts,
    Failure,
    Flag,
    Mail,
    Message,
    ModelError,
    Opinion,
    Outcome,
    Prompt,
    ReadingError,
    Scan,
    Scored,
    Skip,
    Skipped,
    Unscored,
)
from rspamd_llm.steps import (
    Asker,
    Correspondents,
    Gatherer,
    Inquiry,
    Memory,
    Opining,
    Profile,
    Read,
)

WRITERS = 2
"""Threads that make prompts.  That holds the interpreter: more would not be faster, and one that
takes long shall not stand in every other's way."""

FITTINGS = 4
"""Tries to make a prompt fit.  Each takes what the last count says, so that two are common."""

REFUSED = 0.5
"""Seconds that mail waits at most to know how it authenticates, for a verdict to be remembered, if
no model is free to judge it: it is told so at once, and DNS has mostly answered by then."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What a scan has come to so far: kept aside so that it can be told however the scan ends."""

    began: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    mail: Mail | None = None
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
            spent = time.monotonic() - began
            self.stages[name] = self.stages.get(name, 0.0) + spent

    def ended(self, outcome: Outcome) -> Scan:
        """The Scan with this outcome."""
        return Scan(
            outcome=outcome,
            seconds=time.monotonic() - self.began,
            stages=self.stages,
            mail=self.mail,
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
        read: Read,
        opine: Opining | None,
        settles: Callable[[Opinion], bool],
        profile: Profile,
        gatherer: Gatherer,
        correspondents: Correspondents | None,
        memory: Memory,
        asker: Asker,
        model: str,
        max_in_flight: int,
    ) -> None:
        """`opine` and `correspondents` are None where they are switched off.

        `settles` says whether an opinion decides a message, so that the model is not asked.
        """
        self._gate = gate
        self._read = read
        self._opine = opine
        self._settles = settles
        self._correspondents = correspondents
        self._memory = memory
        self._profile = profile
        self._gatherer = gatherer
        self._asker = asker
        self._model = model
        self._max_in_flight = max_in_flight
        self._stopping = False
        self._tasks: set[asyncio.Task[Scan]] = set()
        self._learning: set[asyncio.Task[None]] = set()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")

    async def begin(self, head: Message) -> None:
        """A message is arriving, and its header is there.  Runs until it is cancelled, or ends."""
        if not self._stopping and self._gate.would_read(head):
            await self._gatherer.begin(head)

    async def scan(self, message: Message, deadline: Deadline) -> Scan:
        """What becomes of a message.  Raises nothing but CancelledError."""
        if message.envelope.authenticated and self._correspondents is not None:
            # Nobody waits for it.
            learning = asyncio.create_task(self._correspondents.learn(message))
            self._learning.add(learning)
            learning.add_done_callback(self._learning.discard)
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

    def renew(self, gate: gates.Gate, profile: Profile) -> None:
        """From now on messages are judged by these; those under way go on with what they have."""
        self._gate, self._profile = gate, profile

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
            what = "the model did not answer" if progress.facts else "the mail was not read"
            outcome = Unscored(Failure.TIMEOUT, f"{what} in time")
        except Exception as error:  # noqa: BLE001  mail flows whatever our own mistakes
            # The traceback's text may quote the mail: it is for debug alone.
            _log.debug("scan failed", exc_info=True)
            outcome = Unscored(Failure.INTERNAL, f"unexpected {type(error).__name__}")
        return progress.ended(outcome)

    async def _line(self, message: Message, deadline: Deadline, progress: _Progress) -> Outcome:
        gate, profile = self._gate, self._profile
        with progress.stage("read"):
            async with asyncio.timeout(deadline.left()):
                reading = await self._read(message)
        if reading is None:
            return Skipped(Skip.NO_TEXT)
        mail, facts = reading.mail, reading.facts
        progress.mail, progress.facts = mail, facts
        opinion = None
        if self._opine is not None:
            with progress.stage("rspamd"):
                opinion = await self._opine(message, deadline)
            if opinion is not None and self._settles(opinion):
                return Skipped(Skip.DECIDED)
        inquiry = self._gatherer.inquire(message, mail, facts, deadline)
        try:
            # One who proves to be on the allow-list is not looked up; nor is mail that would find
            # no free model, if no verdict is remembered.
            refusal = self._asker.refusal(deadline)
            if refusal is None and not gate.lists_sender(mail.from_address):
                inquiry.go_on()
            with progress.stage("evidence"):
                authentication = await inquiry.authentication(REFUSED if refusal else math.inf)
            if gate.allows(message, mail.from_address, authentication):
                return Skipped(Skip.ALLOWLIST)
            known = Evidence(
                authentication=authentication,
                opinion=opinion,
                is_correspondent=await self._is_correspondent(message, mail, authentication),
            )
            progress.evidence = known
            brief = Brief(message=message, mail=mail, facts=facts, evidence=known)
            began_judging = time.monotonic()
            outcome = await self._memory.judged(
                profile.fingerprint(reading.content, known),
                lambda: self._ask(brief, profile, inquiry, deadline, progress),
                deadline,
            )
        finally:
            inquiry.drop()
        if not isinstance(outcome, Scored):
            return outcome
        now = time.monotonic()
        if outcome.cache is not Cache.MISS:
            progress.stages["memory"] = now - began_judging
        injection = facts.has(Flag.ADDRESSES_MODEL)
        return replace(outcome, seconds=now - progress.began, injection=injection)

    async def _is_correspondent(
        self, message: Message, mail: Mail, authentication: Authentication | None
    ) -> bool:
        """Whether all recipients have written to the sender, who proves to be the one."""
        if self._correspondents is None or not gates.is_aligned(
            message, mail.from_address, authentication
        ):
            return False
        return await self._correspondents.has_written(
            message.envelope.recipients, mail.from_address
        )

    async def _ask(
        self,
        known: Brief,
        profile: Profile,
        inquiry: Inquiry,
        deadline: Deadline,
        progress: _Progress,
    ) -> Outcome:
        """What the model says of a message that nothing is remembered of."""
        refusal = self._asker.refusal(deadline)
        if refusal is not None:
            raise refusal
        with progress.stage("evidence"):
            evidence = replace(
                await inquiry.evidence(),
                opinion=known.evidence.opinion,
                is_correspondent=known.evidence.is_correspondent,
            )
        progress.evidence = evidence
        with progress.stage("fit"):
            progress.prompt = await self._fitted(
                replace(known, evidence=evidence), profile, deadline
            )
        with progress.stage("model"):
            # The asker keeps the deadline itself; a scan keeps it whatever an asker does.
            async with asyncio.timeout(deadline.left()):
                completion = await self._asker.ask(progress.prompt, deadline)
        progress.completion = completion
        reason = profile.fallback_reason(known.facts, evidence)
        return Scored(
            verdict=verdicts.understand(completion, progress.prompt, reason),
            model=self._model,
            prompt_id=progress.prompt.id,
            seconds=0.0,
            tokens_in=completion.tokens_in,
            tokens_out=completion.tokens_out,
            is_whole=not evidence.missing,
        )

    async def _fitted(self, brief: Brief, profile: Profile, deadline: Deadline) -> Prompt:
        """The prompt, made shorter until it fits the context by the best count there is."""
        loop = asyncio.get_running_loop()
        room = profile.room
        for _ in range(FITTINGS):
            async with asyncio.timeout(deadline.left()):
                prompt = await loop.run_in_executor(self._writers, profile.prompt, brief, room)
            excess = await self._asker.excess(prompt, deadline)
            if excess <= 1.0:
                return prompt
            room = int(room * 0.95 / excess)
        raise ModelError(Failure.CONTEXT_OVERFLOW, "the prompt does not fit the context")
