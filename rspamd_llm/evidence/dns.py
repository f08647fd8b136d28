"""DNS: a name and a type -> Answer, within a time, each question asked once.

The only importer of dnspython; its errors become EvidenceError here, once.  What may not live
here: what a record means (records.py, spf.py, dmarc.py, dkim.py).

Lives in one asyncio loop.  Names are asked as they are given: no search list, no addition.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.resolver

from rspamd_llm.domain import EvidenceError
from rspamd_llm.evidence.names import is_name

PORT = 53
"""Where name servers listen, RFC 1035 4.2."""

TRY_SECONDS = 1.5
"""Seconds until a server is asked again, or the next: a lost packet leaves time for one more."""

EDNS_BYTES = 1_232
"""Bytes of a UDP answer: fits the least IPv6 packet, so that none is fragmented (DNS flag day
2020); longer ones come over TCP."""

UNDER_WAY = 200
"""Queries at once.  Each takes a socket, and a process often has 1,024 descriptors."""

KEPT = 5_000
"""Answers kept: at 500 bytes for a common one 3 MB, hostile ones 40 MB."""

KEPT_CHARACTERS = 8_192
"""Of an answer that is kept: a big company has 4,000 in TXT records beside its SPF."""

VALUES = 200
"""Records in an answer: more is not for mail (SPF ends at 10 names, RFC 7208 4.6.4)."""

SHORTEST, LONGEST = 5.0, 3_600.0
"""Seconds that an answer is kept, whatever its TTL says: mail of one burst asks once, and a
repaired record is seen within the hour."""

UNTOLD = 60.0
"""Seconds that we keep what is not there, where no SOA says for how long (RFC 2308 5)."""

RESOLV_CONF = Path("/etc/resolv.conf")
"""Where the system's name servers are written, read once."""

SYSTEM_SERVERS = 3
"""Name servers taken of resolv.conf(5), as its MAXNS has it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS says of a name and type.  `exists` is False for a name that is not there."""

    exists: bool
    values: tuple[str, ...] = ()
    """TXT with its strings joined, one character for each byte (Latin-1); MX as `10 host.`; A and
    AAAA as addresses; PTR as `host.`"""


