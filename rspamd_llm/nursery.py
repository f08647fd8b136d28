"""The processes that read mail, with next to nothing that hostile mail could make use of.

What may not live here: how mail is read (reading.py), and which process reads which (readers.py).

The nursery is a copy of the daemon from before its first thread, for a process with threads cannot
be copied safely, and from before it read any secret.  It forks a reader each time it is asked to.
A reader has one connection, to the core, and no other descriptor can be had: neither files nor
network.  The kernel bounds its memory, and its CPU time for each mail.  What it says is data, which
is checked as it is decoded.
"""

from __future__ import annotations

import contextlib
import encodings
import gc
import importlib
import os
import pkgutil
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from rspamd_llm import reading
from rspamd_llm.domain import Failure, Message, Reading, ReadingError

CPU_SECONDS = 10.0
"""What a reader has for a mail, in seconds of CPU: 1 MB of the worst known takes one."""

MEMORY = 500_000_000
"""Bytes that a reader may have beyond what it begins with: the worst known mail of 1 MB takes a
fifth."""

_HEAD = struct.Struct("!I")
_messages = msgspec.msgpack.Decoder(Message)
_readings = msgspec.msgpack.Decoder(Reading | None)
_encoder = msgspec.msgpack.Encoder()

HEAD = _HEAD.size
"""Bytes that stand before each packet: its length."""


class Nursery:
    """Where readers come from.

    To be made before the first thread starts, and before a secret is read: a copy would have it.
    """

    def __init__(self) -> None:
        reading.prepare()
        # What is there now stays as it is: neither side's collector shall touch, and thereby copy,
        # the pages that they share.
        gc.collect()
        gc.freeze()
        self._line, far = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _tend(far)
            finally:
                os._exit(1)
        far.close()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the nursery is gone."""
        return self._line.fileno()

    def hire(self) -> socket.socket:
        """The connection to a new reader.  Raises OSError where the nursery is gone."""
        near, far = socket.socketpair()
        with far:
            try:
                socket.send_fds(self._line, [b"\0"], [far.fileno()])
            except OSError:
                near.close()
                raise
        return near

    def close(self) -> None:
        """Ends the nursery; readers end with their connections."""
        self._line.close()
        os.waitpid(self._pid, 0)


def request(message: Message) -> bytes:
    """The packet that asks a reader for a Reading."""
    return _packet(_encoder.encode(message))


def length(head: bytes) -> int:
    """The length in bytes of what follows these HEAD bytes."""
    size: int = _HEAD.unpack(head)[0]
    return size


def answer(body: bytes) -> Reading | None:
    """What a reader said.  Raises ReadingError where an honest one would not say it."""
    try:
        found: Reading | None = _readings.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ReadingError(Failure.INTERNAL, "a reader said what is no reading") from error
    return found


def _packet(body: bytes) -> bytes:
    return _HEAD.pack(len(body)) + body


def _tend(line: socket.socket) -> NoReturn:
    """The nursery's life."""
    line = _alone_with(line)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # we end when the core does
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the readers
    _import_charsets()
    gc.freeze()
    while True:
        asked, descriptors, _, _ = socket.recv_fds(line, 1, 1)
        if not asked:
            os._exit(0)
        if os.fork() == 0:
            try:
                _serve(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(1)
        os.close(descriptors[0])


def _serve(line: socket.socket) -> NoReturn:
    """A reader's life."""
    line = _alone_with(line)
    _confine()
    while head := line.recv(HEAD, socket.MSG_WAITALL):
        body = line.recv(length(head), socket.MSG_WAITALL)
        # Its signal has no handler: it ends the process, in the midst of C code as well.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        said = _encoder.encode(reading.read(_messages.decode(body)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        line.sendall(_packet(said))
    os._exit(0)


def _alone_with(line: socket.socket) -> socket.socket:
    """Leaves no descriptor open but this one; it becomes the first after standard error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    # In two steps: it may have the number already.
    kept = os.dup(line.detach())
    os.dup2(kept, 3)
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor > 3:
            with contextlib.suppress(OSError):  # the list's own, closed by now
                os.close(descriptor)
    return socket.socket(fileno=3)


def _confine() -> None:
    """Gives up what reading does not need."""
    held = Path("/proc/self/status").read_text(encoding="ascii").partition("VmData:")[2].split()[0]
    memory = 1024 * int(held) + MEMORY
    for limit, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_NOFILE, 0),  # what is open stays open
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),  # a core would hold the mail
    ):
        resource.setrlimit(limit, (most, most))
    # An import would fail for want of a descriptor, in other words than those that are expected.
    sys.meta_path.clear()


def _import_charsets() -> None:
    """Imports all there are: a mail names them, and a reader can import nothing."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError, LookupError):  # some are of other systems
            importlib.import_module(f"encodings.{module.name}")
