"""systemd's watchdog, fed by proof of life: a real milter handshake with ourselves, and a word from
the core.  And the other messages to systemd (sd_notify(3)).

What may not live here: what is done when life ends; that is systemd's (WatchdogSec, Restart).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from rspamd_llm.libmilter import Address
from rspamd_llm.stopping import block_signals

SHARE = 3
"""Proofs of life in each of systemd's periods: one or two may come late on a busy machine."""

# SMFIC_OPTNEG of libmilter's mfdef.h: version 6, every action and every step offered.
_OPTNEG = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
_QUIT = struct.pack("!Ic", 1, b"Q")

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Tells systemd; nothing where it did not ask to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect("\0" + address[1:] if address.startswith("@") else address)
        told.send(state.encode())


def period() -> float:
    """Seconds in which systemd wants a sign of life; 0 where it wants none."""
    own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    told = os.environ.get("WATCHDOG_USEC", "")
    return int(told) / 1e6 if own and told.isdecimal() else 0.0


def shake_hands(address: Address, seconds: float) -> None:
    """Speaks to a milter as an MTA that connects and leaves.  Raises OSError if it does not answer.

    All of its way is walked: the listener, a worker, and the callback in Python.
    """
    until = time.monotonic() + seconds
    with address.connected(seconds) as line:
        line.sendall(_OPTNEG)
        head = b""
        while len(head) < 5:
            line.settimeout(max(0.001, until - time.monotonic()))
            part = line.recv(5 - len(head))
            if not part:
                raise ConnectionError("it closes the connection")
            head += part
        if head[4:] != b"O":
            raise ConnectionError("it answers with something else")
        line.sendall(_QUIT)


class Watchdog:
    """Feeds systemd's watchdog from a thread of its own, while there is life to prove."""

    def __init__(
        self,
        address: Address,
        touch: Callable[[], concurrent.futures.Future[None]],
        seconds: float,
    ) -> None:
        """`touch` asks the core for a word; `seconds` is systemd's period."""
        self._address = address
        self._touch = touch
        self._seconds = seconds / SHARE
        self._ended = threading.Event()

    def start(self) -> None:
        """Begins, where systemd has a watchdog at all."""
        if self._seconds > 0:
            threading.Thread(target=self._feed, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """From now on the address is given up, and there is no handshake: what ends us is systemd's
        TimeoutStopSec."""
        self._ended.set()

    def _feed(self) -> None:
        block_signals()
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._touch().result(self._seconds)
                shake_hands(self._address, self._seconds)
            except (OSError, concurrent.futures.TimeoutError) as error:
                if not self._ended.is_set():
                    _log.error("no sign of life: %s", error or type(error).__name__)
            else:
                notify("WATCHDOG=1")
            self._ended.wait(max(0.0, self._seconds - (time.monotonic() - began)))
