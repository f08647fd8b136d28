"""The port for those who watch the daemon: /healthz, /readyz, /metrics, the administrator's page.

A server of aiohttp's in a thread and loop of its own, so that mail waits for nothing that is sent
there; the page is made in one more thread, as it reads a file.  What may not live here: what is
told (health.py, metrics.py, page.py), and who may look (login.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from rspamd_llm import health as healths
from rspamd_llm import metrics
from rspamd_llm.core import Core
from rspamd_llm.health import Health
from rspamd_llm.login import SESSION_SECONDS, Login
from rspamd_llm.page import Page, asset
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

PAGE_SECONDS = 8.0
"""Seconds for a page: over a full history it takes one, and the connection lasts little longer."""

WRONG_SECONDS = 1.0
"""Seconds that a wrong token costs."""

FORM_BYTES = 4_000
"""Bytes of a form: ours has one field, of at most login.TOKEN_MOST characters."""

SESSION = "rspamd_llm_session"
"""Name of the cookie."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "rspamd-llm",
}
"""Of each answer: the browser runs nothing, loads nothing from elsewhere and keeps nothing, even if
a stranger's text got through as markup."""

_ANYONE = Login()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
        page: Page | None = None,
        login: Login = _ANYONE,
    ) -> None:
        """`health` may be awaited in any loop; `text` makes the metrics of it."""
        self._listen = listen
        self._health = health
        self._text = text
        self._page = page
        self._login = login
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="page")
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
        self._thread.shutdown(wait=False, cancel_futures=True)

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
        app = web.Application(client_max_size=FORM_BYTES, middlewares=[_unbroken])
        app.on_response_prepare.append(_protect)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._admitted(self._readyz)),
                web.get("/metrics", self._admitted(self._metrics)),
            ]
        )
        if self._page is not None:
            app.add_routes(self._page_routes(self._page))
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
        if self._page is not None:
            _log.info("a page for the administrator at http://%s/", self._listen)

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

    # --- Who may look ---

    def _admitted(self, handler: Handler) -> Handler:
        """For programs: without the token there is no answer, but on the machine itself."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self._login.admits_program(*_credentials(request), time.time()):
                return web.Response(
                    status=401,
                    text="metrics.token_file is set: ask with Authorization: Bearer TOKEN\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await handler(request)

        return handle

    def _known(self, handler: Handler) -> Handler:
        """For browsers: one that was led here under another's name gets no answer."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self._login.knows(request.headers.get("Host", "")):
                return web.Response(status=421, text=f"ask for http://{self._listen}/\n")
            return await handler(request)

        return handle

    def _signed_in(self, handler: Handler) -> Handler:
        """For browsers: without the token there is the form that asks for it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self._login.admits(*_credentials(request), time.time()):
                raise web.HTTPSeeOther("/login")
            return await handler(request)

        return self._known(handle)

    # --- The page ---

    def _page_routes(self, page: Page) -> list[web.RouteDef]:
        async def overview(request: web.Request) -> web.StreamResponse:
            health, query = await self._told(), dict(request.query)
            return await self._made(lambda: page.overview(health, query))

        async def verdict(request: web.Request) -> web.StreamResponse:
            return await self._made(lambda: page.verdict(request.match_info["number"]))

        async def form(_request: web.Request) -> web.StreamResponse:
            return await self._made(lambda: page.login(is_wrong=False))

        async def sign_in(request: web.Request) -> web.StreamResponse:
            fields = urllib.parse.parse_qs((await request.read()).decode("ascii", "replace"))
            if not self._login.is_token(fields.get("token", [""])[0].strip()):
                await asyncio.sleep(WRONG_SECONDS)
                return await self._made(lambda: page.login(is_wrong=True), status=403)
            answer = web.HTTPSeeOther("/")
            answer.set_cookie(
                SESSION,
                self._login.session(time.time()),
                max_age=SESSION_SECONDS,
                httponly=True,
                samesite="Strict",
            )
            raise answer

        async def sign_out(_request: web.Request) -> web.StreamResponse:
            answer = web.HTTPSeeOther("/login")
            answer.del_cookie(SESSION)
            raise answer

        return [
            web.get("/", self._signed_in(overview)),
            web.get("/verdict/{number}", self._signed_in(verdict)),
            web.get("/login", self._known(form)),
            web.post("/login", self._known(sign_in)),
            web.post("/logout", self._known(sign_out)),
            web.get("/page.css", _file("page.css", "text/css")),
            web.get("/icon.svg", _file("icon.svg", "image/svg+xml")),
        ]

    async def _made(self, make: Callable[[], str | None], status: int = 200) -> web.Response:
        """A page, made in the thread for it."""
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                text = await asyncio.get_running_loop().run_in_executor(self._thread, make)
        except TimeoutError:
            return web.Response(status=503, text="the history is not read in time\n")
        if text is None:
            raise web.HTTPNotFound
        return web.Response(status=status, text=text, content_type="text/html")


def _credentials(request: web.Request) -> tuple[str, str]:
    """What a request tells of who asks: its Authorization header and its session."""
    return request.headers.get("Authorization", ""), request.cookies.get(SESSION, "")


def _file(name: str, kind: str) -> Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=asset(name), content_type=kind, charset="utf-8")

    return handle


async def _protect(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


@web.middleware
async def _unbroken(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Our own mistakes are told to nobody: a traceback may quote a mail."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001
        _log.error("a request failed: %s", type(error).__name__)
        _log.debug("a request failed", exc_info=True)
        return web.Response(status=500, text="this failed\n")


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
