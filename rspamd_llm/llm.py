"""The model client: Prompt -> Completion, within a deadline.

The only importer of openai, and of httpx2, which it builds on; their errors become ours here, once.
What may not live here: the understanding of answers (verdict.py) and the wording of prompts
(prompt.py).

Mail goes to the configured server and nowhere else: no proxy from the environment, no redirect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx2
import openai

from rspamd_llm import tokens
from rspamd_llm.admission import Admission, overloaded
from rspamd_llm.domain import (
    AnswerForm,
    Completion,
    Deadline,
    Failure,
    ModelError,
    Prompt,
)
from rspamd_llm.forms import LABEL_OPTIONS, label_probabilities, response_format
from rspamd_llm.servers import HANG, Endpoint, RefusedError, Servers

SEED = 11390
"""Any fixed number: the same mail is to get the same verdict."""

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection, so that a host that is gone leaves time for the next.  A lost first
packet is sent again after 1 s."""

ANSWER_BYTES = 2_000_000
"""Bytes read of an answer: 100,000 tokens, the most that can be configured, are about 600 kB."""

CLEARLY_SHORT = 0.4
"""Share of the context up to which our bound is believed: the rarest scripts cost 2.5 times it."""

SPARE_CONNECTIONS = 10
"""For counting prompts and listing models beside the calls."""

CLIENTS = 100
"""Clients kept, one for each server: more than anybody lists."""

COUNT_TIMEOUT = 2.0
"""Seconds for a server to count a prompt, which takes it a millisecond."""

_CONTEXT_SIGNS = ("context length", "context size", "context window", "exceed_context", "too long")


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
        self._http = openai.DefaultAsyncHttpxClient(
            trust_env=False,
            follow_redirects=False,
            # Compressed answers could be of any size once unpacked.
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_bound]},
            # No connection is used twice: what follows an answer in the same breath would be taken
            # for the answer to the next mail's question (httpcore2 2.16).  It costs 0.3 ms a call.
            limits=httpx2.Limits(
                max_connections=concurrency + SPARE_CONNECTIONS, max_keepalive_connections=0
            ),
        )
        self._clients: dict[Endpoint, openai.AsyncOpenAI] = {}

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

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
        try:
            async with asyncio.timeout(deadline.left()):
                page = await self._at(endpoint).models.list()
                return tuple(str(entry.id) for entry in page.data)
        except TimeoutError:
            raise ModelError(Failure.TIMEOUT, "the server did not answer in time") from None
        except openai.APIError as error:
            raise _translated(error) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(Failure.MODEL_INVALID, "the answer lists no models") from error

    async def _counted(self, endpoint: Endpoint, text: str, deadline: Deadline) -> int | None:
        """The tokens of a text by the server's own count; None where it offers none.

        llama.cpp and vLLM have POST /tokenize beside /v1; the one reads `content`, the other
        `prompt`.
        """
        if self._counts.get(endpoint.base_url) is False:
            return None
        url = endpoint.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        try:
            async with asyncio.timeout(min(deadline.left(), COUNT_TIMEOUT)):
                answer = await self._http.post(
                    url,
                    json={"model": self._model, "content": text, "prompt": text},
                    headers={"Authorization": f"Bearer {endpoint.api_key or '-'}"},
                )
        except (httpx2.HTTPError, ModelError, TimeoutError):
            return None  # a passing fault, which tells nothing of what the server offers
        try:
            found = answer.json() if answer.status_code == 200 else {}
            count = found["count"] if "count" in found else len(found["tokens"])
        except (ValueError, TypeError, KeyError):
            count = 0
        offered = isinstance(count, int) and count > 0
        self._counts.setdefault(endpoint.base_url, offered)
        return count if offered else None

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
        except _FormatError as refused:
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
        left = max(0.001, deadline.left())
        timeout = httpx2.Timeout(left, connect=min(left, CONNECT_TIMEOUT))
        try:
            # Not `chat.completions.create`: its typed form of what is sent and what comes back
            # costs as much again (1 ms) as the call itself, and checks neither.
            answer = await self._at(endpoint).post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                options={"timeout": timeout},
            )
            document = answer.json()
        except openai.APIError as error:
            raise _translated(error) from error
        except (ValueError, RecursionError) as error:
            # A body that is no JSON, although its type says so, or is nested beyond reason.
            raise ModelError(Failure.MODEL_INVALID, "the answer is no JSON") from error
        return _completion(document, prompt)

    def _at(self, endpoint: Endpoint) -> openai.AsyncOpenAI:
        """The client for a server; all share their connections."""
        known = self._clients.get(endpoint)
        if known is None:
            if len(self._clients) > CLIENTS:
                self._clients.clear()  # an embedded engine moves with each start
            known = self._clients[endpoint] = openai.AsyncOpenAI(
                api_key=endpoint.api_key or "-",
                base_url=endpoint.base_url,
                max_retries=0,
                http_client=self._http,
            )
        return known


def _late() -> ModelError:
    return ModelError(Failure.TIMEOUT, "the model did not answer in time")


def _nobody() -> ModelError:
    return ModelError(Failure.MODEL_UNAVAILABLE, "no model server is well")


class _FormatError(RefusedError):
    """The server refused a request, perhaps for the form it asks for (400, 404, 422, 500, 501).

    `passing` tells of a status that may as well have been a passing fault.
    """

    def __init__(self, cause: str, *, passing: bool) -> None:
        super().__init__(cause)
        self.passing = passing


class _TooLongError(ModelError):
    """An answer is longer than ANSWER_BYTES, or compressed although we asked for plain."""

    def __init__(self) -> None:
        super().__init__(Failure.MODEL_INVALID, "the answer is far too long, or compressed")


class _BoundedStream(httpx2.AsyncByteStream):
    """The bytes of a response, as many as we care to hold."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise _TooLongError
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Called with each response before its body is read."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _TooLongError
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(response.stream)


def _translated(error: openai.APIError) -> ModelError:
    """Our error for one of openai's.  A server's error text may quote the mail: it is left out."""
    if isinstance(error, openai.APIStatusError):
        body = str(error.body or error.message).lower()
        status = error.status_code
        if status in (400, 413) and any(sign in body for sign in _CONTEXT_SIGNS):
            return ModelError(Failure.CONTEXT_OVERFLOW, "the prompt is longer than the context")
        cause = f"the server answered with status {status}"
        if status not in (400, 404, 422, 500, 501):
            return ModelError(Failure.MODEL_UNAVAILABLE, cause)
        return _FormatError(cause, passing=status == 500)
    if isinstance(error.__cause__, _TooLongError):
        return error.__cause__
    if isinstance(error.__cause__, httpx2.ConnectTimeout):
        return ModelError(Failure.MODEL_UNAVAILABLE, "the server did not take the connection")
    if isinstance(error, openai.APITimeoutError):
        return ModelError(Failure.TIMEOUT, "the model did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
        return ModelError(Failure.MODEL_UNAVAILABLE, f"no answer from the server ({cause})")
    return ModelError(Failure.MODEL_INVALID, "the answer is not in the OpenAI API's form")


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
