"""ddgs as a search engine: a supervised child process that can hang and be killed.

Started when it is first needed, ended when nobody has searched for a while, when a search hangs, or
with the daemon.  What it says is data that is checked.  What may not live here: ddgs itself
(ddgs_child.py) and what results are worth (search.py, pages.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rspamd_llm.domain import Deadline, EvidenceError, Page
from rspamd_llm.evidence import pages

COMMAND = (sys.executable, "-m", "rspamd_llm.evidence.ddgs_child")

START_TIMEOUT = 30.0
"""Seconds for the child to start, which takes 0.1: a machine that swaps, and no more."""

GRACE = 1.0
"""Seconds beyond a search's own until the child counts as hanging: it ends its searches itself."""

IDLE = 300.0
"""Seconds without a search after which the child ends and gives 40 MB back."""

AT_ONCE = 8
"""Searches in the child at a time; more wait.  Engines ban who asks faster."""

LINE_LIMIT = 1 << 19
"""Bytes of a line of the child's; its longest answer is below 300 kB."""

FAULT_LIMIT = 500
"""Characters of a fault that the child tells: a sentence for each of all engines."""

ENDED = "the process of ddgs ended"

# The child gets what it needs to run and to reach the web, and no secret of the daemon's.
_PASSED = frozenset(
    {"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ"}
    | {"DDGS_PROXY", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    | {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
)
_WORD = re.compile(r"[\w.-]{1,40}")

_log = logging.getLogger(__name__)

_Answer = tuple[Page, ...] | str
"""Pages, or a fault."""


@dataclass(slots=True)
class _Asked:
    """A search under way, and what ends it when the child does not."""

    answer: asyncio.Future[_Answer]
    overdue: asyncio.TimerHandle


async def check_backends(backends: Sequence[str]) -> tuple[str, ...]:
    """What is wrong with engines' names, in sentences; none where all is well.

    Asks the installed ddgs.  Raises EvidenceError if it cannot be asked.
    """
    child = await _start()
    if child is None:
        raise EvidenceError(f"ddgs does not start (try: {' '.join(COMMAND)})")
    await child.end()
    has = f"ddgs {child.version} has {', '.join(child.engines)}"
    if not backends:
        return (f"no engine is named; {has}",)
    return tuple(
        f"{name!r} is no engine of ddgs; {has}" for name in backends if name not in child.engines
    )


class Ddgs:
    """Engines of ddgs, asked in turn until one has results.  Lives in one asyncio loop."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._backends = tuple(backends)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._child: _Child | None = None
        self._starting: asyncio.Task[_Child | None] | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """The child's process ID while there is one."""
        return self._child.pid if self._child and self._child.is_alive else None

    async def search(self, query: str, seconds: float) -> tuple[Page, ...]:
        """See search.Engine.  A cancelled search ends in the child within its seconds."""
        deadline = Deadline.after(seconds)
        try:
            async with asyncio.timeout(seconds + GRACE):
                asked = await self._asked(query, deadline)
                answer = await asyncio.shield(asked)
        except TimeoutError:
            raise EvidenceError("ddgs did not answer in time") from None
        if isinstance(answer, str):
            raise EvidenceError(answer)
        return answer

    async def close(self) -> None:
        """Ends the child; searches under way fail."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._child is not None:
            await self._child.end()
        if self._rest is not None:
            self._rest.cancel()

    async def _asked(self, query: str, deadline: Deadline) -> asyncio.Future[_Answer]:
        """The answer to come, which holds one of the slots until then, whoever waits for it."""
        await self._slots.acquire()
        try:
            child = await self._running()
        except BaseException:
            self._slots.release()
            raise
        asked = child.ask(query, self._backends, deadline)
        asked.add_done_callback(self._answered)
        return asked

    def _answered(self, _answer: asyncio.Future[_Answer]) -> None:
        self._slots.release()
        self._rest_later()

    async def _running(self) -> _Child:
        if self._child is not None and self._child.is_alive:
            return self._child
        if self._is_closed:
            raise EvidenceError("ddgs is closed")
        if self._starting is None:
            self._starting = asyncio.create_task(_start())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        # Not awaited by itself: a start outlives the search that was in too much of a hurry.
        await asyncio.wait([starting])
        child = None if starting.cancelled() else starting.result()
        if child is None:
            raise EvidenceError("ddgs did not start")
        return child

    def _started(self, starting: asyncio.Task[_Child | None]) -> None:
        self._starting = None
        if not starting.cancelled():
            self._child = starting.result()
            self._rest_later()

    def _rest_later(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(IDLE, self._retire)

    def _retire(self) -> None:
        if self._child is not None and not self._child.is_busy:
            self._child.kill()


class _Child:
    """One process, and the searches that it has under way."""

    def __init__(
        self, process: asyncio.subprocess.Process, version: str, engines: tuple[str, ...]
    ) -> None:
        self.version = version
        self.engines = engines
        self.pid = process.pid
        self.is_alive = True
        self._process = process
        self._ids = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._reading = asyncio.create_task(self._read())

    @property
    def is_busy(self) -> bool:
        """Whether a search is under way."""
        return bool(self._asked)

    def ask(
        self, query: str, backends: Sequence[str], deadline: Deadline
    ) -> asyncio.Future[_Answer]:
        """Sends a search.  The answer comes for certain: at worst that the process ended."""
        loop = asyncio.get_running_loop()
        if not self.is_alive:
            answer: asyncio.Future[_Answer] = loop.create_future()
            answer.set_result(ENDED)
            return answer
        number = next(self._ids)
        asked = _Asked(
            loop.create_future(), loop.call_later(deadline.left() + GRACE, self._overdue)
        )
        self._asked[number] = asked
        order = {
            "id": number,
            "query": query,
            "engines": backends,
            "seconds": deadline.left(),
        }
        assert self._process.stdin is not None  # noqa: S101  asked for at the start
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return asked.answer

    def kill(self) -> None:
        """Ends the process; what was under way fails."""
        self.is_alive = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Ends the process and waits until it has."""
        self.kill()
        await self._reading

    def _overdue(self) -> None:
        if self.is_alive:
            _log.warning("a search of ddgs hangs; its process is ended")
        self.kill()

    async def _read(self) -> None:
        """Hands out answers until the process ends or says what it should not."""
        assert self._process.stdout is not None  # noqa: S101  asked for at the start
        try:
            while line := await self._process.stdout.readline():
                number, answer = _understood(line)
                asked = self._asked.pop(number)
                asked.overdue.cancel()
                asked.answer.set_result(answer)
        except (ValueError, LookupError, RecursionError):
            _log.warning("the process of ddgs does not keep to its form; it is ended")
        finally:
            self.kill()
            for asked in self._asked.values():
                asked.overdue.cancel()
                asked.answer.set_result(ENDED)
            self._asked.clear()
            await self._process.wait()


async def _start() -> _Child | None:
    """A process that serves; None where none does."""
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in _PASSED},
            limit=LINE_LIMIT,
        )
    except OSError:
        return None
    assert process.stdout is not None  # noqa: S101  asked for above
    child = None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            version, engines = _introduced(await process.stdout.readline())
        child = _Child(process, version, engines)
    except (TimeoutError, ValueError, RecursionError):
        _log.warning("the process of ddgs did not start")
    finally:
        if child is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return child


