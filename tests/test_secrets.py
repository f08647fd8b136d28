"""Secrets are told to nobody: not to a log, an error, a command's output, the process list, a
header, a model or a search engine.  Real daemons and commands; servers that fail and say the key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tomli_w

import rspamd_llm
from bench import webstub
from bench.milterclient import Mail
from bench.stubanswers import Behaviour
from bench.stubmodel import StubModel
from bench.webstub import Found, WebStub
from rspamd_llm import assembly
from rspamd_llm import config as configs
from rspamd_llm import engine as engines
from rspamd_llm.domain import ConfigError, Key
from rspamd_llm.servers import Endpoint
from tests.chain.daemon import EMBEDDED, ROOT, PrivateDaemon, nursery_of, processes_of
from tests.chain.ports import free_port
from tests.test_serve import envelope, run, sent
from tests.test_trust import NOWHERE, family

SENDER = "acme-letting.co.uk"
MAIL = Mail.parse(
    f"From: Ann <ann@{SENDER}>\r\nTo: bob@example.org\r\nSubject: rent\r\n\r\n"
    f"Please see http://{SENDER}/ for the rent.\r\n".encode()
)


@dataclass(frozen=True)
class Held:
    """The secrets of one test, in files, and a configuration that names them."""

    verdict: str
    model: str
    search: str
    sections: Mapping[str, Mapping[str, Any]]

    def written(self, folder: Path) -> str:
        """The configuration as a file, with a milter address where nobody is."""
        path = folder / "rspamd-llm.toml"
        milter = {**self.sections["milter"], "socket": f"inet:{free_port()}@127.0.0.1"}
        path.write_text(tomli_w.dumps({**self.sections, "milter": milter}))
        return str(path)

    def assert_unsaid(self, told: str | bytes, where: str) -> None:
        """None of them stands there, nor a half of one, in any of the usual spellings."""
        data = told if isinstance(told, bytes) else told.encode("utf-8", "surrogateescape")
        lower = data.lower()
        for name in ("verdict", "model", "search"):
            secret = getattr(self, name)
            assert not [one for one in spellings(secret) if one.lower() in lower], (where, name)


def spellings(secret: str) -> list[bytes]:
    """A secret as text, its halves, and as programs tend to write it."""
    forms = [secret.encode()]
    if re.fullmatch("[0-9a-f]{64}", secret):
        forms.append(bytes.fromhex(secret))
    half = len(secret) // 2
    told = [secret[:half].encode(), secret[half:].encode()]
    for form in forms:
        coded = base64.b64encode(form).rstrip(b"=")
        told += [form, form.hex().encode(), coded, repr(form)[2:-1].encode(), quote(form).encode()]
    return told


def secret_file(folder: Path, name: str, content: str) -> str:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(content + "\n")
    return str(path)


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(scope="module")
def web() -> Iterator[WebStub]:
    with WebStub.running({SENDER: [Found("Acme", f"https://{SENDER}/", "Homes to let")]}) as server:
        yield server


@pytest.fixture
def held(tmp_path: Path, stub: StubModel, web: WebStub) -> Held:
    """Fresh secrets, and servers that behave."""
    stub.set(Behaviour())
    stub.requests.clear()
    web.set(webstub.Behaviour())
    web.queries.clear()
    made = [secrets.token_hex(32), f"sk-{secrets.token_hex(16)}", f"BSA{secrets.token_hex(16)}"]
    sections: dict[str, dict[str, Any]] = {
        "milter": {"deadline": 20.0},
        "llm": {
            "base_url": stub.base_url,
            "model": "stub",
            "api_key_file": secret_file(tmp_path, "model.key", made[1]),
        },
        "evidence": {"dns": False, "registration": False, "authentication": "off"},
        "search": {
            "provider": "brave",
            "url": f"{web.url}/res/v1/web/search",
            "api_key_file": secret_file(tmp_path, "search.key", made[2]),
        },
        "store": {"url": f"sqlite://{tmp_path}/store.db"},
        "trust": {"key_file": secret_file(tmp_path, "verdict.key", made[0])},
        "metrics": {"listen": f"127.0.0.1:{free_port()}"},
    }
    return Held(made[0], made[1], made[2], sections)


def command(*words: str, mail: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """One of our commands in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rspamd_llm", *words],
        cwd=ROOT,
        input=mail,
        capture_output=True,
        timeout=60,
        check=False,
    )


