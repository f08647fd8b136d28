"""What the web knows of a domain: one engine asked with care.

An engine is asked for a registered domain and nothing else, so many times a day, and its "nothing"
is doubted.  What may not live here: how an engine is spoken to (engines.py, ddgs_engine.py), what
its words become (pages.py), memory and breakers (remembered.py), and who may be asked about
(privacy.py).
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Protocol

from rspamd_llm.counters import Counters
from rspamd_llm.domain import EvidenceError, Page
from rspamd_llm.evidence import pages
from rspamd_llm.evidence.pace import RefusedError
from rspamd_llm.store import Store

BELIEVED = 600.0
"""Seconds after a result for which an engine's "nothing" is believed; bans last longer."""

SILENT = 60.0
"""Seconds after a control query without a result until the next: each may prolong a ban."""

CONTROL = "wikipedia.org"
"""A domain that every engine knows of, and that tells nothing of any mail."""

LINKS_SHARE = 0.8
"""Share of a day's queries that links may use, so that senders' domains still get theirs."""

DAY_KEPT = 2 * 86_400.0
"""Seconds that a day's count is kept: past its end in every time zone."""

NAME_LIMIT = 60
"""Characters of a display name in a query; names of firms are shorter."""

_DAY = "search-day"
# From 5 digits on, grouped or not: years and house numbers stay, those of phones and cards go.
_NUMBER = re.compile(r"\d(?:[\s./()+-]{0,3}\d){4,}")
_ADDRESS = re.compile(r"\S*@\S*")
_NO_NAME = re.compile(r"[^\w\s&'.-]|_")


class Engine(Protocol):
    """A search engine, or a service that asks several.  Lives in one asyncio loop."""

    async def search(self, query: str, seconds: float) -> tuple[Page, ...]:
        """What it found, as pages.page makes it, best first; empty: it answered, with nothing.

        Raises EvidenceError, also where nothing came within `seconds`.  Its text holds no query.
        """
        ...

    async def close(self) -> None:
        """Ends what it has under way."""
        ...


class Search:
    """Looks domains up on the web, at most `max_per_day` times a day (UTC)."""

    def __init__(
        self,
        *,
        engine: Engine,
        max_results: int,
        seconds: float,
        store: Store,
        max_per_day: int,
        counters: Counters,
    ) -> None:
        self._engine = engine
        self._max_results = max_results
        self._seconds = seconds
        self._store = store
        self._max_per_day = max_per_day
        self._used = 0
        self._counters = counters
        self._heard = float("-inf")
        self._silent = float("-inf")
        self._controlling = asyncio.Lock()

    async def admit(self, first: bool) -> None:
        """Counts one query of today; `first` for a sender's domain.

        To be called before `look_up` and `look_up_name`.  Raises RefusedError at the day's cap,
        which is lower for links.
        """
        limit = self._max_per_day if first else int(self._max_per_day * LINKS_SHARE)
        today = datetime.now(UTC).date().isoformat()
        self._used = await self._store.add(_DAY, today, 1, DAY_KEPT)
        if self._used > limit:
            # Taken back: refused links would else use up what is kept for senders.
            await self._store.add(_DAY, today, -1, DAY_KEPT)
            self._counters.add("search_refused", reason="day" if first else "day-links")
            raise RefusedError("today's searches are used up")

    @property
    def is_scarce(self) -> bool:
        """Whether half of today's searches are used up, so that each should be worth it."""
        return self._used > self._max_per_day / 2

    async def look_up(self, domain: str) -> tuple[Page, ...]:
        """What the web says of a registered domain, cleaned and cut; empty: it knows nothing.

        Raises EvidenceError.
        """
        found = await self._asked(domain, "domain")
        return self._shown(pages.about(found, domain))

    async def look_up_name(self, name: str, domain: str) -> tuple[Page, ...]:
        """The same of a sender's display name, searched with its registered domain.

        Addresses and long numbers in the name are not sent.  Raises EvidenceError.
        """
        public = public_name(name)
        found = await self._asked(f"{public} {domain}".strip(), "name")
        return self._shown(pages.about(found, domain, public))

    def _shown(self, found: list[Page]) -> tuple[Page, ...]:
        return tuple(pages.shown(one) for one in found[: self._max_results])

    async def _asked(self, query: str, purpose: str) -> tuple[Page, ...]:
        """What the engine found.  Raises EvidenceError if its "nothing" cannot be believed."""
        found = await self._ask(query, purpose)
        if not found:
            await self._control()
        return found

    async def _ask(self, query: str, purpose: str) -> tuple[Page, ...]:
        self._counters.add("search_queries", purpose=purpose)
        found = await self._engine.search(query, self._seconds)
        if found:
            self._heard = time.monotonic()
        return found

    async def _control(self) -> None:
        """Makes sure that the engine finds things: a ban looks like a web that knows nothing."""
        async with self._controlling:
            if time.monotonic() - self._heard < BELIEVED:
                return
            if time.monotonic() - self._silent >= SILENT:
                await self.admit(first=True)
                if await self._ask(CONTROL, "control"):
                    return
                self._silent = time.monotonic()
            raise EvidenceError("the engine finds nothing at all: it may have banned us")


def public_name(name: str) -> str:
    """A display name as it may be searched: no address, no long number, no sign of a query."""
    name = _ADDRESS.sub(" ", pages.clean(name))
    name = _NO_NAME.sub(" ", _NUMBER.sub(" ", name))
    return " ".join(name.split())[:NAME_LIMIT].strip(" &'.-")
