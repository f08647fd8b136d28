"""What `init` finds out of the programs on this machine: Postfix, Rspamd, a model server.

Read only, bounded, and never needed: what cannot be found out is left out.  What may not live here:
what is made of it (init.py, whatnext.py), and the milters that Postfix asks (postfix.py).
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rspamd_llm import postfix as postfixes
from rspamd_llm import programs, rspamadm
from rspamd_llm.postfix import Postfix

MAILCOW = Path("/opt/mailcow-dockerized")
"""Where Mailcow's guide has it installed."""

OLLAMA_PORT = 11434
"""Ollama's own, on loopback."""

OLLAMA_SECONDS = 1.0
"""For its whole answer: it lists files on its disk."""

ANSWER_BYTES = 1_000_000
"""Bytes read of an answer; a model takes 200."""

MODELS = 100
"""Models that are looked at."""

DOMAINS = 1_000
"""Own domains that are taken from lists; more of them stand in a database."""

_DOMAIN_LISTS = (
    "mydestination",
    "virtual_mailbox_domains",
    "virtual_alias_domains",
    "relay_domains",
)
_DOMAIN = re.compile(r"(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]+")
_LOCAL = re.compile(r"localhost\..*|.*\.(?:localdomain|invalid)")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mta:
    """A Postfix: what stands in its main.cf, and what follows from it for us."""

    postfix: Postfix
    milters: str
    """Its smtpd_milters as they are written there, names not expanded."""
    local_milters: str
    """Its non_smtpd_milters, likewise."""
    is_chrooted: bool
    hostname: str
    domains: tuple[str, ...]
    """Own domains, from plain lists."""
    maps: tuple[str, ...]
    """Names of the lists that are kept in maps, which are not read."""
    networks: tuple[str, ...]
    """Its mynetworks, as far as they are addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A Rspamd: where its configuration and its workers are."""

    local: Path
    """The folder of its local configuration, with plugins.d and local.d."""
    has_plugin: bool
    """Whether our plugin is there and has its section."""
    key_file: str
    """The plugin's key file; empty where none is named."""
    milter: str
    """Its milter's address as Postfix writes it; empty where it has none."""
    scanner: str
    """The URL of its normal worker; empty where it has none on TCP."""


# --- Postfix --------------------------------------------------------------------------------


def mta() -> Mta | None:
    """The Postfix on this machine; None where there is none, or none that tells."""
    found = postfixes.read()
    program = programs.find("postconf", beside=postfixes.SBIN)
    if found is None or program is None:
        return None
    names = ("myhostname", "mynetworks", *_DOMAIN_LISTS)
    try:
        written = _postconf(program, "smtpd_milters", "non_smtpd_milters")
        meant = _postconf(program, "-x", *names)
    except (OSError, ValueError) as error:
        _log.debug("what postconf tells is of no use: %s", error or type(error).__name__)
        return None
    smtpd = postfixes.smtpd(found)
    lists = {name: list(postfixes.words(meant.get(name, ""))) for name in _DOMAIN_LISTS}
    domains = (name.lower().lstrip(".") for entries in lists.values() for name in entries)
    own = [name for name in domains if _DOMAIN.fullmatch(name) and not _LOCAL.fullmatch(name)]
    return Mta(
        postfix=found,
        milters=written.get("smtpd_milters", ""),
        local_milters=written.get("non_smtpd_milters", ""),
        is_chrooted=smtpd is not None and bool(smtpd.chrooted),
        hostname=meant.get("myhostname", ""),
        domains=tuple(dict.fromkeys(own[:DOMAINS])),
        maps=tuple(name for name, entries in lists.items() if any(map(_is_map, entries))),
        networks=tuple(_networks(meant.get("mynetworks", ""))),
    )


def _postconf(program: str, *names: str) -> Mapping[str, str]:
    return postfixes.values(
        programs.output(program, *names, seconds=postfixes.SECONDS, limit=postfixes.LIMIT)
    )


