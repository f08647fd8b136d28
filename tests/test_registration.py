"""Registration data from stand-ins of registries, over TLS and with the real client."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.rdapstub import Behaviour, RdapStub, certificate
from rspamd_llm.domain import ConfigError, EvidenceError, Registration
from rspamd_llm.evidence import guard, registration, registries
from rspamd_llm.evidence.fetch import Fetcher
from rspamd_llm.evidence.pace import RefusedError
from rspamd_llm.evidence.registration import Rdap, decode, encode, is_registrable
from rspamd_llm.store import MemoryStore
from tests.waiting import wait_until

LONG = 30.0
DAY = date(2001, 2, 3)
KNOWN = Registration(found=True, created=DAY, registrar="Example Registrar, Inc.")

T = TypeVar("T")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def trusting(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Our authority is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))


@pytest.fixture
def stub(tls: tuple[ssl.SSLContext, Path]) -> Iterator[RdapStub]:
    with RdapStub.running(tls[0]) as server:
        yield server


@pytest.fixture
def other(tls: tuple[ssl.SSLContext, Path]) -> Iterator[RdapStub]:
    with RdapStub.running(tls[0]) as server:
        yield server


@pytest.fixture
def listed(stub: RdapStub, tmp_path: Path) -> str:
    """The operator's own list, of the stub alone."""
    return stub.write_bootstrap(tmp_path / "dns.json", "test", "uk")


async def loopback(host: str) -> tuple[str, ...]:
    return ("127.0.0.1",)


def using(
    work: Callable[[Rdap], Awaitable[T]],
    file: str = "",
    *,
    store: MemoryStore | None = None,
    seconds: float = LONG,
) -> T:
    async def whole() -> T:
        fetcher = Fetcher(loopback)
        rdap = Rdap(
            fetcher=fetcher, store=store or MemoryStore(), bootstrap_file=file, seconds=seconds
        )
        try:
            return await work(rdap)
        finally:
            await fetcher.close()

    return asyncio.run(whole())


def look_up(
    domain: str, file: str = "", *, store: MemoryStore | None = None, seconds: float = LONG
) -> Registration | None:
    return using(lambda rdap: rdap.look_up(domain), file, store=store, seconds=seconds)


def refusal(
    domain: str, file: str = "", *, store: MemoryStore | None = None, seconds: float = LONG
) -> str:
    with pytest.raises(EvidenceError) as caught:
        look_up(domain, file, store=store, seconds=seconds)
    return str(caught.value)


async def outcome(rdap: Rdap, domain: str = "acme.test") -> Registration | str | None:
    """The registration, or why there is none."""
    try:
        return await rdap.look_up(domain)
    except EvidenceError as error:
        return str(error)


@pytest.mark.parametrize(
    ("domain", "registrable"),
    [
        ("example.com", True),
        ("example.co.uk", True),
        ("sender.example", True),
        ("xn--mnchen-3ya.de", True),
        ("foo.github.io", False),
        ("example.uk.com", False),
        ("github.io", False),
        ("www.example.com", False),
        ("co.uk", False),
        ("com", False),
        ("EXAMPLE.com", False),
        ("münchen.de", False),
        ("192.0.2.1", False),
        ("a/../b.test", False),
        ("", False),
    ],
)
def test_which_domains_have_a_registration(domain: str, registrable: bool) -> None:
    assert is_registrable(domain) is registrable


