"""ddgs behind its process: the real package, its engines' addresses pointed at a stand-in."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bench.webstub import Behaviour, Found, WebStub
from rspamd_llm.domain import EvidenceError, Page
from rspamd_llm.evidence import ddgs_child, ddgs_engine
from rspamd_llm.evidence.ddgs_engine import COMMAND, Ddgs, check_backends
from tests.waiting import eventually

LONG = 30.0
DOMAIN = "acme-letting.example"
PAGE = Page(title="Acme Letting", host=DOMAIN, snippet="Homes & flats to let")
FOUND = Found("Acme Letting", f"https://www.{DOMAIN}/homes", "Homes & flats to let")

# Read by the child's interpreter at its start, as Python does with a module of this name.
SITE = """
import pathlib, time
from ddgs.engines.duckduckgo import Duckduckgo
from ddgs.engines.mojeek import Mojeek

Mojeek.search_url = {url!r} + "/mojeek/search"
Duckduckgo.search_url = {url!r} + "/duckduckgo/html/"
real = Mojeek.search

def search(self, query, **options):
    time.sleep({{"hangs.example": 600, "slow.example": 1}}.get(query, 0))
    while query == "waits.example" and not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
    return real(self, query, **options)

Mojeek.search = search
"""


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebStub]:
    pages = {words: [FOUND] for words in (DOMAIN, "slow.example", "waits.example")}
    with WebStub.running(pages) as stub:
        point_at(stub.url, tmp_path, monkeypatch)
        yield stub


def point_at(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has ddgs find its engines at a URL, in children from now on."""
    (folder / "sitecustomize.py").write_text(SITE.format(url=url, go=str(folder / "go")))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{before}" if before else str(folder))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "DDGS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def run(work: Callable[[Ddgs], Awaitable[None]], *backends: str) -> None:
    async def whole() -> None:
        engine = Ddgs(backends or ("mojeek",))
        try:
            async with asyncio.timeout(60):
                await work(engine)
        finally:
            await engine.close()
        assert engine.pid is None

    asyncio.run(whole())


