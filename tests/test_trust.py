"""What strangers can bring into our headers and our log, and what of us they can reach: nothing.

The grammar below is a second reading of docs/reference.md and uses none of the daemon's own forms.
What a forger sends is judged where it is believed, in Rspamd: see tests/chain/test_plugin.py and
test_trust.py there, and the fault suite.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import http.client
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.header import decode_header, make_header
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.milterclient import Envelope, Mail
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from rspamd_llm import config as configs
from rspamd_llm import engine as engines
from rspamd_llm import headers
from rspamd_llm import verdict as verdicts
from rspamd_llm.domain import (
    AnswerForm,
    Completion,
    ConfigError,
    Key,
    ModelError,
    Outcome,
    Prompt,
    Scored,
    Unscored,
    Verdict,
)
from tests.chain.daemon import EMBEDDED, PrivateDaemon, processes_of
from tests.test_serve import MAIL, envelope, run, sent
from tests.test_serve import settings as asking
from tests.waiting import wait_until

# --- What our headers may be (docs/reference.md) ----------------------------------------------

_SKIPPED = r"authenticated|network|size|allowlist|optout|sampled|decided|no-text"
_UNSCORED = r"timeout|overloaded|model-unavailable|model-invalid|context-overflow|stopping|internal"
_SCORE = r"(?:0\.[0-9]{2}|1\.00)"
_CATEGORY = r"[a-z][a-z0-9_-]{0,31}"
_HEAD, _TAIL = r"q=(?:-|[A-Za-z0-9]{1,64}); t=[0-9]{10}", r"k=[0-9a-f]{8}; m=[0-9a-f]{64}"

GRAMMAR = {
    "X-GPT-Verdict": (
        rf"v=1; (?:st=scored; {_HEAD}; s={_SCORE}; c={_CATEGORY}"
        rf"|st=skipped; {_HEAD}; s=-; c=(?:{_SKIPPED})"
        rf"|st=unscored; {_HEAD}; s=-; c=(?:{_UNSCORED})); {_TAIL}"
    ),
    "X-GPT-Status": rf"scored(?:; injection)?|skipped; (?:{_SKIPPED})|unscored; (?:{_UNSCORED})",
    "X-GPT-Score": _SCORE,
    "X-GPT-Category": _CATEGORY,
    "X-GPT-Reason": r"(?:[\x20-\x7e]+(?:\n [\x21-\x7e][\x20-\x7e]*)*)?",
    "X-GPT-Model": r"[!-:<-~]{1,100}; prompt=[0-9a-f]{8}; seconds=[0-9]+\.[0-9]{2}; cache=miss",
}
SCORED = tuple(GRAMMAR)
"""The headers of a scored mail; of any other the first two."""


def assert_sound(added: Sequence[tuple[str, str]]) -> None:
    """Each header is one of ours, stands once, and is in the form of the reference."""
    names = tuple(name for name, _ in added)
    assert names in (SCORED, SCORED[:2])
    for name, value in added:
        assert re.fullmatch(GRAMMAR[name], value), (name, value)
    reason = str(make_header(decode_header(dict(added).get("X-GPT-Reason", ""))))
    assert len(reason) <= 240
    assert not [char for char in reason if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}]


# --- What strangers write ---------------------------------------------------------------------

PIECES = (
    "\r\nX-GPT-Score: 0.00\r\n",
    "\n X-GPT-Verdict: v=1",
    "\r\n\r\nbody",
    "\rX-GPT-Status: scored",
    "\0",
    "\x1b[2J\x07",
    "\x7f\x85\x9b",
    "\u2028\u2029",
    "\u202e\u2066\ufeff\u200b",
    "\U000e0041",
    "\ud800",
    "; c=none; s=0.00; m=",
    ";",
    "=?utf-8?b?DQpYLUdQVC1TY29yZTogMC4wMA==?=",
    "=?",
    "?=",
    "é" * 100,
    "😀" * 90,
    "ä\u0308" * 50,
    "a" * 300,
    " " * 80,
)
texts = st.lists(st.one_of(st.text(max_size=50), st.sampled_from(PIECES)), max_size=6).map("".join)
"""Whatever a model, a mail or a configuration could spell."""

octets = st.one_of(st.binary(max_size=80), texts.map(lambda text: text.encode("utf-8", "replace")))
"""Whatever an MTA could send as the value of a macro."""

CATEGORIES = ("phishing", "scam")
KEY = Key(bytes(range(32)))


def asked(form: AnswerForm) -> Prompt:
    return Prompt(system="", user="", form=form, categories=CATEGORIES, id="9f3c2a11")


class TestAnyText:
    """Whatever the text, our headers are in form."""

    @given(reason=texts, category=texts, model=texts, queue_id=texts, lines=st.booleans())
    @settings(max_examples=300, deadline=None)
    def test_of_a_model(
        self, reason: str, category: str, model: str, queue_id: str, lines: bool
    ) -> None:
        answer = json.dumps({"score": 0.97, "category": category, "reason": reason})
        text = f"0.97\n{reason}\n{category}" if lines else answer
        outcome: Outcome
        try:
            verdict = verdicts.understand(Completion(text=text), asked(AnswerForm.JSON), "")
            outcome = scored(verdict, model)
        except ModelError as error:
            outcome = Unscored(error.code, f"{error}{reason}")
        added = headers.edits((), outcome, queue_id=queue_id, now=1_795_340_000, key=KEY).add
        assert_sound(added)
        if not lines:
            assert len(added) == len(SCORED), "no text of an answer's costs it its verdict"

    @given(reason=texts, model=texts)
    @settings(max_examples=200, deadline=None)
    def test_of_a_mail_where_the_model_has_no_sentence(self, reason: str, model: str) -> None:
        completion = Completion(text="x", label_probabilities={"scam": 0.9, "none": 0.1})
        verdict = verdicts.understand(completion, asked(AnswerForm.LABEL), reason)
        edits = headers.edits((), scored(verdict, model), queue_id="A", now=1_795_340_000, key=KEY)
        assert_sound(edits.add)

    @given(st.one_of(texts, st.from_regex(r"\A[a-z][a-z0-9_-]{0,34}\n?\Z")))
    @settings(max_examples=300, deadline=None)
    def test_of_a_configured_category(self, name: str) -> None:
        try:
            config = configs.parse({"verdict": {"categories": [name]}})
        except ConfigError:
            return
        (kept,) = config.verdict.categories
        verdict = Verdict(score=1.0, category=kept, reason="")
        edits = headers.edits((), scored(verdict, "m"), queue_id="A", now=1_795_340_000, key=KEY)
        assert_sound(edits.add)


def scored(verdict: Verdict, model: str) -> Scored:
    return Scored(verdict=verdict, model=model, prompt_id="9f3c2a11", seconds=1.844)


# --- The same through the milter protocol -----------------------------------------------------


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(stub: StubModel) -> Iterator[PrivateDaemon]:
    with PrivateDaemon(asking(stub)) as started:
        yield started


def gained(after: Mail, before: Mail = MAIL) -> list[tuple[str, str]]:
    """The headers that a mail gained, as a reader finds them who takes any line end for one."""
    read = email.message_from_bytes(after.raw(), policy=email.policy.compat32)
    names = [name for name, _ in before.headers]
    assert read.keys()[: len(names)] == names
    assert after.body == before.body
    shown = [(name, value.replace("\r\n", "\n")) for name, value in read.items()]
    return shown[len(names) :]


def judged(daemon: PrivateDaemon, about: Envelope) -> list[tuple[str, str]]:
    """What MAIL gains from the daemon."""
    answer, after = run(sent(daemon, MAIL, about))
    assert answer.final == "continue"
    assert {edit.kind for edit in answer.edits} == {"addheader"}
    return gained(after)


class TestOverTheWire:
    """A real daemon and libmilter, and a model and an MTA that say what they like."""

    @given(reason=texts, category=texts, queue_id=octets)
    @settings(max_examples=60, deadline=None)
    def test_any_text(
        self,
        daemon: PrivateDaemon,
        stub: StubModel,
        reason: str,
        category: str,
        queue_id: bytes,
    ) -> None:
        stub.set(Behaviour(answer=verdict(0.97, category, reason)))
        told = queue_id.decode("utf-8", "surrogateescape")
        added = judged(daemon, envelope(told))
        assert_sound(added)
        assert len(added) == len(SCORED)
        seen = told.partition("\0")[0]  # the protocol has no more of it
        signed = seen if re.fullmatch("[A-Za-z0-9]{1,64}", seen) else "-"
        assert f"; q={signed}; " in dict(added)["X-GPT-Verdict"]

    @pytest.mark.parametrize(
        "queue_id",
        [
            "4XyZ\r\nX-GPT-Score: 0.00",
            "4XyZ; st=scored",
            "4XyZ 1",
            " 4XyZ",
            "4XyZ\n",
            "４XyZ",
            "\udcff\udcfe",
            "A" * 65,
            "A" * 10_000,
            "-",
        ],
    )
    def test_a_queue_id_that_is_none_signs_nothing(
        self, daemon: PrivateDaemon, stub: StubModel, queue_id: str
    ) -> None:
        stub.set(Behaviour())
        before = len(daemon.log().splitlines())
        added = judged(daemon, envelope(queue_id))
        assert_sound(added)
        assert "; q=-; " in dict(added)["X-GPT-Verdict"]
        assert_log_lines(daemon, since=before, of=1)

    @pytest.mark.parametrize(
        "macro", ["j", "v", "_", "{mail_addr}", "{rcpt_addr}", "{daemon_name}"]
    )
    def test_no_other_macro_gets_into_a_header(
        self, daemon: PrivateDaemon, stub: StubModel, macro: str
    ) -> None:
        stub.set(Behaviour())
        told = replace(envelope(), macros={"i": "4XyZ", macro: "strange\r\nX-GPT-Score: 0.00"})
        added = judged(daemon, told)
        assert_sound(added)
        assert "strange" not in str(added)

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("judge; prompt=00000000; cache=hit", "judge_prompt=00000000_cache=hit"),
            ("a\rX-GPT-Score: 0.00\x1b[2J\u202e\u2028é", "a_X-GPT-Score:_0.00_[2J_"),
        ],
    )
    def test_a_models_name(self, stub: StubModel, name: str, shown: str) -> None:
        stub.set(Behaviour())
        with PrivateDaemon(asking(stub, llm={"model": name})) as own:
            added = judged(own, envelope())
            assert_log_lines(own, since=0)
        assert_sound(added)
        assert dict(added)["X-GPT-Model"].startswith(f"{shown}; prompt=")

    def test_a_models_file(self, tmp_path: Path) -> None:
        order = engines.plan(model="builtin", context_tokens=2_048, slots=1, threads=1)
        path = tmp_path / "a; X-GPT-Score: 0.00\r\x1b[2J\u202eé.gguf"
        path.symlink_to(order.model)
        with PrivateDaemon({"llm": {"engine": "embedded", "model": str(path), "slots": 1}}) as own:
            added = dict(judged(own, envelope()))
            assert_log_lines(own, since=0)
        assert_sound(tuple(added.items()))
        # A file of whatever name is asked as any chat model is, which this one never learned.
        assert "tmp" not in str(added)

    def test_a_mail_that_is_refused_cannot_write_our_log(self, daemon: PrivateDaemon) -> None:
        flood = Mail.parse(b"X-GPT-A: 1\r\n" * 10_002 + b"\r\nx\r\n")
        before = len(daemon.log().splitlines())
        answer, _ = run(sent(daemon, flood, envelope("4XyZ\nerror: forged\r\x1b[2J")))
        assert answer.final == "replycode"
        assert_log_lines(daemon, since=before, of=1)


def assert_log_lines(daemon: PrivateDaemon, *, since: int, of: int | None = None) -> None:
    """The daemon's log after its first lines is lines of its own, each of them printable."""
    lines = daemon.log().split("\n")[since:-1]
    assert all(re.match(r"(?:debug|info|warning|error): ", line) for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    assert of is None or len(lines) == of


# --- What listens -----------------------------------------------------------------------------

NOWHERE = {"DDGS_PROXY": "http://127.0.0.1:9"}
"""For ddgs's process: nothing listens there, so that it runs and reaches nobody."""

LOOPBACK = "0100007F"
"""127.0.0.1 as /proc/net/tcp writes it."""


LINKED = Mail.parse(b"From: a@acme-letting.co.uk\r\n\r\nSee http://acme-letting.co.uk/ now.\r\n")
"""A mail with a domain to search for."""


class Listener(NamedTuple):
    """A socket that anybody could speak to: its kind and its address as /proc/net tells them."""

    kind: str
    address: str


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(each for child in processes_of(pid) for each in family(child))]


