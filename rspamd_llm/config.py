"""TOML -> frozen dataclasses.

Every mistake is reported at once, each with its dotted path, what was found and what is allowed.
What may not live here: opening what a setting names (the adapters do that) and defaults that
depend on the machine.  A setting's type, default and bounds stand in one line below; what
each means stands in conf/rspamd-llm.toml.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rspamd_llm.allowed import (
    CATEGORY,
    MILTER_SOCKET,
    MODE,
    OPTIONAL_LISTEN,
    OPTIONAL_URL,
    STORE,
    URL,
    Check,
    UnfitError,
    boolean,
    choice,
    integer,
    list_of,
    matching,
    nameserver,
    network,
    number,
    one_or_more,
    shown,
    text,
    weights,
)
from rspamd_llm.domain import ConfigError


def setting(default: Any, check: Check) -> Any:
    """A dataclass field with its default and what it may be."""
    return field(default=default, metadata={"check": check})


# --- The sections ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Milter:
    socket: str = setting("inet:11390@127.0.0.1", MILTER_SOCKET)
    socket_mode: str = setting("0660", MODE)
    socket_group: str = setting("", text)
    deadline: float = setting(60.0, number(1, 600))
    drain: float = setting(15.0, number(0, 600))
    on_error: str = setting("accept", choice("accept", "tempfail"))
    max_body: int = setting(1_000_000, integer(1_000, 100_000_000))
    max_in_flight: int = setting(200, integer(1, 10_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    engine: str = setting("openai", choice("openai", "embedded"))
    base_url: str | tuple[str, ...] = setting("http://127.0.0.1:11434/v1", one_or_more(URL))
    model: str = setting("gemma3:12b", matching(r"\S(?:.*\S)?", "the name of a model"))
    api_key_file: str = setting("", text)
    concurrency: int = setting(4, integer(1, 10_000))
    context_tokens: int = setting(4096, integer(512, 1_000_000))
    max_output_tokens: int = setting(300, integer(16, 100_000))
    threads: int = setting(0, integer(0, 1_024))
    slots: int = setting(4, integer(1, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    file: str = setting("", text)
    content: str = setting("full", choice("full", "excerpt", "metadata"))
    redact: bool = setting(False, boolean)
    mark_data: bool = setting(False, boolean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    categories: tuple[str, ...] = setting(
        ("phishing", "scam", "malware", "marketing"), list_of(CATEGORY)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    timeout: float = setting(10.0, number(0.1, 600))
    dns: bool = setting(True, boolean)
    nameservers: tuple[str, ...] = setting((), list_of(nameserver))
    authentication: str = setting("auto", choice("auto", "header", "off"))
    trusted_authserv: tuple[str, ...] = setting((), list_of(text))
    registration: bool = setting(True, boolean)
    registries: str = setting("", text)
    own_domains: tuple[str, ...] = setting((), list_of(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    provider: str = setting("ddgs", choice("ddgs", "searxng", "brave", "none"))
    backends: tuple[str, ...] = setting(("brave", "duckduckgo", "mojeek"), list_of(text, least=1))
    url: str = setting("", OPTIONAL_URL)
    api_key_file: str = setting("", text)
    max_domains: int = setting(3, integer(0, 20))
    max_results: int = setting(2, integer(1, 20))
    timeout: float = setting(5.0, number(0.1, 600))
    max_per_day: int = setting(2000, integer(0, 10_000_000))
    names: bool = setting(False, boolean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    skip_authenticated: bool = setting(True, boolean)
    skip_networks: tuple[str, ...] = setting(("127.0.0.0/8", "::1/128"), list_of(network))
    max_size: int = setting(5_000_000, integer(1_000, 1_000_000_000))
    allow_file: str = setting("", text)
    optout_file: str = setting("", text)
    sample: float = setting(1.0, number(0, 1))
    learn_correspondents: bool = setting(False, boolean)


# 4.6 is the score of BAYES_SPAM where Bayes is 95 % sure, with Rspamd's weight of 5.1.
_EXCEPT_SYMBOLS: Mapping[str, float] = {
    "BAYES_SPAM": 4.6,
    **dict.fromkeys(("FUZZY_DENIED", "WHITELIST_SPF", "WHITELIST_DKIM", "WHITELIST_DMARC"), 0.0),
    **dict.fromkeys(("REPLY", "BOUNCE", "MAILCOW_BLACK", "MAILCOW_FUZZY_DENIED"), 0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rspamd:
    url: str = setting("", OPTIONAL_URL)
    password_file: str = setting("", text)
    timeout: float = setting(8.0, number(0.1, 600))
    ham_below: float = setting(0.0, number(-1_000, 1_000))
    except_symbols: Mapping[str, float] = field(
        default_factory=lambda: dict(_EXCEPT_SYMBOLS), metadata={"check": weights}
    )
    trigger_symbols: tuple[str, ...] = setting((), list_of(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    url: str = setting("sqlite:///var/lib/rspamd-llm/store.db", STORE)
    verdict_ttl: int = setting(3600, integer(0, 31_536_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    keep: str = setting("verdicts", choice("none", "verdicts", "full"))
    days: int = setting(21, integer(1, 3_650))
    file: str = setting("/var/lib/rspamd-llm/history.db", matching(r"/\S+", "an absolute path"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    key_file: str = setting("/etc/rspamd-llm/verdict.key", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    listen: str = setting("127.0.0.1:11391", OPTIONAL_LISTEN)
    page: bool = setting(False, boolean)
    token_file: str = setting("", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: str = setting("info", choice("debug", "info", "warning", "error"))
    format: str = setting("text", choice("text", "json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration.  Each attribute is a section of the TOML file."""

    milter: Milter = Milter()
    llm: Llm = Llm()
    prompt: Prompt = Prompt()
    verdict: Verdict = Verdict()
    evidence: Evidence = Evidence()
    search: Search = Search()
    gate: Gate = Gate()
    rspamd: Rspamd = field(default_factory=Rspamd)
    store: Store = Store()
    history: History = History()
    trust: Trust = Trust()
    metrics: Metrics = Metrics()
    log: Log = Log()


