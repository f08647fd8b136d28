"""JSON over HTTP from servers that may be hostile: URL -> Reply, bounded in time and size.

With network.py the only importer of httpcore2, whose errors become ours here, once.  It is what
httpx2 builds on, and it has what httpx2 has not: a place where a connection's address is chosen.
URLs keep their host names, so that no open connection is used for a name that its certificate was
not checked for, which is what httpx2 does with URLs that are rewritten to addresses.

What may not live here: what documents mean and which servers are asked (registration.py, the
search), where connections may lead (network.py, guard.py).

No redirect is followed, no proxy of the environment is used, and compressed answers are refused:
they could be of any size once unpacked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpcore2

from rspamd_llm.domain import EvidenceError
from rspamd_llm.domains import is_address
from rspamd_llm.evidence.network import Network, PublicNetwork

MAX_CONNECTIONS = 50
"""Connections at once, of each kind: a burst of mails with some domains each."""

IDLE_CONNECTIONS = 10
"""Connections kept open between requests: a search provider's, and those of the registries whose
domains are in most mail."""

IDLE_SECONDS = 30.0
"""How long such a connection is kept; servers close theirs after 5 to 75 s."""

REFUSAL_BYTES = 16_384
"""Read of an answer other than 200, so that its connection can be used again: ten times what
registries send with a 404."""

PIECES = 5_000
"""Pieces of an answer (chunks of RFC 9112 7.1): three times those of 2 MB in packets of 1,400
bytes.  Each costs 10 us, in which the daemon does nothing else."""

RETRY_AFTER = 3_600.0
"""The longest wait, in seconds, that a server is believed to want."""

_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_FAILURES = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
    UnicodeError,  # a host that IDNA does not know as a name, found before the TLS handshake
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.  `document` is the parsed JSON, None unless the status is 200.

    `location` is as the server sent it, maybe relative.  A document's texts may hold anything that
    JSON can spell, lone surrogates included.
    """

    status: int
    location: str
    document: Any
    retry_after: float = 0.0
    """Seconds that the server wants to be left alone for; 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL's parts that a request needs."""

    scheme: str
    host: str
    port: int | None
    target: str
    name: str
    """The host as the Host header has it, with the port where the URL has one."""


class Fetcher:
    """Asks HTTP servers for JSON.  Lives in one asyncio loop; closed with `close`.

    `addresses` resolves the names of public hosts; it raises EvidenceError.  The certificates that
    are trusted are the system's, or those that SSL_CERT_FILE names when it is made.
    """

    def __init__(self, addresses: Callable[[str], Awaitable[tuple[str, ...]]]) -> None:
        trusted = ssl.create_default_context()
        self._public = _pool(trusted, PublicNetwork(addresses))
        self._configured = _pool(trusted, Network())

    async def close(self) -> None:
        """Closes the connections."""
        await self._public.aclose()
        await self._configured.aclose()

    async def json(
        self,
        url: str,
        *,
        public: bool,
        seconds: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = 1_000_000,
    ) -> Reply:
        """The answer to GET, within `seconds` from now and of at most `limit` bytes.

        `public`: any server of the open internet, by https and on public addresses alone; else the
        operator's own, by http or https, wherever it is.  Raises EvidenceError, also for a 200
        that is no JSON; its text names the server's host and nothing else of the URL.
        """
        place = _place(url, params or {}, public=public)
        pool = self._public if public else self._configured
        try:
            async with asyncio.timeout(seconds):
                return await _ask(pool, place, headers or {}, limit)
        except TimeoutError:
            raise EvidenceError(f"{place.host} did not answer in time") from None
        except EvidenceError as error:
            raise EvidenceError(f"{place.host}: {error}") from error
        except _FAILURES as error:
            cause = type(error).__name__
            raise EvidenceError(f"no answer from {place.host} ({cause})") from error


async def _ask(
    pool: httpcore2.AsyncConnectionPool, place: _Place, headers: Mapping[str, str], limit: int
) -> Reply:
    url = httpcore2.URL(scheme=place.scheme, host=place.host, port=place.port, target=place.target)
    fields = {
        "Host": place.name,
        "User-Agent": "rspamd-llm",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        **headers,
    }
    request = [(name.encode(), value.encode()) for name, value in fields.items()]
    async with pool.stream("GET", url, headers=request) as answer:
        told = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
        if answer.status != 200:
            await _skip(answer)
            wait = _seconds(told.get(b"retry-after", ""))
            return Reply(answer.status, told.get(b"location", ""), None, wait)
        if told.get(b"content-encoding", "identity").strip().lower() != "identity":
            raise EvidenceError("the answer is compressed, although that was not asked for")
        return Reply(200, "", _parsed(await _body(answer, limit)))


def _pool(
    trusted: ssl.SSLContext, network: httpcore2.AsyncNetworkBackend
) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        ssl_context=trusted,
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=IDLE_CONNECTIONS,
        keepalive_expiry=IDLE_SECONDS,
        network_backend=network,
    )


def _place(url: str, params: Mapping[str, str], *, public: bool) -> _Place:
    """The parts of a URL.  Raises EvidenceError for one that is not to be asked."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise EvidenceError("the URL is none") from None
    if not _URL.fullmatch(url) or "\\" in url or "@" in parts.netloc:
        raise EvidenceError("the URL is not plain http or https")
    if public and parts.scheme != "https":
        raise EvidenceError("the URL is not https")
    literal = ":" in host
    if len(host) > 253 or not (_HOST.fullmatch(host) or (literal and is_address(host))):
        raise EvidenceError("the URL names no host")
    query = "&".join(filter(None, (parts.query, urlencode(params))))
    name = f"[{host}]" if literal else host
    return _Place(
        parts.scheme,
        host,
        port,
        (parts.path or "/") + (f"?{query}" if query else ""),
        name if port is None else f"{name}:{port}",
    )


async def _body(answer: httpcore2.Response, limit: int) -> bytes:
    body = bytearray()
    pieces = 0
    async with contextlib.aclosing(answer.aiter_stream()) as stream:
        async for piece in stream:
            body += piece
            pieces += 1
            if len(body) > limit or pieces > PIECES:
                raise EvidenceError(f"the answer is longer than {limit} bytes, or in crumbs")
    return bytes(body)


async def _skip(answer: httpcore2.Response) -> None:
    size = 0
    async with contextlib.aclosing(answer.aiter_stream()) as stream:
        async for piece in stream:
            size += max(len(piece), REFUSAL_BYTES // PIECES)
            if size > REFUSAL_BYTES:
                break


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise EvidenceError("the answer is no JSON") from None


def _seconds(text: str) -> float:
    """A Retry-After field (RFC 9110 10.2.3), seconds or a date, as seconds; 0 for neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER)
    try:
        left = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(left, 0.0), RETRY_AFTER)