class TestLookUp:
    def test_found(self, stub: RdapStub, listed: str) -> None:
        assert look_up("acme.test", listed) == KNOWN
        assert stub.paths == ["/rdap/domain/acme.test"]
        assert stub.requests[0].headers["accept"].startswith("application/rdap+json")

    def test_not_found(self, stub: RdapStub, listed: str) -> None:
        stub.set(Behaviour(domains={"other.test": "2020-01-01"}))
        assert look_up("acme.test", listed) == Registration(found=False)

    def test_not_found_below_a_suffix_of_others(self, stub: RdapStub, listed: str) -> None:
        stub.set(Behaviour(status=404))
        assert look_up("acme.uk", listed) == Registration(found=False)
        assert look_up("acme.ac.uk", listed) is None

    def test_found_below_a_suffix_of_others(self, stub: RdapStub, listed: str) -> None:
        assert look_up("acme.co.uk", listed) == KNOWN

    @pytest.mark.parametrize(
        "domain", ["foo.github.io", "www.acme.test", "acme.elsewhere", "test", "", "192.0.2.1"]
    )
    def test_no_registry_is_asked(self, stub: RdapStub, listed: str, domain: str) -> None:
        assert look_up(domain, listed) is None
        assert not stub.requests

    def test_the_longest_suffix_counts(
        self, stub: RdapStub, other: RdapStub, tmp_path: Path
    ) -> None:
        services = [[["UK"], [stub.base_url]], [["co.uk."], [other.base_url.rstrip("/")]]]
        file = tmp_path / "dns.json"
        file.write_text(json.dumps({"version": "1.0", "services": services}))
        assert look_up("acme.co.uk", str(file)) == KNOWN
        assert (len(stub.requests), other.paths) == (0, ["/rdap/domain/acme.co.uk"])
        assert look_up("acme.org.uk", str(file)) == KNOWN
        assert stub.paths == ["/rdap/domain/acme.org.uk"]


