"""The store in Valkey or Redis, which several daemons share.

The only importer of redis, whose errors end here: a store that fails costs speed, never mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as ServerConnectionError

from rspamd_llm.store.base import ENTRY_LIMIT, fits
from rspamd_llm.store.memory import MemoryStore

PREFIX = "rspamd-llm:1:"
"""Of all our keys.  The number is the version of what they hold: daemons with others share
nothing."""

CONNECTIONS = 8
"""Connections at most: a command takes 0.2 ms, so that these do more than the loop that asks."""

READ_SECONDS = 0.1
"""Seconds for an answer, as for the SQLite file: if it takes longer, it is faster to do without."""

CONNECT_SECONDS = 1.0
"""Seconds to connect: TLS with a password and a database number takes seven ways there and back,
each shorter than READ_SECONDS where the store is of use at all."""

WAIT_SECONDS = 1.0
"""Seconds to wait for a connection that is free: 1,000 mails at once have theirs within 0.2 s."""

SLOW = 3
"""Commands without an answer, one after the other, until the server is left alone for a while: one
may be lost on the way, or our own loop was held up."""

RETRY = 10.0
"""Seconds after a failure until the server is tried again, by one of our commands alone: it is
back within that time when it was restarted, and each try may cost one mail a second."""

CLOSE_SECONDS = 1.0
"""Seconds to close the connections; serve.LAST_ANSWERS is twice that."""

LONGEST_CLAIM = 60.0
"""Seconds that a claim may live.  What lives longer under a claim's key is none, and replaced."""

# Each runs as one step at the server.  What is of another type than ours, or lives for ever, was
# put there by another program: it is replaced, never waited for.
_ADD = """
local count = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(count) ~= 'number' then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return {tonumber(ARGV[1]), tonumber(ARGV[2])}
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    left = tonumber(ARGV[2])
end
return {count, left}
"""
_CLAIM = """
local holder = redis.pcall('GETRANGE', KEYS[1], 0, 99)
if type(holder) == 'string' and holder ~= '' and holder ~= ARGV[1] then
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left <= tonumber(ARGV[3]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GETRANGE', KEYS[1], 0, 99) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_HOST = re.compile(r"[0-9a-z._:%-]+")
_DATABASE = re.compile(r"|/[0-9]{0,4}")
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "it refuses the user or password of store.url, or wants one"),
    (NoPermissionError, "its rights (ACL) do not let the user do what the guide names"),
    (OutOfMemoryError, "its memory (maxmemory) is full, and its policy is to drop nothing"),
    (ReadOnlyError, "it is a replica that takes no writes"),
    (BusyLoadingError, "it is loading its data"),
    (TimeoutError, "it does not answer in time"),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """Where a server is, and who we are there."""

    host: str
    port: int
    database: int
    is_tls: bool
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"valkey{'s' if self.is_tls else ''}://{host}:{self.port}/{self.database}"


class ValkeyStore:
    """In a server, with a MemoryStore before it that also serves while the server fails.

    The memory holds what was put here, for as long as it was put for, so that what others put or
    prolong is seen when ours has expired.  Raises ValueError for a URL that is of no use.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._address = _address(url)
        self._front = MemoryStore(clock=clock)
        self._pool = _pool(self._address)
        self._holder = secrets.token_hex(16)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._fault = ""
        self._retry_at = 0.0
        self._slow = 0
        self._slow_since = 0.0

    @property
    def fault(self) -> str:
        """See Store."""
        return self._fault

    async def get(self, kind: str, key: str) -> str | None:
        """See Store."""
        known = await self._front.get(kind, key)
        if known is not None:
            return known
        # A part of it, as what another program put there may be of any length: no character has
        # more than four bytes.
        answer = await self._ask("GETRANGE", _name(kind, key), 0, 4 * ENTRY_LIMIT)
        try:
            text = answer.decode() if isinstance(answer, bytes) else ""
        except UnicodeDecodeError:
            return None
        return text if text and fits(key, text) else None

    async def put(self, kind: str, key: str, value: str, ttl: float) -> None:
        """See Store."""
        await self._front.put(kind, key, value, ttl)
        if fits(key, value):
            await self._ask("SET", _name(kind, key), value, "PX", _milliseconds(ttl))

    async def add(self, kind: str, key: str, amount: int, ttl: float) -> int:
        """See Store.  The server's count or ours since the start, whichever has seen more."""
        here = await self._front.add(kind, key, amount, ttl)
        answer = await self._ask("EVAL", _ADD, 1, _name(kind, key), amount, _milliseconds(ttl))
        match answer:
            case [int(there), int(left)] if there > here:
                await self._front.put(kind, key, str(there), left / 1_000)
                return there
        return here

    async def claim(self, kind: str, key: str, seconds: float) -> bool:
        """See Store."""
        lives, longest = _milliseconds(min(seconds, LONGEST_CLAIM)), _milliseconds(LONGEST_CLAIM)
        name = _claim_name(kind, key)
        answer = await self._ask("EVAL", _CLAIM, 1, name, self._holder, lives, longest)
        return bool(answer != 0)

    async def release(self, kind: str, key: str) -> None:
        """See Store."""
        await self._ask("EVAL", _RELEASE, 1, _claim_name(kind, key), self._holder)

    async def close(self) -> None:
        """See Store."""
        self._fault, self._retry_at = "closed", math.inf
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.aclose()
        await self._front.close()

    async def _ask(self, *command: str | int) -> Any:
        """The server's answer to a command; None where that failed, or took too long."""
        try:
            encoded = [part.encode() if isinstance(part, str) else part for part in command]
        except UnicodeEncodeError:
            return None  # a lone surrogate
        if self._fault and not await self._is_back():
            return None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            return None
        try:
            return None if self._fault else await self._answer(*encoded)
        finally:
            self._places.release()

    async def _is_back(self) -> bool:
        """Whether a server that failed takes writes again, as far as it is time to try."""
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + RETRY
        answer = await self._answer(b"SET", f"{PREFIX}try".encode(), b"1", b"PX", 1_000)
        if answer is None or self._retry_at == math.inf:  # closed meanwhile
            return False
        self._fault = ""
        _log.info("the store %s works again", self._address)
        return True

    async def _answer(self, *command: bytes | int) -> Any:
        # Not by way of the client that comes with the package, nor with its own time limits: under
        # Python 3.11 its asyncio.wait_for may swallow a cancellation, and our deadline with it.
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  a server that speaks rubbish brings about any
            self._give_up(error)
            return None
        began = time.monotonic()
        try:
            async with asyncio.timeout(READ_SECONDS):
                await connection.send_command(*command)
                answer = await connection.read_response()
        except TimeoutError as error:
            self._was_slow(error, began)
            return None
        except Exception as error:  # noqa: BLE001
            # That a key holds another type says nothing of the next.
            if not str(error).startswith("WRONGTYPE"):
                self._give_up(error)
            return None
        finally:
            await self._pool.release(connection)
        self._slow = 0
        return answer

    def _was_slow(self, error: TimeoutError, began: float) -> None:
        """One that began before the last was counted ran beside it, and is the same trouble."""
        if began < self._slow_since:
            return
        self._slow_since = time.monotonic()
        self._slow += 1
        if self._slow >= SLOW:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._slow = 0
        self._retry_at = max(self._retry_at, time.monotonic() + RETRY)
        if not self._fault:
            self._fault = _cause(error)
            _log.warning(
                "the store %s fails: %s; memory serves until it works", self._address, self._fault
            )


