"""Lists of mail domains and addresses: an administrator's text file -> a set, re-read on change.

What may not live here: what it brings about to stand on a list (gate.py).

One entry a line.  `example.org` is that domain and all below it; `user@example.org`, where a list
takes addresses, is that one.  Empty lines and what follows a # at a line's beginning or after a
blank are left out.  Case makes no difference; international domains may stand in either form.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rspamd_llm import domains
from rspamd_llm.domain import ConfigError
from rspamd_llm.evidence.names import is_host

LOOK = 1.0
"""Seconds between two looks at a file, and of peace that a changed one must have had: sooner than
an administrator has sent a mail to try it, later than an editor has written it."""

ENTRIES = 50_000
"""Entries of a list: a large server's mailboxes.  To read as many takes 0.2 s, or 0.8 s of senders'
domains, for which the core stands still, once for each change."""

BYTES = 5_000_000
"""Bytes of a file: ENTRIES of 25 with a comment three times as long on each."""

ADDRESS = 320
"""Characters of an address: 64, the sign between, and 255 (RFC 5321 4.5.3.1)."""

TOLD = 5
"""Lines that are named when many are wrong: enough to see in what way."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_log = logging.getLogger(__name__)


class Kind(Enum):
    """Whose names a list holds."""

    SENDERS = "domains"
    """Those trusted: domains alone, and none under which others than its owner have theirs."""
    RECIPIENTS = "domains and addresses"


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one content of a file from another; times in nanoseconds since 1970.

    `ctime` also tells that a file became readable, and edits that left size and `mtime` alone.
    """

    mtime: int
    ctime: int
    size: int
    inode: int


class _UnfitError(Exception):
    """What a file holds is no list; the faults begin with what follows the file's name."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class ListFile:
    """A list and its file.  Looks after the file when it is asked for a name, on a local disk
    without a wait worth mentioning, for up to LOOK + what ENTRIES take where it has changed.

    A file that can no longer be read or understood is told to the log once, by line and never by
    its text; what it said before stays in force until it is well.  `clock` gives seconds since
    1970.
    """

    def __init__(
        self, path: Path, kind: Kind, *, setting: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Reads the file.  Raises ConfigError, which names `setting`, a dotted path."""
        self._path = path
        self._kind = kind
        self._setting = setting
        self._clock = clock
        self._looked_at = clock()
        self._taken: _Stamp | None = None
        self._names: frozenset[str] = frozenset()
        self._fault = ""
        try:
            self._take()
        except OSError as error:
            raise ConfigError((f"{setting}: {path} {_cause(error)}",)) from error
        except _UnfitError as unfit:
            raise ConfigError(
                tuple(f"{setting}: {path} {fault}" for fault in unfit.faults)
            ) from unfit
        self._looked: _Stamp | None = self._taken

    def __len__(self) -> int:
        self._look()
        return len(self._names)

    def has_domain(self, domain: str) -> bool:
        """Whether a domain, or one above it, stands on the list."""
        self._look()
        return self._has_domain(_ascii(domain))

    def has_address(self, address: str) -> bool:
        """Whether an address stands on the list, by itself, without a `+suffix` or by its domain.

        May be an SMTP path, in angle brackets.
        """
        self._look()
        local, domain = parted(address)
        spellings = {f"{local}@{domain}", f"{without_suffix(local)}@{domain}"}
        return not self._names.isdisjoint(spellings) or self._has_domain(domain)

    def _has_domain(self, domain: str) -> bool:
        while domain:
            if domain in self._names:
                return True
            domain = domain.partition(".")[2]
        return False

    def _look(self) -> None:
        """Reads the file anew if it has changed and is not being written just now."""
        now = self._clock()
        if abs(now - self._looked_at) < LOOK:
            return
        self._looked_at = now
        try:
            stamp = _stamp(self._path.stat())
        except OSError:
            stamp = None
        before, self._looked = self._looked, stamp
        if stamp is not None and stamp == self._taken:
            return
        # By its age, so that the first mail of the day meets the list of the night; by a second
        # look where clocks differ, and for a file that some editors take away for a moment.
        is_old = stamp is not None and now - max(stamp.mtime, stamp.ctime) / 1e9 >= LOOK
        if is_old or stamp == before:
            self._take_or_tell()

    def _take_or_tell(self) -> None:
        try:
            self._take()
        except OSError as error:
            self._taken = None  # read again when it is back, also if it is the one that it was
            fault = _cause(error)
        except _UnfitError as unfit:
            fault = str(unfit)
        else:
            self._fault = ""
            _log.info(
                "%s: %s was read anew, %d entries", self._setting, self._path, len(self._names)
            )
            return
        if fault != self._fault:
            self._fault = fault
            _log.warning(
                "%s: %s %s; what it said before stays in force", self._setting, self._path, fault
            )

    def _take(self) -> None:
        """Makes the file's content ours.  Raises OSError and _UnfitError."""
        # What is written from here on has another stamp, and is seen at the next look.
        self._taken, data = _read(self._path)
        self._names, doubtful = _parse(data, self._kind)
        if doubtful:
            _log.warning(
                "%s: %s %s of a free-mail provider, where anybody can get an address: all of them"
                " would be trusted",
                *(self._setting, self._path, _lines(doubtful)),
            )


def parted(address: str) -> tuple[str, str]:
    """The local part and the domain (ASCII) of an address or SMTP path, each in the one spelling
    that stands for all: without case, local parts in Unicode's form C.

    Two empty texts for what is no address at a host's name, or could be read in two ways.
    """
    address = address.strip()
    if address.startswith("<") and address.endswith(">"):
        address = address[1:-1]
    if address.startswith("@"):
        address = address.partition(":")[2]  # the route of RFC 5321 4.1.2, which is ignored
    local, _, host = address.rpartition("@")
    domain = _ascii(host)
    # U+FFFD stands for bytes that were no UTF-8, which ones nobody knows.
    is_clear = len(address) <= ADDRESS and address.isprintable() and "\ufffd" not in address
    if not (local and domain and is_clear):
        return "", ""
    folded = unicodedata.normalize("NFC", local).casefold()
    return unicodedata.normalize("NFC", folded), domain


def without_suffix(local: str) -> str:
    """A local part without its `+suffix` (RFC 5233), the only separator that is common."""
    return local.partition("+")[0] or local


def _ascii(domain: str) -> str:
    """A domain in lower-case ASCII; empty for what is none."""
    if len(domain) > 255:
        return ""
    name = domains.ascii_host(domain.strip().lower()).removesuffix(".")
    return name if is_host(name) else ""


# --- Reading --------------------------------------------------------------------------------


def _stamp(found: os.stat_result) -> _Stamp:
    return _Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _read(path: Path) -> tuple[_Stamp, bytes]:
    """A file's stamp, and its bytes not before that.  Raises OSError and _UnfitError."""
    with open(path, "rb", opener=_open) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _UnfitError("is no regular file; name a text file")
        if found.st_size > BYTES:
            raise _UnfitError(f"has more than {BYTES:,} bytes; list domains, not their addresses")
        return _stamp(found), file.read(BYTES)


def _open(path: str, flags: int) -> int:
    """Opens without the wait that a pipe has for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse(data: bytes, kind: Kind) -> tuple[frozenset[str], list[int]]:
    """The entries of a list, and the lines of those that are doubtful.  Raises _UnfitError."""
    names: set[str] = set()
    faults: dict[str, list[int]] = {}
    doubtful: list[int] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            entry = _COMMENT.sub("", line.decode("utf-8").strip()).strip()
            if not entry:
                continue
            name = _entry(entry, kind)
        except (UnicodeError, _UnfitError) as error:
            fault = "no UTF-8; save the file as that" if isinstance(error, UnicodeError) else error
            faults.setdefault(str(fault), []).append(number)
            continue
        names.add(name)
        if kind is Kind.SENDERS and domains.is_free_mail(name):
            doubtful.append(number)
    if faults:
        raise _UnfitError(*(f"{_lines(lines)} {fault}" for fault, lines in faults.items()))
    if len(names) > ENTRIES:
        raise _UnfitError(f"has more than {ENTRIES:,} entries; list domains, not their addresses")
    return frozenset(names), doubtful


def _entry(entry: str, kind: Kind) -> str:
    """An entry in the spelling that is compared.  Raises _UnfitError."""
    if "@" in entry:
        if kind is Kind.SENDERS:
            raise _UnfitError("an address, and this list is of domains; write what follows its @")
        local, domain = parted(entry)
        if not local or re.search(r"[\s<>,;]", entry):
            raise _UnfitError("no address; write one a line, such as user@example.org")
        return f"{local}@{domain}"
    domain = _ascii(entry)
    if not domain:
        raise _UnfitError("no domain; write one a line, such as example.org for all below it too")
    if kind is Kind.SENDERS and not domains.registered_domain(domain):
        raise _UnfitError(
            "a suffix that many owners' domains end in, as co.uk is one; write those domains"
        )
    return domain


def _lines(numbers: list[int]) -> str:
    """`line 7 is`, or `lines 1, 2, 3, 4, 5 and 93 more are`."""
    told = ", ".join(map(str, numbers[:TOLD]))
    more = f" and {len(numbers) - TOLD} more" if len(numbers) > TOLD else ""
    return f"line {told} is" if len(numbers) == 1 else f"lines {told}{more} are"


def _cause(error: OSError) -> str:
    return f"cannot be read: {error.strerror}; let the daemon's user read it, or name none"
