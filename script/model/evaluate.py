"""Measures the exported file on held-out mail, a row for each folder, kind and language."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from script.model.asking import Answer, ask, post, serving
from script.model.generate import UNSEEN
from script.model.prepare import Example
from script.model.vocabulary import Vocabulary

HEAD = "| mail | count | >= 0.75 | <= 0.25 | median | right category |\n|---|---|---|---|---|---|"


def groups_of(example: Example) -> list[str]:
    """The rows that a mail counts in."""
    if example.source != "generated":
        return [f"{example.source} {example.kind}".strip()]
    side = "wanted" if example.label == "none" else "unwanted"
    rows = [f"generated, {side}", f"generated {side}, {example.language}", f"kind {example.kind}"]
    if (example.kind, example.language) in UNSEEN:
        rows.append(f"generated {side}, kind never seen in that language")
    return rows


def row(name: str, answers: list[tuple[str, Answer]]) -> str:
    scores = [answer.score for _, answer in answers]
    high = [(label, answer) for label, answer in answers if answer.score >= 0.75]
    right = sum(label == answer.category for label, answer in high)
    share = len(scores) / 100
    category = f"{100 * right / len(high):.0f} %" if high and answers[0][0] != "none" else "-"
    return (
        f"| {name} | {len(scores)} | {len(high) / share:.1f} % "
        f"| {sum(score <= 0.25 for score in scores) / share:.1f} % "
        f"| {statistics.median(scores):.3f} | {category} |"
    )


def evaluate(path: Path, found: Iterable[Example]) -> str:
    rows: dict[str, list[tuple[str, Answer]]] = defaultdict(list)
    seconds: list[float] = []
    tokens: list[int] = []
    form = 1.0
    with serving(path, threads=1) as base:
        for example in found:
            began = time.monotonic()
            answer = ask(base, example.text)
            seconds.append(time.monotonic() - began)
            tokens.append(answer.tokens)
            form = min(form, answer.sure_of_form)
            for name in groups_of(example):
                rows[name].append((example.label, answer))
    seconds.sort()
    lines = [HEAD, *(row(name, rows[name]) for name in sorted(rows))]
    lines.append(
        f"\nOne thread: median {statistics.median(seconds) * 1000:.0f} ms a mail, 95 % within "
        f"{seconds[int(len(seconds) * 0.95)] * 1000:.0f} ms; tokens: median "
        f"{statistics.median(tokens):.0f}, most {max(tokens)}. "
        f"Least probability on the five answers together: {form:.4f}."
    )
    return "\n".join(lines)


def same_tokens(path: Path, texts: Iterable[str], vocabulary: Vocabulary) -> tuple[int, int]:
    """How many texts there are, and how many llama.cpp cuts unlike the training did."""
    count = wrong = 0
    with serving(path) as base:
        for text in texts:
            body: dict[str, object] = {"content": text, "add_special": True, "parse_special": True}
            theirs = post(base, "/tokenize", body)["tokens"]
            count += 1
            wrong += theirs != vocabulary.encode(text, 1 << 20)[:-1]
    return count, wrong
