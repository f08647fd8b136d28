"""Facts + Mail -> the builtin model's prompt, and the sentence that stands for its reason.

The model was trained on exactly the text that `compact` returns: a change to it, or to the flags'
short names, calls for a new training (script/train).  What may not live here: the prompts of models
that follow instructions (prompt.py).
"""

from __future__ import annotations

import hashlib

from rspamd_llm.domain import AnswerForm, Evidence, Facts, Flag, Mail, Prompt
from rspamd_llm.evidence import words
from rspamd_llm.sentences import SENTENCES

COMPACT_LIMIT = 1_400
"""UTF-8 bytes of a compact prompt.  A token is at least a byte, so with its few special tokens it
always fits the 2,048 tokens that the engine gives the builtin model for each slot."""

_COMPACT_TEMPLATE = "from|to|facts|links|files|subject|text"


def compact_prompt(mail: Mail, facts: Facts, categories: tuple[str, ...]) -> Prompt:
    """The prompt for the builtin model, which answers with one of forms.LABELS."""
    return Prompt(
        system="",
        user=compact(mail, facts),
        form=AnswerForm.LABEL,
        categories=categories,
        id=hashlib.sha256(_COMPACT_TEMPLATE.encode()).hexdigest()[:8],
    )


def compact(mail: Mail, facts: Facts) -> str:
    """Facts and an excerpt in the form the builtin model was trained on, at most COMPACT_LIMIT.

    Signs that could spell a special token of the model's are replaced.
    """
    marks = [flag.value for flag in _LEARNED if facts.has(flag)]
    claims = (("list", mail.listed), ("reply", mail.reply), ("automatic", mail.automatic))
    marks += [name for name, holds in claims if holds]
    parts = [
        f"from: {mail.from_name[:60]} ({mail.from_address[:80]})",
        f"to: {'none' if mail.to_count == 0 else 'one' if mail.to_count == 1 else 'many'}",
        f"facts: {' '.join(marks)}",
        f"links: {len(mail.links)} {' '.join(d[:40] for d in facts.link_domains[:4])}",
        f"files: {' '.join(file.name[-30:] for file in mail.attachments[:3])}",
        f"subject: {mail.subject[:150]}",
        f"text: {' '.join((mail.plain or mail.text)[: COMPACT_LIMIT * 2].split())}",
    ]
    text = "\n".join(parts).translate(_DEFUSED)
    return text.encode("utf-8")[:COMPACT_LIMIT].decode("utf-8", "ignore")


_DEFUSED = str.maketrans("<>|[]", "()/()")

_LEARNED = (
    Flag.NAME_HAS_ADDRESS,
    Flag.LINK_MISMATCH,
    Flag.LINK_ADDRESS,
    Flag.LINK_PUNYCODE,
    Flag.LINK_CREDENTIALS,
    Flag.LINKS_ELSEWHERE,
    Flag.ATTACHMENT_RUNS,
    Flag.ATTACHMENT_ARCHIVE,
    Flag.ATTACHMENT_PAGE,
    Flag.REPLY_ELSEWHERE,
    Flag.SENDER_MISSING,
    Flag.RECIPIENTS_HIDDEN,
)
"""The flags that the builtin model has learned, in the order it learned them in."""


def strongest_facts(facts: Facts, evidence: Evidence) -> str:
    """A sentence of what weighs most, for a model that writes none; it says so.

    The builtin model has not learned to read evidence: the sentence tells it, the score does not.
    """
    noticed = (SENTENCES[finding.flag] for finding in facts.findings)
    shown = [*words.warnings(evidence, facts), *noticed][:2]
    return f"Put together from facts: {'; '.join(shown) or 'nothing stands out'}"
