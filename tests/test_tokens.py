"""Bounds of tokens, and what a server's counts teach."""

from __future__ import annotations

import pytest

from rspamd_llm import tokens
from rspamd_llm.tokens import Meter


@pytest.mark.parametrize(
    ("text", "least"),
    [("", 0), ("word " * 100, 100), ("12345", 5), ("漢" * 10, 10), ("😀" * 10, 30), ("é", 1)],
)
def test_the_bound_is_above_what_tokenizers_make_of_it(text: str, least: int) -> None:
    assert tokens.at_most(text) >= least


def test_a_surrogate_costs_and_does_not_raise() -> None:
    assert tokens.at_most("\ud800") >= 1


@pytest.mark.parametrize("room", [0, 1, 7, 100])
def test_what_fits_is_the_longest_head(room: int) -> None:
    text = "a1 漢😀" * 50
    head = tokens.fitting(text, room)
    assert text.startswith(head)
    assert head == "" or tokens.at_most(head) <= room
    assert len(head) == len(text) or tokens.at_most(text[: len(head) + 1]) > room


class TestCut:
    LONG = "word " * 3_000

    def test_a_count_far_below_the_words_is_a_cut(self) -> None:
        assert tokens.is_cut(self.LONG, 2_048)
        assert not tokens.is_cut(self.LONG, 3_000)

    @pytest.mark.parametrize("count", [0, 1, 300, tokens.CUT_LEAST - 1])
    def test_a_missing_or_cache_reduced_count_is_unknown(self, count: int) -> None:
        assert not tokens.is_cut(self.LONG, count)

    def test_ollama_s_cut_of_prose_is_noticed(self) -> None:
        """A context of 2,048 and a prompt of some 3,500 tokens: about 1.2 of them a word."""
        assert tokens.is_cut("He said, as always, that it rains. " * 300, 2_048)

    @pytest.mark.parametrize(
        "text", ["-" * 72 + "\n", "1234567890" * 7 + "\n", "漢" * 70, "=_" * 36]
    )
    def test_what_some_vocabularies_join_is_no_cut(self, text: str) -> None:
        assert not tokens.is_cut(text * 60, 900)


class TestMeter:
    def test_a_server_that_counts_more_than_our_bound_corrects_it(self) -> None:
        assert Meter().factor == 1.0
        assert Meter().learned(100, 80).factor == 1.0
        assert Meter().learned(100, 150).factor == 1.5

    def test_counts_of_nothing_teach_nothing(self) -> None:
        assert Meter().learned(100, 0) == Meter()
