"""Asks the exported file through llama.cpp's chat endpoint, the way the daemon does."""

import json
import math
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

from script.model.labels import ANSWERS, LABELS

# The twenty most likely tokens are looked at: far more than the five that can be answers.
LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Answer:
    score: float
    category: str
    sure_of_form: float
    tokens: int


@contextmanager
def serving(path: Path, threads: int = 2) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 2048
    params.n_parallel = 1
    params.port = port
    params.cpuparams.n_threads = threads
    params.verbosity = -1
    server = xllamacpp.Server(params)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        del server


def post(base: str, path: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310  our own server on loopback
        base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        answer: dict[str, object] = json.load(reply)
    return answer


def request_for(text: str) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1,
        "temperature": 0,
        "seed": 1,
        "logprobs": True,
        "top_logprobs": LOOKED_AT,
    }


def answer_of(reply: Any) -> Answer:
    found = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    weights = {
        label: sum(math.exp(one["logprob"]) for one in found if one["token"] == piece)
        for label, piece in zip(LABELS, ANSWERS, strict=True)
    }
    whole = sum(weights.values())
    return Answer(
        # A model that has learnt for a few steps may say none of its answers: it cannot tell.
        score=1 - weights["none"] / whole if whole else 0.5,
        category=max(LABELS[1:], key=weights.__getitem__),
        sure_of_form=whole,
        tokens=reply["usage"]["prompt_tokens"],
    )


def ask(base: str, text: str) -> Answer:
    return answer_of(post(base, "/v1/chat/completions", request_for(text)))