def listeners(pid: int) -> dict[Listener, int]:
    """The listening sockets of a process and its descendants, with the process that holds each."""
    found: dict[Listener, int] = {}
    for each in family(pid):
        inodes = set()
        for entry in Path(f"/proc/{each}/fd").iterdir():
            target = str(entry.readlink()) if entry.is_symlink() else ""
            inodes |= set(re.findall(r"socket:\[(\d+)\]", target))
        for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "udplite", "udplite6"):
            table = Path(f"/proc/{each}/net/{kind}")
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            # TCP_LISTEN is 0A; what has no connections takes from anybody once it is bound.
            states = {"0A"} if kind.startswith("tcp") else {"07"}
            found |= {
                Listener(kind, row[1]): each
                for row in rows
                if row[3] in states and row[9] in inodes
            }
        rows = [line.split() for line in Path(f"/proc/{each}/net/unix").read_text().splitlines()]
        found |= {
            Listener("unix", row[7] if len(row) > 7 else "unnamed"): each
            for row in rows[1:]
            # SO_ACCEPTCON; a datagram socket (type 0002) takes from anybody who knows its name.
            if row[6] in inodes and (int(row[3], 16) & 0x10000 or (row[4] == "0002" and row[7:]))
        }
    return found


def told_at(daemon: PrivateDaemon) -> Listener:
    """The port of [metrics]."""
    port = int(daemon.listen.rpartition(":")[2])
    return Listener("tcp", f"{LOOPBACK}:{port:04X}")