def faults(held: Held) -> list[Behaviour]:
    """How a model server fails, and says in its error what it was sent."""
    echo = f"Incorrect API key provided: Bearer {held.model}."
    return [
        *(Behaviour(status=status, error=echo) for status in (400, 401, 403, 404, 422, 429, 500)),
        *(Behaviour(fault=fault) for fault in ("html", "not-json", "no-choices", "early", "reset")),
        Behaviour(reject_format="once"),
        Behaviour(),
    ]


class TestWhileItServes:
    """A daemon at level debug, in real traffic."""

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_no_log_no_header_no_store(
        self, tmp_path: Path, stub: StubModel, web: WebStub, held: Held, form: str
    ) -> None:
        sections = {**held.sections, "log": {"level": "debug", "format": form}}
        queries = [
            webstub.Behaviour(status=401, raw=f'{{"token": "{held.search}"}}'.encode()),
            webstub.Behaviour(raw=held.search.encode()),
            webstub.Behaviour(),
        ]
        with PrivateDaemon(sections) as daemon:
            for number, behaviour in enumerate(faults(held)):
                stub.set(behaviour)
                web.set(queries[number % len(queries)])
                _, after = run(sent(daemon, MAIL, envelope(f"4XyZ{number}")))
                assert after.values("X-GPT-Verdict")
                held.assert_unsaid(after.raw(), "the mail")
            assert daemon.stop() == 0
            log = daemon.log()
        assert log.count("queue_id") >= len(faults(held))
        assert "debug" in log
        held.assert_unsaid(log, "the log")
        stored = [path for path in tmp_path.glob("store.db*") if path.is_file()]
        assert stored
        for path in stored:
            held.assert_unsaid(path.read_bytes(), path.name)

    def test_each_server_is_told_its_own_key_and_no_other(
        self, stub: StubModel, web: WebStub, held: Held
    ) -> None:
        with PrivateDaemon(held.sections) as daemon:
            run(sent(daemon, MAIL))
        (question,) = stub.requests
        assert question.headers["authorization"] == f"Bearer {held.model}"
        others = {
            name: value for name, value in question.headers.items() if value[7:] != held.model
        }
        held.assert_unsaid(f"{others}{question.body}", "what the model is told")
        (query, *_) = web.queries
        assert held.search in query.headers.values()
        others = {name: value for name, value in query.headers.items() if value != held.search}
        held.assert_unsaid(f"{query.words}{others}", "what the search engine is told")

    def test_no_argument_and_no_environment(self, held: Held) -> None:
        with PrivateDaemon(held.sections) as daemon:
            run(sent(daemon, MAIL))
            for pid in family(daemon.pid):
                for name in ("cmdline", "environ", "comm"):
                    held.assert_unsaid(Path(f"/proc/{pid}/{name}").read_bytes(), name)

    def test_those_who_read_mail_have_never_known_them(self, held: Held) -> None:
        with PrivateDaemon(held.sections) as daemon:
            run(sent(daemon, MAIL))
            mother = nursery_of(daemon.pid)
            readers = processes_of(mother)
            assert readers
            for pid in (mother, *readers):
                held.assert_unsaid(memory_of(pid), "a reader's memory")
            known = memory_of(daemon.pid)
            assert held.model.encode() in known
            assert bytes.fromhex(held.verdict) in known

    def test_nor_of_the_processes_beside_it(self, held: Held) -> None:
        own = {"llm": EMBEDDED, "trust": held.sections["trust"], "log": {"level": "debug"}}
        with PrivateDaemon({**own, "search": {"provider": "ddgs"}}, environment=NOWHERE) as daemon:
            run(sent(daemon, MAIL))
            children = family(daemon.pid)
            assert len(children) >= 3, "the daemon, the engine, the searches"
            for pid in children:
                for name in ("cmdline", "environ"):
                    content = Path(f"/proc/{pid}/{name}").read_bytes()
                    held.assert_unsaid(content, name)
                    assert_no_key(content, name)
            assert_no_key(daemon.log().encode(), "the log")


