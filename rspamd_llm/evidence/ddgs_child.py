"""ddgs's own process: web searches that can be killed without harm to the daemon.

Run as `python -m rspamd_llm.evidence.ddgs_child` by ddgs_engine.py.  The only importer of ddgs.
It says in one line of JSON what engines ddgs has, then answers a line with a line, several at a
time, each in a thread, and ends when standard input does.

    {"id": 1, "query": "example.com", "engines": ["mojeek"], "seconds": 3.0}
    {"id": 1, "results": [{"title": "...", "href": "...", "body": "..."}]}
    {"id": 1, "fault": "mojeek refused"}

It uses ddgs's engines one by one and not its class DDGS.  That one asks all engines when a name is
wrong, drops what comes late as if nothing had been found, and tells a refusal (a ban) from an
empty page of results in no way; an engine itself returns None for any status but 200.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddgs.base import BaseSearchEngine

RESULTS = 20
"""Results of one answer: twice what an engine's first page has."""

TITLE, HREF, BODY = 200, 500, 500
"""Characters of each; JSON takes 12 bytes for one at worst, so an answer is below 300 kB."""

MEMORY = 1 << 29
"""Bytes of data that this process may have: at rest it has 15 MB, with 8 searches at once 50 MB,
and an answer of 11 MB of results takes 330 MB.  ddgs reads an answer whole, however long it is;
beyond this bound a search fails, or the process dies."""


def main() -> None:
    """Serves until standard input ends."""
    # The terminal's Ctrl-C goes to the whole process group; the daemon decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The daemon blocks these for libmilter's sake, and children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    # A library that prints must not garble our answers.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    import ddgs  # noqa: PLC0415  takes its time
    from ddgs.engines import ENGINES  # noqa: PLC0415

    engines = ENGINES["text"]
    _say(replies, {"version": ddgs.__version__, "engines": sorted(engines)})
    for line in sys.stdin:
        order = json.loads(line)
        threading.Thread(target=_answer, args=(order, engines, replies), daemon=True).start()
    # Threads of searches under way keep nobody waiting.
    os._exit(0)


_speaking = threading.Lock()


def _say(replies: IO[str], message: Mapping[str, Any]) -> None:
    with _speaking:
        replies.write(json.dumps(message) + "\n")
        replies.flush()


def _answer(
    order: Mapping[str, Any],
    engines: Mapping[str, type[BaseSearchEngine[Any]]],
    replies: IO[str],
) -> None:
    """Asks the engines in turn, each for a share of the time left, until one has results."""
    end = time.monotonic() + order["seconds"]
    faults = []
    names = order["engines"]
    for position, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - position)
        try:
            results = _results(engines[name], order["query"], share)
        # ddgs lets through what its parsers raise; texts of its own errors hold the query.
        except Exception as error:  # noqa: BLE001
            faults.append(f"{name} failed with {type(error).__name__}")
            continue
        if results:
            _say(replies, {"id": order["id"], "results": results})
            return
        if results is None:
            faults.append(f"{name} refused")
    if faults:
        _say(replies, {"id": order["id"], "fault": "; ".join(faults)})
    else:
        _say(replies, {"id": order["id"], "results": []})


def _results(
    engine: type[BaseSearchEngine[Any]], query: str, seconds: float
) -> list[dict[str, str]] | None:
    """What one engine found; None where it refused.  Raises anything."""
    if seconds <= 0:
        raise TimeoutError
    # A new one each time: an engine keeps what it knows of its query in itself.
    asked = engine(proxy=os.environ.get("DDGS_PROXY"), timeout=seconds)  # type: ignore[arg-type]
    # No engine's front page is anywhere else, and a redirect could lead into our own network.
    asked.http_client.client.follow_redirects = False
    results = asked.search(query)
    if results is None:
        return None
    return [
        {"title": one.title[:TITLE], "href": one.href[:HREF], "body": one.body[:BODY]}
        for one in results[:RESULTS]
        if one.title and one.href
    ]


if __name__ == "__main__":
    main()
