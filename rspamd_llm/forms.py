"""What a call of the model asks for, by the form of the answer, and the builtin model's labels.

Plain functions.  What may not live here: the call (llm.py), the understanding of answers
(verdict.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rspamd_llm.domain import NO_CATEGORY, REASON_LIMIT


def response_format(categories: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of an answer.  Free text derails grammars, so the reason comes last."""
    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "category": {"type": "string", "enum": [*categories, NO_CATEGORY]},
            "reason": {"type": "string", "maxLength": REASON_LIMIT},
        },
        "required": ["score", "category", "reason"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "verdict", "strict": True, "schema": schema},
    }


# --- The builtin model ----------------------------------------------------------------------

LABELS = {f"<|{name}|>": name for name in ("none", "phishing", "scam", "malware", "marketing")}
"""The builtin model's answers, each one token of its vocabulary; ` none` is another, of text."""


# One token; the probabilities of the other labels come with it.
LABEL_OPTIONS: Mapping[str, Any] = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}


def label_probabilities(entries: Iterable[Any]) -> dict[str, float]:
    """Label to probability, of those of the likeliest tokens that are labels."""
    return {
        LABELS[entry["token"]]: math.exp(entry["logprob"])
        for entry in entries
        if entry["token"] in LABELS
    }
