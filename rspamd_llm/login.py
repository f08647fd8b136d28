"""Who may look at the daemon's port: the token, the session that it buys, and the Host header.

Plain functions over strings.  What may not live here: the port (web.py).

On an address of the machine itself no token is needed, but then a page of somebody else's must not
read ours through the administrator's browser.  It can make its own name lead to 127.0.0.1 (DNS
rebinding), and then the browser says that name: so only the names of this machine are answered.
With a token that is no use to it, for the browser sends the session to no other name.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from rspamd_llm.domain import ConfigError
from rspamd_llm.running import address

TOKEN_LEAST = 16
"""Characters of a token at least: 64 bits of `openssl rand -hex 8`, which nobody guesses through a
port that takes a second for each wrong one."""

TOKEN_MOST = 1_000
"""Characters of a token at most: a header with more is refused before we see it."""

SESSION_SECONDS = 43_200
"""Seconds for which a browser need not tell the token again: half a day, one shift."""

SESSION_LONGEST = 100
"""Characters of what we give a browser: 10 digits, a dot and 64 digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Whom the port answers."""

    token: str = field(default="", repr=False)
    """Empty where none is needed."""
    is_here: bool = False
    """Only this machine reaches us: what programs ask for then needs no token."""
    names: frozenset[str] = frozenset()
    """What a browser may call us where no token is needed."""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """Signs sessions; new with each start, which ends them all."""

    def is_token(self, told: str) -> bool:
        """Whether this is the token; takes as long for one that is nearly right."""
        return bool(self.token) and hmac.compare_digest(_bytes(told), _bytes(self.token))

    def session(self, now: float) -> str:
        """What a browser shows instead of the token, for SESSION_SECONDS from `now`."""
        until = str(int(now) + SESSION_SECONDS)
        return f"{until}.{self._signature(until)}"

    def is_session(self, told: str, now: float) -> bool:
        """Whether this is a session of ours that has not ended."""
        until, _, signature = told[:SESSION_LONGEST].partition(".")
        right = hmac.compare_digest(_bytes(signature), _bytes(self._signature(until)))
        return right and now < int(until)

    def admits(self, authorization: str, session: str, now: float) -> bool:
        """Whether one with this Authorization header, or this session, may look."""
        if not self.token:
            return True
        scheme, _, told = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(told.strip()):
            return True
        return self.is_session(session, now)

    def admits_program(self, authorization: str, session: str, now: float) -> bool:
        """Whether one may have what is meant for programs: /metrics, /readyz."""
        return self.is_here or self.admits(authorization, session, now)

    def knows(self, host: str) -> bool:
        """Whether a Host header names us (RFC 9110 7.2), whatever port it says: there may be a
        tunnel."""
        return bool(self.token) or _name(host) in self.names

    def _signature(self, until: str) -> str:
        return hmac.new(self.secret, _bytes(until), hashlib.sha256).hexdigest()


def load(*, listen: str, page: bool, token_file: str) -> Login:
    """Whom a port at `metrics.listen` answers.

    Raises ConfigError where the token cannot be had, or a page that is not on the machine itself
    would need one.  The text never shows what stands in the file.
    """
    if not listen:
        return Login()
    host, _ = address(listen)
    is_here = ipaddress.ip_address(host).is_loopback
    token = _token(Path(token_file)) if token_file else ""
    if page and not token and not is_here:
        raise ConfigError(
            (
                f"metrics.page: {listen} is open to other machines, and the page needs a token"
                " there; write one with `openssl rand -hex 16` to a file and name it in"
                " metrics.token_file, or listen on 127.0.0.1",
            )
        )
    names = frozenset({"localhost", "127.0.0.1", "::1", host})
    return Login(token=token, is_here=is_here, names=names)


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(TOKEN_MOST + 100).decode("ascii", "replace").strip()
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o007:
        raise _refusal(path, f"is open to everyone; cure: chmod 640 {path}")
    if not TOKEN_LEAST <= len(text) <= TOKEN_MOST or not text.isascii() or not _is_one(text):
        raise _refusal(
            path,
            f"holds no token, which has {TOKEN_LEAST} to {TOKEN_MOST} ASCII characters and no"
            " spaces; make one with `openssl rand -hex 16`",
        )
    return text


def _bytes(text: str) -> bytes:
    """A text from a header, which may hold what is no UTF-8."""
    return text.encode("utf-8", "backslashreplace")


def _is_one(text: str) -> bool:
    return text.isprintable() and " " not in text


def _refusal(path: Path, text: str) -> ConfigError:
    return ConfigError((f"metrics.token_file: {path} {text}",))


def _name(host: str) -> str:
    """The host of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
