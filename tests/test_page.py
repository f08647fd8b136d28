"""The administrator's page: what it shows, and that strangers' texts are but text in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from rspamd_llm.domain import Failure, Scan, Skip, Skipped, Unscored
from rspamd_llm.health import Health, ServerHealth, SourceHealth
from rspamd_llm.history import Filter, History, Reader
from rspamd_llm.page import LINES, Asked, Page, asset, clean
from tests.hostile import PAYLOADS, noted
from tests.kept import AT, MAIL, MESSAGE, keep, keep_at, scored
from tests.waiting import wait_until

HEALTH = Health(
    version="1.2.3",
    model="gemma3:12b",
    is_stopping=False,
    in_flight=3,
    waiting=2,
    servers=(
        ServerHealth(url="http://a/v1", is_well=True, retry_in=0.0, calls=1),
        ServerHealth(url="http://b/v1", is_well=False, retry_in=12.4, calls=0),
    ),
    sources=(),
    is_rspamd_well=None,
    deadline=60.0,
    store_fault="",
)
SPANS = {"day": 1.0, "week": 7.0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def page(path: Path | None, history: History | None = None, **values: Any) -> Page:
    known: dict[str, Any] = {"days": 21, "has_login": False, "clock": lambda: AT + 1}
    return Page(Reader(path) if path else None, history, **known | values)


def shown(html: str) -> str:
    """The text that a browser shows, its white space as one space."""
    body = LexborHTMLParser(html).body
    assert body is not None
    return " ".join(body.text(separator=" ").split())


def overview(path: Path | None, health: Health | None = HEALTH, **query: str) -> str:
    return page(path).overview(health, query)


def rows(html: str) -> list[str]:
    """The table's lines as they are shown."""
    return [
        " ".join(row.text(separator=" ").split())
        for row in LexborHTMLParser(html).css("table.verdicts tbody tr")
    ]


def shape(html: str) -> list[tuple[str | None, tuple[str, ...]]]:
    """All elements in their order, each with the names of its attributes."""
    root = LexborHTMLParser(html).root
    assert root is not None
    return [(node.tag, tuple(node.attributes)) for node in root.traverse()]


class TestHealth:
    def test_at_a_glance(self) -> None:
        text = shown(overview(None))
        assert text.startswith("rspamd-llm ready gemma3:12b · version 1.2.3 judged now 3 ")
        assert "waiting 2 model server well http://a/v1 1 call under way" in text
        assert "failing http://b/v1 0 calls under way, asked again in 12 s store well" in text
        assert "Rspamd" not in text
        assert 'No verdicts are kept: history.keep is "none"' in text

    @pytest.mark.parametrize(
        ("health", "text"),
        [
            (None, "not answering The daemon does not say how it is."),
            (replace(HEALTH, is_stopping=True), "stopping gemma3:12b"),
            (replace(HEALTH, servers=HEALTH.servers[1:]), "not ready gemma3:12b"),
            (replace(HEALTH, servers=()), "model servers none the engine is starting"),
            (replace(HEALTH, store_fault="disk full"), "store failing disk full"),
            (replace(HEALTH, is_rspamd_well=False), "store well Rspamd failing"),
            (
                replace(HEALTH, sources=(SourceHealth(name="registration", is_well=False),)),
                "registration failing",
            ),
        ],
    )
    def test_when_it_is_ill(self, health: Health | None, text: str) -> None:
        assert text in shown(overview(None, health))

    def test_a_history_that_fails(self, tmp_path: Path) -> None:
        file = tmp_path / "absent" / "history.db"
        history = History(file, days=21, full=False)
        history.note(MESSAGE, scored())
        wait_until(lambda: history.dropped == 1)
        text = shown(page(file, history).overview(HEALTH, {}))
        history.close()
        assert "history failing [Errno 2] No such file or directory" in text
        assert "1 not kept since the start" in text
        assert "The history cannot be read: " in text


