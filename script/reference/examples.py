"""The headers of a message, as headers.py makes them.

What may not live here: what they mean (texts.py).
"""

from __future__ import annotations

import re

from rspamd_llm import headers
from rspamd_llm.domain import Key, Outcome, Scored, Verdict

_NOW = 1_795_340_000


def scored() -> dict[str, str]:
    """The headers of a judged message, by name; the signature is left out."""
    verdict = Verdict(score=0.97, category="phishing", reason="It asks for a password.")
    return _headers(Scored(verdict=verdict, model="gemma3:12b", prompt_id="9f3c2a11", seconds=1.84))


def fields() -> tuple[str, ...]:
    """The names of the fields of X-GPT-Verdict, in their order."""
    return tuple(field.partition("=")[0] for field in scored()["X-GPT-Verdict"].split("; "))


def _headers(outcome: Outcome) -> dict[str, str]:
    edits = headers.edits((), outcome, queue_id="4XyZ1F2z3aB", now=_NOW, key=Key(bytes(32)))
    return {name: re.sub(r"[0-9a-f]{64}", "<64 hex digits>", value) for name, value in edits.add}
