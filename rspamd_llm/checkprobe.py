"""Mails that `check` has judged: a harmless one, and one that fills the model's context.

What may not live here: whether servers answer at all (checkup.py).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from rspamd_llm import assembly
from rspamd_llm.config import Config
from rspamd_llm.domain import (
    Completion,
    Deadline,
    Envelope,
    Failure,
    Message,
    ModelError,
    Prompt,
    Scan,
    Scored,
    Unscored,
)
from rspamd_llm.llm import ModelClient
from rspamd_llm.prompt import TEXT_LOOKED_AT
from rspamd_llm.results import Result, failed, ok, warning
from rspamd_llm.servers import Endpoint

SHARE = 3
"""Of milter.deadline a probe may take one such part: the rest is for look-ups, for a queue of other
mails, and for a server that is busy."""

SENTENCE = "If I am in a do, so be it. "
"""What the long mail says again and again: words that are one token each in every vocabulary, so
short that our bound is near the truth (tokens.at_most 12, and 11 tokens).  With longer words a
prompt that is full by our bound would take half of the context, and not prove the rest."""

CHARACTERS = 3
"""Of SENTENCE for each token of the context: 2.25 cost one, by our bound."""

_HEAD = """From: Alice Example <alice@example.org>
To: bob@example.org
Subject: Lunch on Thursday
Date: {date}
Message-ID: <probe@example.org>

"""
_SHORT = """Hi Bob,

shall we have lunch on Thursday at noon, as always? The soup was good last time.

Alice
"""

_ANSWER_CURE = "see what the model server logs; `rspamd-llm scan --explain` shows its answer"


def harmless(text: str = _SHORT) -> Message:
    """A mail that nobody minds, written just now."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    data = (_HEAD.format(date=date) + text).replace("\n", "\r\n").encode()
    return Message(envelope=Envelope(), data=data, size=len(data))


async def probe(config: Config, works: assembly.Works) -> list[Result]:
    """A harmless mail, judged as any other, and how long that takes."""
    scan, seconds = await _scanned(harmless(), config, works)
    match scan.outcome:
        case Scored(verdict=verdict):
            told = f"a harmless mail scored {verdict.score:.2f} in {seconds:.2f} s"
            return [ok("probe", told), *_speed(config, "a harmless mail", seconds)]
        case Unscored(code=code, cause=cause):
            return [failed("probe", f"{code}: {cause}", _ANSWER_CURE)]
        case skipped:
            return [_skipped("probe", skipped.code)]


async def full_length(config: Config, plan: assembly.Plan, works: assembly.Works) -> list[Result]:
    """A mail as long as the context allows, judged by each model server.

    It proves that the server's context is as large as llm.context_tokens says.  The builtin model
    has no such prompt.
    """
    if not plan.profile.room:
        return []
    scan, seconds = await _scanned(harmless(_long(config)), config, works)
    if len(plan.endpoints) < 2 or scan.prompt is None:
        where = plan.endpoints[0].base_url if plan.endpoints else "the engine"
        return _context(config, where, scan, seconds)
    prompt = scan.prompt
    asked = [_asked(config, endpoint, prompt) for endpoint in plan.endpoints]
    return [result for found in await asyncio.gather(*asked) for result in found]


def _long(config: Config) -> str:
    least = min(config.llm.context_tokens * CHARACTERS, config.milter.max_body, TEXT_LOOKED_AT)
    paragraph = SENTENCE * 20
    return "\n\n".join([paragraph] * (least // len(paragraph) + 1))


async def _scanned(message: Message, config: Config, works: assembly.Works) -> tuple[Scan, float]:
    began = time.monotonic()
    scan = await works.scanner.scan(message, Deadline.after(config.milter.deadline))
    return scan, time.monotonic() - began


async def _asked(config: Config, endpoint: Endpoint, prompt: Prompt) -> list[Result]:
    """What one server of several makes of the prompt."""
    client = ModelClient(
        model=config.llm.model,
        endpoints=lambda: (endpoint,),
        concurrency=1,
        max_output_tokens=config.llm.max_output_tokens,
        context_tokens=config.llm.context_tokens,
        longest=config.milter.deadline,
    )
    began = time.monotonic()
    try:
        answer = await client.ask(prompt, Deadline.after(config.milter.deadline))
    except ModelError as error:
        return [_failure(config, endpoint.base_url, error.code, str(error))]
    finally:
        await client.close()
    return _read(config, endpoint.base_url, answer, time.monotonic() - began)


def _context(config: Config, where: str, scan: Scan, seconds: float) -> list[Result]:
    match scan.outcome:
        case Scored():
            return _read(config, where, scan.completion, seconds)
        case Unscored(code=code, cause=cause):
            return [_failure(config, where, code, cause)]
        case skipped:
            return [_skipped("context", skipped.code)]


def _longest(config: Config) -> str:
    return f"a mail as long as llm.context_tokens ({config.llm.context_tokens}) allows"


def _read(config: Config, where: str, answer: Completion | None, seconds: float) -> list[Result]:
    """What an answer tells of how much the server read; llm.py has found that it cut nothing."""
    slow = _speed(config, f"{where}: {_longest(config)}", seconds)
    if answer is None or not answer.tokens_in:
        return [
            warning(
                "context",
                f"{where} does not tell how many tokens it read of {_longest(config)}: one that it"
                " cuts would not be noticed",
                "make sure that its context is as large; Ollama, llama.cpp and vLLM tell"
                " (usage.prompt_tokens)",
            ),
            *slow,
        ]
    told = f"{where} read all of {_longest(config)}: {answer.tokens_in} tokens in {seconds:.2f} s"
    return [ok("context", told), *slow]


def _failure(config: Config, where: str, code: Failure, cause: str) -> Result:
    size = config.llm.context_tokens
    match code:
        case Failure.CONTEXT_OVERFLOW:
            return failed(
                "context",
                f"the server's context is smaller than llm.context_tokens ({size}): {where}:"
                f" {cause}",
                f"give it room for {size} tokens (Ollama: OLLAMA_CONTEXT_LENGTH={size} in its"
                " environment; llama.cpp: -c, times its slots; vLLM: --max-model-len), restart it,"
                " or lower llm.context_tokens",
            )
        case Failure.TIMEOUT:
            return failed(
                "context",
                f"{where}: {_longest(config)} is not judged within milter.deadline"
                f" ({config.milter.deadline:g} s)",
                f"{_FASTER}, or lower llm.context_tokens",
            )
        case _:
            told = f"{where}: {_longest(config)} got no verdict: {code}: {cause}"
            return warning("context", told, _ANSWER_CURE)


_FASTER = (
    "keep the model loaded (Ollama: OLLAMA_KEEP_ALIVE=-1), choose a smaller one or a GPU, or raise"
    " milter.deadline and Postfix's content_timeout"
)


def _speed(config: Config, what: str, seconds: float) -> list[Result]:
    deadline = config.milter.deadline
    if seconds <= deadline / SHARE:
        return []
    return [
        warning(
            "speed",
            f"{what} took {seconds:.2f} s, more than a third of milter.deadline ({deadline:g} s):"
            " when mails come together, some will get no verdict in time",
            _FASTER,
        )
    ]


def _skipped(check: str, code: str) -> Result:
    return warning(
        check,
        f"skipped by the gate: {code}",
        "nothing, if a rule of yours is meant to; else see [gate] and [rspamd]",
    )
