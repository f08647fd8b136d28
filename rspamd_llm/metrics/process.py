"""What the daemon's processes take: memory and threads, as /proc tells it (proc(5)).

What may not live here: anything of mail.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

DAEMON, READERS, HELPERS = "daemon", "readers", "helpers"
"""Kinds of processes: ourselves; copies of us, which read mail; other programs that we started (the
embedded engine, web searches)."""

OURS, LIBMILTER = "python", "libmilter"
"""Kinds of threads: those that Python began, and all others, which are libmilter's workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What is taken at one moment; what could not be read is left out."""

    memory: Mapping[str, int]
    """Bytes by kind of process, each page that several share counted once (Pss)."""
    threads: Mapping[str, int]
    """Threads of the daemon's process by kind."""


def footprint() -> Footprint:
    """What this process and those below it take.  Reads some files for each; raises nothing."""
    own = os.getpid()
    command = _command(own)
    memory: dict[str, int] = {}
    for pid in (own, *_below(own)):
        kind = READERS if _command(pid) == command else HELPERS
        # Who ends meanwhile counts for nothing.
        with contextlib.suppress(OSError, ValueError, IndexError):
            size = _proportional(pid)
            kind = DAEMON if pid == own else kind
            memory[kind] = memory.get(kind, 0) + size
    return Footprint(memory=memory, threads=_threads())


def _threads() -> dict[str, int]:
    # A thread of libmilter's that calls us becomes known to Python as a dummy.
    ours = {
        thread.native_id
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    }
    try:
        every = {int(task.name) for task in (PROC / "self/task").iterdir()}
    except OSError:
        return {}
    return {OURS: len(every & ours), LIBMILTER: len(every - ours)}


def _below(pid: int) -> Iterator[int]:
    """A process's children, and theirs."""
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)


def _command(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _proportional(pid: int) -> int:
    """Bytes of memory.  Raises OSError, or ValueError or IndexError of an unknown form."""
    told = (PROC / str(pid) / "smaps_rollup").read_text().partition("\nPss:")[2]
    return int(told.split()[0]) * 1024
