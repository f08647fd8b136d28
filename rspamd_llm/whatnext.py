"""What `init` says: what leaves the machine, and the lines for Postfix and Rspamd.

Values in, lines out.  What may not live here: finding things out (neighbours.py), writing files
(init.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rspamd_llm import advice
from rspamd_llm.allowed import without_login
from rspamd_llm.config import Config, Llm, Trust
from rspamd_llm.libmilter import Address
from rspamd_llm.neighbours import Filter, Mta

MARGIN = 30
"""Seconds by which content_timeout is above milter.deadline, as in conf/postfix/main.cf.example."""

RSPAMD_MILTER = "inet:127.0.0.1:11332"
"""Rspamd's milter, unless its administrator chose another place."""

MAILCOW_MILTER = "inet:rspamd:9900"
"""That of Mailcow's Rspamd (its data/conf/rspamd/override.d/worker-proxy.inc)."""

# Where the files for Rspamd are: installed by pip, by a package, or in a clone.
_SHIPPED = (
    Path(sys.prefix, "share/rspamd-llm/rspamd"),
    Path("/usr/share/rspamd-llm/rspamd"),
    Path(__file__).resolve().parents[1] / "conf" / "rspamd",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is on this machine; None for what is not."""

    mta: Mta | None
    rspamd: Filter | None
    models: tuple[str, ...] | None
    """Of an Ollama on loopback."""
    mailcow: Path | None
    """The folder with Mailcow's configuration."""


def lines(found: Found, config: Config, path: Path, *, is_shared: bool) -> Iterator[str]:
    """All that is said once the files are there.  Raises AddressError."""
    yield ""
    yield f"Found here: {_here(found)}."
    yield ""
    yield from _leaving(config)
    yield ""
    yield "What next:"
    steps = (
        _model(found, config, path),
        _key(config, is_shared=is_shared),
        iter((f'rspamd-llm check -c {path}   (fails at "socket" until the daemon runs)',)),
        _rspamd(found, config),
        _postfix(found, config),
    )
    number = 0
    for step in map(list, steps):
        for at, line in enumerate(step):
            number += not at
            yield f"  {number}. {line}" if not at else f"     {line}".rstrip()


def _here(found: Found) -> str:
    told = []
    if found.mta is not None:
        chroot = " (smtpd in a chroot)" if found.mta.is_chrooted else ""
        told.append(f"Postfix{chroot}")
    if found.rspamd is not None:
        told.append(f"Rspamd ({found.rspamd.local})")
    if found.mailcow is not None:
        told.append(f"Mailcow ({found.mailcow})")
    if found.models is not None:
        told.append("Ollama at 127.0.0.1:11434")
    return ", ".join(told) or "no Postfix, no Rspamd and no Ollama that answers"


# --- What leaves the machine ----------------------------------------------------------------


def _leaving(config: Config) -> Iterator[str]:
    evidence, search = config.evidence, config.search
    urls = config.llm.base_url
    servers = ", ".join((urls,) if isinstance(urls, str) else urls)
    yield "What leaves this machine (docs/privacy.md):"
    if config.llm.engine == "openai":
        yield f"  mail, to be judged: to {servers}"
    else:
        yield "  mail: never, for the model runs inside the daemon"
    if config.rspamd.url:
        yield f"  mail, for Rspamd's opinion of it: to {config.rspamd.url}"
    if not config.store.url.startswith(("sqlite:", "memory:")):
        yield f"  what is remembered of mail: to {without_login(config.store.url)}"
    if evidence.dns or evidence.authentication == "auto":
        yield "  DNS: names of senders' domains and clients' addresses, to your resolver"
        yield '      off with [evidence] dns = false and authentication = "header"'
    if evidence.registration:
        yield "  domain registries (RDAP): the registered domains of senders and links"
        yield "      off with [evidence] registration = false"
    if search.provider != "none":
        engines = ", ".join(search.backends) if search.provider == "ddgs" else search.provider
        yield f"  web search ({engines}): the registered domains of senders and links"
        yield '      off with [search] provider = "none"'


# --- Steps ----------------------------------------------------------------------------------


def _model(found: Found, config: Config, path: Path) -> Iterator[str]:
    model = config.llm.model
    if config.llm != Llm(model=model):
        yield f"The model: as [llm] in {path} says."
    elif found.models is None:
        yield f"Set [llm] base_url and model in {path}"
        yield '(or engine = "embedded", model = "builtin", for a first try).'
    elif model in found.models:
        yield f"The model: Ollama at 127.0.0.1:11434 has {model}, as [llm] in {path} says."
    else:
        yield f"The model: Ollama at 127.0.0.1:11434 lacks {model}: `ollama pull {model}`,"
        has = ", ".join(found.models[:10]) or "none"
        yield f"or set [llm] model in {path} to one that it has: {has}."
    if found.models is not None:
        yield f"Start Ollama with OLLAMA_CONTEXT_LENGTH={config.llm.context_tokens * 2}."


def _key(config: Config, *, is_shared: bool) -> Iterator[str]:
    if is_shared:
        return
    key = config.trust.key_file
    yield "The daemon's user owns the key and Rspamd's group reads it, nobody else:"
    yield f"  chown rspamd-llm:_rspamd {key}; chmod 640 {key}"
    yield "(systemd-sysusers makes the user; the group is rspamd where it is not _rspamd)"


def _rspamd(found: Found, config: Config) -> Iterator[str]:
    key = config.trust.key_file
    local, restart = Path("/etc/rspamd"), "rspamadm configtest && systemctl restart rspamd"
    if found.rspamd is not None:
        local = found.rspamd.local
    elif found.mailcow is not None:
        local, restart = found.mailcow / "rspamd", "docker compose restart rspamd-mailcow"
    if found.rspamd is not None and found.rspamd.has_plugin:
        yield f"Rspamd has the plugin already, in {local}."
        has_key = found.rspamd.key_file in ("", key)
    else:
        source = next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[-1])
        yield "Rspamd (docs/plugin.md):"
        yield f"  mkdir -p {local}/plugins.d && cp {source}/rspamd_llm.lua {local}/plugins.d/"
        yield f"  cat {source}/rspamd.conf.local >>{local}/rspamd.conf.local"
        yield f"  cat {source}/groups.conf >>{local}/local.d/groups.conf"
        has_key = key == Trust().key_file
    if not has_key:
        yield f"It must read the daemon's key; in {local}/local.d/rspamd_llm.conf:"
        yield f'  key_file = "{key}";'
    yield f"  {restart}"


