"""Asking Rspamd for its opinion leaves no trace: a real Rspamd with all that stores, and Redis.

Each kind of trace has a control: an ordinary scan of the same mail does leave it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from bench.dnszone import DnsZone
from rspamd_llm.counters import Counters
from rspamd_llm.domain import Deadline, Envelope, Message, Opinion
from rspamd_llm.rspamd import Rspamd
from tests.chain import redis as redis_module
from tests.chain.conftest import _require
from tests.chain.dns import NxDomainServer
from tests.chain.ports import HOST, free_port
from tests.chain.redis import PrivateRedis
from tests.chain.rspamd import PrivateRspamd

TIMES = 20
LONG = 60.0
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
MAIL = (
    b"From: Ann <ann@firm.example>\r\n"
    b"To: Bob <bob@example.org>\r\n"
    b"Subject: minutes of our meeting\r\n"
    b"Message-ID: <20260104.1745@firm.example>\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
    b"Here they are, with all that was said about the garden, the bridge and next summer:\r\n"
    b"http://www.firm.example/minutes\r\n"
)
# Of the open internet, as what is checked of strangers is not of these: IANA's.  Never sent to.
STRANGER = Envelope(
    queue_id="4XyZ1F2z3aB",
    client_address="192.0.37.1",
    client_name="mail.firm.example",
    helo="mail.firm.example",
    sender="<ann@firm.example>",
    recipients=("<bob@example.org>",),
    recipient_count=1,
)
USER = dataclasses.replace(STRANGER, authenticated=True)
ZONE = """
    firm.example MX 10 mail.firm.example.
    firm.example TXT v=spf1 ip4:192.0.37.1 -all
    _dmarc.firm.example TXT v=DMARC1; p=reject; rua=mailto:reports@firm.example
    mail.firm.example A 192.0.37.1
    1.37.0.192.in-addr.arpa PTR mail.firm.example.
