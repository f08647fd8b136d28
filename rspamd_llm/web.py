"""The port for those who watch the daemon: /healthz, /readyz and /metrics.

A server of aiohttp's in a thread and loop of its own, so that mail waits for nothing that is sent
there.  What may not live here: what is told (health.py, metrics.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from rspamd_llm import health as healths
from rspamd_llm import metrics
from rspamd_llm.core import Core
from rspamd_llm.health import Health
from rspamd_llm.running import address

CONNECTIONS = 64
"""Connections at a time; who comes beyond them is sent away.  A scraper needs one."""

CONNECTION_SECONDS = 10.0
"""Seconds that a connection may last: ours are answered in milliseconds, and one who sends a byte a
second shall not keep others out for ever."""

ANSWER_SECONDS = 2.0
"""Seconds for the core to tell its state: it is alive, or it is not."""

RETRY = 10.0
"""Seconds until a port is tried again that was taken, as by the process before this one."""

_log = logging.getLogger(__name__)


class Web:
    """Serves at a host and port from `start` until `stop`.

    A port that cannot be had costs the numbers, never mail: it is told in the log and tried again.
    """

    def __init__(
        self,
        listen: str,
        *,
        health: Callable[[], Awaitable[Health]],
        text: Callable[[Health], bytes],
    ) -> None:
        """`health` may be awaited in any loop; `text` makes the metrics of it."""
        self._listen = listen
        self._health = health
        self._text = text
        self._core = Core(name="web")
        self._tries: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Begins to serve, as soon as the port can be had."""
        self._core.call(self._begin)

    def stop(self) -> None:
        """Gives up the port, for the next process."""
        with contextlib.suppress(TimeoutError):
            self._core.run(self._end(), ANSWER_SECONDS)

    def _begin(self) -> None:
        self._tries = asyncio.create_task(self._serve())

    async def _end(self) -> None:
        if self._tries is not None:
            self._tries.cancel()
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        host, port = address(self._listen)
        factory = functools.partial(_connection, self._runner)
        told = False
        while self._server is None:
            try:
                self._server = await asyncio.get_running_loop().create_server(
                    factory, host, port, backlog=CONNECTIONS
                )
            except OSError as error:
                if not told:
                    _log.warning(
                        "metrics.listen: %s: %s; tried again until it is free, mail does not wait",
                        self._listen,
                        error.strerror or error,
                    )
                    told = True
                await asyncio.sleep(RETRY)
        _log.info("metrics at http://%s/metrics", self._listen)

    async def _told(self) -> Health | None:
        """How the daemon is; None where it does not say."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._health()
        except TimeoutError:
            return None

    async def _healthz(self, _request: web.Request) -> web.Response:
        if await self._told() is None:
            return _stuck()
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        health = await self._told()
        if health is None:
            return _stuck()
        return web.json_response(
            healths.to_document(health), status=200 if health.is_ready else 503
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        health = await self._told()
        if health is None:
            return _stuck()
        return web.Response(body=self._text(health), headers={"Content-Type": metrics.CONTENT_TYPE})


def _stuck() -> web.Response:
    return web.Response(status=503, text="the daemon does not answer\n")


def _connection(runner: web.AppRunner) -> asyncio.Protocol:
    """What serves one connection."""
    server = runner.server
    assert server is not None  # noqa: S101  the runner was set up
    if len(server.connections) >= CONNECTIONS:
        return _Refusal()
    handler = server()
    asyncio.get_running_loop().call_later(CONNECTION_SECONDS, handler.force_close)
    return handler


class _Refusal(asyncio.Protocol):
    """Ends a connection as it begins."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()
