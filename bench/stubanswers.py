"""What the stub model server answers, as values: the behaviours to choose from and the bytes of
each reply. Plain functions only; sockets, time and counting are stubmodel's.

Error bodies are copies of what the servers they name send, for our reading of them is under test.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]

GOOD = '{"score": 0.97, "category": "phishing", "reason": "It asks for a password."}'

# Faults that are a matter of content, answered with status 200.
CONTENT_FAULTS = (
    "html",  # a proxy's page instead of JSON
    "not-json",  # 200 and neither JSON nor HTML
    "no-choices",  # JSON, but no completion
    "empty",  # content ""
    "null",  # content null
    "length",  # cut short by the output limit: finish_reason length
    "nan",  # a score that is no number
    "reasoning",  # reasoning ate the output limit: content empty, reasoning_content full
    "huge",  # `size` bytes of content
)
# Faults that are a matter of the connection.
LINE_FAULTS = (
    "down",  # the port is closed
    "close",  # closes without a byte of an answer
    "early",  # closes in the middle of the body
    "reset",  # resets the connection
    "hang",  # takes the request, never answers
    "drip",  # one byte of the body each `interval`
)
FAULTS = CONTENT_FAULTS + LINE_FAULTS

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_REASONS |= {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Behaviour:
    """How the stub behaves from now on. The default is a good answer at once.

    `answer` is the content, or a function of the request's body that gives it. `error` chooses
    among the error bodies for status 400: "context" (OpenAI's), "context-llamacpp",
    "context-vllm", or another message of your own for any status. `reject_format` answers 400 to
    requests with response_format: "once", "always" or never ("").
    """

    latency: float = 0.0
    answer: str | Callable[[Body], str] = GOOD
    fault: str = ""
    status: int = 200
    error: str = ""
    retry_after: str = ""
    reject_format: str = ""
    interval: float = 0.05
    size: int = 50_000_000
    finish_reason: str = "stop"
    model: str = "stub"
    prompt_tokens: int | None = None  # None: a token for each four characters of the messages
    completion_tokens: int = 24

    def __post_init__(self) -> None:
        if self.fault and self.fault not in FAULTS:
            raise ValueError(f"no such fault: {self.fault}; there are {', '.join(FAULTS)}")


def verdict(score: float = 0.97, category: str = "phishing", reason: str = "A reason.") -> str:
    """The content of a good answer."""
    return json.dumps({"score": score, "category": category, "reason": reason})


def response(status: int, payload: object, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP/1.1 response; bytes and str pass as they are, the rest becomes JSON."""
    kind = "application/json"
    if isinstance(payload, str):
        kind = "text/html; charset=utf-8"
        payload = payload.encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Other')}", f"content-type: {kind}"]
    lines += [f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def models(behaviour: Behaviour) -> bytes:
    entry = {"id": behaviour.model, "object": "model", "created": 0, "owned_by": "stub"}
    return response(200, {"object": "list", "data": [entry]})


def failure(status: int, error: str = "", retry_after: str = "") -> bytes:
    """An error as OpenAI words it, or as another server does (see Behaviour.error)."""
    headers = {"retry-after": retry_after} if retry_after else {}
    return response(status, _error_body(status, error), headers)


def completion(behaviour: Behaviour, request: Body) -> bytes:
    """The answer with status 200, with its content fault if it has one."""
    fault = behaviour.fault
    if fault == "html":
        return response(200, "<!doctype html><title>Sign in</title><p>Please sign in.</p>")
    if fault == "not-json":
        return response(200, b"upstream connect error")
    answer = behaviour.answer if isinstance(behaviour.answer, str) else behaviour.answer(request)
    message: dict[str, object] = {"role": "assistant", "content": answer}
    finish = behaviour.finish_reason
    match fault:
        case "empty":
            message["content"] = ""
        case "null":
            message["content"] = None
        case "length":
            message["content"], finish = answer[: len(answer) // 2], "length"
        case "nan":
            message["content"] = '{"score": NaN, "category": "none", "reason": ""}'
        case "reasoning":
            message |= {"content": "", "reasoning_content": "Let me think. The sender"}
            finish = "length"
        case "huge":
            message["content"] = "a" * behaviour.size
    prompt = behaviour.prompt_tokens
    if prompt is None:
        prompt = len(json.dumps(request.get("messages", ""), ensure_ascii=False)) // 4
    made = behaviour.completion_tokens
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": behaviour.model,
        "choices": [] if fault == "no-choices" else [choice],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
        },
    }
    return response(200, body)


def _error_body(status: int, error: str) -> object:
    if error == "context-llamacpp":
        return {
            "error": {
                "code": 400,
                "message": "request (9021 tokens) exceeds the available context size (4096 tokens)"
                ", try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9021,
                "n_ctx": 4096,
            }
        }
    if error == "context-vllm":
        return {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested"
            " 9321 tokens (9021 in the messages, 300 in the completion). Please reduce the length"
            " of the messages or completion.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
    kinds = {
        400: ("invalid_request_error", None, "Invalid request."),
        401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
        404: ("invalid_request_error", "model_not_found", "The model `stub` does not exist."),
        429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    }
    kind, code, message = kinds.get(status, ("server_error", None, "The server had an error."))
    if error == "context":
        code = "context_length_exceeded"
        message = "This model's maximum context length is 4096 tokens. However, your messages"
        message += " resulted in 9021 tokens. Please reduce the length of the messages."
    elif error:
        message = error
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
