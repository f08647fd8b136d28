"""The reference: up to date, complete by a second reading of the code, and well-formed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rspamd_llm import allowed, cli
from rspamd_llm.config import Config, to_document
from rspamd_llm.domain import Failure, Skip
from rspamd_llm.domain.outcome import Cache
from script.reference import __main__ as program
from script.reference import commands, examples, markdown, pages, roff, settings, symbols, texts
from script.reference.words import marked

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "man/rspamd-llm.1", ROOT / "man/rspamd-llm.toml.5")
WHOLE = (ROOT / "docs/configuration.md", *PAGES)
"""Those that are generated from end to end."""

COMMAND = "python -m script.reference"


def written(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def manual(number: int) -> str:
    """A manual page without its escapes."""
    text = PAGES[0 if number == 1 else 1].read_text(encoding="utf-8")
    return re.sub(r"\\f[BIR]", "", text).replace(r"\-", "-")


def sources() -> str:
    """All of the daemon's modules, and the plugin."""
    modules = (ROOT / "rspamd_llm").rglob("*.py")
    files = [*modules, ROOT / "conf/rspamd/rspamd_llm.lua"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


class TestFiles:
    def test_are_up_to_date(self) -> None:
        generated = pages.generated()
        assert set(generated) == {ROOT / "docs/reference.md", *WHOLE}
        for path, text in generated.items():
            assert path.read_text(encoding="utf-8") == text, f"run {COMMAND}"

    @pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
    def test_say_at_the_top_that_they_are_generated(self, path: Path) -> None:
        assert COMMAND in path.read_text(encoding="utf-8").splitlines()[0]

    def test_are_written_where_their_text_has_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = tmp_path / "man/page"
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        monkeypatch.setattr(pages, "generated", lambda: {page: "text\n"})
        assert program.main() == 0
        assert page.read_text(encoding="utf-8") == "text\n"
        assert capsys.readouterr().out == "wrote man/page\n"
        program.main()
        assert capsys.readouterr().out == ""

    def test_a_page_keeps_what_is_written_by_hand(self) -> None:
        text = written("docs/reference.md")
        assert markdown.reference(f"above\n{text}below\n") == f"above\n{text}below\n"

    def test_a_page_without_the_place_of_a_part_is_refused(self) -> None:
        text = written("docs/reference.md").replace("<!-- end of codes -->", "")
        with pytest.raises(ValueError, match="end of codes"):
            markdown.reference(text)


class TestNothingIsLeftOut:
    """Read from the code in other ways than the generator's."""

    def test_of_the_settings(self) -> None:
        expected = [(name, key) for name, table in to_document(Config()).items() for key in table]
        page = re.split(r"^## \[(\w+)\]$", written("docs/configuration.md"), flags=re.MULTILINE)
        assert expected == [
            (name, key)
            for name, text in zip(page[1::2], page[2::2], strict=True)
            for key in re.findall(r"\*\*`(\w+)`\*\* \(default: ", text)
        ]
        page = re.split(r"^\.SS \[(\w+)\]$", manual(5), flags=re.MULTILINE)
        assert expected == [
            (name, key)
            for name, text in zip(page[1::2], page[2::2], strict=True)
            for key in re.findall(r"^(\w+) \(default: ", text, flags=re.MULTILINE)
        ]

    def test_of_what_they_mean(self) -> None:
        for section in settings.sections():
            for entry in section.entries:
                assert len(entry.meaning) > len("so many"), entry

    @pytest.mark.parametrize("name", [None, *(command.name for command in commands.commands())])
    def test_of_the_commands(self, name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cli.main([name, "--help"] if name else ["--help"])
        told = capsys.readouterr().out
        options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told))
        assert {"--help"} <= options
        for page in (written("docs/reference.md"), manual(1)):
            assert options <= set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", page))
            if name:
                assert re.search(rf"^(###|\.SS) {name}$", page, re.MULTILINE)

    def test_of_what_options_mean(self) -> None:
        every = [option for command in commands.commands() for option in command.options]
        for option in (*every, *commands.shared(), *commands.general()):
            assert option.meaning, option.forms

    @pytest.mark.parametrize("code", [*Skip, *Failure, *Cache])
    def test_of_the_codes(self, code: str) -> None:
        assert re.search(rf"^\| `?{code}`? \| ", written("docs/reference.md"), re.MULTILINE)
        if not isinstance(code, Cache):
            assert f"\n.TP\n{code}\n" in manual(1)

    def test_of_the_symbols(self) -> None:
        groups = written("conf/rspamd/groups.conf")
        known = set(re.findall(r"\bLLM_[A-Z]+\b", groups + written("conf/rspamd/rspamd_llm.lua")))
        known -= {"LLM_NONE"}  # reserved, so that no category is called so
        assert len(known) >= 16
        for page in (written("docs/reference.md"), manual(1)):
            assert set(re.findall(r"^(?:\| `)?(LLM_[A-Z]+)\b", page, re.MULTILINE)) == known

    def test_of_the_headers(self) -> None:
        known = set(re.findall(r"\bX-GPT-[A-Z][a-z]+\b", sources()))
        assert len(known) >= 7
        assert known <= set(re.findall(r"\bX-GPT-[A-Z][a-z]+\b", written("docs/reference.md")))

    def test_of_the_environment(self) -> None:
        known = set(re.findall(r"""environ(?:\.get\(|\[)"(\w+)""", sources()))
        assert "RSPAMD_LLM_CONFIG" in known
        for page in (written("docs/reference.md"), manual(1)):
            assert known <= set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", page))


