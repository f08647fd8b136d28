"""Other programs' answers: what one writes to its standard output, bounded in time and size.

What may not live here: what is asked of which program (postfix.py, headerchecks.py, rspamadm.py).
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time

SBIN = "/usr/sbin:/usr/local/sbin"
"""Where programs of the system are beside PATH, which often lacks these for who is not root."""


def find(name: str, *, beside: str = SBIN) -> str | None:
    """The path of a program in PATH, or in the folders beside it; None where there is none."""
    return shutil.which(name) or shutil.which(name, path=beside)


def output(*command: str, seconds: float, limit: int, told: str = "") -> str:
    """What a program writes to its standard output, of what it is told on its standard input.

    Raises OSError, TimeoutError among them, and ValueError where it fails or writes more than
    `limit` bytes.
    """
    until = time.monotonic() + seconds
    if not told:
        return _output(command, subprocess.DEVNULL, until, limit)
    with tempfile.TemporaryFile() as words:
        words.write(told.encode())
        words.seek(0)
        return _output(command, words.fileno(), until, limit)


def _output(command: tuple[str, ...], words: int, until: float, limit: int) -> str:
    with subprocess.Popen(
        command, stdin=words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        ready, said = select.poll(), b""
        ready.register(process.stdout, select.POLLIN)
        try:
            while len(said) <= limit:
                if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
                    raise TimeoutError("it takes too long")
                part = os.read(process.stdout.fileno(), limit)
                if not part:
                    break
                said += part
            else:
                raise ValueError("it says too much")
            if _status(process, until):
                raise ValueError(f"exit status {process.returncode}")
        finally:
            process.kill()
    return said.decode("utf-8", "replace")


def _status(process: subprocess.Popen[bytes], until: float) -> int:
    try:
        return process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError("it does not end") from None
