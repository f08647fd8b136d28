"""`rspamd-llm init`: a commented configuration and a verdict key; never overwrites.

It asks nothing: what can be found out is, and what is left to do is said.  Nothing is changed in
Postfix or Rspamd.  What may not live here: how things are found out (neighbours.py), and what is
said (whatnext.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rspamd_llm import commented, keys, neighbours, whatnext
from rspamd_llm import config as configs
from rspamd_llm.commented import Name
from rspamd_llm.config import Config, Gate, Llm
from rspamd_llm.domain import ConfigError
from rspamd_llm.whatnext import Found

FOLDER = Path("/etc/rspamd-llm")
"""Where the daemon looks for its configuration."""

KEY_NAME = "verdict.key"

DAEMON_USER = "rspamd-llm"
RSPAMD_GROUPS = ("_rspamd", "rspamd")
"""Debian's name of the group that Rspamd is in, and that of Rspamd's own packages."""


def init(directory: Path) -> int:
    """Writes what is not there yet and says what comes next.

    Raises ConfigError if the folder cannot be written.
    """
    found = Found(
        mta=neighbours.mta(),
        rspamd=neighbours.rspamd(),
        models=neighbours.ollama(neighbours.OLLAMA_PORT),
        mailcow=neighbours.mailcow(neighbours.MAILCOW),
    )
    path, key = directory / commented.NAME, (directory / KEY_NAME).absolute()
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True)
            directory.chmod(0o755)  # whatever the umask: Rspamd's user must pass
        _tell(path, written=_write_config(path, _values(found, key), _remarks(found)))
        _tell(key, written=_write_key(key))
    except OSError as error:
        fault = f"{error.filename or directory}: cannot be written: {error.strerror}"
        raise ConfigError(
            (f"{fault}; run it as root, or name a folder of yours with --dir",)
        ) from error
    try:
        config = configs.load(path)
    except ConfigError as error:
        config = Config()
        print(f"\n{error}; what follows is for the defaults")
    is_shared = _is_shared(Path(config.trust.key_file))
    for line in whatnext.lines(found, config, path, is_shared=is_shared):
        print(line)
    return 0


def _values(found: Found, key: Path) -> Mapping[Name, Any]:
    """What stands in the configuration in the place of a default."""
    values: dict[Name, Any] = {("trust", "key_file"): str(key)}
    if found.mta is not None and found.mta.domains:
        values["evidence", "own_domains"] = list(found.mta.domains)
    return values


def _remarks(found: Found) -> Mapping[Name, Sequence[str]]:
    """What stands beside a setting as a suggestion."""
    remarks: dict[Name, Sequence[str]] = {}
    if found.models and Llm().model not in found.models:
        remarks["llm", "model"] = [f"The Ollama here has {', '.join(found.models[:10])}."]
    if found.rspamd is not None and found.rspamd.scanner:
        remarks["rspamd", "url"] = [f'Here: url = "{found.rspamd.scanner}"']
    if found.mta is None:
        return remarks
    if found.mta.is_chrooted:
        remarks["milter", "socket"] = [
            "Postfix's smtpd is chrooted here: it only reaches unix sockets below"
            f" {found.mta.postfix.queue_directory}."
        ]
    if found.mta.maps:
        remarks["evidence", "own_domains"] = [
            f"Postfix keeps domains in maps, too ({', '.join(found.mta.maps)}): add them."
        ]
    if found.mta.hostname:
        remarks["evidence", "trusted_authserv"] = [
            f'Such as "{found.mta.hostname}", where a milter before this daemon writes that name.'
        ]
    further = [name for name in found.mta.networks if name not in Gate().skip_networks]
    if further:
        every = commented.literal([*Gate().skip_networks, *further[:20]]).replace("\n", "")
        remarks["gate", "skip_networks"] = [f"With Postfix's mynetworks: skip_networks = {every}"]
    return remarks


def _write_config(path: Path, values: Mapping[Name, Any], remarks: Mapping[Name, Any]) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(commented.filled(values, remarks))
    return True


def _write_key(path: Path) -> bool:
    written = True
    try:
        keys.create(path)
    except FileExistsError:
        written = False
    # The daemon owns the key, Rspamd's group reads it; also a kept one, made before they existed.
    own(path, user=DAEMON_USER)
    for group in reversed(RSPAMD_GROUPS):  # the first that is there stays
        own(path, group=group)
    return written


def _is_shared(path: Path) -> bool:
    """Whether a key is the daemon's, and readable for Rspamd's group and nobody else."""
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777 == keys.MODE and any(
            belongs(path, user=DAEMON_USER, group=group) for group in RSPAMD_GROUPS
        )
    return False


def own(path: Path, *, user: str = "", group: str = "") -> None:
    """Gives a file to a user or a group, where they exist and we may."""
    with contextlib.suppress(LookupError, OSError):
        if user:
            shutil.chown(path, user=user)
        if group:
            shutil.chown(path, group=group)


def belongs(path: Path, *, user: str, group: str = "") -> bool:
    """Whether a file is a user's, and a group's where one is named."""
    with contextlib.suppress(KeyError):  # a number without a name
        return path.owner() == user and group in ("", path.group())
    return False


def _tell(path: Path, *, written: bool) -> None:
    print(f"{'wrote' if written else 'kept '} {path}")
