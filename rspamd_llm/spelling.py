"""Obfuscation undone: the letters that a reader takes a text's signs for.

Plain functions over text.  What may not live here: HTML (visible.py), domain names and what to
make of them (domains.py), judgement beyond whether a spelling evades.

A text is only changed where its sign and its meaning differ: stylised letters (mathematical,
full-width, circled, small capitals), foreign letters inside a word that mixes scripts, letters
apart (`V I A G R A`), digits in a word of a short list, and stacked combining marks.  Whole words
of one script stay, whatever they look like.  `undo` takes time linear in the length of a text.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

LIMIT = 20_000
"""Characters of a text that are looked at; a long mail has 10,000, and models are shown fewer."""

LINE = 200
"""Characters that a subject or a name has at most; longer ones are no line."""

# Letters of other scripts by the Latin letter that they pass for, from the data of Unicode
# Technical Standard #39 (confusables.txt, version 15.1, Unicode License V3) reduced to Cyrillic,
# Greek and Armenian; added are accented ones, and small letters that look like small capitals.
_FOREIGN: Mapping[str, str] = {
    "A": "\u0391\u0410", "B": "\u0392\u0412", "C": "\u03f9\u0421", "E": "\u0395\u0415",
    "F": "\u03dc", "G": "\u050c", "H": "\u0397\u041d", "I": "\u0399\u0406\u04c0", "J": "\u0408",
    "K": "\u039a\u041a", "M": "\u039c\u03fa\u041c", "N": "\u039d", "O": "\u039f\u041e\u0555",
    "P": "\u03a1\u0420", "S": "\u0405\u054f", "T": "\u03a4\u0422", "U": "\u054d", "V": "\u0474",
    "W": "\u051c", "X": "\u03a7\u0425", "Y": "\u03a5\u03d2\u0423\u04ae", "Z": "\u0396",
    "a": "\u03ac\u03b1\u0430", "b": "\u042c\u0432", "c": "\u03f2\u0441", "d": "\u0501",
    "e": "\u0435\u0451\u04bd", "f": "\u0584", "g": "\u0581", "h": "\u043d\u04bb\u0570",
    "i": "\u03af\u03b9\u0456\u0457\ua647", "j": "\u0458", "k": "\u03ba\u043a", "l": "\u04cf",
    "m": "\u043c", "n": "\u0578\u057c", "o": "\u03bf\u03c3\u03cc\u043e\u0585",
    "p": "\u03c1\u03f1\u0440", "q": "\u051b\u0563\u0566", "r": "\u0433\u1d26", "s": "\u0455",
    "t": "\u03c4\u0442", "u": "\u03c5\u03cd\u057d", "v": "\u03bd\u0475", "w": "\u0461\u051d\u0561",
    "x": "\u0445", "y": "\u03b3\u0443\u04af",
}  # fmt: skip
_TO_LATIN = {ord(sign): letter for letter, signs in _FOREIGN.items() for sign in signs}
# The way back, for Latin letters strewn into Cyrillic words (U+0400 to U+04FF).
_TO_CYRILLIC = {
    ord(letter): next(sign for sign in signs if "\u0400" <= sign <= "\u04ff")
    for letter, signs in _FOREIGN.items()
    if any("\u0400" <= sign <= "\u04ff" for sign in signs)
}
# Latin letters that honest words are written with, but which in a name pass for plain ones.
_LATIN: Mapping[str, str] = {
    "a": "\u0251", "b": "\u0180\u0185", "d": "\u0111\u0256", "g": "\u018d\u01e5\u0261",
    "h": "\u0127", "i": "\u0131\u0269", "l": "\u0142\u026b", "o": "\u00f8\u0275", "t": "\u0167",
    "u": "\u028b", "w": "\u026f", "y": "\u0263", "z": "\u01b6",
}  # fmt: skip


def _stylised() -> dict[int, str]:
    """Signs that are a plain letter in another style, and that letter."""
    blocks = (
        (0x2070, 0x20A0), (0x2100, 0x2150), (0x24B6, 0x24EA), (0xFF21, 0xFF5B),
        (0x1D2C, 0x1D6B), (0x1D400, 0x1D7CC), (0x1F110, 0x1F14A),
    )  # fmt: skip
    table: dict[int, str] = {}
    for first, end in blocks:
        for code in range(first, end):
            plain = unicodedata.normalize("NFKC", chr(code)).strip("()")
            if len(plain) == 1 and plain.isalpha() and plain != chr(code):
                table[code] = plain
    for code in range(26):  # white on black, which Unicode gives no plain form
        table[0x1F150 + code] = table[0x1F170 + code] = chr(0x41 + code)
    small_capitals = "\u1d00a\u0299b\u1d04c\u1d05d\u1d07e\ua730f\u0262g\u029ch\u026ai\u1d0aj\u1d0bk"
    small_capitals += "\u029fl\u1d0dm\u0274n\u1d0fo\u1d18p\u0280r\ua731s\u1d1bt\u1d1cu\u1d20v"
    small_capitals += "\u1d21w\u028fy\u1d22z"
    pairs = zip(small_capitals[::2], small_capitals[1::2], strict=True)
    return table | {ord(sign): letter for sign, letter in pairs}


_STYLISED = _stylised()


def _ranges(codes: list[int]) -> str:
    """Code points as the inside of a regular expression's character class."""
    parts: list[list[int]] = []
    for code in sorted(codes):
        if parts and parts[-1][1] == code - 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in parts)