"""
# Everything that learns, counts, stores or tells, and also of scans by hand where it can be told.
EVERYTHING = {
    "local.d/actions.conf": "reject = 100; add_header = 50; greylist = -50;",
    "local.d/greylist.conf": "timeout = 1h; check_local = true; check_authed = false;",
    "local.d/ratelimit.conf": """
        allow_local = true;
        rates { to { selector = "rcpts:addr"; bucket { burst = 1000; rate = "1 / 1d"; } } }
        """,
    "local.d/history_redis.conf": "compress = false;",
    "local.d/classifier-bayes.conf": "autolearn = [500, 600]; min_tokens = 1; min_learns = 1;",
    "local.d/reputation.conf": """
        rules {
          one { selector { ip { } } backend { redis { } } symbol = "IP_REPUTATION"; }
          two { selector { spf { } } backend { redis { } } symbol = "SPF_REPUTATION"; }
          three { selector { url { } } backend { redis { } } symbol = "URL_REPUTATION"; }
          four {
            selector { generic { selector = "from:domain"; } }
            backend { redis { } }
            symbol = "A_NAME_OF_THE_ADMINISTRATORS";
          }
        }
        """,
    "local.d/neural.conf": """
        enabled = true; allow_local = true;
        train { autotrain = true; ham_score = 500; spam_score = 600; }
        """,
    "local.d/replies.conf": "use_auth = true;",
    "local.d/dmarc.conf": """
        reporting { enabled = true; email = "x@example.org"; domain = "example.org";
                    org_name = "x"; }
        """,
    # The administrator's own settings come first, and switch on again what stores.
    "local.d/settings.conf": """
        eve {
          priority = high;
          rcpt = "eve@example.org";
          apply {
            symbols_enabled = [
              "MIME_GOOD", "GREYLIST_CHECK", "GREYLIST_SAVE", "RATELIMIT_CHECK",
              "RATELIMIT_UPDATE", "HISTORY_SAVE", "REPLIES_SET"
            ];
            scores { MIME_GOOD = -7.0; }
          }
        }
        """,
    "local.d/metadata_exporter.conf": """
        rules { ALL { backend = "redis_pubsub"; channel = "mail"; selector = "default"; } }
        """,
}
# What an ordinary scan leaves: of a stranger's first mail, and of an authenticated user's.
TRACES_OF_STRANGER = {
    "greylisting": "rg",
    "rate limit": "RL",
    "history": "rs_history",
    "DMARC report": "dmarc_rpt",
}
TRACES_OF_USER = {
    "history": "rs_history",
    "Bayes": "RS",
    "neural network": "rn_",
    "reputation": "RR:",
    "replies": "rr",
}


@dataclasses.dataclass
class Learner:
    """A Rspamd that learns from all it sees, its Redis and its controller."""

    rspamd: PrivateRspamd
    redis: PrivateRedis
    controller: int

    def told(self, path: str) -> Any:
        """What the controller says."""
        connection = http.client.HTTPConnection(HOST, self.controller, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        """All that could be a trace.  Of /stat, what grows with each request, scanned or not, is
        left out, as is what tells of memory and time."""
        stat = self.told("/stat")
        counted = ("scanned", "learned", "spam_count", "ham_count", "actions", "total_learns")
        return {
            "redis": self.redis.content(),
            "published": self.redis.calls("publish"),
            "stat": {name: stat[name] for name in counted},
            "history": self.told("/history"),
        }

    def scan(self, envelope: Envelope) -> dict[str, Any]:
        """The answer to an ordinary scan."""
        fields = {
            "IP": envelope.client_address,
            "From": envelope.sender,
            "Rcpt": envelope.recipients[0],
            "Helo": envelope.helo,
            "Hostname": envelope.client_name,
        }
        return self.rspamd.scan(MAIL, fields | ({"User": "ann"} if envelope.authenticated else {}))

    def forget(self) -> None:
        """Empties Redis."""
        self.redis.ask("FLUSHALL")


@pytest.fixture(scope="module")
def redis() -> Iterator[PrivateRedis]:
    _require(redis_module.missing_programs())
    with PrivateRedis() as server:
        yield server


def files(redis: PrivateRedis, controller: int) -> dict[str, str]:
    return {
        "local.d/redis.conf": f'servers = "{HOST}:{redis.port}";',
        "local.d/worker-controller.inc": f"""
            enabled = true; count = 1; bind_socket = "{HOST}:{controller}"; secure_ip = "{HOST}";
            """,
    }


@pytest.fixture(scope="module")
def shared_learner(rspamd_installed: None, redis: PrivateRedis) -> Iterator[Learner]:
    controller = free_port()
    more = files(redis, controller) | EVERYTHING
    with DnsZone.running(ZONE) as zone, PrivateRspamd(zone.port, files=more) as rspamd:
        yield Learner(rspamd, redis, controller)


@pytest.fixture
def learner(shared_learner: Learner) -> Learner:
    shared_learner.forget()
    return shared_learner


def message(envelope: Envelope = STRANGER, data: bytes = MAIL) -> Message:
    return Message(envelope=envelope, data=data, size=len(data))


def opinions(rspamd: PrivateRspamd, *messages: Message) -> list[Opinion]:
    """What one client is told of each."""

    async def work() -> list[Opinion | None]:
        client = Rspamd(rspamd.url, "", LONG, Counters())
        try:
            return [await client.opinion(each, Deadline.after(3 * LONG)) for each in messages]
        finally:
            await client.close()

    found = [opinion for opinion in asyncio.run(work()) if opinion is not None]
    assert len(found) == len(messages)
    return found


def kinds(before: Mapping[str, Any], after: Mapping[str, Any], of: Mapping[str, str]) -> set[str]:
    """Which kinds of keys came or changed."""
    old, new = before["redis"], after["redis"]
    changed = {key for key in new if old.get(key) != new[key]}
    return {kind for kind, begins in of.items() if any(key.startswith(begins) for key in changed)}


class TestNoTrace:
    def test_of_a_stranger(self, learner: Learner) -> None:
        before = learner.state()
        opinions(learner.rspamd, *[message()] * TIMES)
        assert learner.state() == before
        learner.scan(STRANGER)
        after = learner.state()
        assert kinds(before, after, TRACES_OF_STRANGER) == TRACES_OF_STRANGER.keys()
        assert after["stat"]["scanned"] == before["stat"]["scanned"] + 1
        assert after["published"] > before["published"]
        assert after["history"] != before["history"]

    def test_of_a_user(self, learner: Learner) -> None:
        before = learner.state()
        opinions(learner.rspamd, *[message(USER)] * TIMES)
        assert learner.state() == before
        learner.scan(USER)
        after = learner.state()
        assert kinds(before, after, TRACES_OF_USER) == TRACES_OF_USER.keys()
        assert after["stat"]["learned"] == before["stat"]["learned"] + 1

    def test_where_there_are_traces_of_before(self, learner: Learner) -> None:
        """What is there grows no older and no younger."""
        learner.scan(USER)
        learner.scan(STRANGER)
        before = learner.state()
        opinions(learner.rspamd, *[message(USER), message()] * (TIMES // 2))
        assert learner.state() == before

    def test_the_mail_is_then_scanned_as_if_nobody_had_asked(self, learner: Learner) -> None:
        def first_scan(*, asked: bool) -> tuple[dict[str, Any], list[str], bytes]:
            learner.forget()
            if asked:
                opinions(learner.rspamd, *[message()] * TIMES)
            answer = learner.scan(STRANGER)
            content = learner.redis.content()
            (bucket,) = (value for key, value in content.items() if key.startswith("RL"))
            return answer, [*content], bucket[b"b"]

        answer, keys, in_bucket = first_scan(asked=True)
        plain, plain_keys, plain_bucket = first_scan(asked=False)
        assert answer["action"] == "soft reject"
        assert answer["symbols"]["GREYLIST"]["options"] == plain["symbols"]["GREYLIST"]["options"]
        assert (keys, in_bucket) == (plain_keys, plain_bucket)


def test_the_opinion_is_that_of_an_ordinary_scan(learner: Learner) -> None:
    (asked,) = opinions(learner.rspamd, message(USER))
    answer = learner.scan(USER)
    ordinary = {name: entry["score"] for name, entry in answer["symbols"].items()}
    ours = {name for name in ordinary if name.startswith("LLM_")}
    assert ours <= {"LLM_ABSENT"}
    late = {"NEURAL_HAM", "NEURAL_SPAM", "GREYLIST"} | ours
    assert {name: asked.symbols[name] for name in asked.symbols.keys() - late} == {
        name: ordinary[name] for name in ordinary.keys() - late
    }
    assert asked.score == pytest.approx(answer["score"])


def test_the_administrators_settings_hold(learner: Learner) -> None:
    own = dataclasses.replace(STRANGER, recipients=("<eve@example.org>",))
    before = learner.state()
    (found,) = opinions(learner.rspamd, message(own))
    assert found.symbols == {"MIME_GOOD": -7.0}
    assert learner.state() == before
    learner.scan(own)
    assert kinds(before, learner.state(), TRACES_OF_STRANGER) >= {"greylisting", "rate limit"}


def test_authentication_and_senders_are_seen(learner: Learner) -> None:
    spoofed = dataclasses.replace(STRANGER, client_address="192.0.37.99")
    true, false = opinions(learner.rspamd, message(), message(spoofed))
    assert {"R_SPF_ALLOW", "DMARC_POLICY_ALLOW"} <= true.symbols.keys()
    assert {"R_SPF_FAIL", "DMARC_POLICY_REJECT"} <= false.symbols.keys()
    assert not [name for name in true.symbols if name.startswith("LLM_")]


def test_a_mail_that_is_rejected(learner: Learner) -> None:
    (found,) = opinions(learner.rspamd, message(data=MAIL + GTUBE + b"\r\n"))
    assert found.action == "reject"


@pytest.mark.parametrize(
    "odd",
    [
        {"helo": "a\r\nSettings: {}", "client_name": "b\nUser: root", "queue_id": "x\r\nUser: y"},
        {"sender": "<>", "recipients": ("<\u00e4nn@ex\u00e4mple.org>", "<a,b@example.org>")},
        {"sender": "\u0000", "recipients": ("",), "client_address": "no address"},
        {"sender": "x" * 5_000, "recipients": ("<bob@example.org>",) * 1_000},
        {"sender": '<"un"closed\\">', "client_name": "[192.0.37.1]", "helo": "[192.0.37.1]"},
    ],
    ids=["header", "signs", "nothing", "long", "quotes"],
)
def test_an_odd_envelope(learner: Learner, odd: dict[str, Any]) -> None:
    before = learner.state()
    (found,) = opinions(learner.rspamd, message(dataclasses.replace(STRANGER, **odd)))
    assert "MIME_GOOD" in found.symbols
    assert learner.state() == before


def test_without_our_plugin(
    rspamd_installed: None,
    dns: NxDomainServer,
    redis: PrivateRedis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The administrator is told, and what Rspamd does by itself for scans by hand holds."""
    controller = free_port()
    stock = {name: EVERYTHING[f"local.d/{name}.conf"] for name in ("actions", "history_redis")}
    limits = EVERYTHING["local.d/ratelimit.conf"].replace("allow_local = true;", "")
    more = {f"local.d/{name}.conf": text for name, text in stock.items()} | {
        "local.d/greylist.conf": "timeout = 1h;",
        "local.d/ratelimit.conf": limits,
        "plugins.d/rspamd_llm.lua": "",
    }
    redis.ask("FLUSHALL")
    with PrivateRspamd(dns.port, files=files(redis, controller) | more) as rspamd:
        bare = Learner(rspamd, redis, controller)
        before = bare.state()
        opinions(rspamd, message(), message())
        assert caplog.text.count("without our plugin") == 1
        assert bare.state() == before
        bare.scan(STRANGER)
        assert kinds(before, bare.state(), TRACES_OF_STRANGER) == {
            "greylisting",
            "rate limit",
            "history",
        }
