"""Free TCP and UDP ports of 127.0.0.1. Nothing else may live here."""

from __future__ import annotations

import socket
import time

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot bind port 0 and tell us.

    Another process may take it before its user does. The kernel hands such ports out at random
    from tens of thousands, so that is rare enough for a test.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def wait_for_port(port: int, timeout: float) -> bool:
    """Waits until something accepts connections on the port; False when nothing does in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if answers(port):
            return True
        time.sleep(0.02)
    return False
