"""Lists from files: what an entry means, and what becomes of a list whose file changes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rspamd_llm import lists
from rspamd_llm.domain import ConfigError
from rspamd_llm.lists import Kind, ListFile, parted, without_suffix

SETTING = "gate.some_file"


class Clock:
    """The real time, and as much later as told."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def later(self) -> None:
        """Long enough for a look at a file that has not changed since."""
        self.ahead += 2 * lists.LOOK


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.txt"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """What was logged since the last call: levels and texts."""
    caplog.set_level(logging.DEBUG, "rspamd_llm.lists")

    def taken() -> list[tuple[str, str]]:
        entries = [(entry.levelname, entry.getMessage()) for entry in caplog.records]
        caplog.clear()
        return entries

    return taken


def of(path: Path, text: str, kind: Kind = Kind.RECIPIENTS) -> ListFile:
    path.write_text(text, encoding="utf-8")
    return ListFile(path, kind, setting=SETTING)


def faults(path: Path, kind: Kind) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        ListFile(path, kind, setting=SETTING)
    return caught.value.faults


class TestEntries:
    def test_a_domain_is_itself_and_all_below_it(self, path: Path) -> None:
        names = of(path, "mail.example.org\n")
        assert names.has_domain("mail.example.org")
        assert names.has_domain("a.b.mail.example.org")
        for other in ("example.org", "xmail.example.org", "mail.example.org.test", "org", ""):
            assert not names.has_domain(other)

    def test_an_address_is_that_one_with_or_without_a_suffix(self, path: Path) -> None:
        names = of(path, "user@example.org\nother+news@example.org\nexample.com\n")
        for one in ("user@example.org", "<user@example.org>", "user+shop@example.org"):
            assert names.has_address(one)
        for one in ("other+news@example.org", "anyone@example.com", "x@sub.example.com"):
            assert names.has_address(one)
        for none in ("other@example.org", "other+x@example.org", "user@sub.example.org"):
            assert not names.has_address(none)
        for none in ("user", "", "<>", "@example.org", "user@", "user@example.org@other.test"):
            assert not names.has_address(none)
        assert not names.has_domain("example.org")

    def test_case_makes_no_difference(self, path: Path) -> None:
        names = of(path, "Example.ORG\nJörg@Other.test\n")
        assert names.has_domain("eXample.org")
        assert names.has_address("A@EXAMPLE.ORG")
        assert names.has_address("JÖRG@other.TEST")
        assert names.has_address("Jo\u0308rg@other.test")  # the same letters, composed otherwise

    @pytest.mark.parametrize("entry", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"])
    @pytest.mark.parametrize(
        "asked", ["bücher.example", "xn--bcher-kva.example", "x.bücher.example"]
    )
    def test_international_domains_in_either_form(self, path: Path, entry: str, asked: str) -> None:
        names = of(path, entry)
        assert names.has_domain(asked)
        assert names.has_address(f"a@{asked}")
        assert not names.has_domain("bucher.example")

    def test_comments_and_empty_lines(self, path: Path) -> None:
        text = "\ufeff# a heading\r\n\r\n  a.example  # why\r\n\t\n"
        text += "b.example\t#x\n#c.example\na#b@d.example"
        names = of(path, text)
        assert len(names) == 3
        assert names.has_domain("a.example")
        assert names.has_domain("b.example")
        assert names.has_address("a#b@d.example")
        assert not names.has_domain("c.example")

    def test_an_empty_file_is_an_empty_list(self, path: Path) -> None:
        names = of(path, "")
        assert len(names) == 0
        assert not names.has_domain("example.org")

    def test_a_domain_with_a_dot_at_its_end_is_the_same(self, path: Path) -> None:
        assert of(path, "example.org.").has_domain("example.org")
        assert of(path, "example.org").has_domain("example.org.")

    @pytest.mark.parametrize(
        "asked", ["a" * 100_000, "ü" * 100_000, "a." * 50_000, "\0", "\ud800.example", "a b"]
    )
    def test_any_text_can_be_asked_for(self, path: Path, asked: str) -> None:
        names = of(path, "example.org")
        assert not names.has_domain(asked)
        assert not names.has_address(asked)
        assert not names.has_address(f"{asked}@{asked}")


class TestRefused:
    @pytest.mark.parametrize(
        "entry",
        [
            "exa mple.org",
            "example.org other.org",
            "example.org,other.org",
            "*.example.org",
            ".example.org",
            "https://example.org/",
            "192.0.2.1",
            "@secret.example",
            "a b@example.org",
            "<a@example.org>",
            "a@example.org,b@example.org",
            "a@",
            "x" * 64 + ".org",
        ],
    )
    def test_what_is_no_entry_is_told_by_its_line_and_not_its_text(
        self, path: Path, entry: str
    ) -> None:
        path.write_text(f"a.example\n# {entry}\n{entry}\n", encoding="utf-8")
        (fault,) = faults(path, Kind.RECIPIENTS)
        assert fault.startswith(f"{SETTING}: {path} line 3 is no ")
        assert "; write one a line" in fault
        assert entry not in fault

    def test_a_list_of_senders_takes_no_addresses(self, path: Path) -> None:
        path.write_text("a.example\nuser@b.example\n")
        (fault,) = faults(path, Kind.SENDERS)
        assert fault.startswith(f"{SETTING}: {path} line 2 is an address")
        assert "b.example" not in fault

    @pytest.mark.parametrize("suffix", ["co.uk", "github.io", "org", "blogspot.com", "CO.UK."])
    def test_a_list_of_senders_takes_no_suffix_of_many_owners(
        self, path: Path, suffix: str
    ) -> None:
        path.write_text(f"someone.{suffix}\n{suffix}\n")
        (fault,) = faults(path, Kind.SENDERS)
        assert fault.startswith(f"{SETTING}: {path} line 2 is a suffix")

    def test_every_fault_is_told_and_many_alike_as_one(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe\n" + b"?\n" * 100 + b"com\n")
        assert [
            fault.partition(": ")[2].removeprefix(f"{path} ")[:45]
            for fault in faults(path, Kind.SENDERS)
        ] == [
            "line 1 is no UTF-8; save the file as that",
            "lines 2, 3, 4, 5, 6 and 95 more are no domain",
            "line 102 is a suffix that many owners' domain",
        ]

    def test_a_file_that_is_not_there_or_none(self, path: Path, tmp_path: Path) -> None:
        (missing,) = faults(path, Kind.SENDERS)
        assert missing.startswith(f"{SETTING}: {path} cannot be read: No such file or directory; ")
        (folder,) = faults(tmp_path, Kind.SENDERS)
        assert "cannot be read: Is a directory" in folder
        os.mkfifo(path)
        for other in (Path("/dev/null"), path):
            (fault,) = faults(other, Kind.SENDERS)
            assert fault == f"{SETTING}: {other} is no regular file; name a text file"

    def test_a_file_of_too_much(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "ENTRIES", 3)
        assert len(of(path, "a.example\nb.example\nc.example\nA.example\n")) == 3
        path.write_text("a.example\nb.example\nc.example\nd.example\n")
        (fault,) = faults(path, Kind.RECIPIENTS)
        assert "has more than 3 entries" in fault
        monkeypatch.setattr(lists, "BYTES", 30)
        (fault,) = faults(path, Kind.RECIPIENTS)
        assert "has more than 30 bytes" in fault

    def test_a_free_mail_provider_among_trusted_senders_is_warned_about(
        self, path: Path, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = of(path, "example.org\ngmail.com\ngmx.net\n", Kind.SENDERS)
        assert names.has_domain("gmail.com")
        ((level, text),) = told()
        assert level == "WARNING"
        assert f"{SETTING}: {path} lines 2, 3 are of a free-mail provider" in text
        of(path, "example.org\ngmail.com\n", Kind.RECIPIENTS)
        assert told() == []


class TestChanges:
    def of(self, path: Path, text: str, clock: Clock) -> ListFile:
        path.write_text(text)
        return ListFile(path, Kind.RECIPIENTS, setting=SETTING, clock=clock)

    def replace(self, path: Path, text: str) -> None:
        """As editors do it."""
        new = path.with_name("new")
        new.write_text(text)
        new.replace(path)

    @pytest.mark.parametrize("how", ["in place", "replaced"])
    def test_the_first_question_later_on_meets_the_new_list(
        self, path: Path, clock: Clock, how: str, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        self.replace(path, "b.example\n") if how == "replaced" else path.write_text("b.example\n")
        clock.later()
        assert names.has_address("x@b.example")
        assert not names.has_domain("a.example")
        assert told() == [("INFO", f"{SETTING}: {path} was read anew, 1 entries")]
        clock.later()
        assert len(names) == 1
        assert told() == []

    def test_it_is_not_looked_at_for_each_question(self, path: Path, clock: Clock) -> None:
        frozen = clock()
        names = ListFile(
            self._written(path, "a.example"), Kind.RECIPIENTS, setting=SETTING, clock=lambda: frozen
        )
        path.unlink()
        assert names.has_domain("a.example")

    def _written(self, path: Path, text: str) -> Path:
        path.write_text(text)
        return path

    def test_a_file_that_is_being_written_is_read_when_it_rests(
        self, path: Path, clock: Clock
    ) -> None:
        names = self.of(path, "a.example\nb.example\n", clock)

        def write(text: str) -> None:
            path.write_text(text)
            os.utime(path, (time.time() + 1e6,) * 2)  # no age tells that it rests
            clock.later()

        write("a.exam")
        assert names.has_domain("b.example")
        write("a.example\nb.ex")
        assert names.has_domain("b.example")
        write("a.example\nc.example\n")
        assert names.has_domain("b.example")
        clock.later()
        assert names.has_domain("c.example")
        assert not names.has_domain("b.example")

    def test_a_file_from_the_future_is_read_too(self, path: Path, clock: Clock) -> None:
        names = self.of(path, "a.example\n", clock)
        path.write_text("b.example\n")
        os.utime(path, (time.time() + 1e6,) * 2)
        clock.later()
        assert names.has_domain("a.example")
        clock.later()
        assert names.has_domain("b.example")

    def test_an_old_time_on_a_new_file_is_not_its_age(self, path: Path, clock: Clock) -> None:
        names = self.of(path, "a.example\n", clock)
        path.write_text("b.example\n")
        os.utime(path, (1e9, 1e9))
        clock.ahead = -1e4  # the file is not yet LOOK seconds old, however slow we are
        assert names.has_domain("a.example")
        clock.later()
        assert names.has_domain("b.example")

    def test_an_edit_that_leaves_size_and_time_alone_is_seen(
        self, path: Path, clock: Clock
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        before = path.stat()
        time.sleep(0.02)  # more than a tick of a file system's clock
        path.write_text("b.example\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        clock.later()
        assert names.has_domain("b.example")

    def test_a_list_that_becomes_malformed_keeps_what_it_said_and_says_so_once(
        self, path: Path, clock: Clock, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        path.write_text("b.example\nsecret@@\n")
        for _ in range(3):
            clock.later()
            assert names.has_domain("a.example")
            assert not names.has_domain("b.example")
        ((level, text),) = told()
        assert level == "WARNING"
        assert text.startswith(f"{SETTING}: {path} line 2 is no address; ")
        assert text.endswith("; what it said before stays in force")
        assert "secret" not in text
        path.write_text("b.example\nc.example\n\n#\n")
        clock.later()
        assert names.has_domain("c.example")
        assert told() == [("INFO", f"{SETTING}: {path} was read anew, 2 entries")]

    def test_another_fault_is_told_too(
        self, path: Path, clock: Clock, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        for text in ("?\n", "\n?\n", "\n\n?\n"):
            path.write_text(text)
            clock.later()
            assert len(names) == 1
        assert [text.count("line") > 0 for _, text in told()] == [True] * 3

    def test_a_list_that_goes_keeps_what_it_said_until_it_is_back(
        self, path: Path, clock: Clock, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        away = path.rename(path.with_name("away"))
        clock.later()
        assert names.has_domain("a.example")
        assert told() == []  # some editors take it away for a moment
        for _ in range(3):
            clock.later()
            assert names.has_domain("a.example")
        ((level, text),) = told()
        assert (level, "cannot be read: No such file" in text) == ("WARNING", True)
        away.rename(path)
        clock.later()
        assert names.has_domain("a.example")
        assert told() == [("INFO", f"{SETTING}: {path} was read anew, 1 entries")]

    def test_a_folder_that_goes_and_comes_back_is_told_each_time(
        self, tmp_path: Path, clock: Clock, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        folder = tmp_path / "disk"
        folder.mkdir()
        names = self.of(folder / "list", "a.example\n", clock)
        for _ in range(2):
            folder.rename(tmp_path / "away")
            for _ in range(3):
                clock.later()
                assert names.has_domain("a.example")
            (tmp_path / "away").rename(folder)
            clock.later()
            assert names.has_domain("a.example")
        assert [level for level, _ in told()] == ["WARNING", "INFO"] * 2

    def test_what_is_no_file_any_more_is_told(
        self, path: Path, clock: Clock, told: Callable[[], list[tuple[str, str]]]
    ) -> None:
        names = self.of(path, "a.example\n", clock)
        path.unlink()
        os.mkfifo(path)
        for _ in range(3):
            clock.later()
            assert names.has_domain("a.example")
        assert [level for level, text in told() if "is no regular file" in text] == ["WARNING"]

    def test_a_clock_that_is_set_back_stops_no_look(self, path: Path, clock: Clock) -> None:
        names = self.of(path, "a.example\n", clock)
        clock.ahead = -1e6
        path.write_text("b.example\n")
        assert names.has_domain("a.example")
        clock.later()
        assert names.has_domain("b.example")


class TestParted:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("User@Example.ORG", ("user", "example.org")),
            ("<user@example.org>", ("user", "example.org")),
            ("<@relay.example,@other.example:user@example.org>", ("user", "example.org")),
            (" user@example.org. ", ("user", "example.org")),
            ('"a@b"@example.org', ('"a@b"', "example.org")),
            ("user@bücher.example", ("user", "xn--bcher-kva.example")),
            ("user@root", ("user", "root")),
            ("STRASSE@example.org", ("strasse", "example.org")),
            ("straße@example.org", ("strasse", "example.org")),
        ],
    )
    def test_an_address(self, address: str, expected: tuple[str, str]) -> None:
        assert parted(address) == expected

    @pytest.mark.parametrize(
        "text",
        [
            *("", "<>", "user", "@example.org", "user@", "user@[192.0.2.1]", "user@192.0.2.1"),
            *(
                "a\0b@example.org",
                "a\nb@example.org",
                "a\ufffdb@example.org",
                "a\ud800@example.org",
            ),
            *("user@exa mple.org", "user@" + "a" * 64 + ".org", "u" * 320 + "@example.org"),
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert parted(text) == ("", "")

    def test_suffixes(self) -> None:
        assert without_suffix("user+shop+x") == "user"
        assert without_suffix("user") == "user"
        assert without_suffix("+user") == "+user"