def _postfix(found: Found, config: Config) -> Iterator[str]:
    mta = found.mta
    if mta is not None and mta.postfix.asking(Address.parse(config.milter.socket)):
        remarks = advice.placement(config, mta.postfix) + advice.contradictions(config, mta.postfix)
        yield "Postfix asks the daemon already" + (", but:" if remarks else ", and as it should.")
        for remark in remarks:
            yield f"  {remark}"
        return
    name = "main.cf"
    if mta is None and found.mailcow is not None:
        name = f"{found.mailcow}/postfix/extra.cf"
    before = "before the milters that it asks now" if mta and mta.milters else "before Rspamd"
    yield f"Postfix, {name}: this daemon {before}, with its own default_action:"
    milters = _others(found)
    yield "  smtpd_milters ="
    yield f"    {{ {_entry(config, mta)}, default_action=accept, connect_timeout=5s,"
    timeout = math.ceil(config.milter.deadline + MARGIN)
    yield f"      command_timeout=15s, content_timeout={timeout}s }}{',' if milters else ''}"
    if milters:
        yield f"    {milters}"
    yield "then: postfix reload"
    if mta is not None:
        yield from _beside(mta, config.milter.socket)
    elif found.mailcow is not None:
        yield "The daemon must listen where Mailcow's containers reach it, and they alone."


def _others(found: Found) -> str:
    """What comes after our entry: what stands there now, or Rspamd where nothing does."""
    if found.mta is not None and found.mta.milters:
        return found.mta.milters
    if found.rspamd is not None:
        return f"{{ {found.rspamd.milter}, default_action=accept }}" if found.rspamd.milter else ""
    if found.mta is not None:
        return ""
    milter = MAILCOW_MILTER if found.mailcow is not None else RSPAMD_MILTER
    return f"{{ {milter}, default_action=accept }}"


def _entry(config: Config, mta: Mta | None) -> str:
    """Our address as Postfix writes it."""
    address = Address.parse(config.milter.socket)
    if address.path:
        queue = mta.postfix.queue_directory.rstrip("/") + "/" if mta else "/var/spool/postfix/"
        return f"unix:{address.path.removeprefix(queue)}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
    return f"inet:[{host}]:{address.port}" if ":" in host else f"inet:{host}:{address.port}"


def _beside(mta: Mta, socket: str) -> Iterator[str]:
    """What of the rest of Postfix's settings matters."""
    queue, path = mta.postfix.queue_directory, Address.parse(socket).path
    if mta.is_chrooted and path and not path.startswith(f"{queue}/"):
        yield f"Postfix's smtpd is chrooted and does not reach {path}: put it below {queue}."
    main, *services = mta.postfix.services
    for milter in main.milters:
        action = milter.settings.default_action
        if action != "accept":
            yield (
                f"While {milter.address} does not answer, Postfix does {action}: write"
                f" {{ {milter.address}, default_action=accept }} where mail is rather to pass."
            )
    for service in services:
        if service.milters != main.milters:
            yield (
                f"{service.name} of master.cf has smtpd_milters of its own: it needs the entry as"
                " well where mail comes in from outside."
            )
    if mta.local_milters:
        yield (
            "non_smtpd_milters stays as it is: mail of this machine's own programs is not judged."
        )
