"""What `check` says: nothing where all is well, and cause and cure for each likely mistake.

Real parts: a daemon, postconf and postmap, rspamadm with our plugin.  The model server is a
stand-in that counts tokens and keeps to its context as Ollama does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from bench.standins import Domain, Found, StandIns
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from rspamd_llm import access, checkhost, checkrspamd, cli, postfix, programs, rspamadm, tokens
from rspamd_llm import config as configs
from rspamd_llm.libmilter import Address
from tests import postconf
from tests.chain.daemon import PrivateDaemon
from tests.chain.ports import free_port

PLUGIN = Path(__file__).resolve().parents[1] / "conf" / "rspamd"
EXAMPLE = "default_action=accept, connect_timeout=5s, command_timeout=15s, content_timeout=90s"
RSPAMD = "inet:127.0.0.1:11332"
MODEL = "gemma3:12b"
OURS = metadata.version("rspamd-llm")


def needs(*names: str) -> None:
    """Skips the test where a program is missing, but never on the build server."""
    missing = [name for name in names if programs.find(name) is None]
    if missing and os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"not installed: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}")


# --- A model server -------------------------------------------------------------------------


class Ollama:
    """A model server with a context and a clock of its own.

    context   tokens; what is longer is cut without a word, or refused
    ahead     seconds by which its clock is ahead
    """

    def __init__(
        self,
        *,
        context: int = 1_000_000,
        refuses: bool = False,
        is_counting: bool = True,
        ahead: float = 0.0,
        latency: float = 0.0,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.path.endswith("/chat/completions"):
                    self.answer(404, {"error": {"message": "no such path"}})
                    return
                time.sleep(latency)
                # As many as the words, which is the least that any tokeniser makes of them.
                asked = tokens.at_least("\n".join(each["content"] for each in body["messages"]))
                if refuses and asked > context:
                    message = f"request ({asked} tokens) exceeds the available context size"
                    self.answer(400, {"error": {"message": message}})
                    return
                read = min(asked, context) if is_counting else 0
                choice = {"message": {"content": verdict(0.03, "none")}, "finish_reason": "stop"}
                self.answer(200, {"choices": [choice], "usage": {"prompt_tokens": read}})

            def answer(self, status: int, document: object) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + ahead, usegmt=True)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Ollama:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- A machine on which all is well ---------------------------------------------------------


@pytest.fixture(scope="module")
def ollama() -> Iterator[Ollama]:
    with Ollama() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(ollama: Ollama) -> Iterator[PrivateDaemon]:
    with PrivateDaemon({"llm": {"base_url": ollama.url, "model": MODEL}}) as running:
        yield running


@dataclass
class Machine:
    """What is set up for a `check`; a test spoils some of it."""

    folder: Path
    settings: dict[str, dict[str, Any]]
    milter: str
    main_cf: str = ""
    lines: list[str] = field(default_factory=list)
    """Further lines of main.cf."""
    master_cf: str = "smtp inet n - n - - smtpd\n"

    @property
    def key(self) -> Path:
        return self.folder / "verdict.key"

    @property
    def rspamd(self) -> Path:
        return self.folder / "rspamd"

    @property
    def plugin(self) -> Path:
        return self.rspamd / "plugins.d" / "rspamd_llm.lua"

    def set(self, section: str, **values: Any) -> None:
        self.settings.setdefault(section, {}).update(values)

    def write(self) -> str:
        main = self.main_cf or (
            f"smtpd_milters = {{ {self.milter}, {EXAMPLE} }}"
            f" {{ {RSPAMD}, default_action=accept }}\n"
        )
        queue = f"queue_directory = {self.folder / 'queue'}\ncompatibility_level = 3.6\n"
        postconf.write(self.folder, main + queue + "\n".join(self.lines) + "\n", self.master_cf)
        path = self.folder / "rspamd-llm.toml"
        path.write_text(tomli_w.dumps(self.settings))
        return str(path)


@pytest.fixture
def machine(daemon: PrivateDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The daemon's settings, with Postfix and Rspamd as the guide has them."""
    needs("rspamadm", "postmap")
    # pytest's own folders are closed to others, and Rspamd's user is to read the key.
    folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-check-"))
    folder.chmod(0o755)
    try:
        made = Machine(folder, tomllib.loads(daemon.config_file.read_text()), daemon.milter)
        made.set("trust", key_file=str(made.key))
        made.set("history", keep="verdicts", file=str(folder / "history.db"))
        made.key.touch(mode=0o640)
        made.key.write_text(f"{daemon.keys[0]}\n")
        user = next(filter(None, map(access.user, checkrspamd.USERS)), None)
        if user is not None and os.geteuid() == 0:
            shutil.chown(made.key, group=user.name)
        for name in ("plugins.d", "local.d"):
            (made.rspamd / name).mkdir(parents=True)
        shutil.copy(PLUGIN / "rspamd_llm.lua", made.plugin)
        shutil.copy(PLUGIN / "groups.conf", made.rspamd / "local.d")
        section = (PLUGIN / "rspamd.conf.local").read_text()
        (made.rspamd / "rspamd.conf.local").write_text(
            section.replace("/etc/rspamd-llm/verdict.key", str(made.key))
        )
        _wrap(folder / "bin", made.rspamd)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("MAIL_CONFIG", str(folder))
        monkeypatch.delenv("RSPAMD_LLM_CONFIG", raising=False)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wrap(folder: Path, local: Path) -> None:
    """The real rspamadm, with another folder for local configuration."""
    folder.mkdir()
    program = folder / "rspamadm"
    program.write_text(
        f'#!/bin/sh\nexec {programs.find("rspamadm")} --var=LOCAL_CONFDIR={local} "$@"\n'
    )
    program.chmod(0o755)


