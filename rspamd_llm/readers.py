"""Which process reads which mail: Message -> Reading, a few at a time.

Lives in the core's asyncio loop.  What may not live here: the processes themselves (nursery.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rspamd_llm import nursery
from rspamd_llm.domain import Failure, Message, Reading, ReadingError
from rspamd_llm.nursery import CPU_SECONDS, Nursery

LEAST, MOST = 2, 8
"""Readers: one for each core, but two where there is one, so that a mail that takes long does not
stand in the others' way."""

PATIENCE = 60.0
"""Seconds for an answer, then the reader is given up: on a machine so busy that ten seconds of CPU
take longer than this, no mail is judged in time anyway."""

ANSWER_BYTES = 20_000_000
"""Bytes of an answer: texts of 1 MB of mail may be there twice, at up to four bytes a sign."""

IDLE = 10.0
"""Seconds after which a reader that has nothing to do is ended, but for one: each has 10 MB of its
own, and a new one is there within 10 ms."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reader:
    incoming: asyncio.StreamReader
    outgoing: asyncio.StreamWriter
    idle_since: float = 0.0


class Readers:
    """Reads mails in processes of their own; closed with `close`."""

    def __init__(self, source: Nursery, *, lost: Callable[[], None]) -> None:
        """`lost` is called when the nursery is gone, and no new reader can be had."""
        self._nursery = source
        self._slots = asyncio.Semaphore(min(max(LEAST, os.cpu_count() or 1), MOST))
        self._idle: list[_Reader] = []
        self._exchanges: set[asyncio.Task[Reading | None]] = set()
        self._on_lost = lost
        self._retirement: asyncio.TimerHandle | None = None
        self._retire()
        asyncio.get_running_loop().add_reader(source.fileno(), self._notice_loss)

    async def close(self) -> None:
        """Ends the readers and the nursery."""
        self._forget_nursery()
        if self._retirement is not None:
            self._retirement.cancel()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        for reader in self._idle:
            reader.outgoing.close()
        await asyncio.to_thread(self._nursery.close)

    async def read(self, message: Message) -> Reading | None:
        """A message read; None where there is nothing to judge.

        Raises ReadingError.  One who is cancelled waits no more; the reader goes on to its end.
        """
        await self._slots.acquire()
        exchange = asyncio.create_task(self._exchange(message))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._ended)
        return await asyncio.shield(exchange)

    def _ended(self, exchange: asyncio.Task[Reading | None]) -> None:
        self._exchanges.discard(exchange)
        self._slots.release()
        if not exchange.cancelled():
            exchange.exception()  # nobody may be there any more to take it

    async def _exchange(self, message: Message) -> Reading | None:
        began = time.monotonic()
        reader = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader = self._idle.pop() if self._idle else await self._hired()
                reader.outgoing.write(nursery.request(message))
                size = nursery.length(await reader.incoming.readexactly(nursery.HEAD))
                if size > ANSWER_BYTES:
                    raise ReadingError(Failure.INTERNAL, "a reader says too much")
                read = nursery.answer(await reader.incoming.readexactly(size))
        except (OSError, EOFError) as error:
            took_long = time.monotonic() - began >= CPU_SECONDS
            raise ReadingError(
                Failure.TIMEOUT if took_long else Failure.INTERNAL,
                "reading the mail took too long" if took_long else "reading the mail failed",
            ) from error
        else:
            reader.idle_since = time.monotonic()
            self._idle.append(reader)
            reader = None
            return read
        finally:
            if reader is not None:
                reader.outgoing.close()

    def _retire(self) -> None:
        """Ends readers that were idle for long.  The one that was used last is taken first, so that
        the first has been idle for longest."""
        self._retirement = asyncio.get_running_loop().call_later(IDLE, self._retire)
        now = time.monotonic()
        while len(self._idle) > 1 and now - self._idle[0].idle_since >= IDLE:
            self._idle.pop(0).outgoing.close()

    async def _hired(self) -> _Reader:
        return _Reader(*await asyncio.open_unix_connection(sock=self._nursery.hire()))

    def _notice_loss(self) -> None:
        _log.error("the process that mail readers come from has ended")
        self._forget_nursery()
        self._on_lost()

    def _forget_nursery(self) -> None:
        asyncio.get_running_loop().remove_reader(self._nursery.fileno())
