"""A stand-in for an RDAP server (RFC 9082, RFC 9083) over HTTPS, for tests and benchmarks.

    context, authority = certificate(folder)     # authority: for SSL_CERT_FILE
    with RdapStub.running(context) as stub:
        ... stub.base_url ... stub.set(Behaviour(fault="hang")) ... stub.paths ... stub.dropped
        stub.write_bootstrap(file, "test", "example")

It also answers /dns.json with its list of servers (RFC 9224).  A small HTTP/1.1 server with
keep-alive, plain HTTP where it gets no context.  Nothing of the daemon's own code may be imported
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from bench.inthread import in_thread

NAMES = ("127.0.0.1", "localhost", "rdap.test", "other.test")
"""Hosts that `certificate` is for."""

KEPT = 10_000  # requests remembered: more than any test sends, little for a long benchmark

# What may go wrong with an answer.
FAULTS = (
    "hang",  # takes the request, never answers
    "drip",  # one byte of the body each `interval`
    "close",  # closes without a byte of an answer
    "early",  # closes in the middle of the body
    "html",  # a page with status 200
    "huge",  # 10 MB
    "crumbs",  # 20,000 chunks of one byte
)


@dataclass(frozen=True)
class Behaviour:
    """How the stub behaves from now on.  The default is a good answer at once.

    `domains` are those registered and their dates; without it all are, on `created`.  `document`
    is sent in place of a domain object.
    """

    latency: float = 0.0
    fault: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, str] | None = None
    created: str = "2001-02-03T04:05:06Z"
    registrar: str = "Example Registrar, Inc."
    document: object = None
    interval: float = 0.05

    def __post_init__(self) -> None:
        if self.fault and self.fault not in FAULTS:
            raise ValueError(f"no such fault: {self.fault}; there are {', '.join(FAULTS)}")


@dataclass(frozen=True)
class Request:
    """One request: its target and its headers, whose names are in lower case."""

    path: str
    headers: Mapping[str, str]


class RdapStub:
    """The server: its behaviour, which may change at any time, and what it has seen.

    `dropped` counts connections whose client hung up while its answer was due, `connections` all
    ever opened.
    """

    def __init__(
        self, context: ssl.SSLContext | None = None, behaviour: Behaviour | None = None
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.host = "127.0.0.1"
        self.port = 0
        self.requests: deque[Request] = deque(maxlen=KEPT)
        self.dropped = self.connections = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def base_url(self) -> str:
        return self.url(self.host)

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def url(self, host: str) -> str:
        """The base URL by another of the certificate's names."""
        return f"http{'s' if self._context else ''}://{host}:{self.port}/rdap/"

    def bootstrap(self, *suffixes: str) -> dict[str, Any]:
        """A list of servers in IANA's form that names this one for the suffixes."""
        return {
            "description": "Bootstrap file of a stand-in",
            "publication": "2025-01-01T00:00:00Z",
            "services": [[list(suffixes), [self.base_url]]],
            "version": "1.0",
        }

    def write_bootstrap(self, path: Path, *suffixes: str) -> str:
        """Writes the list; its path as text."""
        path.write_text(json.dumps(self.bootstrap(*suffixes)), encoding="utf-8")
        return str(path)

    def set(self, behaviour: Behaviour) -> None:
        """Changes the behaviour for requests from now on."""
        self.behaviour = behaviour

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, context: ssl.SSLContext | None = None, behaviour: Behaviour | None = None
    ) -> Iterator[RdapStub]:
        """The server in a thread with its own event loop."""
        with in_thread(cls(context, behaviour), "stub-rdap") as stub:
            yield stub

    async def __aenter__(self) -> RdapStub:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        self.connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            pass  # the end of the test, or of the connection
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers the connection's next request; whether there may be another."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        request = Request(first.split(" ")[1], headers)
        self.requests.append(request)
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.latency)
        head, body = self._answer(request.path, behaviour)
        if behaviour.fault == "hang":
            await reader.read(1)
            self.dropped += 1
            return False
        if behaviour.fault == "close":
            return False
        if behaviour.fault == "early":
            writer.write(head + body[: len(body) // 2])
            return False
        if behaviour.fault == "drip":
            writer.write(head)
            for byte in body:
                writer.write(bytes([byte]))
                await asyncio.sleep(behaviour.interval)
                if reader.at_eof() or writer.is_closing():
                    self.dropped += 1
                    return False
        else:
            writer.write(head + body)
        await writer.drain()
        return True

    def _answer(self, path: str, behaviour: Behaviour) -> tuple[bytes, bytes]:
        kind, status = "application/rdap+json", behaviour.status
        payload: object = behaviour.document
        if path == "/dns.json":
            kind = "application/json"
            payload = self.bootstrap("test") if payload is None else payload
        elif payload is None:
            status, payload = _domain(path.rpartition("/")[2], behaviour)
        body = json.dumps(payload).encode()
        if behaviour.fault == "html":
            kind, body = "text/html", b"<!doctype html><title>Sign in</title><p>Please."
        elif behaviour.fault == "huge":
            body = json.dumps({"notices": "a" * 10_000_000}).encode()
        length = f"content-length: {len(body)}"
        if behaviour.fault == "crumbs":
            body = b"1\r\n1\r\n" * 20_000 + b"0\r\n\r\n"
            length = "transfer-encoding: chunked"
        lines = [f"HTTP/1.1 {status} Some Reason", f"content-type: {kind}", length]
        lines += [f"{name}: {value}" for name, value in behaviour.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n", body


def _domain(name: str, behaviour: Behaviour) -> tuple[int, object]:
    """Status and body for a domain, as RFC 9083 sections 5.3 and 6 have them."""
    created = behaviour.created
    status = behaviour.status
    if behaviour.domains is not None:
        status = status if name in behaviour.domains else 404
        created = behaviour.domains.get(name, "")
    if status != 200:
        return status, {"errorCode": status, "title": "Error", "description": ["There is none."]}
    return 200, {
        "objectClassName": "domain",
        "rdapConformance": ["rdap_level_0", "icann_rdap_response_profile_1"],
        "handle": "12345_DOMAIN",
        "ldhName": name.upper(),
        "status": ["client transfer prohibited"],
        "events": [
            {"eventAction": "expiration", "eventDate": "2031-02-03T04:05:06Z"},
            {"eventAction": "registration", "eventDate": created},
            {"eventAction": "last changed", "eventDate": "2024-02-03T04:05:06Z"},
        ],
        "entities": [
            {"objectClassName": "entity", "roles": ["registrant"], **_card("Some Person")},
            {"objectClassName": "entity", "roles": ["registrar"], **_card(behaviour.registrar)},
        ],
        "nameservers": [{"objectClassName": "nameserver", "ldhName": "NS1.EXAMPLE"}],
    }


def _card(name: str) -> dict[str, Any]:
    """A vCard as JSON (RFC 7095)."""
    fields = [["version", {}, "text", "4.0"], ["fn", {}, "text", name]]
    return {"vcardArray": ["vcard", fields]}


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for NAMES, and the file of the authority that vouches for it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*NAMES).configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, path
