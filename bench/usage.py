"""What a running daemon has of the machine, also while its children come and go."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from bench import memory

TRIES, PAUSE = 10, 0.01
"""A child that ends while it is looked at spoils a look, and then the next is good."""


@dataclass(frozen=True)
class Usage:
    """MB of memory of a daemon with its children, and its own threads and descriptors."""

    memory: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Raises OSError or ValueError when it has ended."""
        folder = Path(f"/proc/{pid}")
        threads, descriptors = (len([*(folder / name).iterdir()]) for name in ("task", "fd"))
        return cls(memory_of(pid), threads, descriptors)


def memory_of(pid: int) -> float:
    """As bench.memory has it.  Raises OSError or ValueError when the daemon has ended."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError, ValueError):
            return memory.memory(pid)
        time.sleep(PAUSE)
    return memory.memory(pid)
