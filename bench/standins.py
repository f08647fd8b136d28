"""The world outside for a few domains: a DNS zone, a SearXNG and an RDAP server that agree.

    with StandIns.running(Domain(name="acme.example", address="192.0.32.9")) as world:
        with PrivateDaemon(world.settings(), environment=world.environment): ...
        ... world.zone, world.web, world.registry: what they were asked, and their faults ...

Used by the demonstration and by tests.  Each server is in a thread of its own; what it speaks, and
how it fails, is dnszone's, webstub's and rdapstub's.  Nothing of the daemon's own code may be
imported here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]

from bench import rdapstub, webstub
from bench.dnszone import DnsZone
from bench.rdapstub import RdapStub
from bench.webstub import Found, WebStub

__all__ = ["Domain", "Found", "StandIns", "signed"]

SUFFIXES = ("example", "test")
"""Those whose registry is the stand-in."""

SELECTOR = "demo"
_KEY = Path(__file__).resolve().parents[1] / "tests" / "data" / "dkim"
_PRIVATE, _PUBLIC = _KEY / "key.pem", _KEY / "key.txt"


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain as a registry, the web and DNS know it.

    `days` have passed since it was registered.  With an `address` it sends mail from there: the
    address has the reverse name mail.NAME, SPF allows it and no other, a key for `signed` is
    published, and so is a DMARC record where `dmarc` names a policy.  `bounces` is a name below it
    that envelope senders have too.  Without an address DNS does not know it.
    """

    name: str
    days: int = 4_000
    pages: Sequence[Found] = ()
    address: str = ""
    bounces: str = ""
    dmarc: str = ""

    def zone(self) -> str:
        """Its records."""
        if not self.address:
            return ""
        reverse = ipaddress.ip_address(self.address).reverse_pointer
        spf = f"TXT v=spf1 ip4:{self.address} -all"
        lines = [
            f"{self.name} MX 10 mail.{self.name}.",
            f"mail.{self.name} A {self.address}",
            f"{reverse} PTR mail.{self.name}.",
            f"{self.name} {spf}",
            f"{SELECTOR}._domainkey.{self.name} TXT {_PUBLIC.read_text(encoding='ascii')}",
        ]
        lines += [f"{self.bounces} {spf}"] if self.bounces else []
        lines += [f"_dmarc.{self.name} TXT v=DMARC1; p={self.dmarc}"] if self.dmarc else []
        return "\n".join(lines)


class StandIns:
    """The three servers."""

    def __init__(self, zone: DnsZone, web: WebStub, registry: RdapStub, folder: Path) -> None:
        self.zone = zone
        self.web = web
        self.registry = registry
        self._registered: dict[str, str] = {}
        self._registries = registry.write_bootstrap(folder / "registries.json", *SUFFIXES)
        self._authority = folder / "authority.pem"
        self.heal()

    @classmethod
    @contextlib.contextmanager
    def running(cls, *domains: Domain) -> Iterator[StandIns]:
        """The servers on free ports, with these domains."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standins-")))
            context, _ = rdapstub.certificate(folder)
            zone = stack.enter_context(DnsZone.running())
            web = stack.enter_context(WebStub.running())
            registry = stack.enter_context(RdapStub.running(context))
            world = cls(zone, web, registry, folder)
            for domain in domains:
                world.add(domain)
            yield world

    def add(self, domain: Domain) -> None:
        """One more domain."""
        self.zone.add(domain.zone())
        self.web.pages[domain.name] = domain.pages
        day = datetime.now(UTC) - timedelta(days=domain.days)
        self._registered[domain.name] = day.isoformat()

    def heal(self) -> None:
        """Ends the faults of all three."""
        self.zone.faults.clear()
        self.web.set(webstub.Behaviour())
        self.registry.set(rdapstub.Behaviour(domains=self._registered))

    def settings(self, **evidence: Any) -> dict[str, dict[str, Any]]:
        """The daemon's [evidence], with further settings of it, and [search]."""
        told = {
            "dns": True,
            "registration": True,
            "authentication": "auto",
            "nameservers": [self.zone.address],
            "registries": self._registries,
        }
        return {
            "evidence": told | evidence,
            "search": {"provider": "searxng", "url": self.web.url},
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon's environment needs, for it to trust the registry's certificate."""
        return {"SSL_CERT_FILE": str(self._authority)}


def signed(
    mail: bytes, domain: str, *, canonical: str = "relaxed/simple", names: Sequence[str] = ()
) -> bytes:
    """A mail with a DKIM signature by a domain; `names` are the fields that it covers, by default
    those that RFC 6376 5.4.1 recommends."""
    header, _, body = canonical.partition("/")
    signature: bytes = dkim.sign(
        mail,
        SELECTOR.encode(),
        domain.encode(),
        _PRIVATE.read_bytes(),
        canonicalize=(header.encode(), body.encode()),
        include_headers=[name.encode() for name in names] or None,
    )
    return signature + mail
