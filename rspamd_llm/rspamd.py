"""Rspamd, asked for its own opinion before the model is: Message -> Opinion.

With api.py the only importer of aiohttp, whose errors become ours here.  What may not live here:
what an opinion means (opinion.py).

The question is a scan (POST /checkv2, https://rspamd.com/doc/developers/protocol.html) of a mail
that Rspamd is to see again, as a milter, a moment later.  It must leave no trace:

- `Flags: no_log, no_stat` keeps it out of log, history and counters;
- `User-Agent: rspamc`, which names a scan by hand, keeps it out of greylisting, rate limits,
  reports for DMARC and what is collected of mail; the reputation of the client's address is then
  left out of the opinion;
- `X-GPT-Question` asks our plugin to see to the rest (learning, reputation, exporters), as only
  from within can all of it be known.  It says so in the answer; a Rspamd that does not is told of
  in the log, and its opinion is taken all the same.

`Settings` could name what to leave out, but takes the place of the administrator's own settings, or
is overruled by them.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import json
import logging
import math
import re
from collections.abc import Iterator
from typing import Any

import aiohttp

from rspamd_llm.breaker import Breaker
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Deadline, Envelope, Message, Opinion

SHARE = 3
"""The question takes at most one part in so many of the time that is left: the model needs the
rest."""

CONNECTIONS = 100
"""At once: Postfix's default process limit, as each of its processes has one mail at a time."""

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection; a lost first packet is sent again after 1 s."""

KEPT = 2.0
"""Seconds that an idle connection is kept, where Rspamd keeps them at all (3.4 closes each): short,
as a question sent in the moment in which it closes would be lost."""

ANSWER_BYTES = 1_000_000
"""Bytes read of an answer: ten times one with a hundred symbols, their options and URLs."""

SYMBOLS = 1_000
"""Symbols read of an answer: all that a stock Rspamd knows are 600."""

NAME_LIMIT = 64
"""Characters of a symbol or an action; the longest stock symbol has 40."""

RECIPIENTS = 50
"""Recipients told.  Rspamd's HTTP parser takes 80 kB of header, a path has 256 bytes at most
(RFC 5321 4.5.3.1.3)."""

VALUE_LIMIT = 512
"""Characters of a value in the request's header: twice a path."""

HANG = 2.0
"""Seconds that a question must have had before its end counts against Rspamd: one that began with
less left says nothing of it.  DNS included, most scans take less."""

PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds for which a Rspamd that fails is not asked, at first and at most: one that was restarted
is missed for a minute."""

QUESTION = "X-GPT-Question"
"""The request header by which our plugin knows the question."""

ASIDE = "rspamd_llm"
"""The key among an answer's `messages` by which our plugin says that it kept the scan aside."""

_log = logging.getLogger(__name__)

_QUEUE_ID = re.compile(r"[A-Za-z0-9]{1,64}")
# What parts a list of addresses, or opens something that an address leaves open.
_UNSAFE = frozenset(',;"\\<>()')


class _NoOpinionError(Exception):
    """The answer is none; the text says why, without any text of the mail."""


class Rspamd:
    """Asks one Rspamd.  Lives in one asyncio loop; closed with `close`.

    `url` is that of its normal worker, `timeout` the seconds that it has for a mail.  Counts
    `rspamd` by outcome: answered, failed, late, refused (it failed too often), and cut (of the mail
    not all was kept, so that no signature could be right).
    """

    def __init__(self, url: str, password: str, timeout: float, counters: Counters) -> None:
        self._url = url.rstrip("/") + "/checkv2"
        self._password = password
        self._timeout = timeout
        self._counters = counters
        self._breaker = Breaker("Rspamd", pause=PAUSE, longest_pause=LONGEST_PAUSE)
        self._session: aiohttp.ClientSession | None = None
        self.is_aside = True
        """Whether Rspamd keeps our questions aside, as far as its answers tell."""
        self.fault = ""
        """Why there was no opinion the last time that there was none."""

    def use(self, password: str) -> None:
        """Shows this password from now on."""
        self._password = password

    @property
    def state(self) -> str:
        """`ok`, or `open` while it fails and is not asked."""
        return "open" if self._breaker.is_open else "ok"

    async def opinion(self, message: Message, deadline: Deadline) -> Opinion | None:
        """What Rspamd makes of a message; None where it does not say so in time.

        Raises nothing but CancelledError.
        """
        if message.size > len(message.data):
            self._count("cut")
            return None
        if self._breaker.refuses:
            self._count("refused")
            return None
        seconds = min(self._timeout, deadline.left() / SHARE)
        is_telling = seconds >= min(self._timeout, HANG)

        def judge(error: BaseException) -> bool | None:
            if isinstance(error, TimeoutError):
                return True if is_telling else None
            return True if isinstance(error, Exception) else None

        try:
            with self._breaker.watching(judge):
                async with asyncio.timeout(seconds):
                    found = await self._ask(message)
        except TimeoutError:
            self.fault = "no answer in time"
            self._count("late")
            return None
        except Exception as error:  # noqa: BLE001  mail is judged without, whatever went wrong
            cause = str(error) if isinstance(error, _NoOpinionError) else type(error).__name__
            self.fault = cause
            _log.info("no opinion from Rspamd: %s", cause)
            self._count("failed")
            return None
        self._count("answered")
        return found

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _count(self, outcome: str) -> None:
        self._counters.add("rspamd", outcome=outcome)

    async def _ask(self, message: Message) -> Opinion:
        fields = [*_FIXED, *_envelope(message.envelope)]
        if self._password:
            fields.append(("Password", self._password))
        # In pieces, as a body in one would hold up the loop while it is written.
        data = io.BytesIO(message.data)
        async with self._connected().post(
            self._url, data=data, headers=fields, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                raise _NoOpinionError(f"it answered with status {answer.status}")
            document = _parsed(await _body(answer))
        was_aside, self.is_aside = self.is_aside, _was_aside(document)
        if was_aside and not self.is_aside:
            _log.warning(
                "Rspamd answers, but without our plugin of this version: it may learn from mail, "
                "and store of it, when it is asked and again when the mail comes"
            )
        return _understood(document)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEPT),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # Compressed answers could be of any size once unpacked.
                auto_decompress=False,
            )
        return self._session


