"""Waiting for what happens elsewhere: in another process, thread or task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SECONDS = 60.0
"""Until it counts as never: far above what anything takes on a busy machine."""

INTERVAL = 0.005
"""Seconds between two looks."""


async def eventually(holds: Callable[[], bool]) -> None:
    """Waits until something holds; fails where it never does."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110  nobody tells when it does
            await asyncio.sleep(INTERVAL)


def wait_until(holds: Callable[[], bool], *, pause: float = INTERVAL) -> None:
    """The same for those who run in no loop, with `pause` seconds between two looks."""
    give_up = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(pause)
