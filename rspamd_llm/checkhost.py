"""What `check` finds on this machine: keys, files and folders, the daemon's port, room, the clock.

What may not live here: other daemons of the machine (checkmail.py, checkrspamd.py), what is asked
of model servers and sources (checkup.py), and the table (check.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rspamd_llm import access, clock, keys
from rspamd_llm.access import User
from rspamd_llm.config import Config
from rspamd_llm.domain import AddressError, ConfigError
from rspamd_llm.libmilter import Address
from rspamd_llm.results import Result, failed, ok, warning
from rspamd_llm.watchdog import shake_hands

DAEMON = "rspamd-llm"
"""The daemon's user, as systemd/rspamd-llm.sysusers makes it."""

HANDSHAKE_SECONDS = 5.0
"""For the daemon to shake hands, which takes it a millisecond; it may be busy."""

FREE_BYTES = 100_000_000
"""What is to be free for the daemon's files: about what the store comes to once it is full
(store.sqlite.FILE_ROWS), so that it can grow to there."""

CLOCK_SECONDS = 60.0
"""How far clocks may be apart: a fifteenth of the 900 s for which a verdict is good (MAX_AGE in
conf/rspamd/rspamd_llm.lua), and far above what a slow answer or an idle NTP makes of it."""


def key(config: Config) -> Result:
    """The daemon's key file."""
    try:
        found = keys.load(Path(config.trust.key_file))
    except ConfigError as error:
        return failed(
            "key",
            str(error),
            "make the file and let Rspamd and this daemon read it: `rspamd-llm init`",
        )
    return ok(
        "key", f"{len(found)} in {config.trust.key_file}; key id {keys.key_id(found[0])} signs"
    )


def socket(config: Config) -> Result:
    """Whether a milter answers where the daemon is to listen."""
    where = config.milter.socket
    try:
        address = Address.parse(where)
        address.knock()
    except AddressError as error:
        return failed("socket", str(error), "correct it")
    except PermissionError:
        return failed(
            "socket",
            f"we may not connect to {where}",
            "run `rspamd-llm check` as root, or as a user of the socket's group",
        )
    except OSError as error:
        return failed(
            "socket",
            f"nobody answers at {where}: {error.strerror or error}",
            "start the daemon: `systemctl start rspamd-llm`, or `rspamd-llm serve`",
        )
    try:
        shake_hands(address, HANDSHAKE_SECONDS)
    except OSError as error:
        return failed(
            "socket",
            f"what listens at {where} does not speak as a milter does: {error}",
            "another program listens there (`ss -lxtp` names it): stop it, or choose another"
            " milter.socket here and in Postfix; if it is the daemon, it hangs: restart it",
        )
    return ok("socket", f"answers at {where}")


def daemon_user(config: Config, *, is_running: bool) -> User | None:
    """As whom the daemon runs, or is to run; None where nobody can tell."""
    if is_running:
        running = access.listener(Address.parse(config.milter.socket))
        if running is not None:
            return running
    return access.user(DAEMON)


def permissions(config: Config, user: User | None, *, is_running: bool) -> list[Result]:
    """Files that the daemon is to read and may not.

    One that runs has read them, so that it fails at its next start, or reload.
    """
    if user is None:
        return []
    result = warning if is_running else failed
    when = "the daemon runs, but would not start again" if is_running else "the daemon cannot start"
    return [
        result(
            "permissions",
            f"{name}: {refusal}: {when}",
            f"let it: chown {user.name} {path}, or a group of its own and chmod 640",
        )
        for name, path in _read_files(config)
        if (refusal := access.refusal(user, Path(path), access.READ))
    ]


def _read_files(config: Config) -> Iterator[tuple[str, str]]:
    files = (
        ("trust.key_file", config.trust.key_file),
        ("llm.api_key_file", config.llm.api_key_file),
        ("prompt.file", config.prompt.file),
        ("search.api_key_file", config.search.api_key_file),
        ("gate.allow_file", config.gate.allow_file),
        ("gate.optout_file", config.gate.optout_file),
        ("rspamd.password_file", config.rspamd.password_file),
        ("metrics.token_file", config.metrics.token_file),
    )
    return ((name, path) for name, path in files if path)


def room(config: Config, user: User | None) -> list[Result]:
    """The folders in which the daemon keeps its files: there, writable, and with room."""
    files: dict[Path, list[tuple[str, Path]]] = {}
    if config.store.url.startswith("sqlite://"):
        path = Path(config.store.url.removeprefix("sqlite://"))
        files.setdefault(path.parent, []).append(("store.url", path))
    if config.history.keep != "none":
        path = Path(config.history.file)
        files.setdefault(path.parent, []).append(("history.file", path))
    return [_room(folder, named, user) for folder, named in files.items()]


def _room(folder: Path, named: list[tuple[str, Path]], user: User | None) -> Result:
    names = " and ".join(name for name, _ in named)
    who = user.name if user else DAEMON
    try:
        state = os.statvfs(folder)
    except OSError as error:
        return warning(
            "room",
            f"{names}: {folder}: {error.strerror}: the daemon remembers nothing from one start to"
            " the next",
            f"systemd makes {Path('/var/lib') / DAEMON} at the daemon's start; another:"
            f" install -d -o {who} -g {who} -m 750 {folder}",
        )
    refusals = [access.refusal(user, folder, access.WRITE | access.PASS)] if user else []
    if user:
        there = [path for _, path in named if path.exists()]
        refusals += [access.refusal(user, path, access.READ | access.WRITE) for path in there]
    refused = next(filter(None, refusals), "")
    if refused:
        return warning("room", f"{names}: {refused}", f"chown -R {who}: {folder}")
    free = state.f_bavail * state.f_frsize
    told = f"{names}: {folder} has {free / 1e6:.0f} MB free"
    if free < FREE_BYTES:
        return warning(
            "room",
            f"{told}: where it is full nothing is remembered, and mail is judged anew",
            f"make room, {FREE_BYTES / 1e6:.0f} MB and more, or put the files elsewhere ({names})",
        )
    return ok("room", told)


def clocks(config: Config) -> list[Result]:
    """Our clock beside those of the hosts that we ask anyway."""
    asked = [config.rspamd.url.rstrip("/") + "/ping"] if config.rspamd.url else []
    if config.llm.engine == "openai":
        urls = config.llm.base_url
        listed = (urls,) if isinstance(urls, str) else urls
        asked += [url.rstrip("/") + "/models" for url in listed]
    told = [(url, ahead) for url in asked if (ahead := clock.ahead(url)) is not None]
    return [
        warning(
            "clock",
            f"ours is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} that of {url}:"
            " Rspamd takes no verdict of which its own clock says that it is 900 s old or more, or"
            " of the future (LLM_FORGED, stale)",
            "set both by NTP: `timedatectl` tells whether this one is",
        )
        for url, ahead in told
        if abs(ahead) > CLOCK_SECONDS
    ] or [ok("clock", f"agrees with {url}") for url, _ in told]
