"""Which runs of letters and digits look like chance: numbers of orders, keys, marks of tracking.

Plain functions over one word.  What may not live here: where in a mail such words may be masked,
and how many (masks.py).

What looks like chance may be masked, so a doubt is decided against it: a reader must not be able to
read what is masked.  Digits written for letters (`p4ssw0rd`) are read as those letters, and what
then reads like a word is none.
"""

from __future__ import annotations

import re

TOKEN_LEAST = 6
"""Signs of a token at least: shorter ones are names of things, such as `MP3`, `A4` and `B2B`."""

STRETCH_LEAST = 6
"""Letters that make something readable; a word of five in one token says little."""

READABLE = 0.65
"""Share of common pairs from which letters read like a word.  Of words of six letters and more in
mails of many languages 86 % have it, of random letters and digits 2 %."""

READABLE_ONE = 0.5
"""The same for a word in which few signs are digits: `mailb0x`."""

LEET_MOST = 0.34
"""Share of digits that letters written so have at most; beyond, nobody reads them."""

# The 135 commonest pairs of letters in the words of mails in English, German, French, Spanish,
# Italian and Portuguese: 82 % of all pairs there.
_COMMON = (
    "ab ac ad ag ai al am an ap ar as at be bl ca ce ch ci ck cl co ct da de di do ea ec ed "
    "ee ei el em en er es et ev ex fe fi fo ge gi ha he hi ho ia ic id ie ig il im in io ir "
    "is it iv ke la le li ll lo ly ma me mi mo mp na nc nd ne ng ni no ns nt oc ol om on oo "
    "op or os ot ou ow pa pe pi pl po pp pr qu ra rd re ri ro rs rt sa se sh si so sp ss st "
    "su ta te th ti to tr ts tu ue ul un ur us ut ve vi wa wi"
)
_PAIRS = frozenset(_COMMON.split())
_UNLEET = str.maketrans("013457", "oieast")
_STRETCH = re.compile(rf"[a-z013457]{{{STRETCH_LEAST},}}")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_CHANGE = re.compile(r"(?<=[0-9])(?=[a-z])|(?<=[a-z])(?=[0-9])")
_REGULAR = re.compile(r"[^\W\d_]?[^\W\d_A-Z]+|[^\W\d_a-z]+")
_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
# Where money goes: Bitcoin and Litecoin (each in two forms), Ethereum, Dogecoin, Tron, Monero.
_WALLET = re.compile(
    r"(?:bc1|ltc1)[a-z0-9]{25,60}|0x[0-9a-fA-F]{40}|(?=.*[a-z])(?=.*[A-Z])"
    rf"(?:[13]{_BASE58}{{25,34}}|[DLMT]{_BASE58}{{32,33}}|[48]{_BASE58}{{94}})"
)


def is_token(run: str) -> bool:
    """Whether a run of ASCII letters and digits is chance, and nothing to read or to pay to.

    Digits alone are none, nor letters alone, nor a word and a number (`office365`).
    """
    digits = sum(map(str.isdigit, run))
    if len(run) < TOKEN_LEAST or not 0 < digits < len(run) or _WALLET.fullmatch(run):
        return False
    low = run.lower()
    if len(_CHANGE.findall(low)) == 1 and len(run) - digits > 2:
        return False
    # With six letters and digits enough little can be written.
    is_hexadecimal = _HEXADECIMAL.fullmatch(low) is not None and digits > LEET_MOST * len(low)
    return is_hexadecimal or not _is_read(low, digits)


def read(run: str) -> str:
    """A run as its reader takes it: digits written for letters are those letters."""
    return run.lower().translate(_UNLEET)


def _is_read(low: str, digits: int) -> bool:
    """Whether a third of a run and more reads like words."""
    least = READABLE_ONE if digits * 6 <= len(low) else READABLE
    legible = 0
    for stretch in _STRETCH.findall(low):
        plain = stretch.translate(_UNLEET)
        changed = sum(map(str.isdigit, stretch))
        if changed <= LEET_MOST * len(stretch) and pairs(plain) >= least:
            legible += len(stretch)
    return legible * 3 >= len(low)


def is_word(letters: str) -> bool:
    """Whether a run of letters is a word: in capitals all, the first or none, and readable.

    Letters beyond ASCII always are: chance does not make them.
    """
    return _REGULAR.fullmatch(letters) is not None and (
        not letters.isascii() or pairs(letters.lower()) >= READABLE_ONE
    )


def pairs(word: str) -> float:
    """The share of a lower-case word's pairs of letters that are common."""
    known = sum(word[at : at + 2] in _PAIRS for at in range(len(word) - 1))
    return known / max(1, len(word) - 1)


def size(length: int) -> str:
    """The class of a token's length: exact for short ones; encodings of one thing vary in it."""
    return str(length) if length < 16 else f"{1 << (length.bit_length() - 1)}"