_STYLED = _ranges(list(_STYLISED))
# Superscripts and letterlike signs stand in honest words (ordinals, units), so they do not count.
_SHOWY = _ranges([code for code in _STYLISED if code >= 0x24B6 or 0x1D00 <= code <= 0x1D22])
_STYLED_SIGN = re.compile(f"[{_STYLED}]")
_STYLED_WORD = re.compile(f"[{_SHOWY}]{{2,}}")
_STYLED_PART = re.compile(
    f"[A-Za-z][{_SHOWY}]{{1,20}}[A-Za-z]|[A-Za-z][{_SHOWY}]{{2}}|[{_SHOWY}]{{2}}[a-z]"
)
_WIDE = re.compile("[\uff21-\uff3a\uff41-\uff5a]+")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_OTHER = "\u0370-\u03ff\u0400-\u052f\u0531-\u0587\u1d26\ua640-\ua69f"
_MIXED = re.compile(f"[A-Za-z][{_OTHER}]|[{_OTHER}][A-Za-z]")
_OTHER_SIGN = re.compile(f"[{_OTHER}]")
_OTHER_WORD = re.compile(f"[{_OTHER}]{{3}}")
_LETTERS = re.compile(r"[^\W\d_]+")
# Four single letters or more with the same sign between all of them: three are an abbreviation.
# No run is a part of an address or a path, whose signs are meant.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});", re.IGNORECASE)
# What text in Latin letters is quoted for: blanks, `=`, and the first octets of UTF-8 and Latin-1.
_QUOTED = re.compile(r"=(?:20|3D|09|A0|C[23]|E2|E[0-9A-F]|F[0-9A-F]|D[0-9A-F])")
_QUOTED_RUN = re.compile(r"(?:=[0-9A-F]{2})+")
_NO_ADDRESS = re.compile(r"(?<!\S)(?!\S*(?:://|[?&]))\S+")
_SOFT_BREAK = re.compile(r"=[ \t]*\n")
SOUP_LEAST = 5
"""Undecoded signs that make a soup; one or two stand in honest mails about HTML."""
_APART = re.compile(
    r"[^\W\d_]([ .\-_*~|\xb7])(?<![\w@/.:'\u2019-]..)(?:[^\W\d_]\1){2,40}[^\W\d_]"
    r"(?!\w|[.@/:'\u2019-]\w)"
)
_LEET_SIGN = re.compile(r"[013457@$!|](?<=[A-Za-z].)(?=[A-Za-z])")
_LEET = re.compile(
    r"(?<![\w@/.$!|-])[A-Za-z]{1,20}(?:[013457@$!|][A-Za-z]{1,20}){1,6}(?![\w@/$|-])"
)
# Signs that nobody sees, but for those that emoji, Persian and Indic words need.
_UNSEEN = re.compile("[\xad\u034f\u200b\u2060-\u2064\ufeff\U000e0000-\U000e007f]+")
_SPLIT = re.compile("(?<=[A-Za-z])[\u034f\u200b\u2060-\u2064\ufeff]+(?=[A-Za-z])")
_STRUCK = re.compile("(?<=[A-Za-z])[\u0334-\u0338\u20d2-\u20e6]")
_STACK = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{3,}")