def _is_map(entry: str) -> bool:
    return ":" in entry or entry.startswith("/")


def _networks(value: str) -> Iterator[str]:
    for word in postfixes.words(value):
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(word.replace("[", "").replace("]", ""), strict=False)
            mapped = getattr(network.network_address, "ipv4_mapped", None)
            if mapped is None:  # libmilter tells such clients as IPv4
                yield str(network)


# --- Rspamd ---------------------------------------------------------------------------------


def rspamd() -> Filter | None:
    """The Rspamd on this machine; None where there is none, or none that tells."""
    try:
        setup = rspamadm.read()
    except ValueError:
        setup = None
    if setup is None:
        return None
    workers = dict(_workers())
    proxy = workers.get("rspamd_proxy", {})
    return Filter(
        local=setup.local,
        has_plugin=setup.plugin.exists() and setup.section is not None,
        key_file=setup.key_file,
        milter=_place(proxy, "") if proxy.get("milter") is True else "",
        scanner=_place(workers.get("normal", {}), "http"),
    )


def scanner() -> str:
    """The URL of the normal worker of the Rspamd on this machine; empty where none is found."""
    return _place(dict(_workers()).get("normal", {}), "http")


def _workers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Kind and settings of each worker that is not switched off."""
    program = programs.find("rspamadm")
    if program is None:
        return
    try:
        text = programs.output(
            *(program, "configdump", "-C", "worker"),
            seconds=rspamadm.SECONDS,
            limit=rspamadm.LIMIT,
        )
        for document in documents(text):
            for kind, told in document.items():
                for settings in told if isinstance(told, list) else [told]:
                    if isinstance(settings, Mapping) and settings.get("enabled") is not False:
                        yield kind, settings
    except (OSError, ValueError) as error:
        _log.debug("what rspamadm tells is of no use: %s", error or type(error).__name__)


def documents(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects that rspamadm prints one after the other.  Raises ValueError."""
    decoder, at = json.JSONDecoder(), 0
    while begin := re.compile(r"\S").search(text, at):
        try:
            document, at = decoder.raw_decode(text, begin.start())
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(document, Mapping):
            raise ValueError("no JSON object")
        yield document


def _place(worker: Mapping[str, Any], scheme: str) -> str:
    """The first address that a worker listens at, as Postfix writes it or as a URL."""
    told = worker.get("bind_socket")
    for entry in told if isinstance(told, list) else [told]:
        place = str(entry).partition(" ")[0]  # mode= and owner= of a unix socket come after
        host, _, port = place.rpartition(":")
        if place.startswith("/") and not scheme:
            return f"unix:{place}"
        if not port.isdecimal() or place.startswith("/") or host == "systemd":
            continue
        host = "127.0.0.1" if host in ("*", "*v4", "0.0.0.0", "") else host  # noqa: S104  told, not bound
        host = "[::1]" if host in ("*v6", "[::]", "::") else host
        return f"{scheme}://{host}:{port}" if scheme else f"inet:{host}:{port}"
    return ""


def mailcow(folder: Path) -> Path | None:
    """The folder with Mailcow's configuration (data/conf); None where there is none."""
    found = folder / "data" / "conf"
    return found if (found / "rspamd").is_dir() else None


# --- Models ---------------------------------------------------------------------------------


def ollama(port: int) -> tuple[str, ...] | None:
    """The models of an Ollama on loopback; None where none answers in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=OLLAMA_SECONDS)
    try:
        connection.connect()
        # A server that drips bytes outlives the timeout of each read.
        timer = threading.Timer(OLLAMA_SECONDS, _hang_up, (connection.sock,))
        timer.start()
        try:
            connection.request("GET", "/v1/models", headers={"Connection": "close"})
            told = json.loads(connection.getresponse().read(ANSWER_BYTES))
        finally:
            timer.cancel()
        names = [str(model["id"]) for model in told["data"][:MODELS]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return None
    finally:
        connection.close()
    return tuple(name for name in names if name.isprintable() and name.strip())


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
