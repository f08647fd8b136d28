"""The vocabulary: byte-pair pieces learnt with sentencepiece, then the ask and answer pieces.

llama.cpp's own tokenizer for such a vocabulary must cut text exactly as sentencepiece does: hence
no normalising, no invented leading space, bytes for what has no piece.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from script.model.labels import ANSWERS, ASK, BOS, EOS, UNK

PIECES = 3072  # 2.8 characters a token over seven languages; the table stays a quarter of the model


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces with their scores; ids from len(pieces) on are the ask piece and the answers."""

    processor: sentencepiece.SentencePieceProcessor

    @property
    def learnt(self) -> int:
        return int(self.processor.get_piece_size())

    @property
    def ask(self) -> int:
        return self.learnt

    @property
    def answers(self) -> range:
        return range(self.learnt + 1, self.learnt + 1 + len(ANSWERS))

    @property
    def size(self) -> int:
        """Rounded up to 64 for the matrix kernels; the rest is never used."""
        return -(-(self.learnt + 1 + len(ANSWERS)) // 64) * 64

    def encode(self, text: str, limit: int) -> list[int]:
        """What llama.cpp makes of a chat with this text: start, text, ask piece."""
        return [1, *self.processor.encode(text)[: limit - 2], self.ask]


def learn(texts: Iterable[str], path: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(path.with_suffix("")),
        model_type="bpe",
        vocab_size=PIECES,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        character_coverage=0.9995,
        max_sentence_length=65536,
        input_sentence_size=12000,
        shuffle_input_sentence=True,
        num_threads=2,
        minloglevel=2,
    )


def load(path: Path) -> Vocabulary:
    return Vocabulary(sentencepiece.SentencePieceProcessor(model_file=str(path)))


def special_texts() -> dict[int, str]:
    """What sentencepiece calls <unk>, <s> and </s>, under the names a mail cannot spell."""
    return {0: UNK, 1: BOS, 2: EOS}


def unreachable(answers: Sequence[str], pieces: Iterable[str]) -> bool:
    """True if no answer can be merged together from a mail's text."""
    known = set(pieces)
    return all(
        not (answer[:cut] in known and answer[cut:] in known)
        for answer in answers
        for cut in range(1, len(answer))
    )


__all__ = ["ASK", "Vocabulary", "learn", "load", "special_texts", "unreachable"]
