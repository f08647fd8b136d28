"""The core: one thread that runs an asyncio loop, where all shared state lives without locks.

Other threads hand it coroutines.  What may not live here: anything that knows of mail.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Core:
    """A running loop in a thread of its own, a daemon thread: the process ends without it."""

    def __init__(self, name: str = "core") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Runs a coroutine in the core; the future tells its end and can cancel it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs a coroutine in the core and waits for it, at most `timeout` seconds."""
        return self.submit(work).result(timeout)

    def call(self, function: Callable[[], None]) -> None:
        """Calls a plain function in the core, soon."""
        self._loop.call_soon_threadsafe(function)
