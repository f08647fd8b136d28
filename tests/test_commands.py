"""The commands as a person or a script meets them: output, errors, exit status."""

from __future__ import annotations

import dataclasses
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

from bench.standins import Domain, Found, StandIns
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from rspamd_llm import cli, config, postfix
from tests import postconf
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


class TestCheck:
    @staticmethod
    def results(output: str) -> dict[str, dict[str, str]]:
        document = json.loads(output)
        assert set(document) == {"ok", "checks"}
        return {result["check"]: result for result in document["checks"]}

    def test_all_well(self, stub: StubModel, capsys: pytest.CaptureFixture[str]) -> None:
        llm = {"base_url": stub.base_url, "model": "stub"}
        with PrivateDaemon({"llm": llm}) as daemon:
            path = str(daemon.config_file)
            assert cli.main(["check", "-c", path, "--json"]) == 0
            found = self.results(capsys.readouterr().out)
            assert cli.main(["check", "-c", path]) == 0
            assert "probe" in capsys.readouterr().out
        for name in ("configuration", "key", "socket", "model server", "model", "probe"):
            assert found[name]["status"] == "ok", found[name]
        assert "scored 0.97 in" in found["probe"]["detail"]

    def test_each_failure_has_a_cause_and_a_cure(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, stub, llm={"model": "sutb"})
        (tmp_path / "verdict.key").chmod(0o644)
        assert cli.main(["check", "-c", path, "--json"]) == 1
        found = self.results(capsys.readouterr().out)
        failed = {name for name, result in found.items() if result["status"] == "failed"}
        assert failed == {"key", "socket", "model"}
        assert all(found[name]["cure"] for name in failed)
        assert "it offers stub" in found["model"]["detail"]

    def test_each_source_of_evidence_is_asked_about_what_everybody_knows(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pages = (Found("IANA", "https://www.iana.org/", "Assigned numbers of iana.org"),)
        known = Domain(name="iana.org", address="192.0.32.8", pages=pages)
        with StandIns.running(known) as world:
            monkeypatch.setenv("SSL_CERT_FILE", world.environment["SSL_CERT_FILE"])
            registries = world.registry.write_bootstrap(tmp_path / "registries.json", "org")
            path = written(tmp_path, stub, **world.settings(registries=registries))
            cli.main(["check", "-c", path, "--json"])
            found = self.results(capsys.readouterr().out)
            for name in ("dns", "registration", "web search"):
                assert found[name]["status"] == "ok", found[name]
                assert found[name]["detail"].startswith("knows iana.org")
            assert world.web.queries[0].words == "iana.org"
            assert world.registry.paths[0].endswith("/domain/iana.org")

    def test_a_source_that_does_not_answer_is_a_warning_with_a_cure(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registries = tmp_path / "registries.json"
        registries.write_text(
            json.dumps({"version": "1.0", "services": [[["org"], ["https://127.0.0.1:1/"]]]})
        )
        evidence = {"dns": True, "nameservers": ["127.0.0.1:1"], "registration": True}
        path = written(
            tmp_path,
            stub,
            evidence=evidence | {"registries": str(registries)},
            search={"provider": "searxng", "url": "http://127.0.0.1:1"},
        )
        cli.main(["check", "-c", path, "--json"])
        found = self.results(capsys.readouterr().out)
        for name in ("dns", "registration", "web search"):
            assert found[name]["status"] == "warning", found[name]
            assert found[name]["cure"]
        assert found["probe"]["status"] == "ok"

    def test_a_server_that_is_down_and_one_that_talks_nonsense(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, llm={"base_url": "http://127.0.0.1:1/v1"})
        assert cli.main(["check", "-c", path, "--json"]) == 1
        assert self.results(capsys.readouterr().out)["model server"]["status"] == "failed"
        stub.set(Behaviour(answer="I cannot help with that."))
        assert cli.main(["check", "-c", written(tmp_path, stub), "--json"]) == 1
        probe = self.results(capsys.readouterr().out)["probe"]
        assert probe["detail"].startswith("model-invalid: ")

    def test_postfix_asks_us_as_it_should(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
        with PrivateDaemon({"llm": {"base_url": stub.base_url, "model": "stub"}}) as daemon:
            postconf.write(
                tmp_path,
                "milter_default_action = accept\nmilter_content_timeout = 90s\n"
                f"smtpd_milters = {daemon.milter}\n",
            )
            assert cli.main(["check", "-c", str(daemon.config_file), "--json"]) == 0
            found = self.results(capsys.readouterr().out)
        assert found["postfix"] == {
            "check": "postfix",
            "status": "ok",
            "detail": f"main.cf asks {daemon.milter}: default_action=accept, connect_timeout=30,"
            " command_timeout=30, content_timeout=90",
            "cure": "",
        }

    def test_what_postfix_does_to_us_is_a_warning_with_a_cure(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
        path = written(tmp_path, stub, milter={"socket": "inet:7@127.0.0.1"})
        postconf.write(
            tmp_path,
            "smtpd_milters = inet:127.0.0.1:11332 { inet:localhost:7, default_action=shutdown,"
            " content_timeout=9 }\n",
        )
        cli.main(["check", "-c", path, "--json"])
        told = [
            result
            for result in json.loads(capsys.readouterr().out)["checks"]
            if result["check"] == "postfix"
        ]
        assert [result["status"] for result in told] == ["warning"] * 3
        assert all(result["cure"] for result in told)
        for result, text in zip(told, ("(Rspamd) before", "(9 s)", "is shutdown"), strict=True):
            assert text in result["detail"]
        postconf.write(tmp_path, "")
        cli.main(["check", "-c", path, "--json"])
        told_now = self.results(capsys.readouterr().out)["postfix"]
        assert told_now["status"] == "warning"
        assert "does not ask the daemon" in told_now["detail"]

    def test_without_a_postfix_there_is_nothing_to_say(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(postfix, "SBIN", str(tmp_path))
        cli.main(["check", "-c", written(tmp_path, stub), "--json"])
        told = self.results(capsys.readouterr().out)["postfix"]
        assert told["status"] == "ok"
        assert told["detail"].startswith("not installed here")

    def test_a_configuration_with_faults_ends_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, milter={"deadline": 0, "foo": 1})
        assert cli.main(["check", "-c", path, "--json"]) == 2
        document = json.loads(capsys.readouterr().out)
        assert [result["status"] for result in document["checks"]] == ["failed", "failed"]

    def test_the_embedded_engine_is_probed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = written(tmp_path, llm={"engine": "embedded", "model": "builtin"})
        assert cli.main(["check", "-c", path, "--json"]) == 1, "no daemon runs"
        assert self.results(capsys.readouterr().out)["probe"]["status"] == "ok"


class TestInit:
    def test_it_writes_a_configuration_and_a_key_and_never_overwrites(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "new"
        assert cli.main(["init", "--dir", str(folder)]) == 0
        said = capsys.readouterr().out
        key = folder / "verdict.key"
        assert key.stat().st_mode & 0o777 == 0o640
        secret = key.read_text().splitlines()[-1]
        assert len(secret) == 64
        assert secret not in said
        loaded = config.load(folder / "rspamd-llm.toml")
        assert loaded == dataclasses.replace(config.Config(), trust=config.Trust(key_file=str(key)))
        (folder / "rspamd-llm.toml").write_text("# mine\n")
        assert cli.main(["init", "--dir", str(folder)]) == 0
        assert "kept" in capsys.readouterr().out
        assert (folder / "rspamd-llm.toml").read_text() == "# mine\n"
        assert key.read_text().splitlines()[-1] == secret

    def test_a_path_with_quotes_in_it(self, tmp_path: Path) -> None:
        folder = tmp_path / 'odd "name" \\ é'
        assert cli.main(["init", "--dir", str(folder)]) == 0
        loaded = config.load(folder / "rspamd-llm.toml")
        assert loaded.trust.key_file == str(folder / "verdict.key")

    def test_a_folder_that_cannot_be_made(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        assert cli.main(["init", "--dir", str(tmp_path / "file" / "x")]) == 2
        assert str(tmp_path / "file") in capsys.readouterr().err


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
