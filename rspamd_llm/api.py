"""The OpenAI API over HTTP: one request to one server, and its answer as parsed JSON.

The only importer of openai, and of httpx2 and aiohttp, which it builds on; their errors become ours
here, once.  What may not live here: which server is asked, and again (llm.py).

Mail goes to the configured server and nowhere else: no proxy from the environment, no redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import httpx2
import openai

from rspamd_llm.domain import Deadline, Failure, ModelError
from rspamd_llm.servers import Endpoint, RefusedError

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection, so that a host that is gone leaves time for the next.  A lost first
packet is sent again after 1 s."""

ANSWER_BYTES = 2_000_000
"""Bytes read of an answer: 100,000 tokens, the most that can be configured, are about 600 kB."""

SPARE_CONNECTIONS = 10
"""For counting prompts and listing models beside the calls."""

KEPT = 2.0
"""Seconds that an idle connection is kept.  llama.cpp and vLLM close theirs after 5 s, and a call
sent in that moment would be lost."""

CLIENTS = 100
"""Clients kept, one for each server: more than anybody lists."""

COUNT_TIMEOUT = 2.0
"""Seconds for a server to count a prompt, which takes it a millisecond."""

_CONTEXT_SIGNS = ("context length", "context size", "context window", "exceed_context", "too long")


class FormatError(RefusedError):
    """The server refused a request, perhaps for the form it asks for (400, 404, 422, 500, 501).

    `passing` tells of a status that may as well have been a passing fault.
    """

    def __init__(self, cause: str, *, passing: bool) -> None:
        super().__init__(cause)
        self.passing = passing


class Api:
    """Speaks to servers.  Lives in one asyncio loop; closed with `close`."""

    def __init__(self, calls: int) -> None:
        """`calls` is how many there are at once at most."""
        # Over aiohttp, at half the cost of a call; and a connection on which something followed an
        # answer is not used again, where httpcore2 2.16 takes it for the next mail's answer.
        self._http = openai.DefaultAioHttpClient(
            trust_env=False,
            follow_redirects=False,
            # Compressed answers could be of any size once unpacked.
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_bound]},
            limits=httpx2.Limits(max_connections=calls + SPARE_CONNECTIONS, keepalive_expiry=KEPT),
        )
        self._clients: dict[Endpoint, openai.AsyncOpenAI] = {}

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def complete(
        self, endpoint: Endpoint, body: Mapping[str, Any], deadline: Deadline
    ) -> object:
        """The answer to a chat completion: any JSON at all.  Raises ModelError.

        The deadline bounds each phase; the whole is bounded by the caller.
        """
        left = max(0.001, deadline.left())
        timeout = httpx2.Timeout(left, connect=min(left, CONNECT_TIMEOUT))
        try:
            # Not `chat.completions.create`: its typed form of what is sent and what comes back
            # costs as much again (1 ms) as the call itself, and checks neither.
            with _translated_errors():
                answer = await self._at(endpoint).post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    body=body,
                    options={"timeout": timeout},
                )
            document: object = answer.json()
        except (ValueError, RecursionError) as error:
            # A body that is no JSON, although its type says so, or is nested beyond reason.
            raise ModelError(Failure.MODEL_INVALID, "the answer is no JSON") from error
        return document

    async def count(
        self, endpoint: Endpoint, model: str, text: str, deadline: Deadline
    ) -> int | None:
        """The tokens of a text: 0 where the server counts none, None where it did not answer.

        llama.cpp and vLLM have POST /tokenize beside /v1; the one reads `content`, the other
        `prompt`.
        """
        url = endpoint.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        try:
            async with asyncio.timeout(min(deadline.left(), COUNT_TIMEOUT)):
                answer = await self._at(endpoint).post(
                    url,
                    cast_to=httpx2.Response,
                    body={"model": model, "content": text, "prompt": text},
                )
        except openai.APIStatusError:
            return 0
        except (openai.APIError, aiohttp.ClientError, TimeoutError):
            return None
        try:
            found = answer.json()
            count = found["count"] if "count" in found else len(found["tokens"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return 0
        return count if isinstance(count, int) and count > 0 else 0

    async def models(self, endpoint: Endpoint, deadline: Deadline) -> tuple[str, ...]:
        """The names of the models that a server offers.  Raises ModelError."""
        try:
            async with asyncio.timeout(deadline.left()):
                with _translated_errors():
                    page = await self._at(endpoint).models.list()
                return tuple(str(entry.id) for entry in page.data)
        except TimeoutError:
            raise ModelError(Failure.TIMEOUT, "the server did not answer in time") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(Failure.MODEL_INVALID, "the answer lists no models") from error

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


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except openai.APIError as error:
        raise _translated(error) from error
    except aiohttp.ClientError as error:
        raise _unanswered(error) from error


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
        return FormatError(cause, passing=status == 500)
    if isinstance(error.__cause__, _TooLongError):
        return error.__cause__
    if isinstance(error.__cause__, httpx2.ConnectTimeout):  # openai's name for both over aiohttp
        return ModelError(
            Failure.MODEL_UNAVAILABLE, "the server did not take the connection, or closed it"
        )
    if isinstance(error, openai.APITimeoutError):
        return ModelError(Failure.TIMEOUT, "the model did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        return _unanswered(error.__cause__)
    return ModelError(Failure.MODEL_INVALID, "the answer is not in the OpenAI API's form")


def _unanswered(error: BaseException | None) -> ModelError:
    cause = type(error).__name__ if error else "no connection"
    return ModelError(Failure.MODEL_UNAVAILABLE, f"no answer from the server ({cause})")