_UNLEET = (str.maketrans("013457@$!|", "oieastasil"), str.maketrans("013457@$!|", "oleastasll"))
_LIST = (
    "access account adobe alert amazon bank banking billing binance bitcoin bonus casino chase "
    "cialis click coinbase confirm congratulations credit crypto delivery docusign dropbox "
    "ebay facebook fedex free google icloud instagram invoice invest investment jackpot "
    "levitra loan login lottery mail mastercard medicine metamask money netflix "
    "office offer order outlook paypal payment pharmacy pills porn prize profit promotion "
    "refund replica reward security service sildenafil suspended tramadol unlock update urgent "
    "valium verify viagra visa wallet whatsapp winner xanax yahoo"
)
_WORDS = frozenset(_LIST.split())
# Undone like the others, but people write them so: `Pa$$w0rd` is every manual's example.
_HARMLESS = frozenset(("password", "passwords", "passwort", "microsoft", "sex", "elite"))


@dataclass(frozen=True, slots=True)
class Spelled:
    """A text as a reader takes it, and whether its spelling evades filters beyond chance."""

    text: str
    evades: bool


@dataclass(slots=True)
class _Tally:
    stylised: int = 0
    """Letters of stylised words."""
    inside: int = 0
    """Places where a word goes from plain to stylised letters."""
    mixed: int = 0
    apart: int = 0
    named: int = 0
    """Words of the list, spelled apart or with digits."""
    stacks: int = 0
    struck: int = 0
    """Letters struck through."""
    split: int = 0
    """Places inside words where a sign stands that nobody sees; soft hyphens have a reason."""


# Facts and prompt ask for the same name, subject and text of one mail: a few mails' worth is kept.
@functools.lru_cache(maxsize=16)
def undo(text: str) -> Spelled:
    """The text with its obfuscation undone in its first LIMIT characters.  Never raises."""
    head, rest = _decoded(text[:LIMIT]), text[LIMIT:]
    tally = _Tally()
    if not head.isascii():
        head, tally.stacks = _STACK.subn("", head)
        head, tally.struck = _STRUCK.subn("", head)
        if _UNSEEN.search(head):
            tally.split = len(_SPLIT.findall(head))
            head = _UNSEEN.sub("", head)
        if _STYLED_SIGN.search(head):
            _count_styles(head, tally)
            head = head.translate(_STYLISED)
    head = _APART.sub(lambda match: _apart(match, tally), head)
    # After what was spelled apart stands together: it may have been spelled in two scripts.
    if _MIXED.search(head):
        head = _one_script(head, tally)
    if _LEET_SIGN.search(head):
        head = _LEET.sub(lambda match: _leet(match, tally), head)
    bilingual = tally.mixed > 0 and _OTHER_WORD.search(head) is not None
    return Spelled(head + rest, _evades(tally, len(head), bilingual=bilingual))


def _decoded(text: str) -> str:
    """The text without entities and quoted-printable that nobody decoded, where it is full of it.

    Mail programs show such text as it stands; a person reads through it, a small model does not.
    """
    if text.count("&") >= SOUP_LEAST and len(_ENTITY.findall(text)) >= SOUP_LEAST:
        text = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
    if text.count("=") < SOUP_LEAST:
        return text
    if sum(len(_QUOTED.findall(word)) for word in _NO_ADDRESS.findall(text)) >= SOUP_LEAST:
        text = _SOFT_BREAK.sub("", text)
        text = _NO_ADDRESS.sub(lambda word: _QUOTED_RUN.sub(_unquoted, word.group()), text)
    return text


def _unquoted(run: re.Match[str]) -> str:
    octets = bytes.fromhex(run.group().replace("=", ""))
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("windows-1252", "replace")


