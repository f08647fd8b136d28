"""`init`: what it writes, what it finds out with the real postconf and rspamadm, what it says."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.stubmodel import StubModel
from rspamd_llm import advice, cli, config, init, neighbours, postfix, programs
from tests import postconf
from tests.chain.ports import free_port

OURS = postfix.Settings(
    default_action="accept", connect_timeout=5, command_timeout=15, content_timeout=90
)


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Postfix, Rspamd, Mailcow and Ollama, whatever runs on this one."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(postfix, "SBIN", str(tmp_path / "bin"))
    monkeypatch.setattr(neighbours, "OLLAMA_PORT", free_port())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "etc"


def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `init` says."""
    assert cli.main(["init", "--dir", str(folder)]) == 0
    return capsys.readouterr().out


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


class TestFiles:
    def test_it_writes_a_configuration_and_a_key_and_never_overwrites(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = run(folder, capsys)
        key = folder / "verdict.key"
        assert folder.stat().st_mode & 0o777 == 0o755
        assert key.stat().st_mode & 0o777 == 0o640
        secret = key.read_text().splitlines()[-1]
        assert len(secret) == 64
        assert secret not in said
        loaded = config.load(folder / "rspamd-llm.toml")
        assert config.to_document(loaded)["trust"] == {"key_file": str(key)}
        (folder / "rspamd-llm.toml").write_text("# mine\n")
        said = run(folder, capsys)
        assert said.count("kept") == 2
        assert "wrote" not in said
        assert (folder / "rspamd-llm.toml").read_text() == "# mine\n"
        assert key.read_text().splitlines()[-1] == secret

    def test_on_a_bare_machine_all_but_the_key_is_at_its_default(self, folder: Path) -> None:
        assert cli.main(["init", "--dir", str(folder)]) == 0
        document = config.to_document(config.load(folder / "rspamd-llm.toml"))
        default = config.to_document(config.Config())
        assert document.pop("trust") != default.pop("trust")
        assert document == default

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
        told = capsys.readouterr().err
        assert str(tmp_path / "file") in told
        assert "--dir" in told

    def test_a_kept_configuration_with_a_mistake_is_told(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.mkdir()
        (folder / "rspamd-llm.toml").write_text("[milter]\ndeadline = 700\n")
        said = run(folder, capsys)
        assert "milter.deadline: found 700" in said
        assert "content_timeout=90s" in said

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_the_key_goes_to_the_daemon_and_the_group_that_is_there(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(init, "DAEMON_USER", "nobody")
        monkeypatch.setattr(init, "RSPAMD_GROUPS", ("no-such-group", "daemon"))
        said = run(folder, capsys)
        key = folder / "verdict.key"
        assert (key.owner(), key.group()) == ("nobody", "daemon")
        assert "chown" not in said
        key.chmod(0o600)
        assert "chown rspamd-llm" in run(folder, capsys)


class TestWhatLeavesTheMachine:
    def test_each_is_named_with_how_to_switch_it_off(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = words(run(folder, capsys))
        for told in (
            "mail, to be judged: to http://127.0.0.1:11434/v1",
            "DNS: names of senders' domains and clients' addresses, to your resolver off with"
            ' [evidence] dns = false and authentication = "header"',
            "registries (RDAP): the registered domains of senders and links off with [evidence]"
            " registration = false",
            "web search (brave, duckduckgo, mojeek): the registered domains of senders and links"
            ' off with [search] provider = "none"',
        ):
            assert told in said

    def test_what_it_says_to_write_does_switch_it_off(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = run(folder, capsys)
        lines = [line.partition("off with")[2] for line in said.splitlines() if "off with" in line]
        text = "\n".join(lines).replace("] ", "]\n").replace(" and ", "\n")
        text = text.replace("[evidence]\nregistration", "registration")  # a table stands once
        (folder / "rspamd-llm.toml").write_text(text)
        config.load(folder / "rspamd-llm.toml")
        said = run(folder, capsys)
        assert "off with" not in said
        assert "mail, to be judged" in said

    def test_of_a_kept_configuration(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.mkdir()
        (folder / "rspamd-llm.toml").write_text(
            '[llm]\nengine = "embedded"\nmodel = "builtin"\n[rspamd]\nurl = "http://r:11333"\n'
            '[store]\nurl = "valkeys://u:secret@v:1/0"\n'
        )
        said = run(folder, capsys)
        assert "mail: never" in said
        assert "Rspamd's opinion of it: to http://r:11333" in said
        assert "valkeys://...@v:1/0" in said
        assert "secret" not in said


# --- Postfix --------------------------------------------------------------------------------


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts main.cf and master.cf where the real postconf finds them."""
    folder = tmp_path / "postfix"
    folder.mkdir()
    monkeypatch.setenv("MAIL_CONFIG", str(folder))

    def write(*content: str) -> None:
        monkeypatch.setattr(postfix, "SBIN", programs.SBIN)
        postconf.write(folder, *content)

    return write


def advised(said: str) -> str:
    """The value of smtpd_milters that is printed."""
    match = re.search(r"smtpd_milters =\n(.*?)\n +then: postfix reload", said, re.DOTALL)
    assert match
    return words(match[1])


class TestPostfix:
    def test_without_one_the_lines_are_the_usual_ones(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = run(folder, capsys)
        assert "no Postfix, no Rspamd" in said
        defaults = postfix.Settings(
            default_action="x", connect_timeout=1, command_timeout=1, content_timeout=1
        )
        ours, theirs = postfix.entries(advised(said), defaults)
        assert ours == postfix.Milter("inet:127.0.0.1:11390", OURS)
        assert theirs.address == "inet:127.0.0.1:11332"
        assert theirs.settings.default_action == "accept"

    def test_the_milters_that_are_there_stay_in_their_order(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        before = "rspamd = inet:127.0.0.1:11332\nmilter_default_action = accept\n"
        there = "inet:127.0.0.1:8891 { unix:/x, default_action=reject } $rspamd"
        install(f"{before}smtpd_milters = {there}\n")
        said = run(folder, capsys)
        assert advised(said).endswith(f"}}, {there}")
        assert "While unix:/x does not answer, Postfix does reject" in said
        assert said.count("does not answer") == 1
        # What is printed is what Postfix then does, and what we are content with.
        install(f"{before}smtpd_milters = {advised(said)}\n")
        found = postfix.read()
        assert found is not None
        (service,) = found.services
        assert [milter.address for milter in service.milters] == [
            "inet:127.0.0.1:11390",
            "inet:127.0.0.1:8891",
            "unix:/x",
            "inet:127.0.0.1:11332",
        ]
        assert service.milters[0].settings == OURS
        loaded = config.load(folder / "rspamd-llm.toml")
        assert advice.placement(loaded, found) == ()
        assert advice.contradictions(loaded, found) == ()
        assert "asks the daemon already, and as it should" in run(folder, capsys)

    def test_one_that_asks_no_milter(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        install("non_smtpd_milters = inet:127.0.0.1:11332\n")
        said = run(folder, capsys)
        assert advised(said).endswith("content_timeout=90s }")
        assert "non_smtpd_milters stays as it is" in said

    def test_a_wrong_order_is_told_with_its_cure(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        install(
            "smtpd_milters = inet:127.0.0.1:11332 inet:127.0.0.1:11390\n"
            "milter_default_action = accept\n",
        )
        said = run(folder, capsys)
        assert "asks the daemon already, but:" in said
        assert "put the daemon first in smtpd_milters" in said

    def test_the_entry_is_that_of_the_configuration(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        install("queue_directory = /q\n")
        folder.mkdir()
        for socket_, entry in (
            ("inet:7@0.0.0.0", "inet:127.0.0.1:7"),
            ("inet6:7@::1", "inet:[::1]:7"),
            ("unix:/q/llm/m.sock", "unix:llm/m.sock"),
            ("unix:/run/m.sock", "unix:/run/m.sock"),
        ):
            (folder / "rspamd-llm.toml").write_text(
                f'[milter]\nsocket = "{socket_}"\ndeadline = 100\n'
            )
            said = run(folder, capsys)
            assert advised(said).startswith(f"{{ {entry}, default_action=accept")
            assert "content_timeout=130s" in said
            assert ("does not reach /run/m.sock: put it below /q." in said) == ("/run" in entry)

    def test_own_domains_and_suggestions_from_its_lists(
        self, folder: Path, install: Install
    ) -> None:
        install(
            "myhostname = mx.Example.org\nmydomain = example.org\n"
            "mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain\n"
            "virtual_mailbox_domains = example.net, hash:/etc/postfix/domains\n"
            "relay_domains = /etc/postfix/relay .example.com !not.example [192.0.2.1]\n"
            "mynetworks = 127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104 192.0.2.0/24 hash:/x\n",
        )
        assert cli.main(["init", "--dir", str(folder)]) == 0
        text = (folder / "rspamd-llm.toml").read_text()
        loaded = config.load(folder / "rspamd-llm.toml")
        assert loaded.evidence.own_domains == (
            "mx.example.org",
            "example.org",
            "example.net",
            "example.com",
        )
        assert "# Postfix keeps domains in maps, too (virtual_mailbox_domains, relay_dom" in text
        assert 'skip_networks = ["127.0.0.0/8", "::1/128", "192.0.2.0/24"]' in text
        assert loaded.gate.skip_networks == config.Gate().skip_networks
        assert '# Such as "mx.Example.org"' in text
        assert loaded.evidence.trusted_authserv == ()

    def test_many_domains_are_still_a_configuration(self, folder: Path, install: Install) -> None:
        names = [f"customer-{number}.example" for number in range(500)]
        install(f"mydestination = {' '.join(names)}\n")
        assert cli.main(["init", "--dir", str(folder)]) == 0
        assert config.load(folder / "rspamd-llm.toml").evidence.own_domains == tuple(names)

    @pytest.mark.parametrize(("chroot", "is_told"), [("y", True), ("n", False)])
    def test_a_chroot_is_told_beside_the_socket(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
        chroot: str,
        is_told: bool,
    ) -> None:
        master = f"smtp inet n - {chroot} - - smtpd\n"
        install("queue_directory = /q\n", master)
        assert ("Postfix (smtpd in a chroot)" in run(folder, capsys)) == is_told
        text = (folder / "rspamd-llm.toml").read_text()
        assert ("it only reaches unix sockets below /q." in text) == is_told

    def test_services_with_milters_of_their_own_are_named(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        install(
            "smtpd_milters = inet:127.0.0.1:11332\n",
            "smtp inet n - y - - smtpd\n"
            "submission inet n - y - - smtpd\n -o smtpd_milters=inet:127.0.0.1:9\n",
        )
        assert "submission/inet of master.cf has smtpd_milters of its own" in run(folder, capsys)

    def test_a_configuration_that_postfix_does_not_take(
        self,
        folder: Path,
        install: Install,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        install("smtpd_milters = { inet:a:1\n")
        assert advised(run(folder, capsys)).endswith(
            "inet:127.0.0.1:11332, default_action=accept }"
        )


# --- Rspamd ---------------------------------------------------------------------------------

RSPAMADM = shutil.which("rspamadm")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """The local configuration folder of the real rspamadm."""
    if RSPAMADM is None:
        assert os.environ.get("CI", "").lower() not in {"true", "1"}, "rspamadm is not installed"
        pytest.skip("rspamadm is not installed")
    folder = tmp_path / "rspamd"
    (folder / "local.d").mkdir(parents=True)
    program = tmp_path / "bin" / "rspamadm"
    program.write_text(f'#!/bin/sh\nexec {RSPAMADM} --var=LOCAL_CONFDIR={folder} "$@"\n')
    program.chmod(0o755)
    return folder


class TestRspamd:
    def test_its_folder_and_its_addresses(
        self, folder: Path, local: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (local / "local.d" / "worker-proxy.inc").write_text('bind_socket = "*:22332";\n')
        (local / "local.d" / "worker-normal.inc").write_text('bind_socket = "10.0.0.7:22333";\n')
        said = run(folder, capsys)
        assert f"Rspamd ({local})" in said
        assert f"{local}/plugins.d/" in said
        assert f">>{local}/local.d/groups.conf" in said
        assert f"in {local}/local.d/rspamd_llm.conf" in said
        assert f'key_file = "{folder}/verdict.key";' in said
        assert advised(said).endswith("{ inet:127.0.0.1:22332, default_action=accept }")
        # A suggestion, not a setting.
        assert '# Here: url = "http://10.0.0.7:22333"' in (folder / "rspamd-llm.toml").read_text()
        assert config.load(folder / "rspamd-llm.toml").rspamd.url == ""

    @pytest.mark.parametrize(
        ("settings", "entry"),
        [
            ('bind_socket = "/run/r.sock mode=0660 owner=_rspamd";', "unix:/run/r.sock"),
            ('bind_socket = ["systemd:0", "[::1]:7"];', "inet:[::1]:7"),
            ('bind_socket = "*v6:7";', "inet:[::1]:7"),
            ("milter = false;", ""),
            ("enabled = false;", ""),
        ],
    )
    def test_where_its_milter_is(
        self,
        folder: Path,
        local: Path,
        capsys: pytest.CaptureFixture[str],
        settings: str,
        entry: str,
    ) -> None:
        (local / "override.d").mkdir()
        (local / "override.d" / "worker-proxy.inc").write_text(settings)
        told = advised(run(folder, capsys))
        wanted = f", {{ {entry}, default_action=accept }}" if entry else "content_timeout=90s }"
        assert told.endswith(wanted)

    def test_one_that_has_our_plugin_already(
        self, folder: Path, local: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        conf = Path(__file__).parents[1] / "conf" / "rspamd"
        (local / "plugins.d").mkdir()
        shutil.copy(conf / "rspamd_llm.lua", local / "plugins.d")
        section = (conf / "rspamd.conf.local").read_text()
        key = folder / "verdict.key"
        section = section.replace("/etc/rspamd-llm/verdict.key", str(key))
        (local / "rspamd.conf.local").write_text(section)
        said = run(folder, capsys)
        assert f"Rspamd has the plugin already, in {local}." in said
        assert "key_file" not in said

    @pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '{'", "echo '[1]'"])
    def test_a_rspamadm_that_tells_nothing(
        self, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], script: str
    ) -> None:
        program = tmp_path / "bin" / "rspamadm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert ">>/etc/rspamd/rspamd.conf.local" in run(folder, capsys)


def test_mailcow_has_its_own_folders(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mailcow" / "data" / "conf" / "rspamd").mkdir(parents=True)
    monkeypatch.setattr(neighbours, "MAILCOW", tmp_path / "mailcow")
    said = run(folder, capsys)
    assert f"{tmp_path}/mailcow/data/conf/rspamd/plugins.d" in said
    assert f"{tmp_path}/mailcow/data/conf/postfix/extra.cf" in said
    assert "docker compose restart rspamd-mailcow" in said
    assert advised(said).endswith("{ inet:rspamd:9900, default_action=accept }")


# --- Ollama ---------------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A server in Ollama's place: what it sends to each visitor, piece by piece."""
    pieces: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(neighbours, "OLLAMA_PORT", server.getsockname()[1])

        def serve() -> None:
            line, _ = server.accept()
            with line:
                line.recv(10_000)
                for piece in pieces:
                    try:
                        line.sendall(piece)
                    except OSError:
                        return
                    over.wait(0.05)
                if not pieces:
                    over.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        yield pieces
        over.set()
        socket.create_connection(server.getsockname()).close()  # lets it go where nobody came
        thread.join()


class TestOllama:
    def test_one_that_has_the_model(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        answering: list[bytes],
    ) -> None:
        answering.append(
            b'HTTP/1.0 200 OK\r\n\r\n{"data": [{"id": "llama3.1:8b"}, {"id": "gemma3:12b"}]}'
        )
        said = run(folder, capsys)
        assert "Ollama at 127.0.0.1:11434 has gemma3:12b" in said
        assert "OLLAMA_CONTEXT_LENGTH" in said

    def test_one_that_lacks_it(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        answering: list[bytes],
    ) -> None:
        answering.append(b'HTTP/1.0 200 OK\r\n\r\n{"data": [{"id": "a:1"}, {"id": "b\\n[x]"}]}')
        said = run(folder, capsys)
        assert "lacks gemma3:12b: `ollama pull gemma3:12b`" in said
        assert "one that it has: a:1." in said
        assert "# The Ollama here has a:1." in (folder / "rspamd-llm.toml").read_text()
        assert config.load(folder / "rspamd-llm.toml").llm.model == "gemma3:12b"

    def test_a_real_server_of_the_api(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with StubModel.running() as stub:
            monkeypatch.setattr(neighbours, "OLLAMA_PORT", stub.port)
            assert "one that it has: stub" in run(folder, capsys)

    @pytest.mark.parametrize(
        "pieces",
        [
            [],
            [b"HTTP/1.0 200 OK\r\n\r\n", *[b" "] * 100],
            [b"HTTP/1.0 404 Not Found\r\n\r\nno"],
            [b"HTTP/1.0 200 OK\r\n\r\n[1]"],
            [b'HTTP/1.0 200 OK\r\n\r\n{"data": [{"name": 1}]}'],
            [b'HTTP/1.0 200 OK\r\n\r\n{"data": null}'],
            [b"220 mx ESMTP\r\n"],
        ],
    )
    def test_another_server_or_one_that_hangs(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        answering: list[bytes],
        pieces: list[bytes],
    ) -> None:
        monkeypatch.setattr(neighbours, "OLLAMA_SECONDS", 0.3)
        answering += pieces
        assert "no Ollama that answers" in run(folder, capsys)
