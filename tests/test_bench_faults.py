"""The fault suite's counting: what it takes for a mail that came through, and when it fails.

The suite itself starts a Postfix and a Rspamd for minutes and is run by hand: docs/reliability.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest

from bench import faults
from bench.faults_forgeries import forgeries, of_own_queue_id
from bench.faults_tally import (
    ABSENT,
    FORGED,
    GENUINE,
    NOTHING,
    SCORED,
    UNREAD,
    Delivered,
    Sent,
    Tally,
    count,
    read,
    skipped,
    table,
    unscored,
)
from rspamd_llm.headers import is_ours

RESULT = "X-Spamd-Result: default: False [7.70 / 15.00];\n\tMIME_GOOD(-0.10)[text/plain];\n\t"


def sent(name: str = "a", *may: str, code: int = 250, seconds: float = 0.1) -> Sent:
    return Sent(
        id=name,
        may=frozenset(may or (SCORED,)),
        within=5.0,
        seconds=seconds,
        code=code,
        reply="said",
    )


def came(name: str, outcome: str, symbols: Mapping[str, float]) -> Delivered:
    return Delivered(id=name, outcome=outcome, symbols=symbols)


def scored(name: str = "a") -> Delivered:
    return came(name, SCORED, GENUINE)


def delivered(head: str, body: str = "text") -> bytes:
    return f"Delivered-To: row-1@example.org\nFrom: a@b.example\n{head}\n\n{body}\n".encode()


class TestRead:
    """A delivered file, as Rspamd's headers tell."""

    @pytest.mark.parametrize(
        ("symbols", "outcome"),
        [
            ("LLM_SPAM(4.70)[0.97];\n\tLLM_PHISHING(3.00)[0.97]", SCORED),
            ("LLM_HAM(0.00)[0.00]", SCORED),
            ("LLM_UNCERTAIN(0.00)[0.50]", SCORED),
            ("LLM_UNSCORED(0.00)[timeout]", unscored("timeout")),
            ("LLM_SKIPPED(0.00)[no-text]", skipped("no-text")),
            ("LLM_ABSENT(0.00)[]", ABSENT),
            ("LLM_FORGED(0.00)[copies]", FORGED),
            ("OTHER(1.00)[]", NOTHING),
        ],
    )
    def test_symbols(self, symbols: str, outcome: str) -> None:
        found = read(delivered(RESULT + symbols))
        assert (found.id, found.outcome) == ("row-1", outcome)

    def test_points(self) -> None:
        found = read(delivered(f"{RESULT}LLM_SPAM(4.70)[0.97]; LLM_PHISHING(3.00)[0.97]"))
        assert found.symbols == GENUINE
        assert found.points == pytest.approx(7.7)
        assert found.is_valid
        assert not found.is_deceived

    def test_symbols_of_the_body_or_of_the_sender_tell_nothing(self) -> None:
        assert read(delivered("X-A: b", f"{RESULT}LLM_SPAM(4.70)[0.97]")).outcome == NOTHING
        fake = f"{RESULT}LLM_HAM(0.00)[0.00]\n{RESULT}LLM_ABSENT(0.00)[]"
        assert read(delivered(fake)).outcome == ABSENT

    def test_without_rspamd(self) -> None:
        status = "X-GPT-Status: scored"
        assert read(delivered(f"{status}\nX-GPT-Verdict: v=1")).outcome == UNREAD
        assert read(delivered(f"{status}\nX-GPT-Verdict: 1\nX-GPT-Verdict: 2")).outcome == NOTHING
        assert read(delivered(status)).outcome == NOTHING
        assert not read(delivered(f"{status}\nX-GPT-Verdict: v=1")).is_valid

    @pytest.mark.parametrize("mail", [b"", b"\n", b"\0\xff", b"Delivered-To\n: x"])
    def test_no_mail_at_all(self, mail: bytes) -> None:
        assert read(mail).outcome == NOTHING