def _evades(tally: _Tally, length: int, *, bilingual: bool) -> bool:
    """Whether what was undone is more than chance and fashion make.

    One word with foreign letters in it is no slip in a text that has no other word of that
    script; who types in two scripts makes such slips, so there it takes 3 (a mail's worth).
    Words set apart are a fashion of headings: 4 of them, or one in a line alone.  Social media
    style whole names and headings, so stylised words count when they are over 60 letters (two
    headings) and a third of the text; words stylised in part have no such excuse but may be a
    logo's: 2.  Three stacks of marks: languages stack two, and a word of them has more.  Struck
    letters from a word of 8 on: prices are struck, and have few.  Three split words are no
    editor's leftover.
    """
    return (
        tally.mixed >= (3 if bilingual else 1)
        or tally.named >= 1
        or tally.apart >= (4 if length > LINE else 1)
        or tally.inside >= 2
        or tally.stylised > max(60, length // 3)
        or tally.stacks >= 3
        or tally.struck >= 8
        or tally.split >= 3
    )


def _count_styles(text: str, tally: _Tally) -> None:
    if _WIDE.search(text) and _EAST_ASIAN.search(text):
        text = _WIDE.sub("", text)  # full-width letters are honest where East Asian text is
    tally.inside = len(_STYLED_PART.findall(text))
    tally.stylised = sum(map(len, _STYLED_WORD.findall(text)))


def _one_script(text: str, tally: _Tally) -> str:
    """Words that mix Latin with a script that looks like it, in the script they pass for."""
    known: dict[str, tuple[str, int]] = {}  # a text repeats its words

    def replaced(match: re.Match[str]) -> str:
        word = match.group()
        if word.isascii():
            return word
        if word not in known:
            known[word] = _word(word, least=least)
        plain, count = known[word]
        tally.mixed += count
        return plain

    least = WORD_LEAST
    text = _LETTERS.sub(replaced, text)
    if tally.mixed > 0:
        # A text that mixes does so in its short words too.
        least, before = 2, tally.mixed
        known.clear()
        text = _LETTERS.sub(replaced, text)
        tally.mixed = before
    return text


WORD_LEAST = 4
"""Letters of a word that is judged by itself: below are units and formulas, such as kOhm."""


def _word(word: str, *, least: int) -> tuple[str, int]:
    """A word in one script, and whether that counts."""
    if len(word) < least or not _MIXED.search(word):
        return word, 0
    plain = word.translate(_TO_LATIN)
    if not _OTHER_SIGN.search(plain):
        # A small letter before a word is a chemist's; capitals and letters inside are not.
        return plain, int(word[0].isupper() or _MIXED.search(word, 1) is not None)
    if len(_OTHER_SIGN.findall(word)) * 2 > len(word):
        cyrillic = word.translate(_TO_CYRILLIC)
        if not re.search("[A-Za-z]", cyrillic):
            return cyrillic, 1
    return word, 0


def _apart(match: re.Match[str], tally: _Tally) -> str:
    word = match.group()[::2]
    known = word.lower()
    if known in _WORDS:
        tally.named += 1
    elif match.group(1) == "." and word.isupper():
        return match.group()  # an abbreviation
    elif len(word) > 4 and known not in "abcdefghijklmnopqrstuvwxyz":
        tally.apart += 1
    return word


def _leet(match: re.Match[str], tally: _Tally) -> str:
    word = match.group()
    for table in _UNLEET:
        plain = word.lower().translate(table)
        if plain in _WORDS or plain in _HARMLESS:
            tally.named += plain in _WORDS
            return plain.upper() if word.isupper() else plain
    return word


# --- Names ----------------------------------------------------------------------------------

_SAME = {code: letter.lower() for code, letter in _TO_LATIN.items()}
_SAME |= {ord(sign): letter for letter, signs in _LATIN.items() for sign in signs}
_SAME |= {ord("i"): "l", ord("1"): "l", ord("|"): "l", ord("0"): "o", ord("5"): "s"}


def skeleton(name: str) -> str:
    """What a name looks like: names with equal skeletons are taken for each other.

    After the skeleton of UTS #39, but blind to case and accents too; only for comparison.
    """
    if not name.isascii():
        decomposed = unicodedata.normalize("NFKD", name.translate(_STYLISED))
        name = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    return name.casefold().translate(_SAME).replace("rn", "m").replace("vv", "w")


def scripts(label: str) -> frozenset[str]:
    """The scripts of a name's letters, as Unicode names them; East Asian ones count as one."""
    found: set[str] = set()
    for sign in label:
        if sign.isalpha():
            script = "LATIN" if sign.isascii() else unicodedata.name(sign, "?").split()[0]
            found.add("EAST ASIAN" if script in _TOGETHER else script)
    # Japanese, Chinese and Korean names are written with Latin letters among them.
    return frozenset(found - {"LATIN"} if "EAST ASIAN" in found else found)


_TOGETHER = frozenset(
    ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "HANGUL", "IDEOGRAPHIC")
)
