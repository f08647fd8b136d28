"""What `check` says of Rspamd (a real one is in tests/chain, faults are here) and of the store."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rspamd_llm import checkup, cli, config
from rspamd_llm.counters import Counters
from rspamd_llm.results import Result
from rspamd_llm.rspamd import Rspamd
from tests import valkeyserver
from tests.chain.ports import free_port


@contextmanager
def server(answer: bytes, status: int = 200) -> Iterator[str]:
    """Something that answers each question so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}"
        finally:
            made.shutdown()
            thread.join()


def checked(url: str) -> Result:
    async def story() -> Result:
        rspamd = Rspamd(url, "", 5.0, Counters())
        try:
            return await checkup.opinion(config.parse({"rspamd": {"url": url}}), rspamd)
        finally:
            await rspamd.close()

    return asyncio.run(story())


ANSWER = {"action": "no action", "score": 1.25, "symbols": {}}


def test_one_with_our_plugin_is_well() -> None:
    with server(json.dumps(ANSWER | {"messages": {"rspamd_llm": "kept aside"}}).encode()) as url:
        found = checked(url)
    assert found.status == "ok"
    assert "no action, 1.25 points" in found.detail


def test_one_without_our_plugin_may_learn_twice() -> None:
    with server(json.dumps(ANSWER).encode()) as url:
        found = checked(url)
    assert found.status == "warning"
    assert "does not know our plugin" in found.detail
    assert "rspamd_llm.lua" in found.cure


def test_one_that_wants_a_password_or_is_none() -> None:
    with server(b"Unauthorized", 403) as url:
        found = checked(url)
    assert found.status == "warning"
    assert "status 403" in found.detail
    assert "password" in found.cure


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = checked(url)
    assert found.status == "warning"
    assert f"{url} gives no opinion: " in found.detail


# --- The store ------------------------------------------------------------------------------


def store_checked(url: str) -> list[Result]:
    return asyncio.run(checkup.store(config.parse({"store": {"url": url}})))


def test_a_server_that_answers_is_well(tmp_path: Path) -> None:
    valkeyserver.require_valkey()
    with valkeyserver.running(tmp_path) as server:
        (found,) = store_checked(server.url)
    assert found.status == "ok"


def test_a_server_that_does_not_is_told_without_its_password() -> None:
    (found,) = store_checked(f"valkey://user:secret@127.0.0.1:{free_port()}/0")
    assert found.status == "warning"
    assert found.detail.startswith("valkey://...@127.0.0.1:")
    assert "secret" not in f"{found}"
    assert found.cure


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    assert store_checked(f"sqlite://{tmp_path}/store.db") == []
    assert not [*tmp_path.iterdir()]


def test_a_password_in_a_file_that_all_may_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[store]\nurl = "valkey://:secret@127.0.0.1:{free_port()}/0"\n'
        '[metrics]\nlisten = ""\n[search]\nprovider = "none"\n'
    )
    for mode, times in ((0o644, 1), (0o640, 0)):
        path.chmod(mode)
        cli.main(["check", "-c", str(path)])
        printed = " ".join(capsys.readouterr().out.split())
        assert printed.count("store.url holds a password") == times
        assert "secret" not in printed
