"""Cures for libmilter: its listening socket, worker pool and stop.

Knows nothing of mail.  Each cure names what it cures; they were measured with libmilter 8.17 and
pymilter 1.0.5.  The milter's own callbacks are in milter.py.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import Milter
import milter as _milter

from rspamd_llm.domain import AddressError
from rspamd_llm.stopping import block_signals

POKE_INTERVAL = 0.02
"""Seconds between pokes while callbacks wait, beside the one as each begins: that one alone leaves
sessions behind which are stranded later.  It costs a few per cent of a core."""

BACKLOG = 1_024
"""Connections that wait to be accepted; the kernel caps it at net.core.somaxconn."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the milter listens: a unix path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0
    family: socket.AddressFamily = socket.AF_UNIX

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address of `unix:/path` or `inet:PORT@HOST`.  Raises AddressError."""
        kind, _, rest = text.partition(":")
        if kind in ("unix", "local"):
            if len(os.fsencode(rest)) > 107:  # sizeof(sun_path) - 1 on Linux
                raise AddressError(f"milter.socket: {rest} is longer than 107 bytes")
            return cls(path=rest)
        match = re.fullmatch(r"(\d{1,5})(?:@(\S+))?", rest)
        if kind not in ("inet", "inet6") or match is None or not 0 < int(match.group(1)) < 65_536:
            raise AddressError(f"milter.socket: {text} is no address of the form inet:PORT@HOST")
        host = (match.group(2) or "").strip("[]") or ("::" if kind == "inet6" else "0.0.0.0")  # noqa: S104  what libmilter does without a host
        family = socket.AF_INET6 if kind == "inet6" else socket.AF_INET
        return cls(host=host, port=int(match.group(1)), family=family)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"{'inet6' if self.family == socket.AF_INET6 else 'inet'}:{self.port}@{self.host}"

    def _target(self) -> str | tuple[str, int]:
        if self.path:
            return self.path
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a wildcard is reached on loopback
        return own.get(self.host, self.host), self.port

    @contextlib.contextmanager
    def connected(self, timeout: float) -> Iterator[socket.socket]:
        """A connection to the address.  Raises OSError."""
        with socket.socket(self.family, socket.SOCK_STREAM) as line:
            line.settimeout(timeout)
            line.connect(self._target())
            yield line

    def knock(self, timeout: float = 1.0) -> None:
        """Connects to the address and closes at once.  Raises OSError."""
        with self.connected(timeout):
            pass

    def claim(self) -> None:
        """Makes sure that libmilter can bind the address; removes a dead process's unix socket.

        Raises AddressError with cause and cure; libmilter itself tells only syslog.
        """
        if self.path:
            self._claim_path()
            return
        try:
            with socket.socket(self.family, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((self.host, self.port))
                trial.listen(1)
        except OSError as error:
            cure = (
                "another program listens there: stop it, or choose another port"
                if error.errno == errno.EADDRINUSE
                else "choose an address of this machine and a port that this user may bind"
            )
            raise AddressError(f"milter.socket: {self}: {error.strerror}; {cure}") from error

    def _claim_path(self) -> None:
        path = Path(self.path)
        if not path.parent.is_dir():
            raise AddressError(f"milter.socket: the folder {path.parent} does not exist; create it")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise AddressError(f"milter.socket: the folder {path.parent} is not writable for us")
        if not path.exists():
            return
        if not path.is_socket():
            raise AddressError(f"milter.socket: {path} exists and is no socket; remove it")
        try:
            self.knock()
        except ConnectionRefusedError:
            _log.info("replacing the socket %s, left over from a dead process", path)
            path.unlink()
        except OSError as error:
            raise AddressError(f"milter.socket: {path}: {error.strerror}") from error
        else:
            raise AddressError(f"milter.socket: another process serves {path}; stop it first")


def _listening_descriptor(address: Address) -> int:
    """libmilter's listening descriptor, found among our own: it offers no way to ask for it."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as probe:
                if not probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                name = probe.getsockname()
        except OSError:
            continue
        if name == address.path if address.path else name[1:2] == (address.port,):
            return int(entry.name)
    raise AddressError(f"milter.socket: libmilter does not listen at {address}")


