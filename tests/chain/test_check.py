"""What `check` says of a whole chain: nothing against one that works; and what it says of Postfix's
tables and of its user is what Postfix does."""

from __future__ import annotations

import email
import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w

from rspamd_llm import cli
from tests.chain.daemon import EMBEDDED, PrivateDaemon
from tests.chain.postfix import PrivatePostfix
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import KEY

MAIL = b"""From: Alice Example <alice@example.net>
To: bob@example.org
Subject: Lunch on Thursday

Shall we have lunch on Thursday?
"""
DROP = "regexp:{{/^X-GPT-/ IGNORE}}"

Told = dict[str, str]
Check = Callable[[PrivatePostfix], list[Told]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon({"llm": EMBEDDED}, unix=True, keys=(KEY.hex(),)) as running:
        yield running


@pytest.fixture
def check(
    daemon: PrivateDaemon,
    rspamd: PrivateRspamd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Check:
    """What `check` says of the daemon and of the Rspamd, beside a Postfix."""
    settings = tomllib.loads(daemon.config_file.read_text())
    settings["rspamd"] = {"url": rspamd.url}
    settings["history"] = {"file": str(tmp_path / "history.db")}
    path = tmp_path / "rspamd-llm.toml"
    path.write_text(tomli_w.dumps(settings))
    program = tmp_path / "rspamadm"
    local = f"--var=LOCAL_CONFDIR={rspamd.folder / 'etc'}"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("rspamadm")} {local} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def checked(postfix: PrivatePostfix) -> list[Told]:
        monkeypatch.setenv("MAIL_CONFIG", str(postfix.folder / "etc"))
        cli.main(["check", "-c", str(path), "--json"])
        found: list[Told] = json.loads(capsys.readouterr().out)["checks"]
        return found

    return checked


def behind(daemon: PrivateDaemon, rspamd: PrivateRspamd, **parameters: str) -> PrivatePostfix:
    ours = f"{{ {daemon.milter}, default_action=accept, content_timeout=90s }}"
    return PrivatePostfix([ours, rspamd.milter], parameters)


def of_postfix(results: list[Told]) -> list[Told]:
    return [result for result in results if result["check"] == "postfix"]


def delivered(postfix: PrivatePostfix) -> list[str]:
    """The names of the headers of a mail that comes through."""
    assert postfix.send(MAIL)[0] == 250
    (mail,) = postfix.wait_delivered()
    return [name.lower() for name in email.message_from_bytes(mail).keys()]  # noqa: SIM118  all copies


def test_a_chain_that_works_is_found_well(
    postfix_installed: None, daemon: PrivateDaemon, rspamd: PrivateRspamd, check: Check
) -> None:
    with behind(daemon, rspamd) as postfix:
        results = check(postfix)
    # Rspamd may have an opinion of the probe that settles it: that is told, and nothing amiss.
    amiss = [result for result in results if result["status"] != "ok"]
    assert [result for result in amiss if "decided" not in result["detail"]] == []
    found = {result["check"]: result["detail"] for result in results}
    assert found["rspamd key"].startswith("Rspamd knows ")
    assert "agrees with " in found["clock"]
    assert "answers in " in found["rspamd"]


def test_header_checks_spare_what_a_milter_adds_and_milter_header_checks_do_not(
    postfix_installed: None, daemon: PrivateDaemon, rspamd: PrivateRspamd, check: Check
) -> None:
    spared = {"header_checks": DROP, "nested_header_checks": DROP, "mime_header_checks": DROP}
    with behind(daemon, rspamd, **spared) as postfix:
        assert "x-gpt-status" in delivered(postfix)
        (told,) = of_postfix(check(postfix))
        assert "our headers are spared when the milter adds them" in told["detail"]
    with behind(daemon, rspamd, milter_header_checks=DROP) as postfix:
        assert "x-gpt-status" not in delivered(postfix)
        (told,) = of_postfix(check(postfix))
        assert "Rspamd sees no verdict (LLM_ABSENT)" in told["detail"]


def test_a_socket_that_is_closed_to_postfix_is_one_that_postfix_does_not_reach(
    postfix_installed: None, daemon: PrivateDaemon, rspamd: PrivateRspamd, check: Check
) -> None:
    socket = Path(daemon.address.removeprefix("unix:"))
    try:
        with behind(daemon, rspamd) as postfix:
            assert "x-gpt-status" in delivered(postfix)
            assert [told["status"] for told in of_postfix(check(postfix))] == ["ok"]
            socket.chmod(0o660)
            assert "x-gpt-status" not in delivered(postfix)
            (told,) = of_postfix(check(postfix))
        assert f"postfix may not write to {socket}" in told["detail"]
    finally:
        socket.chmod(0o666)
