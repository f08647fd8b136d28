"""The history of verdicts: what is kept, for how long, what is read of it, and what fails."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rspamd_llm import history as histories
from rspamd_llm import historyfile, records
from rspamd_llm.domain import (
    Envelope,
    Failure,
    Mail,
    Message,
    Scan,
    Skip,
    Skipped,
    Unscored,
)
from rspamd_llm.history import Filter, History, HistoryError, Reader
from tests.kept import AT, ENVELOPE, MAIL, MESSAGE, STAGES, keep, keep_at, scored
from tests.waiting import SECONDS, wait_until

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries a file that failed again at once."""
    monkeypatch.setattr(historyfile, "RETRY", 0.0)


def content(path: Path) -> bytes:
    """All bytes of a history and of what lies beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def count(path: Path) -> int:
    try:
        return sum(1 for _ in Reader(path).since(0))
    except HistoryError:
        return 0


def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


class TestWhatIsKept:
    def test_of_a_verdict(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(injection=True), MAIL))
        (found,) = Reader(path).recent()
        assert found == records.Record(
            id=1,
            at=AT,
            queue_id="4XyZ1F2z3aB",
            status="scored",
            score=0.97,
            category="phishing",
            reason="It asks for a password at a new domain.",
            model="gemma3:12b",
            cache="miss",
            injection=True,
            forged=2,
            sender_domain="bulk.example",
            evidence=(
                "Not found out in time: web",
                "Registered: bulk.example 11 days ago",
                "DMARC: fail",
                "SPF: pass for bulk.example",
                "Sender's domain in DNS: takes mail, has SPF",
                "Sent by: [192.0.2.7], name bulk.example, HELO bulk.example",
            ),
            missing=("web",),
            stages=STAGES,
            tokens_in=900,
            tokens_out=30,
            recipients=2,
            size=4_321,
        )
        assert found.seconds == pytest.approx(2.01)

    def test_of_what_was_not_judged(self, path: Path) -> None:
        keep(
            path,
            (MESSAGE, Scan(outcome=Skipped(Skip.NETWORK)), None),
            (MESSAGE, Scan(outcome=Unscored(Failure.TIMEOUT, "the model was slow")), None),
        )
        unscored, skipped = Reader(path).recent()
        assert (skipped.status, skipped.code, skipped.cause) == ("skipped", "network", "")
        assert (unscored.status, unscored.code) == ("unscored", "timeout")
        assert unscored.cause == "the model was slow"
        assert (unscored.score, unscored.evidence, unscored.seconds) == (None, (), 0)

    def test_verdicts_alone_hold_nothing_that_tells_whose_mail_it_is(self, path: Path) -> None:
        """Also a reason that names an address, as models do."""
        reason = "secret-from@bulk.example writes to secret-rcpt@b.test."
        keep(path, (MESSAGE, scored(reason=reason), MAIL))
        assert b"secret" not in content(path)
        (found,) = Reader(path).recent()
        assert found.reason == "[address]@bulk.example writes to [address]@b.test."

    def test_all_of_it_where_that_is_asked_for(self, path: Path) -> None:
        reason = "secret-from@bulk.example is new."
        keep(path, (MESSAGE, scored(reason=reason), MAIL), full=True)
        (found,) = Reader(path).recent()
        assert found.subject == "secret-subject"
        assert found.sender == "<secret-sender@bulk.example>"
        assert found.addresses == ("<secret-rcpt@b.test>", "<secret-two@b.test>")
        assert found.text == MAIL.text[:2_000]
        assert found.reason == reason

    def test_full_without_a_mail_that_was_read(self, path: Path) -> None:
        keep(path, (MESSAGE, Scan(outcome=Skipped(Skip.SIZE)), None), full=True)
        (found,) = Reader(path).recent()
        assert (found.subject, found.text) == ("", "")
        assert found.sender == "<secret-sender@bulk.example>"

    def test_what_was_kept_in_full_is_gone_once_verdicts_alone_are(self, path: Path) -> None:
        keep(path, *[(MESSAGE, scored(), MAIL)] * 50, full=True)
        assert b"secret-subject" in content(path)
        keep(path, (MESSAGE, scored(), MAIL))
        assert count(path) == 51
        assert b"secret" not in content(path)

    def test_each_record_is_bounded(self, path: Path) -> None:
        long = "x" * 1_000_000
        envelope = replace(
            ENVELOPE, queue_id=long, sender=long, recipients=(long,) * 500, recipient_count=500
        )
        mail = replace(MAIL, subject=long, text=long)
        noted = replace(MESSAGE, envelope=envelope), scored(reason=long, model=long), mail
        keep(path, noted, full=True)
        assert len(content(path)) < 50_000
        (found,) = Reader(path).recent()
        assert (found.recipients, len(found.addresses)) == (500, records.ADDRESSES)

    def test_text_that_no_file_can_hold(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(reason="a\ud800b\0c"), replace(MAIL, text="\udfff")), full=True)
        (found,) = Reader(path).recent()
        assert (found.reason, found.text) == ("a?b\0c", "?")


class TestHowLong:
    def test_what_is_older_goes_from_the_disk(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(reason="of-old"), None), clock=lambda: AT - 22 * DAY)
        keep(path, (MESSAGE, scored(reason="younger"), None), clock=lambda: AT - 20 * DAY)
        assert count(path) == 2
        keep(path, (MESSAGE, scored(), None))
        assert b"of-old" not in content(path)
        assert [found.reason for found in Reader(path).recent()][1:] == ["younger"]

    def test_also_while_it_runs(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histories, "SWEEP_SECONDS", 0.02)
        now = [AT]
        history = History(path, days=1, full=False, clock=lambda: now[0])
        history.note(MESSAGE, scored())
        wait_until(lambda: count(path) == 1)
        now[0] += DAY - 10
        time.sleep(0.1)
        assert count(path) == 1
        now[0] += 20
        wait_until(lambda: count(path) == 0)
        history.close()

    def test_no_more_than_so_many(self, path: Path) -> None:
        several = [(MESSAGE, scored(reason=str(number)), None) for number in range(30)]
        keep(path, *several, rows=20)
        kept = [found.reason for found in Reader(path).since(0)]
        assert kept == [str(number) for number in range(10, 30)]

    def test_it_survives_a_restart(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(), None))
        keep(path, (MESSAGE, scored(), None))
        assert [found.id for found in Reader(path).recent()] == [2, 1]

    def test_it_is_for_its_owner_alone(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(), None))
        assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
            "history.db": 0o600
        }


class TestReading:
    @pytest.fixture
    def reader(self, path: Path) -> Reader:
        other = replace(MESSAGE, envelope=replace(ENVELOPE, queue_id="100%_B"))
        keep(
            path,
            (MESSAGE, scored(0.97, "phishing", "Bad LINK."), None),
            (MESSAGE, scored(0.1, "none", "A friend writes."), None),
            (MESSAGE, scored(0.5, "marketing", "An offer."), None),
            (MESSAGE, scored(1.0, "scam", "An heir."), None),
            (other, Scan(outcome=Skipped(Skip.DECIDED)), None),
            (MESSAGE, Scan(outcome=Unscored(Failure.TIMEOUT)), None),
        )
        return Reader(path)

    @pytest.mark.parametrize(
        ("wanted", "ids"),
        [
            (Filter(), [6, 5, 4, 3, 2, 1]),
            (Filter(status="scored"), [4, 3, 2, 1]),
            (Filter(status="unscored"), [6]),
            (Filter(category="none"), [2]),
            (Filter(band="unwanted"), [4, 1]),
            (Filter(band="uncertain"), [3]),
            (Filter(band="wanted"), [2]),
            (Filter(text="bad link"), [1]),
            (Filter(text="timeout"), [6]),
            (Filter(text="%"), [5]),
            (Filter(text="100%_b"), [5]),
            (Filter(text="1%B"), []),
            (Filter(text="\\"), []),
            (Filter(text="BULK.example", status="scored", band="unwanted"), [4, 1]),
            (Filter(text="' OR 1=1 --"), []),
        ],
    )
    def test_filters(self, reader: Reader, wanted: Filter, ids: list[int]) -> None:
        assert [found.id for found in reader.recent(wanted)] == ids

    def test_pages(self, reader: Reader) -> None:
        assert [found.id for found in reader.recent(most=2)] == [6, 5]
        assert [found.id for found in reader.recent(before=5, most=2)] == [4, 3]
        assert [found.id for found in reader.recent(before=1, most=2)] == []
        assert [found.id for found in reader.recent(Filter(status="scored"), before=4)] == [3, 2, 1]

    def test_one(self, reader: Reader) -> None:
        found = reader.one(2)
        assert found is not None
        assert found.reason == "A friend writes."
        assert reader.one(7) is None

    def test_categories(self, reader: Reader) -> None:
        assert reader.categories() == ("marketing", "none", "phishing", "scam")

    def test_all_since_a_time_in_pages(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histories, "PAGE", 3)
        keep_at(path, [(AT + number, scored()) for number in range(10)])
        assert [found.at - AT for found in Reader(path).since(AT + 2)] == list(range(2, 10))
        assert list(Reader(path).since(AT + 10)) == []

    def test_a_clock_that_was_put_back_hides_nothing(self, path: Path) -> None:
        keep_at(path, [(AT + 100, scored()), (AT, scored()), (AT + 101, scored())])
        assert [found.id for found in Reader(path).since(AT + 50)] == [1, 3]

    def test_buckets(self, path: Path) -> None:
        def waited(seconds: float, score: float = 0.9) -> Scan:
            return scored(score, stages={"read": seconds / 2, "model": seconds / 2})

        several = [(AT + 60 + number, waited(float(number + 1))) for number in range(20)]
        several += [(AT + 130, waited(4.0, score)) for score in (0.25, 0.5, 0.75, 0.2)]
        several += [(AT + 130, Scan(outcome=Skipped(Skip.SIZE), stages={"read": 9.0}))]
        several += [(AT + 130, Scan(outcome=Unscored(Failure.TIMEOUT), stages={"read": 60.0}))]
        several += [(AT + 310, Scan(outcome=Skipped(Skip.SIZE)))]
        keep_at(path, several)
        bucket = histories.Bucket(
            at=AT + 60, wanted=0, uncertain=0, unwanted=20, skipped=0, unscored=0,
            median=10.0, p95=19.0,
        )  # fmt: skip
        assert Reader(path).buckets(AT, 60.0) == (
            bucket,
            replace(
                bucket, at=AT + 120, wanted=2, uncertain=1, unwanted=1, skipped=1, unscored=1,
                median=4.0, p95=60.0,
            ),
            replace(bucket, at=AT + 300, unwanted=0, skipped=1, median=None, p95=None),
        )  # fmt: skip
        assert [found.at for found in Reader(path).buckets(AT + 120, 1000.0)] == [AT + 120]

    def test_a_full_file_is_read_in_time(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(), None))
        with closing(sqlite3.connect(path)) as db:
            columns = ", ".join(
                f"{AT} + n" if name == "at" else name for name in historyfile.COLUMNS
            )
            db.execute(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1"  # noqa: S608
                f" FROM numbers WHERE n < {histories.ROWS}) INSERT INTO verdicts"
                f" ({', '.join(historyfile.COLUMNS)})"
                f" SELECT {columns} FROM numbers, verdicts"
            )
            db.commit()
        reader = Reader(path)
        assert reader.recent(Filter(text="nowhere to be found")) == ()
        assert len(reader.buckets(AT, histories.ROWS / 40)) == 41
        assert len(reader.recent(most=10_000)) == histories.PAGE
        assert sum(1 for _ in reader.since(AT + histories.ROWS - 1_000)) == 1_001

    def test_a_question_that_takes_too_long_ends(
        self, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(histories, "READ_SECONDS", 0.05)
        monkeypatch.setattr(
            histories,
            "_COUNTS",
            "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
        )
        with pytest.raises(HistoryError, match="interrupted"):
            reader.buckets(AT, 1.0)


class TestReadingBeside:
    """Another process reads, run by root perhaps."""

    def test_where_there_is_none_it_makes_none(self, path: Path) -> None:
        with pytest.raises(HistoryError, match="unable to open"):
            Reader(path).recent()
        assert list(path.parent.iterdir()) == []

    def test_while_it_is_written_it_leaves_nothing_and_disturbs_nothing(self, path: Path) -> None:
        history = History(path, days=21, full=False)
        for number in range(300):
            history.note(MESSAGE, scored(reason=str(number)))
            if number % 30 == 0:
                count(path)
        history.close()
        assert (history.fault, history.dropped) == ("", 0)
        assert count(path) == 300
        assert [file.name for file in path.parent.iterdir()] == ["history.db"]

    def test_one_who_may_not_write_reads(self, path: Path) -> None:
        source = """
            import os, sys
            from pathlib import Path
            from rspamd_llm.history import Reader

            if os.geteuid() == 0:
                os.setuid(65534)
            print(len(Reader(Path(sys.argv[1])).recent()))
        """
        with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
            file = Path(folder) / "history of ?#%20.db"
            keep(file, (MESSAGE, scored(), None))
            file.chmod(0o444)
            Path(folder).chmod(0o555)
            done = run(source, str(file))
            Path(folder).chmod(0o700)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "1\n")

    @pytest.mark.parametrize("what", [b"", b"no database at all" * 100])
    def test_what_is_no_history_is_told(self, path: Path, what: bytes) -> None:
        path.write_bytes(what)
        with pytest.raises(HistoryError, match=str(path)):
            Reader(path).recent()

    @pytest.mark.parametrize(
        ("column", "value"), [("stages", "[1]"), ("evidence", "5"), ("addresses", "{"), ("id", "")]
    )
    def test_what_is_no_record_is_told(self, path: Path, column: str, value: str) -> None:
        keep(path, (MESSAGE, scored(), None))
        with closing(sqlite3.connect(path)) as db:
            if column == "id":
                db.execute("ALTER TABLE verdicts RENAME COLUMN cause TO course")
            else:
                db.execute(f"UPDATE verdicts SET {column} = ?", (value,))  # noqa: S608
            db.commit()
        with pytest.raises(HistoryError):
            Reader(path).recent()


class TestFaults:
    """Each costs records, and is told once."""

    @pytest.mark.usefixtures("impatient")
    def test_without_its_folder(self, tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
        path = tmp_path / "absent" / "history.db"
        history = History(path, days=21, full=False)
        for number in range(1, 4):
            history.note(MESSAGE, scored())
            wait_until(lambda number=number: history.dropped == number)  # type: ignore[misc]
        assert "No such file" in history.fault
        path.parent.mkdir()
        history.note(MESSAGE, scored())
        wait_until(lambda: not history.fault)
        history.close()
        assert (history.fault, history.dropped, count(path)) == ("", 3, 1)
        assert len(warnings()) == 1

    def test_it_tries_again_only_later(self, tmp_path: Path) -> None:
        path = tmp_path / "absent" / "history.db"
        history = History(path, days=21, full=False)
        wait_until(lambda: bool(history.fault))
        path.parent.mkdir()
        history.note(MESSAGE, scored())
        history.close()
        assert (history.dropped, path.exists()) == (1, False)

    def test_what_is_no_database_is_set_aside(
        self, path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        path.write_bytes(b"not a database, but long enough for one" * 100)
        history = History(path, days=21, full=False)
        wait_until(lambda: bool(warnings()))
        history.note(MESSAGE, scored())
        history.close()
        assert (history.dropped, count(path)) == (0, 1)
        assert path.with_name("history.db.corrupt").read_bytes().startswith(b"not a database")
        assert len(warnings()) == 1

    def test_a_damaged_database_is_set_aside(
        self, path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        keep(path, *[(MESSAGE, scored(), None)] * 200)
        size = path.stat().st_size
        with path.open("r+b") as file:  # all pages but the first
            file.seek(4_096)
            file.write(b"\xa5" * (size - 4_096))
        history = History(path, days=21, full=False)
        wait_until(lambda: bool(warnings()))
        history.note(MESSAGE, scored())
        history.close()
        assert count(path) == 1
        assert path.with_name("history.db.corrupt").stat().st_size == size
        assert len(warnings()) == 1

    def test_a_file_of_another_version_begins_anew(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(reason="of old"), None))
        with closing(sqlite3.connect(path)) as db:
            db.execute("ALTER TABLE verdicts DROP COLUMN cause")
            db.execute("PRAGMA user_version = 99")
            db.commit()
        keep(path, (MESSAGE, scored(), None))
        assert count(path) == 1

    def test_another_programs_file_is_left_alone(
        self, path: Path, warnings: Callable[[], list[str]]
    ) -> None:
        """As where `history.file` names the store."""
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE verdicts (of_others TEXT)")
            db.execute("PRAGMA user_version = 2")
            db.commit()
        before = path.read_bytes()
        history = History(path, days=21, full=False)
        history.note(MESSAGE, scored())
        history.close()
        assert path.read_bytes() == before
        assert "the file is another program's" in history.fault
        assert len(warnings()) == 1

    def test_a_disk_that_is_full(self, path: Path) -> None:
        """As far as a limit on the size of files is like one."""
        source = """
            import logging, resource, sys
            from pathlib import Path
            from rspamd_llm import historyfile
            from rspamd_llm.history import History, Reader
            from tests.kept import MESSAGE, scored
            from tests.waiting import wait_until

            historyfile.RETRY = 0.0
            logging.basicConfig(level=logging.INFO, format="%(levelname)s", stream=sys.stdout)
            history = History(Path(sys.argv[1]), days=21, full=False)

            def note(reason):
                before = history.dropped
                history.note(MESSAGE, scored(reason=reason))
                kept = lambda: any(one.reason == reason for one in reader.recent())
                wait_until(lambda: history.dropped > before or kept())

            reader = Reader(Path(sys.argv[1]))
            wait_until(lambda: Path(sys.argv[1]).exists() and Path(sys.argv[1]).stat().st_size)
            note("early")
            usual = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, usual[1]))
            for number in range(100):
                note(str(number) + "x" * 200)
            assert history.fault and history.dropped > 10, history.dropped
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
            note("late")
            history.close()
        """
        done = run(source, str(path))
        assert (done.returncode, done.stderr) == (0, "")
        told = done.stdout.split()
        assert told == ["WARNING", "INFO"] * (len(told) // 2) != []
        reasons = {found.reason for found in Reader(path).since(0)}
        assert {"early", "late"} <= reasons
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    @pytest.mark.parametrize("what", ["folder", "file"])
    def test_what_may_not_be_written(self, what: str) -> None:
        source = """
            import logging, os, sys
            from pathlib import Path
            from rspamd_llm.history import History
            from tests.kept import MESSAGE, scored

            logging.basicConfig(level=logging.INFO, format="%(levelname)s", stream=sys.stdout)
            if os.geteuid() == 0:  # who may write everything
                os.setuid(65534)
            history = History(Path(sys.argv[1]), days=21, full=False)
            for number in range(3):
                history.note(MESSAGE, scored())
            history.close()
            assert history.fault
            assert history.dropped == 3
        """
        with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
            path = Path(folder) / "history.db"
            if what == "file":
                keep(path, (MESSAGE, scored(), None))
                path.chmod(0o444)
            Path(folder).chmod(0o555)
            done = run(source, str(path))
            Path(folder).chmod(0o700)
        assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["WARNING"])

    def test_killed_while_it_writes_it_leaves_a_sound_file(self, path: Path) -> None:
        source = """
            import sys, time
            from pathlib import Path
            from rspamd_llm.history import History
            from tests.kept import MESSAGE, scored

            history = History(Path(sys.argv[1]), days=21, full=False)
            while True:
                history.note(MESSAGE, scored())
                time.sleep(0)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), str(path)], cwd=ROOT
        ) as writer:
            try:
                wait_until(lambda: count(path) > 300)
            finally:
                writer.kill()
        keep(path, (MESSAGE, scored(reason="after"), None), clock=time.time)
        assert Reader(path).recent(most=1)[0].reason == "after"
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not path.with_name("history.db.corrupt").exists()

    def test_another_process_holds_it(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setattr(historyfile, "LOCK_SECONDS", 0.05)
        keep(path, (MESSAGE, scored(), None))
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            history = History(path, days=21, full=False)
            wait_until(lambda: "locked" in history.fault)
        history.close()
        assert len(warnings()) == 1


class TestNotWaiting:
    """The thread is held, as a disk that hangs holds it."""

    @pytest.fixture
    def held(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        release = threading.Event()
        usual = historyfile.File.sweep

        def sweep(file: historyfile.File) -> None:
            release.wait(SECONDS)
            usual(file)

        monkeypatch.setattr(historyfile.File, "sweep", sweep)
        return release

    def test_no_more_than_so_many_wait_and_the_others_are_counted(
        self, path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(histories, "QUEUED", 50)
        history = History(path, days=21, full=False)

        def note() -> None:
            for _ in range(20):
                history.note(MESSAGE, scored())

        threads = [threading.Thread(target=note) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert history.dropped == 160 - 50
        held.set()
        history.close()
        assert count(path) == 50

    def test_closing_does_not_wait_for_ever(
        self, path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(histories, "CLOSE_SECONDS", 0.05)
        monkeypatch.setattr(histories, "QUEUED", 1)
        history = History(path, days=21, full=False)
        history.note(MESSAGE, scored())
        history.close()
        held.set()

    def test_our_own_mistakes_cost_a_record(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise LookupError("secret")

        history = History(path, days=21, full=False)
        with monkeypatch.context() as patch:
            patch.setattr(records, "record", fails)
            history.note(MESSAGE, scored())
        history.note(MESSAGE, scored())
        history.close()
        assert (history.dropped, count(path)) == (1, 1)

    def test_many_threads_at_once(self, path: Path) -> None:
        history = History(path, days=21, full=False)

        def note(thread: int) -> None:
            for number in range(40):
                envelope = Envelope(queue_id=f"{thread}-{number}")
                history.note(
                    Message(envelope=envelope, data=b"", size=1), replace(scored(), mail=Mail())
                )

        threads = [threading.Thread(target=note, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        history.close()
        found = [one.queue_id for one in Reader(path).since(0)]
        assert sorted(found) == sorted(f"{t}-{n}" for t in range(10) for n in range(40))


def test_the_file_is_plain_sqlite(path: Path) -> None:
    """An administrator may look with sqlite3(1)."""
    keep(path, (MESSAGE, scored(), None))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (evidence,) = db.execute("SELECT evidence FROM verdicts").fetchone()
    assert json.loads(evidence)[0] == "Not found out in time: web"
