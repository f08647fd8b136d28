"""Signals: each ends the daemon, whoever of its threads it reaches, and whenever it comes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rspamd_llm.libmilter import Address

ROOT = Path(__file__).parent.parent
SECONDS = 20


def program(source: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_no_signal_is_lost_whatever_the_main_thread_is_at() -> None:
    # Another process sends them without a pause, so that one comes while the main thread goes into
    # its wait or out of it.  A threading.Event in Stop's place ends in a deadlock here.
    with program(
        """
        import os, signal, subprocess, sys
        from rspamd_llm.stopping import Stop
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sender = subprocess.Popen([sys.executable, "-c", f'''if True:
            import os, random, time
            while os.getppid() == {os.getpid()}:
                time.sleep(random.random() * 3e-4)
                os.kill({os.getpid()}, {signal.SIGTERM:d})
        '''])
        for _ in range(2000):
            stop = Stop()
            stop.take_signals()
            while not stop.wait(0.00001):
                pass
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            os.close(stop._reader), os.close(stop._writer)
        sender.kill()
        """
    ) as process:
        assert process.wait(60) == 0, process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait(number: signal.Signals) -> None:
    with program(
        """
        from rspamd_llm.stopping import Stop
        stop = Stop()
        stop.take_signals()
        print("ready", flush=True)
        while not stop.wait():
            pass
        print("stopped", flush=True)
        """
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        assert process.poll() is None
        process.send_signal(number)
        assert process.stdout.readline() == b"stopped\n"
        assert process.wait(SECONDS) == 0


def test_a_signal_that_libmilter_takes_ends_the_daemon_too() -> None:
    # Here none of our threads wants the signals, so that libmilter's own has to take them.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"inet:{probe.getsockname()[1]}@127.0.0.1"
    with program(
        """
        import os, sys, Milter
        from rspamd_llm import libmilter, stopping
        stopping.block_signals()
        stop = stopping.Stop()
        listener = libmilter.Listener(libmilter.Address.parse(sys.argv[1]))
        listener.open(Milter.Base, name="test", mode=0o600, group="", ended=stop.ask)
        stop.wait()
        print(listener.ended, listener.failed, flush=True)
        os._exit(0)
        """,
        address,
    ) as process:
        until = time.monotonic() + SECONDS
        while True:
            try:
                Address.parse(address).knock()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout
        assert process.stdout.read() == b"True False\n"
        assert process.wait(SECONDS) == 0
