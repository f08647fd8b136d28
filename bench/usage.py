"""What a running daemon has of the machine, also while its children come and go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.memory import memory


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
        return cls(memory(pid), threads, descriptors)
