"""Fetches Rspamd's history: from a file, from its controller, or from its Redis.

Its controller knows it wherever Rspamd keeps it; Redis has that of all its hosts.  The only
importer of zstandard, and one of two of redis.  What may not live here: what the bytes say
(rspamdhistory.py).
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import redis
import zstandard

from rspamd_llm import rspamdhistory
from rspamd_llm.allowed import without_login
from rspamd_llm.domain import RspamdLlmError
from rspamd_llm.rspamdhistory import NoHistoryError, RspamdHistory

FORM = re.compile(r"(?:https?://[^\s/?#@]+(?:/[^\s?#]*)?|rediss?://\S+|(?!\w+://).+)\Z")
"""What may be named: a controller, a Redis, or a file."""

SECONDS = 20.0
"""For one answer: a controller unpacks 10,000 rows of Redis in about 2 s, and answers no one else
meanwhile."""

HISTORY_BYTES = 200_000_000
"""Bytes of a history in JSON: 50,000 rows of 4 kB.  Rspamd keeps 200 rows by default (`nrows`)."""

LINE_BYTES = 1_000_000
"""Bytes of a log line; Rspamd itself cuts far below."""

ROWS = 50_000
"""Rows asked of one key in Redis, as many as HISTORY_BYTES holds."""

ROW_BYTES = 1_000_000
"""Bytes of a row once unpacked: a mail with a thousand recipients has 100 kB."""

KEYS = "rs_history*"
"""Of the lists in Redis: `rs_history`, the host's name, and `_zst` where rows are compressed
(https://rspamd.com/doc/modules/history_redis.html).  An administrator may have chosen another
`key_prefix`; the controller knows it."""

_COMPRESSED = b"_zst"


class UnreachableError(RspamdLlmError):
    """Rspamd's history cannot be had; the text says why, and what to do."""


def fetch(source: str, password: str = "") -> RspamdHistory:
    """The history of a file, a controller (`http://127.0.0.1:11334`) or a Redis
    (`redis://127.0.0.1:6379/0`).

    The password is the controller's; that of a Redis stands in its URL.  Raises UnreachableError.
    """
    try:
        if source.startswith(("http://", "https://")):
            return rspamdhistory.from_json(_asked(source, password))
        if source.startswith(("redis://", "rediss://")):
            return rspamdhistory.from_rows(_stored(source))
        with Path(source).open("rb") as file:
            return _read(file)
    except NoHistoryError as error:
        raise UnreachableError(f"{without_login(source)}: {error}") from error
    except OSError as error:
        cause = error.strerror or str(error) or type(error).__name__
        raise UnreachableError(f"{without_login(source)}: {cause}") from error


# --- A file ---------------------------------------------------------------------------------


def _read(file: BinaryIO) -> RspamdHistory:
    """A saved answer or a log, told apart by the first sign.  It may be a pipe."""
    first = file.readline(LINE_BYTES)
    while first and not first.strip():
        first = file.readline(LINE_BYTES)
    if first.lstrip()[:1] not in {b"{", b"["}:
        return rspamdhistory.from_log(_lines(first, file))
    data = first + file.read(HISTORY_BYTES + 1)
    if len(data) > HISTORY_BYTES:
        raise NoHistoryError(f"it has more than {HISTORY_BYTES:,} bytes")
    return rspamdhistory.from_json(data)


def _lines(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    yield first
    while line := file.readline(LINE_BYTES):
        yield line


# --- The controller -------------------------------------------------------------------------


def _asked(url: str, password: str) -> bytes:
    parts = urlsplit(url)
    headers = {"Connection": "close"} | ({"Password": password} if password else {})
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            trusted = ssl.create_default_context()
            connection = http.client.HTTPSConnection(parts.netloc, timeout=SECONDS, context=trusted)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    except http.client.InvalidURL as error:
        raise UnreachableError(f"{url}: {error}") from error
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/history", headers=headers)
        answer = connection.getresponse()
        body = answer.read(HISTORY_BYTES + 1)
    except http.client.HTTPException as error:
        raise UnreachableError(f"{url}: no answer in HTTP") from error
    finally:
        connection.close()
    if answer.status in {401, 403}:
        raise UnreachableError(
            f"{url}: Rspamd's controller wants its password, or another one: write it to a file"
            " and name that in [rspamd] password_file, or add this machine to the controller's"
            " secure_ip"
        )
    if answer.status != 200:
        raise UnreachableError(
            f"{url}: status {answer.status}; the controller's address is wanted, by default"
            " http://127.0.0.1:11334"
        )
    if len(body) > HISTORY_BYTES:
        raise NoHistoryError(f"it has more than {HISTORY_BYTES:,} bytes")
    return body


# --- Redis ----------------------------------------------------------------------------------


def _stored(url: str) -> Iterator[bytes]:
    """The rows of all hosts."""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS
        ) as server:
            keys = sorted(server.scan_iter(match=KEYS, count=1_000, _type="list"))
            if not keys:
                raise UnreachableError(
                    f"{without_login(url)}: there is no list {KEYS} in it; is Rspamd's"
                    " history_redis on, and this its database?"
                )
            for key in keys:
                for row in server.lrange(key, 0, ROWS - 1):
                    yield _unpacked(row) if key.endswith(_COMPRESSED) else row
    except (redis.RedisError, ValueError) as error:
        raise UnreachableError(f"{without_login(url)}: {type(error).__name__}: {error}") from error


def _unpacked(row: bytes) -> bytes:
    """A row without its compression; what cannot be unpacked comes as it is, and is no JSON."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(row) as stream:
            return bytes(stream.read(ROW_BYTES))
    except zstandard.ZstdError:
        return row
