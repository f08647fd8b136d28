"""What is read of a message, or of a moment, where that takes more than a name.

What may not live here: what the numbers are called (definitions.py).
"""

from __future__ import annotations

from rspamd_llm.domain import Message, Scan, Scored, Skipped, Unscored
from rspamd_llm.metrics.kinds import Moment, Samples

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histograms: a skipped mail takes milliseconds, the deadline is 60 s by default."""

BANDS = (0.25, 0.5, 0.75, 0.9)
"""Bounds of the score bands; the first and the third are the plugin's thresholds."""


def band(score: float) -> str:
    """The band of a score, such as `0.75-0.90`."""
    low = max((bound for bound in BANDS if score >= bound), default=0.0)
    high = min((bound for bound in BANDS if score < bound), default=1.0)
    return f"{low:.2f}-{high:.2f}"


def outcome(_message: Message, scan: Scan) -> Samples:
    """One message, by status and code."""
    match scan.outcome:
        case Scored():
            yield ("scored", ""), 1
        case Skipped(code=skip):
            yield ("skipped", skip.value), 1
        case Unscored(code=failure):
            yield ("unscored", failure.value), 1


def verdict(_message: Message, scan: Scan) -> Samples:
    """One verdict, by category, band and where it came from."""
    if isinstance(scan.outcome, Scored):
        found = scan.outcome.verdict
        yield (found.category, band(found.score), scan.outcome.cache.value), 1


def tokens(_message: Message, scan: Scan) -> Samples:
    """Tokens, by direction."""
    if isinstance(scan.outcome, Scored):
        yield ("in",), scan.outcome.tokens_in
        yield ("out",), scan.outcome.tokens_out


def whole(message: Message, scan: Scan) -> Samples:
    """Seconds of the whole, by status."""
    for (status, _), _ in outcome(message, scan):
        yield (status,), scan.seconds


def stages(_message: Message, scan: Scan) -> Samples:
    """Seconds, by stage."""
    for stage, seconds in scan.stages.items():
        yield (stage,), seconds


def injection(_message: Message, scan: Scan) -> Samples:
    """One message that speaks to a model."""
    if isinstance(scan.outcome, Scored) and scan.outcome.injection:
        yield (), 1


def rspamd(moment: Moment) -> Samples:
    """Whether Rspamd is well, where it is asked."""
    if moment.health.is_rspamd_well is not None:
        yield (), moment.health.is_rspamd_well