# --- Reading and writing --------------------------------------------------------------------


def load(path: Path | None) -> Config:
    """The configuration of a TOML file; the defaults for None.  Raises ConfigError."""
    if path is None:
        return Config()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
        raise ConfigError((f"{path}: is not TOML: {error}",)) from error
    return parse(document)


def parse(document: Mapping[str, Any]) -> Config:
    """The configuration of a parsed TOML document.  Raises ConfigError with every fault."""
    faults: list[str] = []
    sections = {item.name: item for item in dataclasses.fields(Config)}
    values: dict[str, Any] = {}
    for name, table in document.items():
        if name not in sections:
            faults.append(f"{name}: unknown section; there are {', '.join(sections)}")
        elif not isinstance(table, dict):
            faults.append(f"{name}: found {shown(table)}; allowed is a table, written [{name}]")
        else:
            values[name] = _section(type(getattr(Config(), name)), name, table, faults)
    if faults:
        raise ConfigError(tuple(faults))
    return Config(**values)


def _section(kind: type[Any], path: str, table: Mapping[str, Any], faults: list[str]) -> Any:
    settings = {item.name: item for item in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in settings:
            faults.append(f"{path}.{name}: unknown setting; there are {', '.join(settings)}")
            continue
        try:
            values[name] = settings[name].metadata["check"](value)
        except UnfitError as unfit:
            faults.append(f"{path}.{name}: found {shown(value)}; allowed is {unfit}")
    return kind(**values)


def to_document(config: Config) -> dict[str, Any]:
    """The configuration as a document for a TOML writer: tables of plain values."""

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {
        section.name: {
            item.name: plain(getattr(getattr(config, section.name), item.name))
            for item in dataclasses.fields(getattr(config, section.name))
        }
        for section in dataclasses.fields(config)
    }


def warnings(config: Config) -> tuple[str, ...]:
    """What an administrator should know of legal settings, as sentences for the log."""
    return _builtin(config) + _contradictions(config)


def _builtin(config: Config) -> tuple[str, ...]:
    """What the builtin model has no use for: its prompt and its categories are what it learned."""
    if config.llm.engine != "embedded" or config.llm.model != "builtin":
        return ()
    idle = []
    if config.prompt != Prompt():
        idle.append("prompt")
    if config.verdict != Verdict():
        idle.append("verdict.categories that it does not know")
    return tuple(f"without effect with the builtin model: {name}" for name in idle)


UNIT_STOP = 25.0
"""TimeoutStopSec of systemd/rspamd-llm.service, in seconds: what outlives it is killed."""

STOP_ROOM = 10.0
"""Seconds of it that are left after milter.drain, for the last answers and the process's end."""


def _contradictions(config: Config) -> tuple[str, ...]:
    """Legal settings that work against each other."""
    deadline = config.milter.deadline
    is_searching = config.search.provider != "none"
    searching = [("search.timeout", config.search.timeout)] if is_searching else []
    told = []
    if config.evidence.authentication == "header" and not config.evidence.trusted_authserv:
        told.append('evidence.authentication is "header", and trusted_authserv names no host')
    told += [
        f"{path} ({value:g} s) is above milter.deadline ({deadline:g} s): it will never be reached"
        for path, value in (
            ("evidence.timeout", config.evidence.timeout),
            *searching,
            ("rspamd.timeout", config.rspamd.timeout),
        )
        if value > deadline
    ]
    if is_searching and config.search.timeout > config.evidence.timeout:
        told.append("search.timeout is above evidence.timeout: it will never be reached")
    told += _crowding(config) + _unproven(config) + _never_asked(config) + _unseen(config)
    if config.milter.drain + STOP_ROOM > UNIT_STOP:
        told.append(
            f"milter.drain ({config.milter.drain:g} s) needs TimeoutStopSec="
            f"{config.milter.drain + STOP_ROOM:g} or more in the systemd unit, which comes with"
            f" {UNIT_STOP:g}: else systemd kills the daemon while mail is still judged"
        )
    if config.llm.engine == "openai" and config.llm.model == "builtin":
        told.append('llm.model "builtin" is of the embedded engine: set llm.engine = "embedded"')
    if config.milter.max_body > config.gate.max_size:
        told.append("milter.max_body is above gate.max_size: larger mail is skipped, not read")
    if config.milter.socket.startswith("inet") and config.milter.socket_group:
        told.append("milter.socket_group only applies to a unix socket")
    return tuple(told)


def _unproven(config: Config) -> list[str]:
    """Policy that trusts a sender's proof, where none is asked for."""
    told = []
    if config.evidence.authentication == "off":
        told += [
            f'{name} has no effect with evidence.authentication = "off": nothing proves the sender'
            for name, is_set in (
                ("gate.allow_file", bool(config.gate.allow_file)),
                ("gate.learn_correspondents", config.gate.learn_correspondents),
            )
            if is_set
        ]
    if config.gate.learn_correspondents and config.store.url == "memory://":
        told.append('gate.learn_correspondents with store.url = "memory://" forgets at each start')
    return told


def _unseen(config: Config) -> list[str]:
    """A page that is not there, or has nothing to show."""
    if not config.metrics.page:
        return []
    if not config.metrics.listen:
        return ["metrics.page has no effect without metrics.listen"]
    if config.history.keep == "none":
        return ['metrics.page shows no verdicts with history.keep = "none"']
    return []


def _never_asked(config: Config) -> list[str]:
    """Rules of [rspamd] of which one makes another useless."""
    rspamd = config.rspamd
    if not rspamd.url:
        given = rspamd.trigger_symbols or rspamd.except_symbols != _EXCEPT_SYMBOLS
        return ["[rspamd] has no effect without rspamd.url"] if given else []
    useless = [name for name in rspamd.trigger_symbols if rspamd.except_symbols.get(name) == 0]
    return [
        f"rspamd.trigger_symbols: {name} stands in except_symbols too: mail with it is never asked"
        " about"
        for name in useless
    ]


def _crowding(config: Config) -> list[str]:
    """Limits of what goes on at the same time, of which one makes another useless."""
    told = []
    calls = f"llm.concurrency ({config.llm.concurrency})"
    if config.llm.concurrency > config.milter.max_in_flight:
        told.append(
            f"{calls} is above milter.max_in_flight ({config.milter.max_in_flight}): so many calls"
            " are never made; raise max_in_flight"
        )
    if config.llm.engine == "embedded" and config.llm.concurrency > config.llm.slots:
        told.append(
            f"{calls} is above llm.slots ({config.llm.slots}): the engine lets the others wait;"
            " set both alike"
        )
    return told
