"""What the model is shown of ten mails, checked in as text that a person can read.

A change of wording changes these files: UPDATE_GOLDEN=1 writes them anew, and the difference is
part of the change to be read.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import brief, leaks
from rspamd_llm import tokens
from rspamd_llm.config import Config
from rspamd_llm.domain import Prompt

DATA = Path(__file__).parent / "data"
MAILS = sorted((DATA / "mails").glob("*.eml"))
GOLDEN = DATA / "golden"
MARK = "0123456789ab"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


def prompt_of(path: Path) -> Prompt:
    told = brief.instructions(Config())
    return brief.prompt(brief.brief(path.read_bytes()), told, MARK)


def compare(name: str, text: str) -> None:
    """Compares with the checked-in text, or writes it where that is asked for."""
    path = GOLDEN / f"{name}.txt"
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        return
    advice = "read what changed; where it is meant, UPDATE_GOLDEN=1 writes tests/data/golden anew"
    assert path.is_file(), f"{path.name} is missing; {advice}"
    assert text + "\n" == path.read_text(encoding="utf-8"), f"{path.name} differs: {advice}"


def test_the_ten_are_there() -> None:
    assert len(MAILS) == 10
    if not UPDATE:
        known = {path.stem for path in GOLDEN.glob("*.txt")}
        assert known == {path.stem for path in MAILS} | {"instructions"}


def test_the_instructions_are_as_checked_in() -> None:
    compare("instructions", brief.instructions(Config()).system)


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_the_prompt_is_as_checked_in(path: Path) -> None:
    compare(path.stem, prompt_of(path).user)


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.stem)
def test_a_prompt_has_one_fence_and_fits(path: Path) -> None:
    prompt = prompt_of(path)
    assert prompt.user.count(MARK) == 2
    opening, closing = leaks.edges(MARK)
    lines = prompt.user.split("\n")
    assert lines.count(opening) == lines.count(closing) == 1
    settings = Config().llm
    told = tokens.at_most(prompt.system) + tokens.at_most(prompt.user) + tokens.CHAT
    assert told <= settings.context_tokens - settings.max_output_tokens
