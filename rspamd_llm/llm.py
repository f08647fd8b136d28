"""The model client: Prompt -> Completion, within a deadline.

Which server is asked, in which form, and again where one fails.  What may not live here: a request
as such (api.py), the understanding of answers (verdict.py), the wording of prompts (prompt.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rspamd_llm import tokens
from rspamd_llm.admission import Admission, overloaded
from rspamd_llm.api import Api, FormatError
from rspamd_llm.domain import (
    AnswerForm,
    Completion,
    Deadline,
    Failure,
    ModelError,
    Prompt,
)
from rspamd_llm.forms import LABEL_OPTIONS, label_probabilities, response_format
from rspamd_llm.health import ServerHealth
from rspamd_llm.servers import HANG, Endpoint, Servers

SEED = 11390
"""Any fixed number: the same mail is to get the same verdict."""

CLEARLY_SHORT = 0.4
"""Share of the context up to which our bound is believed: the rarest scripts cost 2.5 times it."""


class ModelClient:
    """Asks the model servers.  Lives in one asyncio loop; closed with `close`.

    `endpoints` is asked before each call, so that an embedded engine may move.  The least busy
    server that is well is asked; where one fails at once, another is, while time is left.
    """

    def __init__(
        self,
        *,
        model: str,
        endpoints: Callable[[], Sequence[Endpoint]],
        concurrency: int,
        max_output_tokens: int,
        context_tokens: int,
        longest: float,
    ) -> None:
        """`longest` is how long a message has at most, in seconds."""
        self._model = model
        self._endpoints = endpoints
        self._max_output_tokens = max_output_tokens
        self._room = context_tokens - max_output_tokens - tokens.CHAT
        # What each server's answers have taught of its counts, and whether it counts on request.
        self._meters: dict[str, tokens.Meter] = {}
        self._counts: dict[str, bool] = {}
        self._admission = Admission(concurrency)
        self._servers = Servers(hang=min(HANG, longest / 2))
        # Whether a server takes response_format, as found out at its first answer.
        self._takes_schema: dict[str, bool] = {}
        self._api = Api(concurrency)

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Asks these from now on."""
        self._endpoints = lambda: endpoints

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def ask(self, prompt: Prompt, deadline: Deadline) -> Completion:
        """The answer of the first server that gives one.

        Raises ModelError: overloaded, timeout, model-unavailable, model-invalid or
        context-overflow.
        """
        try:
            async with asyncio.timeout(deadline.left()), self._admission.slot(deadline):
                return await self._ask_in_turn(prompt, deadline)
        except TimeoutError:
            raise _late() from None

    def refusal(self, deadline: Deadline) -> ModelError | None:
        """Why an answer cannot be had in time, as far as one can tell before asking."""
        if self._admission.is_hopeless(deadline):
            return overloaded()
        if self._servers.best(self._endpoints(), ()) is None:
            return _nobody()
        return None

    @property
    def waiting(self) -> int:
        """Messages that wait for a slot."""
        return self._admission.waiting

    def health(self) -> tuple[ServerHealth, ...]:
        """How each model server is."""
        return self._servers.health(self._endpoints())

    async def excess(self, prompt: Prompt, deadline: Deadline) -> float:
        """What a prompt takes of the context, as a share of what it may; above 1 is too much.

        By the server's own tokeniser where it offers one and the prompt is not clearly short; else
        by our bound from above, corrected by what the server's answers have taught.
        """
        if prompt.form is AnswerForm.LABEL:
            return 0.0  # bounded in bytes, see compact.COMPACT_LIMIT
        text = prompt.system + prompt.user
        bound = tokens.at_most(text)
        endpoint = self._servers.best(self._endpoints(), ())
        if endpoint is None or bound <= CLEARLY_SHORT * self._room:
            return bound / self._room
        count = await self._counted(endpoint, text, deadline)
        if count is None:
            return bound * self._meter(endpoint).factor / self._room
        return count / self._room

    async def models(self, endpoint: Endpoint, deadline: Deadline) -> tuple[str, ...]:
        """The names of the models that a server offers.  Raises ModelError."""
        return await self._api.models(endpoint, deadline)

    async def _counted(self, endpoint: Endpoint, text: str, deadline: Deadline) -> int | None:
        """The tokens of a text by the server's own count; None where it offers none."""
        if self._counts.get(endpoint.base_url) is False:
            return None
        count = await self._api.count(endpoint, self._model, text, deadline)
        if count is not None:
            self._counts.setdefault(endpoint.base_url, count > 0)
        return count or None

    def _meter(self, endpoint: Endpoint) -> tokens.Meter:
        return self._meters.get(endpoint.base_url, tokens.Meter())

    def _weigh(self, endpoint: Endpoint, prompt: Prompt, count: int) -> None:
        """Learns from a server's count of a prompt.  Raises ModelError if it cut the prompt."""
        text = prompt.system + prompt.user
        meter = self._meter(endpoint)
        if tokens.is_cut(text, count):
            raise ModelError(
                Failure.CONTEXT_OVERFLOW,
                f"the server read {count} tokens of a longer prompt: raise its context to "
                "llm.context_tokens (Ollama: OLLAMA_CONTEXT_LENGTH)",
            )
        self._meters[endpoint.base_url] = meter.learned(tokens.at_most(text), count)

    async def _ask_in_turn(self, prompt: Prompt, deadline: Deadline) -> Completion:
        failure = _nobody()
        tried: set[str] = set()
        while (endpoint := self._servers.best(self._endpoints(), tried)) is not None:
            tried.add(endpoint.base_url)
            try:
                with self._servers.calling(endpoint, deadline):
                    completion = await self._ask_one(endpoint, prompt, deadline)
                if prompt.form is not AnswerForm.LABEL:
                    self._weigh(endpoint, prompt, completion.tokens_in)
                return completion
            except ModelError as error:
                failure = error
                if error.code is not Failure.MODEL_UNAVAILABLE:
                    break
        raise failure

    async def _ask_one(self, endpoint: Endpoint, prompt: Prompt, deadline: Deadline) -> Completion:
        if prompt.form is AnswerForm.LABEL:
            return await self._call(endpoint, prompt, LABEL_OPTIONS, deadline)
        url = endpoint.base_url
        options: dict[str, Any] = {"max_tokens": self._max_output_tokens}
        if self._takes_schema.get(url) is False:
            return await self._call(endpoint, prompt, options, deadline)
        with_schema = options | {"response_format": response_format(prompt.categories)}
        try:
            completion = await self._call(endpoint, prompt, with_schema, deadline)
        except FormatError as refused:
            if self._takes_schema.pop(url, False):
                # Of the mail, as a rule; it is the next mail's that tells whether of the schema.
                raise
            # The schema may be what it refuses: ask once without, and remember what came of it,
            # but for a status that may have been a passing fault.
            completion = await self._call(endpoint, prompt, options, deadline)
            if not refused.passing:
                self._takes_schema[url] = False
        else:
            self._takes_schema[url] = True
        return completion

    async def _call(
        self, endpoint: Endpoint, prompt: Prompt, options: Mapping[str, Any], deadline: Deadline
    ) -> Completion:
        messages = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        body = {
            "model": self._model,
            "messages": messages,
            "temperature": 0.0,
            "seed": SEED,
            **options,
        }
        return _completion(await self._api.complete(endpoint, body, deadline), prompt)


def _late() -> ModelError:
    return ModelError(Failure.TIMEOUT, "the model did not answer in time")


def _nobody() -> ModelError:
    return ModelError(Failure.MODEL_UNAVAILABLE, "no model server is well")


def _completion(answer: Any, prompt: Prompt) -> Completion:
    """Our value for an answer: parsed JSON of which every field may be amiss."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        labels = {}
        if prompt.form is AnswerForm.LABEL:
            labels = label_probabilities(choice["logprobs"]["content"][0]["top_logprobs"])
        usage = answer.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Completion(
            text=_text(message.get("content")),
            reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
            finish=_text(choice.get("finish_reason")),
            label_probabilities=labels,
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            Failure.MODEL_INVALID, "the answer is not in the OpenAI API's form"
        ) from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
