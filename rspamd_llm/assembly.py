"""Config -> a scanner with its model, ready to work: the adapters are put together here.

What may not live here: decisions.  Used by the commands serve, scan and check.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from rspamd_llm import compact, fence, injection
from rspamd_llm import engine as engines
from rspamd_llm import facts as facts_of
from rspamd_llm import mail as mails
from rspamd_llm import prompt as prompts
from rspamd_llm.config import Config
from rspamd_llm.domain import ConfigError, Facts, Mail, Message, Prompt
from rspamd_llm.engine import BUILTIN, Engine
from rspamd_llm.gate import Gate
from rspamd_llm.llm import Endpoint, ModelClient
from rspamd_llm.scanner import Profile, Scanner


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that can be settled before anything is started: files read, settings understood."""

    config: Config
    profile: Profile
    order: engines.Order | None
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """What runs: belongs to the asyncio loop that started it."""

    scanner: Scanner
    client: ModelClient
    engine: Engine | None

    async def stop(self) -> None:
        """Closes the connections and ends the engine."""
        await self.client.close()
        if self.engine:
            await self.engine.stop()


def plan(config: Config) -> Plan:
    """What the configuration asks for.  Raises ConfigError with every fault found."""
    # Tables that the first mail would else wait for.
    facts_of.prepare()
    injection.prepare()
    faults: list[str] = []
    embedded = config.llm.engine == "embedded"
    order = None
    profile = None
    endpoints: tuple[Endpoint, ...] = ()
    try:
        profile = _profile(config)
    except ConfigError as error:
        faults += error.faults
    try:
        if embedded:
            order = engines.plan(
                model=config.llm.model,
                context_tokens=config.llm.context_tokens,
                slots=config.llm.slots,
                threads=config.llm.threads,
            )
        else:
            key = _secret(config.llm.api_key_file, "llm.api_key_file")
            urls = config.llm.base_url
            listed = (urls,) if isinstance(urls, str) else urls
            endpoints = tuple(Endpoint(url, key) for url in listed)
    except ConfigError as error:
        faults += error.faults
    if faults or profile is None:
        raise ConfigError(tuple(faults))
    return Plan(config=config, profile=profile, order=order, endpoints=endpoints)


async def start(plan: Plan) -> Works:
    """Starts what was planned.  Raises EngineError if the embedded engine does not start."""
    config = plan.config
    engine = Engine(plan.order) if plan.order else None
    if engine:
        await engine.start()
    client = ModelClient(
        model=config.llm.model,
        endpoints=engine.endpoints if engine else lambda: plan.endpoints,
        concurrency=config.llm.concurrency,
        max_output_tokens=config.llm.max_output_tokens,
        context_tokens=config.llm.context_tokens,
    )
    scanner = Scanner(
        gate=Gate(
            skip_authenticated=config.gate.skip_authenticated,
            skip_networks=tuple(map(ipaddress.ip_network, config.gate.skip_networks)),
            max_size=config.gate.max_size,
            sample=config.gate.sample,
        ),
        read=_read,
        profile=plan.profile,
        asker=client,
        model=config.llm.model,
        max_in_flight=config.milter.max_in_flight,
    )
    return Works(scanner=scanner, client=client, engine=engine)


def _profile(config: Config) -> Profile:
    categories = config.verdict.categories
    if config.llm.engine == "embedded" and config.llm.model == BUILTIN:

        def small(_message: Message, mail: Mail, facts: Facts, _room: int | None) -> Prompt:
            return compact.compact_prompt(mail, facts, categories)

        return Profile(prompt=small, room=0, fallback_reason=compact.strongest_facts)
    instructions = prompts.load_instructions(
        file=config.prompt.file,
        categories=categories,
        context_tokens=config.llm.context_tokens,
        max_output_tokens=config.llm.max_output_tokens,
        content=config.prompt.content,
        redact=config.prompt.redact,
        mark_data=config.prompt.mark_data,
    )

    def instruct(message: Message, mail: Mail, facts: Facts, room: int | None) -> Prompt:
        mark = fence.mark()
        return prompts.instruct(message, mail, facts, instructions, mark=mark, room=room)

    return Profile(prompt=instruct, room=instructions.room, fallback_reason=lambda _facts: "")


def _read(message: Message) -> Mail:
    return mails.read(message.data, truncated=message.size > len(message.data))


def _secret(file: str, path: str) -> str:
    """A secret that stands alone in a file; empty where no file is named."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError((f"{path}: {file} cannot be read: {error}",)) from error
