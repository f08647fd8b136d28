"""The verdict key file: reading, checking, making.

One key a line, each 64 hex digits; empty lines and lines that begin with # are skipped.  The
first key signs, all verify, so keys rotate.  What may not live here: signing (headers.py).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path

from rspamd_llm.domain import ConfigError, Key

MODE = 0o640
"""Owner writes; the group, shared with Rspamd, reads."""

_LINE = re.compile(r"[0-9A-Fa-f]{64}")


def load(path: Path) -> tuple[Key, ...]:
    """The keys of a file, at least one.

    Raises ConfigError if it is missing, unreadable, open to others than owner and group, empty,
    or has a line that is no key.  The text never shows what stands in the file.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(100_000).decode("ascii", "replace")
    except FileNotFoundError as error:
        raise _refusal(
            path, "does not exist; `rspamd-llm init` makes one, and Rspamd needs the same"
        ) from error
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o007:
        raise _refusal(path, f"is open to everyone; cure: chmod {MODE:o} {path}")
    keys: list[Key] = []
    for number, line in enumerate(content.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not _LINE.fullmatch(entry):
            raise _refusal(
                path,
                f"line {number} is no key of 64 hex digits; make one with `openssl rand -hex 32`",
            )
        keys.append(Key(bytes.fromhex(entry)))
    if not keys:
        raise _refusal(path, "holds no key; make one with `openssl rand -hex 32`")
    return tuple(keys)


class Ring:
    """The keys in use: read from a file, and replaced as a whole.  Every thread may look."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError, as `load`."""
        self.path = path
        self.keys = load(path)


def create(path: Path) -> None:
    """Writes a new random key.  Raises FileExistsError where there is a file already."""
    text = "# rspamd-llm verdict key; Rspamd reads the same file. First line signs, all verify.\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), MODE)
        file.write(text + secrets.token_hex(32) + "\n")


def key_id(key: Key) -> str:
    """The first 8 hex digits of SHA-256(key): public, names the key without telling it."""
    return hashlib.sha256(key.secret).hexdigest()[:8]


def _refusal(path: Path, text: str) -> ConfigError:
    return ConfigError((f"trust.key_file: {path} {text}",))
