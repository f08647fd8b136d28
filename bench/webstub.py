"""A stand-in for the web's search engines, for tests and demonstrations.

It speaks SearXNG's JSON (GET /search), Brave's API (GET /res/v1/web/search), and the HTML of two
engines that ddgs reads: Mojeek's (GET /mojeek/search) and DuckDuckGo's (POST /duckduckgo/html/).
It has the pages that it is given for each query, and nothing for others.  In a test:

    with WebStub.running({"example.com": [Found("Example", "https://example.com/", "...")]}) as web:
        ... web.url ... web.set(Behaviour(fault="hang")) ... web.queries

or in a running event loop with `async with WebStub(...) as web`, or as a program that prints its
URL, with the pages in a JSON file, {"example.com": [["Example", "https://example.com/", "..."]]}:

    python -m bench.webstub --port 8888 --latency 0.3 --pages FILE

Nothing of the daemon's own code may be imported here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from bench.inthread import in_thread

CONTROL = "wikipedia.org"
"""Every engine knows this one."""

ROUTES = {
    "/search": "searxng",
    "/res/v1/web/search": "brave",
    "/mojeek/search": "mojeek",
    "/duckduckgo/html/": "duckduckgo",
}


class Found(NamedTuple):
    """One result."""

    title: str
    url: str
    text: str = ""


class Query(NamedTuple):
    """One query that came: the engine it was for, its words, and the request's headers."""

    engine: str
    words: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How an engine answers.

    `fault` is empty, `hang`, `close` (before a word), `early` (half an answer), `drip` (a byte each
    0.05 s) or `html` (a page with status 200).  `raw` is a body in place of the right one, `pad` so
    many bytes added to it.  `banned` finds nothing for whatever query.
    """

    fault: str = ""
    status: int = 200
    location: str = ""
    latency: float = 0.0
    raw: bytes | None = None
    pad: int = 0
    banned: bool = False
    unresponsive: tuple[str, ...] = ()
    """Names of engines that SearXNG says it had no answer from."""


class WebStub:
    """The server, the pages it has by query, and the queries that came."""

    def __init__(
        self, pages: Mapping[str, Sequence[Found]] | None = None, *, port: int = 0
    ) -> None:
        control = Found("Wikipedia", f"https://www.{CONTROL}/", "The free encyclopedia")
        self.pages: dict[str, Sequence[Found]] = {CONTROL: [control], **(pages or {})}
        self.port = port
        self.queries: deque[Query] = deque(maxlen=10_000)
        self._behaviours = dict.fromkeys(ROUTES.values(), Behaviour())
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def words(self) -> list[str]:
        """The words of all queries, in order."""
        return [query.words for query in self.queries]

    def set(self, behaviour: Behaviour, *engines: str) -> None:
        """Changes the behaviour of some engines, or of all; from any thread."""
        for engine in engines or ROUTES.values():
            self._behaviours[engine] = behaviour

    @classmethod
    @contextlib.contextmanager
    def running(cls, pages: Mapping[str, Sequence[Found]] | None = None) -> Iterator[WebStub]:
        """The server in a thread with its own event loop."""
        with in_thread(cls(pages), "web-stub") as stub:
            yield stub

    async def __aenter__(self) -> WebStub:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        # A client that gave up, a line that ends, a stub that closes: all end a connection.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._serve_one(reader, writer):
                pass
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in map(_field, lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        target = urlsplit(first.split(" ")[1])
        asked = parse_qs(f"{target.query}&{body.decode('latin-1')}")
        engine = ROUTES.get(target.path, "")
        if not engine:
            writer.write(_response(404, b"Not Found", "text/plain"))
            return True
        query = Query(engine, asked.get("q", [""])[0], headers)
        self.queries.append(query)
        behaviour = self._behaviours[engine]
        await asyncio.sleep(behaviour.latency)
        return await _send(writer, behaviour, self._answer(behaviour, query, asked))

    def _answer(self, behaviour: Behaviour, query: Query, asked: dict[str, list[str]]) -> bytes:
        """The whole response, as the engine would give it."""
        if behaviour.status != 200:
            more = f"Location: {behaviour.location}\r\n" if behaviour.location else ""
            return _response(behaviour.status, b"refused", "text/plain", more)
        found = [] if behaviour.banned else self.pages.get(query.words, [])
        kind = "text/html"
        if behaviour.fault == "html":
            body = b"<!DOCTYPE html><title>Just a moment</title>"
        elif query.engine == "searxng":
            if asked.get("format") != ["json"]:
                return _response(200, b"<!DOCTYPE html><title>SearXNG</title>", kind)
            body, kind = _json(_searxng(query.words, found, behaviour.unresponsive))
        elif query.engine == "brave":
            if not query.headers.get("x-subscription-token"):
                return _response(422, _json({"type": "ErrorResponse"})[0], "application/json")
            body, kind = _json(_brave(query.words, found))
        else:
            body = (_mojeek if query.engine == "mojeek" else _duckduckgo)(found).encode()
        if behaviour.raw is not None:
            body = behaviour.raw
        return _response(200, body + b" " * behaviour.pad, kind)


async def _send(writer: asyncio.StreamWriter, behaviour: Behaviour, data: bytes) -> bool:
    head = data.index(b"\r\n\r\n") + 4
    match behaviour.fault:
        case "hang":
            await asyncio.Event().wait()
        case "close":
            return False
        case "early":
            writer.write(data[: (head + len(data)) // 2])
            await writer.drain()
            return False
        case "drip":
            writer.write(data[:head])
            for byte in data[head:]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        case _:
            writer.write(data)
            await writer.drain()
    return True


def _field(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _response(status: int, body: bytes, kind: str, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _json(document: object) -> tuple[bytes, str]:
    return json.dumps(document).encode(), "application/json"


def _searxng(words: str, found: Sequence[Found], unresponsive: Sequence[str]) -> dict[str, Any]:
    return {
        "query": words,
        "number_of_results": 0,
        "results": [
            {
                "url": one.url,
                "title": one.title,
                "content": one.text,
                "engine": "duckduckgo",
                "engines": ["duckduckgo"],
                "category": "general",
                "score": 1.0,
            }
            for one in found
        ],
        "answers": [],
        "corrections": [],
        "infoboxes": [],
        "suggestions": [],
        "unresponsive_engines": [[name, "timeout"] for name in unresponsive],
    }


def _brave(words: str, found: Sequence[Found]) -> dict[str, Any]:
    document: dict[str, Any] = {"type": "search", "query": {"original": words}}
    if found:
        results = [
            {"type": "search_result", "title": one.title, "url": one.url, "description": one.text}
            for one in found
        ]
        document["web"] = {"type": "search", "results": results}
    return document


def _mojeek(found: Sequence[Found]) -> str:
    items = "".join(
        f'<li><h2><a class="title" href="{html.escape(one.url)}">{html.escape(one.title)}</a></h2>'
        f'<p class="s">{html.escape(one.text)}</p></li>'
        for one in found
    )
    return f'<!DOCTYPE html><html><body><ul class="results-standard">{items}</ul></body></html>'


def _duckduckgo(found: Sequence[Found]) -> str:
    items = "".join(
        f'<div class="links_main result__body"><h2>{html.escape(one.title)}</h2>'
        f'<a href="{html.escape(one.url)}">{html.escape(one.text)}</a></div>'
        for one in found
    )
    return f"<!DOCTYPE html><html><body>{items}</body></html>"


async def _run(port: int, latency: float, pages: Mapping[str, Sequence[Found]]) -> None:
    async with WebStub(pages, port=port) as stub:
        stub.set(Behaviour(latency=latency))
        print(stub.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.webstub", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--pages", type=Path, help="a JSON file: what is found, by query")
    args = parser.parse_args()
    read = json.loads(args.pages.read_text(encoding="utf-8")) if args.pages else {}
    pages = {words: [Found(*one) for one in found] for words, found in read.items()}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(args.port, args.latency, pages))


if __name__ == "__main__":
    main()
