"""Signs that no reader sees: zero-width and tag characters, overrides of the writing direction.

For text of any kind: subjects, names, plain and rendered text.  What may not live here: HTML and
judgement; that two letters look alike is another matter, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rspamd_llm.domain import Hiding

HIDDEN_LIMIT = 4_000
"""Characters kept of hidden text: about 1,000 tokens, of which a prompt shows far fewer."""

PARTING = " | "
"""Stands between pieces of hidden text."""

_RUN_LIMIT = 10
"""Signs in a run that need a reason: mail programs and editors leave one or two."""

_PERIOD_LIMIT = 8
"""Signs after which a padding repeats; those of newsletter services have up to 4."""

_DEPTH_LIMIT = 125  # of embeddings: UAX #9, max_depth

_SIGNS = re.compile(
    "[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\U000e0000-\U000e007f\U000e0100-\U000e01ef]+"
)
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_BIDI_LINE = re.compile("[^\n]*[\u202a-\u202e\u2066-\u2069][^\n]*")
_OVERRIDES = "\u202d\u202e"
_RLO = "\u202e"
_CLOSING = "\u202c\u2069"
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_]")

_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_UNTAGGED = {code + 0xE0000: code for code in range(0x20, 0x7F)}
_FLAG = "\U0001f3f4"
_FLAG_TAGS = re.compile("[\U000e0030-\U000e007a]{3,6}\U000e007f")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_EMOJI_RUN = re.compile("[\ufe0e\ufe0f]?\u200d?")
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u20e3\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff]"
)
_KEYCAP = "0123456789#*"
# Scripts in which joiners change a letter's form: Arabic and its kin, those of India, and more.
_JOINING = re.compile(
    "[\u0600-\u0fff\u1000-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc]"
)
# Scripts whose words are parted by blanks and whose letters never need a sign between them.  In
# others (Thai, Khmer) zero-width spaces say where a line may break.
_WORD = re.compile("[A-Za-z\u00aa-\u02af\u0370-\u058f\u10a0-\u10ff\u1c80-\u1fff]")
# Soft hyphens are honest at syllables, and hyphenators leave two letters at least.  Three pieces of
# one letter in a row are no syllables.
_SHREDDED = re.compile("(?:[^\\W\\d_]\u00ad){3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """A text as it is seen, what it spells unseen, and how that was hidden."""

    text: str
    hidden: str = ""
    hidings: tuple[Hiding, ...] = ()


def reveal(text: str) -> Revealed:
    """Takes out what no reader sees of a text.  Never raises."""
    hidden: list[str] = []
    hidings: list[Hiding] = []
    if _BIDI.search(text):
        text, overridden, stored = _in_order(text)
        hidden += stored
        if overridden:
            hidings.append(Hiding.BIDI)
    if _SIGNS.search(text):
        taken = _Taken(_SHREDDED.search(text) is not None)
        text = _SIGNS.sub(taken, text)
        hidden += taken.spelled
        if taken.means:
            hidings.append(Hiding.INVISIBLE_SIGNS)
    return Revealed(text=text, hidden=PARTING.join(hidden)[:HIDDEN_LIMIT], hidings=tuple(hidings))


class _Taken:
    """Replaces runs of signs, and notes what they mean."""

    def __init__(self, means: bool) -> None:
        self.means = means
        self.spelled: list[str] = []
        self._room = HIDDEN_LIMIT

    def __call__(self, match: re.Match[str]) -> str:
        run, text = match.group(), match.string
        before = text[match.start() - 1] if match.start() else ""
        after = text[match.end() : match.end() + 1]
        if len(run) <= 2 and _EMOJI_RUN.fullmatch(run):
            is_emoji = bool(_EMOJI.match(before))
            if is_emoji and (run[-1] != "\u200d" or _EMOJI.match(after)):
                return run
            if before in _KEYCAP and after == "\u20e3":
                return run
        if run in ("\u200c", "\u200d") and _JOINING.match(before):
            return run
        if before == _FLAG and _FLAG_TAGS.fullmatch(run):
            return ""
        if not self.means and run.strip("\u00ad"):
            self.means = bool(_WORD.match(before) and _WORD.match(after))
        if len(run) > 1:
            self._read(run)
        return ""

    def _read(self, run: str) -> None:
        spelled = [tags.translate(_UNTAGGED) for tags in _TAGS.findall(run)]
        spelled += [_bytes(signs).decode("utf-8", "replace") for signs in _SELECTORS.findall(run)]
        spelled = [text for text in spelled if _LETTER.search(text)]
        for text in spelled:
            if self._room > 0:
                self.spelled.append(text[: self._room])
                self._room -= len(text)
        if spelled or (len(run) > _RUN_LIMIT and not _is_padding(run)):
            self.means = True


def _bytes(selectors: str) -> bytes:
    """Variation selectors 1 to 256 as bytes."""
    codes = map(ord, selectors)
    return bytes(code - 0xFE00 if code < 0xFE10 else code - 0xE0100 + 16 for code in codes)


def _is_padding(run: str) -> bool:
    """Whether a run repeats itself, as what pushes a preheader's rest out of sight does."""
    return any(run[period:] == run[:-period] for period in range(1, _PERIOD_LIMIT + 1))


# --- Writing direction ----------------------------------------------------------------------


def _in_order(text: str) -> tuple[str, bool, list[str]]:
    """The text in the order in which it is shown, whether it had overrides, what was reversed."""
    stored: list[str] = []
    room = HIDDEN_LIMIT

    def shown(match: re.Match[str]) -> str:
        nonlocal room
        line = match.group()
        if _RLO not in line:
            return _BIDI.sub("", line)
        in_order = _line_in_order(line)
        plain = _BIDI.sub("", line)
        if in_order != plain and room > 0:
            stored.append(_SIGNS.sub("", plain).strip()[:room])
            room -= len(stored[-1])
        return in_order

    overridden = any(sign in text for sign in _OVERRIDES)
    return _BIDI_LINE.sub(shown, text), overridden, stored


def _line_in_order(line: str) -> str:
    """A line as shown: what stands in right-to-left overrides is reversed.

    Letters of scripts that run from right to left keep their order, for so they are read.
    """
    frames: list[tuple[bool, list[str]]] = [(False, [])]
    overflow = 0
    for piece in re.split(f"({_BIDI.pattern})", line):
        if not _BIDI.fullmatch(piece):
            reverses = frames[-1][0] and not _RIGHT_TO_LEFT.search(piece)
            frames[-1][1].append(piece[::-1] if reverses else piece)
        elif piece not in _CLOSING:
            if len(frames) > _DEPTH_LIMIT:
                overflow += 1
            else:
                # An embedding inside an override shows its own letters in their own order.
                frames.append((piece == _RLO, []))
        elif overflow:
            overflow -= 1
        elif len(frames) > 1:
            _close(frames)
    while len(frames) > 1:
        _close(frames)
    return "".join(frames[0][1])


def _close(frames: list[tuple[bool, list[str]]]) -> None:
    reverses, pieces = frames.pop()
    frames[-1][1].append("".join(reversed(pieces) if reverses else pieces))