Told = dict[str, str]


def checked(path: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Told]]:
    """The exit status, and the results."""
    status = cli.main(["check", "-c", path, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"ok", "checks"}
    assert document["ok"] == (status == 0)
    return status, document["checks"]


def amiss(results: list[Told]) -> list[Told]:
    return [result for result in results if result["status"] != "ok"]


def the(results: list[Told], check: str, cause: str = "") -> Told:
    """The one result of a check, with this in its detail."""
    fit = [told for told in results if told["check"] == check and cause in told["detail"]]
    assert len(fit) == 1, amiss(results)
    return fit[0]


def test_where_all_is_well_nothing_is_said_against_it(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give the key to Rspamd's group")
    status, results = checked(machine.write(), capsys)
    assert amiss(results) == []
    assert status == 0
    assert [result["check"] for result in results] == [
        *("configuration", "key", "socket", "daemon", "daemon", "daemon", "room", "postfix"),
        *("plugin", "rspamd key", "rspamd group", "clock", "model server", "model", "probe"),
        "context",
    ]


# --- Likely mistakes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, and what `check` says: parts of its cause and of its cure."""

    name: str
    make: Callable[[Machine], object]
    check: str
    status: str
    cause: str
    cure: str


def milters(machine: Machine, *entries: str) -> None:
    machine.main_cf = f"smtpd_milters = {' '.join(entries)}\n"


def table(machine: Machine, setting: str, rules: str) -> None:
    path = machine.folder / "header_rules"
    path.write_text(rules)
    machine.lines.append(f"{setting} = regexp:{path}")


def discarding_cleanup(machine: Machine) -> None:
    rules = machine.folder / "cleanup_rules"
    rules.write_text("/^X-GPT-/ DISCARD\n")
    machine.master_cf += (
        f"cleanup unix n - n - 0 cleanup\n -o milter_header_checks=regexp:{rules}\n"
    )


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def other_key(machine: Machine) -> None:
    theirs = machine.folder / "theirs.key"
    theirs.touch(mode=0o640)
    theirs.write_text("cd" * 32 + "\n")
    replace(machine.rspamd / "rspamd.conf.local", str(machine.key), str(theirs))


def no_key_for_rspamd(machine: Machine) -> None:
    replace(machine.rspamd / "rspamd.conf.local", str(machine.key), f"{machine.key}.none")


def old_plugin(machine: Machine) -> None:
    replace(machine.plugin, f"local VERSION = '{OURS}'", "local VERSION = '0.0.9'")


POSTFIX = (
    Mistake(
        "wrong order",
        lambda m: milters(m, RSPAMD, f"{{ {m.milter}, {EXAMPLE} }}"),
        *("postfix", "warning", "(Rspamd) before the daemon: Rspamd then sees no verdict"),
        "put the daemon first in smtpd_milters",
    ),
    Mistake(
        "wrong order, Rspamd at a unix socket",
        lambda m: milters(m, "unix:/run/rspamd/milter.sock", f"{{ {m.milter}, {EXAMPLE} }}"),
        *("postfix", "warning", "Postfix asks unix:/run/rspamd/milter.sock (Rspamd) before"),
        "put the daemon first in smtpd_milters",
    ),
    Mistake(
        "no default_action",
        lambda m: milters(m, f"{{ {m.milter}, content_timeout=90s }}", RSPAMD),
        *("postfix", "warning", "is tempfail: while the daemon is down or does not answer"),
        "default_action=accept",
    ),
    Mistake(
        "a content_timeout below the deadline",
        lambda m: milters(m, f"{{ {m.milter}, default_action=accept, content_timeout=30s }}"),
        *("postfix", "warning", "(30 s) is not 5 s above milter.deadline (60 s)"),
        "set content_timeout=65s or more",
    ),
    Mistake(
        "not asked at all",
        lambda m: milters(m, RSPAMD),
        *("postfix", "warning", "Postfix does not ask the daemon"),
        "put it before Rspamd",
    ),
    Mistake(
        "milter_header_checks that drop the verdict",
        lambda m: table(m, "milter_header_checks", "/^X-GPT-/ IGNORE\n"),
        *("postfix", "warning", "does IGNORE to X-GPT-Verdict, X-GPT-Status, X-GPT-Score"),
        "take X-GPT-* out of it",
    ),
    Mistake(
        "milter_header_checks that drop what people read",
        lambda m: table(m, "milter_header_checks", "/^X-GPT-Reason:/ STRIP of no use\n"),
        *("postfix", "warning", "does STRIP to X-GPT-Reason: Rspamd has its verdict, but"),
        "take X-GPT-* out of it",
    ),
    Mistake(
        "milter_header_checks that refuse mail",
        lambda m: table(m, "milter_header_checks", "/^x-gpt-status/ 550 5.7.1 No\n"),
        *("postfix", "warning", "does 550 to X-GPT-Status: every mail that the model has judged"),
        "take X-GPT-* out of it",
    ),
    Mistake(
        "milter_header_checks of the cleanup service",
        discarding_cleanup,
        *("postfix", "warning", "does DISCARD to X-GPT-Verdict"),
        "take X-GPT-* out of it",
    ),
    Mistake(
        "header_checks that drop ours",
        lambda m: table(m, "header_checks", "/^X-Other:/ HOLD\n/^X-GPT-V/ REPLACE X-Old: 1\n"),
        *("postfix", "warning", "our headers are spared when the milter adds them, but not where"),
        "take X-GPT-* out of it",
    ),
    Mistake(
        "header_checks that refuse what arrives",
        lambda m: table(m, "header_checks", "/^X-GPT-/ REJECT\n"),
        *("postfix", "warning", "as from another host with rspamd-llm"),
        "take X-GPT-* out of it",
    ),
)

RSPAMDS = (
    Mistake(
        "an old plugin",
        old_plugin,
        *("plugin", "warning", f"is of version 0.0.9, ours is {OURS}: they work together one"),
        "rspamd_llm.lua",
    ),
    Mistake(
        "a plugin before there were versions",
        lambda m: replace(m.plugin, f"local VERSION = '{OURS}'", ""),
        *("plugin", "warning", "of a version that does not tell its number"),
        "rspamd_llm.lua",
    ),
    Mistake(
        "no plugin",
        lambda m: m.plugin.unlink(),
        *("plugin", "failed", "Rspamd does not load the plugin: no "),
        "restart Rspamd",
    ),
    Mistake(
        "a plugin cut short",
        lambda m: m.plugin.write_text(m.plugin.read_text()[:5000]),
        *("plugin", "failed", "Rspamd leaves the plugin out: disabled (failed)"),
        "rspamadm configdump -m",
    ),
    Mistake(
        "a plugin switched off",
        lambda m: (m.rspamd / "local.d" / "rspamd_llm.conf").write_text("enabled = false;\n"),
        *("plugin", "failed", "Rspamd leaves the plugin out: disabled (explicitly)"),
        "enabled = false",
    ),
    Mistake(
        "no section",
        lambda m: (m.rspamd / "rspamd.conf.local").unlink(),
        *("plugin", "warning", "Rspamd's configuration has no section rspamd_llm"),
        "rspamd.conf.local",
    ),
    Mistake(
        "a configuration that Rspamd does not read",
        lambda m: (m.rspamd / "rspamd.conf.local").write_text("rspamd_llm {\n"),
        *("plugin", "warning", "Rspamd's configuration cannot be read: exit status 1"),
        "rspamadm configtest",
    ),
    Mistake(
        "no group",
        lambda m: (m.rspamd / "local.d" / "groups.conf").unlink(),
        *("rspamd group", "warning", "has no max_score"),
        "local.d/groups.conf",
    ),
    Mistake(
        "a category without a symbol",
        lambda m: m.set("verdict", categories=["phishing", "invoice"]),
        *("plugin", "warning", "verdict.categories has invoice, for which"),
        "add it to categories",
    ),
    Mistake(
        "a key that differs",
        other_key,
        *("rspamd key", "failed", "every verdict counts as LLM_FORGED (key)"),
        "copy our key to",
    ),
    Mistake(
        "no key for Rspamd",
        no_key_for_rspamd,
        *("rspamd key", "failed", "verdict.key.none does not exist"),
        "copy our key to",
    ),
    Mistake(
        "a key named by half its path",
        lambda m: replace(m.rspamd / "rspamd.conf.local", str(m.key), "verdict.key"),
        *("rspamd key", "failed", "does not begin with /"),
        "set key_file",
    ),
    Mistake(
        "a key that Rspamd may not read",
        lambda m: m.key.chmod(0o600),
        *("rspamd key", "warning", "rspamd may not read "),
        "chmod 640",
    ),
)

OWN = (
    Mistake(
        "a key open to all",
        lambda m: m.key.chmod(0o644),
        *("key", "failed", "is open to everyone"),
        "rspamd-llm init",
    ),
    Mistake(
        "no key",
        lambda m: m.key.unlink(),
        *("key", "failed", "does not exist"),
        "rspamd-llm init",
    ),
    Mistake(
        "a model's name with a typo",
        lambda m: m.set("llm", model="gemma3:21b"),
        *("model", "failed", f"does not offer gemma3:21b; it offers {MODEL}"),
        "ollama pull gemma3:21b",
    ),
    Mistake(
        "a model server that is not there",
        lambda m: m.set("llm", base_url="http://127.0.0.1:1/v1"),
        *("model server", "failed", "http://127.0.0.1:1/v1: "),
        "start the model server",
    ),
    Mistake(
        "a search engine that does not exist",
        lambda m: m.set("search", provider="ddgs", backends=["duckduckgoo"]),
        *("configuration", "failed", "search.backends: 'duckduckgoo' is no engine of ddgs"),
        "correct the setting",
    ),
    Mistake(
        "no daemon",
        lambda m: m.set("milter", socket=f"inet:{free_port()}@127.0.0.1"),
        *("socket", "failed", "nobody answers at inet:"),
        "start the daemon",
    ),
    Mistake(
        "a port for metrics that is another's",
        lambda m: m.set("metrics", listen=m.settings["llm"]["base_url"][7:-3]),
        *("daemon", "warning", "is not our daemon's"),
        "choose another metrics.listen",
    ),
    Mistake(
        "a folder that is not there",
        lambda m: m.set("history", file=f"{m.folder}/none/history.db"),
        *("room", "warning", "history.file: "),
        "install -d -o ",
    ),
)


@pytest.mark.parametrize("mistake", [*POSTFIX, *RSPAMDS, *OWN], ids=lambda each: each.name)
def test_a_mistake_is_told_with_cause_and_cure(
    machine: Machine, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    if mistake.check == "rspamd key" and not any(map(access.user, checkrspamd.USERS)):
        pytest.skip("Rspamd has no user here")
    mistake.make(machine)
    status, results = checked(machine.write(), capsys)
    told = the(results, mistake.check, mistake.cause)
    assert told["status"] == mistake.status
    assert mistake.cure in told["cure"]
    assert status == int(any(result["status"] == "failed" for result in results))
    assert not re.search("[0-9a-f]{64}", f"{results}"), "no key is shown"


# --- The model server -----------------------------------------------------------------------


def asking(machine: Machine, server: Ollama, **llm: Any) -> str:
    machine.set("llm", base_url=server.url, **llm)
    return machine.write()


@pytest.mark.parametrize(("has", "wanted"), [(2048, 4096), (4096, 8192), (8192, 32_768)])
@pytest.mark.parametrize("refuses", [False, True], ids=["cuts", "refuses"])
def test_a_context_that_is_too_small(
    machine: Machine, capsys: pytest.CaptureFixture[str], has: int, wanted: int, *, refuses: bool
) -> None:
    with Ollama(context=has, refuses=refuses) as server:
        path = asking(machine, server, context_tokens=wanted)
        status, results = checked(path, capsys)
    assert status == 1
    assert the(results, "probe")["status"] == "ok", "a short mail tells nothing of it"
    told = the(results, "context")
    assert told["status"] == "failed"
    assert f"smaller than llm.context_tokens ({wanted}): {server.url}" in told["detail"]
    assert f"OLLAMA_CONTEXT_LENGTH={wanted}" in told["cure"]


@pytest.mark.parametrize("size", [2048, 4096, 16_384, 131_072])
def test_a_context_of_the_size_that_is_said(
    machine: Machine, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    with Ollama(context=size, refuses=True) as server:
        _, results = checked(asking(machine, server, context_tokens=size), capsys)
    told = the(results, "context")
    assert told["status"] == "ok"
    assert f"({size})" in told["detail"]


def test_a_server_that_does_not_count(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    with Ollama(is_counting=False) as server:
        status, results = checked(asking(machine, server), capsys)
    assert status == 0
    told = the(results, "context")
    assert told["status"] == "warning"
    assert "does not tell how many tokens it read" in told["detail"]


def test_each_server_of_a_list_shows_its_context(
    machine: Machine, ollama: Ollama, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ollama(context=2048) as small:
        machine.set("llm", base_url=[ollama.url, small.url])
        status, results = checked(machine.write(), capsys)
    assert status == 1
    assert the(results, "context", ollama.url)["status"] == "ok"
    assert the(results, "context", small.url)["status"] == "failed"


def test_a_model_that_takes_long(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    with Ollama(latency=1.2) as server:
        machine.set("milter", deadline=3.0)
        status, results = checked(asking(machine, server), capsys)
    assert status == 0
    told = the(results, "speed", "a harmless mail took ")
    assert told["status"] == "warning"
    assert "more than a third of milter.deadline (3 s)" in told["detail"]
    assert "OLLAMA_KEEP_ALIVE" in told["cure"]


def test_the_builtin_model_has_no_such_mail(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.settings["llm"] = {"engine": "embedded", "model": "builtin"}
    status, results = checked(machine.write(), capsys)
    assert status == 0
    assert the(results, "probe")["status"] == "ok"
    assert "context" not in {result["check"] for result in results}


@pytest.mark.parametrize(("ahead", "word"), [(3600.0, "behind"), (-3600.0, "ahead of")])
def test_a_clock_that_is_an_hour_off(
    machine: Machine, capsys: pytest.CaptureFixture[str], ahead: float, word: str
) -> None:
    with Ollama(ahead=ahead) as server:
        status, results = checked(asking(machine, server), capsys)
    assert status == 0
    told = the(results, "clock")
    assert told["status"] == "warning"
    assert re.search(rf"ours is 3[56]\d\d s {word} that of {server.url}", told["detail"])
    assert "timedatectl" in told["cure"]


# --- This machine ---------------------------------------------------------------------------


@contextlib.contextmanager
def greeting() -> Iterator[int]:
    """The port of a program that is no milter: it greets, as a mail server does."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(b"220 mx.example.org ESMTP\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_port_that_another_program_has(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    with greeting() as port:
        machine.set("milter", socket=f"inet:{port}@127.0.0.1")
        status, results = checked(machine.write(), capsys)
    assert status == 1
    told = the(results, "socket")
    assert told["status"] == "failed"
    assert "does not speak as a milter does" in told["detail"]
    assert "another program listens there" in told["cure"]


def test_a_full_disk(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    small = machine.folder / "small"
    small.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        machine.set("history", file=f"{small}/history.db")
        machine.set("store", url=f"sqlite://{small}/store.db")
        status, results = checked(machine.write(), capsys)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert status == 0
    told = the(results, "room")
    assert told["status"] == "warning"
    assert f"store.url and history.file: {small} has 1 MB free" in told["detail"]
    assert "make room" in told["cure"]


class TestTheDaemonsUser:
    """One that does not run is asked about by its user's name; one that runs, by its process."""

    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if access.user("nobody") is None or os.geteuid() != 0:
            pytest.skip("there is no other user to take")
        monkeypatch.setattr(checkhost, "DAEMON", "nobody")

    def test_one_that_may_not_read_the_key(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        machine.set("milter", socket=f"inet:{free_port()}@127.0.0.1")
        status, results = checked(machine.write(), capsys)
        assert status == 1
        told = the(results, "permissions")
        assert told["status"] == "failed"
        assert f"trust.key_file: nobody may not read {machine.key} (-rw-r-----" in told["detail"]
        assert f"chown nobody {machine.key}" in told["cure"]

    def test_one_that_may_not_write_to_its_folder(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        machine.set("milter", socket=f"inet:{free_port()}@127.0.0.1")
        shutil.chown(machine.key, "nobody")
        _, results = checked(machine.write(), capsys)
        told = the(results, "room")
        assert told["status"] == "warning"
        assert f"nobody may not write to {machine.folder}" in told["detail"]
        shutil.chown(machine.folder, "nobody")
        (machine.folder / "history.db").touch(mode=0o600)
        _, results = checked(machine.write(), capsys)
        assert "history.db (-rw------- root:" in the(results, "room")["detail"]

    def test_one_that_runs_is_asked_about_as_who_it_is(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, results = checked(machine.write(), capsys)
        assert "permissions" not in {result["check"] for result in results}, "it runs as root"


@pytest.fixture(scope="module")
def listening(ollama: Ollama) -> Iterator[PrivateDaemon]:
    """A daemon at a unix socket."""
    llm = {"base_url": ollama.url, "model": MODEL}
    with PrivateDaemon({"llm": llm}, unix=True) as running:
        yield running


class TestWhoMayNot:
    """An administrator who is not root, and asks all the same."""

    @pytest.fixture
    def closed(self, listening: PrivateDaemon) -> Iterator[str]:
        """The address of a socket that is its owner's alone."""
        path = Path(Address.parse(listening.address).path)
        path.chmod(0o600)
        yield listening.address
        path.chmod(0o666)

    @pytest.fixture
    def unprivileged(self, machine: Machine) -> Iterator[configs.Config]:
        who = access.user("nobody")
        if who is None or os.geteuid() != 0:
            pytest.skip("there is no other user to be")
        config = configs.load(Path(machine.write()))
        groups = os.getgroups()
        try:
            os.setgroups([])
            os.setegid(min(who.gids))
            os.seteuid(who.uid)
            yield config
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def test_read_the_key(self, unprivileged: configs.Config) -> None:
        told = checkhost.key(unprivileged)
        assert told.status == "failed"
        assert "cannot be read: Permission denied" in told.detail

    def test_connect_to_the_socket(self, closed: str, unprivileged: configs.Config) -> None:
        told = checkhost.socket(configs.parse({"milter": {"socket": closed}}))
        assert told.status == "failed"
        assert f"we may not connect to {closed}" in told.detail
        assert "as root" in told.cure


class TestUnixSocket:
    @pytest.fixture
    def path(self, machine: Machine, listening: PrivateDaemon) -> Iterator[Path]:
        address = Address.parse(listening.address)
        machine.milter = listening.milter
        machine.set("milter", socket=listening.address)
        if access.user("postfix") is None:
            pytest.skip("there is no user postfix")
        yield Path(address.path)
        Path(address.path).chmod(0o666)
        listening.folder.chmod(0o755)

    def told(self, machine: Machine, capsys: pytest.CaptureFixture[str]) -> Told:
        return the(checked(machine.write(), capsys)[1], "postfix")

    def test_one_that_postfix_reaches(
        self, machine: Machine, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.told(machine, capsys)["status"] == "ok"

    def test_one_that_is_closed_to_postfix(
        self, machine: Machine, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path.chmod(0o660)
        told = self.told(machine, capsys)
        assert told["status"] == "warning"
        assert f"postfix may not write to {path} (srw-rw----" in told["detail"]
        assert "milter.socket_group" in told["cure"]

    def test_one_in_a_folder_that_is_closed_to_postfix(
        self, machine: Machine, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path.parent.chmod(0o700)
        told = self.told(machine, capsys)
        assert told["status"] == "warning"
        assert f"postfix may not pass through {path.parent} (drwx------" in told["detail"]

    @pytest.mark.parametrize(
        "master", ["smtp inet n - y - - smtpd\n", "smtp pass - - y - - smtpd -v\n"]
    )
    def test_one_outside_of_postfixs_chroot(
        self, machine: Machine, path: Path, capsys: pytest.CaptureFixture[str], master: str
    ) -> None:
        machine.master_cf = master
        told = self.told(machine, capsys)
        assert told["status"] == "warning"
        assert f"looks for unix:{path} at {machine.folder}/queue{path}" in told["detail"]
        cure = f'milter.socket = "unix:{machine.folder}/queue/rspamd-llm/milter.sock"'
        assert cure in told["cure"]

    def test_only_the_service_that_asks_counts(
        self, machine: Machine, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        machine.master_cf = (
            "smtp inet n - n - - smtpd\n"
            "submission inet n - y - - smtpd\n -o smtpd_milters=\n"
            "cleanup unix n - y - 0 cleanup\n"
        )
        assert self.told(machine, capsys)["status"] == "ok"

    @pytest.mark.parametrize(("level", "status"), [("0", "warning"), ("3.6", "ok")])
    def test_what_a_dash_in_master_cf_means(
        self,
        machine: Machine,
        path: Path,
        capsys: pytest.CaptureFixture[str],
        level: str,
        status: str,
    ) -> None:
        machine.master_cf = "smtp inet n - - - - smtpd\n"
        machine.lines.append(f"compatibility_level = {level}")
        assert self.told(machine, capsys)["status"] == status


class TestAccess:
    """Who may reach a file, beside what the kernel says when that user tries."""

    @pytest.mark.parametrize("mode", [0o000, 0o004, 0o040, 0o400, 0o604, 0o640, 0o066, 0o777])
    @pytest.mark.parametrize("owner", ["nobody", "root"])
    @pytest.mark.parametrize("folder_mode", [0o755, 0o700, 0o711])
    def test_it_is_as_the_kernel_says(
        self, machine: Machine, mode: int, owner: str, folder_mode: int
    ) -> None:
        who = access.user("nobody")
        if who is None or os.geteuid() != 0:
            pytest.skip("only root can be another user")
        folder = machine.folder / "kept"
        folder.mkdir()
        path = folder / "file"
        path.touch()
        shutil.chown(path, owner, min(who.gids))
        path.chmod(mode)
        folder.chmod(folder_mode)
        for bits, flag in ((access.READ, "-r"), (access.WRITE, "-w")):
            tried = subprocess.run(
                ["test", flag, str(path)], user=who.uid, extra_groups=who.gids, check=False
            )
            refusal = access.refusal(who, path, bits)
            assert (not refusal) == (tried.returncode == 0), refusal
        assert access.refusal(access.User("root", 0, frozenset()), path, access.READ) == ""

    def test_what_is_not_there_is_not_refused(self, machine: Machine) -> None:
        who = access.User("x", 54_321, frozenset())
        assert access.refusal(who, machine.folder / "none", access.READ) == ""

    def test_whose_process_listens(self, daemon: PrivateDaemon, tmp_path: Path) -> None:
        mine = os.geteuid()
        found = access.listener(Address.parse(daemon.address))
        assert found is not None
        assert found.uid == mine
        assert access.listener(Address.parse(f"inet:{free_port()}@127.0.0.1")) is None
        with socket.socket(socket.AF_UNIX) as line:
            line.bind(str(tmp_path / "s"))
            line.listen(1)
            found = access.listener(Address.parse(f"unix:{tmp_path}/s"))
        assert found is not None
        assert found.uid == mine
        assert access.listener(Address.parse(f"unix:{tmp_path}/none")) is None


# --- The command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


class TestCommand:
    """Output and exit status, whatever is installed on the machine."""

    @pytest.fixture(autouse=True)
    def plain(self, stub: StubModel, monkeypatch: pytest.MonkeyPatch) -> None:
        stub.set(Behaviour())
        monkeypatch.delenv("RSPAMD_LLM_CONFIG", raising=False)

    @staticmethod
    def written(folder: Path, server: str, **sections: dict[str, Any]) -> str:
        """A configuration file with a good key, and a model server."""
        key = folder / "verdict.key"
        key.touch(mode=0o600)
        key.write_text("ab" * 32 + "\n")
        document: dict[str, dict[str, Any]] = {
            "milter": {"socket": f"inet:{free_port()}@127.0.0.1"},
            "llm": {"base_url": server, "model": "stub"},
            # Tests ask nobody outside.
            "evidence": {"dns": False, "registration": False, "authentication": "off"},
            "search": {"provider": "none"},
            "trust": {"key_file": str(key)},
            "metrics": {"listen": ""},
        }
        for name, section in sections.items():
            document.setdefault(name, {}).update(section)
        path = folder / "rspamd-llm.toml"
        path.write_text(tomli_w.dumps(document))
        return str(path)

    def test_a_table_with_colours_in_a_terminal_alone(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = self.written(tmp_path, stub.base_url)
        (tmp_path / "verdict.key").chmod(0o644)
        assert cli.main(["check", "-c", path]) == 1
        plain = capsys.readouterr().out
        assert re.search(r"^FAIL +key ", plain, re.MULTILINE)
        assert "cure: make the file" in plain
        assert "\x1b[" not in plain
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        assert cli.main(["check", "-c", path]) == 1
        assert "\x1b[31mFAIL" in capsys.readouterr().out

    def test_each_failure_has_a_cause_and_a_cure(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = self.written(tmp_path, stub.base_url, llm={"model": "sutb"})
        (tmp_path / "verdict.key").chmod(0o644)
        status, results = checked(path, capsys)
        assert status == 1
        assert {told["check"] for told in results if told["status"] == "failed"} >= {
            *("key", "socket", "model"),
        }
        assert all(told["detail"] and told["cure"] for told in amiss(results))

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
            settings = world.settings(registries=registries)
            _, results = checked(self.written(tmp_path, stub.base_url, **settings), capsys)
            for name in ("dns", "registration", "web search"):
                told = the(results, name)
                assert told["status"] == "ok", told
                assert told["detail"].startswith("knows iana.org")
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
        path = self.written(
            tmp_path,
            stub.base_url,
            evidence=evidence | {"registries": str(registries)},
            search={"provider": "searxng", "url": "http://127.0.0.1:1"},
        )
        _, results = checked(path, capsys)
        for name in ("dns", "registration", "web search"):
            told = the(results, name)
            assert told["status"] == "warning", told
            assert told["cure"]
        assert the(results, "probe")["status"] == "ok"

    def test_a_server_that_talks_nonsense(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stub.set(Behaviour(answer="I cannot help with that."))
        status, results = checked(self.written(tmp_path, stub.base_url), capsys)
        assert status == 1
        assert the(results, "probe")["detail"].startswith("model-invalid: ")
        assert "context" not in {told["check"] for told in results}, "it would say no more"

    def test_what_postfix_does_to_us_is_told_in_the_order_of_its_weight(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ours = f"{{ {machine.milter}, default_action=shutdown, content_timeout=9 }}"
        milters(machine, RSPAMD, ours)
        _, results = checked(machine.write(), capsys)
        told = [result["detail"] for result in results if result["check"] == "postfix"]
        texts = ("(Rspamd) before", "(9 s)", "is shutdown")
        assert all(text in detail for text, detail in zip(texts, told, strict=True))

    def test_how_postfix_asks_us_is_told_where_it_does(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, results = checked(machine.write(), capsys)
        assert the(results, "postfix") == {
            "check": "postfix",
            "status": "ok",
            "detail": f"main.cf asks {machine.milter}: default_action=accept, connect_timeout=5,"
            " command_timeout=15, content_timeout=90",
            "cure": "",
        }

    def test_without_postfix_and_rspamd_there_is_nothing_to_say(
        self,
        tmp_path: Path,
        stub: StubModel,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(postfix, "SBIN", str(tmp_path))
        _, results = checked(self.written(tmp_path, stub.base_url), capsys)
        assert the(results, "postfix")["status"] == "ok"
        assert the(results, "postfix")["detail"].startswith("not installed here")
        assert the(results, "plugin")["detail"] == "Rspamd is not installed here"

    def test_a_configuration_with_faults_ends_it(
        self, tmp_path: Path, stub: StubModel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = self.written(tmp_path, stub.base_url, milter={"deadline": 0, "foo": 1})
        status, results = checked(path, capsys)
        assert status == 2
        assert [result["status"] for result in results] == ["failed", "failed"]


class TestRspamadmThatMisbehaves:
    @pytest.mark.parametrize(
        "script",
        ["exit 1", "exit 0", "echo nonsense", "echo '[1]'", "echo '{'", "while :; do echo x; done"],
    )
    def test_is_a_warning(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch, script: str
    ) -> None:
        (machine.folder / "bin" / "rspamadm").write_text(f"#!/bin/sh\n{script}\n")
        monkeypatch.setattr(rspamadm, "SECONDS", 2.0)
        with pytest.raises(ValueError, match=r".+"):
            rspamadm.read()


def test_the_plugin_has_the_version_of_the_package() -> None:
    assert rspamadm.version(PLUGIN / "rspamd_llm.lua") == OURS
