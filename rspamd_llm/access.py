"""Who may reach a file, by the modes of the file and of the folders above it.

Told without being that user, so that one who is root can ask for another.  What may not live here:
who should, and what is made of it.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from rspamd_llm.libmilter import Address

READ, WRITE, PASS = 4, 2, 1
"""Bits of a mode; a folder is passed, a file read or written, a socket connected to by WRITE."""

_WORDS = {READ: "read", WRITE: "write to", PASS: "pass through"}
_ACL = "system.posix_acl_access"
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class User:
    """One who wants to reach a file."""

    name: str
    uid: int
    gids: frozenset[int]


def user(name: str) -> User | None:
    """A user of this machine with all groups; None where there is none of that name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def listener(address: Address) -> User | None:
    """The user whose process listens at an address; None where that cannot be told."""
    try:
        uid = _peer(address) if address.path else _owner(address.port)
        return None if uid is None else user(pwd.getpwuid(uid).pw_name)
    except (OSError, KeyError, ValueError, IndexError):
        return None


def refusal(who: User, path: Path, bits: int) -> str:
    """Why a user may not reach a file, as a sentence; empty where he may, or nobody can tell.

    Root may.  Where an access list says more than the mode, that is taken for leave.
    """
    if who.uid == 0:
        return ""
    try:
        real = path.resolve(strict=True)
        for place, wanted in (*((folder, PASS) for folder in reversed(real.parents)), (real, bits)):
            status = place.stat()
            lacking = wanted & ~_allowed(who, status)
            if lacking and _ACL not in os.listxattr(place):
                verbs = " and ".join(word for bit, word in _WORDS.items() if lacking & bit)
                return f"{who.name} may not {verbs} {place} ({_shown(status)})"
    except OSError:
        return ""
    return ""


def _allowed(who: User, status: os.stat_result) -> int:
    if status.st_uid == who.uid:
        return status.st_mode >> 6 & 7
    return status.st_mode >> (3 if status.st_gid in who.gids else 0) & 7


def _shown(status: os.stat_result) -> str:
    """Mode, owner and group, as `ls -l` has them."""
    owner, group = str(status.st_uid), str(status.st_gid)
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(status.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(status.st_gid).gr_name
    return f"{stat.filemode(status.st_mode)} {owner}:{group}"


def _peer(address: Address) -> int:
    """Whose process listens at a unix socket."""
    with address.connected(1.0) as line:
        told = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", told)
    return int(uid)


def _owner(port: int) -> int | None:
    """Whose process listens at a TCP port, as the kernel tells (proc(5), /proc/net/tcp)."""
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                return int(fields[7])
    return None
