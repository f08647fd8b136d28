"""`report` beside a real Rspamd: its history in memory and in Redis, its controller, its log.

The verdicts are signed by verdicts.py, and our own history holds the same: what Rspamd did with
each is its own doing.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rspamd_llm.cli import main
from rspamd_llm.historyfile import File
from rspamd_llm.records import Record
from tests.chain import redis as redis_module
from tests.chain.conftest import _require
from tests.chain.dns import NxDomainServer
from tests.chain.ports import HOST, free_port
from tests.chain.redis import PrivateRedis
from tests.chain.rspamd import PrivateRspamd
from tests.chain.test_plugin import mail, with_verdict
from tests.chain.verdicts import KEY, OTHER_KEY, verdict
from tests.waiting import wait_until

PASSWORD = "only for this test"
UNWANTED, WANTED, AGREED, UNSCORED, FORGED = "4A1", "4B2", "4C3", "4D4", "4E5"
# All mail passes, but for what a rule of the administrator's finds, whatever the model says.
FILES = {
    "local.d/actions.conf": "reject = 100; add_header = 50; greylist = null;",
    "local.d/greylist.conf": "enabled = false;",
    "rspamd.local.lua": """
        rspamd_config:register_symbol({
          name = 'FREE_OFFER',
          score = 60.0,
          callback = function(task)
            return task:get_header('X-Offer') ~= nil
          end,
        })
        """,
}


@dataclass(frozen=True)
class Running:
    rspamd: PrivateRspamd
    redis: PrivateRedis
    controller: str

    @property
    def log(self) -> Path:
        return self.rspamd.folder / "log" / "rspamd.log"


@pytest.fixture(scope="module", params=["memory", "redis", "redis plain"])
def running(
    request: pytest.FixtureRequest, rspamd_installed: None, dns: NxDomainServer
) -> Iterator[Running]:
    """Rspamd with each kind of history, after five mails."""
    _require(redis_module.missing_programs())
    port = free_port()
    with PrivateRedis() as redis:
        files = FILES | {
            "local.d/worker-controller.inc": f"""
                enabled = true; bind_socket = "{HOST}:{port}"; secure_ip = [];
                password = "{PASSWORD}";
                """
        }
        if request.param != "memory":
            compress = "false" if request.param == "redis plain" else "true"
            files["local.d/history_redis.conf"] = (
                f'servers = "{HOST}:{redis.port}"; compress = {compress};'
            )
        with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as rspamd:
            instance = Running(rspamd, redis, f"http://{HOST}:{port}")
            wait_until(lambda: _rows(instance.controller) == [])
            _scan(rspamd)
            wait_until(lambda: len(_rows(instance.controller)) == 5)
            yield instance


def _scan(rspamd: PrivateRspamd) -> None:
    for queue_id, message in (
        (UNWANTED, with_verdict(verdict(q=UNWANTED, s="0.97", c="phishing"))),
        (
            WANTED,
            mail(f"X-GPT-Verdict: {verdict(q=WANTED, s='0.03')}", "X-Offer: yes"),
        ),
        (AGREED, with_verdict(verdict(q=AGREED, s="0.04"))),
        (UNSCORED, with_verdict(verdict(q=UNSCORED, st="unscored", s="-", c="timeout"))),
        (FORGED, with_verdict(verdict(q=FORGED, s="0.01", key=OTHER_KEY))),
    ):
        rspamd.scan(message, {"Queue-Id": queue_id})


def _rows(controller: str) -> list[Any]:
    connection = http.client.HTTPConnection(controller.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/history", headers={"Password": PASSWORD})
        found = json.loads(connection.getresponse().read())
    except ConnectionRefusedError:
        return [None]  # not up yet
    finally:
        connection.close()
    rows = found if isinstance(found, list) else found["rows"]
    return list(rows)


def saved(controller: str, file: Path) -> Path:
    connection = http.client.HTTPConnection(controller.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/history", headers={"Password": PASSWORD})
        file.write_bytes(connection.getresponse().read())
    finally:
        connection.close()
    return file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose history holds the verdicts that Rspamd saw."""
    path = tmp_path / "history.db"
    file = File(path, days=21, full=False, rows=1_000, clock=time.time)
    common = {"at": time.time(), "stages": {"fit": 0.01, "model": 1.0}}
    scored = common | {"status": "scored", "cache": "miss", "model": "m"}
    file.add(
        [
            Record(
                queue_id=UNWANTED,
                score=0.97,
                category="phishing",
                sender_domain="example.net",
                **scored,  # type: ignore[arg-type]
            ),
            Record(queue_id=WANTED, score=0.03, category="none", **scored),  # type: ignore[arg-type]
            Record(queue_id=AGREED, score=0.04, category="none", **scored),  # type: ignore[arg-type]
        ]
    )
    file.close()
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    found = tmp_path / "rspamd-llm.toml"
    found.write_text(f'[history]\nfile = "{path}"\n[rspamd]\npassword_file = "{password}"\n')
    return found


