"""When the model is asked: a real daemon, its lists, its memory, whom its users know."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import campaigndata
from bench.milterclient import Envelope, Mail, MilterClient
from bench.stubanswers import Behaviour
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.waiting import wait_until

PROVEN = "mx.example.org; dmarc=pass header.from={domain}; spf=pass smtp.mailfrom={domain}"


@pytest.fixture
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


def settings(stub: StubModel, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {"authentication": "header", "trusted_authserv": ["mx.example.org"]}
    return {"llm": {"base_url": stub.base_url, "model": "stub"}, "evidence": found, **sections}


def mail(sender: str, text: str = "Hello", *, proof: str = "") -> Mail:
    lines = [f"Authentication-Results: {proof}"] if proof else []
    lines += [f"From: {sender}", "To: bob@example.org", f"Subject: {text}", "", text, ""]
    return Mail.parse("\r\n".join(lines).encode())


def proven(sender: str, text: str = "Hello") -> Mail:
    return mail(sender, text, proof=PROVEN.format(domain=sender.rpartition("@")[2]))


def sent(
    daemon: PrivateDaemon,
    one: Mail,
    *recipients: str,
    sender: str = "a@example.net",
    login: str = "",
) -> Mail:
    """A mail as it is after the daemon."""
    macros = {"i": "4XyZ1F2z3aB"} | (
        {"{auth_authen}": login, "{auth_type}": "PLAIN"} if login else {}
    )
    envelope = Envelope(sender, recipients or ("bob@example.org",), macros=macros)

    async def story() -> Mail:
        async with MilterClient.connect(daemon.address) as client:
            return client.applied(one, await client.send(one, envelope))

    return asyncio.run(story())


def status(one: Mail) -> str:
    (told,) = one.values("X-GPT-Status")
    return told


def cache(one: Mail) -> str:
    (told,) = one.values("X-GPT-Model")
    return told.rpartition("; cache=")[2]


class TestLists:
    def test_an_opt_out_counts_if_all_recipients_want_it(
        self, stub: StubModel, tmp_path: Path
    ) -> None:
        optout = tmp_path / "optout.txt"
        optout.write_text("bob@example.org\nprivate.example\n")
        with PrivateDaemon(settings(stub, gate={"optout_file": str(optout)})) as daemon:
            one = mail("a@example.net")
            assert status(sent(daemon, one, "bob@example.org")) == "skipped; optout"
            assert status(sent(daemon, one, "bob@example.org", "x@private.example")) == (
                "skipped; optout"
            )
            assert status(sent(daemon, one, "bob@example.org", "eve@example.org")) == "scored"
        assert stub.calls == 1

    def test_the_allow_list_wants_proof_and_is_re_read(
        self, stub: StubModel, tmp_path: Path
    ) -> None:
        allow = tmp_path / "allow.txt"
        allow.write_text("acme.example  # our landlord\n")
        with PrivateDaemon(settings(stub, gate={"allow_file": str(allow)})) as daemon:
            assert status(sent(daemon, proven("info@acme.example"))) == "skipped; allowlist"
            assert status(sent(daemon, proven("info@mail.acme.example"))) == "skipped; allowlist"
            assert status(sent(daemon, mail("info@acme.example"))) == "scored"
            assert status(sent(daemon, proven("info@other.example"))) == "scored"
            fresh = allow.with_suffix(".new")
            fresh.write_text("other.example\n")
            fresh.replace(allow)
            wait_until(
                lambda: status(sent(daemon, proven("info@other.example"))) != "scored", pause=0.1
            )
            assert status(sent(daemon, proven("info@acme.example"))) == "scored"


class TestMemory:
    STORE = "sqlite://{folder}/store.db"

    def remembering(self, stub: StubModel, folder: Path) -> dict[str, dict[str, Any]]:
        url = self.STORE.format(folder=folder)
        return settings(stub, store={"url": url, "verdict_ttl": 3600})

    def test_one_call_for_a_campaign_also_after_the_daemon_was_killed(
        self, stub: StubModel, tmp_path: Path
    ) -> None:
        copies = campaigndata.copies(6)
        with PrivateDaemon(self.remembering(stub, tmp_path)) as daemon:
            told = [sent(daemon, one.mail, one.recipient) for one in copies[:4]]
            assert [cache(one) for one in told] == ["miss", "hit", "hit", "hit"]
            assert {one.values("X-GPT-Score")[0] for one in told} == {"0.97"}
            assert {one.values("X-GPT-Reason")[0] for one in told} == {"It asks for a password."}
            # What was answered is written soon after: nobody waits for a disk.
            wait_until(lambda: (tmp_path / "store.db-wal").stat().st_size > 0)
            time.sleep(0.2)
            daemon.stop(signal.SIGKILL)
            daemon.start()
            assert cache(sent(daemon, copies[4].mail, copies[4].recipient)) == "hit"
        assert stub.calls == 1

    def test_copies_that_come_together_wait_for_one(self, stub: StubModel, tmp_path: Path) -> None:
        stub.set(Behaviour(latency=1.0))

        async def together(daemon: PrivateDaemon) -> list[str]:
            async def one(copy: campaigndata.Copy) -> str:
                envelope = Envelope(recipients=(copy.recipient,), macros={"i": "4XyZ1F2z3aB"})
                async with MilterClient.connect(daemon.address) as client:
                    return cache(client.applied(copy.mail, await client.send(copy.mail, envelope)))

            return list(await asyncio.gather(*map(one, campaigndata.copies(30))))

        with PrivateDaemon(self.remembering(stub, tmp_path)) as daemon:
            told = asyncio.run(together(daemon))
        assert sorted(told) == ["joined"] * 29 + ["miss"]
        assert stub.calls == 1

    def test_another_sender_or_proof_is_asked_about(self, stub: StubModel, tmp_path: Path) -> None:
        with PrivateDaemon(self.remembering(stub, tmp_path)) as daemon:
            told = [
                cache(sent(daemon, one))
                for one in (
                    mail("a@acme.example"),
                    mail("a@acme.example"),
                    mail("a@other.example"),
                    proven("a@acme.example"),
                )
            ]
        assert told == ["miss", "hit", "miss", "miss"]

    def test_a_failure_is_not_remembered(self, stub: StubModel, tmp_path: Path) -> None:
        stub.set(Behaviour(fault="html"))
        with PrivateDaemon(self.remembering(stub, tmp_path)) as daemon:
            assert status(sent(daemon, mail("a@acme.example"))) == "unscored; model-invalid"
            stub.set(Behaviour())
            assert cache(sent(daemon, mail("a@acme.example"))) == "miss"


class TestCorrespondents:
    FACT = "The recipient has written to this address before, and it is authenticated"

    def test_whom_a_user_wrote_to_is_a_fact_for_the_model(
        self, stub: StubModel, tmp_path: Path
    ) -> None:
        store = {"url": f"sqlite://{tmp_path}/store.db"}
        gate = {"learn_correspondents": True}

        def told(daemon: PrivateDaemon, one: Mail) -> bool:
            assert status(sent(daemon, one)) == "scored"
            return self.FACT in stub.requests[-1].body["messages"][-1]["content"]

        with PrivateDaemon(settings(stub, store=store, gate=gate)) as daemon:
            assert not told(daemon, proven("carol@acme.example"))
            outgoing = mail("bob@example.org", "Hello Carol")
            sent(daemon, outgoing, "carol@acme.example", sender="bob@example.org", login="bob")
            wait_until(lambda: told(daemon, proven("carol@acme.example")))
            assert not told(daemon, mail("carol@acme.example")), "proves nothing"
            assert not told(daemon, proven("dave@acme.example")), "was not written to"
            log = daemon.log()
        assert "carol" not in log
        assert b"carol" not in b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
