"""The log: one line a message, without a word of the mail."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime

import pytest

from rspamd_llm import log
from rspamd_llm.domain import (
    Completion,
    Envelope,
    Facts,
    Failure,
    Finding,
    Flag,
    Message,
    Outcome,
    Scan,
    Scored,
    Skip,
    Skipped,
    Unscored,
    Verdict,
)

ENVELOPE = Envelope(
    queue_id="4XyZ1F2z3aB",
    sender="<secret-sender@a.test>",
    recipients=("<secret-rcpt@b.test>",),
    recipient_count=3,
    helo="secret-helo",
    client_name="secret-client",
)
MESSAGE = Message(envelope=ENVELOPE, data=b"Subject: secret-subject\r\n\r\nsecret-body", size=4_321)
SCORED = Scored(
    verdict=Verdict(score=0.974, category="phishing", reason="secret-reason"),
    model="gemma3:12b",
    prompt_id="9f3c2a11",
    seconds=1.5,
    tokens_in=900,
    tokens_out=30,
)
SKIPPED = Skipped(Skip.NETWORK)
UNSCORED = Unscored(Failure.TIMEOUT, "the model did not answer in time")


def line(
    capsys: pytest.CaptureFixture[str], outcome: Outcome, form: str = "text", level: str = "info"
) -> str:
    log.set_up(level=level, form=form)
    scan = Scan(
        outcome=outcome,
        stages={"read": 0.0049, "model": 1.5},
        facts=Facts(findings=(Finding(flag=Flag.LINK_ADDRESS, detail="secret-detail"),)),
        completion=Completion(text="secret-answer"),
    )
    log.scanned(MESSAGE, scan)
    return capsys.readouterr().err


class TestText:
    def test_scored(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert line(capsys, SCORED) == (
            "info: scan queue_id=4XyZ1F2z3aB status=scored score=0.97 category=phishing "
            "model=gemma3:12b cache=miss tokens_in=900 tokens_out=30 recipients=3 size=4321 "
            "read_s=0.005 model_s=1.5\n"
        )

    def test_skipped(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert line(capsys, SKIPPED).startswith(
            "info: scan queue_id=4XyZ1F2z3aB status=skipped code=network recipients=3 "
        )

    def test_unscored_with_its_cause(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert line(capsys, UNSCORED).startswith(
            "info: scan queue_id=4XyZ1F2z3aB status=unscored code=timeout "
            'cause="the model did not answer in time" recipients=3 '
        )

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("plain", "plain"),
            ("", '""'),
            ("a b", '"a b"'),
            ('a"b', r'"a\"b"'),
            ("a=b", '"a=b"'),
            ("a\nb\rc\x1bd\u2028e", r'"a\nb\rc\u001bd\u2028e"'),
        ],
    )
    def test_a_value_cannot_start_a_line_nor_another_field(self, value: str, shown: str) -> None:
        assert log._plain(value) == shown


class TestJson:
    def test_one_object(self, capsys: pytest.CaptureFixture[str]) -> None:
        read = json.loads(line(capsys, SCORED, form="json"))
        assert datetime.fromisoformat(read.pop("time")).tzinfo is not None
        assert read == {
            "level": "info",
            "logger": "rspamd_llm.scan",
            "message": "scan",
            "queue_id": "4XyZ1F2z3aB",
            "status": "scored",
            "score": 0.97,
            "category": "phishing",
            "model": "gemma3:12b",
            "cache": "miss",
            "tokens_in": 900,
            "tokens_out": 30,
            "recipients": 3,
            "size": 4321,
            "read_s": 0.005,
            "model_s": 1.5,
        }

    def test_a_traceback_stays_within_its_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        log.set_up(level="info", form="json")
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("rspamd_llm.x").exception("failed")
        (only,) = capsys.readouterr().err.splitlines()
        assert json.loads(only)["traceback"].endswith("ValueError: odd")


class TestEveryMessage:
    @pytest.mark.parametrize("form", ["text", "json"])
    @pytest.mark.parametrize("outcome", [SCORED, SKIPPED, UNSCORED])
    def test_has_one_line_without_a_word_of_the_mail(
        self, capsys: pytest.CaptureFixture[str], outcome: Outcome, form: str
    ) -> None:
        told = line(capsys, outcome, form)
        assert told.count("\n") == 1
        assert not re.search(r"secret|@|\.test", told)

    def test_level_warning_is_silent_about_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert line(capsys, SCORED, level="warning") == ""

    def test_a_message_without_queue_id(self, capsys: pytest.CaptureFixture[str]) -> None:
        log.set_up(level="info", form="text")
        log.scanned(Message(envelope=Envelope(), data=b"", size=0), Scan(outcome=SKIPPED))
        assert " queue_id=- " in capsys.readouterr().err


class TestSetUp:
    def test_twice_does_not_tell_twice(self, capsys: pytest.CaptureFixture[str]) -> None:
        log.set_up(level="info", form="text")
        assert line(capsys, SCORED).count("\n") == 1

    def test_the_logs_of_others_are_not_ours_to_show(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log.set_up(level="debug", form="text")
        logging.getLogger("openai").debug("secret prompt")
        logging.getLogger("mailparser").error("secret header")
        assert "secret" not in capsys.readouterr().err
