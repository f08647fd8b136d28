"""The five answers of the model, and the pieces of text that stand for them.

May not import anything heavy: the generator, the trainer and the tests all use it.
"""

from dataclasses import dataclass

LABELS = ("none", "phishing", "scam", "malware", "marketing")

# An answer is a normal piece, never a special one: llama.cpp looks for special pieces in the text
# of a mail, and a mail must not be able to write an answer. Nor can a normal piece be merged
# together from a mail, because no two pieces of the vocabulary join up to it
# (vocabulary.unreachable proves that for each file written).
ANSWERS = tuple(f"<|{label}|>" for label in LABELS)

# The special pieces are C0 control characters, which compact.compact removes from a mail: so a
# mail that spells out "<s>" or "[INST]" only spells letters.
BOS, EOS, UNK, ASK = "\x02", "\x03", "\x1a", "\x05"


@dataclass(frozen=True, slots=True)
class Sample:
    """One mail with what is known about it; `source` and `kind` only serve the measuring."""

    source: str
    kind: str
    language: str
    label: str
    data: bytes
    held_out: bool
