"""Rspamd's history beside ours: where it did the opposite of what the model said.

Plain values and functions.  What may not live here: how Rspamd's history is read
(rspamdhistory.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from rspamd_llm.rspamdhistory import RspamdHistory, RspamdScan
from rspamd_llm.summary import Judged, cleaned, says

CONTRADICTIONS = 1_000
"""Contradictions that are kept, the latest; all are counted."""

QUEUE_SECONDS = 900.0
"""Between our verdict and Rspamd's line for the same queue ID: a verdict is valid for as long, and
Postfix may use a short queue ID again after some minutes."""

CLAIM_SECONDS = 5.0
"""Between our verdict and Rspamd's row with the same score, which has no queue ID: Rspamd is asked
as soon as we have answered, and two mails within so short a time may have the same score."""

DELIVERED = "no action"
STOPPED = frozenset(("reject", "add header", "rewrite subject", "quarantine", "discard"))
"""Rspamd's actions that let a mail pass, and that keep it from the inbox.  `greylist` and
`soft reject` put the answer off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A mail of which the model says one thing while Rspamd did the other."""

    at: float | None
    queue_id: str
    """Empty where Rspamd does not tell, and no single verdict of ours fits."""
    says: str
    """What the model says: `unwanted` or `wanted`."""
    score: float | None
    category: str
    domain: str
    action: str
    points: float
    limit: float | None
    grounds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Rspamd's history beside ours."""

    mails: int
    """In Rspamd's history, within the span."""
    compared: int
    """Of these, those of which the model's score is known."""
    unread: int
    begins: float | None
    """Its oldest mail of all, in Unix seconds."""
    absent: int
    """Mails without our verdict."""
    refused: int
    """Mails whose verdict our plugin did not believe: LLM_FORGED."""
    count: int
    contradictions: tuple[Contradiction, ...]


def compare(
    history: RspamdHistory, scored: Sequence[Judged], since: float, until: float
) -> Contrast:
    """Where Rspamd did the opposite of what the model said, from `since` to before `until`.

    `scored` is in the order of time.  Scans are matched with it by queue ID where Rspamd tells it.
    Where it does not, its own symbols say what the model said, and the queue ID is added if just
    one verdict of that moment fits.
    """
    ours = _Ours(scored)
    mails = compared = 0
    found: list[Contradiction] = []
    within = []
    for scan in history.scans:
        judged = ours.of(scan)
        at = scan.at if scan.at is not None or judged is None else judged.at
        if at is None or not since <= at < until:
            continue
        within.append(scan)
        mails += 1
        score = judged.score if judged is not None else scan.claimed_score
        said = scan.claim if score is None else says(score)
        compared += bool(said)
        if _differs(said, scan.action):
            found.append(_contradiction(scan, judged, at, said, score))
    found.sort(key=lambda one: one.at or 0.0)
    times = [scan.at for scan in history.scans if scan.at is not None]
    return Contrast(
        mails=mails,
        compared=compared,
        unread=history.unread,
        begins=min(times, default=None),
        absent=sum(scan.is_absent for scan in within),
        refused=sum(scan.is_forged for scan in within),
        count=len(found),
        contradictions=tuple(found[-CONTRADICTIONS:]),
    )


def _differs(said: str, action: str) -> bool:
    if said == "unwanted":
        return action == DELIVERED
    return said == "wanted" and action in STOPPED


def _contradiction(
    scan: RspamdScan, judged: Judged | None, at: float, said: str, score: float | None
) -> Contradiction:
    return Contradiction(
        at=at,
        queue_id=cleaned(judged.queue_id if judged is not None else scan.queue_id),
        says=said,
        score=score,
        category=judged.category if judged is not None else cleaned(scan.category),
        domain=judged.domain if judged is not None else "",
        action=cleaned(scan.action),
        points=scan.score,
        limit=scan.limit,
        grounds=tuple(map(cleaned, scan.grounds)),
    )


class _Ours:
    """Our verdicts, to be found by what Rspamd tells of them."""

    def __init__(self, scored: Iterable[Judged]) -> None:
        self._by_queue: dict[str, list[Judged]] = defaultdict(list)
        self._by_score: dict[float, list[Judged]] = defaultdict(list)
        for judged in scored:
            self._by_queue[judged.queue_id].append(judged)
            self._by_score[round(judged.score, 2)].append(judged)

    def of(self, scan: RspamdScan) -> Judged | None:
        """The verdict that a scan of Rspamd's belongs to, where that is beyond doubt."""
        if scan.queue_id:
            return self._by_queue_id(cleaned(scan.queue_id), scan.at)
        if scan.claimed_score is None or scan.at is None:
            return None
        alike = self._by_score.get(scan.claimed_score, [])
        low = bisect_left(alike, scan.at - CLAIM_SECONDS, key=attrgetter("at"))
        high = bisect_right(alike, scan.at + CLAIM_SECONDS, key=attrgetter("at"))
        fitting = [one for one in alike[low:high] if _same_category(one, scan)]
        return fitting[0] if len(fitting) == 1 else None

    def _by_queue_id(self, queue_id: str, at: float | None) -> Judged | None:
        same = self._by_queue.get(queue_id, [])
        if at is None:
            return same[0] if len(same) == 1 else None
        nearest = min(same, key=lambda one: abs(one.at - at), default=None)
        is_near = nearest is not None and abs(nearest.at - at) <= QUEUE_SECONDS
        return nearest if is_near else None


def _same_category(judged: Judged, scan: RspamdScan) -> bool:
    """The plugin tells a category only with LLM_SPAM, and writes it with underscores."""
    return scan.claim != "unwanted" or judged.category.replace("-", "_") == scan.category