class TestVerdicts:
    def test_a_line_of_each_kind(self, path: Path) -> None:
        stages = {"read": 0.004}
        keep(
            path,
            (MESSAGE, scored(0.974, "phishing", "A trap.", injection=True), None),
            (MESSAGE, Scan(outcome=Skipped(Skip.SIZE)), None),
            (
                MESSAGE,
                Scan(outcome=Unscored(Failure.TIMEOUT, "it was slow"), stages=stages),
                None,
            ),
        )
        last, second, first = rows(overview(path))
        assert re.sub(r"^\d\d \w{3} \d\d:\d\d:\d\d ", "", first) == (
            "0.97 phishing bulk.example A trap. injection 2 forged evidence and times "
            "Not found out in time: web Registered: bulk.example 11 days ago DMARC: fail "
            "SPF: pass for bulk.example Sender's domain in DNS: takes mail, has SPF "
            "Sent by: [192.0.2.7], name bulk.example, HELO bulk.example "
            "read 10 ms evidence 0.5 s fit 0 ms model 1.5 s 2.0 s"
        )
        assert second.endswith("skipped · size – 2 forged –")
        assert last.endswith(
            "unscored · timeout – it was slow 2 forged evidence and times read 4 ms 4 ms"
        )

    def test_subjects_where_they_are_kept(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(), MAIL), full=True)
        assert "secret-subject" in rows(overview(path))[0]

    @pytest.mark.parametrize(
        ("query", "reasons"),
        [
            ({}, ["trap", "friend", "heir"]),
            ({"text": " TRAP "}, ["trap"]),
            ({"band": "wanted"}, ["friend"]),
            ({"category": "scam"}, ["heir"]),
            ({"status": "skipped"}, []),
            ({"status": "nonsense", "band": "' OR 1=1", "before": "-1", "span": "\0"},
             ["trap", "friend", "heir"]),
            ({"before": "9" * 400}, ["trap", "friend", "heir"]),
            ({"before": "٣"}, ["trap", "friend", "heir"]),
            ({"before": "3"}, ["friend", "heir"]),
            ({"text": "\0" * 500 + "~"}, []),
            ({"text": "\0~"}, []),
            ({"category": "x" * 100_000}, []),
            ({"text": "\udcff"}, []),
        ],
    )  # fmt: skip
    def test_filters(self, path: Path, query: Mapping[str, str], reasons: list[str]) -> None:
        keep(
            path,
            (MESSAGE, scored(0.9, "scam", "heir"), None),
            (MESSAGE, scored(0.1, "none", "friend"), None),
            (MESSAGE, scored(0.9, "phishing", "trap"), None),
        )
        found = rows(page(path).overview(HEALTH, query))
        assert [reason for row, reason in zip(found, reasons, strict=True) if reason in row] == (
            reasons
        )

    def test_pages(self, path: Path) -> None:
        keep(path, *[(MESSAGE, scored(reason=f"no. {n}"), None) for n in range(LINES + 5)])
        first = overview(path, text="no.", band="unwanted")
        assert len(rows(first)) == LINES
        (older,) = LexborHTMLParser(first).css("nav.pages a")
        link = older.attributes["href"]
        assert link == "?text=no.&band=unwanted&span=day&before=6"
        second = overview(path, text="no.", before="6")
        assert [row.partition("no. ")[2][0] for row in rows(second)] == ["4", "3", "2", "1", "0"]
        assert [one.text() for one in LexborHTMLParser(second).css("nav.pages a")] == ["newest"]

    def test_nothing_yet_and_nothing_that_fits(self, path: Path) -> None:
        keep(path)
        assert "No mail yet." in overview(path)
        assert "Nothing fits." in overview(path, text="x")

    def test_counts_and_times(self, path: Path) -> None:
        several = [(AT - 3600 * hour, scored(0.9)) for hour in range(30)]
        keep_at(path, [*several[::-1], (AT, scored(0.1)), (AT, Scan(outcome=Skipped(Skip.SIZE)))])
        html = overview(path)
        legend = [item.text() for item in LexborHTMLParser(html).css("figure:first-of-type li")]
        assert legend[:5] == [
            "unwanted 24", "uncertain 0", "wanted 1", "unscored 0", "skipped 1",
        ]  # fmt: skip
        assert "unwanted 30" in shown(overview(path, span="week"))
        assert len(LexborHTMLParser(html).css("svg rect.unwanted")) == 24
        assert LexborHTMLParser(html).css("svg polyline.p95")
        tip = LexborHTMLParser(html).css("svg rect title")[-1].text()
        assert tip.splitlines()[1:] == ["median 2.0 s", "95 of 100 2.0 s"]

    def test_one_in_full(self, path: Path) -> None:
        keep(path, (MESSAGE, scored(0.974, "phishing", "A trap."), MAIL), full=True)
        html = page(path).verdict("1")
        assert html is not None
        text = shown(html)
        for part in (
            "0.97 phishing 2 forged A trap. Time 20",
            "Queue ID 4XyZ1F2z3aB Sender’s domain bulk.example Status scored Model gemma3:12b",
            "Asked about this mail Tokens 900 in, 30 out Recipients 2 Size 4 kB",
            "Time by stage read 10 ms evidence 0.5 s fit 0 ms model 1.5 s together 2.0 s",
            "Evidence Not found out in time: web Registered: bulk.example 11 days ago",
            "Subject secret-subject Envelope sender <secret-sender@bulk.example> Recipients"
            " <secret-rcpt@b.test> <secret-two@b.test> secret-body secret-body",
        ):
            assert part in text

    def test_one_that_was_not_judged(self, path: Path) -> None:
        keep(path, (MESSAGE, Scan(outcome=Skipped(Skip.SIZE)), None))
        html = page(path).verdict("1")
        assert html is not None
        assert "Status skipped , size" in shown(html)
        assert "Subject" not in html

    @pytest.mark.parametrize("number", ["2", "0", "-1", "x", "", "1.0", "9" * 30, "١", "1'"])
    def test_one_that_is_not_there(self, path: Path, number: str) -> None:
        keep(path, (MESSAGE, scored(), None))
        assert page(path).verdict(number) is None
        assert page(None).verdict(number) is None

    def test_a_history_that_cannot_be_read(self, path: Path) -> None:
        path.write_bytes(b"no database at all" * 100)
        assert "The history cannot be read: " in shown(overview(path))
        html = page(path).verdict("1")
        assert html is not None
        assert "The history cannot be read: " in shown(html)