def _address(url: str) -> _Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", 6379 if parts.port is None else parts.port
        is_good = port > 0 and not parts.query and not parts.fragment
    except ValueError:
        is_good = False  # its text may hold the password
    if not is_good or not _HOST.fullmatch(host) or not _DATABASE.fullmatch(parts.path):
        raise ValueError(
            "the URL of the store is of no use; it is "
            "valkey://[[user]:password@]host[:port][/number], with signs such as / # ? @ % in user "
            "and password written as %2F %23 %3F %40 %25"
        )
    return _Address(
        host=host,
        port=port,
        database=int(parts.path[1:] or 0),
        is_tls=parts.scheme in {"valkeys", "rediss"},
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _pool(address: _Address) -> ConnectionPool:
    return ConnectionPool(
        connection_class=SSLConnection if address.is_tls else Connection,
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.user,
        password=address.password,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        # What Redis 5 and later and every Valkey know, and no words about ourselves.
        protocol=2,
        driver_info=None,
    )


def _name(kind: str, key: str) -> str:
    return f"{PREFIX}{kind}:{key}"


def _claim_name(kind: str, key: str) -> str:
    return f"{PREFIX}{kind}.claim:{key}"


def _milliseconds(seconds: float) -> int:
    return max(1, int(1_000 * seconds))


def _cause(error: Exception) -> str:
    """What is wrong, in no words of the server's: it may repeat a password that it was given."""
    for kind, cause in _CAUSES:
        if isinstance(error, kind):
            return cause
    if isinstance(error, ResponseError):
        code = re.match("[A-Z]{3,20}", str(error))
        return f"it answers with an error ({code[0] if code else 'unknown'})"
    if isinstance(error, ServerConnectionError | OSError):
        return str(error)[:200] or type(error).__name__
    return "it does not speak the protocol of Redis"
