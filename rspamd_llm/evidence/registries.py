"""Which server tells of the domains under a suffix: IANA's list for RDAP, or the operator's own.

The list has the form of RFC 9224.  What may not live here: questions about domains
(registration.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rspamd_llm.domain import ConfigError, EvidenceError
from rspamd_llm.evidence.fetch import Fetcher
from rspamd_llm.store import Store

LIST_URL = "https://data.iana.org/rdap/dns.json"
"""RFC 9224 section 13."""

LIST_BYTES = 2_000_000
"""Of the list; IANA's has about 100 kB."""

FRESH = 7 * 86_400.0
"""Seconds until the list is fetched anew: registries seldom move, and then the old server
redirects for a while."""

KEPT = 180 * 86_400.0
"""Seconds for which an old list is kept, for when there is no new one."""

RETRY = 60.0
"""Seconds after a failed fetch in which there is no other."""

SUFFIXES = 20_000
"""In a list; there are 1,450 top-level domains."""

_PART = 64
"""Suffixes in an entry of the store: 4 kB of its 16."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Servers:
    """Suffixes, in ASCII, to base URLs, which are https and end in a slash."""

    by_suffix: Mapping[str, str]
    fetched: float
    """Seconds since the epoch."""
    public: bool = True
    """Whether the servers are on the open internet, as all are that IANA lists."""

    def of(self, domain: str) -> str:
        """The base URL for a domain, of the longest suffix (RFC 9224 section 4); may be empty."""
        suffix = domain.partition(".")[2]
        while suffix and suffix not in self.by_suffix:
            suffix = suffix.partition(".")[2]
        return self.by_suffix.get(suffix, "")

    def lists(self, url: str) -> bool:
        """Whether a URL leads to a server of the list, by https."""
        wanted = origin(url)
        return bool(wanted) and wanted in map(origin, set(self.by_suffix.values()))


class Registries:
    """Knows the list.  Fetches it when it is first asked, unless the operator has one.

    Raises ConfigError when it is made with a file that is no such list.
    """

    def __init__(self, *, fetcher: Fetcher, store: Store, file: str) -> None:
        self._fetcher = fetcher
        self._store = store
        self._own = _read(Path(file)) if file else None
        self._servers: Servers | None = None
        self._one_at_a_time = asyncio.Lock()
        self._pause_until = 0.0

    async def servers(self, seconds: float) -> Servers:
        """The list; a fetch of it takes at most so long.  Raises EvidenceError."""
        if self._own is not None:
            return self._own
        if self._servers is None or _is_old(self._servers):
            async with self._one_at_a_time:
                await self._renew(seconds)
        if self._servers is None:
            raise EvidenceError("there is no list of registries")
        return self._servers

    async def _renew(self, seconds: float) -> None:
        if self._servers is None:
            self._servers = await self._kept()
        if self._servers is not None and not _is_old(self._servers):
            return
        if time.monotonic() < self._pause_until:
            return
        try:
            self._servers = await self._fetch(seconds)
        except EvidenceError as error:
            self._pause_until = time.monotonic() + RETRY
            _log.warning("The list of registries is not to be had: %s", error)
        else:
            await self._keep(self._servers)

    async def _fetch(self, seconds: float) -> Servers:
        reply = await self._fetcher.json(LIST_URL, public=True, seconds=seconds, limit=LIST_BYTES)
        if reply.status != 200:
            raise EvidenceError(f"status {reply.status}")
        try:
            by_suffix = {suffix: base for suffix, base in _services(reply.document) if base}
        except ValueError as error:
            raise EvidenceError(str(error)) from None
        if not by_suffix:
            raise EvidenceError("the list is empty")
        return Servers(by_suffix, time.time())

    async def _keep(self, servers: Servers) -> None:
        entries = iter(servers.by_suffix.items())
        parts = list(iter(lambda: dict(islice(entries, _PART)), {}))
        for number, part in enumerate(parts):
            value = json.dumps([servers.fetched, len(parts), part], separators=(",", ":"))
            await self._store.put("bootstrap", str(number), value, KEPT)

    async def _kept(self) -> Servers | None:
        """The list from the store; None unless all of it is there."""
        by_suffix: dict[str, str] = {}
        number, count, fetched = 0, 1, 0.0
        while number < count:
            text = await self._store.get("bootstrap", str(number))
            try:
                at, parts, part = json.loads(text or "")
                if number == 0:
                    fetched, count = float(at), min(int(parts), SUFFIXES // _PART)
                if (at, parts) != (fetched, count) or not all(map(_base, part.values())):
                    return None
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                return None
            by_suffix |= part
            number += 1
        return Servers(by_suffix, fetched) if by_suffix else None


def origin(url: str) -> str:
    """The server that an https URL leads to, as `host:port`; empty for other URLs."""
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.scheme == "https" and parts.hostname else ""


def _is_old(servers: Servers) -> bool:
    return not 0.0 <= time.time() - servers.fetched < FRESH


def _read(path: Path) -> Servers:
    try:
        with path.open("rb") as file:
            services = dict(_services(json.loads(file.read(LIST_BYTES))))
    except OSError as error:
        raise ConfigError((f"{path}: {error.strerror}",)) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError((f"{path} is no list of RDAP servers (RFC 9224): {error}",)) from None
    without = [suffix for suffix, base in services.items() if not base]
    if without or not services:
        which = f" for {without[0]}" if without else ""
        raise ConfigError((f"{path} names no server with https{which}",))
    return Servers(services, time.time(), public=False)


def _services(document: Any) -> Iterator[tuple[str, str]]:
    """Each suffix with its base URL, empty where none is https.  Raises ValueError."""
    if not isinstance(document, dict) or document.get("version") != "1.0":
        raise ValueError("the list has no version 1.0")
    left = SUFFIXES
    for service in _list(document.get("services")):
        suffixes, urls = (_texts(part) for part in _list(service, 2))
        left -= len(suffixes)
        if left < 0:
            raise ValueError(f"the list has more than {SUFFIXES} suffixes")
        base = next(filter(None, map(_base, urls)), "")
        for suffix in suffixes:
            yield suffix.strip(".").lower(), base


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError("the list's services are not as RFC 9224 has them")
    return value


def _texts(value: Any) -> list[str]:
    if not all(isinstance(each, str) and len(each) <= 253 for each in _list(value)):
        raise ValueError("the list's services hold what is no text")
    return list(value)


def _base(url: str) -> str:
    """A base URL as we use it; empty if it is not https."""
    if not origin(url) or set(url) & set("?#@"):
        return ""
    return url if url.endswith("/") else url + "/"