def memory_of(pid: int) -> bytes:
    """All that a process has in memory and could have written there."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            start, end = (int(number, 16) for number in place.split("-"))
            if rights.startswith("rw"):
                with contextlib.suppress(OSError):  # the kernel's own pages
                    memory.seek(start)
                    found.append(memory.read(end - start))
    return b"".join(found)


def assert_no_key(content: bytes, where: str) -> None:
    """Nothing that could be the engine's key, but for what this process has in its environment."""
    inherited = " ".join(os.environ.values()).encode()
    found = re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", content)
    assert not [key for key in found if key not in inherited], where


def test_the_engine_s_key_is_in_no_process_list() -> None:
    """The very key, of an engine that is started as the daemon starts it."""

    def told() -> bytes:
        """The arguments and the environment of this process and its children."""
        pids = [os.getpid(), *processes_of(os.getpid())]
        places = [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("cmdline", "environ")]
        return b"\0".join(map(content, places))

    def content(place: Path) -> bytes:
        # What another test of this process has left behind may end just now.
        try:
            return place.read_bytes()
        except ProcessLookupError:
            return b""

    async def work() -> None:
        order = engines.plan(model="builtin", context_tokens=2_048, slots=1, threads=1)
        engine = engines.Engine(order)
        await engine.start()
        try:
            (endpoint,) = engine.endpoints()
            assert endpoint.api_key.encode() not in told()
            assert endpoint.api_key not in f"{endpoint} {order!r} {engine!r} {vars(engine)}"
            assert len(endpoint.api_key) == 32
        finally:
            await engine.stop()

    asyncio.run(work())


ODD = {
    "two lines": "{key}\nX-Evil: {key}",
    "a carriage return": "{key}\rX-Evil: {key}",
    "a NUL": "{key}\0{key}",
    "a blank": "{key} {key}",
    "not ASCII": "{key}é",
    "not Latin-1": "{key}ключ",
    "very long": "{key}" + "x" * 100_000,
}


@pytest.mark.parametrize("odd", ODD)
def test_a_key_that_fits_no_header(stub: StubModel, held: Held, odd: str) -> None:
    """Mail passes, no header is smuggled in, and the error does not quote what it is about."""
    for section in ("llm", "search"):
        path = Path(held.sections[section]["api_key_file"])
        path.write_text(ODD[odd].format(key=path.read_text().strip()))
    with PrivateDaemon({**held.sections, "log": {"level": "debug"}}) as daemon:
        answer, after = run(sent(daemon, MAIL))
        assert answer.final == "continue"
        assert after.values("X-GPT-Verdict")
        held.assert_unsaid(after.raw(), "the mail")
        daemon.stop()
        held.assert_unsaid(daemon.log(), "the log")
    assert all("x-evil" not in question.headers for question in stub.requests)


class TestCommands:
    """What a person is shown."""

    def test_config_names_files_and_not_what_is_in_them(self, tmp_path: Path, held: Held) -> None:
        ended = command("config", "-c", held.written(tmp_path))
        assert ended.returncode == 0
        assert b"model.key" in ended.stdout
        held.assert_unsaid(ended.stdout + ended.stderr, "config")

    @pytest.mark.parametrize("words", [("check",), ("check", "--json")], ids=["table", "json"])
    @pytest.mark.parametrize("status", [200, 401])
    def test_check(
        self,
        tmp_path: Path,
        stub: StubModel,
        web: WebStub,
        held: Held,
        *,
        words: tuple[str, ...],
        status: int,
    ) -> None:
        stub.set(Behaviour(status=status, error=f"Incorrect API key: {held.model}"))
        web.set(webstub.Behaviour(status=status, raw=held.search.encode()))
        ended = command(*words, "-c", held.written(tmp_path))
        assert ended.returncode == 1
        assert b"Traceback" not in ended.stderr
        held.assert_unsaid(ended.stdout + ended.stderr, "check")

    @pytest.mark.parametrize("status", [200, 401, 500])
    def test_scan(self, tmp_path: Path, stub: StubModel, held: Held, status: int) -> None:
        stub.set(Behaviour(status=status, error=f"Incorrect API key: {held.model}"))
        ended = command("scan", "--explain", "-c", held.written(tmp_path), mail=MAIL.raw())
        assert b"rent" in ended.stdout, "what the model was shown"
        held.assert_unsaid(ended.stdout + ended.stderr, "scan")


