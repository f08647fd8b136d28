"""Config -> a scanner with its model, ready to work: the adapters are put together here.

What may not live here: decisions.  Used by the commands serve, scan and check.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from rspamd_llm import compact, fence, lookups
from rspamd_llm import engine as engines
from rspamd_llm import prompt as prompts
from rspamd_llm import store as stores
from rspamd_llm.config import Config
from rspamd_llm.correspondents import Correspondents
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Brief, ConfigError, Evidence, Key, Prompt
from rspamd_llm.engine import BUILTIN, Engine
from rspamd_llm.fingerprint import fingerprint
from rspamd_llm.gate import Gate
from rspamd_llm.health import Health
from rspamd_llm.lists import Kind, ListFile
from rspamd_llm.llm import ModelClient
from rspamd_llm.lookups import Lookups
from rspamd_llm.memory import VerdictMemory
from rspamd_llm.nursery import Nursery
from rspamd_llm.opinion import Doubt
from rspamd_llm.readers import Readers
from rspamd_llm.rspamd import Rspamd
from rspamd_llm.scanner import Scanner
from rspamd_llm.servers import Endpoint
from rspamd_llm.steps import Profile
from rspamd_llm.store import MemoryStore, Store

VERSION = metadata.version("rspamd-llm")
"""Read from the disk once: the core tells it at each look at its health."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that can be settled before anything is started: files read, settings understood."""

    config: Config
    profile: Profile
    order: engines.Order | None
    endpoints: tuple[Endpoint, ...]
    gate: Gate
    search_key: str = field(repr=False)
    rspamd_password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """What runs: belongs to the asyncio loop that started it."""

    model: str
    deadline: float
    scanner: Scanner
    client: ModelClient
    readers: Readers
    engine: Engine | None
    lookups: Lookups
    rspamd: Rspamd | None
    correspondents: Correspondents | None
    store: Store
    counters: Counters

    async def health(self) -> Health:
        """How all of it is."""
        return Health(
            version=VERSION,
            model=self.model,
            is_stopping=self.scanner.is_stopping,
            in_flight=self.scanner.in_flight,
            waiting=self.client.waiting,
            servers=self.client.health(),
            sources=self.lookups.health(),
            is_rspamd_well=self.rspamd.state == "ok" if self.rspamd else None,
            deadline=self.deadline,
            store_fault=self.store.fault,
        )

    async def renew(self, plan: Plan, keys: Sequence[Key]) -> None:
        """Goes on with what a plan of the same configuration has read anew: instructions, lists and
        secrets."""
        self.scanner.renew(plan.gate, plan.profile)
        if self.engine is None:
            self.client.use(plan.endpoints)
        self.lookups.use(plan.search_key)
        if self.rspamd:
            self.rspamd.use(plan.rspamd_password)
        if self.correspondents:
            self.correspondents.use(keys)

    async def stop(self) -> None:
        """Closes the connections, ends the engine, and writes what is to be remembered."""
        await self.readers.close()
        await self.lookups.stop()
        await self.client.close()
        if self.rspamd:
            await self.rspamd.close()
        if self.engine:
            await self.engine.stop()
        await self.store.close()


def plan(config: Config) -> Plan:
    """What the configuration asks for.  Raises ConfigError with every fault found."""
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
    search_key = rspamd_password = ""
    gate = None
    try:
        if config.search.provider == "brave":
            search_key = _secret(config.search.api_key_file, "search.api_key_file")
        rspamd_password = _secret(config.rspamd.password_file, "rspamd.password_file")
    except ConfigError as error:
        faults += error.faults
    try:
        gate = _gate(config)
    except ConfigError as error:
        faults += error.faults
    try:
        stores.open_store(config.store.url)
    except ValueError as error:
        faults.append(f"store.url: {error}")
    if config.search.provider == "searxng" and not config.search.url:
        faults.append("search.url: is empty; name your SearXNG instance, or another provider")
    if config.search.provider == "brave" and not config.search.api_key_file:
        faults.append("search.api_key_file: is empty; Brave's API wants a key in a file")
    if faults or profile is None or gate is None:
        raise ConfigError(tuple(faults))
    return Plan(
        config=config,
        profile=profile,
        order=order,
        endpoints=endpoints,
        gate=gate,
        search_key=search_key,
        rspamd_password=rspamd_password,
    )


