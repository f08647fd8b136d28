"""The report as plain text: ASCII, at most 80 columns, as it is read in a mail from cron.

It never quotes a mail: what senders chose in it are domains, which summary.py has cleaned.  What
may not live here: where the numbers come from (report.py), and whether they are well (well.py).
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rspamd_llm.contrast import Contradiction, Contrast
from rspamd_llm.domain import Failure
from rspamd_llm.records import HAM, SPAM
from rspamd_llm.summary import Figures, counted, percent

WIDTH = 80
"""Columns, as a mail program shows them."""

SHOWN = 20
"""Contradictions that are printed; --json has up to summary.CONTRADICTIONS."""

LATE = 0.1
"""Of a span without a mail in Rspamd's history: more is told as a gap, less may be a quiet hour."""

CURES: Mapping[str, str] = {
    Failure.TIMEOUT: "the model was too slow: `rspamd-llm check` tells its speed; a smaller model,"
    " more servers, or a longer [milter] deadline",
    Failure.OVERLOADED: "more mail than the model can answer in time: raise [llm] concurrency if"
    " its server can do more, add servers, or ask less often (docs/how-often.md)",
    Failure.MODEL_UNAVAILABLE: "the model server did not answer, or with an error: `rspamd-llm"
    " check` names it",
    Failure.MODEL_INVALID: "the model answered with something else than a verdict: `rspamd-llm scan"
    " --explain` shows what; reasoning models need more max_output_tokens",
    Failure.CONTEXT_OVERFLOW: "raise the server's context, or lower [llm] context_tokens to what it"
    " has",
    Failure.STOPPING: "the daemon was stopped while these were judged: a longer [milter] drain and"
    " TimeoutStopSec, if that matters",
    Failure.INTERNAL: "a mistake of ours, or a mail that could not be read: the journal says more",
}
"""By code, what an administrator can do about mail that passed unscored."""

