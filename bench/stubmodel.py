"""A stub of an OpenAI-compatible model server, for tests and benchmarks.

In a test, in a thread of its own:

    with StubModel.running(Behaviour(latency=0.1)) as stub:
        ... stub.base_url ... stub.set(Behaviour(fault="hang")) ... stub.requests ... stub.cancelled

or in a running event loop with `async with StubModel(...) as stub`, or as a program:

    python -m bench.stubmodel --port 8080 --latency 1.0

which prints its base URL, and answers GET /stats with its counters. A small HTTP/1.1 server with
keep-alive; what it says is stubanswers'. Nothing of the daemon's own code may be imported here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.inthread import in_thread
from bench.stubanswers import Behaviour, completion, failure, models, response

__all__ = ["Behaviour", "Request", "StubModel"]

KEPT = 10_000  # requests remembered: more than any test sends, little for a long benchmark


@dataclass(frozen=True)
class Request:
    """One chat completion asked for."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class StubModel:
    """The server: its behaviour, which may change at any time, and what it has seen.

    `calls` counts completions asked for, `active` those being answered, `peak` the most of them
    at once, `cancelled` those whose client hung up before its answer, `connections` all ever
    opened.
    """

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.port = port
        self.requests: deque[Request] = deque(maxlen=KEPT)
        self.calls = self.active = self.peak = self.cancelled = self.connections = 0
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[_Connection] = set()
        self._format_refused = False

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        names = ("calls", "active", "peak", "cancelled", "connections")
        return {name: getattr(self, name) for name in names}

    @classmethod
    @contextlib.contextmanager
    def running(cls, behaviour: Behaviour | None = None, port: int = 0) -> Iterator[StubModel]:
        """The server in a thread with its own event loop."""
        with in_thread(cls(behaviour, port), "stub-model") as stub:
            yield stub

    def set(self, behaviour: Behaviour) -> None:
        """Changes the behaviour for requests from now on; from any thread but the loop's own."""
        assert self._loop, "the stub is not running"
        asyncio.run_coroutine_threadsafe(self.change(behaviour), self._loop).result()

    async def change(self, behaviour: Behaviour) -> None:
        """Changes the behaviour; for callers in the stub's own event loop."""
        self.behaviour = behaviour
        self._format_refused = False
        await (self._close() if behaviour.fault == "down" else self._listen())

    async def __aenter__(self) -> StubModel:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        if self.behaviour.fault == "down":
            await self._close()  # the port was taken once, so it is known and was free
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Connection(self), "127.0.0.1", self.port, backlog=4096
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        under_way = [task for line in list(self._open) if (task := line.drop())]
        await asyncio.gather(*under_way, return_exceptions=True)

    async def answer(self, request: Request, line: _Connection) -> None:
        """Answers one completion on its connection, faults and all."""
        behaviour = self.behaviour
        self.requests.append(request)
        self.calls += 1
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await self._answer(behaviour, request, line)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    async def _answer(self, behaviour: Behaviour, request: Request, line: _Connection) -> None:
        if behaviour.latency:
            await asyncio.sleep(behaviour.latency)
        if self._refuses_format(behaviour, request):
            error = "'response_format' of type 'json_schema' is not supported with this model."
            line.write(failure(400, error))
            return
        if behaviour.status != 200:
            line.write(failure(behaviour.status, behaviour.error, behaviour.retry_after))
            return
        data = completion(behaviour, request.body)
        head = data.index(b"\r\n\r\n") + 4
        match behaviour.fault:
            case "hang":
                await asyncio.Event().wait()
            case "close":
                line.close()
            case "reset":
                line.reset()
            case "early":
                line.write(data[: (head + len(data)) // 2])
                line.close()
            case "drip":
                line.write(data[:head])
                for byte in data[head:]:
                    line.write(bytes([byte]))
                    await asyncio.sleep(behaviour.interval)
            case _:
                line.write(data)

    def _refuses_format(self, behaviour: Behaviour, request: Request) -> bool:
        if not behaviour.reject_format or "response_format" not in request.body:
            return False
        first, self._format_refused = not self._format_refused, True
        return first or behaviour.reject_format == "always"


class _Connection(asyncio.Protocol):
    """One HTTP connection: reads requests, answers them in turn. A lost connection cancels the
    answer under way, which is how the stub knows of clients that hung up."""

    def __init__(self, stub: StubModel) -> None:
        self._stub = stub
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._stub.connections += 1
        self._stub._open.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._stub._open.discard(self)
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """Closes so that the client sees a reset, which is what lingering for no time does."""
        if self._transport:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def drop(self) -> asyncio.Task[None] | None:
        """Hangs up at once; the answer under way, which is being cancelled."""
        if self._transport:
            self._transport.abort()
        if self._task:
            self._task.cancel()
        return self._task

    def _next(self) -> None:
        """Takes the next whole request from the buffer, if there is one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        size = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + size:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        del self._buffer[: end + 4 + size]
        method, path, *_ = first.split(" ")
        if method == "POST" and path.endswith("/chat/completions"):
            self._task = asyncio.ensure_future(self._chat(path, headers, body))
            self._task.add_done_callback(self._done)
            return
        if method == "GET" and path.endswith("/models"):
            self.write(models(self._stub.behaviour))
        elif method == "GET" and path == "/stats":
            self.write(response(200, self._stub.stats()))
        else:
            self.write(failure(404, "Not Found"))
        self._next()

    async def _chat(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self.write(failure(400, "We could not parse the JSON body of your request."))
            return
        await self._stub.answer(Request(path, headers, parsed), self)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if task.exception():  # an answer function that raised: a broken test, not a hanging one
            self.close()
            task.result()
        self._next()


async def _serve(port: int, behaviour: Behaviour) -> None:
    async with StubModel(behaviour, port) as stub:
        print(stub.base_url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stubmodel", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--answer", default=Behaviour.answer, help="the content of each answer")
    parser.add_argument("--fault", default="", help="see bench/stubanswers.py")
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--model", default="stub", help="the model's name")
    args = vars(parser.parse_args())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(args.pop("port"), Behaviour(**args)))


if __name__ == "__main__":
    main()
