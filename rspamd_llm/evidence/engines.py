"""Search engines with an API: a SearXNG of the operator's own, and Brave's.

Each knows one API's form.  What may not live here: HTTP (fetch.py) and what results are worth
(search.py, pages.py).  No error text holds a query or a key.
"""

from __future__ import annotations

from typing import Any

from rspamd_llm.domain import EvidenceError, Page
from rspamd_llm.evidence import pages
from rspamd_llm.evidence.fetch import Fetcher, Reply

BRAVE = "https://api.search.brave.com/res/v1/web/search"


class Searxng:
    """A SearXNG server, by its base URL.

    Its API: https://docs.searxng.org/dev/search_api.html.
    """

    def __init__(self, fetcher: Fetcher, url: str) -> None:
        self._fetcher = fetcher
        self._url = url.rstrip("/") + "/search"

    async def search(self, query: str, seconds: float) -> tuple[Page, ...]:
        """See search.Engine."""
        reply = await self._fetcher.json(
            self._url, public=False, seconds=seconds, params={"q": query, "format": "json"}
        )
        if reply.status == 403:
            raise EvidenceError("SearXNG refuses: JSON is not enabled in its search.formats")
        document = _object(_document("SearXNG", reply), "SearXNG")
        found = _pages(document.get("results"), "content", "SearXNG")
        if not found and document.get("unresponsive_engines"):
            raise EvidenceError("engines of SearXNG did not answer it")
        return found

    async def close(self) -> None:
        """Nothing to end: the connections are the Fetcher's."""


class Brave:
    """Brave's Web Search API, or with a URL a server that speaks it."""

    def __init__(self, fetcher: Fetcher, key: str, url: str = "") -> None:
        self._fetcher = fetcher
        self._key = key
        self._url = url or BRAVE
        self._public = not url

    def use(self, key: str) -> None:
        """Shows this key from now on."""
        self._key = key

    async def search(self, query: str, seconds: float) -> tuple[Page, ...]:
        """See search.Engine."""
        reply = await self._fetcher.json(
            self._url,
            public=self._public,
            seconds=seconds,
            # Unless told not to, it corrects a domain's spelling and searches for another one's.
            params={"q": query, "count": str(pages.PAGES_LIMIT), "spellcheck": "false"},
            headers={"X-Subscription-Token": self._key},
        )
        if reply.status in (401, 403, 422):
            raise EvidenceError(f"Brave refuses the key or the request (status {reply.status})")
        document = _object(_document("Brave", reply), "Brave")
        if document.get("type") != "search":
            raise EvidenceError("the answer is not in the form of Brave's API")
        # Where it found nothing, there is no `web`.
        web = _object(document.get("web", {"results": []}), "Brave")
        return _pages(web.get("results"), "description", "Brave")

    async def close(self) -> None:
        """Nothing to end: the connections are the Fetcher's."""


def _document(who: str, reply: Reply) -> object:
    if reply.status == 429:
        raise EvidenceError(f"{who} has had too many queries (status 429)")
    if reply.status != 200:
        raise EvidenceError(f"{who} answered with status {reply.status}")
    return reply.document


def _object(value: object, who: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EvidenceError(f"the answer is not in the form of {who}'s API")
    return value


def _pages(results: object, text: str, who: str) -> tuple[Page, ...]:
    """Pages of an API's results, each with `title`, `url` and a text under the name given.

    Results of other kinds (answers, maps) lack one or the other and are left out.  Where none of
    them is usable, the API is not the one that we know.
    """
    if not isinstance(results, list):
        raise EvidenceError(f"the answer is not in the form of {who}'s API")
    found = []
    for entry in results[: pages.PAGES_LIMIT]:
        if not isinstance(entry, dict):
            continue
        title, url, words = entry.get("title"), entry.get("url"), entry.get(text) or ""
        if isinstance(title, str) and isinstance(url, str) and isinstance(words, str):
            found.append(pages.page(title, url, words))
    usable = tuple(one for one in found if one is not None)
    if results and not usable:
        raise EvidenceError(f"no result is in the form of {who}'s API")
    return usable
