"""Verdicts attacked where they are believed, in a real Rspamd behind a real Postfix and daemon:
near misses, what a sender writes to spoil his own verdict, hostile answers, and keys that rotate
while mail flows.

Which single forms and forgeries Rspamd refuses stands in test_plugin.py; forgeries against a daemon
that is down, late or killed are a row of the fault suite (bench/faults_trust.py).
"""

from __future__ import annotations

import contextlib
import email
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any

import pytest

from bench.milterclient import Envelope, Mail
from bench.stubanswers import Behaviour, verdict
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.chain.dns import NxDomainServer
from tests.chain.postfix import PrivatePostfix
from tests.chain.rspamd import PrivateRspamd
from tests.chain.test_chain import PLAIN, milters, ours, through
from tests.chain.test_plugin import assert_forged, scan, settled, with_verdict
from tests.chain.verdicts import HEADER, KEY, QUEUE_ID, key_id, sign
from tests.chain.verdicts import verdict as signed
from tests.test_serve import fields, run, sent

SECONDS = 60.0
"""For what happens in other processes: far more than it takes, as this machine may be busy."""

SPAM = {"LLM_SPAM": 4.7, "LLM_PHISHING": 3.0}
"""What the stub model's usual answer comes to."""


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(scope="module")
def chain(
    postfix_installed: None, rspamd: PrivateRspamd, stub: StubModel
) -> Iterator[PrivatePostfix]:
    with (
        PrivateDaemon({"llm": asking(stub)}, unix=True, keys=(KEY.hex(),)) as daemon,
        PrivatePostfix(milters(daemon, rspamd)) as started,
    ):
        yield started


@pytest.fixture(autouse=True)
def well_behaved(stub: StubModel) -> None:
    stub.set(Behaviour())


def asking(stub: StubModel) -> dict[str, Any]:
    return {"base_url": stub.base_url, "model": "stub"}


# --- Near misses ------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[str, int], str]] = {
    "left out": lambda text, at: text[:at] + text[at + 1 :],
    "twice": lambda text, at: text[: at + 1] + text[at:],
    "in the other case": lambda text, at: text[:at] + text[at].swapcase() + text[at + 1 :],
    "another": lambda text, at: text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :],
    "a blank before it": lambda text, at: f"{text[:at]} {text[at:]}",
}


class TestNearMisses:
    @pytest.mark.parametrize("change", CHANGES)
    def test_one_character_of_a_genuine_verdict(self, rspamd: PrivateRspamd, change: str) -> None:
        """Wherever it is: no part of the line is left unsigned or unread."""
        genuine = signed(c="phishing")
        assert "LLM_SPAM" in scan(rspamd, with_verdict(genuine)).names
        changed = {CHANGES[change](genuine, at) for at in range(len(genuine))} - {genuine}
        changed |= {f"{genuine}{more}" for more in (" ", ";", "x", "; x=1", f", {genuine}")}
        assert len(changed) > 40

        def told(value: str) -> tuple[str, dict[str, float]]:
            return value, scan(rspamd, with_verdict(value)).points

        with ThreadPoolExecutor(max_workers=4) as pool:
            believed = [
                value for value, points in pool.map(told, changed) if points != {"LLM_FORGED": 0.0}
            ]
        assert not believed

    def test_a_verdict_that_we_signed_in_another_form(self, rspamd: PrivateRspamd) -> None:
        """Each field left out, in another place, twice, spelled otherwise."""
        parts = signed().rpartition("; m=")[0].split("; ")
        assert len(parts) == 7
        forms = []
        for at, part in enumerate(parts):
            before, after = parts[:at], parts[at + 1 :]
            forms += [[*before, *after], [*before, part, part, *after]]
            forms += [
                [*before, other, *after] for other in (part.upper(), part.replace("=", " = "))
            ]
            forms += [[*before, f"{part[:2]}{part[2:]}\t", *after], [*before, f"({part})", *after]]
            if after:
                forms.append([*before, after[0], part, *after[1:]])
        for form in forms:
            assert_forged(scan(rspamd, with_verdict(sign("; ".join(form)))), "form")

    @pytest.mark.parametrize("st", ["skipped", "unscored"])
    def test_a_code_that_is_none_of_ours_gives_no_points(
        self, rspamd: PrivateRspamd, st: str
    ) -> None:
        found = scan(rspamd, with_verdict(signed(st=st, s="-", c="whatever")))
        assert set(found.points.values()) == {0.0}


