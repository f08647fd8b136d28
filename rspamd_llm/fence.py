"""Untrusted text, made safe to stand in a prompt.

Plain functions.  What may not live here: the wording of the prompt (prompt.py) and judgement
(injection.py).  Three walls, each enough for a careless model and none for a clever one: the text
stands between two lines with a mark that its sender cannot know; nothing in it can spell a special
token of a chat template; and, where asked for, its blanks are marked.
"""

from __future__ import annotations

import re
import secrets

MARK_BYTES = 6
"""48 random bits: guessing one in a mail is out of the question."""

# Every special token of the known families begins with one of two signs: `<` (ChatML, Llama 2 and
# 3, Gemma, Phi, Qwen, DeepSeek with its full-width bars, Command-R, reasoning and tool marks) or
# `[` (Mistral, GLM).  Mail text has little use for angles, so they become single quotation marks
# (U+2039, U+203A); square brackets go only where they spell a token.
_ANGLES = str.maketrans(
    {
        "<": "\u2039",
        ">": "\u203a",
        # Full-width forms, which a normalisation later on would make narrow.
        "\uff1c": "\u2039",
        "\uff1e": "\u203a",
        "\uff5c": "|",
        "\u2581": "_",
    }
)
_BRACKET_TOKEN = re.compile(
    r"\[(?=\s*/?\s*(?:INST|SYS|SYSTEM|TOOL|AVAILABLE_TOOLS|MODEL_SETTINGS|THINK|ARGS|IMG|PREFIX|"
    r"MIDDLE|SUFFIX|BOS|EOS|UNK|PAD|CLS|SEP|g?MASK|s?MASK|SOP|EOP|USER|ASSISTANT)\w*\s*/?\s*\])",
    re.IGNORECASE,
)
# Templates without special tokens begin a turn with a role and a colon on a line of its own.
_TURN = re.compile(
    r"^([ \t#*_\u2039\u203a|=-]{0,20})(system|user|assistant|human|ai|model|developer|instruction|"
    r"instructions|response|input|facts|mail)"
    r"(?=[ \t]{0,8}(?:\([^)\n]{0,60}\)[ \t]{0,8})?(?::|$))",
    re.IGNORECASE | re.MULTILINE,
)
DATA_MARK = "^"
"""Stands for each blank in marked text (Hines et al. 2024, "spotlighting")."""


def mark() -> str:
    """A mark that no sender knows: 12 hex digits."""
    return secrets.token_hex(MARK_BYTES)


def fence(text: str, mark: str) -> str:
    """The text between its two lines.  It must have been defused: it cannot spell `<<<` then."""
    return f"<<<{mark}\n{text}\n{mark}>>>"


def defuse(text: str) -> str:
    """The text with what could pass for a chat template's tokens or for a fence made harmless.

    A person still reads the same; no letter is lost.
    """
    text = text.translate(_ANGLES)
    text = _BRACKET_TOKEN.sub("(", text)
    return _TURN.sub(r"\1'\2'", text)


def mark_blanks(text: str) -> str:
    """The text with its blanks marked, so that a model sees at each word that it reads data."""
    return re.sub(r"[^\S\n]+", DATA_MARK, text)