# --- Answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["mojeek", "duckduckgo"])
def test_what_ddgs_finds(backend: str, web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        assert engine.pid is None
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        pid = engine.pid
        assert pid is not None
        assert await engine.search("nobody.example", LONG) == ()
        assert engine.pid == pid

    run(work, backend)
    assert web.words() == [DOMAIN, "nobody.example"]


def test_the_next_engine_is_asked_when_one_finds_nothing_or_refuses(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        assert [query.engine for query in web.queries] == ["mojeek"]
        for behaviour in (Behaviour(banned=True), Behaviour(status=429)):
            web.queries.clear()
            web.set(behaviour, "mojeek")
            assert await engine.search(DOMAIN, LONG) == (PAGE,)
            assert [query.engine for query in web.queries] == ["mojeek", "duckduckgo"]

    run(work, "mojeek", "duckduckgo")


def test_an_engine_that_hangs_leaves_time_for_the_next(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)  # starts the process
        web.set(Behaviour(fault="hang"), "mojeek")
        assert await engine.search(DOMAIN, 4.0) == (PAGE,)

    run(work, "mojeek", "duckduckgo")


@pytest.mark.parametrize("status", [202, 403, 429, 500])
def test_a_refusal_is_a_failure_and_not_nothing(status: int, web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        web.set(Behaviour(status=status), "mojeek")
        with pytest.raises(EvidenceError, match="mojeek refused"):
            await engine.search("nobody.example", LONG)
        web.set(Behaviour())
        assert await engine.search(DOMAIN, LONG) == (PAGE,)

    run(work, "mojeek", "duckduckgo")


@pytest.mark.parametrize("fault", ["hang", "drip", "close", "early"])
def test_a_server_that_fails_costs_its_search_alone(fault: str, web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)
        pid = engine.pid
        web.set(Behaviour(fault=fault))
        with pytest.raises(EvidenceError) as caught:
            await engine.search(DOMAIN, 1.0 if fault in ("hang", "drip") else LONG)
        assert DOMAIN not in str(caught.value)
        web.set(Behaviour())
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        assert engine.pid == pid

    run(work)


@pytest.mark.parametrize("raw", [b"{}", b"\xff\xfe\x00", b"<" * 1_000, b"<ul class=results><li>"])
def test_a_page_of_another_kind_finds_nothing_and_does_no_harm(raw: bytes, web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        web.set(Behaviour(raw=raw))
        assert await engine.search(DOMAIN, LONG) == ()
        web.set(Behaviour())
        assert await engine.search(DOMAIN, LONG) == (PAGE,)

    run(work)


def test_a_page_without_a_word_is_a_failure(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        web.set(Behaviour(raw=b""))
        with pytest.raises(EvidenceError, match="refused"):
            await engine.search(DOMAIN, LONG)

    run(work)


def test_answers_come_back_bounded(web: WebStub) -> None:
    web.pages[DOMAIN] = [
        Found("\U0001f600" * 5_000, f"https://{DOMAIN}/{'x' * 5_000}", "\U0001f600" * 5_000)
    ] * 100

    async def work(engine: Ddgs) -> None:
        web.set(Behaviour(pad=10_000_000))
        found = await engine.search(DOMAIN, LONG)
        assert 0 < len(found) <= 20
        assert all(len(one.title) <= 200 and len(one.snippet) <= 500 for one in found)

    run(work)


def test_a_redirect_to_this_machine_is_not_followed(web: WebStub) -> None:
    web.set(Behaviour(status=302, location=f"{web.url}/duckduckgo/html/?q=inside"), "mojeek")

    async def work(engine: Ddgs) -> None:
        with pytest.raises(EvidenceError, match="refused"):
            await engine.search(DOMAIN, LONG)

    run(work)
    assert web.words() == [DOMAIN]


def test_searches_go_side_by_side_and_more_of_them_wait(
    web: WebStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "AT_ONCE", 2)

    async def work(engine: Ddgs) -> None:
        slow = asyncio.create_task(engine.search("waits.example", LONG))
        many = [asyncio.create_task(engine.search(DOMAIN, LONG)) for _ in range(5)]
        assert await asyncio.gather(*many) == [(PAGE,)] * 5
        assert not slow.done()
        (tmp_path / "go").touch()
        assert await slow == (PAGE,)

    run(work)


def test_a_proxy_is_used_where_the_environment_names_one(
    web: WebStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at("http://engine.invalid", tmp_path, monkeypatch)
    monkeypatch.setenv("DDGS_PROXY", web.url)

    async def work(engine: Ddgs) -> None:
        assert await engine.search(DOMAIN, LONG) == (PAGE,)

    run(work)


# --- The process ----------------------------------------------------------------------------


def test_a_search_that_hangs_ends_the_process_and_the_next_one_starts_another(
    web: WebStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "GRACE", 0.3)

    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)
        first = engine.pid
        web.set(Behaviour(fault="hang"))
        beside = asyncio.create_task(engine.search(DOMAIN, LONG))
        await eventually(lambda: len(web.queries) == 2)
        with pytest.raises(EvidenceError):
            await engine.search("hangs.example", 0.2)
        with pytest.raises(EvidenceError, match="process of ddgs ended"):
            await beside
        web.set(Behaviour())
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        assert engine.pid != first

    run(work)


def test_a_search_that_was_cancelled_and_hangs_is_noticed_too(
    web: WebStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "GRACE", 0.2)
    monkeypatch.setattr(ddgs_engine, "AT_ONCE", 1)

    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)
        first = engine.pid
        hanging = asyncio.create_task(engine.search("hangs.example", 0.3))
        await asyncio.sleep(0.1)
        hanging.cancel()
        await asyncio.wait([hanging])
        assert hanging.cancelled()
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        assert engine.pid != first

    run(work)


def test_a_process_that_is_killed_fails_what_it_did_and_is_replaced(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        web.set(Behaviour(fault="hang"))
        several = [asyncio.create_task(engine.search(DOMAIN, LONG)) for _ in range(3)]
        await eventually(lambda: len(web.queries) == 3)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        for outcome in await asyncio.gather(*several, return_exceptions=True):
            assert isinstance(outcome, EvidenceError)
        web.set(Behaviour())
        assert await engine.search(DOMAIN, LONG) == (PAGE,)

    run(work)


def test_it_ends_when_nobody_searches_and_comes_back(
    web: WebStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "IDLE", 0.3)

    async def work(engine: Ddgs) -> None:
        assert await engine.search("slow.example", LONG) == (PAGE,)  # longer than IDLE
        await eventually(lambda: engine.pid is None)
        assert await engine.search(DOMAIN, LONG) == (PAGE,)

    run(work)


def test_closing_fails_what_is_under_way_and_what_waits(
    web: WebStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "AT_ONCE", 1)
    web.set(Behaviour(fault="hang"))

    async def work(engine: Ddgs) -> None:
        several = [asyncio.create_task(engine.search(DOMAIN, LONG)) for _ in range(2)]
        await eventually(lambda: len(web.queries) == 1)
        await engine.close()
        for outcome in await asyncio.gather(*several, return_exceptions=True):
            assert isinstance(outcome, EvidenceError)
        assert engine.pid is None

    run(work)


def test_closing_ends_a_start(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        early = asyncio.create_task(engine.search(DOMAIN, LONG))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EvidenceError):
            await early
        assert not web.queries

    run(work)


def test_it_gets_no_secret_of_the_daemons(web: WebStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/no-such.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)
        process = Path(f"/proc/{engine.pid}")
        given = dict(
            entry.split("=", 1) for entry in (process / "environ").read_text().split("\0") if entry
        )
        assert given["SSL_CERT_FILE"] == "/etc/no-such.pem"
        assert given["HTTPS_PROXY"] == "http://127.0.0.1:9"
        assert "OPENAI_API_KEY" not in given
        assert DOMAIN not in (process / "cmdline").read_text()

    run(work)


def test_its_memory_is_bounded(web: WebStub) -> None:
    async def work(engine: Ddgs) -> None:
        await engine.search(DOMAIN, LONG)
        assert engine.pid is not None
        bounds = resource.prlimit(engine.pid, resource.RLIMIT_DATA)
        assert bounds == (ddgs_child.MEMORY, ddgs_child.MEMORY)

    run(work)


def started() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert "engines" in json.loads(process.stdout.readline())
    return process


def test_it_ends_with_the_daemon_also_while_it_searches(web: WebStub) -> None:
    web.set(Behaviour(fault="hang"))
    with started() as process:
        order = {"id": 1, "query": DOMAIN, "engines": ["mojeek"], "seconds": 60}
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        end = time.monotonic() + LONG
        while not web.queries and time.monotonic() < end:
            time.sleep(0.01)
        process.stdin.close()
        assert process.wait(LONG) == 0
    assert web.words() == [DOMAIN]


def test_it_heeds_the_signal_that_the_daemon_blocks() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))
    try:
        process = started()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        process.send_signal(signal.SIGINT)  # the terminal's, which is not meant for it
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM


# --- A process that lies --------------------------------------------------------------------

HELLO = json.dumps({"version": "9", "engines": ["mojeek"]})
RESULT = '{"title": "t", "href": "https://a.example/", "body": "b"}'


def replace(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Has another program stand in for the child."""
    monkeypatch.setattr(ddgs_engine, "COMMAND", (sys.executable, "-c", source))


def test_a_process_that_keeps_to_the_form_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = f'{{"id": 1, "results": [{RESULT}]}}'
    replace(monkeypatch, f"print({HELLO!r}); input(); print({reply!r}, flush=True); input()")

    async def work(engine: Ddgs) -> None:
        assert await engine.search(DOMAIN, LONG) == (
            Page(title="t", host="a.example", snippet="b"),
        )

    run(work)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        "null",
        "[]",
        "{}",
        '{"id": 1}',
        '{"id": 2, "results": []}',
        '{"id": true, "results": []}',
        '{"id": "1", "results": []}',
        '{"id": 1, "results": null}',
        '{"id": 1, "results": [], "fault": "x"}',
        '{"id": 1, "results": [1]}',
        '{"id": 1, "results": [{"title": "t", "href": "https://a.example/"}]}',
        '{"id": 1, "results": [{"title": "t", "href": null, "body": "b"}]}',
        f'{{"id": 1, "results": [{", ".join([RESULT] * 21)}]}}',
        '{"id": 1, "fault": 5}',
        r'{"id": 1, "fault": "two\nlines"}',
        '{"id": 1, "results": []}' + " " * (1 << 19),
        "[" * 100_000,
    ],
    ids=lambda line: line[:40],
)
def test_a_process_that_does_not_keep_to_the_form_is_ended(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"print({HELLO!r}); input(); print({line[:200]!r} + {line[200:201]!r} * "
    source += f"{max(0, len(line) - 200)}, flush=True); input()"
    if len(set(line[200:])) > 1:
        source = f"print({HELLO!r}); input(); print({line!r}, flush=True); input()"
    replace(monkeypatch, source)

    async def work(engine: Ddgs) -> None:
        with pytest.raises(EvidenceError, match="process of ddgs ended"):
            await engine.search(DOMAIN, LONG)
        assert engine.pid is None

    run(work)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "raise SystemExit(3)",
        "print('garbage')",
        "print('{}')",
        """print('{"version": "9", "engines": "mojeek"}')""",
        """print('{"version": "9", "engines": ["two words"]}')""",
        """print('{"version": 9, "engines": []}')""",
        "print('x' * 1_000_000)",
    ],
)
def test_a_process_that_does_not_introduce_itself_did_not_start(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(monkeypatch, f"{source}\nimport sys; sys.stdout.flush(); sys.stdin.read()")

    async def work(engine: Ddgs) -> None:
        with pytest.raises(EvidenceError, match="did not start"):
            await engine.search(DOMAIN, LONG)

    if source:
        run(work)
    else:
        monkeypatch.setattr(ddgs_engine, "START_TIMEOUT", 0.3)
        run(work)


def test_a_program_that_is_not_there_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddgs_engine, "COMMAND", ("/nonexistent/python",))

    async def work(engine: Ddgs) -> None:
        with pytest.raises(EvidenceError, match="did not start"):
            await engine.search(DOMAIN, LONG)

    run(work)
    with pytest.raises(EvidenceError, match="does not start"):
        asyncio.run(check_backends(["mojeek"]))


def test_a_start_outlives_a_search_in_a_hurry(
    web: WebStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddgs_engine, "GRACE", 0.0)

    async def work(engine: Ddgs) -> None:
        with pytest.raises(EvidenceError, match="in time"):
            await engine.search(DOMAIN, 0.001)
        await eventually(lambda: engine.pid is not None)
        pid = engine.pid
        assert await engine.search(DOMAIN, LONG) == (PAGE,)
        assert engine.pid == pid

    run(work)


# --- Names ----------------------------------------------------------------------------------


def test_engines_that_ddgs_has_are_no_fault() -> None:
    assert asyncio.run(check_backends(["mojeek", "duckduckgo", "brave"])) == ()


def test_engines_that_it_has_not_are_named_with_those_it_has() -> None:
    # ddgs itself would ask all of its engines for each of these.
    wrong = ["mojek", "google", "auto", "all", "Mojeek", "mojeek,brave", ""]
    faults = asyncio.run(check_backends(["mojeek", *wrong]))
    assert len(faults) == len(wrong)
    for name, fault in zip(wrong, faults, strict=True):
        assert repr(name) in fault
        assert "duckduckgo" in fault


def test_no_engine_at_all_is_a_fault() -> None:
    (fault,) = asyncio.run(check_backends([]))
    assert "mojeek" in fault
