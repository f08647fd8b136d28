"""The load benchmark: what it counts, and each part with little of everything.  No timing is judged
here."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cpu, load, load_added, load_bursts, load_rate, load_skipped, profile, replay
from bench.daemon import ROOT
from bench.load_setting import Sent, Setting, Spread, failures, paced, place, scored, warmed
from bench.report import Measure

STAT = """\
cpu  10 0 10 40 0 0 0 0 0 0
cpu0 100 0 0 900 0 0 0 0 0 0
cpu1 50 10 20 300 20 1 2 3 7 0
cpu10 9 9 9 9 9 9 9 9 9 9
intr 1 2 3
"""


def sent(began: float, seconds: float, status: str = "scored") -> Sent:
    return Sent(began, seconds, status)


def named(measures: list[Measure]) -> dict[str, Measure]:
    return {measure.name.strip(): measure for measure in measures}


class TestCpu:
    """What the kernel counts."""

    def test_of_the_cores_that_one_may_use(self) -> None:
        one = cpu.Cores.read(STAT, {1})
        assert one.whole == pytest.approx(406 * cpu.TICK)
        assert one.idle == pytest.approx(320 * cpu.TICK)
        assert cpu.Cores.read(STAT, {0, 1}).whole == pytest.approx(1406 * cpu.TICK)

    def test_between_two_readings(self) -> None:
        assert cpu.Cores(9.0, 5.0) - cpu.Cores(4.0, 3.0) == cpu.Cores(5.0, 2.0)

    def test_of_a_process_whatever_its_name(self) -> None:
        text = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 999 1 2"
        assert cpu.read(text) == pytest.approx(110 * cpu.TICK)

    @pytest.mark.parametrize("ends", [True, False])
    def test_a_child_counts_while_it_lives_and_after(self, ends: bool) -> None:
        burn = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\n"
        before = cpu.seconds(os.getpid())
        with subprocess.Popen(
            [sys.executable, "-c", burn + "sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdin
            assert child.stdout
            child.stdout.readline()
            if ends:
                child.stdin.close()
                child.wait(30)
            assert cpu.seconds(os.getpid()) - before > 0.2


class TestReplay:
    """Mails to send."""

    def test_made_ones_differ_and_are_the_same_each_time(self) -> None:
        mails = replay.take(replay.made(), 20)
        assert len({mail.raw() for mail in mails}) == 20
        assert replay.take(replay.made(), 20) == mails

    def test_those_of_a_folder_come_in_a_fixed_mix_and_are_read_late(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        for number in range(9):
            (tmp_path / "below" / f"{number}.eml").write_text(f"Subject: {number}\n\nText\n")
        (tmp_path / "INDEX.md").write_text("About them")
        names = [mail.values("Subject")[0] for mail in replay.take(replay.filed(tmp_path), 9)]
        assert sorted(names) == [str(number) for number in range(9)]
        assert names != sorted(names)
        mails = replay.filed(tmp_path)
        assert replay.take(mails, 2)[1].values("Subject") == [names[1]]
        (tmp_path / "below" / f"{names[2]}.eml").write_text("Subject: changed\n\nText\n")
        assert replay.take(mails, 1)[0].values("Subject") == ["changed"]

    def test_none_is_sent_twice(self, tmp_path: Path) -> None:
        (tmp_path / "a.eml").write_text("Subject: a\n\nText\n")
        with pytest.raises(SystemExit, match="2 mails too few"):
            replay.take(replay.filed(tmp_path), 3)


class TestCounting:
    """What became of the mails that were sent."""

    def test_a_spread(self) -> None:
        values = [float(value) for value in range(1000, 0, -1)]
        assert Spread.of(values) == Spread(500.5, 951.0, 991.0, 1000.0)

    def test_only_the_scored_have_times_and_only_mail_without_text_may_be_skipped(self) -> None:
        statuses = ["scored", "skipped; no-text; continue", "skipped; size; continue"]
        statuses += ["unscored; timeout; continue", "no status; tempfail"]
        told = [sent(0.0, number, status) for number, status in enumerate(statuses, start=1)]
        assert scored(told) == [1]
        assert (failures(told).value, failures(told).met) == (3, False)
        assert "no status; tempfail, skipped; size" in failures(told).name
        assert failures(told[:2]) == Measure("  failed", 0, "", most=0)
        with pytest.raises(SystemExit, match="no-text"):
            scored(told[1:2])

    def test_an_item_after_the_other(self) -> None:
        done: list[int] = []

        async def act(number: int) -> int:
            done.append(number)
            return -number

        told = asyncio.run(paced(act, range(5), 0.001, random.Random(0)))
        assert (done, told) == ([0, 1, 2, 3, 4], [0, -1, -2, -3, -4])


class TestRate:
    """Messages a second, between two moments."""

    def window(self, answers: list[int]) -> load_rate.Window[int]:
        """Of two connections with three rounds each; the answers in order, by connection."""
        times = iter(range(100))
        window = load_rate.Window(2, 3, lambda: next(times))
        had = [0, 0]
        for connection in answers:
            had[connection] += 1
            window.answered(had[connection])
        return window

    @pytest.mark.parametrize(
        ("answers", "opened", "closed"),
        [
            ([0, 1], 0, None),
            ([0, 0, 1, 1], 0, None),
            ([0, 1, 0, 0], 0, 1),
            ([0, 1, 0, 0, 1, 1], 0, 1),  # the second one's end changes nothing
            ([0, 0, 0, 1, 1], 0, None),  # the first had its last before
            ([0, 0, 0], None, None),
        ],
    )
    def test_the_window(self, answers: list[int], opened: int | None, closed: int | None) -> None:
        window = self.window(answers)
        assert (window.opened, window.closed) == (opened, closed)

    def test_only_answers_within_it_count(self) -> None:
        opened = load_rate.Meter(10.0, 1.0, 2.0, 3.0, cpu.Cores(100.0, 50.0))
        closed = load_rate.Meter(14.0, 1.4, 2.2, 3.1, cpu.Cores(108.0, 51.0))
        outside = [sent(8.0, 1.0), sent(8.0, 2.0), sent(13.5, 1.0, "unscored; timeout; continue")]
        within = [sent(9.5, 1.0), sent(11.0, 2.0), sent(12.0, 1.5), sent(12.0, 2.0)]
        told = named(load_rate.measures([*outside, *within], opened, closed))
        assert told["rate, 200 connections, model 1 s"].value == 1.0
        assert told["rate, 200 connections, model 1 s"].met is False
        assert told["rate, time of a message, median"].value == 1.75
        assert told["failed (unscored; timeout; continue)"].met is False
        assert told["CPU of a message, daemon"].value == pytest.approx(100.0)
        assert told["CPU of a message, stub"].value == pytest.approx(50.0)
        assert told["CPU of a message, loader"].value == pytest.approx(25.0)
        assert told["idle share of the cores"].value == pytest.approx(12.5)


class TestMeasures:
    """What is made of the times."""

    def test_added_is_what_goes_beyond_the_middle_bare_call(self) -> None:
        mails = [sent(0.0, 0.030), sent(1.0, 0.032), sent(2.0, 0.050)]
        told = named(load_added.measures(10, mails, [0.020, 0.021, 0.029]))
        assert told["added, 10 connections, median"].value == pytest.approx(11.0)
        assert told["added, 10 connections, p99"].value == pytest.approx(29.0)
        assert told["a bare call, median"].value == pytest.approx(21.0)
        assert told["offered"].value == pytest.approx(1.0)

    def test_one_burst_that_is_too_slow_is_a_miss(self) -> None:
        fast, slow = [sent(0.0, 1.1), sent(0.0, 1.0)], [sent(0.0, 1.0), sent(0.0, 2.0)]
        assert all(one.met is not False for one in load_bursts.measures(2, [fast, fast]))
        told = named(load_bursts.measures(2, [fast, fast, slow]))
        first = told["bursts of 2, the slowest mail of 3 bursts"]
        assert (first.value, first.met) == (2.0, False)
        assert told["the slowest mail of a burst, median"].value == 1.1
        assert told["bursts too slow"].value == 1

    def test_skipped_mail_must_pass_untouched(self) -> None:
        untouched = [sent(0.0, 0.002, load_skipped.UNTOUCHED)] * 99
        told = named(load_skipped.measures("skipped", [*untouched, sent(0.0, 0.001)]))
        assert told["answered otherwise"].met is False
        assert told["skipped, p99"].value == pytest.approx(2.0)

    def test_what_others_took(self) -> None:
        told = load.taken_by_others("rate", 3.0, cpu.Cores(whole=10.0, idle=5.0))
        assert told.value == pytest.approx(20.0)
        assert load.taken_by_others("rate", 6.0, cpu.Cores(10.0, 5.0)).value == 0


class TestParts:
    """Each part against a daemon, with little of everything."""

    def test_those_with_a_model_that_answers(self) -> None:
        setting = Setting(unix=True)

        async def told() -> list[Measure]:
            mails = setting.mails()
            await warmed(where.target, mails)
            return [
                *await load_added.measured(setting, where, (1, 3), 0.3),
                *await load_rate.measured(setting, where, 3, 3),
                *await load_bursts.measured(where.target, mails, (2, 3), 2),
            ]

        with place(setting, 0.0) as where:
            measures = asyncio.run(told())
        assert all(one.value == 0 for one in measures if one.most == 0)
        assert sum(one.most == 0 for one in measures) == 5
        assert all(one.value > 0 for one in measures if one.unit == "s")

    def test_the_skipped_while_calls_hang(self) -> None:
        setting = Setting()
        with place(setting, 0.0, "hang") as where:
            measures = asyncio.run(load_skipped.measured(setting, where, 5, 16))
        assert [one.value for one in measures if one.most == 0] == [0, 0]
        assert all(one.value > 0 for one in measures if one.unit == "ms")


class TestCommand:
    """`python -m bench load`."""

    @pytest.mark.parametrize("arguments", [["none"], ["--mails", "/nowhere"]])
    def test_what_is_not_there(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as told:
            load.main(arguments)
        assert told.value.code == 2

    def test_a_miss_is_told(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[tuple[list[str], Setting]] = []

        def run(parts: list[str], setting: Setting) -> list[Measure]:
            asked.append((parts, setting))
            return [Measure("rate", 100, "/s", least=load_rate.LEAST)]

        monkeypatch.setattr(load, "run", run)
        assert load.main(["rate", "skipped", "rate", "--unix"]) == 1
        assert "FAIL" in capsys.readouterr().out
        assert load.main(["--json", "--short"]) == 1
        assert json.loads(capsys.readouterr().out)["measures"][0]["met"] is False
        assert asked == [
            (["rate", "skipped"], Setting(unix=True)),
            ([*load.PARTS], Setting(short=True)),
        ]


class TestProfile:
    def test_a_sample_belongs_to_the_innermost_function_of_ours(self) -> None:
        stack = (
            "run (threading.py:1);_line (rspamd_llm/scanner.py:9);complete (rspamd_llm/api.py:2)"
        )
        assert (
            profile.part_of(f"{stack};post (openai/_base_client.py:3)") == "the call of the model"
        )
        assert profile.part_of("_walk (rspamd_llm/evidence/gather.py:1)").startswith("evidence")
        assert profile.part_of("select (selectors.py:1)") == profile.LOOP
        assert profile.part_of("seen (rspamd_llm/evidence/other.py:1)") == profile.LOOP

    def test_shares_are_of_all_samples(self) -> None:
        lines = ["a (rspamd_llm/mail.py:1) 3", "b (x.py:1);c (rspamd_llm/api.py:2) 1"]
        told = profile.shares(lines)
        assert told["reading: structure and text"] == 75
        assert told["the call of the model"] == 25
        assert sum(told.values()) == 100
        assert set(profile.shares([]).values()) == {0}

    def test_each_module_that_is_named_is_there(self) -> None:
        there = {path.stem for path in (ROOT / "rspamd_llm").rglob("*.py")}
        assert frozenset().union(*profile.PARTS.values()) <= there
