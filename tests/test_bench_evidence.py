"""The benchmark of evidence, with little of everything.  No timing is judged here."""

from __future__ import annotations

import asyncio
import json
from datetime import date

import pytest

from bench import evidence, evidencedata
from bench.report import Measure
from rspamd_llm.domain import Evidence, Facts, Registration
from rspamd_llm.evidence.dns import Dns


def test_everything_is_measured_and_each_domain_is_asked_about_once() -> None:
    told = evidence.run(mails=2, at_once=5, checks=2, latency=0.02)
    assert len({measure.name for measure in told}) == len(told)
    assert all(measure.value > 0 for measure in told)
    new = [measure.value for measure in told if measure.most == evidence.NEW_MOST]
    assert min(new) >= 20
    limits = [measure.most for measure in told if measure.most is not None]
    assert sorted(limits) == [1, 1, 1, 5, 5, 250, 350, 350]
    # Three searches, four registrations, and what the checks of one sender take.
    once = [measure for measure in told if measure.most == evidence.QUERIES_MOST]
    assert [measure.value for measure in once] == [1, 1, 1]
    assert "3 questions to web" in once[1].name
    assert "4 questions to registry" in once[2].name


def test_a_second_query_is_seen() -> None:
    name = evidencedata.names_of(0)[0]
    with evidence.World.running(1, 0.0) as world:
        for _ in range(2):
            dns = Dns(world.settings["evidence"]["nameservers"], seconds=20.0)
            assert asyncio.run(dns.query(name, "MX")).values
        assert world.asked().dns == {(name, "MX"): 2}
        assert not world.asked().dns


def test_what_evidence_costs_is_counted_whole() -> None:
    facts = Facts(sender_domain="acme.example")
    little = evidence.added(Evidence(), facts)
    registered = {"acme.example": Registration(found=True, created=date(2001, 2, 3))}
    assert 0 < little < evidence.added(Evidence(registrations=registered), facts)
    costs = [evidence.added(*piece) for piece in evidencedata.pieces(100)]
    assert min(costs) < 160
    assert max(costs) > 200


def test_a_mail_of_the_size_wanted() -> None:
    one = evidencedata.story(7, size=evidence.SIGNED_SIZE)
    assert 0 <= one.message.size - evidence.SIGNED_SIZE < 2_000
    assert one.facts.sender_domain == one.domains[0]
    assert one.facts.link_domains == one.domains[1:]


def test_the_machine_stands_in_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = [Measure("a new mail", 351, "ms", most=evidence.NEW_MOST)]
    monkeypatch.setattr(evidence, "run", lambda: missed)
    assert evidence.main([]) == 1
    assert "cores" in capsys.readouterr().out
    assert evidence.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["measures"][0]["met"] is False