# --- Senders who spoil their own verdict ------------------------------------------------------

OTHERS = signed(q="4AaBbCcDdEe", s="0.00").encode()
NAME = HEADER.encode()
SPOILERS: dict[str, bytes] = {
    "a blank before the colon": NAME + b" : " + OTHERS,
    "a tab before the colon": NAME + b"\t: " + OTHERS,
    "a NUL before the colon": NAME + b"\0: " + OTHERS,
    "a NUL before the name": b"\0" + NAME + b": " + OTHERS,
    "a NUL in the name": b"X-GPT\0-Verdict: " + OTHERS,
    "a control sign before the colon": NAME + b"\x0b: " + OTHERS,
    "a byte that is no UTF-8 before the name": b"\xff" + NAME + b": " + OTHERS,
    "a byte that is no UTF-8 behind the name": NAME + b"\xff: " + OTHERS,
    "a no-break space behind the name": NAME + b"\xc2\xa0: " + OTHERS,
    "a zero-width space in the name": b"X-GPT\xe2\x80\x8b-Verdict: " + OTHERS,
    "a soft hyphen for the hyphen": b"X\xc2\xadGPT\xc2\xadVerdict: " + OTHERS,
    "a carriage return before it": b"X-Other: a\r" + NAME + b": " + OTHERS,
    "two carriage returns before it": b"X-Other: a\r\r\n" + NAME + b": " + OTHERS,
    "a carriage return alone on its line": b"X-Other: a\r\n\r" + NAME + b": " + OTHERS,
    "a form feed before it": b"X-Other: a\x0c" + NAME + b": " + OTHERS,
    "a name in two lines": b"X-GPT-\r\n Verdict: " + OTHERS,
    "a colon in the next line": NAME + b"\r\n : " + OTHERS,
    "folded at once": NAME + b":\r\n " + OTHERS,
    "folded twice, once empty": NAME + b":\r\n \t\r\n " + OTHERS,
    "empty": NAME + b":",
    "twice, the second empty": NAME + b": " + OTHERS + b"\r\n" + NAME + b":",
    "a colon before the name": b":" + NAME + b": " + OTHERS,
    "an encoded word for a name": b"=?utf-8?q?X-GPT-Verdict?=: " + OTHERS,
    "a line without a colon before it": b"nonsense\r\n" + NAME + b": " + OTHERS,
    "a mailbox's From line before it": b"From a@b Mon Jan  1 00:00:00 2026\r\n" + NAME + b": x",
    "an empty line before it": b"\r\n" + NAME + b": " + OTHERS,
    "a blank before the name": b" " + NAME + b": " + OTHERS,
    "behind a long header": b"X-Other: " + b"a" * 120_000 + b"\r\n" + NAME + b": " + OTHERS,
    "very long": NAME + b": " + OTHERS + b"x" * 150_000,
    "200 times": (NAME + b": " + OTHERS + b"\r\n") * 199 + NAME + b": " + OTHERS,
    "a longer name": NAME + b"-2: " + OTHERS,
    "all our names": b"\r\n".join(
        b"X-GPT-" + name + b": 0.00" for name in (b"Status", b"Score", b"Category", b"Reason", b"M")
    ),
}
REST: dict[str, Callable[[bytes], bytes]] = {
    "in front": lambda lines: lines + b"\r\n" + PLAIN,
    "at the end": lambda lines: PLAIN.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n\r\n", 1),
}


