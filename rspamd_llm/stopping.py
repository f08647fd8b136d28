"""The signals that end the daemon: who receives them, and the main thread's wait for them.

Knows nothing of libmilter but its habit: it has a thread of its own that takes SIGTERM, SIGINT and
SIGHUP and stops at each.  The kernel hands a signal to the main thread first, if that has it
unblocked; hence the block everywhere else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def block_signals() -> None:
    """To be called in the main thread before any other starts, and by each thread of ours."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGHUP))


class Stop:
    """Whether the daemon is to end.  Asked for by a signal or from any thread.

    A pipe and no threading.Event: a handler runs in the main thread between any two steps of it,
    and would wait for ever for the lock that the event's own wait() holds just then.
    """

    def __init__(self) -> None:
        self._asked = False
        self._hung_up = False
        self.failed = False
        """Whether it is asked for because something failed that only a new start mends."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def take_signals(self) -> None:
        """To be called in the main thread before libmilter starts: the signals come here alone.

        SIGTERM and SIGINT ask for the stop; SIGHUP is ignored for now.
        """
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: self.ask())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Written whichever thread a signal interrupts: the main thread wakes for each.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, signal.SIGHUP))

    def take_hangups(self) -> None:
        """To be called once libmilter has started: SIGHUP wakes `wait`, and `hung_up` tells of it.

        Ignored before, as it then reaches nobody, and libmilter's own thread would stop for it.
        """
        signal.signal(signal.SIGHUP, lambda _number, _frame: self._hang_up())

    def hung_up(self) -> bool:
        """Whether a SIGHUP has come since this was asked last."""
        told, self._hung_up = self._hung_up, False
        return told

    def _hang_up(self) -> None:
        self._hung_up = True

    def ask(self, *, failed: bool = False) -> None:
        """The daemon is to end; with `failed` so that it is started anew."""
        self.failed |= failed
        self._asked = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until the stop is asked for; False when the time ran out, or something woke us."""
        if not self._asked:
            waiting = select.poll()
            waiting.register(self._reader, select.POLLIN)
            waiting.poll(None if seconds is None else seconds * 1000)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 512)
        return self._asked