async def start(
    plan: Plan,
    nursery: Nursery,
    *,
    keys: Sequence[Key] = (),
    lost: Callable[[], None] = lambda: None,
) -> Works:
    """Starts what was planned; `lost` as in Readers.

    `keys` are the verdict keys of a daemon.  Without them nothing is read from or written to the
    configured store, and no verdict remembered: a command run by root would leave files in it that
    the daemon's user cannot write.  Raises EngineError if the embedded engine does not start, and
    ConfigError.
    """
    config = plan.config
    store = stores.open_store(config.store.url) if keys else MemoryStore()
    counters = Counters()
    looking = asyncio.create_task(
        lookups.start(config, api_key=plan.search_key, store=store, counters=counters)
    )
    engine = Engine(plan.order) if plan.order else None
    try:
        if engine:
            await engine.start()
    finally:
        # Either may fail; what the other has started ends with the process.
        looked_up = await looking
    client = ModelClient(
        model=config.llm.model,
        endpoints=engine.endpoints if engine else lambda: plan.endpoints,
        concurrency=config.llm.concurrency,
        max_output_tokens=config.llm.max_output_tokens,
        context_tokens=config.llm.context_tokens,
        longest=config.milter.deadline,
    )
    rspamd = None
    if config.rspamd.url:
        rspamd = Rspamd(config.rspamd.url, plan.rspamd_password, config.rspamd.timeout, counters)
    correspondents = None
    if keys and config.gate.learn_correspondents:
        correspondents = Correspondents(store, keys)
    readers = Readers(nursery, lost=lost)
    scanner = Scanner(
        gate=plan.gate,
        read=readers.read,
        opine=rspamd.opinion if rspamd else None,
        settles=_doubt(config).settles,
        correspondents=correspondents,
        memory=VerdictMemory(
            store, ttl=config.store.verdict_ttl if keys else 0, model=config.llm.model
        ),
        profile=plan.profile,
        gatherer=looked_up.gatherer,
        asker=client,
        model=config.llm.model,
        max_in_flight=config.milter.max_in_flight,
    )
    return Works(
        model=config.llm.model,
        deadline=config.milter.deadline,
        scanner=scanner,
        client=client,
        readers=readers,
        engine=engine,
        lookups=looked_up,
        rspamd=rspamd,
        correspondents=correspondents,
        store=store,
        counters=counters,
    )


def _gate(config: Config) -> Gate:
    """The policy of [gate], its lists read.  Raises ConfigError."""
    gate = config.gate
    allow = optout = None
    if gate.allow_file:
        allow = ListFile(Path(gate.allow_file), Kind.SENDERS, setting="gate.allow_file")
    if gate.optout_file:
        optout = ListFile(Path(gate.optout_file), Kind.RECIPIENTS, setting="gate.optout_file")
    return Gate(
        skip_authenticated=gate.skip_authenticated,
        skip_networks=tuple(map(ipaddress.ip_network, gate.skip_networks)),
        max_size=gate.max_size,
        sample=gate.sample,
        allow=allow,
        optout=optout,
    )


def _doubt(config: Config) -> Doubt:
    return Doubt(
        ham_below=config.rspamd.ham_below,
        except_symbols=config.rspamd.except_symbols,
        trigger_symbols=config.rspamd.trigger_symbols,
    )


def _profile(config: Config) -> Profile:
    categories = config.verdict.categories
    if config.llm.engine == "embedded" and config.llm.model == BUILTIN:

        def small(brief: Brief, _room: int | None) -> Prompt:
            return compact.compact_prompt(brief.mail, brief.facts, categories)

        return Profile(
            prompt=small,
            room=0,
            fingerprint=_fingerprint(config, f"builtin {VERSION} {categories}"),
            fallback_reason=compact.strongest_facts,
        )
    instructions = prompts.load_instructions(
        file=config.prompt.file,
        categories=categories,
        context_tokens=config.llm.context_tokens,
        max_output_tokens=config.llm.max_output_tokens,
        content=config.prompt.content,
        redact=config.prompt.redact,
        mark_data=config.prompt.mark_data,
    )

    def instruct(brief: Brief, room: int | None) -> Prompt:
        return prompts.instruct(brief, instructions, mark=fence.mark(), room=room)

    return Profile(
        prompt=instruct,
        room=instructions.room,
        fingerprint=_fingerprint(config, repr(instructions)),
        fallback_reason=lambda _facts, _evidence: "",
    )


def _fingerprint(config: Config, instructions: str) -> Callable[[str, Evidence], str]:
    return functools.partial(fingerprint, instructions=instructions, model=config.llm.model)


def _secret(file: str, path: str) -> str:
    """A secret that stands alone in a file; empty where no file is named."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError((f"{path}: {file} cannot be read: {error}",)) from error
