"""A DNS server that answers NXDOMAIN to every question, over UDP and TCP, in two threads.

Without one, each of Rspamd's many lookups waits for its timeout. It also writes down the names
it was asked for, so that a test can prove what did not leave the house. It may not learn to
answer anything else: a test that needs real answers fakes its resolver in Python.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from types import TracebackType
from typing import Self

from tests.chain.ports import HOST

_HEADER = struct.Struct("!6H")
_FLAGS_ANSWER = 0x8180  # response, recursion desired and available
_RCODE_NXDOMAIN = 3
_RCODE_FORMERR = 1


def _question_end(query: bytes) -> int:
    """Where the first question ends. Raises IndexError or struct.error on a broken packet."""
    at = _HEADER.size
    while query[at]:
        at += 1 + query[at]
    struct.unpack_from("!HH", query, at + 1)
    return at + 5


def _question_name(query: bytes) -> str:
    labels = []
    at = _HEADER.size
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels).lower()


def nxdomain(query: bytes) -> bytes:
    """The answer to one query: NXDOMAIN, or FORMERR for what is no question."""
    if len(query) < _HEADER.size:
        return b""
    number = struct.unpack_from("!H", query)[0]
    try:
        end = _question_end(query)
    except (IndexError, struct.error):
        return _HEADER.pack(number, _FLAGS_ANSWER | _RCODE_FORMERR, 0, 0, 0, 0)
    head = _HEADER.pack(number, _FLAGS_ANSWER | _RCODE_NXDOMAIN, 1, 0, 0, 0)
    return head + query[_HEADER.size : end]


class NxDomainServer:
    """Context manager. `port` is the same for UDP and TCP, `asked` the names asked so far."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        note = self._note

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, sock = self.request
                note(query)
                sock.sendto(nxdomain(query), self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(size := self.rfile.read(2)) == 2:
                    query = self.rfile.read(struct.unpack("!H", size)[0])
                    note(query)
                    answer = nxdomain(query)
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        self._tcp, self._udp = _bind_both(Stream, Datagram)
        self.port: int = self._tcp.server_address[1]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            for server in (self._tcp, self._udp)
        ]

    def _note(self, query: bytes) -> None:
        try:
            self.asked.append(_question_name(query))
        except IndexError:
            self.asked.append("?")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _ThreadingTCP(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection must not hold up the end


def _bind_both(
    stream: type[socketserver.BaseRequestHandler],
    datagram: type[socketserver.BaseRequestHandler],
) -> tuple[_ThreadingTCP, socketserver.UDPServer]:
    """One port number for both: the kernel picks it for TCP, and UDP may be taken there."""
    for _ in range(20):
        tcp = _ThreadingTCP((HOST, 0), stream)
        try:
            return tcp, socketserver.UDPServer((HOST, tcp.server_address[1]), datagram)
        except OSError:
            tcp.server_close()
    raise RuntimeError("no port is free for both UDP and TCP")
