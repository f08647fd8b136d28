"""`rspamd-llm report`: real history files in, a text for cron or JSON out."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rspamd_llm import rspamdhistory, summary, well
from rspamd_llm.cli import main
from rspamd_llm.contrast import compare
from rspamd_llm.domain import Failure
from rspamd_llm.historyfile import File
from rspamd_llm.records import Record
from rspamd_llm.reporttext import CURES
from rspamd_llm.rspamdhistory import NoHistoryError, RspamdHistory, from_json, from_log
from rspamd_llm.summary import Judged, Tally

DAY = 86_400.0
NOW = time.time()
ASKED = {"read": 0.01, "evidence": 0.2, "fit": 0.01, "model": 1.0}

Run = Callable[..., int]
Write = Callable[..., Path]


def scored(score: float = 0.02, **fields: Any) -> Record:
    """A mail that the model was asked about."""
    values: dict[str, Any] = {
        "at": NOW - 3600,
        "queue_id": "4XyZ1F2z3aB",
        "category": "phishing" if score >= 0.75 else "none",
        "cache": "miss",
        "sender_domain": "example.net",
        "stages": ASKED,
    }
    return Record(status="scored", score=score, **values | fields)


def skipped(code: str, **fields: Any) -> Record:
    values: dict[str, Any] = {"at": NOW - 3600}
    return Record(status="skipped", code=code, **values | fields)


def unscored(code: str, **fields: Any) -> Record:
    values: dict[str, Any] = {"at": NOW - 3600, "stages": ASKED}
    return Record(status="unscored", code=code, **values | fields)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a history and returns a configuration that names it."""

    def made(*records: Record) -> Path:
        path = tmp_path / "history.db"
        file = File(path, days=21, full=False, rows=100_000, clock=time.time)
        file.add(sorted(records, key=lambda record: record.at))
        file.close()
        assert not file.fault
        config = tmp_path / "rspamd-llm.toml"
        config.write_text(f'[history]\nfile = "{path}"\n')
        return config

    return made


def text(capsys: pytest.CaptureFixture[str], config: Path, *more: str, status: int = 0) -> str:
    assert main(["report", "-c", str(config), *more]) == status
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], config: Path, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(capsys, config, "--json", *more))
    return found


