"""What a span of time comes to: records in, numbers out.

Plain values and functions.  All that senders chose is cleaned here, once, for every reader.  What
may not live here: whether that is well (well.py), and what Rspamd did (contrast.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rspamd_llm.records import HAM, SPAM, Record

LISTED = 10
"""Senders that are listed: what is read in a mail from cron."""

NAME_LIMIT = 40
"""Characters of a name that is shown, so that a line has room for two and some numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A From domain: how many of its scored mails were judged unwanted."""

    domain: str
    unwanted: int
    scored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A source of evidence: for how many of the mails that were looked up it was not in time."""

    missing: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long mails waited with us; None where there were none."""

    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A span of time."""

    mails: int
    scored: int
    skipped: int
    unscored: int
    wanted: int
    uncertain: int
    unwanted: int
    asked: int
    """Mails that the model was asked about, whatever came of it."""
    skips: Mapping[str, int]
    failures: Mapping[str, int]
    origins: Mapping[str, int]
    """Scored mails by `miss`, `hit`, `joined`."""
    categories: Mapping[str, int]
    """Of the unwanted."""
    asked_seconds: Seconds
    read_seconds: Seconds
    """Of all mails but those that were skipped unread."""
    tokens_in: int
    tokens_out: int
    senders: tuple[Sender, ...]
    evidence: Mapping[str, Missing]
    injections: int
    forged: int
    """Mails that brought X-GPT headers of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Of a scored record what a comparison needs."""

    at: float
    queue_id: str
    score: float
    category: str
    domain: str


@dataclass(slots=True)
class Tally:
    """Counts records one by one."""

    scored: list[Judged] = field(default_factory=list)
    _status: Counter[str] = field(default_factory=Counter)
    _skips: Counter[str] = field(default_factory=Counter)
    _failures: Counter[str] = field(default_factory=Counter)
    _origins: Counter[str] = field(default_factory=Counter)
    _verdicts: Counter[str] = field(default_factory=Counter)
    _categories: Counter[str] = field(default_factory=Counter)
    _domains: Counter[str] = field(default_factory=Counter)
    _unwanted: Counter[str] = field(default_factory=Counter)
    _missing: Counter[str] = field(default_factory=Counter)
    _sums: Counter[str] = field(default_factory=Counter)
    _asked_seconds: list[float] = field(default_factory=list)
    _read_seconds: list[float] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Counts one."""
        self._status[record.status] += 1
        if record.stages:
            self._read_seconds.append(record.seconds)
        if "model" in record.stages:
            self._asked_seconds.append(record.seconds)
        # A prompt is fitted once the evidence is in: a mail that did not come so far missed none.
        if "fit" in record.stages:
            self._sums["looked_up"] += 1
            self._missing.update(cleaned(source) for source in set(record.missing))
        self._sums["injections"] += record.injection
        self._sums["forged"] += record.forged > 0
        self._sums["tokens_in"] += record.tokens_in
        self._sums["tokens_out"] += record.tokens_out
        if record.status == "skipped":
            self._skips[cleaned(record.code)] += 1
        elif record.status == "unscored":
            self._failures[cleaned(record.code)] += 1
        elif record.score is not None:
            self._add_verdict(record, record.score)

    def _add_verdict(self, record: Record, score: float) -> None:
        judged = Judged(
            at=record.at,
            queue_id=cleaned(record.queue_id),
            score=score,
            category=cleaned(record.category),
            domain=cleaned(record.sender_domain),
        )
        self.scored.append(judged)
        self._origins[cleaned(record.cache)] += 1
        said = says(score)
        self._verdicts[said] += 1
        self._domains[judged.domain] += 1
        if said == "unwanted":
            self._categories[judged.category] += 1
            self._unwanted[judged.domain] += 1

    def figures(self) -> Figures:
        """What was counted."""
        worst = [pair for pair in _ranked(self._unwanted).items() if pair[0]]
        return Figures(
            mails=self._status.total(),
            scored=self._status["scored"],
            skipped=self._status["skipped"],
            unscored=self._status["unscored"],
            wanted=self._verdicts["wanted"],
            uncertain=self._verdicts["uncertain"],
            unwanted=self._verdicts["unwanted"],
            asked=len(self._asked_seconds),
            skips=_ranked(self._skips),
            failures=_ranked(self._failures),
            origins=_ranked(self._origins),
            categories=_ranked(self._categories),
            asked_seconds=_seconds(self._asked_seconds),
            read_seconds=_seconds(self._read_seconds),
            tokens_in=self._sums["tokens_in"],
            tokens_out=self._sums["tokens_out"],
            senders=tuple(
                Sender(domain=domain, unwanted=count, scored=self._domains[domain])
                for domain, count in worst[:LISTED]
            ),
            evidence={
                source: Missing(missing=count, of=self._sums["looked_up"])
                for source, count in _ranked(self._missing).items()
            },
            injections=self._sums["injections"],
            forged=self._sums["forged"],
        )


def says(score: float) -> str:
    """What a score says, as the plugin reads it: rounded as it stands in the header."""
    rounded = round(score, 2)
    if rounded >= SPAM:
        return "unwanted"
    return "wanted" if rounded <= HAM else "uncertain"


def cleaned(text: str) -> str:
    """A name that others chose, as it may be printed anywhere: bounded, in printable ASCII.

    All that is named here (domains, categories, queue IDs, symbols) is ASCII where it is honest.
    """
    shown = "".join(sign if " " <= sign <= "~" else "?" for sign in text[: NAME_LIMIT + 1])
    return shown if len(shown) <= NAME_LIMIT else f"{shown[: NAME_LIMIT - 3]}..."


def _ranked(counts: Counter[str]) -> Mapping[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _seconds(values: list[float]) -> Seconds:
    """By the nearest rank: the least value that so many of a hundred do not exceed."""
    ranked = sorted(values)
    if not ranked:
        return Seconds(median=None, p95=None)
    at = [ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.95)]
    return Seconds(median=at[0], p95=at[1])


def percent(part: int, whole: int) -> str:
    """A share, with a decimal where it is small."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


def counted(number: int, thing: str) -> str:
    """A number with what it counts: `1 mail`, `1,204 mails`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
