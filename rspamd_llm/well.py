"""Whether all is well: the one place that says so.

`report` prints these sentences, and with --quiet nothing where there is none.  docs/guide.md lists
the same.  What may not live here: the numbers (summary.py, contrast.py).
"""

from __future__ import annotations

from rspamd_llm.contrast import Contrast
from rspamd_llm.summary import Figures, counted, percent

UNSCORED_SHARE = 0.01
"""Of the mails that were to be judged, as many may pass without a verdict: a restart of the model
server or a wave of mail costs some, and a model that is ill costs many."""

MISSING_SHARE = 0.5
"""Of the mails that were looked up, a source of evidence may be late for as many: engines and
registries are slow at times, and one that is late for most mails is of no use."""


def troubles(now: Figures, before: Figures, contrast: Contrast | None) -> tuple[str, ...]:
    """What is not well, a sentence each; nothing where all is.

    `before` is the span before, `contrast` None where Rspamd's history was not asked for.
    """
    found = []
    if before.mails and not now.mails:
        found.append(
            "No mail came through the daemon; in the span before there were"
            f" {counted(before.mails, 'mail')}."
        )
    meant = now.scored + now.unscored
    if now.unscored > UNSCORED_SHARE * meant:
        found.append(
            f"{now.unscored:,} of {counted(meant, 'mail')} to be judged"
            f" ({percent(now.unscored, meant)}) passed without a verdict."
        )
    found += [
        f"Evidence from {source} was not in time for {one.missing:,} of {counted(one.of, 'mail')}"
        f" ({percent(one.missing, one.of)})."
        for source, one in now.evidence.items()
        if one.missing > MISSING_SHARE * one.of
    ]
    if now.forged:
        found.append(
            f"{counted(now.forged, 'mail')} brought X-GPT headers, forged or of another site's;"
            " they count for nothing."
        )
    if contrast is not None and contrast.refused:
        found.append(
            f"Rspamd did not believe {counted(contrast.refused, 'verdict')}: LLM_FORGED in its"
            " history says why."
        )
    if contrast is not None and contrast.count:
        found.append(
            "Rspamd did the opposite of what the model said with"
            f" {counted(contrast.count, 'mail')}."
        )
    return tuple(found)