def _introduced(line: bytes) -> tuple[str, tuple[str, ...]]:
    """The version of ddgs and its engines' names.  Raises ValueError."""
    message = _object(line, {"version", "engines"})
    version, engines = message["version"], message["engines"]
    names = [version, *engines] if isinstance(engines, list) else [None]
    if not all(isinstance(name, str) and _WORD.fullmatch(name) for name in names):
        raise ValueError("no introduction")
    return str(version), tuple(map(str, names[1:]))


def _understood(line: bytes) -> tuple[int, _Answer]:
    """The number of a search, and its answer.  Raises ValueError."""
    message = _object(line, {"id", "results"}, {"id", "fault"})
    number, fault, results = message["id"], message.get("fault"), message.get("results")
    if type(number) is not int:
        raise ValueError("no number")
    if isinstance(fault, str) and fault.isprintable():
        return number, fault[:FAULT_LIMIT]
    if not isinstance(results, list) or len(results) > pages.PAGES_LIMIT:
        raise ValueError("neither results nor a fault")
    found = (pages.page(*_texts(result)) for result in results)
    return number, tuple(one for one in found if one is not None)


def _texts(result: object) -> tuple[str, str, str]:
    names = ("title", "href", "body")
    if not isinstance(result, dict) or result.keys() != set(names):
        raise ValueError("no result")
    title, href, body = (result[name] for name in names)
    if not (isinstance(title, str) and isinstance(href, str) and isinstance(body, str)):
        raise ValueError("no texts")
    return title, href, body


def _object(line: bytes, *shapes: set[str]) -> Mapping[str, object]:
    message = json.loads(line)
    if not isinstance(message, dict) or message.keys() not in shapes:
        raise ValueError("no message")
    return message
