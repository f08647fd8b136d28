"""What `check` asks of all that the daemon works with: model servers, sources, Rspamd, the whole.

What may not live here: what is read of files and of the running daemon, and the table (check.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime

from rspamd_llm import assembly
from rspamd_llm.allowed import without_login
from rspamd_llm.config import Config
from rspamd_llm.domain import (
    Deadline,
    Envelope,
    EvidenceError,
    Message,
    ModelError,
    Scored,
    Unscored,
)
from rspamd_llm.evidence.dns import Dns
from rspamd_llm.lookups import Lookups
from rspamd_llm.rspamd import Rspamd
from rspamd_llm.store import open_store

SERVER_TIMEOUT = 5.0
"""Seconds for a model server to list its models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check: what was looked at, how it was found, and where it failed cause and cure."""

    check: str
    status: str
    """ok, warning or failed."""
    detail: str
    cure: str = ""


async def servers(plan: assembly.Plan, works: assembly.Works) -> list[Result]:
    results = []
    for endpoint in plan.endpoints:
        url, model = endpoint.base_url, plan.config.llm.model
        try:
            models = await works.client.models(endpoint, Deadline.after(SERVER_TIMEOUT))
        except ModelError as error:
            results.append(
                Result(
                    check="model server",
                    status="failed",
                    detail=f"{url}: {error}",
                    cure="start the model server, or correct llm.base_url; it ends in /v1",
                )
            )
            continue
        results.append(Result(check="model server", status="ok", detail=f"{url} answers"))
        if model in models:
            results.append(Result(check="model", status="ok", detail=f"{url} has {model}"))
        else:
            offered = ", ".join(models[:10]) or "none"
            results.append(
                Result(
                    check="model",
                    status="failed",
                    detail=f"{url} does not offer {model}; it offers {offered}",
                    cure=f"correct llm.model, or load the model (Ollama: `ollama pull {model}`)",
                )
            )
    return results


EVERYBODYS = "iana.org"
"""A domain that has DNS records, a registration and pages on the web, and tells nothing of us."""


async def evidence(config: Config, lookups: Lookups) -> list[Result]:
    """Whether each source of evidence answers.  One that does not costs evidence, never mail."""
    asked: list[tuple[str, Awaitable[bool], str]] = []
    if config.evidence.dns or config.evidence.authentication == "auto":
        asked.append(
            (
                "dns",
                _has_mail(lookups.dns),
                "name working servers in evidence.nameservers, or set evidence.dns = false",
            )
        )
    if lookups.rdap is not None:
        asked.append(
            (
                "registration",
                _finds(lookups.rdap.look_up(EVERYBODYS)),
                "allow HTTPS to data.iana.org and the registries, or set evidence.registration = "
                "false",
            )
        )
    if lookups.engine is not None:
        asked.append(
            (
                "web search",
                _finds(lookups.engine.search(EVERYBODYS, config.search.timeout)),
                "see docs/privacy.md for the providers and a SearXNG of your own, or set "
                'search.provider = "none"',
            )
        )
    return [await _health(name, answer, cure) for name, answer, cure in asked]


async def _has_mail(dns: Dns) -> bool:
    return bool((await dns.query(EVERYBODYS, "MX")).values)


async def _finds(answer: Awaitable[object]) -> bool:
    return bool(await answer)


async def _health(name: str, answer: Awaitable[bool], cure: str) -> Result:
    began = time.monotonic()
    try:
        found = await answer
    except EvidenceError as error:
        return Result(check=name, status="warning", detail=str(error), cure=cure)
    seconds = time.monotonic() - began
    if not found:
        detail = f"answers, and knows nothing of {EVERYBODYS}"
        return Result(check=name, status="warning", detail=detail, cure=cure)
    return Result(check=name, status="ok", detail=f"knows {EVERYBODYS}, in {seconds:.2f} s")


async def opinion(config: Config, rspamd: Rspamd) -> Result:
    """Whether Rspamd has an opinion of a harmless mail, and keeps the question aside."""
    began = time.monotonic()
    found = await rspamd.opinion(_harmless(), Deadline.after(config.milter.deadline))
    seconds = time.monotonic() - began
    if found is None:
        return Result(
            check="rspamd",
            status="warning",
            detail=f"{config.rspamd.url} gives no opinion: {rspamd.fault}",
            cure="name its normal worker (port 11333) in rspamd.url, and its password's file",
        )
    detail = f"answers in {seconds:.2f} s: {found.action}, {found.score:.2f} points"
    if rspamd.is_aside:
        return Result(check="rspamd", status="ok", detail=detail)
    return Result(
        check="rspamd",
        status="warning",
        detail=f"{detail}; it does not know our plugin of this version, so that it may learn from"
        " and store a mail twice: when it is asked, and when the mail comes",
        cure="copy rspamd_llm.lua of this version to its plugins.d, and restart Rspamd",
    )


async def store(config: Config) -> list[Result]:
    """Whether the server of the store answers and takes what is kept.  A file is left alone: one
    that root made would be of no use to the daemon."""
    url = config.store.url
    if url.startswith(("memory:", "sqlite:")):
        return []
    opened = open_store(url)
    await opened.put("check", "now", "1", 1.0)
    fault = opened.fault
    await opened.close()
    if not fault:
        detail = f"{without_login(url)} answers, and keeps what it is given"
        return [Result(check="store", status="ok", detail=detail)]
    return [
        Result(
            check="store",
            status="warning",
            detail=f"{without_login(url)}: {fault}",
            cure="see to the server, or correct store.url; docs/several-daemons.md tells more",
        )
    ]


PROBE = """From: Alice Example <alice@example.org>
To: bob@example.org
Subject: Lunch on Thursday
Date: {date}
Message-ID: <probe@example.org>

Hi Bob,

shall we have lunch on Thursday at noon, as always? The soup was good last time.

Alice
"""


def _harmless() -> Message:
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    data = PROBE.format(date=date).replace("\n", "\r\n").encode()
    return Message(envelope=Envelope(), data=data, size=len(data))


async def probe(config: Config, works: assembly.Works) -> Result:
    """A harmless mail, judged as any other."""
    began = time.monotonic()
    scan = await works.scanner.scan(_harmless(), Deadline.after(config.milter.deadline))
    seconds = time.monotonic() - began
    match scan.outcome:
        case Scored(verdict=verdict):
            detail = f"a harmless mail scored {verdict.score:.2f} in {seconds:.2f} s"
            return Result(check="probe", status="ok", detail=detail)
        case Unscored(code=code, cause=cause):
            return Result(
                check="probe",
                status="failed",
                detail=f"{code}: {cause}",
                cure="see what the model server logs; `rspamd-llm scan --explain` shows its answer",
            )
        case skipped:
            return Result(
                check="probe", status="warning", detail=f"skipped by the gate: {skipped.code}"
            )