class TestAnswer:
    """What is understood of a domain object."""

    @pytest.mark.parametrize(
        ("text", "day"),
        [
            ("2001-02-03T04:05:06Z", DAY),
            ("2001-02-03t04:05:06z", DAY),
            ("2001-02-03T04:05:06.789123Z", DAY),
            ("2001-02-03T04:05:06", DAY),
            ("2001-02-03 04:05:06", DAY),
            ("2001-02-03", DAY),
            (" 2001-02-03 ", DAY),
            ("2001-02-04T01:00:00+02:00", DAY),
            ("2001-02-02T23:00:00-05:00", DAY),
            ("2001-02-02T23:00:00-0500", DAY),
            ("1985-03-15T05:00:00Z", date(1985, 3, 15)),
            ("1984-12-31T23:59:59Z", None),
            ("0001-01-01T00:00:00Z", None),
            ("0001-01-01T00:00:00+14:00", None),
            ("9999-12-31T23:59:59-12:00", None),
            ("2099-01-01T00:00:00Z", None),
            ("2001-13-45", None),
            ("before 2001", None),
            ("", None),
            ("2001-02-03T04:05:06Z" + " " * 100, None),
        ],
    )
    def test_its_date(self, stub: RdapStub, listed: str, text: str, day: date | None) -> None:
        stub.set(Behaviour(created=text))
        found = look_up("acme.test", listed)
        assert found == Registration(found=True, created=day, registrar=KNOWN.registrar)

    def test_a_time_ahead_by_a_zone_is_of_today(self, stub: RdapStub, listed: str) -> None:
        before = datetime.now(UTC)
        stub.set(Behaviour(created=(before + timedelta(hours=8)).isoformat()[:19]))
        found = look_up("acme.test", listed)
        assert found is not None
        assert found.created in {before.date(), datetime.now(UTC).date()}

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("  Some \t\r\n Name ", "Some Name"),
            ("So\u200bme\u202e Na\ufeffme\U000e0041", "Some Name"),
            ("Some\u2028Name\x00", "Some Name"),
            ("Some\ud800Name", "SomeName"),
            ("Städte & Söhne 株式会社", "Städte & Söhne 株式会社"),
            ("a" * 41, "a" * 40),
            ("a" * 39 + " bc", "a" * 39),
            ("x" * 100_000, "x" * 40),
            ("\u200b", ""),
            ("", ""),
        ],
    )
    def test_its_registrar(self, stub: RdapStub, listed: str, name: str, shown: str) -> None:
        stub.set(Behaviour(registrar=name))
        found = look_up("acme.test", listed)
        assert found == Registration(found=True, created=DAY, registrar=shown)

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"events": None, "entities": None},
            {"events": {}, "entities": {}},
            {"events": "registration", "entities": "registrar"},
            {"events": [None, 5, [], {}, {"eventAction": "registration"}]},
            {"events": [{"eventAction": "registration", "eventDate": 981173106}]},
            {"events": [{"eventAction": ["registration"], "eventDate": "2001-02-03"}]},
            {"events": [{"eventAction": "expiration", "eventDate": "2001-02-03"}]},
            {"events": [{}] * 10_000 + [{"eventAction": "registration", "eventDate": "2001"}]},
            {"entities": [None, 5, [], {}]},
            {"entities": [{"roles": None}, {"roles": [None]}, {"roles": 5}]},
            {"entities": [{"roles": ["registrar"]}]},
            {"entities": [{"roles": ["registrar"], "vcardArray": None}]},
            {"entities": [{"roles": ["registrar"], "vcardArray": ["vcard"]}]},
            {"entities": [{"roles": ["registrar"], "vcardArray": ["vcard", {"fn": "A"}]}]},
            {"entities": [{"roles": ["registrar"], "vcardArray": ["vcard", [["fn"], 5, None]]}]},
            {"entities": [{"roles": ["registrar"], "vcardArray": ["vcard", [["fn", {}, "", 5]]]}]},
            {"entities": [{"roles": ["abuse"], "vcardArray": ["vcard", [["fn", {}, "", "A"]]]}]},
        ],
    )
    def test_odd_parts_tell_nothing(
        self, stub: RdapStub, listed: str, change: dict[str, Any]
    ) -> None:
        stub.set(Behaviour(document={"objectClassName": "domain", "ldhName": "acme.test"} | change))
        assert look_up("acme.test", listed) == Registration(found=True)

    def test_other_spellings_of_its_parts(self, stub: RdapStub, listed: str) -> None:
        card = ["vcard", [["version", {}, "text", "4.0"], ["FN", {}, "text", "A Name"]]]
        document = {
            "ldhName": "Acme.Test.",
            "events": [
                {"eventAction": "Registration", "eventDate": "unknown"},
                {"eventAction": "Registration", "eventDate": "2001-02-03"},
            ],
            "entities": [
                {"roles": "registrar", "vcardArray": ["vcard", []]},
                {"roles": ["abuse", "Registrar"], "vcardArray": card},
            ],
        }
        stub.set(Behaviour(document=document))
        found = look_up("acme.test", listed)
        assert found == Registration(found=True, created=DAY, registrar="A Name")

    @pytest.mark.parametrize(
        "document",
        [
            [],
            5,
            "acme.test",
            {},
            {"ldhName": None},
            {"ldhName": ["acme.test"]},
            {"ldhName": "other.test"},
            {"ldhName": "www.acme.test"},
            {"ldhName": ""},
        ],
    )
    def test_an_answer_about_something_else(
        self, stub: RdapStub, listed: str, document: object
    ) -> None:
        stub.set(Behaviour(document=document))
        assert "not about the domain" in refusal("acme.test", listed)


