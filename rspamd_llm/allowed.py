"""What a setting's value may be: checks that take a TOML value and return the setting's.

A check raises UnfitError with what is allowed.  What may not live here: the settings (config.py).
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], Any]
"""Takes a TOML value and returns the setting's value, or raises UnfitError."""


class UnfitError(Exception):
    """A value is not allowed; the text says what is."""


def text(value: Any) -> str:
    """Any string."""
    if not isinstance(value, str):
        raise UnfitError("a string")
    return value


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise UnfitError("true or false")
    return value


def number(low: float, high: float) -> Check:
    """A finite number within bounds, as float."""

    def check(value: Any) -> float:
        if not _is_number(value) or not low <= value <= high:  # which NaN and infinities are not
            raise UnfitError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def integer(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise UnfitError(f"a whole number from {low} to {high}")
        return value

    return check


def choice(*names: str) -> Check:
    """One of the names."""

    def check(value: Any) -> str:
        if value not in names or not isinstance(value, str):
            raise UnfitError("one of " + ", ".join(f'"{name}"' for name in names))
        return value

    return check


def matching(pattern: str, allowed: str) -> Check:
    """A string that the pattern matches from end to end."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise UnfitError(allowed)
        return value

    return check


def list_of(item: Check, *, least: int = 0) -> Check:
    """A list, kept as a tuple, without repeats."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise UnfitError("a list" + (f" of at least {least}" if least else ""))
        items = []
        for entry in value:
            try:
                items.append(item(entry))
            except UnfitError as unfit:
                raise UnfitError(f"a list, each item {unfit}") from unfit
        if len(set(items)) != len(items):
            raise UnfitError("a list without repeats")
        return tuple(items)

    return check


def one_or_more(item: Check) -> Check:
    """A value, or a list of at least one, kept as a tuple."""
    several = list_of(item, least=1)

    def check(value: Any) -> Any:
        return several(value) if isinstance(value, list) else item(value)

    return check


def readable(read: Callable[[str], object], allowed: str) -> Check:
    """A string that `read` takes, as `read` writes it."""

    def check(value: Any) -> str:
        try:
            return str(read(text(value)))
        except ValueError as error:
            raise UnfitError(allowed) from error

    return check


_MAX_WEIGHT = 1_000_000  # far above any score; keeps out infinity and what no float can hold


def weights(value: Any) -> Mapping[str, float]:
    """A table of symbol names with the least absolute score each must have."""
    if not isinstance(value, dict) or not all(
        _is_number(weight) and 0 <= weight <= _MAX_WEIGHT for weight in value.values()
    ):
        raise UnfitError(f"a table of symbol names with numbers from 0 to {_MAX_WEIGHT}")
    return {name: float(weight) for name, weight in value.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nameserver(value: str) -> str:
    """An IP address, alone or with a port: `192.0.2.1:53`, `[2001:db8::1]:53`."""
    host, port = value, "53"
    if value.startswith("[") or value.count(":") == 1:
        host, _, port = value.rpartition(":")
    if not 0 < int(port) < 65_536:
        raise ValueError(value)
    ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    return value


_cidr = functools.partial(ipaddress.ip_network, strict=False)
network = readable(_cidr, 'an address or network such as "192.0.2.0/24"')
nameserver = readable(_nameserver, 'an IP address such as "127.0.0.1", also "127.0.0.1:5353"')
URL = matching(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", 'a URL such as "http://127.0.0.1:11434/v1"')
MILTER_SOCKET = matching(
    r"inet6?:\d{1,5}(?:@\S+)?|(?:unix|local):/\S+",
    '"inet:PORT@HOST", "inet6:PORT@HOST" or "unix:/absolute/path"',
)
CATEGORY = matching(
    r"(?!none\Z)[a-z][a-z0-9_-]{0,31}", 'a name like [a-z][a-z0-9_-]{0,31}, but not "none"'
)
STORE = matching(
    r"memory://|sqlite:///\S+|(?:valkey|redis)s?://\S+",
    '"memory://", "sqlite:///absolute/path" or "valkey://host:port/db"',
)
MODE = matching(r"0?[0-7]{3}", 'an octal mode such as "0660"')
OPTIONAL_URL = matching(r"|https?://[^\s/?#@]+(?:/[^\s?#]*)?", "empty or a URL")


def _listen(value: str) -> str:
    """An address and a port, or nothing: `127.0.0.1:11391`, `[::1]:11391`."""
    if value:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(value)
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(value)
    return value


OPTIONAL_LISTEN = readable(
    _listen, 'empty, or an address and port such as "127.0.0.1:11391", "[::1]:11391"'
)


# Up to the last @: a password may hold any sign.
_LOGIN = re.compile(r"//[^\s\"]*@")


def without_login(url: str) -> str:
    """A URL as it may be shown: name and password left out."""
    return _LOGIN.sub("//...@", url)


def shown(value: Any) -> str:
    """A found value as it stands in TOML, bounded.

    A setting never holds a secret itself, but for a URL with a password.
    """
    if isinstance(value, str | bool):
        told = json.dumps(value, ensure_ascii=False)
        told = without_login(told)
    elif isinstance(value, int) and value.bit_length() > 256:
        told = "a very long number"  # which Python may refuse to write out
    elif isinstance(value, list):
        told = f"[{', '.join(shown(item) for item in value[:20])}]"
    else:
        told = "a table" if isinstance(value, dict) else str(value)
    return told if len(told) <= 80 else told[:77] + "..."