def told(capsys: pytest.CaptureFixture[str], config: Path, source: str) -> dict[str, Any]:
    assert main(["report", "-c", str(config), "--json", "--rspamd-history", source]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def differing(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (one["says"], one["action"], one["queue_id"])
        for one in document["rspamd"]["contradictions"]
    }


BOTH = {("unwanted", "no action", UNWANTED), ("wanted", "add header", WANTED)}


def test_the_controller_tells_where_rspamd_did_the_opposite(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, config, running.controller)
    assert found["rspamd"]["mails"] == 5
    assert found["rspamd"]["unread"] == 0
    kinds = {(says, action) for says, action, _ in differing(found)}
    assert kinds == {("unwanted", "no action"), ("wanted", "add header")}
    assert found["rspamd"]["refused"] == 1
    assert not found["well"]


def test_a_saved_answer_tells_the_same(
    running: Running, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = told(capsys, config, running.controller)
    found = told(capsys, config, str(saved(running.controller, tmp_path / "history.json")))
    assert found["rspamd"] == asked["rspamd"]


def test_the_log_tells_it_by_queue_id(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, config, str(running.log))
    assert differing(found) == BOTH
    by_queue = {one["queue_id"]: one for one in found["rspamd"]["contradictions"]}
    assert by_queue[WANTED]["grounds"][0] == "FREE_OFFER 60.0"
    assert by_queue[UNWANTED]["domain"] == "example.net"
    assert found["rspamd"]["mails"] == 5
    assert found["rspamd"]["refused"] == 1


@pytest.mark.parametrize("running", ["memory"], indirect=True)
def test_a_redis_without_a_history_is_named_with_a_cure(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://{HOST}:{running.redis.port}/0"
    assert main(["report", "-c", str(config), "--rspamd-history", url]) == 1
    assert "history_redis" in capsys.readouterr().out


@pytest.mark.parametrize("running", ["redis", "redis plain"], indirect=True)
def test_redis_tells_what_the_controller_tells_of_it(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://{HOST}:{running.redis.port}/0"
    found = told(capsys, config, url)
    assert differing(found) == BOTH
    assert found["rspamd"] == told(capsys, config, running.controller)["rspamd"]
    grounds = {one["queue_id"]: one["grounds"] for one in found["rspamd"]["contradictions"]}
    assert grounds[WANTED][0] == "FREE_OFFER 60.0"


@pytest.mark.parametrize("running", ["redis"], indirect=True)
def test_rows_of_redis_that_are_none_are_counted_and_bounded(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = zstandard.compress(b'{"action": "' + bytes(100_000_000))
    for row in (b"no compression", bomb, zstandard.compress(b"no JSON")):
        running.redis.ask("RPUSH", "rs_historyother_zst", row.decode("latin-1"))
    try:
        found = told(capsys, config, f"redis://{HOST}:{running.redis.port}/0")
    finally:
        running.redis.ask("DEL", "rs_historyother_zst")
    assert found["rspamd"]["unread"] == 3
    assert differing(found) == BOTH


def test_without_its_password_the_controller_is_named_with_a_cure(
    running: Running, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().split("[rspamd]")[0])
    assert (
        main(["report", "-c", str(config), "--quiet", "--rspamd-history", running.controller]) == 1
    )
    out = capsys.readouterr().out
    assert "password_file" in out
    assert "MAILS" in out  # all that needs no Rspamd
