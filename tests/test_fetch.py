"""The HTTP client against servers that behave, fail, stall, lie and lead astray."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from bench.rdapstub import Behaviour, RdapStub, certificate
from rspamd_llm.domain import EvidenceError
from rspamd_llm.evidence import fetch, guard
from rspamd_llm.evidence.fetch import Fetcher, Reply
from tests.waiting import wait_until

LONG = 30.0
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusting(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Our authority is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))


@pytest.fixture
def stub(tls: tuple[ssl.SSLContext, Path], trusting: None) -> Iterator[RdapStub]:
    with RdapStub.running(tls[0]) as server:
        yield server


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what a test cannot do without a public address of its own."""
    real = guard.is_public
    monkeypatch.setattr(guard, "is_public", lambda each: each == LOOPBACK or real(each))


class Names:
    """A resolver that knows a few names and remembers what it was asked."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known = {name.replace("_", "."): found for name, found in known.items()}
        self.asked: list[str] = []

    async def addresses(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host not in self.known:
            raise EvidenceError("no such name")
        return self.known[host]


STUB_NAMES = Names(rdap_test=(LOOPBACK,), other_test=(LOOPBACK,), alien_test=(LOOPBACK,))


def run(work: Callable[[Fetcher], Awaitable[Reply]], names: Names = STUB_NAMES) -> Reply:
    async def whole() -> Reply:
        fetcher = Fetcher(names.addresses)
        try:
            return await work(fetcher)
        finally:
            await fetcher.close()

    return asyncio.run(whole())


def get(
    url: str,
    *,
    public: bool = False,
    names: Names = STUB_NAMES,
    seconds: float = LONG,
    limit: int = 1_000_000,
) -> Reply:
    return run(lambda one: one.json(url, public=public, seconds=seconds, limit=limit), names)


def refusal(
    url: str,
    *,
    public: bool = False,
    names: Names = STUB_NAMES,
    seconds: float = LONG,
    limit: int = 1_000_000,
) -> str:
    with pytest.raises(EvidenceError) as caught:
        get(url, public=public, names=names, seconds=seconds, limit=limit)
    return str(caught.value)


@contextlib.asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[str]:
    """The base URL of a server that sends these bytes to each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


def get_raw(data: bytes, limit: int = 1_000_000) -> Reply:
    async def work(fetcher: Fetcher) -> Reply:
        async with answering(data) as url:
            return await fetcher.json(url, public=False, seconds=LONG, limit=limit)

    return run(work)


def refuse_raw(data: bytes, limit: int = 1_000_000) -> str:
    with pytest.raises(EvidenceError) as caught:
        get_raw(data, limit)
    return str(caught.value)