class TestFaults:
    @pytest.mark.parametrize("fault", ["close", "early", "html", "huge", "crumbs"])
    def test_of_answers(self, stub: RdapStub, listed: str, fault: str) -> None:
        stub.set(Behaviour(fault=fault))
        assert "acme" not in refusal("acme.test", listed)

    @pytest.mark.parametrize("status", [204, 400, 401, 403, 429, 500, 503, 501])
    def test_of_statuses(self, stub: RdapStub, listed: str, status: int) -> None:
        stub.set(Behaviour(status=status))
        assert f"status {status}" in refusal("acme.test", listed)

    @pytest.mark.parametrize("fault", ["hang", "drip"])
    def test_the_time_is_bounded(self, stub: RdapStub, listed: str, fault: str) -> None:
        stub.set(Behaviour(fault=fault))
        start = time.monotonic()
        assert "in time" in refusal("acme.test", listed, seconds=0.3)
        assert time.monotonic() - start < LONG / 2

    def test_a_cancelled_look_up_hangs_up(self, stub: RdapStub, listed: str) -> None:
        stub.set(Behaviour(fault="hang"))

        async def work(rdap: Rdap) -> None:
            task = asyncio.ensure_future(rdap.look_up("acme.test"))
            await asyncio.to_thread(wait_until, lambda: len(stub.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: stub.dropped == 1)

        using(work, listed)

    def test_nobody_listens(self, tls: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
        with RdapStub.running(tls[0]) as gone:
            file = gone.write_bootstrap(tmp_path / "dns.json", "test")
        assert "no answer" in refusal("acme.test", file)


class TestRedirects:
    @pytest.fixture
    def both(self, stub: RdapStub, other: RdapStub, tmp_path: Path) -> str:
        """A list of the stub for .test, and of another server."""
        services = stub.bootstrap("test")["services"] + other.bootstrap("elsewhere")["services"]
        file = tmp_path / "both.json"
        file.write_text(json.dumps({"version": "1.0", "services": services}))
        return str(file)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_to_another_registry(
        self, stub: RdapStub, other: RdapStub, both: str, status: int
    ) -> None:
        there = {"Location": other.base_url + "new/domain/acme.test"}
        stub.set(Behaviour(status=status, headers=there))
        assert look_up("acme.test", both) == KNOWN
        assert other.paths == ["/rdap/new/domain/acme.test"]

    def test_two_are_followed_and_no_more(self, stub: RdapStub, other: RdapStub, both: str) -> None:
        stub.set(Behaviour(status=302, headers={"Location": "/rdap/again/acme.test"}))
        assert "too often" in refusal("acme.test", both)
        assert len(stub.requests) == 3

    @pytest.mark.parametrize(
        "location",
        [
            "{inner}",
            "https://127.0.0.1:1/domain/acme.test",
            "https://localhost:{port}/rdap/domain/acme.test",
            "http://127.0.0.1:{port}/rdap/domain/acme.test",
            "https://127.0.0.1/rdap/domain/acme.test",
            "https://10.0.0.1/domain/acme.test",
            "https://[::1]/",
            "https://[::1",
            "https://127.0.0.1:x/",
            "//elsewhere.test/",
            "ftp://127.0.0.1:{port}/",
            "file:///etc/passwd",
        ],
    )
    def test_to_no_registry(
        self, stub: RdapStub, both: str, tls: tuple[ssl.SSLContext, Path], location: str
    ) -> None:
        with RdapStub.running(tls[0]) as inner:
            there = location.format(inner=inner.base_url, port=stub.port)
            stub.set(Behaviour(status=302, headers={"Location": there}))
            assert "a server that is none" in refusal("acme.test", both)
            assert inner.connections == 0
        assert len(stub.requests) == 1

    @pytest.mark.parametrize(
        "location", ["https://a@127.0.0.1:{port}/", "https://127.0.0.1:{port}/\\@x"]
    )
    def test_by_a_url_that_may_be_read_in_two_ways(
        self, stub: RdapStub, both: str, location: str
    ) -> None:
        there = location.format(port=stub.port)
        stub.set(Behaviour(status=302, headers={"Location": there}))
        refusal("acme.test", both)
        assert len(stub.requests) == 1


class TestManners:
    def test_rest_is_our_own_doing_and_no_failure_of_registries(
        self, stub: RdapStub, listed: str
    ) -> None:
        stub.set(Behaviour(status=429))

        async def work(rdap: Rdap) -> None:
            with pytest.raises(EvidenceError) as first:
                await rdap.look_up("acme.test")
            assert not isinstance(first.value, RefusedError)
            with pytest.raises(RefusedError):
                await rdap.look_up("other.test")

        using(work, listed)

    def test_a_server_that_does_not_answer_is_left_alone(self, stub: RdapStub, listed: str) -> None:
        stub.set(Behaviour(fault="html"))

        async def work(rdap: Rdap) -> None:
            for number in range(registration.FAILURES):
                with pytest.raises(EvidenceError) as caught:
                    await rdap.look_up(f"acme{number}.test")
                assert not isinstance(caught.value, RefusedError)
            with pytest.raises(RefusedError):
                await rdap.look_up("acme.test")

        using(work, listed)
        assert len(stub.requests) == registration.FAILURES

    def test_a_burst_is_bounded(self, stub: RdapStub, listed: str) -> None:
        async def work(rdap: Rdap) -> list[Registration | str | None]:
            names = [f"acme{number}.test" for number in range(registration.BURST * 4)]
            return await asyncio.gather(*(outcome(rdap, name) for name in names))

        found = using(work, listed)
        answered = [each for each in found if each == KNOWN]
        assert registration.BURST <= len(answered) < len(found)
        assert len(stub.requests) == len(answered)
        refused = [each for each in found if each != KNOWN]
        assert all("left alone" in str(each) for each in refused)

    def test_after_a_burst_it_goes_on(
        self, stub: RdapStub, listed: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registration, "BURST", 1)
        monkeypatch.setattr(registration, "RATE", 20.0)

        async def work(rdap: Rdap) -> Registration | str | None:
            await outcome(rdap)
            await asyncio.sleep(0.1)
            return await outcome(rdap)

        assert using(work, listed) == KNOWN

    @pytest.mark.parametrize("status", [403, 429, 503])
    def test_a_server_that_wants_rest_gets_it(
        self, stub: RdapStub, other: RdapStub, tmp_path: Path, status: int
    ) -> None:
        services = stub.bootstrap("test")["services"] + other.bootstrap("other")["services"]
        file = tmp_path / "both.json"
        file.write_text(json.dumps({"version": "1.0", "services": services}))
        stub.set(Behaviour(status=status))

        async def work(rdap: Rdap) -> None:
            assert f"status {status}" in str(await outcome(rdap))
            stub.set(Behaviour())
            assert "left alone" in str(await outcome(rdap))
            assert await outcome(rdap, "acme.other") == KNOWN

        using(work, str(file))
        assert len(stub.requests) == 1

    def test_rest_ends_when_the_server_said(self, stub: RdapStub, listed: str) -> None:
        stub.set(Behaviour(status=429, headers={"Retry-After": "1"}))

        async def work(rdap: Rdap) -> None:
            start = time.monotonic()
            await outcome(rdap)
            stub.set(Behaviour())
            while "left alone" in str(found := await outcome(rdap)):
                assert time.monotonic() - start < LONG
                await asyncio.sleep(0.05)
            assert found == KNOWN
            assert time.monotonic() - start >= 1.0

        using(work, listed)
        assert len(stub.requests) == 2


class TestOwnList:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "5",
            "[" * 100_000,
            "{}",
            '{"version": "2.0", "services": []}',
            '{"version": "1.0"}',
            '{"version": "1.0", "services": []}',
            '{"version": "1.0", "services": {}}',
            '{"version": "1.0", "services": [5]}',
            '{"version": "1.0", "services": [[["test"]]]}',
            '{"version": "1.0", "services": [[["test"], ["https://a.test/"], []]]}',
            '{"version": "1.0", "services": [["test", ["https://a.test/"]]]}',
            '{"version": "1.0", "services": [[[5], ["https://a.test/"]]]}',
            '{"version": "1.0", "services": [[["test"], [5]]]}',
            '{"version": "1.0", "services": [[["test"], []]]}',
            '{"version": "1.0", "services": [[["test"], ["http://a.test/"]]]}',
            '{"version": "1.0", "services": [[["test"], ["https://u@a.test/"]]]}',
            '{"version": "1.0", "services": [[["test"], ["https://a.test/?q="]]]}',
            '{"version": "1.0", "services": [[["test"], ["https://a.test:x/"]]]}',
            '{"version": "1.0", "services": [[["test"], ["https://[a/"]]]}',
        ],
    )
    def test_what_is_none_refuses_the_start(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "dns.json"
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"dns\.json"):
            look_up("acme.test", str(file))

    def test_that_is_not_there_refuses_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            look_up("acme.test", str(tmp_path / "none.json"))

    def test_https_is_taken_where_there_is_http_too(self, stub: RdapStub, tmp_path: Path) -> None:
        services = [[["test"], ["http://127.0.0.1:1/", stub.base_url]]]
        file = tmp_path / "dns.json"
        file.write_text(json.dumps({"version": "1.0", "services": services}))
        assert look_up("acme.test", str(file)) == KNOWN


