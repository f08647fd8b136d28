"""What Postfix tells of its milters: its syntax, the real postconf, and ones that misbehave."""

from __future__ import annotations

from pathlib import Path

import pytest

from rspamd_llm import postfix
from rspamd_llm.libmilter import Address
from rspamd_llm.postfix import Milter, Postfix, Service, Settings
from tests import postconf

DEFAULTS = Settings(
    default_action="tempfail", connect_timeout=30, command_timeout=30, content_timeout=300
)
EXAMPLE = Path(__file__).resolve().parents[1] / "conf" / "postfix" / "main.cf.example"


def test_an_entry_without_braces_has_the_settings_of_all() -> None:
    assert postfix.entries("inet:127.0.0.1:11390", DEFAULTS) == (
        Milter("inet:127.0.0.1:11390", DEFAULTS),
    )


def test_an_entry_in_braces_has_its_own() -> None:
    value = "{ inet:h:1, default_action=accept, connect_timeout=5, content_timeout=2m }"
    own = Settings(
        default_action="accept", connect_timeout=5, command_timeout=30, content_timeout=120
    )
    assert postfix.entries(value, DEFAULTS) == (Milter("inet:h:1", own),)


def test_blanks_around_the_sign_need_braces_of_their_own() -> None:
    (milter,) = postfix.entries("{inet:h:1 { content_timeout = 3m }}", DEFAULTS)
    assert milter.settings.content_timeout == 180


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("", []),
        (" ,\t", []),
        ("inet:a:1,inet:b:2", ["inet:a:1", "inet:b:2"]),
        ("inet:a:1\t unix:/b ,,local:c", ["inet:a:1", "unix:/b", "local:c"]),
        ("{inet:a:1} inet:b:2", ["inet:a:1", "inet:b:2"]),
        ("{ inet:a:1, protocol=6, of_a_later_version=x }, unix:b", ["inet:a:1", "unix:b"]),
        # An open brace keeps the rest together; Postfix then fails to connect to that.
        ("unix:/a{b inet:c:1", ["unix:/a{b inet:c:1"]),
        ("inet:a:1}", ["inet:a:1}"]),
    ],
)
def test_a_list_is_split_as_postfix_splits_it(value: str, addresses: list[str]) -> None:
    assert [milter.address for milter in postfix.entries(value, DEFAULTS)] == addresses


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "{ }",
        "{ inet:a:1, default_action=accept",
        "{ inet:a:1 }b",
        "{inet:a:1}{inet:b:2}",
        "{ inet:a:1, default_action }",
        "{ inet:a:1, default_action = accept }",
        "{ inet:a:1, =accept }",
        "{ inet:a:1, content_timeout=soon }",
        "{ inet:a:1, content_timeout= }",
    ],
)
def test_what_postfix_does_not_start_with_is_an_error(value: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        postfix.entries(value, DEFAULTS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1w", 604800)],
)
def test_times(value: str, seconds: int) -> None:
    assert postfix.seconds(value) == seconds


@pytest.mark.parametrize("value", ["", "s", "5 m", "5M", "5ms", "-5", "1.5s", "٣", "9" * 5_000])
def test_what_is_no_time(value: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        postfix.seconds(value)


class TestAsking:
    """Our address is libmilter's syntax, theirs is Postfix's."""

    @staticmethod
    def asks(entry: str, ours: str, queue: str = "/var/spool/postfix") -> bool:
        service = Service(
            "", (Milter("inet:elsewhere.example:1", DEFAULTS), Milter(entry, DEFAULTS))
        )
        found = Postfix(queue, (service,)).asking(Address.parse(ours))
        assert found in ((), ((service, service.milters[1]),))
        return bool(found)

    @pytest.mark.parametrize(
        ("entry", "ours"),
        [
            ("inet:127.0.0.1:11390", "inet:11390@127.0.0.1"),
            ("inet:localhost:11390", "inet:11390@127.0.0.1"),
            ("inet:11390", "inet:11390@127.0.0.1"),
            ("inet:[127.0.0.1]:11390", "inet:11390@127.0.0.1"),
            ("inet:127.0.0.1:11390", "inet:11390@localhost"),
            ("inet:127.0.0.1:11390", "inet:11390"),
            ("inet:192.0.2.7:11390", "inet:11390@0.0.0.0"),
            ("inet:[::1]:11390", "inet6:11390@[::1]"),
            ("inet:[ipv6:0:0::1]:11390", "inet6:11390@::1"),
            ("inet:localhost:11390", "inet6:11390@::1"),
            ("inet:mx.Example.org:11390", "inet:11390@mx.example.org"),
            ("unix:/run/rspamd-llm/m", "unix:/run/rspamd-llm/m"),
            ("local:/run/rspamd-llm/m", "local:/run/rspamd-llm/m"),
            ("unix:/run/x/../rspamd-llm/m", "unix:/run/rspamd-llm/m"),
            ("unix:/llm/m", "unix:/var/spool/postfix/llm/m"),
            ("unix:llm/m", "unix:/var/spool/postfix/llm/m"),
        ],
    )
    def test_ours(self, entry: str, ours: str) -> None:
        assert self.asks(entry, ours)

    @pytest.mark.parametrize(
        ("entry", "ours"),
        [
            ("inet:127.0.0.1:11391", "inet:11390@127.0.0.1"),
            ("inet:127.0.0.2:11390", "inet:11390@127.0.0.1"),
            ("inet:127.0.0.1:milter", "inet:11390@127.0.0.1"),
            (f"inet:127.0.0.1:{'1' * 5_000}", "inet:11390@127.0.0.1"),
            ("INET:127.0.0.1:11390", "inet:11390@127.0.0.1"),
            ("127.0.0.1:11390", "inet:11390@127.0.0.1"),
            ("", "inet:11390@127.0.0.1"),
            ("unix:/llm/m", "unix:/llm/n"),
            ("unix:llm/m", "unix:/llm/m"),
            ("inet:127.0.0.1:11390", "unix:/run/m"),
            ("unix:/run/m", "inet:11390@127.0.0.1"),
        ],
    )
    def test_not_ours(self, entry: str, ours: str) -> None:
        assert not self.asks(entry, ours)

    def test_a_symbolic_link_leads_to_us(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "var-run").symlink_to(tmp_path / "run")
        assert self.asks(f"unix:{tmp_path}/var-run/m", f"unix:{tmp_path}/run/m")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        assert not self.asks(f"unix:{tmp_path}/loop/m", f"unix:{tmp_path}/run/m")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration folder of the real postconf."""
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    return tmp_path


class TestRealPostconf:
    def test_our_example(self, folder: Path) -> None:
        postconf.write(folder, EXAMPLE.read_text())
        found = postfix.read()
        assert found is not None
        own = Settings(
            default_action="accept", connect_timeout=5, command_timeout=15, content_timeout=90
        )
        ((service, milter),) = found.asking(Address.parse("inet:11390@127.0.0.1"))
        assert (service.name, milter) == ("", Milter("inet:127.0.0.1:11390", own))
        assert [milter.address for milter in service.milters] == [
            "inet:127.0.0.1:11390",
            "inet:127.0.0.1:11332",
        ]

    def test_names_are_expanded_and_the_settings_of_all_are_told(self, folder: Path) -> None:
        postconf.write(
            folder,
            "llm = inet:localhost:7\nsmtpd_milters = $llm, ${rspamd?no}unix:r\n"
            "milter_content_timeout = 4m\nmilter_default_action = quarantine\n"
            f"queue_directory = {folder}\n",
        )
        found = postfix.read()
        assert found is not None
        own = Settings(
            default_action="quarantine", connect_timeout=30, command_timeout=30, content_timeout=240
        )
        milters = (Milter("inet:localhost:7", own), Milter("unix:r", own))
        assert found == Postfix(str(folder), (Service("", milters),))

    def test_services_of_master_cf_have_their_own(self, folder: Path) -> None:
        postconf.write(
            folder,
            "smtpd_milters = inet:127.0.0.1:7\nmilter_default_action = accept\n",
            "smtp inet n - y - 1 postscreen\n"
            "smtpd pass - - y - - smtpd\n -o milter_content_timeout=1m\n"
            "127.0.0.1:10025 inet n - y - - smtpd\n"
            " -o { smtpd_milters = { inet:127.0.0.1:7, default_action=reject } }\n"
            "submission inet n - y - - smtpd\n -o smtpd_milters= -o milter_default_action=reject\n"
            "cleanup unix n - y - 0 cleanup\n -o milter_content_timeout=9\n",
        )
        found = postfix.read()
        assert found is not None
        told = {
            service.name: (milter.settings.default_action, milter.settings.content_timeout)
            for service, milter in found.asking(Address.parse("inet:7@127.0.0.1"))
        }
        assert told == {
            "": ("accept", 300),
            "smtpd/pass": ("accept", 60),
            "127.0.0.1:10025/inet": ("reject", 300),
        }
        assert Service("submission/inet", ()) in found.services

    def test_no_milters(self, folder: Path) -> None:
        postconf.write(folder, "")
        found = postfix.read()
        assert found is not None
        assert [service.milters for service in found.services] == [()]

    @pytest.mark.parametrize(
        "content",
        [
            "smtpd_milters = $smtpd_milters\n",
            "smtpd_milters = { inet:a:1\n",
            "milter_content_timeout = soon\n",
        ],
    )
    def test_a_configuration_that_postfix_does_not_take(self, folder: Path, content: str) -> None:
        postconf.write(folder, content)
        assert postfix.read() is None

    def test_no_configuration(self, folder: Path) -> None:
        assert postfix.read() is None


class TestPostconfThatMisbehaves:
    @pytest.mark.parametrize(
        "script",
        [
            "exit 0",
            "exit 1",
            "echo smtpd_milters = inet:a:1",
            "printf '\\377\\000 = \\377\\n'",
            "kill -SYS $$",
            # Its child keeps the pipe open when it is killed itself.
            "/bin/sleep 60",
            "while :; do echo x = y; done",
            "exec /usr/bin/yes x",
            "exec >&-; /bin/sleep 60",
        ],
    )
    def test_tells_nothing_and_holds_up_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
    ) -> None:
        program = tmp_path / "postconf"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(postfix, "SECONDS", 0.5)
        assert postfix.read() is None

    def test_none_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(postfix, "SBIN", str(tmp_path))
        assert postfix.read() is None

    def test_one_that_is_no_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "postconf").write_text("no program")
        (tmp_path / "postconf").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert postfix.read() is None
