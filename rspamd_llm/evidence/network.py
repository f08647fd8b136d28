"""Connections for fetch.py: to public addresses alone, or to the operator's servers as named.

Imports httpcore2, of which this is the lower half.  What may not live here: HTTP, and which
addresses are public (guard.py).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore2

from rspamd_llm.domain import EvidenceError
from rspamd_llm.domains import is_address
from rspamd_llm.evidence import guard

ADDRESSES_TRIED = 3
"""Of a public host: a lookup of a few seconds leaves no time for more."""

CONNECT_SECONDS = 1.5
"""For an address where others are left; a lost first packet is sent again after 1 s."""


class Network(httpcore2.AnyIOBackend):
    """Connects to hosts as they are named, by the system's resolver."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to a host.  Raises httpcore2's errors."""
        return _Stream(
            await super().connect_tcp(host, port, timeout, local_address, socket_options)
        )


class PublicNetwork(Network):
    """Connects to a host's public addresses and no others; raises EvidenceError where it has none.

    A name is resolved here and nowhere after, so that no second answer of a hostile name server
    can lead elsewhere.
    """

    def __init__(self, addresses: Callable[[str], Awaitable[tuple[str, ...]]]) -> None:
        self._addresses = addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to one of a host's public addresses."""
        found = (host,) if is_address(host) else await self._addresses(host)
        # IPv4 first: broken IPv6 swallows packets, missing IPv4 is told at once.
        usable = sorted(filter(guard.is_public, found), key=lambda address: ":" in address)
        if not usable:
            raise EvidenceError("it has no public address")
        *others, last = usable[:ADDRESSES_TRIED]
        for address in others:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await super().connect_tcp(
                    address, port, CONNECT_SECONDS, local_address, socket_options
                )
        return await super().connect_tcp(last, port, timeout, local_address, socket_options)


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection that is closed when its TLS handshake is cancelled.

    httpcore2 2.16 leaves it open then, for as long as the server likes.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
