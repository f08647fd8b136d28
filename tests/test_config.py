"""The configuration: every fault with its text, all of them at once, and what is legal."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from rspamd_llm import config, serve
from rspamd_llm.config import Config
from rspamd_llm.domain import ConfigError

Document = dict[str, Any]

A_NAME = 'a name like [a-z][a-z0-9_-]{0,31}, but not "none"'
A_SOCKET = '"inet:PORT@HOST", "inet6:PORT@HOST" or "unix:/absolute/path"'
A_STORE = '"memory://", "sqlite:///absolute/path" or "valkey://host:port/db"'
A_URL = 'a URL such as "http://127.0.0.1:11434/v1"'
A_TABLE = "a table of symbol names with numbers from 0 to 1000000"


def faults(document: Document) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.parse(document)
    return caught.value.faults


class TestFaults:
    """Each names its path, what was found and what is allowed."""

    @pytest.mark.parametrize(
        ("path", "value", "text"),
        [
            ("milter.deadline", 0.5, "found 0.5; allowed is a number from 1 to 600"),
            ("milter.deadline", 601, "found 601; allowed is a number from 1 to 600"),
            ("milter.deadline", True, "found true; allowed is a number from 1 to 600"),
            ("milter.deadline", "60", 'found "60"; allowed is a number from 1 to 600'),
            ("milter.deadline", math.nan, "found nan; allowed is a number from 1 to 600"),
            ("milter.deadline", math.inf, "found inf; allowed is a number from 1 to 600"),
            ("milter.deadline", -math.inf, "found -inf; allowed is a number from 1 to 600"),
            (
                "milter.deadline",
                10**400,
                "found a very long number; allowed is a number from 1 to 600",
            ),
            ("gate.sample", 1.01, "found 1.01; allowed is a number from 0 to 1"),
            ("milter.max_body", 1e6, "found 1000000.0; allowed is a whole number from 1000 to "),
            ("milter.max_in_flight", 0, "found 0; allowed is a whole number from 1 to 10000"),
            ("milter.max_in_flight", 10_001, "found 10001; allowed is a whole number from 1 to "),
            ("llm.concurrency", True, "found true; allowed is a whole number from 1 to 10000"),
            ("llm.concurrency", 0, "found 0; allowed is a whole number from 1 to 10000"),
            ("milter.on_error", "reject", 'found "reject"; allowed is one of "accept", "tempfail"'),
            ("milter.on_error", ["accept"], 'found ["accept"]; allowed is one of "accept", '),
            ("milter.socket", "11390", f'found "11390"; allowed is {A_SOCKET}'),
            ("milter.socket", "unix:run/x", f'found "unix:run/x"; allowed is {A_SOCKET}'),
            ("milter.socket_mode", 660, 'found 660; allowed is an octal mode such as "0660"'),
            ("milter.socket_mode", "0888", 'found "0888"; allowed is an octal mode such as '),
            ("prompt.redact", 1, "found 1; allowed is true or false"),
            ("prompt.redact", "true", 'found "true"; allowed is true or false'),
            ("prompt.file", 5, "found 5; allowed is a string"),
            ("llm.model", "", 'found ""; allowed is the name of a model'),
            ("llm.model", " a", 'found " a"; allowed is the name of a model'),
            (
                "llm.base_url",
                "localhost:80",
                f'found "localhost:80"; allowed is {A_URL}',
            ),
            ("llm.base_url", [], "found []; allowed is a list of at least 1"),
            (
                "llm.base_url",
                ["http://a/v1", 5],
                f'found ["http://a/v1", 5]; allowed is a list, each item {A_URL}',
            ),
            (
                "llm.base_url",
                ["http://a", "http://a"],
                'found ["http://a", "http://a"]; allowed is a list without repeats',
            ),
            (
                "llm.base_url",
                "http://me:secret@a/v1",
                f'found "http://...@a/v1"; allowed is {A_URL}',
            ),
            ("search.url", "ftp://a", 'found "ftp://a"; allowed is empty or a URL'),
            ("verdict.categories", "scam", 'found "scam"; allowed is a list'),
            (
                "verdict.categories",
                ["none"],
                f'found ["none"]; allowed is a list, each item {A_NAME}',
            ),
            (
                "verdict.categories",
                ["Scam"],
                f'found ["Scam"]; allowed is a list, each item {A_NAME}',
            ),
            ("verdict.categories", ["a" * 33], f"allowed is a list, each item {A_NAME}"),
            (
                "verdict.categories",
                ["a\n"],
                f'found ["a\\n"]; allowed is a list, each item {A_NAME}',
            ),
            ("verdict.categories", [True], "found [true]; allowed is a list, each item a name"),
            (
                "evidence.nameservers",
                ["dns.example"],
                'allowed is a list, each item an IP address such as "127.0.0.1"',
            ),
            (
                "gate.skip_networks",
                ["10.0.0.0/33"],
                'allowed is a list, each item an address or network such as "192.0.2.0/24"',
            ),
            ("gate.skip_networks", [10], "found [10]; allowed is a list, each item a string"),
            ("search.backends", [], "found []; allowed is a list of at least 1"),
            ("rspamd.except_symbols", {"A": -1}, f"found a table; allowed is {A_TABLE}"),
            ("rspamd.except_symbols", {"A": math.nan}, f"found a table; allowed is {A_TABLE}"),
            ("rspamd.except_symbols", {"A": 10**400}, f"found a table; allowed is {A_TABLE}"),
            ("rspamd.except_symbols", {"A": True}, f"found a table; allowed is {A_TABLE}"),
            ("rspamd.except_symbols", ["A"], f'found ["A"]; allowed is {A_TABLE}'),
            ("store.url", "sqlite://store.db", f'found "sqlite://store.db"; allowed is {A_STORE}'),
            (
                "metrics.listen",
                "localhost:80",
                'found "localhost:80"; allowed is empty, or an addr',
            ),
            ("metrics.listen", "127.0.0.1", 'allowed is empty, or an address and port such as "12'),
            ("metrics.listen", "::1:80", 'allowed is empty, or an address and port such as "127.'),
            ("metrics.listen", "127.0.0.1:0", "allowed is empty, or an address and port such as"),
            ("history.keep", "all", 'found "all"; allowed is one of "none", "verdicts", "full"'),
            ("history.days", 0, "found 0; allowed is a whole number from 1 to 3650"),
            ("history.days", 3_651, "found 3651; allowed is a whole number from 1 to 3650"),
            ("history.file", "history.db", 'found "history.db"; allowed is an absolute path'),
            ("history.file", "", 'found ""; allowed is an absolute path'),
            ("metrics.page", "yes", 'found "yes"; allowed is true or false'),
            ("log.level", "trace", 'found "trace"; allowed is one of "debug", "info", '),
        ],
    )
    def test_text(self, path: str, value: object, text: str) -> None:
        section, name = path.split(".")
        (fault,) = faults({section: {name: value}})
        assert fault.startswith(f"{path}: found ")
        assert text in fault

    def test_exact_text_of_one(self) -> None:
        assert faults({"milter": {"deadline": 0}}) == (
            "milter.deadline: found 0; allowed is a number from 1 to 600",
        )

    def test_an_unknown_section_is_told_with_those_there_are(self) -> None:
        assert faults({"miltre": {}}) == (
            "miltre: unknown section; there are milter, llm, prompt, verdict, evidence, search, "
            "gate, rspamd, store, history, trust, metrics, log",
        )

    def test_an_unknown_name_is_told_with_those_there_are(self) -> None:
        assert faults({"trust": {"keyfile": "x"}}) == (
            "trust.keyfile: unknown setting; there are key_file",
        )

    def test_a_section_is_a_table(self) -> None:
        assert faults({"log": "info"}) == ('log: found "info"; allowed is a table, written [log]',)

    def test_all_are_told_at_once_in_the_files_order(self) -> None:
        found = faults(
            {
                "llm": {"engine": "magic", "model": 1, "concurrency": 1},
                "nonsense": {"a": 1},
                "log": {"format": "xml", "colour": True},
            }
        )
        assert [fault.partition(":")[0] for fault in found] == [
            "llm.engine",
            "llm.model",
            "nonsense",
            "log.format",
            "log.colour",
        ]

    def test_a_long_value_is_cut(self) -> None:
        (fault,) = faults({"log": {"level": "x" * 5_000}})
        assert len(fault) < 200

    def test_the_errors_text_is_one_fault_a_line(self) -> None:
        error = ConfigError(("a: first", "b: second"))
        assert str(error) == "a: first\nb: second"


class TestLegal:
    def test_whole_numbers_do_for_numbers(self) -> None:
        read = config.parse({"milter": {"deadline": 30}})
        assert read.milter.deadline == 30.0
        assert isinstance(read.milter.deadline, float)

    def test_one_server_or_several(self) -> None:
        one = config.parse({"llm": {"base_url": "http://a/v1"}})
        two = config.parse({"llm": {"base_url": ["http://a/v1", "https://[::1]:8080/v1"]}})
        assert one.llm.base_url == "http://a/v1"
        assert two.llm.base_url == ("http://a/v1", "https://[::1]:8080/v1")

    def test_networks_are_kept_in_canonical_form(self) -> None:
        read = config.parse(
            {"gate": {"skip_networks": ["10.1.2.3/8", "192.0.2.1", "2001:DB8::/32"]}}
        )
        assert read.gate.skip_networks == ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")

    @pytest.mark.parametrize(
        "socket",
        ["inet:11390@127.0.0.1", "inet6:1@::1", "inet:11390", "unix:/run/a", "local:/run/a"],
    )
    def test_sockets(self, socket: str) -> None:
        assert config.parse({"milter": {"socket": socket}}).milter.socket == socket

    @pytest.mark.parametrize(
        "url", ["memory://", "sqlite:///a/b.db", "valkey://h:6379/0", "rediss://h:6379/0"]
    )
    def test_stores(self, url: str) -> None:
        assert config.parse({"store": {"url": url}}).store.url == url

    def test_no_category_but_none(self) -> None:
        assert config.parse({"verdict": {"categories": []}}).verdict.categories == ()

    def test_every_section_may_stand_empty(self) -> None:
        assert config.parse({name: {} for name in config.to_document(Config())}) == Config()


DEFAULTS: Document = {
    "milter": {
        "socket": "inet:11390@127.0.0.1", "socket_mode": "0660", "socket_group": "",
        "deadline": 60.0, "drain": 15.0, "on_error": "accept", "max_body": 1_000_000,
        "max_in_flight": 200,
    },
    "llm": {
        "engine": "openai", "base_url": "http://127.0.0.1:11434/v1", "model": "gemma3:12b",
        "api_key_file": "", "concurrency": 4, "context_tokens": 4096,
        "max_output_tokens": 300,
    },
    "prompt": {"file": "", "content": "full", "redact": False, "mark_data": False},
    "verdict": {"categories": ["phishing", "scam", "malware", "marketing"]},
    "evidence": {
        "timeout": 10.0, "dns": True, "nameservers": [], "authentication": "auto",
        "trusted_authserv": [], "registration": True, "own_domains": [],
    },
    "search": {
        "provider": "ddgs", "backends": ["brave", "duckduckgo", "mojeek"], "url": "",
        "api_key_file": "", "max_domains": 3, "max_results": 2, "timeout": 5.0,
        "max_per_day": 2000,
    },
    "gate": {
        "skip_authenticated": True, "skip_networks": ["127.0.0.0/8", "::1/128"],
        "max_size": 5_000_000, "allow_file": "", "optout_file": "", "sample": 1.0,
        "learn_correspondents": False,
    },
    "rspamd": {
        "url": "", "password_file": "", "timeout": 8.0, "ham_below": 0.0,
        "trigger_symbols": [],
    },
    "store": {"url": "sqlite:///var/lib/rspamd-llm/store.db", "verdict_ttl": 3600},
    "history": {"keep": "verdicts", "days": 21, "file": "/var/lib/rspamd-llm/history.db"},
    "trust": {"key_file": "/etc/rspamd-llm/verdict.key"},
    "metrics": {"listen": "127.0.0.1:11391", "page": False, "token_file": ""},
    "log": {"level": "info", "format": "text"},
}  # fmt: skip


class TestDefaults:
    """As the reference promises them."""

    def test_values(self) -> None:
        document = config.to_document(Config())
        assert list(document) == list(DEFAULTS)
        for section, expected in DEFAULTS.items():
            assert document[section] | expected == document[section], section

    def test_a_file_that_says_nothing_and_no_file_are_the_defaults(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.toml"
        path.write_text("")
        assert config.load(path) == config.load(None) == Config()

    def test_they_contradict_nothing(self) -> None:
        assert config.warnings(Config()) == ()

    def test_configurations_do_not_share_their_tables(self) -> None:
        assert Config().rspamd.except_symbols is not Config().rspamd.except_symbols


class TestRoundTrip:
    def test_what_is_written_reads_as_it_was(self) -> None:
        document = {
            "milter": {"socket": "unix:/run/rspamd-llm/milter.sock", "deadline": 5},
            "llm": {"base_url": ["http://a/v1", "http://b/v1"], "model": 'odd "name" \\ é'},
            "verdict": {"categories": ["x", "y-z_9"]},
            "rspamd": {"except_symbols": {"A": 1, "B.C": 2.5}},
            "gate": {"sample": 0.25},
        }
        read = config.parse(document)
        written = tomli_w.dumps(config.to_document(read))
        assert config.parse(tomllib.loads(written)) == read

    def test_defaults(self) -> None:
        written = tomli_w.dumps(config.to_document(Config()))
        assert config.parse(tomllib.loads(written)) == Config()


class TestLoad:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "none.toml"
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert caught.value.faults == (f"{path}: cannot be read: No such file or directory",)

    @pytest.mark.parametrize(
        "content",
        [
            b"[milter",
            b"\xff\xfe",
            b"a = 1\na = 2",
            b"[gate]\nsample = " + b"9" * 5_000,
            b"a = " + b"[" * 20_000,
        ],
    )
    def test_what_is_no_toml(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "bad.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        (fault,) = caught.value.faults
        assert fault.startswith(f"{path}: is not TOML: ")

    def test_a_number_of_any_length_is_a_fault_like_another(self, tmp_path: Path) -> None:
        path = tmp_path / "long.toml"
        path.write_text(f"[llm]\nconcurrency = 0x{'f' * 9_000}\n")
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert caught.value.faults == (
            "llm.concurrency: found a very long number; allowed is a whole number from 1 to 10000",
        )


class TestContradictions:
    """Legal, told as warnings, never refused."""

    @pytest.mark.parametrize(
        ("document", "text"),
        [
            (
                {"milter": {"deadline": 9}, "evidence": {"timeout": 9.5}},
                "evidence.timeout (9.5 s) is above milter.deadline (9 s): it will never be reached",
            ),
            (
                {"search": {"timeout": 11}},
                "search.timeout is above evidence.timeout: it will never be reached",
            ),
            (
                {"llm": {"model": "builtin"}},
                'llm.model "builtin" is of the embedded engine: set llm.engine = "embedded"',
            ),
            (
                {"gate": {"max_size": 1_000}},
                "milter.max_body is above gate.max_size: larger mail is skipped, not read",
            ),
            (
                {"milter": {"socket_group": "postfix"}},
                "milter.socket_group only applies to a unix socket",
            ),
            (
                {"milter": {"drain": 15.5}},
                "milter.drain (15.5 s) needs TimeoutStopSec=25.5 or more in the systemd unit, which"
                " comes with 25: else systemd kills the daemon while mail is still judged",
            ),
            (
                {"milter": {"max_in_flight": 3}},
                "llm.concurrency (4) is above milter.max_in_flight (3): so many calls are never"
                " made; raise max_in_flight",
            ),
            (
                {"llm": {"engine": "embedded", "model": "x.gguf", "slots": 3}},
                "llm.concurrency (4) is above llm.slots (3): the engine lets the others wait; set"
                " both alike",
            ),
            (
                {"gate": {"allow_file": "/x"}, "evidence": {"authentication": "off"}},
                'gate.allow_file has no effect with evidence.authentication = "off": nothing proves'
                " the sender",
            ),
            (
                {"gate": {"learn_correspondents": True}, "evidence": {"authentication": "off"}},
                'gate.learn_correspondents has no effect with evidence.authentication = "off":'
                " nothing proves the sender",
            ),
            (
                {"gate": {"learn_correspondents": True}, "store": {"url": "memory://"}},
                'gate.learn_correspondents with store.url = "memory://" forgets at each start',
            ),
            (
                {"rspamd": {"trigger_symbols": ["FOO"]}},
                "[rspamd] has no effect without rspamd.url",
            ),
            (
                {"metrics": {"page": True, "listen": ""}},
                "metrics.page has no effect without metrics.listen",
            ),
            (
                {"metrics": {"page": True}, "history": {"keep": "none"}},
                'metrics.page shows no verdicts with history.keep = "none"',
            ),
            (
                {"rspamd": {"url": "http://127.0.0.1:11333", "trigger_symbols": ["REPLY", "X"]}},
                "rspamd.trigger_symbols: REPLY stands in except_symbols too: mail with it is never"
                " asked about",
            ),
        ],
    )
    def test_text(self, document: Document, text: str) -> None:
        assert config.warnings(config.parse(document)) == (text,)

    def test_what_the_builtin_model_has_no_use_for(self) -> None:
        llm = {"engine": "embedded", "model": "builtin"}
        assert config.warnings(config.parse({"llm": llm})) == ()
        told = config.warnings(
            config.parse({"llm": llm, "prompt": {"redact": True}, "verdict": {"categories": ["x"]}})
        )
        assert told == (
            "without effect with the builtin model: prompt",
            "without effect with the builtin model: verdict.categories that it does not know",
        )

    def test_switching_off_what_is_not_there_is_no_warning(self) -> None:
        off = {"evidence": {"dns": False, "authentication": "off"}, "search": {"provider": "none"}}
        assert config.warnings(config.parse(off)) == ()

    def test_equal_times_do_not_contradict(self) -> None:
        document = {"milter": {"deadline": 10}, "evidence": {"timeout": 10}}
        assert config.warnings(config.parse(document)) == ()

    def test_equal_limits_do_not_contradict(self) -> None:
        document = {
            "milter": {"max_in_flight": 2},
            "llm": {"engine": "embedded", "model": "x.gguf", "concurrency": 2, "slots": 2},
        }
        assert config.warnings(config.parse(document)) == ()

    def test_a_server_elsewhere_has_no_slots_of_ours(self) -> None:
        assert config.warnings(config.parse({"llm": {"slots": 1}})) == ()

    def test_the_unit_is_as_the_warning_says(self) -> None:
        unit = Path(__file__).resolve().parents[1] / "systemd" / "rspamd-llm.service"
        assert f"\nTimeoutStopSec={config.UNIT_STOP:g}\n" in unit.read_text()
        ending = serve.LAST_ANSWERS + serve.ANSWER_GRACE + serve.LAST_ANSWERS
        assert ending < config.STOP_ROOM