class TestIanasList:
    @pytest.fixture(autouse=True)
    def iana(self, stub: RdapStub, monkeypatch: pytest.MonkeyPatch) -> None:
        """The stub is IANA's server, at what stands for a public address."""
        monkeypatch.setattr(registries, "LIST_URL", f"https://rdap.test:{stub.port}/dns.json")
        monkeypatch.setattr(guard, "is_public", "127.0.0.1".__eq__)

    def test_is_fetched_once(self, stub: RdapStub) -> None:
        async def work(rdap: Rdap) -> None:
            names = [f"acme{number}.test" for number in range(5)]
            assert await asyncio.gather(*map(rdap.look_up, names)) == [KNOWN] * 5
            assert await rdap.look_up("acme.elsewhere") is None

        using(work)
        assert stub.paths.count("/dns.json") == 1
        assert len(stub.requests) == 6

    def test_is_kept_in_the_store(self, stub: RdapStub) -> None:
        store = MemoryStore()
        suffixes = [f"suffix{number}" for number in range(1_500)]
        stub.set(Behaviour(document=stub.bootstrap("test", *suffixes)))
        assert look_up("acme.elsewhere", store=store) is None
        stub.set(Behaviour())
        for suffix in ("test", "suffix0", "suffix1499"):
            assert look_up(f"acme.{suffix}", store=store) == KNOWN
        assert stub.paths.count("/dns.json") == 1

    def test_that_is_not_whole_in_the_store_is_fetched(self, stub: RdapStub) -> None:
        class Failing(MemoryStore):
            async def get(self, kind: str, key: str) -> str | None:
                return None if key == "1" else await super().get(kind, key)

        store = Failing()
        stub.set(Behaviour(document=stub.bootstrap(*(f"suffix{n}" for n in range(200)))))
        look_up("acme.elsewhere", store=store)
        look_up("acme.elsewhere", store=store)
        assert stub.paths == ["/dns.json"] * 2

    @pytest.mark.parametrize(
        "kept",
        [
            "",
            "{",
            "5",
            "[]",
            "[1, 1, 5]",
            "[1, 1, {}]",
            '["x", 1, {"test": "https://127.0.0.1:1/"}]',
            '[1, "x", {"test": "https://127.0.0.1:1/"}]',
            '[NOW, 0, {"test": 5}]',
            '[NOW, 1, {"test": 5}]',
            '[NOW, 1, {"test": "http://127.0.0.1:1/"}]',
            '[NOW, 2, {"test": "https://127.0.0.1:1/"}]',
            '[1e999, 1, {"test": "https://127.0.0.1:1/"}]',
            '[FUTURE, 1, {"test": "https://127.0.0.1:1/"}]',
        ],
    )
    def test_that_is_damaged_in_the_store_is_fetched(self, stub: RdapStub, kept: str) -> None:
        store = MemoryStore()
        kept = kept.replace("NOW", str(time.time())).replace("FUTURE", str(time.time() + 1e6))
        asyncio.run(store.put("bootstrap", "0", kept, 1_000))
        assert look_up("acme.test", store=store) == KNOWN

    def test_that_is_old_is_fetched_anew(self, stub: RdapStub) -> None:
        store = old(store=MemoryStore(), base="https://127.0.0.1:1/")
        assert look_up("acme.test", store=store) == KNOWN
        assert look_up("acme.test", store=store) == KNOWN
        assert stub.paths.count("/dns.json") == 1

    @pytest.mark.parametrize(
        "behaviour",
        [
            Behaviour(status=500, document={}),
            Behaviour(status=302, document={}, headers={"Location": "/other.json"}),
            Behaviour(document={"version": "1.0", "services": []}),
            Behaviour(document={"version": "1.0", "services": [[["test"], ["http://a.test/"]]]}),
            Behaviour(document={"version": "1.0", "services": [[["a"] * 30_000, []]]}),
            Behaviour(document={"version": "1.0", "services": [[["test"], [5]]]}),
            Behaviour(document=[]),
            Behaviour(fault="html"),
            Behaviour(fault="huge"),
            Behaviour(fault="hang"),
        ],
        ids=lambda behaviour: behaviour.fault or str(behaviour.status),
    )
    def test_that_is_old_serves_while_there_is_no_other(
        self, stub: RdapStub, other: RdapStub, behaviour: Behaviour
    ) -> None:
        stub.set(behaviour)
        store = old(store=MemoryStore(), base=other.base_url)

        async def work(rdap: Rdap) -> None:
            assert await outcome(rdap) == KNOWN
            assert await outcome(rdap) == KNOWN

        using(work, store=store, seconds=3.0)
        assert stub.paths == ["/dns.json"]  # once for both: a pause follows a failure

    def test_that_cannot_be_had_is_an_error(self, stub: RdapStub) -> None:
        stub.set(Behaviour(fault="html"))

        async def work(rdap: Rdap) -> None:
            for _ in range(3):
                assert await outcome(rdap) == "there is no list of registries"

        using(work)
        assert stub.paths == ["/dns.json"]

    def test_registries_of_that_list_must_be_public(
        self, stub: RdapStub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MemoryStore()
        assert look_up("acme.test", store=store) == KNOWN
        monkeypatch.undo()
        assert "no public address" in refusal("acme.test", store=store)

    def test_servers_without_https_are_none(self, stub: RdapStub) -> None:
        services = [[["test"], [stub.base_url]], [["plain"], ["http://127.0.0.1:1/"]]]
        stub.set(Behaviour(document={"version": "1.0", "services": services}))
        assert look_up("acme.plain") is None


def old(*, store: MemoryStore, base: str) -> MemoryStore:
    """The store with a list of eight days ago."""
    fetched = time.time() - 8 * 86_400
    kept = json.dumps([fetched, 1, {"test": base}])
    asyncio.run(store.put("bootstrap", "0", kept, 1_000))
    return store


class TestRemembered:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            KNOWN,
            Registration(found=False),
            Registration(found=True),
            Registration(found=True, created=DAY),
            Registration(found=True, registrar="A Name"),
        ],
    )
    def test_and_told_again(self, value: Registration | None) -> None:
        assert decode(json.loads(json.dumps(encode(value)))) == value

    @pytest.mark.parametrize(
        "value",
        [
            {},
            [],
            5,
            "x",
            True,
            {"found": True},
            {"found": 1, "created": None, "registrar": ""},
            {"found": "yes", "created": None, "registrar": ""},
            {"found": False, "created": "2001-02-03", "registrar": ""},
            {"found": False, "created": None, "registrar": "A Name"},
            {"found": True, "created": None, "registrar": None},
            {"found": True, "created": None, "registrar": "a\nb"},
            {"found": True, "created": None, "registrar": "a" * 41},
            {"found": True, "created": 5, "registrar": ""},
            {"found": True, "created": "", "registrar": ""},
            {"found": True, "created": "soon", "registrar": ""},
            {"found": True, "created": "2001-02-03T04:05:06", "registrar": ""},
            {"found": True, "created": "1969-01-01", "registrar": ""},
            {"found": True, "created": "2999-01-01", "registrar": ""},
            {"found": True, "created": None, "registrar": "", "more": 1},
        ],
    )
    def test_nothing_else(self, value: object) -> None:
        with pytest.raises(ValueError, match="no registration"):
            decode(value)