class Listener:
    """libmilter, listening and serving in a thread of its own until the process ends."""

    def __init__(self, address: Address) -> None:
        self._address = address
        # Where a connection reaches libmilter: its address, and another once that is given up.
        self._door = address
        self._descriptor = -1
        self._waiting = 0
        self._lock = threading.Lock()
        self._somebody_waits = threading.Event()
        self._begun = threading.Semaphore(0)
        self._closed = threading.Event()
        self._ended = threading.Event()
        self._failed = threading.Event()

    def open(
        self,
        factory: Callable[[], Milter.Base],
        *,
        name: str,
        mode: int,
        group: str,
        ended: Callable[[], None],
    ) -> None:
        """Binds the address and serves it.  `mode` and `group` are of a unix socket.

        `ended` is called if libmilter ends by itself.  Raises AddressError.
        """
        self._address.claim()
        Milter.factory = factory
        _register(name)
        _milter.setconn(str(self._address))
        _milter.setbacklog(BACKLOG)
        # The socket has its mode from the moment it exists: there is no time to slip in.
        before = os.umask(0o777 & ~mode) if self._address.path else None
        try:
            _milter.opensocket(True)
        except _milter.error as error:
            raise AddressError(
                f"milter.socket: {self._address}: libmilter cannot listen there; "
                "its reason is in the mail log"
            ) from error
        finally:
            if before is not None:
                os.umask(before)
        if self._address.path and group:
            _give_to_group(self._address.path, group)
        self._descriptor = descriptor = _listening_descriptor(self._address)
        if not self._address.path:
            # libmilter writes each edit and the answer apart, and Nagle's algorithm holds the last
            # one for the MTA's delayed ACK: 40 ms a mail.  Accepted sockets inherit this.
            with socket.socket(fileno=os.dup(descriptor)) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._serve, args=(ended,), name="libmilter", daemon=True).start()
        threading.Thread(target=self._poke, name="poke", daemon=True).start()

    @contextlib.contextmanager
    def long_callback(self) -> Iterator[None]:
        """To be held by a callback while it waits: sessions that its wait strands are freed.

        libmilter's pool hands ready sessions to idle workers and starts no new one for those that
        find none; they wait until some callback returns.  A new connection starts a worker, and a
        worker that ends its session takes over a stranded one.
        """
        with self._lock:
            self._waiting += 1
        self._somebody_waits.set()
        self._begun.release()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Stops accepting; what is being served goes on.  The address is free for another process.

        libmilter's own stop takes seconds and resets sessions; so its descriptor gets a dead
        listener in place of the living one.
        """
        self._closed.set()
        descriptor = self._descriptor
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor,
        ):
            dead.bind("")  # an abstract name of the kernel's choice
            dead.listen(BACKLOG)
            dead.setblocking(False)
            visitor.connect(dead.getsockname())
            # libmilter's poll holds the old listener until it returns.  A connection wakes it; it
            # then looks at what the descriptor is now, and returns only if that is ready: hence
            # the visitor.
            with socket.socket(fileno=os.dup(descriptor)):
                os.dup2(dead.fileno(), descriptor)
                with contextlib.suppress(OSError):
                    self._address.knock()
            self._door = Address(path=os.fsdecode(dead.getsockname()))
        if self._address.path:
            Path(self._address.path).unlink(missing_ok=True)

    @property
    def ended(self) -> bool:
        """Whether libmilter ended before `close`: for a signal that it took, or by a failure."""
        return self._ended.is_set()

    @property
    def failed(self) -> bool:
        """Whether libmilter ended by a failure."""
        return self._failed.is_set()

    def _serve(self, ended: Callable[[], None]) -> None:
        block_signals()
        try:
            _milter.main()
        except _milter.error:
            if not self._closed.is_set():
                _log.error("libmilter ended by itself; its reason is in the mail log")
                self._failed.set()
        if not self._closed.is_set():
            # libmilter's thread for signals, just starting, takes one that comes then (9 of 400
            # stops within 2 ms of the start): it ends without an error, and so do we.
            self._ended.set()
            ended()

    def _poke(self) -> None:
        block_signals()
        while True:
            self._somebody_waits.wait()
            with self._lock:
                if self._waiting == 0:
                    self._somebody_waits.clear()
                    continue
            with contextlib.suppress(OSError):
                self._door.knock()
            self._begun.acquire(timeout=POKE_INTERVAL)


def macro(session: Milter.Base, name: str) -> str:
    """A macro's value, empty if the MTA sent none; U+FFFD for one that is no UTF-8."""
    try:
        return session.getsymval(name) or ""
    except UnicodeDecodeError:  # pymilter decodes it as strict UTF-8
        return "\N{REPLACEMENT CHARACTER}"


def _register(name: str) -> None:
    """What Milter.runmilter registers; that function also serves, in its caller's thread."""
    _milter.set_connect_callback(Milter.connect_callback)
    _milter.set_helo_callback(lambda ctx, host: ctx.getpriv().hello(host))
    _milter.set_envfrom_callback(lambda ctx, *args: ctx.getpriv().envfrom_bytes(*args))
    _milter.set_envrcpt_callback(lambda ctx, *args: ctx.getpriv().envrcpt_bytes(*args))
    _milter.set_header_callback(lambda ctx, name, value: ctx.getpriv().header_bytes(name, value))
    _milter.set_eoh_callback(lambda ctx: ctx.getpriv().eoh())
    _milter.set_body_callback(lambda ctx, chunk: ctx.getpriv().body(chunk))
    _milter.set_eom_callback(lambda ctx: ctx.getpriv().eom())
    _milter.set_abort_callback(lambda ctx: ctx.getpriv().abort())
    _milter.set_close_callback(Milter.close_callback)
    # An exception that escapes a callback must not defer mail; the default answers 451.
    _milter.set_exception_policy(Milter.CONTINUE)
    _milter.register(
        name,
        data=lambda ctx: ctx.getpriv().data(),
        unknown=lambda ctx, command: ctx.getpriv().unknown(command),
        negotiate=Milter.negotiate_callback,
    )


def _give_to_group(path: str, group: str) -> None:
    try:
        number = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        os.chown(path, -1, number)
    except KeyError as error:
        raise AddressError(f"milter.socket_group: there is no group {group}") from error
    except OSError as error:
        raise AddressError(
            f"milter.socket_group: {path} cannot be given to {group}: {error.strerror}; the "
            "daemon's user must be a member, or leave it empty and set Group= in the unit"
        ) from error