class TestStrangersTexts:
    """No element and no attribute comes of any: the page has the shape that it has with plain
    words in their place."""

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_they_make_no_markup(self, tmp_path: Path, payload: str) -> None:
        made = []
        for name, words in (("plain", "word"), ("hostile", payload)):
            file = tmp_path / f"{name}.db"
            keep(file, noted(words), full=True)
            verdict = page(file).verdict("1")
            assert verdict is not None
            made.append((page(file).overview(HEALTH, {"text": ""}), verdict))
        for plain, hostile in zip(*made, strict=True):
            assert shape(hostile) == shape(plain)

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
    def test_nor_do_they_in_what_is_asked_or_told_of_health(self, path: Path, payload: str) -> None:
        keep(path, (MESSAGE, scored(), None))

        def ill(text: str) -> Health:
            server = ServerHealth(url=text, is_well=False, retry_in=1.0, calls=0)
            source = SourceHealth(name=text, is_well=True)
            return replace(
                HEALTH,
                version=text,
                model=text,
                servers=(server,),
                sources=(source,),
                store_fault=text,
            )

        def made(text: str) -> str:
            names = ("text", "status", "band", "category", "span", "before")
            return page(path).overview(ill(text), dict.fromkeys(names, text))

        assert shape(made(payload)) == shape(made("word"))

    def test_they_are_shown_as_they_are(self, path: Path) -> None:
        payload = PAYLOADS["script"] + PAYLOADS["attribute"] + PAYLOADS["template"]
        keep(path, noted(payload), full=True)
        verdict = page(path).verdict("1")
        assert verdict is not None
        for html in (overview(path), verdict):
            assert shown(html).count(payload[:200]) >= 3

    @pytest.mark.parametrize("name", ["direction", "invisible", "nulls", "charset", "piled"])
    def test_none_moves_hides_or_covers_what_is_ours(self, path: Path, name: str) -> None:
        keep(path, noted(PAYLOADS[name]), full=True)
        verdict = page(path).verdict("1")
        assert verdict is not None
        for html in (overview(path), verdict):
            # The value of an option is what the form sends back, and nobody sees it.
            seen = re.sub(r'<option value="[^"]*"', "", html)
            assert not set(seen) & set("\0\x08\x0c\x1b\x7f\x9b\u00ad\u061c\u200b\u200e\u200f")
            assert not set(seen) & set("\u2028\u2029\u202c\u202e\u2060\u2066\u2067\u2069\ufeff")
            assert not re.search("[\U000e0000-\U000effff\ud800-\udfff]|[\u0300-\u036f]{4}", seen)
            html.encode()

    def test_each_keeps_its_direction_within(self, path: Path) -> None:
        keep(path, noted("מילה"), full=True)
        verdict = page(path).verdict("1")
        assert verdict is not None
        for html in (overview(path), verdict):
            root = LexborHTMLParser(html).root
            assert root is not None
            for node in root.traverse(include_text=True):
                if node.tag == "-text" and "מילה" in (node.text_content or ""):
                    parent = node.parent
                    assert parent is not None
                    own = parent.tag in ("bdi", "option") or parent.attributes.get("dir") == "auto"
                    assert own, parent.html

    def test_emoji_and_scripts_stay_readable(self) -> None:
        for text in ("👨‍👩‍👧 ok", "می‌خواهم", "क्‍ष", "Tiếng Việt", "שָׁלוֹם", "日本語", "a\nb"):
            assert clean(text) == text