_BEYOND = "see docs/reference.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span of time, in Unix seconds."""

    since: float
    until: float

    @property
    def before(self) -> float:
        """When the span of the same length begins that ends where this one begins."""
        return self.since - (self.until - self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is told."""

    host: str
    span: Span
    now: Figures
    before: Figures
    contrast: Contrast | None
    fault: str
    """Why Rspamd's history could not be had; empty where it could, or is not wanted."""
    troubles: tuple[str, ...]


def lines(made: Report) -> Iterator[str]:
    """The report, line by line."""
    now, before = made.now, made.before
    since, until = (_minute(at) for at in (made.span.since, made.span.until))
    yield from _wrapped(f"rspamd-llm on {made.host}, {since} to {until}", first="", rest="  ")
    yield ""
    faults = [f"Rspamd's history could not be had: {made.fault}"] if made.fault else []
    for sentence in (*made.troubles, *faults):
        yield from _wrapped(sentence, first="! ", rest="  ")
    if not made.troubles and not faults:
        yield "All is well."
    yield from _mails(now, before)
    yield from _asked(now, before)
    yield from _failures(now)
    yield from _senders(now)
    yield from _evidence(now)
    if made.contrast is not None:
        yield from _rspamd(made.contrast, made.span)


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _wrapped(text: str, *, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH - 1, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _row(label: str, now: object, before: object) -> str:
    return f"  {label:<46}{now:>14}{before:>14}".rstrip()


def _counts(label: str, now: int, before: int, is_known: bool) -> str:
    return _row(label, f"{now:,}", f"{before:,}" if is_known else "-")


def _mails(now: Figures, before: Figures) -> Iterator[str]:
    known = before.mails > 0
    yield ""
    yield f"{'MAILS':<48}{'now':>14}{'span before':>14}"
    yield _counts("all", now.mails, before.mails, known)
    yield _counts("scored", now.scored, before.scored, known)
    yield _counts(f"  unwanted ({SPAM} and more)", now.unwanted, before.unwanted, known)
    for name in sorted(now.categories.keys() | before.categories.keys()):
        counts = now.categories.get(name, 0), before.categories.get(name, 0)
        yield _counts(f"    {name or 'none'}", *counts, known)
    yield _counts("  uncertain", now.uncertain, before.uncertain, known)
    yield _counts(f"  wanted ({HAM} and less)", now.wanted, before.wanted, known)
    for label, of_now, of_before, codes_now, codes_before in (
        ("skipped: not to be judged", now.skipped, before.skipped, now.skips, before.skips),
        ("unscored: no verdict", now.unscored, before.unscored, now.failures, before.failures),
    ):
        yield _counts(label, of_now, of_before, known)
        for code in sorted(codes_now.keys() | codes_before.keys()):
            yield _counts(f"  {code}", codes_now.get(code, 0), codes_before.get(code, 0), known)
    yield _counts("text that speaks to a model", now.injections, before.injections, known)
    yield _counts("X-GPT headers of their own", now.forged, before.forged, known)


def _asked(now: Figures, before: Figures) -> Iterator[str]:
    known = before.mails > 0
    yield ""
    yield "THE MODEL"
    yield _row(
        "asked about",
        f"{now.asked:,} ({percent(now.asked, now.mails)})",
        f"{before.asked:,} ({percent(before.asked, before.mails)})" if known else "-",
    )
    for label, name in (
        ("scored by asking (miss)", "miss"),
        ("scored as remembered (hit)", "hit"),
        ("scored with a copy being asked about (joined)", "joined"),
    ):
        yield _counts(label, now.origins.get(name, 0), before.origins.get(name, 0), known)
    for label, times, earlier in (
        ("seconds, asked: median", now.asked_seconds.median, before.asked_seconds.median),
        ("seconds, asked: 95 of 100 within", now.asked_seconds.p95, before.asked_seconds.p95),
        ("seconds, all that was read: median", now.read_seconds.median, before.read_seconds.median),
        (
            "seconds, all that was read: 95 of 100 within",
            now.read_seconds.p95,
            before.read_seconds.p95,
        ),
    ):
        yield _row(label, _shown(times), _shown(earlier))
    yield _counts("tokens in", now.tokens_in, before.tokens_in, known)
    yield _counts("tokens out", now.tokens_out, before.tokens_out, known)


def _shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def _failures(now: Figures) -> Iterator[str]:
    if not now.failures:
        return
    yield ""
    yield "WHY THERE WAS NO VERDICT, AND WHAT HELPS"
    for code, count in now.failures.items():
        text = f"{code} ({count:,}): {CURES.get(code, _BEYOND)}"
        yield from _wrapped(text, first="  ", rest="    ")


def _senders(now: Figures) -> Iterator[str]:
    if not now.senders:
        return
    yield ""
    yield "SENDERS MOST OFTEN JUDGED UNWANTED (From domain: unwanted of scored)"
    for sender in now.senders:
        yield f"  {sender.domain:<46}{f'{sender.unwanted:,} of {sender.scored:,}':>28}"


def _evidence(now: Figures) -> Iterator[str]:
    if not now.evidence:
        return
    yield ""
    yield "EVIDENCE THAT WAS NOT IN TIME (source: mails of those looked up)"
    for source, one in now.evidence.items():
        share = f"{one.missing:,} of {one.of:,} ({percent(one.missing, one.of)})"
        yield f"  {source:<46}{share:>28}"
    yield from _wrapped(
        "`rspamd-llm check` tells whether each source answers.", first="  ", rest="  "
    )


def _rspamd(contrast: Contrast, span: Span) -> Iterator[str]:
    yield ""
    yield "RSPAMD"
    told = [
        f"Its history has {counted(contrast.mails, 'mail')} of this span; of {contrast.compared:,}"
        " it is known what the model said.",
        f"{contrast.absent:,} had no verdict of ours (LLM_ABSENT).",
    ]
    if contrast.unread:
        told.append(f"{contrast.unread:,} entries were not understood.")
    late = span.since + LATE * (span.until - span.since)
    if contrast.begins is not None and contrast.begins > late:
        told.append(
            f"It begins at {_minute(contrast.begins)}: if it is to reach further back, raise nrows"
            " in Rspamd's local.d/history_redis.conf, or give Rspamd's log."
        )
    yield from _wrapped(" ".join(told), first="  ", rest="  ")
    if not contrast.count:
        yield "  It did the opposite of what the model said for none of them."
        return
    shown = contrast.contradictions[-SHOWN:]
    for says, title in (
        ("unwanted", "The model says unwanted, Rspamd let pass:"),
        ("wanted", "The model says wanted, Rspamd did not let pass:"),
    ):
        lines = [line for one in shown if one.says == says for line in _contradiction(one)]
        if lines:
            yield f"  {title}"
            yield from lines
    if contrast.count > len(shown):
        yield f"  ... and {contrast.count - len(shown):,} before these; --json has more."


def _contradiction(one: Contradiction) -> Iterator[str]:
    when = "-" if one.at is None else time.strftime("%m-%d %H:%M:%S", time.localtime(one.at))
    model = "model" if one.score is None else f"model {one.score:.2f}"
    if one.says == "unwanted" and one.category != "none":
        model += f" {one.category}"
    domain = f", from {one.domain}" if one.domain else ""
    ours = f"{when}  {one.queue_id or '(queue ID unknown)'}  {model}{domain}"
    limit = "" if one.limit is None else f" of {one.limit:g}"
    theirs = f"Rspamd: {one.action}, {one.points:.1f}{limit}"
    if one.grounds and one.says == "wanted":
        theirs += f", for {', '.join(one.grounds)}"
    yield from _wrapped(ours, first="    ", rest="      ")
    yield from _wrapped(theirs, first="      ", rest="      ")