class TestTheNumbers:
    def test_mails_are_counted_by_status_code_and_origin(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(
            scored(0.97),
            scored(0.75),
            scored(0.5),
            scored(0.25, cache="hit", stages={"read": 0.01, "memory": 0.001}),
            scored(0.0, cache="joined", stages={"read": 0.01, "memory": 0.4}),
            skipped("decided"),
            skipped("decided"),
            skipped("authenticated"),
            unscored("timeout"),
        )
        now = document(capsys, config)["now"]
        assert (now["mails"], now["scored"], now["skipped"], now["unscored"]) == (9, 5, 3, 1)
        assert (now["unwanted"], now["uncertain"], now["wanted"]) == (2, 1, 2)
        assert now["skips"] == {"decided": 2, "authenticated": 1}
        assert now["failures"] == {"timeout": 1}
        assert now["origins"] == {"miss": 3, "hit": 1, "joined": 1}
        assert now["categories"] == {"phishing": 2}
        assert now["asked"] == 4  # the one that came too late, too

    def test_times_are_of_the_nearest_rank(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = [scored(stages={"model": float(seconds)}) for seconds in range(1, 101)]
        now = document(capsys, write(*asked, skipped("network")))["now"]
        assert now["asked_seconds"] == {"median": 50.0, "p95": 95.0}
        assert now["read_seconds"] == {"median": 50.0, "p95": 95.0}

    def test_tokens_injections_and_forged_headers_are_summed(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        now = document(
            capsys,
            write(
                scored(tokens_in=1000, tokens_out=50, injection=True),
                scored(tokens_in=500, tokens_out=25, forged=7),
                skipped("size", forged=1),
            ),
        )["now"]
        assert (now["tokens_in"], now["tokens_out"]) == (1500, 75)
        assert (now["injections"], now["forged"]) == (1, 2)

    def test_senders_most_often_judged_unwanted_come_first(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(
            *(scored(0.9, sender_domain="often.example") for _ in range(3)),
            scored(0.1, sender_domain="often.example"),
            scored(0.9, sender_domain="once.example"),
            scored(0.9, sender_domain=""),
            scored(0.1, sender_domain="never.example"),
        )
        assert document(capsys, config)["now"]["senders"] == [
            {"domain": "often.example", "unwanted": 3, "scored": 4},
            {"domain": "once.example", "unwanted": 1, "scored": 1},
        ]
        assert re.search(r"often\.example +3 of 4\n", text(capsys, config))

    def test_evidence_that_failed_is_told_by_source_and_share(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(
            scored(missing=("dns", "web")),
            scored(missing=("web",)),
            scored(),
            scored(cache="hit", stages={"read": 0.01}),  # nothing was looked up for it
        )
        assert document(capsys, config)["now"]["evidence"] == {
            "web": {"missing": 2, "of": 3},
            "dns": {"missing": 1, "of": 3},
        }
        assert re.search(r"web +2 of 3 \(67 %\)\n", text(capsys, config))

    def test_the_span_before_stands_beside_it_and_is_as_long(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(
            scored(at=NOW - 3 * DAY),
            *(scored(at=NOW - 1.5 * DAY) for _ in range(2)),
            *(scored() for _ in range(3)),
        )
        found = document(capsys, config)
        assert (found["before"]["mails"], found["now"]["mails"]) == (2, 3)
        found = document(capsys, config, "--days", "2")
        assert (found["before"]["mails"], found["now"]["mails"]) == (1, 5)
        assert re.search(r"\n  all +3 +2\n", text(capsys, config))

    def test_since_names_a_time_of_its_own(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(scored(at=NOW - 5 * DAY), scored(at=NOW - 3 * DAY), scored())
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(NOW - 4 * DAY))
        assert document(capsys, config, "--since", since)["now"]["mails"] == 2


class TestTheText:
    def test_each_reason_for_no_verdict_has_a_cure(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert set(CURES) == set(Failure)
        out = " ".join(text(capsys, write(*map(unscored, Failure))).split())
        for cure in CURES.values():
            assert cure in out

    def test_it_is_plain_ascii_of_80_columns_at_most_whatever_senders_chose(
        self, write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        ugly = "\x1b[2J\u202egro.\r\nFrom root\x00\u9f8d" + "x" * 300
        records = [
            scored(
                0.97,
                sender_domain=ugly,
                category=ugly,
                queue_id=ugly,
                cache=ugly,
                reason="the reason of the model",
                missing=(ugly,),
            ),
            unscored(ugly),
            skipped(ugly),
        ]
        history = tmp_path / "rspamd.json"
        row = {
            "unix_time": NOW - 3599,
            "action": "no action",
            "score": 1e300,
            "required_score": 15,
            "symbols": {
                "LLM_SPAM": {"score": 4.7, "options": ["0.97"]},
                ugly: {"score": 99},
                "A" * 64: {"score": 1e300},
            },
        }
        history.write_text(json.dumps([row, row | {"action": ugly}]))
        config = write(*records)
        for more in ((), ("--json",)):
            out = text(capsys, config, "--rspamd-history", str(history), *more)
            assert re.fullmatch(r"[\n -~]*", out)
            assert "the reason of the model" not in out
            assert "x" * 50 not in out
            assert "From root" not in [line[:9] for line in out.splitlines()]
        out = text(capsys, config, "--rspamd-history", str(history))
        assert max(map(len, out.splitlines())) <= 80
        assert "Rspamd: no action" in out

    def test_an_empty_history_is_a_report_too(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write()
        assert "All is well." in text(capsys, config)
        found = document(capsys, config)
        assert found["well"]
        assert found["now"]["mails"] == 0
        assert found["now"]["asked_seconds"] == {"median": None, "p95": None}
        assert text(capsys, config, "--quiet") == ""

    def test_with_json_it_has_the_same_numbers(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(*(scored(0.9) for _ in range(1234)), *(unscored("timeout"),) * 56)
        found, out = document(capsys, config), text(capsys, config)
        assert found["now"]["unwanted"] == 1234
        assert re.search(r"unwanted \(0\.75 and more\) +1,234 +-\n", out)
        for sentence in found["troubles"]:
            assert sentence in " ".join(out.split())


class TestQuiet:
    def quiet(
        self, capsys: pytest.CaptureFixture[str], config: Path, *more: str, status: int = 0
    ) -> str:
        return text(capsys, config, "--quiet", *more, status=status)

    def test_it_says_nothing_while_all_is_well(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write(
            *(scored(missing=("web",) if number % 2 else ()) for number in range(198)),
            *(scored(0.97, injection=True), skipped("decided")),
            unscored("stopping"),
            scored(at=NOW - 1.5 * DAY),
        )
        assert self.quiet(capsys, config) == ""
        assert self.quiet(capsys, config, "--json") == ""

    @pytest.mark.parametrize(
        ("records", "sentence"),
        [
            ([scored()] * 98 + [unscored("timeout")] * 2, "2 of 100 mails to be judged (2.0 %)"),
            ([unscored("overloaded")], "1 of 1 mail to be judged (100 %)"),
            ([scored(missing=("dns",))] * 2 + [scored()], "Evidence from dns was not in time"),
            ([scored(), skipped("size", forged=1)], "1 mail brought X-GPT headers"),
            ([scored(at=NOW - 1.5 * DAY)], "No mail came through the daemon"),
        ],
    )
    def test_it_speaks_where_something_is_not(
        self,
        write: Write,
        capsys: pytest.CaptureFixture[str],
        records: list[Record],
        sentence: str,
    ) -> None:
        config = write(*records)
        assert sentence in self.quiet(capsys, config)
        assert not document(capsys, config)["well"]

    def test_one_in_a_hundred_without_a_verdict_is_still_well(self) -> None:
        tally, nothing = Tally(), Tally().figures()
        for record in [scored()] * 99 + [unscored("timeout")]:
            tally.add(record)
        assert well.troubles(tally.figures(), nothing, None) == ()

    def test_it_speaks_where_rspamd_did_the_opposite(
        self, write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        config = write(scored(0.97))
        log = tmp_path / "rspamd.log"
        log.write_text(logged("4XyZ1F2z3aB", "no action"))
        assert "4XyZ1F2z3aB  model 0.97 phishing, from example.net" in self.quiet(
            capsys, config, "--rspamd-history", str(log)
        )
        log.write_text(logged("4XyZ1F2z3aB", "reject"))
        assert self.quiet(capsys, config, "--rspamd-history", str(log)) == ""


class TestNoReport:
    """Exit status 1 and why, or 2 for what was written wrongly."""

    def fails(self, capsys: pytest.CaptureFixture[str], config: Path) -> str:
        assert main(["report", "-c", str(config), "--quiet"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        return err

    def test_without_a_history_it_says_how_to_keep_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = tmp_path / "c.toml"
        config.write_text('[history]\nkeep = "none"\n')
        assert 'keep = "verdicts"' in self.fails(capsys, config)

    def test_a_history_that_is_not_there_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = tmp_path / "c.toml"
        config.write_text(f'[history]\nfile = "{tmp_path}/absent.db"\n')
        assert "absent.db: there is no history yet" in self.fails(capsys, config)
        assert list(tmp_path.iterdir()) == [config]

    def test_a_file_that_is_no_history_is_named(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write()
        (tmp_path / "history.db").write_bytes(b"something else " * 1000)
        assert "history.db" in self.fails(capsys, config)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--days", "0"],
            ["--days", "many"],
            ["--days", "9" * 5000],
            ["--since", "yesterday"],
            ["--since", "2999-01-01"],
            ["--days", "1", "--since", "2020-01-01"],
        ],
    )
    def test_wrong_usage_is_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["report", *arguments])
        assert stopped.value.code == 2

    @pytest.mark.parametrize("source", ["ftp://localhost/", "http://", "http://a b", "redis://"])
    def test_an_address_that_is_none_is_2(
        self, write: Write, source: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", "-c", str(write()), "--rspamd-history", source]) == 2
        assert "--rspamd-history" in capsys.readouterr().err


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Serves one answer to one connection, whatever is asked, and returns its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(answer: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)

    def started(answer: bytes) -> str:
        thread = threading.Thread(target=serve, args=(answer,), daemon=True)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield started
    for thread in threads:
        thread.join(10)
    listener.close()


class TestRspamdOutOfReach:
    """The rest is printed all the same, quiet or not, and the status is 1."""

    def told(self, capsys: pytest.CaptureFixture[str], config: Path, source: str) -> str:
        out = text(capsys, config, "--quiet", "--rspamd-history", source, status=1)
        assert "MAILS" in out
        assert max(map(len, out.splitlines())) <= 80
        return " ".join(out.split())

    def test_nobody_answers(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        config = write(scored())
        assert "refused" in self.told(capsys, config, f"http://127.0.0.1:{port}")
        out = self.told(capsys, config, f"redis://:secret@127.0.0.1:{port}/0")
        assert "secret" not in out

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "nothing in it is a row"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234", "no history"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n[{}", "nothing in it is a row"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
            (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "password_file"),
            (b"220 mail.example ESMTP\r\n", "no answer in HTTP"),
            (b"", "http://127.0.0.1"),
        ],
    )
    def test_what_answers_is_no_controller(
        self,
        write: Write,
        capsys: pytest.CaptureFixture[str],
        answering: Callable[[bytes], str],
        answer: bytes,
        said: str,
    ) -> None:
        assert said in self.told(capsys, write(scored()), answering(answer))

    def test_a_file_is_not_there_or_is_something_else(
        self, write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        config = write(scored())
        assert "No such file" in self.told(capsys, config, str(tmp_path / "absent"))
        assert "nothing in it is a row" in self.told(capsys, config, str(config))
        (tmp_path / "mail.log").write_text("Nov 21 12:00:00 mx postfix/smtpd[1]: connect\n")
        assert "neither JSON nor a log" in self.told(capsys, config, str(tmp_path / "mail.log"))

    def test_a_redis_password_in_the_address_is_not_shown(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = self.told(capsys, write(), "redis://user:secret@127.0.0.1:bad/0")
        assert "secret" not in out


# --- Rspamd's own forms ---------------------------------------------------------------------

AT = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


def logged(
    queue_id: str,
    action: str,
    *,
    begins: str = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW - 3599)),
    message_id: str = "1@example.net",
    symbols: str = "BAYES_SPAM(5.10){100.00%;},MIME_GOOD(-0.10){text/plain;}",
    sender: str = "a@b.example",
) -> str:
    """A line of Rspamd's log."""
    return (
        f"{begins} #426(rspamd_proxy) <cb2772>; task; rspamd_task_write_log: id: <{message_id}>,"
        f" qid: <{queue_id}>, ip: 192.0.2.1, from: <{sender}>, (default: F ({action}):"
        f" [5.00/15.00] [{symbols}]), len: 336, time: 611.402ms, dns req: 15,"
        " digest: <6d3cbe2df7ff1d02933ef997f5e3a799>, rcpts: <c@d.example>\n"
    )


def read(*lines: str) -> RspamdHistory:
    return from_log(line.encode() for line in lines)


def judged(score: float, *, at: float = AT, queue_id: str = "4Q1", category: str = "") -> Judged:
    return Judged(
        at=at,
        queue_id=queue_id,
        score=score,
        category=category or ("scam" if score >= 0.75 else "none"),
        domain="example.net",
    )


def row(action: str, *, at: float = AT, **symbols: Any) -> dict[str, Any]:
    """A row of Rspamd's history."""
    return {
        "unix_time": at,
        "action": action,
        "score": 5.0,
        "required_score": 15,
        "symbols": symbols,
    }


def history(*rows: object) -> RspamdHistory:
    return from_json(json.dumps({"rows": rows}).encode())


def symbol(score: float = 0.0, *options: str) -> dict[str, Any]:
    return {"score": score, "options": list(options)}


class TestRspamdsLog:
    def test_a_line_tells_queue_id_time_action_and_grounds(self) -> None:
        begins = "2026-11-21 12:00:00"
        (scan,) = read(logged("4Q1", "add header", begins=begins)).scans
        assert (scan.queue_id, scan.action, scan.score, scan.limit) == ("4Q1", "add header", 5, 15)
        assert scan.at == AT
        assert scan.grounds == ("BAYES_SPAM 5.1",)

    def test_a_line_of_the_journal_has_no_time_that_counts(self) -> None:
        begins = "Nov 21 12:00:00 mx rspamd[426]:"
        (scan,) = read(logged("4Q1", "reject", begins=begins)).scans
        assert scan.at is None
        found = compare(RspamdHistory(scans=(scan,)), [judged(0.02)], AT - 60, AT + 60)
        assert found.count == 1
        twice = [judged(0.02), judged(0.97, at=AT + 1)]
        assert compare(RspamdHistory(scans=(scan,)), twice, AT - 60, AT + 60).mails == 0

    @pytest.mark.parametrize(
        "line",
        [
            logged("4Q1", "no action", message_id="x>, qid: <4Q2>, (default: F (reject): ["),
            logged("4Q1", "no action", sender="x>, qid: <4Q2>, ip: <"),
            logged(
                "4Q1", "no action", sender='x>, (default: F (reject): [1/1] [A(1.00){}]), len: "'
            ),
            logged("4Q1", "no action").replace("5.00/15.00", "1.2.3/-"),
            logged("4Q1", "no action")[:150] + "\n",
        ],
    )
    def test_a_line_that_a_sender_wrote_in_is_not_taken_for_another_mail(self, line: str) -> None:
        found = read(line, logged("4Q3", "reject"))
        assert [scan.queue_id for scan in found.scans] == ["4Q3"]
        assert found.unread == 1

    def test_scans_without_a_queue_id_are_left_out(self) -> None:
        by_hand = logged("4Q1", "reject").replace(" qid: <4Q1>,", "")
        assert read(by_hand, "something else\n") == RspamdHistory(scans=())

    def test_forced_actions_have_a_score_that_is_no_number(self) -> None:
        line = logged("4Q1", "soft reject").replace("[5.00/15.00]", "[nan/nan]")
        (scan,) = read(line).scans
        assert (scan.score, scan.limit) == (0.0, None)

    def test_what_is_no_log_of_rspamds_is_refused(self) -> None:
        with pytest.raises(NoHistoryError):
            read("Nov 21 12:00:00 mx postfix/smtpd[1]: connect\n")


class TestRspamdsHistory:
    def test_its_forms_are_the_same(self) -> None:
        rows = [row("reject", LLM_HAM=symbol(0, "0.02")), row("no action")]
        known = from_json(json.dumps({"rows": rows, "version": 2}).encode())
        assert len(known.scans) == 2
        assert from_json(json.dumps(rows).encode()) == known
        assert from_json("\n".join(map(json.dumps, rows)).encode()) == known
        assert from_json(json.dumps(rows[0]).encode()).scans == known.scans[:1]

    def test_one_without_a_row_is_a_history(self) -> None:
        assert from_json(b'{"rows":[],"version":2}') == from_json(b"[]") == RspamdHistory(scans=())

    @pytest.mark.parametrize(
        "bad",
        [
            None,
            7,
            "row",
            [],
            {},
            row("reject") | {"action": 5},
            row("reject") | {"unix_time": "now"},
            row("reject") | {"unix_time": True},
            row("reject") | {"score": 10**400},
            row("reject") | {"score": None},
        ],
    )
    def test_a_row_that_is_none_is_counted(self, bad: object) -> None:
        found = history(bad, row("reject"))
        assert (len(found.scans), found.unread) == (1, 1)
        with pytest.raises(NoHistoryError):
            history(bad)

    @pytest.mark.parametrize(
        "data", [b"", b"\xff\xfe", b"[" * 100_000, b'"rows"', b'{"error":"Unauthorized"}']
    )
    def test_garbage_is_refused_or_empty(self, data: bytes) -> None:
        try:
            assert from_json(data).scans == ()
        except NoHistoryError:
            return
        assert data == b""

    def test_symbols_of_any_shape_do_no_harm(self) -> None:
        odd: dict[str, Any] = {
            "A": None,
            "B": 5,
            "C": {"score": "x", "options": "y"},
            "LLM_SPAM": {"options": [[]]},
        }
        (scan,) = history(row("reject", **odd)).scans
        assert (scan.claim, scan.claimed_score, scan.grounds) == ("unwanted", None, ())
        assert history(row("reject") | {"symbols": [1]}).scans[0].claim == ""


class TestContradictions:
    def count(self, said: RspamdHistory, *ours: Judged) -> int:
        return compare(said, ours, AT - 60, AT + 60).count

    @pytest.mark.parametrize(
        ("score", "action", "differs"),
        [
            (0.97, "no action", True),
            (0.75, "no action", True),
            (0.746, "no action", True),  # 0.75 in the header
            (0.74, "no action", False),
            (0.97, "add header", False),
            (0.97, "reject", False),
            (0.97, "greylist", False),
            (0.25, "reject", True),
            (0.02, "add header", True),
            (0.02, "rewrite subject", True),
            (0.02, "soft reject", False),
            (0.02, "no action", False),
            (0.26, "reject", False),
        ],
    )
    def test_are_what_both_cannot_mean(self, score: float, action: str, differs: bool) -> None:
        begins = "2026-11-21 12:00:00"
        found = compare(
            read(logged("4Q1", action, begins=begins)), [judged(score)], AT - 60, AT + 60
        )
        assert found.compared == 1
        assert found.count == differs

    def test_a_queue_id_used_again_is_matched_in_its_own_time(self) -> None:
        lines = read(logged("4Q1", "reject", begins="2026-11-21 12:00:00"))
        earlier, then = judged(0.02, at=AT - 7200), judged(0.97)
        assert self.count(lines, earlier, then) == 0
        assert compare(lines, [earlier], AT - 60, AT + 60).compared == 0

    def test_rspamds_symbol_tells_what_the_model_said_where_no_queue_id_is_told(self) -> None:
        said = history(row("reject", LLM_HAM=symbol(0, "0.02"), BAYES_SPAM=symbol(5.1)))
        (found,) = compare(said, [], AT - 60, AT + 60).contradictions
        assert (found.says, found.score, found.queue_id) == ("wanted", 0.02, "")
        assert found.grounds == ("BAYES_SPAM 5.1",)

    def test_also_where_rspamd_keeps_only_its_name(self) -> None:
        said = history(row("no action", LLM_SPAM={"score": 0.0}))
        (found,) = compare(said, [], AT - 60, AT + 60).contradictions
        assert (found.says, found.score) == ("unwanted", None)

    def test_the_queue_id_is_added_if_one_verdict_of_that_moment_fits(self) -> None:
        said = history(row("no action", LLM_SPAM=symbol(4.7, "0.97"), LLM_TECH_SUPPORT=symbol(3.0)))
        ours = judged(0.97, at=AT - 1, queue_id="4Q7", category="tech-support")
        other = replace(ours, queue_id="4Q8")

        def queue_id(*scored: Judged) -> str:
            (found,) = compare(said, scored, AT - 60, AT + 60).contradictions
            return found.queue_id

        assert queue_id(ours) == "4Q7"
        assert queue_id(replace(ours, category="scam"), ours) == "4Q7"
        assert queue_id(ours, other) == ""
        assert queue_id(replace(ours, at=AT - 30)) == ""
        assert queue_id(replace(ours, score=0.96)) == ""

    def test_what_is_not_of_the_span_is_left_out(self) -> None:
        said = history(
            *(row("reject", at=at, LLM_HAM=symbol(0, "0.02")) for at in (AT - 61, AT, AT + 60))
        )
        found = compare(said, [], AT - 60, AT + 60)
        assert (found.mails, found.count, found.begins) == (1, 1, AT - 61)

    def test_mail_without_a_verdict_and_disbelieved_verdicts_are_counted(self) -> None:
        said = history(
            row("no action", LLM_ABSENT=symbol()), row("no action", LLM_FORGED=symbol(0, "key"))
        )
        found = compare(said, [], AT - 60, AT + 60)
        assert (found.absent, found.refused, found.compared) == (1, 1, 0)
        nothing = Tally().figures()
        (sentence,) = well.troubles(nothing, nothing, found)
        assert "LLM_FORGED" in sentence

    def test_the_latest_are_kept_and_all_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rspamd_llm.contrast.CONTRADICTIONS", 2)
        said = history(
            *(row("reject", at=AT - number, LLM_HAM=symbol(0, "0.02")) for number in range(5))
        )
        found = compare(said, [], AT - 60, AT + 60)
        assert found.count == 5
        assert [one.at for one in found.contradictions] == [AT - 1, AT]


def test_a_name_is_cut_and_stripped_of_what_moves_a_terminal() -> None:
    assert summary.cleaned("firm.example") == "firm.example"
    assert summary.cleaned("a\x1b[31m\u202eb\n") == "a?[31m?b?"
    assert len(summary.cleaned("x" * 1_000)) == summary.NAME_LIMIT


def test_the_symbols_of_the_plugin_are_those_that_it_has() -> None:
    plugin = (Path(__file__).parents[1] / "conf/rspamd/rspamd_llm.lua").read_text()
    for name in (*rspamdhistory.CLAIMS, "LLM_ABSENT", "LLM_FORGED"):
        assert f"'{name}'" in plugin