class TestMarkup:
    """What the policy of the answers' headers forbids is not there in the first place."""

    @pytest.fixture
    def pages(self, path: Path) -> list[str]:
        several = [(MESSAGE, scored(reason=f"{n}"), MAIL) for n in range(LINES + 1)]
        keep(path, *several, full=True)
        made = page(path, has_login=True)
        found = [made.overview(HEALTH, {"text": "1"}), made.overview(HEALTH, {}), made.verdict("1")]
        found += [made.login(is_wrong=True)]
        return [html for html in found if html]

    def test_no_script_no_inline_style_and_nothing_from_elsewhere(self, pages: list[str]) -> None:
        assert len(pages) == 4
        for html in pages:
            for tag, names in shape(html):
                assert tag not in ("script", "style", "iframe", "object", "embed", "base")
                assert not [name for name in names if name == "style" or name.startswith("on")]
            nodes = LexborHTMLParser(html).css("[href], [src], [action]")
            assert len(nodes) >= 3
            for node in nodes:
                for name in ("href", "src", "action"):
                    target = node.attributes.get(name)
                    assert target is None or re.match(r"/(?!/)|\?", target), target

    def test_every_field_has_a_label(self, pages: list[str]) -> None:
        fields = [
            node
            for html in pages
            for node in LexborHTMLParser(html).css("input:not([type=hidden], [hidden]), select")
        ]
        assert len(fields) == 9
        assert all(node.parent is not None and node.parent.tag == "label" for node in fields)

    def test_signing_out_is_offered_where_one_signs_in(self, path: Path, pages: list[str]) -> None:
        assert "/logout" in pages[0]
        assert "/logout" not in overview(path)

    def test_the_files_name_no_others(self) -> None:
        for name in ("page.css", "icon.svg"):
            text = asset(name).decode().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"url\(|@import|https?:|<script", text)

    def test_the_forms_words_are_understood(self) -> None:
        query = {"text": "a", "status": "scored", "band": "wanted", "category": "c", "span": "week"}
        asked = Asked.read(query, SPANS)
        assert asked.wanted == Filter(text="a", status="scored", band="wanted", category="c")
        assert Asked.read(dict(re.findall(r"(\w+)=(\w+)", asked.link())), SPANS) == asked
        assert Asked.read({}, SPANS).link() == "?span=day"
