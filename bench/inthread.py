"""A stand-in server that lives in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, TypeVar


class Server(Protocol):
    """Starts and ends in the loop that it is entered in."""

    def __aenter__(self) -> Coroutine[Any, Any, Any]: ...

    def __aexit__(self, *error: object) -> Coroutine[Any, Any, Any]: ...


T = TypeVar("T", bound=Server)


@contextlib.contextmanager
def in_thread(server: T, name: str) -> Iterator[T]:
    """The server, entered in a thread of that name, and left with the context."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