class TestListeners:
    """All that can be connected to is the milter, and on loopback the engine and the port that
    tells how the daemon is."""

    @pytest.mark.parametrize("unix", [False, True], ids=["inet", "unix"])
    def test_the_milter_and_the_engine_alone(self, unix: bool) -> None:
        sections = {"llm": EMBEDDED, "search": {"provider": "ddgs"}}
        with PrivateDaemon(sections, unix=unix, environment=NOWHERE) as own:
            answer, _ = run(sent(own, LINKED))
            assert answer.final == "continue"
            assert len(family(own.pid)) >= 3, "the daemon, the engine, the searches"
            found = listeners(own.pid)
            if unix:
                milter = Listener("unix", own.address.removeprefix("unix:"))
            else:
                port = int(re.findall(r"inet:(\d+)@", own.address)[0])
                milter = Listener("tcp", f"{LOOPBACK}:{port:04X}")
            assert found.pop(milter) == own.pid
            assert found.pop(told_at(own)) == own.pid
            ((engine, holder),) = found.items()
            assert engine.kind == "tcp"
            assert engine.address.startswith(f"{LOOPBACK}:")
            assert holder != own.pid

    def test_with_a_model_server_the_milter_alone(self, daemon: PrivateDaemon) -> None:
        wait_until(lambda: told_at(daemon) in listeners(daemon.pid))
        (milter,) = set(listeners(daemon.pid)) - {told_at(daemon)}
        assert milter.address.startswith(f"{LOOPBACK}:")


