"""The milters that Postfix asks and how it treats each, as `postconf` tells.

What may not live here: what is made of it (advice.py), changes to Postfix, and anything that mail
waits for.  The syntax is Postfix's own (milter_new, mystrtokq, extpar, attr_override, conv_time,
host_port in its source); what Postfix itself would not start with is not understood here either.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rspamd_llm import programs
from rspamd_llm.libmilter import Address

SBIN = programs.SBIN
"""Where postconf is beside PATH."""

SECONDS = 10.0
"""For one call of postconf: it asks for the host's name, and so may wait for the DNS."""

LIMIT = 1_000_000
"""Bytes of its answer, far above any master.cf."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NAMES = (
    "smtpd_milters",
    "milter_default_action",
    "milter_connect_timeout",
    "milter_command_timeout",
    "milter_content_timeout",
)
_LOOPBACK = frozenset(("127.0.0.1", "::1"))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How Postfix treats one milter: seconds, and what it does where the milter does not answer."""

    default_action: str
    connect_timeout: int
    command_timeout: int
    content_timeout: int


@dataclass(frozen=True, slots=True)
class Milter:
    """An entry of smtpd_milters, its address as Postfix writes it."""

    address: str
    settings: Settings

    @property
    def port(self) -> int:
        """Its TCP port; 0 where it has none, or one that is a name."""
        kind, _, place = self.address.partition(":")
        return _endpoint(place)[1] if kind == "inet" else 0

    def __str__(self) -> str:
        fields = dataclasses.asdict(self.settings).items()
        return f"{self.address}: {', '.join(f'{name}={value}' for name, value in fields)}"


@dataclass(frozen=True, slots=True)
class Service:
    """A list of milters: main.cf's own (no name), or that of a service of master.cf."""

    name: str
    milters: tuple[Milter, ...]


@dataclass(frozen=True, slots=True)
class Postfix:
    """What `postconf` tells; unix sockets are below the queue directory where smtpd is chrooted."""

    queue_directory: str
    services: tuple[Service, ...]

    def asking(self, address: Address) -> tuple[tuple[Service, Milter], ...]:
        """The entries that name the address."""
        return tuple(
            (service, milter)
            for service in self.services
            for milter in service.milters
            if _names(milter.address, address, self.queue_directory)
        )


@dataclass(frozen=True, slots=True)
class Smtpd:
    """How the servers that ask milters run: as whom, and which in a chroot."""

    user: str
    queue_directory: str
    """What they are chrooted to."""
    chrooted: frozenset[str]
    """Names of services, as a Service has them; main.cf's (no name) where one that has no list of
    its own is chrooted."""

    def reaches(self, service: Service, milter: Milter) -> str:
        """The path that an entry leads to; empty where it is no unix socket."""
        kind, _, place = milter.address.partition(":")
        if kind not in ("unix", "local"):
            return ""
        is_below = service.name in self.chrooted or not place.startswith("/")
        return f"{self.queue_directory}/{place.lstrip('/')}" if is_below else place


# --- Addresses ------------------------------------------------------------------------------


def _names(entry: str, address: Address, queue_directory: str) -> bool:
    """Whether an entry of smtpd_milters leads to a milter that listens at the address."""
    kind, _, place = entry.partition(":")
    if kind in ("unix", "local") and address.path:
        # Relative to the queue directory; absolute ones are, too, where smtpd is chrooted.
        paths = [f"{queue_directory}/{place}", *([place] if place.startswith("/") else [])]
        return os.path.realpath(address.path) in map(os.path.realpath, paths)
    if kind != "inet" or not address.port:
        return False
    host, port = _endpoint(place)
    is_anywhere = address.host in ("0.0.0.0", "::")  # noqa: S104  what is compared, not bound
    return port == address.port and (is_anywhere or bool(_hosts(host) & _hosts(address.host)))


