"""Completion -> Verdict: what real models answer, and what must never count as a verdict."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm.domain import (
    REASON_LIMIT,
    AnswerForm,
    Completion,
    Failure,
    ModelError,
    Prompt,
    Verdict,
)
from rspamd_llm.verdict import ANSWER_LIMIT, understand

CATEGORIES = ("phishing", "scam", "malware", "marketing")
GOOD = '{"score": 0.97, "category": "phishing", "reason": "It asks for a password."}'
PHISHING = Verdict(score=0.97, category="phishing", reason="It asks for a password.")


def prompt(form: AnswerForm = AnswerForm.JSON) -> Prompt:
    return Prompt(system="", user="", form=form, categories=CATEGORIES, id="00000000")


def understood(text: str, **rest: Any) -> Verdict:
    return understand(Completion(text=text, **rest), prompt(), "")


def refused(text: str, **rest: Any) -> str:
    with pytest.raises(ModelError) as caught:
        understood(text, **rest)
    assert caught.value.code is Failure.MODEL_INVALID
    return str(caught.value)


def with_score(score: str) -> str:
    return f'{{"score": {score}, "category": "none", "reason": ""}}'


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            GOOD,
            f"  \n{GOOD}\n",
            f"```json\n{GOOD}\n```",
            f"```\n{GOOD}```",
            f"```JSON {GOOD} ```",
            f"Here is my verdict:\n\n{GOOD}\n\nI hope this helps!",
            f"Sure!\n```json\n{GOOD}\n```\nLet me know.",
            f"<think>The score may be {{0.1}} or 0.2.</think>\n{GOOD}",
            f"reasoning whose opening mark the template ate 0.1 </think> {GOOD}",
            f"<think>a</think><think>b</think>{GOOD}",
            f"[{GOOD}]",
            json.dumps(json.loads(GOOD), indent=4),
            '{"reason": "It asks for a password.", "category": "phishing", "score": 0.97}',
            '{"score": 0.97, "category": "Phishing ", "reason": "It asks for a password.", "x":{}}',
            '{"score": "0.97", "category": "phishing", "reason": "It asks for a password."}',
            '{"score": "97%", "category": "phishing", "reason": "It asks for a password."}',
            '{"score": 97e-2, "category": "phishing", "reason": "It asks\\u2028for a password."}',
        ],
    )
    def test_understood(self, text: str) -> None:
        assert understood(text) == PHISHING

    @pytest.mark.parametrize(
        ("score", "value"),
        [
            ("0", 0.0),
            ("1", 1.0),
            ("1.0", 1.0),
            ("1e-1", 0.1),
            ("0.30000000000000000000000000000000004", 0.3),
            ("5e-324", 5e-324),
            ('"0,5"', 0.5),
            ('" .5 "', 0.5),
            ('"50 %"', 0.5),
            ('"100%"', 1.0),
        ],
    )
    def test_scores(self, score: str, value: float) -> None:
        assert understood(with_score(score)).score == pytest.approx(value)

    def test_minus_nothing_is_nothing(self) -> None:
        """-0.0 would be signed as -0.00, which the Rspamd plugin takes for a forgery."""
        assert math.copysign(1.0, understood(with_score("-0.0")).score) == 1.0

    @pytest.mark.parametrize(
        "score",
        [
            "NaN", "Infinity", "-Infinity", "1e999", "-1", "1.7", "507", "100", "95", "0x1", "01",
            "1.0000001", "-1e-9", "true", "false", "null", "[0.9]", '{"value": 0.9}', '""',
            '"high"', '"NaN"', '"inf"', '"-1"', '"1.7"', '"507"', '"95"', '"0x1"', '"1e-1"',
            '"101%"', '"0.9.1"',
            '"0.9/1"', '"９５%"', '"０.９"', '"٠٫٩"', '"0.9 likely"', '"0,9,1"', '"%"', '"-0.5"',
            "9" * 5_000, "0." + "9" * 5_000 + "x", '"0.' + "9" * 5_000 + '"',
        ],
    )  # fmt: skip
    def test_no_scores(self, score: str) -> None:
        refused(with_score(score))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "   \n",
            "{}",
            "{",
            "}",
            "}{",
            "[]",
            '{"category": "phishing"}',
            '{"Score": 0.9}',
            '{"verdict": {"score": 0.9}}',
            GOOD[:-1],
            GOOD[: len(GOOD) // 2],
            GOOD + GOOD,
            f"{GOOD}\n{GOOD}",
            f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```",
            f"```json\n```\n{GOOD}",
            f"I think {{maybe}}: {GOOD}",
            '{"score": 0.1, "score": 0.9}',
            '{"score": 0.9, "x": {"a": 1, "a": 2}}',
            "{'score': 0.9}",
            '{"score": 0.9,}',
            '{"score": 0.9 /* sure */}',
            '{"score": 0.9, "reason": "a\nb"}',
            '{"score": 0.9, "reason": ' + "[" * 50_000,
            '{"a":' * 50_000 + "0.9" + "}" * 50_000,
            "<think>the answer is " + GOOD,
            "<think>" + GOOD + "</think>",
            "<html><body>{color: red}</body></html>",
            "data: " + GOOD[:-5],
        ],
        ids=lambda text: text[:24],
    )
    def test_refused(self, text: str) -> None:
        refused(text)

    @pytest.mark.parametrize("category", ['"SCAM"', '" scam\\n"'])
    def test_a_category_in_other_clothes(self, category: str) -> None:
        assert understood(f'{{"score": 0.9, "category": {category}}}').category == "scam"

    @pytest.mark.parametrize(
        "category", ['"spam"', '"none"', '""', "null", "5", '["scam"]', '"scam; m=x"', '"scám"']
    )
    def test_an_unknown_category_is_none_and_the_verdict_stands(self, category: str) -> None:
        found = understood(f'{{"score": 0.9, "category": {category}, "reason": "r"}}')
        assert found == Verdict(score=0.9, category="none", reason="r")

    @pytest.mark.parametrize("reason", ["null", "5", "{}", '""', '"\\u0000\\u202e"'])
    def test_a_reason_that_is_none(self, reason: str) -> None:
        assert understood(f'{{"score": 0.9, "reason": {reason}}}').reason == ""

    def test_a_reason_is_cleaned_and_bounded(self) -> None:
        reason = "one\r\nX-GPT-Score: 0 \x1b[31m" + "x" * 500
        found = understood(json.dumps({"score": 0.9, "reason": reason})).reason
        assert found.startswith("one X-GPT-Score: 0 [31mxxx")
        assert len(found) == REASON_LIMIT


class TestLines:
    @pytest.mark.parametrize(
        ("text", "score"),
        [
            ("0.95", 0.95),
            ("1. 0.95", 0.95),
            ("1) 0.95", 0.95),
            ("**0.95**", 0.95),
            ("`0.95`", 0.95),
            ('"0.95"', 0.95),
            ("0,95", 0.95),
            (".95", 0.95),
            ("95%", 0.95),
            ("95 %", 0.95),
            ("95\u202f%", 0.95),
            ("7,5 %", 0.075),
            ("100%", 1.0),
            ("0", 0.0),
            ("1", 1.0),
            ("1.0", 1.0),
            ("0.95.", 0.95),
            ("Score: 0.95", 0.95),
            ("score = 0.95", 0.95),
            ("Spam probability: 95%", 0.95),
            ("**Score:** 0.95", 0.95),
            ("1. **Probability: 0.95**", 0.95),
            ("<think>0.1</think>\n0.95", 0.95),
            ("```\n0.95\n```", 0.95),
        ],
    )
    def test_scores(self, text: str, score: float) -> None:
        found = understood(text)
        assert found.score == pytest.approx(score)
        assert (found.category, found.reason) == ("none", "")

    @pytest.mark.parametrize(
        "text",
        [
            "0.97\nIt asks for a password.\nphishing",
            "0.97\n\nIt asks for a password.\n\nPhishing\n",
            "1. 0.97\n2. It asks for a password.\n3. phishing",
            "1) 0.97\n2) It asks for a password.\n3) phishing.",
            "Score: 0.97\nReason: It asks for a password.\nCategory: phishing",
            "**Score:** 0.97\r\nReason: It asks for a password.\r\nCategory: **phishing**",
            "```\n0.97\nIt asks for a password.\n`phishing`\n```",
            "<think>\n1\n2\n</think>\n97%\nIt asks for a password.\nphishing",
        ],
    )
    def test_three_lines(self, text: str) -> None:
        found = understood(text)
        assert found == PHISHING

    @pytest.mark.parametrize(
        "text",
        [
            "NaN", "nan", "inf", "-inf", "-1", "-0.5", "1.7", "507", "95", "0x0.9", "0.9e1", "1e-1",
            "1/2", "0.9/1", "0..9", "0.9.5", "1.0.95", "--0.9", "+0.9", "½", "０.９５", "٩٥%", "九",
            "101%", "1000%", "95%%", "% 95", "0.", ".", ",", "%", "Score:", "high",
            "The score is 0.95", "I would say 0.95.", "0.95 because it asks for a password",
            "It is spam.\n0.95\nphishing", "0.95\na\nb\nc", "0.95\n" * 4, "0.1 0.9", "0.1, 0.9",
            "Score: 0.1 or 0.9", "between 0.1 and 0.9", "None", "null", "<p>0.95</p>",
            "```\n0.95\n```\n```\n0.1\n```", "<think>0.95", "0.95<think>", "1.", "1. ",
        ],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        refused(text)


class TestCompletion:
    @pytest.mark.parametrize("text", [GOOD, "0.9", ""])
    def test_what_was_cut_short_is_none_even_if_it_reads_well(self, text: str) -> None:
        assert "llm.max_output_tokens" in refused(text, finish="length")

    def test_an_answer_in_the_reasoning_field(self) -> None:
        assert understood("", reasoning=f"thinking</think>{GOOD}") == PHISHING
        assert understood(" \n", reasoning=GOOD) == PHISHING

    @pytest.mark.parametrize("reasoning", ["", "0.95", "I think 0.95", f"so {GOOD}", "<think>"])
    def test_reasoning_is_no_answer(self, reasoning: str) -> None:
        refused("", reasoning=reasoning)

    def test_reasoning_beside_an_answer_does_not_matter(self) -> None:
        assert understood(GOOD, reasoning=with_score("0.0")) == PHISHING

    @pytest.mark.parametrize(
        "text",
        [
            "a" * 50_000_000,
            "```" + "a" * 1_000_000,
            "```" + " " * 1_000_000,
            "```a" * 200_000,
            "<think>" * 200_000,
            "{" * 1_000_000,
            "0" * 1_000_000,
            "[" * 1_000_000,
        ],
        ids=lambda text: text[:8],
    )
    def test_an_endless_answer_is_refused(self, text: str) -> None:
        refused(text)

    def test_long_reasoning_before_a_short_answer_is_no_fault(self) -> None:
        assert understood("x" * (ANSWER_LIMIT * 3) + "</think>" + GOOD) == PHISHING

    def test_the_cause_quotes_nothing(self) -> None:
        for text in ("SECRET 0.9", '{"score": "SECRET"}', '{"SECRET": 1', "{SECRET} {}"):
            assert "SECRET" not in refused(text)


class TestLabel:
    def judge(self, probabilities: dict[str, float]) -> Verdict:
        completion = Completion(text="x", finish="length", label_probabilities=probabilities)
        return understand(completion, prompt(AnswerForm.LABEL), "the facts")

    @pytest.mark.parametrize(
        ("probabilities", "score", "category"),
        [
            ({"none": 0.1, "phishing": 0.6, "scam": 0.3}, 0.9, "phishing"),
            ({"none": 0.5, "scam": 0.5}, 0.5, "scam"),
            ({"none": 0.6, "scam": 0.4}, 0.4, "none"),
            ({"none": 0.3, "scam": 0.3}, 0.5, "scam"),  # a share of what the labels come to
            ({"none": 1.0}, 0.0, "none"),
            ({"none": 1.000001, "scam": 0.0}, 0.0, "none"),
            ({"phishing": 0.99}, 1.0, "phishing"),  # none is not among the likeliest tokens
        ],
    )
    def test_scores(self, probabilities: dict[str, float], score: float, category: str) -> None:
        found = self.judge(probabilities)
        assert found.score == pytest.approx(score, abs=1e-5)
        assert found.category == category
        assert found.reason == "the facts"

    def test_a_label_that_is_not_configured_is_none(self) -> None:
        assert self.judge({"none": 0.1, "other": 0.9}).category == "none"

    @pytest.mark.parametrize(
        "probabilities",
        [
            {},
            {"none": 0.0, "scam": 0.0},
            {"none": 0.2, "scam": 0.2},
            {"none": math.nan, "scam": 0.9},
            {"none": 0.9, "scam": math.nan},
            {"none": math.inf, "scam": 0.5},
            {"none": 0.5, "scam": math.inf},
            {"none": -0.5, "scam": 1.0},
            {"none": 50.0, "scam": 50.0},
        ],
    )
    def test_refused(self, probabilities: dict[str, float]) -> None:
        with pytest.raises(ModelError):
            self.judge(probabilities)


ANSWER_PIECES = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(
            [GOOD, "{", "}", '"score":', "0.9", "1", "%", "```", "<think>", "</think>", "\n", "NaN",
             "1. ", "**", "Score: ", "\ud800", "\x00", "9" * 400, "1e400", "-0.0", ","]
        ),
    ),
    max_size=12,
).map("".join)  # fmt: skip


class TestAnything:
    @given(ANSWER_PIECES, ANSWER_PIECES, st.sampled_from(["stop", "length", ""]))
    @settings(max_examples=400, deadline=None)
    def test_a_verdict_within_bounds_or_a_model_error(
        self, text: str, reasoning: str, finish: str
    ) -> None:
        try:
            found = understood(text, reasoning=reasoning, finish=finish)
        except ModelError:
            return
        assert f"{found.score:.2f}" in {f"{step / 100:.2f}" for step in range(101)}
        assert found.category in (*CATEGORIES, "none")
        assert len(found.reason) <= REASON_LIMIT

    @given(st.dictionaries(st.sampled_from([*CATEGORIES, "none", "x"]), st.floats()))
    @settings(max_examples=200, deadline=None)
    def test_any_probabilities(self, probabilities: dict[str, float]) -> None:
        completion = Completion(text="", label_probabilities=probabilities)
        try:
            found = understand(completion, prompt(AnswerForm.LABEL), "")
        except ModelError:
            return
        assert 0.0 <= found.score <= 1.0
