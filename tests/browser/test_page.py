"""The administrator's page in a real browser: it runs nothing, asks nobody, and can be read."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rspamd_llm.domain import Failure, Scan, Skip, Skipped, Unscored
from rspamd_llm.health import Health, ServerHealth
from rspamd_llm.history import Reader
from rspamd_llm.login import Login
from rspamd_llm.page import Page
from rspamd_llm.web import Web
from tests.chain.ports import HOST, free_port
from tests.hostile import PAYLOADS, noted
from tests.kept import MAIL, MESSAGE, keep, scored
from tests.test_web import answers
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium

TOKEN = "0123456789abcdef0123456789abcdef"
PHONE, DESK = 390, 1280

# The least ratio of a text's luminance to that of what is behind it, of all elements with text of
# their own (WCAG 2.2, 1.4.3).
CONTRAST = """
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b]
        .map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const colour = channels(getComputedStyle(node).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    let least = [99, ''];
    for (const node of document.body.querySelectorAll('*:not(svg *)')) {
        const own = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!own || !node.checkVisibility()) continue;
        const [a, b] = [channels(getComputedStyle(node).color), behind(node)].map(luminance);
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < least[0]) least = [ratio, node.outerHTML.slice(0, 200)];
    }
    return least;
"""


async def healthy() -> Health:
    servers = (
        ServerHealth(url="http://127.0.0.1:11434/v1", is_well=True, retry_in=0.0, calls=1),
        ServerHealth(url="http://192.0.2.7:8000/v1", is_well=False, retry_in=9.0, calls=0),
    )
    return Health(
        version="1", model="m", is_stopping=False, in_flight=3, waiting=0, servers=servers,
        sources=(), is_rspamd_well=None, deadline=60.0, store_fault="",
    )  # fmt: skip


def served(path: Path, login: Login) -> Iterator[str]:
    listen = f"{HOST}:{free_port()}"
    page = Page(Reader(path), days=21, has_login=bool(login.token))
    web = Web(listen, health=healthy, text=lambda _: b"", page=page, login=login)
    web.start()
    try:
        wait_until(lambda: answers(listen))
        yield f"http://{listen}"
    finally:
        web.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("history")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[str]:
    """Mails of each kind, the last of them hostile."""
    path = folder / "history.db"
    keep(
        path,
        (MESSAGE, scored(0.97, "phishing"), MAIL),
        (MESSAGE, scored(0.5, "marketing", "An offer."), MAIL),
        (MESSAGE, scored(0.1, "none", "A friend."), MAIL),
        (MESSAGE, Scan(outcome=Skipped(Skip.SIZE)), None),
        (MESSAGE, Scan(outcome=Unscored(Failure.TIMEOUT, "it was slow")), None),
        *map(noted, PAYLOADS.values()),
        full=True,
        clock=time.time,
    )
    yield from served(path, Login(names=frozenset({HOST})))


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[str]:
    path = folder / "guarded.db"
    keep(path, (MESSAGE, scored(reason="a-reason"), None), clock=time.time)
    yield from served(path, Login(token=TOKEN))


@pytest.fixture(autouse=True)
def fresh(chromium: Chromium) -> None:
    chromium.driver.get("about:blank")
    chromium.look(DESK)
    chromium.complaints()
    chromium.requests()


def each_page(chromium: Chromium, page: str) -> Iterator[str]:
    """Opens the list and every verdict."""
    number = 5 + len(PAYLOADS)
    for path in ("/", *(f"/verdict/{count}" for count in range(1, number + 1))):
        chromium.driver.get(f"{page}{path}")
        yield path


class TestSafety:
    def test_nothing_of_a_hostile_mail_runs_or_is_fetched(
        self, chromium: Chromium, page: str
    ) -> None:
        for path in each_page(chromium, page):
            chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert chromium.complaints() == [], path
            own = {f"{page}{path}", f"{page}/page.css", f"{page}/icon.svg"}
            assert set(chromium.requests()) <= own, path
            assert "rspamd-llm" in chromium.driver.title
            assert chromium.run("return typeof window.owned") == "undefined"
            assert chromium.run("return document.scripts.length + frames.length") == 0
            handlers = (
                "return [...document.querySelectorAll('*')].filter(one => [...one.attributes]"
            )
            handlers += ".some(it => /^on|^style$/.test(it.name))).length"
            assert chromium.run(handlers) == 0

    def test_the_browser_would_stop_it_even_as_markup(self, chromium: Chromium, page: str) -> None:
        """And tells of it, so that the silence above means something."""
        chromium.driver.get(f"{page}/")
        for markup in (
            "<img src=/icon.svg onload=\"document.title='owned'\">",
            "<img src=//remote.test/x.png>",
            "<p style='color:red'>x</p>",
            "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe>",
        ):
            chromium.run(f"document.body.insertAdjacentHTML('beforeend', {markup!r})")

            def told() -> bool:
                return any("Content Security Policy" in one for one in chromium.complaints())

            wait_until(told)
        assert chromium.driver.title == "rspamd-llm"

    def test_no_other_page_may_show_it_in_a_frame(self, chromium: Chromium, guarded: str) -> None:
        chromium.driver.get(f"data:text/html,<iframe src='{guarded}/login'></iframe>")
        chromium.driver.switch_to.frame(0)
        assert chromium.run("return location.protocol") == "chrome-error:"


class TestUse:
    def test_signing_in_filtering_and_signing_out(self, chromium: Chromium, guarded: str) -> None:
        driver = chromium.driver
        find = driver.find_element
        driver.get(f"{guarded}/")
        assert driver.current_url == f"{guarded}/login"
        find("name", "token").send_keys("wrong")
        find("css selector", "main button").click()
        wait_until(lambda: "That is not the token." in driver.page_source)
        chromium.complaints()  # the browser tells of the status
        find("name", "token").send_keys(TOKEN)
        find("css selector", "main button").click()
        wait_until(lambda: "a-reason" in driver.page_source)
        assert driver.current_url == f"{guarded}/"
        assert chromium.run("return document.cookie") == ""
        find("name", "text").send_keys("nowhere")
        find("css selector", ".filter button").click()
        wait_until(lambda: "Nothing fits." in driver.page_source)
        find("link text", "show all").click()
        wait_until(lambda: "a-reason" in driver.page_source)
        find("css selector", "summary").click()
        assert find("css selector", ".evidence").is_displayed()
        find("css selector", ".verdicts a").click()
        wait_until(lambda: driver.current_url == f"{guarded}/verdict/1")
        find("link text", "all verdicts").click()
        wait_until(lambda: driver.current_url == f"{guarded}/")
        find("css selector", ".leave button").click()
        wait_until(lambda: driver.current_url == f"{guarded}/login")
        driver.get(f"{guarded}/verdict/1")
        assert driver.current_url == f"{guarded}/login"
        assert chromium.complaints() == []

    @pytest.mark.parametrize("width", [PHONE, 320, 768, DESK])
    def test_nothing_is_wider_than_the_page(
        self, chromium: Chromium, page: str, guarded: str, width: int
    ) -> None:
        chromium.look(width)
        shown = itertools.chain(each_page(chromium, page), iter(["/login"]))
        for path in shown:
            if path == "/login":
                chromium.driver.get(f"{guarded}/login")
            chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            measured: Any = chromium.run(
                "return [document.documentElement.scrollWidth, innerWidth]"
            )
            assert measured[0] <= measured[1] <= width, path

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [PHONE, DESK])
    def test_it_can_be_read_in_light_and_dark(
        self, chromium: Chromium, page: str, guarded: str, scheme: str, width: int
    ) -> None:
        chromium.look(width, scheme)
        for url in (f"{page}/", f"{page}/verdict/1", f"{page}/verdict/5", f"{guarded}/login"):
            chromium.driver.get(url)
            ratio, where = chromium.run(CONTRAST)
            assert ratio >= 4.5, where
            ground = chromium.run("return getComputedStyle(document.body).backgroundColor")
            is_dark = int(ground.partition("(")[2].partition(",")[0]) < 128
            assert is_dark == (scheme == "dark")

    def test_the_charts_have_bars_of_their_colours(self, chromium: Chromium, page: str) -> None:
        chromium.driver.get(f"{page}/")
        bars: Any = chromium.run(
            "return [...document.querySelectorAll('svg rect:not(.touch)')].map(one =>"
            " [one.className.baseVal, one.getBoundingClientRect().height,"
            " getComputedStyle(one).fill])"
        )
        kinds = {kind: colour for kind, height, colour in bars if height >= 1}
        assert {"wanted", "unwanted", "uncertain", "skipped", "unscored"} == set(kinds)
        assert len(set(kinds.values())) == 5

    def test_a_picture_of_it(self, chromium: Chromium, page: str) -> None:
        chromium.driver.get(f"{page}/")
        picture = chromium.picture()
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24]) == (DESK, 900)
