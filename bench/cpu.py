"""CPU time as the kernel counts it (proc(5)): of a process with its children, and of the cores."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds; what the kernel counts in."""

# Columns of /proc/PID/stat from the state on, and of a line of /proc/stat.
_OWN_AND_WAITED_FOR = slice(11, 15)
_ALL, _IDLE = slice(0, 8), slice(3, 5)


@dataclass(frozen=True)
class Cores:
    """Seconds of the cores that this process may use, since the machine started. `whole` counts
    also what the hypervisor took."""

    whole: float
    idle: float

    @classmethod
    def now(cls) -> Cores:
        return cls.read(Path("/proc/stat").read_text(), os.sched_getaffinity(0))

    @classmethod
    def read(cls, text: str, cores: set[int]) -> Cores:
        """From the text of /proc/stat."""
        names = {f"cpu{core}" for core in cores}
        lines = [line.split() for line in text.splitlines()]
        ticks = [[int(word) for word in words] for name, *words in lines if name in names]
        return cls(
            whole=TICK * sum(sum(one[_ALL]) for one in ticks),
            idle=TICK * sum(sum(one[_IDLE]) for one in ticks),
        )

    def __sub__(self, before: Cores) -> Cores:
        return Cores(self.whole - before.whole, self.idle - before.idle)


def seconds(pid: int) -> float:
    """What a process has used so far, with all below it, those that ended among them."""
    return sum(_seconds(one) for one in (pid, *_below(pid)))


def read(text: str) -> float:
    """Seconds from the text of /proc/PID/stat: a process's own, and of children that it waited
    for."""
    # The program's name stands in parentheses and may hold anything.
    columns = text.rpartition(")")[2].split()
    return TICK * sum(int(column) for column in columns[_OWN_AND_WAITED_FOR])


def _seconds(pid: int) -> float:
    with contextlib.suppress(OSError):  # it has ended: its parent has its time
        return read(Path(f"/proc/{pid}/stat").read_text())
    return 0.0


def _below(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_below(int(child))]
    return found
