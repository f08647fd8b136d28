"""A DNS server with a zone of a test's own, over UDP and TCP, for tests, demo and benchmarks.

    with DnsZone.running("example.test MX 10 mail.example.test") as zone:
        ... zone.address ... zone.add("...") ... zone.faults["example.test"] = "silence"
        ... zone.asked ... zone.count("example.test", "MX")

A zone is text, one record a line: name, type, data as zone files have it, but TXT as bare text.
What is not in it does not exist. A name that has a CNAME is answered with that and what it leads
to, as a recursive server does. Nothing of the daemon's own code may be imported here.

Faults, by name (`*` for all others): `silence`; `servfail`; `refused`; `cnames` (aliases without
end); `alias` (one that leads nowhere); `truncated` (over UDP, whole over TCP); `cut` (truncated
over TCP too); `wrong-id`; `wrong-name` (answers another question); `garbage`; `no-soa` (no word on
how long nothing is there).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from bench.inthread import in_thread

__all__ = ["DnsZone"]

KEPT = 100_000  # queries remembered: more than any test sends
HOST = "127.0.0.1"
CHAIN = 40  # aliases in the answer of the fault `cnames`: more than any resolver follows


class DnsZone:
    """The server: its records and faults, which may change at any time, and what it was asked.

    `asked` holds name and type of each query in the order of their arrival, `latency` is the
    seconds before each answer, `ttl` that of every record, `over_tcp` counts queries over TCP,
    `peak` the most that waited for their answer at once.
    """

    def __init__(
        self,
        zone: str = "",
        *,
        latency: float = 0.0,
        ttl: int = 300,
        faults: Mapping[str, str] | None = None,
    ) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.latency = latency
        self.ttl = ttl
        self.faults = dict(faults or {})
        self.asked: deque[tuple[str, str]] = deque(maxlen=KEPT)
        self.over_tcp = self.active = self.peak = 0
        self.port = 0
        self._tcp: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self.add(zone)

    @property
    def address(self) -> str:
        """As our configuration has it."""
        return f"{HOST}:{self.port}"

    def add(self, zone: str) -> None:
        """More records."""
        for line in filter(None, map(str.strip, zone.splitlines())):
            name, kind, data = line.split(None, 2)
            self.records.setdefault((_plain(name), kind), []).append(data)

    def remove(self, name: str, kind: str) -> None:
        """The records of a name and type, no longer there."""
        del self.records[_plain(name), kind]

    def count(self, name: str, kind: str) -> int:
        """How often a question was asked."""
        return list(self.asked).count((_plain(name), kind))

    @property
    def names(self) -> set[str]:
        """All names that were asked for."""
        return {name for name, _ in list(self.asked)}

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        zone: str = "",
        *,
        latency: float = 0.0,
        ttl: int = 300,
        faults: Mapping[str, str] | None = None,
    ) -> Iterator[DnsZone]:
        """The server on a free port, in a thread with its own event loop."""
        with in_thread(cls(zone, latency=latency, ttl=ttl, faults=faults), "dns-zone") as server:
            yield server

    async def __aenter__(self) -> DnsZone:
        loop = asyncio.get_running_loop()
        stream, datagram = _bound()
        self.port = datagram.getsockname()[1]
        self._tcp = await asyncio.start_server(self._serve, sock=stream)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagram)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._tcp:
            self._tcp.close()
        if self._udp:
            self._udp.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                query = await reader.readexactly(size)
                self.over_tcp += 1
                answer = await self.answer(query, udp=False)
                if answer:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    async def answer_datagram(self, packet: bytes, client: tuple[str, int]) -> None:
        answer = await self.answer(packet, udp=True)
        if answer and self._udp and not self._udp.is_closing():
            self._udp.sendto(answer, client)

    async def answer(self, packet: bytes, *, udp: bool) -> bytes:
        """The answer to a query; empty for none."""
        try:
            query = dns.message.from_wire(packet)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return b""
        name, kind = _plain(question.name.to_text()), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.active -= 1
        fault = self.faults.get(name, self.faults.get("*", ""))
        if fault == "silence":
            return b""
        if fault == "garbage":
            return query.to_wire()[:2] + os.urandom(100)
        response = dns.message.make_response(query, recursion_available=True)
        if fault in ("servfail", "refused"):
            response.set_rcode(dns.rcode.from_text(fault))
        elif fault == "cut" or (fault == "truncated" and udp):
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind, fault)
        if fault == "wrong-id":
            response.id ^= 1
        if fault == "wrong-name":
            response.question[0].name = dns.name.from_text("elsewhere.test.")
        wire = response.to_wire(max_size=65_535)
        if udp and len(wire) > max(512, query.payload):
            response = dns.message.make_response(query, recursion_available=True)
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire

    def _fill(self, response: dns.message.Message, name: str, kind: str, fault: str) -> None:
        at = name
        for step in range(CHAIN):
            target = f"alias-{step}.{name}" if fault == "cnames" else self._alias(at, fault)
            if not target or kind == "CNAME":
                break
            response.answer.append(self._set(at, "CNAME", [target + "."]))
            at = _plain(target)
        data = self.records.get((at, kind), [])
        if data:
            response.answer.append(self._set(at, kind, data))
        elif fault not in ("cnames", "alias"):
            if not any(each == at or each.endswith("." + at) for each, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
            if fault == "no-soa":
                return
            soa = f". . 1 7200 900 1209600 {self.ttl}"
            response.authority.append(self._set(".", "SOA", [soa]))

    def _alias(self, name: str, fault: str) -> str:
        if fault == "alias":
            return "" if name == "nowhere.test" else "nowhere.test"
        return next(iter(self.records.get((name, "CNAME"), [])), "").rstrip(".")

    def _set(self, name: str, kind: str, data: list[str]) -> dns.rrset.RRset:
        texts = [_strings(each) if kind == "TXT" else each for each in data]
        owner = name.rstrip(".") + "."
        root = dns.name.root  # so that names need no dot at their end
        return dns.rrset.from_text_list(
            owner, self.ttl, "IN", kind, texts, origin=root, relativize=False
        )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: DnsZone) -> None:
        self._zone = zone
        self._tasks: set[asyncio.Task[None]] = set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._zone.answer_datagram(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


def _strings(text: str) -> str:
    """A TXT's text as the strings of at most 255 bytes of a zone file (RFC 1035 3.3.14)."""
    escaped = [f"\\{ord(char):03d}" for char in text]
    return " ".join(f'"{"".join(escaped[i : i + 255])}"' for i in range(0, len(escaped), 255))


def _bound() -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket of one number: what is free for one may be taken for the other."""
    for _ in range(20):
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            stream.bind((HOST, 0))
            datagram.bind(stream.getsockname())
        except OSError:
            stream.close()
            datagram.close()
        else:
            stream.listen(1024)
            return stream, datagram
    raise RuntimeError("no port is free for both UDP and TCP")
