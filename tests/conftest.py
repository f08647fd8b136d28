"""What holds for every test: none leaves the log set up in its own way."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """A command that ran in this process sends the log elsewhere, where the next test would look
    for it in vain."""
    ours = logging.getLogger("rspamd_llm")
    before = ours.handlers[:], ours.level, ours.propagate
    yield
    ours.handlers[:], ours.propagate = before[0], before[2]
    ours.setLevel(before[1])
