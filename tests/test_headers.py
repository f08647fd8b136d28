"""Outcome -> HeaderEdits: the contract with the Rspamd plugin, to the letter."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import hashlib
import re
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import headers
from rspamd_llm.domain import (
    REASON_LIMIT,
    Failure,
    HeaderEdits,
    Key,
    Outcome,
    Scored,
    Skip,
    Skipped,
    Unscored,
    Verdict,
)

SECRET = bytes(range(32))
KEY = Key(SECRET)
NOW = 1_795_340_000


def scored(
    score: float = 0.97, category: str = "phishing", reason: str = "", model: str = "gemma3:12b"
) -> Scored:
    return Scored(
        verdict=Verdict(score=score, category=category, reason=reason),
        model=model,
        prompt_id="9f3c2a11",
        seconds=1.844,
    )


def signed(outcome: Outcome, queue_id: str = "4XyZ1F2z3aB") -> str:
    return headers.sign(outcome, queue_id=queue_id, now=NOW, key=KEY)


def added(outcome: Outcome) -> dict[str, str]:
    edits = headers.edits((), outcome, queue_id="4XyZ1F2z3aB", now=NOW, key=KEY)
    assert len(dict(edits.add)) == len(edits.add)
    return dict(edits.add)


def independent_mac(text: str) -> str:
    """HMAC-SHA-256 as RFC 2104 spells it out."""
    block = SECRET.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + text.encode()).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).hexdigest()


class TestVerdict:
    @pytest.mark.parametrize(
        ("outcome", "fields"),
        [
            (scored(), "st=scored; q=4XyZ1F2z3aB; t=1795340000; s=0.97; c=phishing"),
            (scored(0.0, "none"), "st=scored; q=4XyZ1F2z3aB; t=1795340000; s=0.00; c=none"),
            (scored(1.0), "st=scored; q=4XyZ1F2z3aB; t=1795340000; s=1.00; c=phishing"),
            (scored(0.996), "st=scored; q=4XyZ1F2z3aB; t=1795340000; s=1.00; c=phishing"),
            (scored(5e-324), "st=scored; q=4XyZ1F2z3aB; t=1795340000; s=0.00; c=phishing"),
            (Skipped(Skip.NO_TEXT), "st=skipped; q=4XyZ1F2z3aB; t=1795340000; s=-; c=no-text"),
            (
                Unscored(Failure.MODEL_INVALID, "cause"),
                "st=unscored; q=4XyZ1F2z3aB; t=1795340000; s=-; c=model-invalid",
            ),
        ],
    )
    def test_exact_text(self, outcome: Outcome, fields: str) -> None:
        text = f"v=1; {fields}; k={hashlib.sha256(SECRET).hexdigest()[:8]}"
        assert signed(outcome) == f"{text}; m={independent_mac(text)}"

    def test_a_fixed_example(self) -> None:
        """Computed once with `openssl dgst -sha256 -mac HMAC`, so that no two mistakes agree."""
        assert signed(scored()) == (
            "v=1; st=scored; q=4XyZ1F2z3aB; t=1795340000; s=0.97; c=phishing; k=630dcd29; "
            "m=d5c476ed8ba2a8c38ea075b226976dca2e16379bb8944b64cde28deb0d7daea0"
        )

    @pytest.mark.parametrize(
        ("queue_id", "shown"),
        [
            ("4XyZ1F2z3aB", "4XyZ1F2z3aB"),
            ("D9F5C1A0B", "D9F5C1A0B"),
            ("", "-"),
            ("-", "-"),
            ("NOQUEUE; s=0.00", "-"),
            ("a b", "-"),
            ("a\r\nX: y", "-"),
            ("é", "-"),
            ("４", "-"),
            ("a" * 64, "a" * 64),
            ("a" * 65, "-"),
        ],
    )
    def test_queue_ids(self, queue_id: str, shown: str) -> None:
        assert f"; q={shown}; t=" in signed(scored(), queue_id)

    @pytest.mark.parametrize("code", [*Skip, *Failure])
    def test_every_code_is_one_word_on_one_line(self, code: Skip | Failure) -> None:
        outcome: Outcome = Skipped(code) if isinstance(code, Skip) else Unscored(code)
        assert re.fullmatch(
            r"v=1; st=[a-z]+; q=\w+; t=\d+; s=-; c=[a-z-]+; k=[0-9a-f]{8}; m=[0-9a-f]{64}",
            signed(outcome),
        )

    def test_another_key_another_mac(self) -> None:
        other = headers.sign(scored(), queue_id="4XyZ1F2z3aB", now=NOW, key=Key(b"x" * 32))
        assert other != signed(scored())


class TestAdded:
    def test_scored(self) -> None:
        edits = headers.edits(
            (), scored(reason="It asks."), queue_id="4XyZ1F2z3aB", now=NOW, key=KEY
        )
        assert edits == HeaderEdits(
            add=(
                ("X-GPT-Verdict", signed(scored())),
                ("X-GPT-Status", "scored"),
                ("X-GPT-Score", "0.97"),
                ("X-GPT-Category", "phishing"),
                ("X-GPT-Reason", "It asks."),
                ("X-GPT-Model", "gemma3:12b; prompt=9f3c2a11; seconds=1.84; cache=miss"),
            )
        )

    def test_a_mail_that_speaks_to_a_model(self) -> None:
        told = dataclasses.replace(scored(), injection=True)
        assert added(told)["X-GPT-Status"] == "scored; injection"
        assert signed(told) == signed(scored()), "a fact for people; the verdict is what it was"

    @pytest.mark.parametrize("code", [code for code in Skip if code is not Skip.AUTHENTICATED])
    def test_skipped(self, code: Skip) -> None:
        outcome = Skipped(code)
        assert added(outcome) == {
            "X-GPT-Verdict": signed(outcome),
            "X-GPT-Status": f"skipped; {code.value}",
        }

    @pytest.mark.parametrize("code", Failure)
    def test_unscored_tells_no_cause(self, code: Failure) -> None:
        outcome = Unscored(code, "SECRET cause")
        assert added(outcome) == {
            "X-GPT-Verdict": signed(outcome),
            "X-GPT-Status": f"unscored; {code.value}",
        }

    def test_mail_of_authenticated_users_only_loses(self) -> None:
        names = ["X-GPT-Score", "Subject"]
        outcome = Skipped(Skip.AUTHENTICATED)
        edits = headers.edits(names, outcome, queue_id="A", now=NOW, key=KEY)
        assert edits == HeaderEdits(delete=(("x-gpt-score", 1),))

    @pytest.mark.parametrize(
        ("model", "shown"),
        [
            ("gemma3:12b", "gemma3:12b"),
            ("/srv/models/judge-q4.gguf", "judge-q4.gguf"),
            ("models/judge.GGUF", "judge.GGUF"),
            ("/srv/models/judge", "judge"),
            ("openai/gpt-oss", "openai/gpt-oss"),
            ("a; prompt=0", "a_prompt=0"),
            ("a\r\nX-GPT-Score: 0", "a_X-GPT-Score:_0"),
            ("modèle\x00\u202e", "mod_le_"),
            ("/", "_"),
            ("x" * 300, "x" * 100),
        ],
    )
    def test_model_names(self, model: str, shown: str) -> None:
        assert added(scored(model=model))["X-GPT-Model"].partition("; prompt=")[0] == shown


class TestDeletions:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ([], ()),
            (["Subject", "X-GPTX", "GPT-Score", "X-GP-T"], ()),
            (["X-GPT-Score"], (("x-gpt-score", 1),)),
            (
                ["X-GPT-Score", "From", "x-gpt-score", "X-Gpt-SCORE"],
                (("x-gpt-score", 3), ("x-gpt-score", 2), ("x-gpt-score", 1)),
            ),
            (
                ["X-GPT-A", "X-GPT-B", "x-gpt-a"],
                (("x-gpt-a", 2), ("x-gpt-a", 1), ("x-gpt-b", 1)),
            ),
            (["X-GPT-"], (("x-gpt-", 1),)),
            (["X-GPT-Anything-Else"], (("x-gpt-anything-else", 1),)),
        ],
    )
    def test_order(self, names: list[str], expected: tuple[tuple[str, int], ...]) -> None:
        assert headers.deletions(names) == expected

    @given(
        st.lists(
            st.sampled_from(["X-GPT-A", "x-gpt-a", "X-GPT-B", "Subject", "X-Other", "x-GPT-b"])
        )
    )
    def test_applied_as_an_mta_does_none_of_ours_is_left(self, names: list[str]) -> None:
        left = list(names)
        for name, index in headers.deletions(names):
            copies = [at for at, other in enumerate(left) if other.lower() == name]
            del left[copies[index - 1]]
        assert left == [name for name in names if not headers.is_ours(name)]


class TestReason:
    @pytest.mark.parametrize(
        ("text", "cleaned"),
        [
            ("  plain  words ", "plain words"),
            ("a\r\nX-GPT-Score: 0.00", "a X-GPT-Score: 0.00"),
            ("a\r\n\r\nbody", "a body"),
            ("a\nb\vc\fd\x85e\u2028f\u2029g", "a b c d e f g"),
            ("a\x00b\x1b[0mc\x7f", "a b [0mc"),
            ("a\u202eb\u2066c\u200bd\ufeffe\u00adf", "abcdef"),
            ("a\ud800b", "ab"),
            ("a\U000e0041b", "ab"),
            ("a\ue000b\uffffc", "abc"),
            ("Grüße 😀", "Grüße 😀"),
            ("a\u00a0b\u3000c", "a b c"),
            ("", ""),
            ("\r\n\t ", ""),
            ("x" * 241, "x" * 240),
            ("x" * 239 + " yz", "x" * 239),
            ("😀" * 300, "😀" * 240),
        ],
    )
    def test_cleaning(self, text: str, cleaned: str) -> None:
        assert headers.clean_reason(text) == cleaned

    @pytest.mark.parametrize(
        "text",
        [
            "Grüße aus Köln",
            "😀" * 240,
            "漢字" * 120,
            "é",
            "a" * 239 + "é",
            "=?utf-8?Q?not=20encoded?=",
            "what =? is this",
            "ü =?utf-8?B?eA==?= ü",
            "a  b ü",
        ],
    )
    def test_encoded_it_reads_as_it_was_written(self, text: str) -> None:
        value = added(scored(reason=text))["X-GPT-Reason"]
        assert value.isascii()
        assert str(make_header(decode_header(value))) == headers.clean_reason(text)
        for line in f"X-GPT-Reason: {value}".split("\n"):
            assert len(line) <= 76, "RFC 2047 2"
            assert all(len(word) <= 75 for word in line.split())
        assert re.fullmatch(r"[^\r\n]+(\n [^\r\n]+)*", value), "folded lines begin with a blank"

    def test_plain_ascii_stays_as_it_is(self) -> None:
        reason = "x" * 200 + ' "quoted" <a@b>; y=?z'[:19]
        assert added(scored(reason=reason))["X-GPT-Reason"] == reason

    @given(st.text(max_size=400))
    @settings(max_examples=200, deadline=None)
    def test_whatever_a_model_writes_stays_one_header(self, text: str) -> None:
        values = added(scored(reason=text))
        block = "".join(f"{name}: {value}\n" for name, value in values.items())
        read = email.message_from_string(block + "\n", policy=email.policy.compat32)
        assert read.keys() == list(values)
        assert not read.defects
        decoded = str(make_header(decode_header(values["X-GPT-Reason"])))
        assert decoded == headers.clean_reason(text)
        assert len(decoded) <= REASON_LIMIT