def raw(body: bytes, *more: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


class TestRequest:
    def test_target_and_headers(self, stub: RdapStub) -> None:
        async def work(fetcher: Fetcher) -> Reply:
            return await fetcher.json(
                stub.base_url + "x?a=1",
                public=False,
                seconds=LONG,
                params={"q": "ex&mple", "n": "2"},
                headers={"X-Subscription-Token": "klé", "Accept": "application/rdap+json"},
            )

        assert run(work).status == 200
        (request,) = stub.requests
        assert request.path == "/rdap/x?a=1&q=ex%26mple&n=2"
        assert request.headers["host"] == f"{LOOPBACK}:{stub.port}"
        assert request.headers["accept"] == "application/rdap+json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["x-subscription-token"].encode("latin-1").decode() == "klé"
        assert "cookie" not in request.headers

    def test_a_configured_server_may_be_http_and_private(self) -> None:
        with RdapStub.running() as stub:
            assert get(stub.base_url + "domain/a.test").document["ldhName"] == "A.TEST"

    def test_a_public_server_is_asked_by_its_name(
        self, stub: RdapStub, loopback_is_public: None
    ) -> None:
        assert get(stub.url("rdap.test") + "domain/a.test", public=True).status == 200
        assert stub.requests[0].headers["host"] == f"rdap.test:{stub.port}"

    def test_connections_are_used_again_but_for_one_name_alone(
        self, stub: RdapStub, loopback_is_public: None
    ) -> None:
        async def work(fetcher: Fetcher) -> Reply:
            for host in ("rdap.test", "rdap.test", "other.test", "rdap.test", "other.test"):
                stub.set(Behaviour(status=404 if host == "other.test" else 200))
                last = await fetcher.json(stub.url(host) + "x", public=True, seconds=LONG)
            # Same address, and a connection to it is open, but the certificate is another's.
            with pytest.raises(EvidenceError):
                await fetcher.json(stub.url("alien.test"), public=True, seconds=LONG)
            return last

        run(work)
        assert len(stub.requests) == 5
        assert stub.connections == 2

    def test_proxies_of_the_environment_are_not_used(
        self, stub: RdapStub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert get(stub.base_url + "x").status == 200

    @pytest.mark.parametrize("header", ["a\r\nX: y", "\x00", "\ud800"])
    def test_a_header_that_is_none_is_an_error(self, stub: RdapStub, header: str) -> None:
        async def work(fetcher: Fetcher) -> Reply:
            return await fetcher.json(
                stub.base_url, public=False, seconds=LONG, headers={"X-Key": header}
            )

        with pytest.raises(EvidenceError):
            run(work)
        assert not stub.requests


class TestReply:
    @pytest.mark.parametrize("value", [{"a": [1, "ü"]}, [], "x", 5, None])
    def test_any_json(self, value: object) -> None:
        assert get_raw(raw(json.dumps(value).encode())) == Reply(200, "", value)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_told_and_not_followed(self, stub: RdapStub, status: int) -> None:
        stub.set(Behaviour(status=status, headers={"Location": "/elsewhere"}))
        assert get(stub.base_url + "x") == Reply(status, "/elsewhere", None)
        assert stub.paths == ["/rdap/x"]

    @pytest.mark.parametrize("status", [201, 204, 400, 403, 404, 500, 503])
    def test_other_statuses_have_no_document(self, status: int) -> None:
        body = b"" if status == 204 else b'{"a": 1}'
        assert get_raw(raw(body, status=f"{status} X")) == Reply(status, "", None)

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("", 0.0),
            ("120", 120.0),
            (" 5 ", 5.0),
            ("9" * 5_000, fetch.RETRY_AFTER),
            ("-5", 0.0),
            ("1e9", 0.0),
            ("٣", 0.0),
            ("soon", 0.0),
            ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
            ("Mon, 01 Jan 2001 00:00:00", 0.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", fetch.RETRY_AFTER),
            ("Fri, 99 Foo 99999 99:99:99 GMT", 0.0),
        ],
    )
    def test_how_long_to_wait(self, text: str, seconds: float) -> None:
        assert get_raw(raw(b"", f"Retry-After: {text}", status="429 X")).retry_after == seconds

    def test_how_long_to_wait_by_a_date(self) -> None:
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
        found = get_raw(raw(b"", f"Retry-After: {until}", status="503 X")).retry_after
        assert 500 < found <= 600


class TestBounds:
    def test_a_body_up_to_the_limit(self) -> None:
        body = json.dumps("a" * 998).encode()
        assert get_raw(raw(body), limit=1_000).document == "a" * 998
        assert "longer than 999 bytes" in refuse_raw(raw(body), limit=999)

    def test_a_huge_body_is_not_read_to_its_end(self, stub: RdapStub) -> None:
        stub.set(Behaviour(fault="huge"))
        assert "longer than 200000 bytes" in refusal(stub.base_url + "x", limit=200_000)

    def test_a_huge_refusal_is_not_read_to_its_end(self) -> None:
        head = b"HTTP/1.1 404 X\r\nContent-Length: 1000000000\r\n\r\n"
        assert get_raw(head + b"a" * 100_000).status == 404

    @pytest.mark.parametrize("status", ["200 OK", "404 X"])
    def test_a_body_in_crumbs(self, status: str) -> None:
        crumbs = b"1\r\n1\r\n" * 50_000 + b"0\r\n\r\n"
        data = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + crumbs
        if status == "404 X":
            assert get_raw(data).status == 404
        else:
            assert "crumbs" in refuse_raw(data)

    @pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
    def test_compressed_bodies_are_refused(self, encoding: str) -> None:
        body = gzip.compress(b'"' + b"a" * 10_000_000 + b'"')
        assert "compressed" in refuse_raw(raw(body, f"Content-Encoding: {encoding}"))

    def test_identity_is_no_compression(self) -> None:
        assert get_raw(raw(b"1", "Content-Encoding: Identity ")).document == 1

    def test_endless_headers(self) -> None:
        assert "no answer" in refuse_raw(b"HTTP/1.1 200 OK\r\n" + b"X-A: aaaaaaaaaa\r\n" * 50_000)

    @pytest.mark.parametrize("fault", ["hang", "drip"])
    def test_the_time_is_bounded_and_the_connection_closed(
        self, stub: RdapStub, fault: str
    ) -> None:
        stub.set(Behaviour(fault=fault))
        start = time.monotonic()
        assert "in time" in refusal(stub.base_url + "domain/a.test", seconds=1.0)
        assert time.monotonic() - start < LONG / 2
        wait_until(lambda: stub.dropped == 1)

    def test_a_cancelled_request_hangs_up(self, stub: RdapStub) -> None:
        stub.set(Behaviour(fault="hang"))

        async def work(fetcher: Fetcher) -> Reply:
            task = asyncio.ensure_future(
                fetcher.json(stub.base_url + "x", public=False, seconds=LONG)
            )
            await asyncio.to_thread(wait_until, lambda: len(stub.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: stub.dropped == 1)
            stub.set(Behaviour())
            return await fetcher.json(stub.base_url + "y", public=False, seconds=LONG)

        assert run(work).status == 200

    @pytest.mark.parametrize("public", [True, False])
    def test_a_handshake_that_hangs_is_hung_up(
        self, trusting: None, loopback_is_public: None, public: bool
    ) -> None:
        async def work(fetcher: Fetcher) -> Reply:
            hung_up = asyncio.Event()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while await reader.read(1_000):
                    pass
                hung_up.set()
                writer.close()

            server = await asyncio.start_server(serve, LOOPBACK, 0)
            port = server.sockets[0].getsockname()[1]
            url = f"https://{'rdap.test' if public else LOOPBACK}:{port}/"
            with pytest.raises(EvidenceError, match="in time"):
                await fetcher.json(url, public=public, seconds=0.5)
            await asyncio.wait_for(hung_up.wait(), LONG)
            server.close()
            return Reply(0, "", None)

        run(work)

    def test_more_requests_than_connections_wait(
        self, stub: RdapStub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetch, "MAX_CONNECTIONS", 3)

        async def work(fetcher: Fetcher) -> Reply:
            urls = [f"{stub.base_url}{number}" for number in range(20)]
            asked = (fetcher.json(url, public=False, seconds=LONG) for url in urls)
            return (await asyncio.gather(*asked))[-1]

        assert run(work).status == 200
        assert len(stub.requests) == 20
        assert stub.connections <= 3


class TestFaults:
    @pytest.mark.parametrize("fault", ["close", "early", "html"])
    def test_of_the_server(self, stub: RdapStub, fault: str) -> None:
        stub.set(Behaviour(fault=fault))
        text = refusal(stub.base_url + "domain/secret.test?q=secret")
        assert LOOPBACK in text
        assert "secret" not in text

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff", b"upstream error", b"[" * 100_000, b"1" * 5_000, b'{"a":1}x'],
    )
    def test_what_is_no_json(self, body: bytes) -> None:
        assert "no JSON" in refuse_raw(raw(body))

    @pytest.mark.parametrize("data", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 999999 X\r\n\r\n", b"\0"])
    def test_what_is_no_http(self, data: bytes) -> None:
        assert "no answer from 127.0.0.1" in refuse_raw(data)

    def test_nobody_listens(self) -> None:
        with RdapStub.running() as gone:
            url = gone.base_url
        assert "no answer" in refusal(url)

    def test_a_certificate_of_nobody_we_trust(
        self, stub: RdapStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        _, other = certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        assert "no answer" in refusal(stub.base_url)
        assert not stub.requests

    def test_a_certificate_for_another_name(self, stub: RdapStub, loopback_is_public: None) -> None:
        assert "no answer" in refusal(stub.url("alien.test"), public=True)
        assert not stub.requests

    def test_the_name_is_not_known(self, trusting: None) -> None:
        assert refusal("https://nowhere.test/", public=True) == "nowhere.test: no such name"


CLOSED = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",  # noqa: S104
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1 ",
    "8.8.8.8/32",
    "",
    "localhost",
]
OPEN = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450::1",
    "64:ff9b::8.8.8.8",
]


class TestGuard:
    @pytest.mark.parametrize("address", CLOSED)
    def test_closed(self, address: str) -> None:
        assert not guard.is_public(address)

    @pytest.mark.parametrize("address", OPEN)
    def test_open(self, address: str) -> None:
        assert guard.is_public(address)

    @pytest.mark.parametrize("address", CLOSED)
    def test_a_name_that_leads_there(self, address: str, stub: RdapStub) -> None:
        names = Names(rdap_test=(address,))
        assert "no public address" in refusal(stub.url("rdap.test"), public=True, names=names)
        assert names.asked == ["rdap.test"]
        assert stub.connections == 0

    def test_a_name_that_leads_nowhere(self, trusting: None) -> None:
        names = Names(rdap_test=())
        assert "no public address" in refusal("https://rdap.test/", public=True, names=names)

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0",
            "169.254.169.254",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ],
    )
    def test_an_address_in_the_url(self, host: str, stub: RdapStub) -> None:
        names = Names()
        url = f"https://{host}:{stub.port}/"
        assert "no public address" in refusal(url, public=True, names=names)
        assert names.asked == []  # a resolver of the system would take some of these
        assert stub.connections == 0

    @pytest.mark.parametrize(
        "url",
        [
            "http://rdap.test/",
            "ftp://rdap.test/",
            "file:///etc/passwd",
            "//rdap.test/",
            "rdap.test",
            "",
            "https://",
            "https:///x",
            "https://user@rdap.test/",
            "https://user:word@rdap.test/",
            "https://rdap.test\\@other.test/",
            "https://rdap.test:99999/",
            "https://rdap.test:x/",
            "https://[::1/",
            "https://rdap.test/a b",
            "https://rdap.test/\r\nX: y",
            "https://rdap.test\t.evil/",
            " https://rdap.test/",
            "https://rdäp.test/",
            "https://rdap.test/\ud800",
            "https://rd%61p.test/",
            "https://rdap..test/",
            "https://.rdap.test/",
            "https://" + "a" * 64 + ".test/",
            "https://" + "a." * 130 + "test/",
        ],
    )
    def test_urls_that_are_refused(self, url: str, trusting: None) -> None:
        names = Names(rdap_test=(LOOPBACK,), other_test=(LOOPBACK,))
        refusal(url, public=True, names=names)
        assert names.asked == []

    def test_only_the_public_ones_of_a_name_are_tried(
        self, tls: tuple[ssl.SSLContext, Path], trusting: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # 127.0.0.2 stands for a public address on which nobody listens.
        monkeypatch.setattr(guard, "is_public", {"127.0.0.1", "127.0.0.2"}.__contains__)
        names = Names(rdap_test=("::1", "10.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"))
        with RdapStub.running(tls[0]) as stub:
            assert get(stub.url("rdap.test") + "x", public=True, names=names).status == 200
            assert stub.connections == 1

    def test_a_name_is_resolved_once_a_connection(
        self, stub: RdapStub, loopback_is_public: None
    ) -> None:
        class Rebinding(Names):
            async def addresses(self, host: str) -> tuple[str, ...]:
                await super().addresses(host)
                return (LOOPBACK,) if len(self.asked) == 1 else ("10.0.0.1",)

        names = Rebinding(rdap_test=())
        assert get(stub.url("rdap.test") + "x", public=True, names=names).status == 200
        assert names.asked == ["rdap.test"]

    def test_a_public_server_may_not_answer_by_a_redirect_to_loopback(
        self, stub: RdapStub, loopback_is_public: None
    ) -> None:
        with RdapStub.running() as inner:
            stub.set(Behaviour(status=302, headers={"Location": inner.base_url}))
            reply = get(stub.url("rdap.test") + "x", public=True)
            assert (reply.status, reply.location) == (302, inner.base_url)
            assert inner.connections == 0
