"""The commands as a person or a script meets them: output, errors, exit status."""

from __future__ import annotations

import io
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from rspamd_llm import cli, config
from tests.chain.daemon import PrivateDaemon
from tests.chain.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "tests" / "data" / "demo"
KEYS = ("file", "status", "code", "score", "category", "reason", "model", "seconds")


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(autouse=True)
def well_behaved(stub: StubModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.set(Behaviour())
    monkeypatch.delenv("RSPAMD_LLM_CONFIG", raising=False)


def written(folder: Path, stub: StubModel | None = None, **sections: dict[str, Any]) -> str:
    """A configuration file with a good key, and the stub as its model server."""
    key = folder / "verdict.key"
    key.touch(mode=0o600)
    key.write_text("ab" * 32 + "\n")
    document: dict[str, dict[str, Any]] = {
        "milter": {"socket": f"inet:{free_port()}@127.0.0.1"},
        # Tests ask nobody outside.
        "evidence": {"dns": False, "registration": False, "authentication": "off"},
        "search": {"provider": "none"},
        "trust": {"key_file": str(key)},
        "metrics": {"listen": ""},
    }
    if stub is not None:
        document["llm"] = {"base_url": stub.base_url, "model": "stub"}
    for name, section in sections.items():
        document.setdefault(name, {}).update(section)
    path = folder / "rspamd-llm.toml"
    path.write_text(tomli_w.dumps(document))
    return str(path)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


class TestScan:
    def test_the_builtin_model_tells_the_samples_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        llm = {"engine": "embedded", "model": "builtin"}
        names = [str(DEMO / name) for name in ("01-personal.eml", "04-parcel-phish.eml")]
        # No key is needed: the default one does not exist here.
        path = written(tmp_path, llm=llm, trust={"key_file": "/nonexistent"})
        assert cli.main(["scan", "-c", path, "--json", *names]) == 0
        wanted, phish = lines(capsys.readouterr().out)
        assert tuple(wanted) == KEYS
        assert [wanted["file"], phish["file"]] == names
        assert wanted["score"] < 0.5 < phish["score"]
        assert (wanted["category"], phish["category"]) == ("none", "phishing")
        assert phish["model"] == "builtin"
        assert "facts" in phish["reason"]

    def test_an_unreadable_file_is_a_line_and_the_others_go_on(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = [str(tmp_path / "missing.eml"), str(DEMO / "01-personal.eml"), str(tmp_path)]
        assert cli.main(["scan", "-c", written(tmp_path, stub), "--json", *names]) == 1
        missing, scored, folder = lines(capsys.readouterr().out)
        assert (missing["status"], missing["code"]) == ("error", "unreadable")
        assert (folder["status"], folder["code"]) == ("error", "unreadable")
        assert (scored["status"], scored["score"]) == ("scored", 0.97)

    def test_rows_come_in_the_files_order(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = []
        for number in range(12):
            mail = tmp_path / f"{number}.eml"
            mail.write_text(f"Subject: number {number}\n\nhello\n")
            names.append(str(mail))
        assert cli.main(["scan", "-c", written(tmp_path, stub), "--json", *names]) == 0
        assert [row["file"] for row in lines(capsys.readouterr().out)] == names

    def test_standard_input(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Input:
            buffer = io.BytesIO(b"Subject: piped\n\nhello\n")

        monkeypatch.setattr(sys, "stdin", Input)
        assert cli.main(["scan", "-c", written(tmp_path, stub), "--json", "-"]) == 0
        (row,) = lines(capsys.readouterr().out)
        assert (row["file"], row["status"]) == ("-", "scored")
        assert "piped" in stub.requests[-1].body["messages"][-1]["content"]

    def test_the_envelope_counts(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mail = str(DEMO / "01-personal.eml")
        path = written(tmp_path, stub)
        assert cli.main(["scan", "-c", path, "--json", "--ip", "127.0.0.1", mail]) == 0
        about = ["--from", "x@elsewhere.example.net", "--helo", "h", "--rcpt", "a@example.org"]
        assert cli.main(["scan", "-c", path, "--json", *about, mail]) == 0
        skipped, scored = lines(capsys.readouterr().out)
        assert (skipped["status"], skipped["code"]) == ("skipped", "network")
        assert skipped["score"] is None
        assert scored["status"] == "scored"
        prompt = stub.requests[-1].body["messages"][-1]["content"]
        assert "Envelope sender's domain: example.net" in prompt

    def test_explain_shows_what_the_model_was_shown(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stub.set(Behaviour(answer=verdict(0.5, "scam", "Because.")))
        mail, path = str(DEMO / "05-advance-fee.eml"), written(tmp_path, stub)
        assert cli.main(["scan", "-c", path, "--json", "--explain", mail]) == 0
        (row,) = lines(capsys.readouterr().out)
        sent = stub.requests[-1].body["messages"]
        prompt = row["explain"]["prompt"]
        assert [prompt["system"], prompt["user"]] == [m["content"] for m in sent]
        assert row["explain"]["answer"]["text"] == verdict(0.5, "scam", "Because.")
        flags = [finding["flag"] for finding in row["explain"]["facts"]["findings"]]
        assert "reply-elsewhere" in flags
        assert cli.main(["scan", "-c", path, "--explain", mail]) == 0
        shown = capsys.readouterr().out
        for title in ("Facts", "System message", "User message", "Raw answer", "Tokens", "Times"):
            assert title in shown

    def test_the_table_shows_a_reason_as_it_is(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stub.set(Behaviour(answer=verdict(0.9, "scam", "[bold]not markup[/bold] [x]")))
        assert cli.main(["scan", "-c", written(tmp_path, stub), str(DEMO / "03-invoice.eml")]) == 0
        shown = "".join(capsys.readouterr().out.split())
        assert "0.90" in shown
        assert "03-invoice.eml" in shown
        assert "[bold]" in shown

    def test_a_model_that_is_down(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        llm = {"base_url": "http://127.0.0.1:1/v1", "model": "x"}
        path = written(tmp_path, llm=llm)
        assert cli.main(["scan", "-c", path, "--json", str(DEMO / "01-personal.eml")]) == 1
        (row,) = lines(capsys.readouterr().out)
        assert (row["status"], row["code"]) == ("unscored", "model-unavailable")

    @pytest.mark.parametrize(
        ("content", "status", "told"),
        [
            (None, 2, "llm.model"),
            (b"no model", 2, "is no GGUF file"),
            (b"GGUF and then nonsense", 1, "could not load"),
        ],
    )
    def test_a_model_file_that_is_none(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        content: bytes | None,
        status: int,
        told: str,
    ) -> None:
        model = tmp_path / "model.gguf"
        if content is not None:
            model.write_bytes(content)
        path = written(tmp_path, llm={"engine": "embedded", "model": str(model)})
        assert cli.main(["scan", "-c", path, str(DEMO / "01-personal.eml")]) == status
        assert told in capsys.readouterr().err


class TestConfig:
    def test_the_defaults_are_printed_as_toml(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["config", "--defaults"]) == 0
        assert config.parse(tomllib.loads(capsys.readouterr().out)) == config.Config()

    def test_the_shipped_file_holds_every_setting_at_its_default(self) -> None:
        path = ROOT / "conf" / "rspamd-llm.toml"
        assert config.load(path) == config.Config()
        shipped = tomllib.loads(path.read_text())
        every = config.to_document(config.Config())
        assert {name: list(section) for name, section in shipped.items()} == {
            name: list(section) for name, section in every.items()
        }

    @pytest.mark.parametrize("login", ["user:secret", ":secret", "user:se/cr@et", "secret"])
    def test_a_password_is_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], login: str
    ) -> None:
        path = tmp_path / "c.toml"
        path.write_text(f'[store]\nurl = "valkey://{login}@127.0.0.1:6379/0"\n')
        assert cli.main(["config", "-c", str(path)]) == 0
        shown = tomllib.loads(capsys.readouterr().out)
        assert shown["store"]["url"] == "valkey://...@127.0.0.1:6379/0"

    def test_where_the_configuration_comes_from(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("a", "b"):
            (tmp_path / name).write_text(f'[llm]\nmodel = "{name}"\n')
        monkeypatch.setenv("RSPAMD_LLM_CONFIG", str(tmp_path / "a"))
        cli.main(["config"])
        assert tomllib.loads(capsys.readouterr().out)["llm"]["model"] == "a"
        cli.main(["config", "-c", str(tmp_path / "b")])
        assert tomllib.loads(capsys.readouterr().out)["llm"]["model"] == "b"

    def test_faults_are_all_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "c.toml"
        path.write_text("[milter]\ndeadline = 700\n[nonsense]\n")
        assert cli.main(["config", "-c", str(path)]) == 2
        assert capsys.readouterr().err.count("rspamd-llm: ") == 2
        assert cli.main(["config", "-c", str(tmp_path / "missing")]) == 2
        assert "cannot be read" in capsys.readouterr().err

    def test_wrong_usage(self) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main(["frobnicate"])
        assert ended.value.code == 2


def test_a_unix_socket_is_given_to_its_group(stub: StubModel) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to any group")
    milter = {"socket_group": "nogroup", "socket_mode": "0660"}
    llm = {"base_url": stub.base_url, "model": "stub"}
    with PrivateDaemon({"milter": milter, "llm": llm}, unix=True) as daemon:
        path = Path(daemon.address.removeprefix("unix:"))
        assert path.group() == "nogroup"
        assert path.stat().st_mode & 0o777 == 0o660
