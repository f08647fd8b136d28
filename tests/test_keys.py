"""The key file: what is refused, with a text that never tells a secret, and what is made."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import traceback
from pathlib import Path

import pytest

from rspamd_llm import keys
from rspamd_llm.domain import ConfigError, Key

ONE, TWO = "0123456789abcdef" * 4, "FEDCBA9876543210" * 4
ADVICE = "make one with `openssl rand -hex 32`"


def repr_of(content: str | bytes) -> str:
    """A test id without the secret, for it becomes part of the path that errors name."""
    return str(len(content))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "verdict.key"


def write(path: Path, content: str | bytes, mode: int = 0o640) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        keys.load(path)
    (fault,) = caught.value.faults
    assert fault.startswith(f"trust.key_file: {path} ")
    told = "".join(traceback.format_exception(caught.value))
    for secret in (ONE, TWO, ONE[:16], TWO[:16]):
        assert secret.lower() not in told.lower()
    return fault.removeprefix(f"trust.key_file: {path} ")


class TestLoad:
    def test_one_key(self, path: Path) -> None:
        write(path, ONE)
        assert keys.load(path) == (Key(bytes.fromhex(ONE)),)

    def test_several_comments_and_empty_lines_the_first_signs(self, path: Path) -> None:
        write(path, f"# new\r\n\n  {TWO}  \r\n  # old, kept for {ONE}\n{ONE}\n\n")
        assert keys.load(path) == (Key(bytes.fromhex(TWO)), Key(bytes.fromhex(ONE)))

    def test_missing(self, path: Path) -> None:
        assert refusal(path) == (
            "does not exist; `rspamd-llm init` makes one, and Rspamd needs the same"
        )

    def test_a_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == "cannot be read: Is a directory"

    @pytest.mark.parametrize(
        "content", ["", "\n\n", "# only a comment\n", f"# {ONE}\n"], ids=repr_of
    )
    def test_empty(self, path: Path, content: str) -> None:
        write(path, content)
        assert refusal(path) == f"holds no key; {ADVICE}"

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (ONE[:-1], 1),
            (ONE + "0", 1),
            (ONE[:32], 1),
            (ONE[:-1] + "g", 1),
            (f"0x{ONE[:-2]}", 1),
            (f"{ONE} {TWO}", 1),
            (f"key = {ONE}", 1),
            (f"{ONE} # mine", 1),
            (f"# good\n{ONE}\n{TWO[:10]}\n", 3),
            (f"\ufeff{ONE}", 1),
            ("é" * 32, 1),
            (ONE[:-1] + "\uff10", 1),
            (bytes.fromhex(ONE), 1),
            (ONE + "\0", 1),
        ],
    )
    def test_what_is_no_key(self, path: Path, content: str | bytes, line: int) -> None:
        write(path, content)
        assert refusal(path) == f"line {line} is no key of 64 hex digits; {ADVICE}"

    @pytest.mark.parametrize("mode", [0o644, 0o641, 0o642, 0o666, 0o604, 0o777])
    def test_open_to_everyone(self, path: Path, mode: int) -> None:
        write(path, ONE, mode)
        assert refusal(path) == f"is open to everyone; cure: chmod 640 {path}"

    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o440, 0o400, 0o660])
    def test_owner_and_group_may_read(self, path: Path, mode: int) -> None:
        write(path, ONE, mode)
        assert len(keys.load(path)) == 1

    def test_unreadable(self, path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        write(path, ONE, 0o000)
        assert refusal(path) == "cannot be read: Permission denied"

    def test_the_mode_of_a_links_target_counts(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "real", ONE, 0o644)
        path.symlink_to(tmp_path / "real")
        assert refusal(path).startswith("is open to everyone")


class TestCreate:
    def test_what_is_made_loads_and_differs_each_time(self, tmp_path: Path) -> None:
        made: list[Key] = []
        for name in ("a", "b"):
            keys.create(tmp_path / name)
            made += keys.load(tmp_path / name)
        assert len(set(made)) == 2
        assert {len(key.secret) for key in made} == {32}

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_its_mode_whatever_the_umask(self, path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            keys.create(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_it_never_overwrites(self, path: Path) -> None:
        write(path, ONE)
        with pytest.raises(FileExistsError):
            keys.create(path)
        assert path.read_text() == ONE

    def test_nor_follows_a_dangling_link(self, path: Path, tmp_path: Path) -> None:
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            keys.create(path)
        assert not (tmp_path / "elsewhere").exists()

    def test_its_form(self, path: Path) -> None:
        keys.create(path)
        assert re.fullmatch(r"#[^\n]+\n[0-9a-f]{64}\n", path.read_text())


def test_the_id_is_of_the_bytes_not_of_their_spelling() -> None:
    key = Key(bytes.fromhex(ONE))
    assert keys.key_id(key) == hashlib.sha256(bytes.fromhex(ONE)).hexdigest()[:8]


def test_a_key_does_not_show_itself() -> None:
    key = Key(b"SECRET" + bytes(26))
    assert repr(key) == str(key) == f"{key}" == "Key()"
