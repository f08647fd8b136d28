"""The training: next token over the mail, and the answer behind it.

The next-token half makes a classifier of two million weights read words in seven languages from a
few thousand mails; without it, it learns a handful of give-away words.
"""

import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from script.model.labels import LABELS
from script.model.network import Network, count
from script.model.prepare import Example
from script.model.vocabulary import Vocabulary

# How often a mail of each source is shown for each time the generated ones are shown once.
REPEATS = {"spamassassin-ham": 4, "spamassassin-spam": 4, "sisimai": 2}
LIMIT = 1024  # tokens of one mail; a compact text in Latin letters has about 500 at most
STRIDE = 64
INNER_RATE = 2e-3
TABLE_RATE = 4e-3
WARM_UP = 100
READING_WEIGHT = 0.5
# What the four other answers share. A model this small is never surer than that, and all five
# answers stay among the most likely tokens, which are all that a server tells the daemon.
SMOOTHING = 0.02


@dataclass(frozen=True, slots=True)
class Item:
    ids: list[int]
    answer: int
    answers: range


def items(examples: Sequence[Example], vocabulary: Vocabulary) -> list[Item]:
    return [
        Item(
            vocabulary.encode(one.text, LIMIT),
            vocabulary.answers[LABELS.index(one.label)],
            vocabulary.answers,
        )
        for one in examples
        for _ in range(REPEATS.get(one.source, 1))
    ]


def batches(found: Sequence[Item], tokens: int, rng: random.Random) -> Iterator[list[Item]]:
    """Endless batches of mails of like length, in random order.

    Lengths are rounded up to STRIDE and a length always comes with the same number of rows:
    oneDNN builds and keeps its kernels for each shape it meets.
    """
    while True:
        shelves: dict[int, list[Item]] = defaultdict(list)
        order = list(found)
        rng.shuffle(order)
        ready: list[list[Item]] = []
        for item in order:
            length = rounded(len(item.ids))
            shelves[length].append(item)
            if len(shelves[length]) == max(1, tokens // length):
                ready.append(shelves.pop(length))
        rng.shuffle(ready)
        yield from ready


def rounded(length: int) -> int:
    return -(-length // STRIDE) * STRIDE


def loss_of(network: Network, batch: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(rounded(len(item.ids)) for item in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    nexts = torch.full((len(batch), longest), -100)
    for row, item in enumerate(batch):
        length = len(item.ids)
        ids[row, :length] = torch.tensor(item.ids)
        nexts[row, : length - 2] = ids[row, 1 : length - 1]
    last = torch.tensor([len(item.ids) - 1 for item in batch])
    targets = torch.zeros(len(batch), network.shape.vocabulary)
    for row, item in enumerate(batch):
        targets[row, item.answers.start : item.answers.stop] = SMOOTHING / (len(LABELS) - 1)
        targets[row, item.answer] = 1 - SMOOTHING
    with torch.autocast("cpu", torch.bfloat16):
        hidden = network(ids)
        reading = network.scores(hidden)
        answering = network.scores(hidden[torch.arange(len(batch)), last])
    return (
        functional.cross_entropy(reading.flatten(0, 1), nexts.flatten()).float(),
        functional.cross_entropy(answering.float(), targets),
    )


def optimizers_of(network: Network) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the inner matrices: it needs half the steps that AdamW needs on all weights."""
    inner = list(network.blocks.parameters())
    matrices = [weight for weight in inner if weight.dim() == 2]
    others = [
        weight for weight in network.parameters() if not any(weight is one for one in matrices)
    ]
    return [
        (torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"), INNER_RATE),
        (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0), TABLE_RATE),
    ]


def train(
    found: Sequence[Item],
    network: Network,
    *,
    steps: int,
    tokens: int,
    seed: int,
    pace: float,
    save_to: Path,
) -> None:
    """Trains the network in place; a `pace` below 1 is for going on with one that has learnt."""
    torch.set_num_threads(2)
    print(f"{count(network):,} weights, {len(found):,} mails, {steps} steps", file=sys.stderr)
    optimizers = optimizers_of(network)
    source = batches(found, tokens, random.Random(seed))
    began, seen, reading_mean, answer_mean = time.monotonic(), 0, math.nan, math.nan
    for step in range(steps):
        batch = next(source)
        share = min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps - WARM_UP))
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * pace * share
        reading, answering = loss_of(network, batch)
        network.zero_grad(set_to_none=True)
        (READING_WEIGHT * reading + answering).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        seen += len(batch)
        reading_mean = _mean(reading_mean, reading.item())
        answer_mean = _mean(answer_mean, answering.item())
        if step % 25 == 24:
            print(
                f"step {step + 1} mails {seen} reading {reading_mean:.3f} answer {answer_mean:.3f}"
                f" {(time.monotonic() - began) / (step + 1):.2f} s/step",
                file=sys.stderr,
                flush=True,
            )
    torch.save(network.state_dict(), save_to)


def _mean(old: float, new: float) -> float:
    return new if math.isnan(old) else 0.95 * old + 0.05 * new
