"""The parts of the memory soak that need no daemon: its load, its verdict and its picture."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import soak, soakbig, svgplot
from bench import soakmails as mails
from bench.memory import memory
from bench.milterclient import Answer, Edit
from bench.soak import Run, Sample
from bench.soakbig import CASES, Wave
from bench.soakload import SHARES, Load, Manner, manner, status_of
from bench.soakmails import Mails
from bench.usage import Usage

SOME = Mails()

# --- the mails ---


def test_letters_differ_and_are_the_same_again_for_their_number() -> None:
    several = [SOME.letter(number) for number in range(100)]
    assert several == [SOME.letter(number) for number in range(100)]
    assert len({one.mail for one in several}) == 100
    assert len({one.envelope.macros["i"] for one in several}) == 100


def test_letters_name_new_domains_and_known_ones() -> None:
    senders = Counter(SOME.letter(number).envelope.sender for number in range(600))
    assert 100 < sum(count == 1 for count in senders.values()) < 450
    assert max(senders.values()) > 2


def test_a_letters_domain_stands_in_its_header_and_its_links() -> None:
    for number in range(100):
        one = SOME.letter(number)
        domain = one.envelope.sender.partition("@")[2]
        if domain.startswith("firm-"):
            assert one.mail.values("From")[0].endswith(f"@{domain}>")
            assert b"//www.example." not in one.mail.body


def test_files_are_mixed_in(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_bytes(b"Subject: from a file\r\n\r\nhello\r\n")
    mixed = Mails([file])
    several = [mixed.letter(number) for number in range(60)]
    real = [one for one in several if one.mail.values("Subject") == ["from a file"]]
    assert 5 < len(real) < 40
    assert len({one.mail for one in real}) == len(real)


def test_shapes_are_what_they_say() -> None:
    assert b"charset" not in mails.plain(5_000, 1).body
    assert mails.foreign(5_000, 1).values("Content-Transfer-Encoding") == ["quoted-printable"]
    assert b"message/rfc822" in mails.forwarded(5_000, 1).body
    assert b"PK\x03\x04" in mails.packed(5_000, 1).body
    assert not mails.torn(5_000, 1).body.rstrip().endswith(b"--")


def test_what_is_packed_does_not_depend_on_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mails.packed(5_000, 1)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert mails.packed(5_000, 1) == before


# --- the load ---


def test_each_hundred_messages_has_its_share_of_manners() -> None:
    found = Counter(map(manner, range(700, 800)))
    assert {name: found[name] for name in SHARES} == SHARES
    assert found[Manner.JUDGED] == 100 - sum(SHARES.values())


def test_what_is_wrong_is_an_outcome_that_should_not_be() -> None:
    load = Load("inet:1@127.0.0.1", SOME)
    load.outcomes.update(
        {
            (Manner.JUDGED, "scored"): 5,
            (Manner.JUDGED, "unscored; timeout"): 2,
            (Manner.JUDGED, ""): 1,
            (Manner.AUTHENTICATED, "no status"): 3,
            (Manner.AUTHENTICATED, "scored"): 1,
            (Manner.LEFT, "scored"): 1,
            (Manner.GIVEN_UP, ""): 1,
        }
    )
    assert load.wrong == {
        "judged: unscored; timeout": 2,
        "judged: ": 1,
        "authenticated: scored": 1,
    }


def test_without_a_daemon_every_message_fails_and_none_is_missed() -> None:
    load = Load("unix:/nonexistent/socket", SOME)
    asyncio.run(load.send(range(300)))
    assert load.done == 300
    assert sum(load.wrong.values()) == sum(
        count for (name, _), count in load.outcomes.items() if name in ("judged", "authenticated")
    )


def test_the_status_is_the_daemons_header_or_its_refusal() -> None:
    header = Edit("addheader", "X-GPT-Status", " scored")
    assert status_of(Answer("continue", (header,))) == "scored"
    assert status_of(Answer("continue")) == "no status"
    assert status_of(Answer("tempfail", (header,))) == "answered tempfail"


# --- what the daemon has ---


def test_usage_counts_the_process_and_misses_no_end_of_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        usage = Usage.of(process.pid)
        assert (usage.threads, usage.descriptors >= 3) == (1, True)
        assert 0 < usage.memory < 100
        process.kill()
        process.wait()
        with pytest.raises((OSError, ValueError)):
            memory(process.pid)


# --- the verdict ---


def run_of(curve: list[float], *, threads: int = 20, descriptors: int = 30, wrong: int = 0) -> Run:
    """A soak of 1,000 messages a sample, whose memory went like this."""
    samples = [Sample(1_000 * at, Usage(memory, 25, 90)) for at, memory in enumerate(curve)]
    before, after = Usage(curve[1], 20, 30), Usage(curve[-1], threads, descriptors)
    return Run(samples, before, after, samples[-1].messages, wrong, 100.0)


def missed(run: Run) -> list[str]:
    return [one.name.partition(",")[0] for one in soak.measures(run) if one.met is False]


FLAT = [80.0, 100.0, 110.0, *[120.0] * 98]


def test_what_grows_early_and_is_flat_then_passes() -> None:
    assert missed(run_of(FLAT)) == []


def test_noise_and_a_single_peak_pass() -> None:
    wandering = [memory + (3.0 if at % 2 else -3.0) for at, memory in enumerate(FLAT)]
    wandering[-2] = 300.0
    assert missed(run_of(wandering)) == []


def test_a_slow_leak_fails() -> None:
    grows = [80 + 0.2 * at for at in range(101)]  # 200 bytes a message
    assert missed(run_of(grows)) == ["growth from the middle to the end"]


def test_what_falls_passes() -> None:
    assert missed(run_of([200.0 - at for at in range(101)])) == []


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (run_of(FLAT, threads=25), "threads at rest"),
        (run_of(FLAT, descriptors=39), "descriptors at rest"),
        (run_of(FLAT, wrong=1_001), "messages with a wrong outcome"),
    ],
)
def test_each_other_requirement_can_be_missed(run: Run, name: str) -> None:
    assert missed(run) == [name]


def test_the_table_tells_memory_after_shares_of_the_messages() -> None:
    told = [one for one in soak.measures(run_of(FLAT)) if one.name.startswith("memory after")]
    assert [one.value for one in told] == [100.0, 120.0, 120.0, 120.0, 120.0, 120.0]
    assert told[0].name == "memory after 1%, 1,000 messages"


def test_a_run_too_short_for_all_samples_is_told_by_the_nearest() -> None:
    run = run_of([80.0, 90.0])
    assert len([one for one in soak.measures(run) if one.name.startswith("memory after")]) == 6


def test_a_wave_is_bounded_by_the_copies_of_what_is_held() -> None:
    case = CASES[0]
    wave = Wave(80.0, 300.0, 100.0, Counter({case.status: 200}), 5.0)
    assert all(one.met is not False for one in soakbig.measures(case, wave))
    for worse in (
        Wave(80.0, 581.0, 100.0, wave.statuses, 5.0),
        Wave(80.0, 300.0, 100.0, wave.statuses, 91.0),
        Wave(80.0, 300.0, 100.0, Counter({case.status: 199, "no answer: Closed": 1}), 5.0),
    ):
        assert [one.met for one in soakbig.measures(case, worse)].count(False) == 1


@pytest.mark.parametrize(
    ("wanted", "status", "fit"),
    [
        ("skipped; size", "skipped; size", True),
        ("skipped; size", "unscored; overloaded", False),
        ("", "scored", True),
        ("", "unscored; timeout", True),
        ("", "no answer: Closed", False),
        ("", "answered tempfail", False),
    ],
)
def test_what_may_become_of_a_big_mail(wanted: str, status: str, fit: bool) -> None:
    assert soakbig.is_fit(wanted, status) is fit


def test_the_big_mails_are_as_big_as_they_should_be() -> None:
    for case in CASES:
        size = len(case.make().raw())
        assert (size > 5_000_000) == (case.status == "skipped; size"), case.name
        assert size > 4_800_000


# --- the picture ---


def test_the_picture_is_small_well_formed_and_always_the_same() -> None:
    run = run_of([100.0 + at % 7 for at in range(2_000)])
    told = soak.picture(run, "2026-02-03", "2 cores <& all>")
    assert told == soak.picture(run, "2026-02-03", "2 cores <& all>")
    assert len(told) < 8_000
    root = ElementTree.fromstring(told)  # noqa: S314  our own text
    texts = [each.text for each in root.iter() if each.tag.endswith("}text")]
    assert texts[:2] == [
        "Memory of the daemon over 1,999,000 messages",
        "2026-02-03; 2 cores <& all>",
    ]
    assert {"0", "20", "100", "500,000", "1,500,000", "messages", "MB, resident"} <= {*texts}


def test_the_line_lies_within_the_axes() -> None:
    points = [(at, 10.0 * at) for at in range(11)]
    told = svgplot.line(points, title="t", note="n", across="x", up="y")
    root = ElementTree.fromstring(told)  # noqa: S314  our own text
    (drawn,) = (each for each in root.iter() if each.tag.endswith("}polyline"))
    places = [tuple(map(float, one.split(","))) for one in drawn.attrib["points"].split()]
    assert places[0] == (svgplot.LEFT, svgplot.HEIGHT - svgplot.BOTTOM)
    assert places[-1] == (svgplot.WIDTH - svgplot.RIGHT, svgplot.TOP)
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(places))


def test_what_is_thinned_keeps_its_peaks_and_its_order() -> None:
    points = [(float(at), 0.0) for at in range(10_000)]
    points[1_234] = (1_234.0, 9.0)
    thin = svgplot.thinned(points)
    assert len(thin) == svgplot.MOST_POINTS
    assert (1_234.0, 9.0) in thin
    assert thin == sorted(thin)
    assert svgplot.thinned(points[:10]) == points[:10]


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (100_000.0, [0, 20_000, 40_000, 60_000, 80_000, 100_000]),
        (131.0, [0, 50, 100]),
        (6.0, [0, 1, 2, 3, 4, 5, 6]),
        (0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (0.0, [0, 1]),
    ],
)
def test_ticks_are_round_numbers(highest: float, expected: list[float]) -> None:
    assert svgplot.ticks(highest) == pytest.approx(expected)


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="no points"):
        svgplot.line([], title="", note="", across="", up="")


def test_a_picture_of_all_zeros_is_a_line_at_the_bottom() -> None:
    told = svgplot.line([(0, 0), (1, 0)], title="", note="", across="", up="")
    assert f"{svgplot.LEFT:.1f},{svgplot.HEIGHT - svgplot.BOTTOM:.1f}" in told