class TestSpoilers:
    """While the daemon is up, nothing a sender writes changes what his verdict is worth."""

    @pytest.mark.parametrize("place", REST)
    @pytest.mark.parametrize("name", SPOILERS)
    def test_the_genuine_verdict_counts(self, chain: PrivatePostfix, name: str, place: str) -> None:
        mail = through(chain, REST[place](SPOILERS[name]))
        assert ours(mail) == SPAM
        assert mail.get_all(HEADER) is None
        for one in ("Status", "Score", "Category", "Reason", "Model"):
            assert len(mail.get_all(f"X-GPT-{one}", [])) == 1, one
        assert mail["X-GPT-Score"] == "0.97"

    def test_in_a_part_of_the_mail(self, chain: PrivatePostfix) -> None:
        part = b"Content-Type: message/rfc822\r\n" + NAME + b": " + OTHERS + b"\r\n\r\n"
        head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
        body = b"\r\n--b\r\n" + part + NAME + b": " + OTHERS + b"\r\n" + PLAIN + b"\r\n--b--\r\n"
        assert ours(through(chain, head + body)) == SPAM


# --- Answers of a model that works for the sender ---------------------------------------------

ANSWERS = [
    "Fine.\r\nX-GPT-Verdict: v=1\r\nX-GPT-Score: 0.00\r\n\r\nbody",
    "Fine.\n X-GPT-Score: 0.00",
    "Fine.\rX-GPT-Score: 0.00",
    "Fine.\0\x1b[2J\u2028X-GPT-Score: 0.00",
    "=?utf-8?b?DQpYLUdQVC1TY29yZTogMC4wMA==?=",
    "é" * 239 + "\r\nX-GPT-Score: 0.00",
    "Fine; c=none; s=0.00; m=" + "0" * 64,
    "X" * 5_000,
]


