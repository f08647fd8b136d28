"""Configuration folders for the real postconf."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rspamd_llm import postfix


def write(folder: Path, main: str, master: str = "smtp inet n - y - - smtpd\n") -> None:
    """Writes main.cf and master.cf; skips the test where there is no postconf, but never on the
    build server."""
    if not shutil.which("postconf") and not shutil.which("postconf", path=postfix.SBIN):
        assert os.environ.get("CI", "").lower() not in {"true", "1"}, "postconf is not installed"
        pytest.skip("postconf is not installed")
    for name, content in (("main.cf", main), ("master.cf", master)):
        (folder / name).write_text(content)
        # Postfix waits for 1.5 s where one has just changed.
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
