"""Completion -> Verdict: strict about values, tolerant of wrapping.

What is understood: a JSON object {"score", "category", "reason"}, alone, in a fence or with prose
around it; or three lines (probability, sentence, category); either after a closed <think> block.
What is not understood is no verdict, never a guess: no number is fished out of prose.
Plain functions; what may not live here: asking again (llm.py).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rspamd_llm import headers
from rspamd_llm.domain import (
    NO_CATEGORY,
    AnswerForm,
    Completion,
    Failure,
    ModelError,
    Prompt,
    Verdict,
)

# ASCII digits alone; but the blank before % may be the narrow one of French.
_NUMBER = r"(?:[01](?:[.,][0-9]{1,10})?|[.,][0-9]{1,10}|(?:100|[0-9]{1,2})(?:[.,][0-9]{1,6})?\s?%)"
_SCORE = re.compile(_NUMBER)
# The first of the three lines: list marker, label and emphasis are wrapping, the rest must be
# the number alone; `1.` is a list marker that nothing follows.
_SCORE_LINE = re.compile(
    r"(?![01]\.\Z)(?:1[.)]\s+)?[*_`\"]{0,3}(?:(?:spam\s+)?(?:score|probability)\s*[:=]\s*)?[*_`\"]{0,3}\s*"
    rf"({_NUMBER})[*_`\"]{{0,3}}\.?",
    re.IGNORECASE,
)
_LINE_WRAP = re.compile(
    r"^(?:[23][.)]\s+)?[*_`]{0,3}(?:(?:reason|category)\s*[:=]\s*)?", re.IGNORECASE
)
# Possessive, or an opening mark without a closing one costs the square of what follows.
_FENCE = re.compile(r"```[A-Za-z0-9]*+\s*+(.*?)```", re.DOTALL)

ANSWER_LIMIT = 20_000
"""Characters of an answer after its reasoning.  A good one has 300; some wrap it in an essay."""

LABEL_SHARE_LEAST = 0.5
"""What the labels' probabilities must come to: below, the model was about to say another thing."""


def understand(completion: Completion, prompt: Prompt, fallback_reason: str) -> Verdict:
    """The verdict that an answer gives.

    `fallback_reason` serves the form that has no sentence (LABEL).
    Raises ModelError(model-invalid) for whatever is no verdict.
    """
    if prompt.form is AnswerForm.LABEL:
        return _from_label(completion.label_probabilities, prompt.categories, fallback_reason)
    if completion.finish == "length":
        _refuse("the answer was cut short; raise llm.max_output_tokens")
    text = _after_thinking(completion.text)
    if not text:
        # Some servers put the whole answer of a reasoning model into the other field.
        text = _after_thinking(completion.reasoning)
        if not text.startswith("{"):
            _refuse("the answer is empty")
    if len(text) > ANSWER_LIMIT:
        _refuse("the answer is far too long")
    return (
        _from_json(text, prompt.categories) if "{" in text else _from_lines(text, prompt.categories)
    )


def _after_thinking(text: str) -> str:
    """The text after a reasoning block.  Its opening mark may be missing: templates supply it."""
    answer = text.rpartition("</think>")[2]
    if "<think>" in answer:
        _refuse("the answer ends inside its reasoning; raise llm.max_output_tokens")
    return answer.strip()


def _from_json(text: str, categories: Sequence[str]) -> Verdict:
    fences = _FENCE.findall(text)
    if len(fences) > 1:
        _refuse("the answer holds several fenced blocks")
    inner = fences[0] if fences else text
    start, end = inner.find("{"), inner.rfind("}")
    try:
        answer = json.loads(
            inner[start : end + 1], object_pairs_hook=_unique_names, parse_constant=_not_finite
        )
    except (ValueError, RecursionError):
        _refuse("the answer is not one JSON object")
    if not isinstance(answer, dict) or "score" not in answer:
        _refuse("the answer has no score")
    return _verdict(
        _json_score(answer["score"]), answer.get("category"), answer.get("reason"), categories
    )


def _from_lines(text: str, categories: Sequence[str]) -> Verdict:
    fences = _FENCE.findall(text)
    lines = [line.strip() for line in (fences[0] if len(fences) == 1 else text).splitlines()]
    lines = [line for line in lines if line]
    match = _SCORE_LINE.fullmatch(lines[0]) if 1 <= len(lines) <= 3 else None
    if match is None:
        _refuse("the answer is neither a JSON object nor three lines that begin with a score")
    reason = _LINE_WRAP.sub("", lines[1]) if len(lines) > 1 else ""
    category = _LINE_WRAP.sub("", lines[2]).strip('*_`". ') if len(lines) > 2 else None
    return _verdict(_score(match.group(1)), category, reason, categories)


def _from_label(
    probabilities: Mapping[str, float], categories: Sequence[str], reason: str
) -> Verdict:
    """The verdict of the probabilities of the answers `none` and the categories.

    The score is the share of all but `none`; the category the likeliest where unwanted is likelier.
    """
    # Rounding may lift a probability a little above 1.
    if not all(0.0 <= share <= 1.01 for share in probabilities.values()):
        _refuse("the answer's probabilities are out of range")
    total = math.fsum(probabilities.values())
    if not total >= LABEL_SHARE_LEAST:
        _refuse("the answer has no probabilities for its labels")
    # Servers tell the likeliest tokens alone: a label that is not among them is as good as ruled
    # out.
    score = min(1.0, max(0.0, 1.0 - probabilities.get(NO_CATEGORY, 0.0) / total))
    unwanted = {name: share for name, share in probabilities.items() if name != NO_CATEGORY}
    best = max(unwanted, key=lambda name: unwanted[name], default=NO_CATEGORY)
    category = best if score >= 0.5 else NO_CATEGORY
    return _verdict(score, category, reason, categories)


def _verdict(score: float, category: object, reason: object, categories: Sequence[str]) -> Verdict:
    named = category.strip().lower() if isinstance(category, str) else NO_CATEGORY
    return Verdict(
        score=score + 0.0,  # which makes 0.0 of -0.0: "-0.00" is no score to the Rspamd plugin
        category=named if named in categories else NO_CATEGORY,
        reason=headers.clean_reason(reason) if isinstance(reason, str) else "",
    )


def _json_score(value: object) -> float:
    if isinstance(value, str):
        return _score(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse("the score is no number")
    if not 0 <= value <= 1:
        _refuse("the score is out of range")
    return float(value)


def _score(text: str) -> float:
    """The value of a score's text: `0.95`, `0,95`, `.95` or `95%`."""
    if not _SCORE.fullmatch(text):
        _refuse("the score is no number from 0 to 1")
    percent = text.endswith("%")
    value = float(text.rstrip("% ").replace(",", "."))
    value = value / 100 if percent else value
    if not 0 <= value <= 1:
        _refuse("the score is out of range")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice")
    return names


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refuse(cause: str) -> NoReturn:
    raise ModelError(Failure.MODEL_INVALID, cause)
