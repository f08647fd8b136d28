"""What systemd is given: the unit, its drop-ins, the user and the folder for the socket.

Whether the daemon works under them is in tests/chain/test_package.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "systemd"
UNIT = FOLDER / "rspamd-llm.service"
DROP_INS = sorted((FOLDER / "drop-ins").glob("*.conf"))

EXPOSURE = 1.5
"""What systemd-analyze may say of the unit at most: 0 is locked up, 10 wide open."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a command that is here."""
    _need("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    return copy


def with_drop_in(unit: Path, drop_in: Path) -> Path:
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    shutil.copy(drop_in, folder)
    return unit


def _need(program: str) -> None:
    if shutil.which(program) is not None:
        return
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"not installed: {program}")
    pytest.skip(f"not installed: {program}")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def security(unit: Path) -> list[dict[str, Any]]:
    """What systemd-analyze says of each thing that a unit may forbid itself."""
    told = _run("systemd-analyze", "security", "--offline=true", "--json=short", unit)
    rows: list[dict[str, Any]] = json.loads(told.stdout)
    return rows


def exposure(unit: Path) -> float:
    told = _run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    assert found, told.stdout + told.stderr
    return float(found[1])


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.stem if path else "")
def test_systemd_understands_every_line(unit: Path, drop_in: Path | None) -> None:
    checked = with_drop_in(unit, drop_in) if drop_in else unit
    told = _run("systemd-analyze", "verify", "--man=no", checked)
    assert (told.returncode, told.stderr) == (0, "")


def test_a_line_that_is_none_is_noticed(unit: Path, tmp_path: Path) -> None:
    drop_in = tmp_path / "wrong.conf"
    drop_in.write_text("[Service]\nProtectEverything=yes\n")
    told = _run("systemd-analyze", "verify", "--man=no", with_drop_in(unit, drop_in))
    assert "ProtectEverything" in told.stderr


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.stem if path else "")
def test_the_daemon_is_locked_up(unit: Path, drop_in: Path | None) -> None:
    assert exposure(with_drop_in(unit, drop_in) if drop_in else unit) <= EXPOSURE


def test_the_unit_says_why_it_leaves_out_what_it_leaves_out(unit: Path) -> None:
    reasons = re.findall(r"(?m)^# ((?:\w+=,? ?)+)  ", UNIT.read_text())
    explained = {name for reason in reasons for name in re.findall(r"\w+(?==)", reason)}
    left_out = {
        name
        for row in security(unit)
        if not row["set"]
        for name in re.findall(r"\w+(?==)", row["name"])
    }
    assert left_out == explained


def test_a_gpu_costs_what_it_needs_and_no_more(unit: Path) -> None:
    def is_open(rows: list[dict[str, Any]]) -> set[str]:
        return {row["json_field"] for row in rows if not row["set"]}

    before = is_open(security(unit))
    drop_in = FOLDER / "drop-ins" / "gpu.conf"
    after = is_open(security(with_drop_in(unit, drop_in)))
    assert after - before == {"PrivateDevices", "MemoryDenyWriteExecute"}


def test_the_user_is_made(tmp_path: Path) -> None:
    _need("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    told = _run("systemd-sysusers", f"--root={tmp_path}", FOLDER / "rspamd-llm.sysusers")
    assert told.returncode == 0, told.stderr
    user = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (user[0], user[5], user[6]) == ("rspamd-llm", "/var/lib/rspamd-llm", "/usr/sbin/nologin")


def test_the_folder_for_the_socket_is_the_one_that_the_unit_may_write() -> None:
    (line,) = re.findall(r"(?m)^d (.*)$", (FOLDER / "rspamd-llm.tmpfiles").read_text())
    path, mode, user, group, _age = line.split()
    assert (mode, user, group) == ("2750", "rspamd-llm", "postfix")
    assert f"\nReadWritePaths=-{path}\n" in UNIT.read_text()
