"""DNS over real sockets: what is asked, kept and refused; records of domains and addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.dnszone import DnsZone
from rspamd_llm.domain import DomainRecords, EvidenceError, ReverseName
from rspamd_llm.evidence import dns as dns_module
from rspamd_llm.evidence import records
from rspamd_llm.evidence.dns import Answer, Dns, nameserver, system_nameservers
from rspamd_llm.evidence.names import is_name

T = TypeVar("T")

LONG = 20.0
"""Seconds that nothing here takes, however busy the machine is."""

ZONE = """
example.test MX 10 mail.example.test
example.test MX 20 mail2.example.test
example.test TXT v=spf1 mx -all
example.test TXT something else
mail.example.test A 192.0.2.1
mail.example.test AAAA 2001:db8::1
www.example.test CNAME mail.example.test
long.test TXT {long}
1.2.0.192.in-addr.arpa PTR mail.example.test
""".format(long="0123456789" * 60)

FAULTS = ("servfail", "refused", "cnames", "alias", "cut")
SILENT_FAULTS = ("silence", "wrong-id", "wrong-name", "garbage")


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(LONG):
            return await work

    return asyncio.run(bounded())


def ask(zone: DnsZone, name: str, kind: str, *, seconds: float = LONG) -> Answer:
    async def work() -> Answer:
        return await Dns([zone.address], seconds=seconds).query(name, kind)

    return run(work())


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "kind", "values"),
        [
            ("example.test", "MX", {"10 mail.example.test.", "20 mail2.example.test."}),
            ("EXAMPLE.test.", "TXT", {"v=spf1 mx -all", "something else"}),
            ("mail.example.test", "A", {"192.0.2.1"}),
            ("mail.example.test", "AAAA", {"2001:db8::1"}),
            ("www.example.test", "A", {"192.0.2.1"}),
            ("1.2.0.192.in-addr.arpa", "PTR", {"mail.example.test."}),
            ("long.test", "TXT", {"0123456789" * 60}),
        ],
    )
    def test_each_kind_has_its_form(self, name: str, kind: str, values: set[str]) -> None:
        with DnsZone.running(ZONE) as zone:
            answer = ask(zone, name, kind)
        assert answer.exists
        assert set(answer.values) == values

    def test_what_is_not_there_and_what_has_none_of_a_kind_differ(self) -> None:
        with DnsZone.running(ZONE) as zone:
            assert ask(zone, "other.test", "A") == Answer(exists=False)
            assert ask(zone, "example.test", "A") == Answer(exists=True)

    def test_a_text_keeps_its_bytes(self) -> None:
        with DnsZone.running('bytes.test TXT caf\xe9 \x01\xff\\"') as zone:
            assert ask(zone, "bytes.test", "TXT").values == ('caf\xe9 \x01\xff\\"',)

    def test_no_search_list_is_added(self) -> None:
        with DnsZone.running() as zone:
            ask(zone, "single", "A")
            assert list(zone.asked) == [("single", "A")]

    def test_addresses_are_of_both_families(self) -> None:
        with DnsZone.running(ZONE) as zone:
            found = run(Dns([zone.address]).addresses("mail.example.test"))
        assert found == ("192.0.2.1", "2001:db8::1")

    def test_addresses_of_a_broken_name_are_an_error(self) -> None:
        with DnsZone.running(faults={"*": "servfail"}) as zone, pytest.raises(EvidenceError):
            run(Dns([zone.address]).addresses("mail.example.test"))


class TestOnce:
    def test_fifty_at_once_are_one_query(self) -> None:
        async def work(dns: Dns) -> list[Answer]:
            return await asyncio.gather(*(dns.query("Example.test", "MX") for _ in range(50)))

        with DnsZone.running(ZONE, latency=0.05) as zone:
            answers = run(work(Dns([zone.address], seconds=LONG)))
            assert list(zone.asked) == [("example.test", "MX")]
        assert len({*answers}) == 1

    def test_an_answer_is_kept(self) -> None:
        assert self._queries_of_three(ttl=300) == 1

    def test_also_that_there_is_none(self) -> None:
        assert self._queries_of_three(ttl=300, name="other.test") == 1

    def test_no_longer_than_its_time_to_live(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns_module, "SHORTEST", 0.0)
        assert self._queries_of_three(ttl=0) == 3
        assert self._queries_of_three(ttl=0, name="other.test") == 3

    def test_nothing_without_a_word_on_how_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns_module, "SHORTEST", 0.0)
        with DnsZone.running(ZONE, faults={"*": "no-soa"}) as zone:
            assert self._times(zone, "other.test", "MX", 3) == 1
            assert self._times(zone, "example.test", "A", 3) == 1

    def test_but_for_a_burst_of_mail(self) -> None:
        assert self._queries_of_three(ttl=0) == 1

    def test_nor_longer_than_an_hour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns_module, "SHORTEST", 0.0)
        monkeypatch.setattr(dns_module, "LONGEST", 0.0)
        assert self._queries_of_three(ttl=2**31 - 1) == 3

    def test_an_error_is_not_kept(self) -> None:
        async def work(dns: Dns, zone: DnsZone) -> Answer:
            with pytest.raises(EvidenceError):
                await dns.query("example.test", "MX")
            zone.faults.clear()
            return await dns.query("example.test", "MX")

        with DnsZone.running(ZONE, faults={"*": "servfail"}) as zone:
            assert run(work(Dns([zone.address], seconds=LONG), zone)).values

    def test_the_oldest_makes_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns_module, "KEPT", 2)

        async def work(dns: Dns) -> None:
            for name in ("a.test", "b.test", "c.test", "b.test", "a.test"):
                await dns.query(name, "A")

        with DnsZone.running() as zone:
            run(work(Dns([zone.address], seconds=LONG)))
            assert [name for name, _ in zone.asked] == ["a.test", "b.test", "c.test", "a.test"]

    def test_a_very_long_answer_is_not_kept(self) -> None:
        with DnsZone.running(f"long.test TXT {'x' * 9_000}") as zone:
            self._times(zone, "long.test", "TXT", 2)
            assert zone.over_tcp == 2

    def test_queries_at_once_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns_module, "UNDER_WAY", 3)

        async def work(dns: Dns) -> None:
            await asyncio.gather(*(dns.query(f"n{i}.test", "A") for i in range(12)))

        with DnsZone.running(latency=0.02) as zone:
            run(work(Dns([zone.address], seconds=LONG)))
            assert len(zone.asked) == 12
            assert zone.peak <= 3

    def _queries_of_three(self, *, ttl: int, name: str = "example.test") -> int:
        with DnsZone.running(ZONE, ttl=ttl) as zone:
            return self._times(zone, name, "MX", 3)

    def _times(self, zone: DnsZone, name: str, kind: str, times: int) -> int:
        """How many queries so many questions in turn make."""

        async def work(dns: Dns) -> None:
            for _ in range(times):
                await dns.query(name, kind)

        run(work(Dns([zone.address], seconds=LONG)))
        return zone.count(name, kind)


class TestCancelling:
    def test_one_who_leaves_leaves_the_others_their_answer(self) -> None:
        async def work(dns: Dns) -> Answer:
            first = asyncio.create_task(dns.query("example.test", "MX"))
            second = asyncio.create_task(dns.query("example.test", "MX"))
            await asyncio.sleep(0.05)
            first.cancel()
            return await second

        with DnsZone.running(ZONE, latency=0.2) as zone:
            assert run(work(Dns([zone.address], seconds=LONG))).values
            assert zone.count("example.test", "MX") == 1

    def test_the_last_who_leaves_ends_the_query(self) -> None:
        async def work(dns: Dns, zone: DnsZone) -> Answer:
            asked = [asyncio.create_task(dns.query("example.test", "MX")) for _ in range(2)]
            while not zone.asked:  # noqa: ASYNC110 - it is another loop's
                await asyncio.sleep(0.005)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            zone.faults.clear()
            return await dns.query("example.test", "MX")

        with DnsZone.running(ZONE, faults={"*": "silence"}) as zone:
            assert run(work(Dns([zone.address], seconds=LONG), zone)).values
            assert zone.count("example.test", "MX") == 2


class TestBadServers:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_is_an_error_at_once(self, fault: str) -> None:
        with DnsZone.running(ZONE, faults={"*": fault}) as zone, pytest.raises(EvidenceError):
            ask(zone, "example.test", "TXT", seconds=LONG)

    @pytest.mark.parametrize("fault", SILENT_FAULTS)
    def test_what_is_no_answer_is_none(self, fault: str) -> None:
        begun = time.monotonic()
        with DnsZone.running(ZONE, faults={"*": fault}) as zone, pytest.raises(EvidenceError):
            ask(zone, "example.test", "TXT", seconds=0.2)
        assert time.monotonic() - begun < LONG / 2

    def test_a_slow_server_is_not_waited_for(self) -> None:
        with DnsZone.running(ZONE, latency=LONG) as zone, pytest.raises(EvidenceError):
            ask(zone, "example.test", "TXT", seconds=0.2)

    def test_a_truncated_answer_comes_over_tcp(self) -> None:
        with DnsZone.running(ZONE, faults={"*": "truncated"}) as zone:
            assert ask(zone, "example.test", "TXT").values
            assert zone.over_tcp == 1

    def test_an_answer_without_measure_is_refused(self) -> None:
        many = "\n".join(f"many.test A 10.0.{i // 250}.{i % 250}" for i in range(500))
        with DnsZone.running(many) as zone, pytest.raises(EvidenceError):
            ask(zone, "many.test", "A")

    def test_a_port_where_nobody_listens_is_an_error(self) -> None:
        with DnsZone.running() as zone:
            pass
        with pytest.raises(EvidenceError):
            ask(zone, "example.test", "A", seconds=1.0)

    def test_the_next_server_answers_for_one_that_does_not(self) -> None:
        with (
            DnsZone.running(faults={"*": "servfail"}) as broken,
            DnsZone.running(ZONE) as sound,
        ):
            dns = Dns([broken.address, sound.address], seconds=LONG)
            assert run(dns.query("example.test", "MX")).values
            assert broken.asked

    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "a..test",
            ".test",
            "a b.test",
            "a\x00.test",
            "a\\.test",
            "caf\xe9.test",
            "\uff45xample.test",
            f"{'a' * 64}.test",
            ".".join(["a" * 60] * 5),
            "192.0.2.1",
            "a\n.test",
        ],
    )
    def test_what_is_no_name_is_not_asked_for(self, name: str) -> None:
        assert not is_name(name)
        with DnsZone.running() as zone:
            with pytest.raises(EvidenceError):
                ask(zone, name, "A")
            assert not zone.asked

    def test_the_longest_name_is_one(self) -> None:
        name = ".".join(["a" * 63] * 3 + ["b" * 61])
        assert len(name) == 253
        with DnsZone.running() as zone:
            assert not ask(zone, name + ".", "A").exists


class TestServers:
    @pytest.mark.parametrize(
        ("entry", "server"),
        [
            ("192.0.2.1", ("192.0.2.1", 53)),
            ("192.0.2.1:5353", ("192.0.2.1", 5353)),
            ("2001:db8::1", ("2001:db8::1", 53)),
            ("[2001:db8::1]", ("2001:db8::1", 53)),
            ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ],
    )
    def test_an_entry(self, entry: str, server: tuple[str, int]) -> None:
        assert nameserver(entry) == server

    @pytest.mark.parametrize(
        "entry", ["", "ns.test", "192.0.2.1:0", "192.0.2.1:65536", "[::1", "1"]
    )
    def test_a_bad_entry_is_refused(self, entry: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            Dns([entry])

    def test_the_systems(self, tmp_path: Path) -> None:
        file = tmp_path / "resolv.conf"
        file.write_text(
            "# comment\nsearch corp..test\nnameserver 192.0.2.1\nnameserver junk\nnameserver\n"
            "nameserver 2001:db8::1\noptions ndots:5\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
        )
        assert system_nameservers(file) == [
            ("192.0.2.1", 53),
            ("2001:db8::1", 53),
            ("192.0.2.2", 53),
        ]

    @pytest.mark.parametrize("text", [None, "", "nameserver junk\n"])
    def test_this_machine_where_the_system_names_none(
        self, tmp_path: Path, text: str | None
    ) -> None:
        file = tmp_path / "resolv.conf"
        if text is not None:
            file.write_text(text)
        assert system_nameservers(file) == [("127.0.0.1", 53)]


# --- Records --------------------------------------------------------------------------------


def domain_records(zone: DnsZone, domain: str) -> DomainRecords:
    async def work() -> DomainRecords:
        return await records.domain_records(Dns([zone.address], seconds=LONG), domain)

    return run(work())


class TestDomainRecords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", DomainRecords(exists=False)),
            ("sub.example.test A 192.0.2.1", DomainRecords(exists=True)),
            ("example.test MX 10 mx.test", DomainRecords(exists=True, mail=True)),
            ("example.test MX 0 .", DomainRecords(exists=True)),
            ("example.test A 192.0.2.1", DomainRecords(exists=True, mail=True)),
            ("example.test AAAA 2001:db8::1", DomainRecords(exists=True, mail=True)),
            ("example.test TXT v=spf1 -all", DomainRecords(exists=True, spf=True)),
            ("example.test TXT V=SPF1", DomainRecords(exists=True, spf=True)),
            ("example.test TXT v=spf10 -all", DomainRecords(exists=True)),
            (
                "_dmarc.example.test TXT v=DMARC1; p=quarantine",
                DomainRecords(exists=True, dmarc="quarantine"),
            ),
            (
                "_dmarc.example.test TXT v=DMARC1; p=reject\n"
                "_dmarc.example.test TXT v=DMARC1; p=none",
                DomainRecords(exists=True),
            ),
        ],
    )
    def test_of_a_zone(self, text: str, expected: DomainRecords) -> None:
        with DnsZone.running(text) as zone:
            assert domain_records(zone, "example.test") == expected

    def test_addresses_are_asked_for_only_where_there_is_no_mx(self) -> None:
        with DnsZone.running(ZONE) as zone:
            domain_records(zone, "example.test")
            assert sorted(zone.asked) == [
                ("_dmarc.example.test", "TXT"),
                ("example.test", "MX"),
                ("example.test", "TXT"),
            ]

    def test_a_part_that_is_missing_is_an_error(self) -> None:
        faults = {"_dmarc.example.test": "servfail"}
        with DnsZone.running(ZONE, faults=faults) as zone, pytest.raises(EvidenceError):
            domain_records(zone, "example.test")

    def test_they_can_be_stored(self) -> None:
        for each in (
            DomainRecords(exists=False),
            DomainRecords(exists=True, spf=True, dmarc="none"),
        ):
            assert records.decode(records.encode(each)) == each

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            {},
            {"exists": True},
            {"exists": 1, "mail": False, "spf": False, "dmarc": ""},
            {"exists": True, "mail": False, "spf": False, "dmarc": "maybe"},
            {"exists": True, "mail": False, "spf": False, "dmarc": None},
            {"exists": True, "mail": False, "spf": False, "dmarc": "", "more": 1},
        ],
    )
    def test_nothing_else_is_read_back(self, data: object) -> None:
        with pytest.raises(ValueError, match=r"domain records|DMARC"):
            records.decode(data)


def reverse_name(zone: DnsZone, address: str) -> ReverseName | None:
    return run(records.reverse_name(Dns([zone.address], seconds=LONG), address))


class TestReverseName:
    PTR = "44.33.22.11.in-addr.arpa PTR "

    def test_confirmed(self) -> None:
        text = f"{self.PTR}other.test\n{self.PTR}Mail.test\nmail.test A 11.22.33.44"
        with DnsZone.running(text) as zone:
            found = reverse_name(zone, "11.22.33.44")
        assert found == ReverseName(name="mail.test", confirmed=True)

    def test_of_version_6(self) -> None:
        pointer = "1." + "0." * 23 + "0.0.6.8.4.0.6.2.ip6.arpa"
        text = f"{pointer} PTR mail.test\nmail.test AAAA 2604:8600:0:0::1"
        with DnsZone.running(text) as zone:
            found = reverse_name(zone, "2604:8600::1")
        assert found == ReverseName(name="mail.test", confirmed=True)

    def test_a_name_that_leads_elsewhere_is_unconfirmed(self) -> None:
        with DnsZone.running(f"{self.PTR}bank.test\nbank.test A 11.22.33.45") as zone:
            assert reverse_name(zone, "11.22.33.44") == ReverseName(name="bank.test")

    def test_no_name(self) -> None:
        with DnsZone.running() as zone:
            assert reverse_name(zone, "11.22.33.44") == ReverseName()

    def test_of_many_names_few_are_tried(self) -> None:
        text = "\n".join(f"{self.PTR}n{i}.test" for i in range(20))
        with DnsZone.running(text) as zone:
            reverse_name(zone, "11.22.33.44")
            assert len(zone.asked) == 1 + records.NAMES

    def test_a_name_that_is_none_is_not_tried(self) -> None:
        with DnsZone.running(f"{self.PTR}a\\032b.test") as zone:
            assert reverse_name(zone, "11.22.33.44") == ReverseName()
            assert len(zone.asked) == 1

    def test_no_answer_is_no_word_against_the_name(self) -> None:
        zone_text = f"{self.PTR}mail.test\nmail.test A 11.22.33.44"
        with (
            DnsZone.running(zone_text, faults={"mail.test": "servfail"}) as zone,
            pytest.raises(EvidenceError),
        ):
            reverse_name(zone, "11.22.33.44")

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fe80::1", "", "junk"])
    def test_our_own_networks_are_not_asked_about(self, address: str) -> None:
        with DnsZone.running() as zone:
            assert reverse_name(zone, address) is None
            assert not zone.asked