class TestTexts:
    """One for each thing, in the order of the code, and none left over."""

    def test_of_codes(self) -> None:
        assert list(texts.SKIPPED) == list(Skip)
        assert list(texts.UNSCORED) == list(Failure)
        assert list(texts.CACHE) == list(Cache)

    def test_of_headers(self) -> None:
        assert list(texts.HEADERS) == list(examples.scored())
        assert tuple(texts.FIELDS) == examples.fields()

    def test_of_symbols(self) -> None:
        assert set(texts.SYMBOLS) == set(symbols.others())
        assert tuple(texts.REFUSALS) == symbols.refusals()
        assert symbols.most() == 8

    def test_of_commands(self) -> None:
        assert set(texts.COMMANDS) <= {command.name for command in commands.commands()}


class TestWhatIsAllowed:
    @pytest.mark.parametrize(
        ("check", "text"),
        [
            (allowed.text, "a string"),
            (allowed.boolean, "true or false"),
            (allowed.integer(1, 10_000), "a whole number from 1 to 10_000"),
            (allowed.choice("a", "b"), 'one of "a", "b"'),
            (allowed.list_of(allowed.text), "a list, each item a string"),
            (allowed.list_of(allowed.text, least=1), "a list of at least 1, each item a string"),
            (
                allowed.list_of(allowed.network),
                'a list, each item an address or network such as "192.0.2.0/24"',
            ),
            (
                allowed.one_or_more(allowed.URL),
                'a URL such as "http://127.0.0.1:11434/v1", or a list of such',
            ),
        ],
    )
    def test_is_told_as_the_check_tells_it(self, check: allowed.Check, text: str) -> None:
        assert settings.allowed(check) == text

    def test_a_check_that_refuses_nothing_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="takes anything"):
            settings.allowed(lambda value: value)


class TestComments:
    @pytest.fixture
    def template(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of rspamd-llm.toml, which the generator reads instead."""
        path = tmp_path / settings.TEMPLATE.name
        path.write_bytes(settings.TEMPLATE.read_bytes())
        monkeypatch.setattr(settings, "TEMPLATE", path)
        return path

    def test_one_that_an_empty_line_follows_is_the_sections(self, template: Path) -> None:
        text = template.read_text(encoding="utf-8")
        head = "[log]\n# Of the log.\n# All of it.\n\n"
        template.write_text(text.replace("[log]\n", head), encoding="utf-8")
        log = settings.sections()[-1]
        assert log.meaning == "Of the log. All of it."
        assert log.entries[0].meaning.startswith('"debug"')
        assert "\n## [log]\n\nOf the log. All of it.\n\n- **`level`**" in markdown.configuration()

    def test_one_stands_for_all_settings_up_to_the_next(self) -> None:
        (milter, *_) = settings.sections()
        assert [setting.name for setting in milter.entries[1].settings] == [
            "socket_mode",
            "socket_group",
        ]

    @pytest.mark.parametrize(
        ("old", "new", "fault"),
        [
            ("deadline = 60.0", "deadline = 61.0", r"\[milter\]: .* other settings than"),
            ("deadline = 60.0\n", "", r"\[milter\]: .* other settings than"),
            ("[log]\n", "[log]\nlevel = 1\n", r"\[log\]: no comment above: level = 1"),
            ("[log]\n", "[lug]\n# A.\na = 1\n[log]\n", "unknown sections: lug"),
        ],
    )
    def test_a_file_that_differs_from_the_code_is_refused(
        self, template: Path, old: str, new: str, fault: str
    ) -> None:
        text = template.read_text(encoding="utf-8")
        assert text.count(old) == 1
        template.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ValueError, match=fault):
            settings.sections()


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('is "full" or', 'is `"full"` or'),
            ("see gate.max_size.", "see `gate.max_size`."),
            ('With url = "" nothing', 'With `url = ""` nothing'),
            ("at http://[::1]:80/v1, or", "at `http://[::1]:80/v1`, or"),
            ("in /etc/rspamd-llm.", "in `/etc/rspamd-llm`."),
            ("`listen = 1` stays", "`listen = 1` stays"),
            ("and/or, 1/2", "and/or, 1/2"),
        ],
    )
    def test_what_is_written_as_it_stands_is_marked(self, text: str, expected: str) -> None:
        assert marked(text, ["gate.max_size"]) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("One. Two `a-b`. Three", "One.\nTwo \\fBa\\-b\\fR.\nThree"),
            (".TH at the start", "\\&.TH at the start"),
            ("`'a'`", "\\fB\\(aqa\\(aq\\fR"),
            ("a \\ b", "a \\e b"),
            ("caf\u00e9", "caf\\[u00E9]"),
        ],
    )
    def test_prose_in_roff(self, text: str, expected: str) -> None:
        assert roff.prose(text) == expected


class TestManualPages:
    @pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
    @pytest.mark.parametrize(
        "command",
        [
            ("groff", "-man", "-ww", "-Tutf8"),
            ("man", "--warnings", "-l"),
            ("mandoc", "-Tlint", "-Wall"),
        ],
        ids=lambda command: command[0],
    )
    def test_are_well_formed(self, path: Path, command: tuple[str, ...]) -> None:
        if shutil.which(command[0]) is None:
            # groff is what Debian's man is made of; that one suffices.
            if command[0] == "groff" and os.environ.get("CI", "").lower() in {"true", "1"}:
                pytest.fail("not installed: groff")
            pytest.skip(f"not installed: {command[0]}")
        done = subprocess.run(
            [*command, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
        )
        lines = (done.stdout if command[0] == "mandoc" else "") + done.stderr
        # Left out on purpose: it would be the date of a build.
        assert [line for line in lines.splitlines() if "missing date" not in line] == []
