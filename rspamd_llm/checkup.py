"""What `check` asks of all that the daemon works with: model servers, sources, Rspamd, the store.

What may not live here: mails that are judged (checkprobe.py), what is found on this machine
(checkhost.py, checkmail.py, checkrspamd.py), and the table (check.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable

from rspamd_llm import assembly
from rspamd_llm.allowed import without_login
from rspamd_llm.checkprobe import harmless
from rspamd_llm.config import Config
from rspamd_llm.domain import Deadline, EvidenceError, ModelError
from rspamd_llm.evidence.dns import Dns
from rspamd_llm.lookups import Lookups
from rspamd_llm.results import Result, failed, ok, warning
from rspamd_llm.rspamd import Rspamd
from rspamd_llm.store import open_store

SERVER_TIMEOUT = 5.0
"""Seconds for a model server to list its models."""


async def servers(plan: assembly.Plan, works: assembly.Works) -> list[Result]:
    """Whether each model server answers, and has the model."""
    results = []
    for endpoint in plan.endpoints:
        url, model = endpoint.base_url, plan.config.llm.model
        try:
            models = await works.client.models(endpoint, Deadline.after(SERVER_TIMEOUT))
        except ModelError as error:
            cure = "start the model server, or correct llm.base_url; it ends in /v1"
            results.append(failed("model server", f"{url}: {error}", cure))
            continue
        results.append(ok("model server", f"{url} answers"))
        if model in models:
            results.append(ok("model", f"{url} has {model}"))
        else:
            offered = ", ".join(models[:10]) or "none"
            results.append(
                failed(
                    "model",
                    f"{url} does not offer {model}; it offers {offered}",
                    f"correct llm.model, or load the model (Ollama: `ollama pull {model}`)",
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
        return warning(name, str(error), cure)
    seconds = time.monotonic() - began
    if not found:
        return warning(name, f"answers, and knows nothing of {EVERYBODYS}", cure)
    return ok(name, f"knows {EVERYBODYS}, in {seconds:.2f} s")


async def opinion(config: Config, rspamd: Rspamd) -> Result:
    """Whether Rspamd has an opinion of a harmless mail, and keeps the question aside."""
    began = time.monotonic()
    found = await rspamd.opinion(harmless(), Deadline.after(config.milter.deadline))
    seconds = time.monotonic() - began
    if found is None:
        return warning(
            "rspamd",
            f"{config.rspamd.url} gives no opinion: {rspamd.fault}",
            "name its normal worker (port 11333) in rspamd.url, and its password's file",
        )
    detail = f"answers in {seconds:.2f} s: {found.action}, {found.score:.2f} points"
    if rspamd.is_aside:
        return ok("rspamd", detail)
    return warning(
        "rspamd",
        f"{detail}; it does not know our plugin of this version, so that it may learn from"
        " and store a mail twice: when it is asked, and when the mail comes",
        "copy rspamd_llm.lua of this version to its plugins.d, and restart Rspamd",
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
        return [ok("store", f"{without_login(url)} answers, and keeps what it is given")]
    return [
        warning(
            "store",
            f"{without_login(url)}: {fault}",
            "see to the server, or correct store.url; docs/several-daemons.md tells more",
        )
    ]