class TestRefusals:
    """A file that cannot be used is named; what stands in it is not."""

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("key = {key}", "serve"),
            ("{key}é", "serve"),
            ("{key}\n{half}", "serve"),
            ("\0{key}", "check --json"),
            ("{half}", "check"),
        ],
    )
    def test_a_verdict_key(self, tmp_path: Path, held: Held, line: str, words: str) -> None:
        file = Path(held.sections["trust"]["key_file"])
        file.write_text(line.format(key=held.verdict, half=held.verdict[:32]) + "\n")
        ended = command(*words.split(), "-c", held.written(tmp_path))
        assert ended.returncode in (1, 2)
        told = ended.stdout + ended.stderr
        assert b"is no key of 64 hex digits" in re.sub(rb"\s+", b" ", told)
        held.assert_unsaid(told, words)

    @pytest.mark.parametrize("section", ["llm", "search"])
    def test_a_servers_key_that_is_no_text(self, tmp_path: Path, held: Held, section: str) -> None:
        file = Path(held.sections[section]["api_key_file"])
        file.write_bytes(file.read_bytes().strip() + b"\xff\xfe\n")
        ended = command("serve", "-c", held.written(tmp_path))
        assert ended.returncode == 2
        assert f"{section}.api_key_file: {file} cannot be read".encode() in ended.stderr
        held.assert_unsaid(ended.stdout + ended.stderr, "serve")

    @pytest.mark.parametrize("setting", ["llm.base_url", "search.url", "rspamd.url"])
    def test_a_url_with_a_password(self, tmp_path: Path, held: Held, setting: str) -> None:
        section, _, name = setting.partition(".")
        table = {**held.sections.get(section, {}), name: f"http://me:{held.model}@127.0.0.1/v1"}
        path = dataclasses.replace(held, sections={**held.sections, section: table})
        ended = command("serve", "-c", path.written(tmp_path))
        assert ended.returncode == 2
        assert setting.encode() in ended.stderr
        held.assert_unsaid(ended.stdout + ended.stderr, "serve")


class TestValues:
    """A value that holds a secret does not show it where it is printed by mistake."""

    def test_of_a_plan_and_its_parts(self, held: Held) -> None:
        plan = assembly.plan(configs.parse(held.sections))
        key = Key(bytes.fromhex(held.verdict))
        assert (plan.endpoints[0].api_key, plan.search_key) == (held.model, held.search)
        for value in (plan, plan.endpoints, key, Endpoint("http://a/v1", held.model), {"k": key}):
            held.assert_unsaid(f"{value} {value!r} {value!s} %s %r" % (value, value), "repr")

    def test_of_an_error(self, held: Held) -> None:
        Path(held.sections["llm"]["api_key_file"]).write_bytes(held.model.encode() + b"\xff")
        with pytest.raises(ConfigError) as caught:
            assembly.plan(configs.parse(held.sections))
        held.assert_unsaid(f"{caught.value!r} {caught.value}", "the error")

    def test_of_every_class_that_has_one(self) -> None:
        hidden = [
            field
            for kind in classes()
            for field in dataclasses.fields(kind)
            if re.search(r"(?:^|_)(?:api_key|secret|token|password|search_key)$", field.name)
        ]
        assert {field.name for field in hidden} >= {"api_key", "secret", "search_key"}
        assert not [field.name for field in hidden if field.repr]


def classes() -> set[Any]:
    """Every dataclass of ours."""
    found = set()
    for module in pkgutil.walk_packages(rspamd_llm.__path__, "rspamd_llm."):
        if module.name.endswith(("_child", "__main__")):
            continue
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        found |= {kind for _, kind in members if dataclasses.is_dataclass(kind)}
    return {kind for kind in found if kind.__module__.startswith("rspamd_llm")}