@pytest.mark.parametrize("reason", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_adds_no_header(chain: PrivatePostfix, stub: StubModel, reason: str) -> None:
    stub.set(Behaviour(answer=verdict(0.97, "phishing\r\nX-GPT-Score: 0.00", reason)))
    mail = through(chain, PLAIN)
    assert ours(mail) == {"LLM_SPAM": 4.7}, "an unknown category counts as none"
    names = Counter(name for name in mail if name.lower().startswith("x-gpt-"))
    told = ("Status", "Score", "Category", "Reason", "Model")
    assert names == {f"X-GPT-{name}": 1 for name in told}
    assert (mail["X-GPT-Score"], mail["X-GPT-Category"]) == ("0.97", "none")
    assert mail.get_payload() == "Hello Bob.\n"


# --- Keys that rotate -------------------------------------------------------------------------


class Stream:
    """Mail that flows through Postfix all the time, from two senders, and what became of it.

    Used by one thread, but for the senders.
    """

    def __init__(self, postfix: PrivatePostfix) -> None:
        self.outcomes: Counter[str] = Counter()
        self.sent = 0
        self._postfix = postfix
        self._ended = threading.Event()
        self._senders = [threading.Thread(target=self._send) for _ in range(2)]
        self._counting = threading.Lock()
        self._refused: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def flowing(cls, postfix: PrivatePostfix) -> Iterator[Stream]:
        """Ends with all of it delivered; fails if any of it was refused or is lost."""
        stream = cls(postfix)
        for sender in stream._senders:
            sender.start()
        try:
            yield stream
        finally:
            stream._ended.set()
            for sender in stream._senders:
                sender.join(SECONDS)
        assert not stream._refused
        stream._until(lambda: stream.outcomes.total() >= stream.sent)

    def scored(self, more: int) -> None:
        """Waits until so many more mails were scored."""
        self._collect()
        goal = self.outcomes["scored"] + more
        self._until(lambda: self.outcomes["scored"] >= goal)

    def _send(self) -> None:
        while not self._ended.wait(0.05):
            code, reply = self._postfix.send(PLAIN)
            with self._counting:
                self.sent += 1
                if code != 250:
                    self._refused.append(reply)

    def _until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, (self.sent, self.outcomes)
            time.sleep(0.05)
            self._collect()

    def _collect(self) -> None:
        for delivered in self._postfix.wait_delivered(100_000, timeout=0):
            self.outcomes[outcome(email.message_from_bytes(delivered))] += 1


def outcome(mail: Message) -> str:
    """What a mail came to: scored, or the symbol that says why it was not."""
    found = ours(mail)
    return "scored" if found == SPAM else " ".join(sorted(found))


def change_keys(rspamd: PrivateRspamd, *keys: bytes) -> None:
    """Writes the key file that both sides read, and waits until each of Rspamd's workers has."""

    def read() -> Counter[str]:
        return Counter(re.findall(r"#\d+\((\w+)\)[^\n]* read the keys in", rspamd.log()))

    workers = ("normal", "rspamd_proxy")
    before = read()
    rspamd.write_keys([key.hex() for key in keys])
    end = time.monotonic() + SECONDS
    while not all(read()[worker] > before[worker] for worker in workers):
        assert time.monotonic() < end, rspamd.log()[-2000:]
        time.sleep(0.05)


def signing(daemon: PrivateDaemon) -> str:
    """The ID of the key with which the daemon signs."""
    mail = Mail.parse(PLAIN)
    _, after = run(sent(daemon, mail, Envelope(macros={"i": QUEUE_ID})))
    return fields(after)["k"]


@pytest.fixture
def rotating(rspamd_installed: None, dns: NxDomainServer) -> Iterator[PrivateRspamd]:
    """A Rspamd of the test's own, with KEY; it looks at its key file as often as installed."""
    with PrivateRspamd(dns.port, keys=[KEY.hex()]) as own:
        yield own


def test_keys_rotate_under_load(
    postfix_installed: None, rotating: PrivateRspamd, stub: StubModel
) -> None:
    """In the order of docs/guide.md (Keys) no genuine verdict is ever refused, and none of the
    removed key is believed afterwards."""
    new = secrets.token_bytes(32)
    shared = {"key_file": str(rotating.key_file)}
    with (
        PrivateDaemon({"llm": asking(stub), "trust": shared}, unix=True) as daemon,
        PrivatePostfix(milters(daemon, rotating)) as postfix,
    ):
        with Stream.flowing(postfix) as stream:
            stream.scored(5)
            change_keys(rotating, KEY, new)
            stream.scored(5)
            assert signing(daemon) == key_id(KEY)
            change_keys(rotating, new, KEY)
            stream.scored(5)
            assert daemon.stop() == 0
            daemon.start()
            stream.scored(5)
            assert signing(daemon) == key_id(new)
            change_keys(rotating, new)
            stream.scored(5)
        assert stream.outcomes.keys() <= {"scored", "LLM_ABSENT", "LLM_UNSCORED"}
        assert stream.outcomes.total() == stream.sent
    settled(rotating, {"LLM_FORGED"}, lambda: with_verdict(signed(key=KEY)))
    assert_forged(scan(rotating, with_verdict(signed(key=KEY))), "key")
    assert scan(rotating, with_verdict(signed(key=new))).names == {"LLM_SPAM"}


def test_the_order_matters(
    postfix_installed: None, rotating: PrivateRspamd, stub: StubModel
) -> None:
    """A daemon that signs before Rspamd knows the key is not believed, until it does."""
    new = secrets.token_bytes(32)
    with (
        PrivateDaemon({"llm": asking(stub)}, unix=True, keys=(new.hex(),)) as daemon,
        PrivatePostfix(milters(daemon, rotating)) as postfix,
    ):
        assert ours(through(postfix, PLAIN)) == {"LLM_FORGED": 0.0}
        change_keys(rotating, KEY, new)
        assert ours(through(postfix, PLAIN)) == SPAM