_FIXED = (
    ("User-Agent", "rspamc"),
    ("Flags", "no_log,no_stat"),
    (QUESTION, "1"),
    ("Accept-Encoding", "identity"),
)


# --- The question ---------------------------------------------------------------------------


def _envelope(envelope: Envelope) -> Iterator[tuple[str, str]]:
    """The envelope as request headers; what cannot be sent as it is, is left out."""
    if _is_ip(envelope.client_address):  # a client of a unix socket has none
        yield "IP", envelope.client_address
    if _QUEUE_ID.fullmatch(envelope.queue_id):
        yield "Queue-Id", envelope.queue_id
    if _is_name(envelope.helo):
        yield "Helo", envelope.helo
    # A client without a confirmed name is `unknown` to Postfix, or its address in brackets.
    if _is_name(envelope.client_name) and not envelope.client_name.startswith("["):
        yield "Hostname", envelope.client_name
    if envelope.authenticated:
        yield "User", "authenticated"  # its name is not kept
    sender = _bare(envelope.sender)
    if not sender or _is_address(sender):
        yield "From", f"<{sender}>"
    for recipient in map(_bare, envelope.recipients[:RECIPIENTS]):
        if _is_address(recipient):
            yield "Rcpt", f"<{recipient}>"


def _bare(address: str) -> str:
    return address.strip().removeprefix("<").removesuffix(">")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a scope of our own machine's


def _is_name(text: str) -> bool:
    """Whether a text is a word that may stand in a header: U+FFFD was a byte that is no UTF-8."""
    return 0 < len(text) <= VALUE_LIMIT and text.isprintable() and not {" ", "\ufffd"} & set(text)


def _is_address(text: str) -> bool:
    return _is_name(text) and _UNSAFE.isdisjoint(text)


# --- The answer -----------------------------------------------------------------------------


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES:
            raise _NoOpinionError("its answer is far too long")
    return bytes(body)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _NoOpinionError("its answer is no JSON") from None
    if not isinstance(document, dict):
        raise _NoOpinionError("its answer is no JSON object")
    return document


def _was_aside(document: dict[str, Any]) -> bool:
    messages = document.get("messages")
    return isinstance(messages, dict) and ASIDE in messages


def _understood(document: dict[str, Any]) -> Opinion:
    action = document.get("action")
    if not isinstance(action, str) or not 0 < len(action) <= NAME_LIMIT:
        raise _NoOpinionError("its answer has no action")
    symbols = document.get("symbols", {})
    if not isinstance(symbols, dict) or len(symbols) > SYMBOLS:
        raise _NoOpinionError("its answer has no symbols, or too many")
    points = {name: _points(entry) for name, entry in symbols.items() if len(name) <= NAME_LIMIT}
    return Opinion(action=action, score=_points(document), symbols=points)


def _points(entry: object) -> float:
    """The points of the whole or of a symbol, a finite number.  Raises _NoOpinionError."""
    score = entry.get("score") if isinstance(entry, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise _NoOpinionError("its answer has no score")
    try:
        points = float(score)
    except OverflowError:
        points = math.inf
    if not math.isfinite(points):
        raise _NoOpinionError("its answer has a score that is no number")
    return points