def _endpoint(place: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[host]:port` or `port`; port 0 for a service's name."""
    host, _, port = place.rpartition(":")
    is_number = re.fullmatch(r"\d{1,5}", port, re.ASCII)
    return host or "localhost", int(port) if is_number else 0


def _hosts(host: str) -> frozenset[str]:
    host = host.strip("[]").lower().removeprefix("ipv6:")
    try:
        return frozenset((str(ipaddress.ip_address(host)),))
    except ValueError:
        return _LOOPBACK if host == "localhost" else frozenset((host,))


# --- Postfix's syntax -----------------------------------------------------------------------


def entries(value: str, defaults: Settings) -> tuple[Milter, ...]:
    """The milters of a value of smtpd_milters.  Raises ValueError as Postfix ends with an error."""
    return tuple(_entry(token, defaults) for token in words(value))


def _entry(token: str, defaults: Settings) -> Milter:
    if not token.startswith("{"):
        return Milter(token, defaults)
    own: dict[str, Any] = {}
    address, *options = words(_inside(token))  # too few values: an empty definition
    for option in options:
        text = _inside(option) if option.startswith("{") else option
        name, sign, value = (part.strip() for part in text.partition("="))
        if not name or not sign:
            raise ValueError(f"{text} is no name=value")
        if name == "default_action":
            own[name] = value
        elif name in ("connect_timeout", "command_timeout", "content_timeout"):
            own[name] = seconds(value)
    return Milter(address, dataclasses.replace(defaults, **own))


def words(text: str) -> Iterator[str]:
    """Words between blanks and commas, of which those in braces do not count."""
    token, level = "", 0
    for sign in text:
        if sign == "{":
            level += 1
        elif sign == "}" and level:
            level -= 1
        if level or sign not in ", \t\r\n":
            token += sign
        elif token:
            yield token
            token = ""
    if token:
        yield token


def _inside(token: str) -> str:
    """What stands in the braces around the whole of a token."""
    level = 0
    for place, sign in enumerate(token):
        level += (sign == "{") - (sign == "}")
        if not level and place < len(token) - 1:
            raise ValueError(f"{token} has text after its closing brace")
    if level:
        raise ValueError(f"{token} has no closing brace")
    return token[1:-1]


def seconds(value: str) -> int:
    """A time of Postfix, such as `90`, `90s` or `5m`.  Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", value, re.ASCII)
    if match is None:
        raise ValueError(f"{value} is no time")
    return int(match[1]) * _UNITS[match[2]]


# --- postconf -------------------------------------------------------------------------------


def read() -> Postfix | None:
    """The milters of the Postfix on this machine; None where there is none, or none that tells."""
    program = programs.find("postconf", beside=SBIN)
    if program is None:
        _log.debug("there is no postconf")
        return None
    try:
        main = values(_output(program, "-x", *_NAMES, "queue_directory"))
        services: dict[str, dict[str, str]] = {"": {}}
        for path, value in values(_output(program, "-P", "-x")).items():
            service, kind, name = path.rsplit("/", 2)
            # smtpd is of these types; cleanup, a unix service, has its milters' settings from it.
            if kind in ("inet", "pass") and name in _NAMES:
                services.setdefault(f"{service}/{kind}", {})[name] = value
        return Postfix(
            main["queue_directory"],
            tuple(_service(name, main | own) for name, own in services.items()),
        )
    except (OSError, ValueError, KeyError) as error:
        _log.debug("what postconf tells is of no use: %s", error or type(error).__name__)
        return None


def smtpd(found: Postfix) -> Smtpd | None:
    """How Postfix's servers run; None where it cannot be told."""
    program = programs.find("postconf", beside=SBIN)
    if program is None:
        return None
    try:
        main = values(_output(program, "-x", "mail_owner", "compatibility_level"))
        fields = values(_output(program, "-F"))
    except (OSError, ValueError) as error:
        _log.debug("what postconf tells is of no use: %s", error or type(error).__name__)
        return None
    # What `-` in master.cf means (master_ent.c of Postfix 3.0 and later).
    default = "y" if main.get("compatibility_level", "0").partition(".")[0] == "0" else "n"
    own = {service.name for service in found.services}
    chrooted = set()
    for path, command in fields.items():
        service, _, name = path.rpartition("/")
        if name == "command" and command.partition(" ")[0] == "smtpd":
            told = fields.get(f"{service}/chroot", "n")
            if (default if told == "-" else told) == "y":
                chrooted.add(service if service in own else "")
    return Smtpd(main.get("mail_owner", ""), found.queue_directory, frozenset(chrooted))


def _service(name: str, values: dict[str, str]) -> Service:
    settings = Settings(
        default_action=values["milter_default_action"],
        connect_timeout=seconds(values["milter_connect_timeout"]),
        command_timeout=seconds(values["milter_command_timeout"]),
        content_timeout=seconds(values["milter_content_timeout"]),
    )
    return Service(name, entries(values["smtpd_milters"], settings))


def values(output: str) -> dict[str, str]:
    """The lines `name = value`."""
    split = (line.partition(" =") for line in output.splitlines())
    return {name: value.strip() for name, _, value in split}


def _output(*command: str) -> str:
    return programs.output(*command, seconds=SECONDS, limit=LIMIT)