# --- The engine without its key ---------------------------------------------------------------

OPEN = {"/", "/index.html", "/health", "/v1/health"}
"""What llama.cpp answers to anybody: that it lives, and (its pages being left out) 404."""

OF_THE_ENGINE = (
    *("/", "/index.html", "/bundle.js", "/health", "/v1/health", "/props", "/slots", "/slots/0"),
    *("/slots?fail_on_no_slot=1", "/slots/0?action=save", "/metrics", "/models", "/v1/models"),
    *("/api/tags", "/api/show", "/api/chat", "/completion", "/completions", "/v1/completions"),
    *("/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
    *("/v1/messages/count_tokens", "/tokenize", "/detokenize", "/apply-template", "/infill"),
    *("/embedding", "/embeddings", "/v1/embeddings", "/rerank", "/v1/rerank", "/reranking"),
    *("/lora-adapters", "/models/load", "/models/unload", "/cors-proxy", "/nonsense"),
    *("/V1/models", "//v1/models", "/v1/../v1/models", "/%76%31/models", "/health/../slots"),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MARK = "zymurgic"
"""A word of the mail."""


@dataclass(frozen=True)
class Served:
    """An engine that has read a mail: its port and its key."""

    port: int
    key: str = ""

    def ask(self, method: str, path: str, sent: Mapping[str, str]) -> tuple[int, bytes]:
        """The status of an answer, and all of its bytes that may tell something."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = json.dumps(QUESTION) if method in ("POST", "PUT", "PATCH") else None
        try:
            line.request(method, path, body, {"Content-Type": "application/json", **sent})
            reply = line.getresponse()
            return reply.status, str(reply.getheaders()).encode() + reply.read()
        finally:
            line.close()


QUESTION = {
    "messages": [{"role": "user", "content": f"What is {MARK}?"}],
    "prompt": MARK,
    "content": MARK,
    "input": MARK,
    "max_tokens": 2,
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The engine itself, as the daemon starts it: the daemon tells nobody its key."""
    loop = asyncio.new_event_loop()
    order = engines.plan(model="builtin", context_tokens=2_048, slots=1, threads=1)
    engine = engines.Engine(order)
    loop.run_until_complete(engine.start())
    try:
        (endpoint,) = engine.endpoints()
        port = int(re.findall(r"127\.0\.0\.1:(\d+)/v1", endpoint.base_url)[0])
        yield Served(port, endpoint.api_key)
    finally:
        loop.run_until_complete(engine.stop())
        loop.close()


class TestEngine:
    """Without its key the engine tells nothing and works for nobody."""

    def test_with_its_key_it_answers(self, served: Served) -> None:
        known = {"Authorization": f"Bearer {served.key}"}
        assert len(served.key) == 32
        assert served.ask("POST", "/v1/chat/completions", known)[0] == 200
        assert served.ask("GET", "/v1/models", known)[0] == 200

    @pytest.mark.parametrize("path", OF_THE_ENGINE)
    def test_without_it_every_path_is_shut(self, served: Served, path: str) -> None:
        served.ask("POST", "/v1/chat/completions", {"Authorization": f"Bearer {served.key}"})
        for method in METHODS:
            status, answer = served.ask(method, path, {})
            assert MARK.encode() not in answer
            assert served.key.encode() not in answer
            assert b".gguf" not in answer
            if method == "OPTIONS":  # what a browser asks first: no origin is allowed
                assert b"'Access-Control-Allow-Origin', ''" in answer
            elif path in OPEN:
                assert status in (200, 404)
                assert len(answer) < 500
            else:
                assert status == 401, (method, path)

    @pytest.mark.parametrize(
        "header",
        [
            ("Authorization", "Bearer wrong"),
            ("Authorization", "Bearer "),
            ("Authorization", "Bearer -"),
            ("Authorization", "Bearer {short}"),
            ("Authorization", "Bearer {key}0"),
            ("Authorization", "Bearer {key},{key}"),
            ("Authorization", "Basic {key}"),
            ("Authorization", "Bearer {wrong}"),
            ("X-Api-Key", "{wrong}"),
            ("Cookie", "api_key={key}"),
            ("X-Forwarded-For", "127.0.0.1"),
        ],
    )
    def test_nor_with_another(self, served: Served, header: tuple[str, str]) -> None:
        name, value = header
        key = served.key
        wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
        told = {name: value.format(key=key, short=key[:-1], wrong=wrong)}
        for path in ("/props", "/slots", "/v1/models", f"/v1/models?api_key={key}"):
            assert served.ask("GET", path, told)[0] == 401
        assert served.ask("POST", "/v1/chat/completions", told)[0] == 401
