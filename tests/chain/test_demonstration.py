"""The demonstration in a terminal of 80 columns: what it claims to show is there and readable."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import threading

import pytest

from script.samples import SAMPLES
from tests.chain.daemon import ROOT

COLUMNS = 80
"""A terminal as it opens."""

LONGEST = 300.0
"""Seconds; it takes 10 on a quiet machine."""

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


@pytest.fixture(scope="module")
def shown(postfix_installed: None, rspamd_installed: None) -> str:
    """What a person sees, without the colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, COLUMNS))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    pieces: list[bytes] = []
    reading = threading.Thread(target=_read, args=(ours, pieces))
    reading.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "script.demonstration"],
            cwd=ROOT,
            env=environment | {"TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            timeout=LONGEST,
            check=False,
        )
    finally:
        os.close(theirs)
        reading.join(10)
        os.close(ours)
    text = CONTROL.sub("", b"".join(pieces).decode())
    assert done.returncode == 0, text
    return text


def _read(terminal: int, pieces: list[bytes]) -> None:
    try:
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    except OSError:  # how Linux says that nobody writes to it any more
        pass


def rows(shown: str) -> dict[str, tuple[str, str]]:
    """By what a mail is: what stands in the other two columns of the first table."""
    table = shown[shown.index("┡") : shown.index("└")]
    found = {}
    for row in re.split(r"[┡├].*\n", table)[1:]:
        cells = zip(*(line.split("│")[1:4] for line in row.splitlines()), strict=True)
        what, model, symbols = (" ".join(" ".join(cell).split()) for cell in cells)
        found[what] = (model, symbols)
    return found


def test_every_mail_comes_through(shown: str) -> None:
    assert [*rows(shown)] == [sample.what for sample in SAMPLES]


def test_each_way_to_a_verdict_is_there(shown: str) -> None:
    ways = {what: re.split(r",| (?=\d)", model)[0] for what, (model, _) in rows(shown).items()}
    expected = dict.fromkeys(ways, "asked")
    expected["the next one: other name, link, number"] = "remembered"
    expected["a library's notice"] = "decided by Rspamd"
    assert ways == expected
    assert "11 mails: 9 asked, 1 remembered, 1 decided by Rspamd\n" in shown


def test_a_remembered_verdict_is_the_first_ones(shown: str) -> None:
    def verdict(what: str) -> tuple[str, set[str]]:
        model, symbols = rows(shown)[what]
        return model.partition(" s ")[2], set(re.findall(r"LLM_\w+ [\d.]+", symbols))

    first, second = map(
        verdict, ("the first mail of a campaign", "the next one: other name, link, number")
    )
    assert first == second
    assert first[0]


def test_nothing_is_cut_off(shown: str) -> None:
    lines = shown.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    framed = [line for line in lines if line.startswith(tuple("┏┃┡│├└"))]
    assert all(line.endswith(tuple("┓┃┩│┤┘")) for line in framed)
    assert not [line for line in lines if "…" in line]