class TestCount:
    """When a row has failed."""

    def test_all_well(self) -> None:
        told = count(
            [sent("a"), sent("b", ABSENT)], [scored("a"), came("b", ABSENT, {"LLM_ABSENT": 0})]
        )
        assert (told.sent, told.accepted, told.once, told.valid) == (2, 2, 2, 1)
        assert (told.deceived, told.stolen, told.slowest) == (0, 0, 0.1)
        assert told.outcomes == {SCORED: 1, ABSENT: 1}
        assert not told.faults

    @pytest.mark.parametrize(
        ("mails", "files", "fault"),
        [
            ([sent("a"), sent("b")], [scored("a")], "lost, 1 mails: b"),
            ([sent("a")], [scored("a"), scored("a")], "delivered more than once, 1 mails: a"),
            ([sent("a")], [scored("a"), scored("b")], "delivered but never sent, 1 mails: b"),
            ([sent("a", code=451)], [scored("a")], "not accepted, 1 mails: a: 451 said"),
            ([sent("a", code=0)], [scored("a")], "not accepted, 1 mails: a: 0 said"),
            ([sent("a", seconds=5.1)], [scored("a")], "late, 1 mails: a: 5.1 s of 5.0"),
            ([sent("a")], [came("a", ABSENT, {})], "'absent' where 'scored' is right, 1 mails: a"),
        ],
    )
    def test_a_fault(self, mails: list[Sent], files: list[Delivered], fault: str) -> None:
        assert count(mails, files).faults == [fault]

    @pytest.mark.parametrize(
        "symbols",
        [
            {"LLM_HAM": 0.0},
            {"LLM_SPAM": 5.0, "LLM_MALWARE": 3.0},
            {"LLM_SPAM": 4.7},
            {"LLM_FORGED": 0.5},
            {"LLM_ABSENT": -1.0},
            {**GENUINE, "LLM_HAM": 0.0},
        ],
    )
    def test_a_forged_verdict_that_counts(self, symbols: dict[str, float]) -> None:
        told = count([sent("a")], [came("a", SCORED, symbols)])
        assert told.deceived == 1
        assert told.stolen == max(0.0, sum(symbols.values()))
        assert told.valid == 0
        assert [fault for fault in told.faults if fault.startswith("a forged verdict counted")]

    def test_one_without_points_does_no_harm(self) -> None:
        files = [
            came("a", FORGED, {"LLM_FORGED": 0.0}),
            came("b", unscored("x"), {"LLM_UNSCORED": 0.0}),
        ]
        told = count([sent("a", FORGED), sent("b", unscored("x"))], files)
        assert told.deceived == 0
        assert not told.faults

    def test_what_was_known_before_stays(self) -> None:
        assert count([], [], faults=["broken"]).faults == ["broken"]


class TestTable:
    """What is printed."""

    def test_rows_faults_notes_and_skips(self) -> None:
        told = table(
            {
                "good": Tally(sent=3, outcomes={SCORED: 3}, notes=["a note"]),
                "bad": Tally(sent=1, stolen=8.0, faults=["lost"]),
                "absent": Tally(skipped="there is no corpus"),
            }
        )
        assert re.search(r"(?m)^good +3 .* pass  3 scored$", told)
        assert re.search(r"(?m)^bad +1 .* 8 .* FAIL", told)
        assert re.search(r"(?m)^absent .* skip  there is no corpus$", told)
        assert told.endswith("good: a note\nbad: FAIL: lost")


class TestForgeries:
    """Each is another one, and wants to be taken for ours."""

    def test_names_and_lines_differ(self) -> None:
        made = forgeries(["v=1; replayed"])
        assert len({one.name for one in made}) == len({one.lines for one in made}) == len(made)
        assert made[-1].lines == b"X-GPT-Verdict: v=1; replayed\r\n"
        assert all(one.lines.endswith(b"\r\n") for one in made)

    def test_those_that_must_be_seen_as_forged_have_a_name_of_ours(self) -> None:
        for one in forgeries():
            names = [line.partition(b":")[0].decode() for line in one.lines.splitlines()]
            assert any(map(is_ours, names)) or ABSENT in one.may, one.name

    def test_none_is_what_the_daemon_would_write(self) -> None:
        for one in forgeries():
            assert b"c=phishing" not in one.lines
        assert all(of_own_queue_id("4AbC").values())


class TestCommand:
    """Its exit status and its names."""

    @pytest.mark.parametrize(
        ("row", "status"),
        [(Tally(sent=1), 0), (Tally(faults=["lost"]), 1), (Tally(skipped="no corpus"), 0)],
    )
    def test_a_row_that_fails_fails_the_suite(
        self, monkeypatch: pytest.MonkeyPatch, row: Tally, status: int
    ) -> None:
        asked = []

        def run(names: Sequence[str], *, short: bool) -> dict[str, Tally]:
            asked.append((names, short))
            return {"good": Tally(sent=1), "store": row}

        monkeypatch.setattr(faults, "missing", list)
        monkeypatch.setattr(faults, "run", run)
        assert faults.main(["store", "--short"]) == status
        assert faults.main([]) == status
        assert asked == [(["store"], True), ([*faults.ROWS], False)]

    def test_without_the_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(faults, "missing", lambda: ["postfix"])
        assert faults.main([]) == 1

    def test_an_unknown_row(self) -> None:
        with pytest.raises(SystemExit):
            faults.main(["no-such-row"])
