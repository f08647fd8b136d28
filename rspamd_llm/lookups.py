"""[evidence] and [search] -> a Gatherer with its sources, ready to work.

The adapters of evidence/ are put together here.  What may not live here: decisions.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

from rspamd_llm import domains
from rspamd_llm.breaker import Breaker
from rspamd_llm.config import Config
from rspamd_llm.counters import Counters
from rspamd_llm.domain import (
    Authentication,
    ConfigError,
    DomainRecords,
    EvidenceError,
    Message,
    Page,
    Registration,
    Source,
)
from rspamd_llm.evidence import authentication, authresults, pages, records, registration
from rspamd_llm.evidence import search as searches
from rspamd_llm.evidence.ddgs_engine import Ddgs, check_backends
from rspamd_llm.evidence.dns import Dns
from rspamd_llm.evidence.engines import Brave, Searxng
from rspamd_llm.evidence.fetch import Fetcher
from rspamd_llm.evidence.gather import Gatherer, Sources
from rspamd_llm.evidence.pace import Pace
from rspamd_llm.evidence.privacy import Privacy
from rspamd_llm.evidence.registration import Rdap
from rspamd_llm.evidence.remembered import Remembered
from rspamd_llm.evidence.search import Engine, Search
from rspamd_llm.health import SourceHealth
from rspamd_llm.store import Store

HOUR, DAY = 3_600.0, 86_400.0

DNS_SECONDS = 3.0
"""Seconds for one DNS query: two tries, as resolvers that must ask around need one at most."""

AUTHENTICATION_SECONDS = 8.0
"""Seconds for SPF, DKIM, DMARC and ARC together: chains of a few queries each."""

REGISTRATION_SECONDS = 8.0
"""Seconds for a registry: slow ones take 2, and the list of registries comes before the first."""

SEARCHES = {"ddgs": 2.0, "brave": 10.0, "searxng": 10.0}
"""Queries a second in the long run, after a burst of 30.  Engines ban those who ask them for more
without an account; Brave's plans and a server of one's own take more."""

FAILURES_OF_MANY, PAUSE_OF_MANY = 50, 5.0
"""Failures in a row, and seconds of pause, of a source whose servers belong to the domains asked
about, or are chosen by them: a sender can break his own on purpose, and shall not keep others' mail
from being looked up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What looks things up: belongs to the asyncio loop that started it."""

    gatherer: Gatherer
    sources: tuple[Remembered[Any], ...]
    """Those that are looked up by domain and switched on."""
    dns: Dns
    fetcher: Fetcher
    engine: Engine | None
    rdap: Rdap | None

    def use(self, api_key: str) -> None:
        """Searches with this key from now on, where the engine wants one."""
        if isinstance(self.engine, Brave):
            self.engine.use(api_key)

    def health(self) -> tuple[SourceHealth, ...]:
        """How each source is."""
        return tuple(
            SourceHealth(name=source.source.value, is_well=source.state == "ok")
            for source in self.sources
        )

    async def stop(self) -> None:
        """Ends what is under way, and closes connections."""
        await self.gatherer.stop()
        if self.engine is not None:
            await self.engine.close()
        await self.fetcher.close()


async def start(config: Config, *, api_key: str, store: Store, counters: Counters) -> Lookups:
    """Starts the sources that are switched on; what they find is kept in `store`.

    Raises ConfigError.
    """
    dns = Dns(config.evidence.nameservers, seconds=DNS_SECONDS)
    fetcher = Fetcher(dns.addresses)
    try:
        rdap = None
        if config.evidence.registration:
            rdap = Rdap(
                fetcher=fetcher,
                store=store,
                bootstrap_file=config.evidence.registries,
                seconds=REGISTRATION_SECONDS,
            )
        engine = await _engine(config, fetcher, api_key)
    except ConfigError:
        await fetcher.close()
        raise
    search = None
    if engine is not None:
        search = Search(
            engine=engine,
            max_results=config.search.max_results,
            seconds=config.search.timeout,
            store=store,
            max_per_day=config.search.max_per_day,
            counters=counters,
        )
    sources = _sources(
        config,
        dns,
        functools.partial(Remembered[Any], store=store, counters=counters),
        rdap,
        search,
    )
    gatherer = Gatherer(
        sources=sources,
        privacy=Privacy(own=frozenset(map(domains.registered_domain, config.evidence.own_domains))),
        counters=counters,
        timeout=config.evidence.timeout,
        max_searches=config.search.max_domains,
    )
    return Lookups(
        gatherer=gatherer,
        sources=tuple(
            one
            for one in (sources.records, sources.registration, sources.web)
            if isinstance(one, Remembered)
        ),
        dns=dns,
        fetcher=fetcher,
        engine=engine,
        rdap=rdap,
    )


async def _engine(config: Config, fetcher: Fetcher, api_key: str) -> Engine | None:
    match config.search.provider:
        case "searxng":
            return Searxng(fetcher, config.search.url)
        case "brave":
            return Brave(fetcher, api_key, config.search.url)
        case "ddgs":
            try:
                faults = await check_backends(config.search.backends)
            except EvidenceError as error:
                _log.warning("web searches will fail: %s", error)
                faults = ()
            if faults:
                raise ConfigError(tuple(f"search.backends: {fault}" for fault in faults))
            return Ddgs(config.search.backends)
    return None


def _sources(
    config: Config,
    dns: Dns,
    remembered: functools.partial[Remembered[Any]],
    rdap: Rdap | None,
    search: Search | None,
) -> Sources:
    web = _web(config, remembered, search) if search is not None else None
    registrations: Remembered[Registration | None] | None = None
    if rdap is not None:
        registrations = remembered(
            source=Source.REGISTRATION,
            look_up=rdap.look_up,
            encode=registration.encode,
            decode=registration.decode,
            is_nothing=lambda found: found is None or not found.found,
            seconds=REGISTRATION_SECONDS,
            ttl=7 * DAY,
            ttl_nothing=HOUR,
            breaker=_lenient(Source.REGISTRATION),
            pace=Pace(per_second=10, burst=60, at_once=16),
        )
    domain_records: Remembered[DomainRecords] | None = None
    if config.evidence.dns:
        domain_records = remembered(
            source=Source.DNS,
            look_up=functools.partial(records.domain_records, dns),
            encode=records.encode,
            decode=records.decode,
            is_nothing=lambda found: not found.exists,
            seconds=2 * DNS_SECONDS,
            ttl=HOUR,
            ttl_nothing=HOUR / 6,
            breaker=_lenient(Source.DNS),
            pace=Pace(per_second=100, burst=400, at_once=100),
        )
    asks = config.evidence.authentication == "auto"
    told = config.evidence.authentication != "off"
    trusted = frozenset(config.evidence.trusted_authserv)
    return Sources(
        authenticate=functools.partial(_authenticate, dns, trusted, asks) if told else None,
        prefetch=functools.partial(_prefetch, dns, trusted) if asks else None,
        reverse=functools.partial(records.reverse_name, dns) if config.evidence.dns else None,
        records=domain_records,
        registration=registrations,
        web=web,
        is_web_scarce=(lambda: search.is_scarce) if search is not None else None,
        web_name=functools.partial(_named, web) if web and config.search.names else None,
    )


def _web(
    config: Config, remembered: functools.partial[Remembered[Any]], search: Search
) -> Remembered[tuple[Page, ...]]:
    return remembered(
        source=Source.WEB,
        look_up=functools.partial(_searched, search),
        encode=pages.encode,
        decode=pages.decode,
        is_nothing=lambda found: not found,
        # One query, and the control query that a silence calls for.
        seconds=2 * config.search.timeout,
        ttl=3 * DAY,
        ttl_nothing=6 * HOUR,
        breaker=Breaker(Source.WEB.value),
        pace=Pace(per_second=SEARCHES[config.search.provider], burst=30, at_once=8),
        admit=search.admit,
    )


def _lenient(source: Source) -> Breaker:
    return Breaker(
        source.value,
        failures=FAILURES_OF_MANY,
        pause=PAUSE_OF_MANY,
        longest_pause=6 * PAUSE_OF_MANY,
    )


async def _authenticate(
    dns: Dns, trusted: frozenset[str], asks: bool, message: Message, from_domain: str
) -> Authentication | None:
    """What trusted hosts told, and by our own check, where that is wanted, what they left out."""
    told = authresults.told(message.data, trusted, from_domain) if trusted else None
    if not asks or (told is not None and authresults.is_full(told)):
        return told
    own = await authentication.authenticate(message, from_domain, dns, AUTHENTICATION_SECONDS)
    return own if told is None else authresults.completed(told, own)


async def _prefetch(dns: Dns, trusted: frozenset[str], head: Message, from_domain: str) -> None:
    told = authresults.told(head.data, trusted, from_domain) if trusted else None
    if told is None or not authresults.is_full(told):
        await authentication.prefetch(head, from_domain, dns)


async def _named(web: Remembered[tuple[Page, ...]], name: str, domain: str) -> tuple[Page, ...]:
    """What is known of a display name with a domain; both make the key, which a blank parts.

    Nothing where nothing is left of the name that may be sent.
    """
    public = searches.public_name(name)
    return await web.get(f"{public} {domain}") if public else ()


async def _searched(search: Search, key: str) -> tuple[Page, ...]:
    name, _, domain = key.rpartition(" ")
    return await (search.look_up_name(name, domain) if name else search.look_up(domain))
