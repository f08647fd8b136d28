"""The sources put together as the configuration says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.standins import Domain, Found, StandIns
from rspamd_llm import config, lookups
from rspamd_llm.counters import Counters
from rspamd_llm.domain import ConfigError, Deadline, Envelope, Evidence, Facts, Mail, Message
from rspamd_llm.store import MemoryStore, Store, open_store

SENT = Message(
    envelope=Envelope(client_address="192.0.32.9", sender="a@acme.example"), data=b"", size=0
)
FACTS = Facts(sender_domain="acme.example")
ACME = Domain(
    name="acme.example",
    address="192.0.32.9",
    pages=(Found("Acme", "https://acme.example/", "acme.example lets homes"),),
)
OFF = {"evidence": {"dns": False, "registration": False, "authentication": "off"}}


def gathered(document: dict[str, Any], mail: Mail, store: Store | None = None) -> Evidence:
    async def story() -> Evidence:
        kept = store or MemoryStore()
        made = await lookups.start(
            config.parse(document), api_key="", store=kept, counters=Counters()
        )
        try:
            return await made.gatherer.inquire(SENT, mail, FACTS, Deadline.after(60)).evidence()
        finally:
            await made.stop()
            await kept.close()

    return asyncio.run(story())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    with StandIns.running(ACME) as running:
        monkeypatch.setenv("SSL_CERT_FILE", running.environment["SSL_CERT_FILE"])
        yield running


def test_a_display_name_is_searched_only_where_that_is_wanted(world: StandIns) -> None:
    mail = Mail(from_name="Acme Letting", from_address="info@acme.example")
    gathered(world.settings(), mail)
    assert [query.words for query in world.web.queries] == ["acme.example"]
    world.web.queries.clear()
    named = world.settings()
    named["search"]["names"] = True
    world.web.pages["Acme Letting acme.example"] = ACME.pages
    assert gathered(named, mail).named
    assert {query.words for query in world.web.queries} == {
        "acme.example",
        "Acme Letting acme.example",
    }


@pytest.mark.parametrize("name", ["", "info@acme.example", "+49 170 1234567890"])
def test_a_name_of_which_nothing_may_be_sent_is_no_second_search(
    world: StandIns, name: str
) -> None:
    named = world.settings()
    named["search"]["names"] = True
    found = gathered(named, Mail(from_name=name, from_address="info@acme.example"))
    assert [query.words for query in world.web.queries] == ["acme.example"]
    assert found.named == ()


def test_answers_are_remembered_in_the_store_by_the_daemon_alone(
    world: StandIns, tmp_path: Path
) -> None:
    kept = tmp_path / "store.db"
    settings = world.settings()
    mail = Mail(from_address="info@acme.example")
    gathered(settings, mail)
    assert not kept.exists()  # a command of root's would leave files that the daemon cannot write
    gathered(settings, mail, open_store(f"sqlite://{kept}"))
    asked = len(world.web.queries), len(world.registry.requests)
    again = gathered(settings, mail, open_store(f"sqlite://{kept}"))
    assert (len(world.web.queries), len(world.registry.requests)) == asked
    assert again.web["acme.example"]
    assert again.registrations["acme.example"].found


def test_names_of_engines_that_do_not_exist_refuse_the_start() -> None:
    wrong = OFF | {"search": {"provider": "ddgs", "backends": ["mojeek", "altavista"]}}
    with pytest.raises(ConfigError) as caught:
        gathered(wrong, Mail())
    (fault,) = caught.value.faults
    assert fault.startswith("search.backends: 'altavista' is no engine of ddgs")


def test_a_list_of_registries_that_is_none_refuses_the_start(tmp_path: Path) -> None:
    file = tmp_path / "registries.json"
    file.write_text("[]")
    evidence = {"registration": True, "registries": str(file)}
    with pytest.raises(ConfigError, match="registries"):
        gathered({"evidence": evidence, "search": {"provider": "none"}}, Mail())