class _Flight:
    """A query under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Answer | EvidenceError]) -> None:
        self.task = task
        self.askers = 0


class Dns:
    """Asks the system's name servers, or those given, and remembers what they say."""

    def __init__(self, nameservers: Sequence[str] = (), *, seconds: float = 3.0) -> None:
        """`seconds` bound a query from first to last.  Raises ValueError for a bad server name."""
        servers = [nameserver(entry) for entry in nameservers]
        self._resolver = _resolver(servers or system_nameservers())
        self._seconds = seconds
        self._slots = asyncio.Semaphore(UNDER_WAY)
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._kept: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    async def query(self, name: str, kind: str) -> Answer:
        """The answer for a name and a type: A, AAAA, MX, PTR or TXT.

        Raises EvidenceError where none came: silence, SERVFAIL, nonsense, aliases without end; and
        for a name that cannot be one, without asking.
        """
        asked = _labels(name)
        key = (".".join(asked), kind)
        kept = self._kept.get(key)
        if kept and time.monotonic() < kept[0]:
            return kept[1]
        flight = self._flights.get(key)
        if flight is None:
            task = asyncio.create_task(self._fly(key, asked))
            flight = self._flights[key] = _Flight(task)
        flight.askers += 1
        try:
            outcome = await asyncio.shield(flight.task)
        finally:
            flight.askers -= 1
            if not flight.askers and not flight.task.done():
                flight.task.cancel()
                self._land(key, flight.task)
        if isinstance(outcome, EvidenceError):
            raise EvidenceError(str(outcome))
        return outcome

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, IPv4 first.  Raises EvidenceError where either did not answer;
        where only one did and has some, these."""
        answers = await asyncio.gather(
            self.query(host, "A"), self.query(host, "AAAA"), return_exceptions=True
        )
        found: list[str] = []
        for answer in answers:
            if isinstance(answer, Answer):
                found += answer.values
        failed = next((each for each in answers if isinstance(each, BaseException)), None)
        if failed and not found:
            raise failed
        return tuple(found)

    async def _fly(self, key: tuple[str, str], labels: list[str]) -> Answer | EvidenceError:
        """Errors are values here: nobody may be left who waits for them."""
        try:
            async with asyncio.timeout(self._seconds), self._slots:
                answer, seconds = await self._ask(labels, key[1])
        except TimeoutError:
            return EvidenceError("DNS did not answer in time")
        except EvidenceError as error:
            return error
        else:
            self._keep(key, answer, seconds)
            return answer
        finally:
            self._land(key, asyncio.current_task())

    def _land(self, key: tuple[str, str], task: asyncio.Task[Any] | None) -> None:
        """Takes a query off the list; a later one for the same question stays."""
        if key in self._flights and self._flights[key].task is task:
            del self._flights[key]

    async def _ask(self, labels: list[str], kind: str) -> tuple[Answer, float]:
        """The answer, and for how many seconds it holds."""
        name = dns.name.Name([*(label.encode("ascii") for label in labels), b""])
        try:
            found = await self._resolver.resolve(
                name, kind, search=False, raise_on_no_answer=False, lifetime=self._seconds
            )
        except dns.resolver.NXDOMAIN as error:
            return Answer(exists=False), _absence(error.response(name))  # type: ignore[no-untyped-call]
        except dns.exception.Timeout:
            raise EvidenceError("DNS did not answer in time") from None
        except dns.exception.DNSException as error:
            raise EvidenceError(f"DNS gave no answer ({type(error).__name__})") from error
        if found.response.flags & dns.flags.TC:
            raise EvidenceError("DNS gave no whole answer")  # which dnspython takes for an answer
        if found.rrset is None:
            if found.chaining_result.cnames and not found.response.authority:
                raise EvidenceError("DNS answered with an alias that leads nowhere")
            return Answer(exists=True), _absence(found.response)
        if len(found.rrset) > VALUES:
            raise EvidenceError("DNS answered with far too many records")
        values = tuple(_text(each) for each in found.rrset)
        return Answer(exists=True, values=values), float(found.chaining_result.minimum_ttl)

    def _keep(self, key: tuple[str, str], answer: Answer, seconds: float) -> None:
        if sum(map(len, answer.values)) > KEPT_CHARACTERS:
            return
        until = time.monotonic() + min(max(seconds, SHORTEST), LONGEST)
        self._kept[key] = (until, answer)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def nameserver(entry: str) -> tuple[str, int]:
    """Address and port of `IP`, `IP:port` or `[v6]:port`.  Raises ValueError for anything else."""
    match = re.fullmatch(r"\[([^]]+)\](?::(\d{1,5}))?|([^:]+):(\d{1,5})", entry, re.ASCII)
    address, port = entry, PORT
    if match:
        address = match[1] or match[3]
        port = int(match[2] or match[4] or PORT)
    if not 0 < port < 65_536:
        raise ValueError(f"{entry!r} has no usable port")
    return str(ipaddress.ip_address(address)), port


def _resolver(servers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
    made.use_edns(0, 0, EDNS_BYTES)
    made.timeout = TRY_SECONDS
    return made


def system_nameservers(path: Path = RESOLV_CONF) -> list[tuple[str, int]]:
    """The servers of resolv.conf(5), and as it has it this machine's where it names none.

    dnspython's own reader gives up on a bad search list, of which nothing is wanted here.
    """
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    found.append(nameserver(words[1]))
    return found[:SYSTEM_SERVERS] or [("127.0.0.1", PORT)]


def _labels(name: str) -> list[str]:
    """The labels of a name in lower case.  Raises EvidenceError for what is no name."""
    if not is_name(name):
        raise EvidenceError("not a name that DNS can know")
    return name.lower().removesuffix(".").split(".")


def _absence(response: dns.message.QueryMessage) -> float:
    """Seconds for which nothing is there."""
    if not any(each.rdtype == dns.rdatatype.SOA for each in response.authority):
        return UNTOLD
    return float(response.resolve_chaining().minimum_ttl)


def _text(rdata: dns.rdata.Rdata) -> str:
    if rdata.rdtype == dns.rdatatype.TXT:
        return b"".join(rdata.strings).decode("latin-1")  # type: ignore[attr-defined]
    return rdata.to_text()
