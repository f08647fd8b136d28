"""Where Postfix's settings and ours contradict: each with cause and cure, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rspamd_llm import advice, milter
from rspamd_llm.config import Config, parse
from rspamd_llm.postfix import Milter, Postfix, Service, Settings
from tests import postconf
from tests.chain.daemon import PrivateDaemon

OURS, RSPAMD = "inet:127.0.0.1:11390", "inet:127.0.0.1:11332"
NO_MODEL = {"base_url": "http://127.0.0.1:1/v1", "model": "x"}


def entry(address: str = OURS, content: int = 90, action: str = "accept") -> Milter:
    return Milter(
        address,
        Settings(
            default_action=action, connect_timeout=5, command_timeout=15, content_timeout=content
        ),
    )


def asking(*milters: Milter, name: str = "") -> Postfix:
    return Postfix("/var/spool/postfix", (Service(name, milters),))


def sentences(config: Config, found: Postfix) -> list[str]:
    return [str(remark) for remark in advice.contradictions(config, found)]


def test_what_our_example_says_contradicts_nothing() -> None:
    found = asking(entry(), entry(RSPAMD, action="tempfail", content=1))
    assert advice.contradictions(Config(), found) == ()
    assert advice.placement(Config(), found) == ()


class TestTimeouts:
    def test_a_content_timeout_below_the_deadline_holds_by_signs_of_life_alone(self) -> None:
        assert sentences(Config(), asking(entry(content=30))) == [
            f"Postfix's content_timeout for {OURS} (30 s) is not 5 s above milter.deadline (60 s):"
            " it holds only because the daemon sends a sign of life every 2 s, which starts it"
            " anew; set content_timeout=65s or more in its entry, or lower milter.deadline"
        ]

    @pytest.mark.parametrize("content", [1, 5])
    def test_one_below_some_signs_of_life_does_not_hold(self, content: int) -> None:
        assert sentences(Config(), asking(entry(content=content))) == [
            f"Postfix's content_timeout for {OURS} ({content} s) has no room for 3 of the daemon's"
            " signs of life (2 s apart): when one is late, Postfix gives the daemon up in the"
            " middle of a mail; set content_timeout=65s or more in its entry"
        ]

    @pytest.mark.parametrize(
        ("deadline", "content", "count"),
        [(60, 64, 1), (60, 65, 0), (59.5, 64, 1), (59.5, 65, 0), (1, 5, 1), (1, 6, 0), (600, 6, 1)],
    )
    def test_the_borders(self, deadline: float, content: int, count: int) -> None:
        config = parse({"milter": {"deadline": deadline}})
        assert len(sentences(config, asking(entry(content=content)))) == count

    @pytest.mark.parametrize("deadline", [1.0, 7.3, 60.0, 600.0])
    @pytest.mark.parametrize("content", [1, 6])
    def test_the_cure_cures(self, deadline: float, content: int) -> None:
        config = parse({"milter": {"deadline": deadline}})
        for remark in advice.contradictions(config, asking(entry(content=content))):
            cured = int(remark.cure.partition("=")[2].partition("s")[0])
            assert advice.contradictions(config, asking(entry(content=cured))) == ()

    def test_the_margin_has_room_for_a_late_scan(self) -> None:
        assert advice.MARGIN > milter.GRACE


class TestDefaultAction:
    @pytest.mark.parametrize(
        ("action", "instead"),
        [
            ("tempfail", "refuses mail with 451"),
            ("Reject", "rejects mail with 550"),
            ("quarantine", "keeps mail in its hold queue"),
            ("shutdown", "closes the sender's connection"),
            ("acept", "refuses mail with 451, as it does not know that word"),
        ],
    )
    def test_all_but_accept_are_told(self, action: str, instead: str) -> None:
        assert sentences(Config(), asking(entry(action=action))) == [
            f"Postfix's default_action for {OURS} is {action.lower()}: while the daemon is down or"
            f" does not answer, Postfix {instead}; set it in smtpd_milters: {{ {OURS},"
            " default_action=accept, ... }"
        ]

    def test_the_case_does_not_count(self) -> None:
        assert sentences(Config(), asking(entry(action="Accept"))) == []

    def test_who_wants_tempfail_may_have_it(self) -> None:
        config = parse({"milter": {"on_error": "tempfail"}})
        assert sentences(config, asking(entry(action="tempfail"))) == []
        assert sentences(config, asking(entry())) == []
        assert len(sentences(config, asking(entry(action="reject")))) == 1


def test_a_service_of_master_cf_is_named_and_nothing_is_told_twice() -> None:
    found = Postfix(
        "/var/spool/postfix",
        (
            Service("", (entry(content=30),)),
            Service("smtps/inet", (entry(content=30), entry(content=30))),
        ),
    )
    first, second = sentences(Config(), found)
    assert f"for {OURS} (30 s)" in first
    assert f"for {OURS} of smtps/inet (30 s)" in second


class TestPlacement:
    def test_not_asked(self) -> None:
        found = asking(entry("inet:127.0.0.1:11391", content=1, action="reject"))
        (remark,) = advice.placement(Config(), found)
        assert remark.cause == (
            "Postfix does not ask the daemon: nothing in smtpd_milters leads to"
            " inet:11390@127.0.0.1"
        )
        assert "main.cf.example" in remark.cure
        assert sentences(Config(), found) == [], "others' settings are none of our business"

    def test_rspamd_first_sees_no_verdict(self) -> None:
        first, ours = entry(RSPAMD), entry()
        (remark,) = advice.placement(Config(), asking(first, ours, name="smtp/inet"))
        assert remark.cause == (
            f"Postfix asks {RSPAMD} (Rspamd) before the daemon in smtp/inet: Rspamd then sees no"
            " verdict"
        )
        assert remark.cure == "put the daemon first in smtpd_milters"

    def test_another_milter_may_come_first(self) -> None:
        assert advice.placement(Config(), asking(entry("inet:localhost:8891"), entry())) == ()


def wait_for(daemon: PrivateDaemon, text: str) -> str:
    """The daemon's log, once it holds the text."""
    until = time.monotonic() + 60
    while text not in daemon.log() and time.monotonic() < until:
        time.sleep(0.02)
    assert text in daemon.log()
    return daemon.log()


class TestAtStart:
    def test_the_daemon_tells_its_log(self, tmp_path: Path) -> None:
        daemon = PrivateDaemon({"llm": NO_MODEL}, environment={"MAIL_CONFIG": str(tmp_path)})
        postconf.write(
            tmp_path,
            f"smtpd_milters = {{ {daemon.milter}, content_timeout=40s }}\n"
            "milter_default_action = reject\n",
        )
        with daemon:
            wait_for(daemon, "(40 s) is not 5 s above milter.deadline")
            log = wait_for(daemon, "is reject: while")
        told = [line for line in log.splitlines() if "Postfix" in line]
        assert len(told) == 2
        assert all(line.startswith("warning: ") for line in told)

    def test_a_postconf_that_fails_is_no_more_than_a_line_for_debugging(
        self, tmp_path: Path
    ) -> None:
        program = tmp_path / "postconf"
        program.write_text("#!/bin/sh\nkill -SYS $$\n")
        program.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        settings = {"llm": NO_MODEL, "log": {"level": "debug"}}
        with PrivateDaemon(settings, environment=environment) as daemon:
            log = wait_for(daemon, "what postconf tells is of no use: exit status -31\n")
            assert daemon.answers()
        told = [line for line in log.splitlines() if "post" in line.lower()]
        assert len(told) == 1
        assert told[0].startswith("debug: ")
        assert "Traceback" not in log
