"""UCL, as far as settings of Rspamd's GPT plugin need it, for where rspamadm is not installed.

Text in, plain values out.  It reads blocks, lists, strings in either quotes, bare words, heredocs,
comments, numbers with units, and JSON, as libucl does, and refuses what it does not know (macros
such as `.include`, a setting that stands there twice) rather than guess.  The syntax is libucl's
(https://github.com/vstakhov/libucl).  What may not live here: what a setting means (gptconf.py).
No error tells what stands in the text: it may be a key.
"""

from __future__ import annotations

import re
from typing import Any

DEPTH = 30
"""Blocks within blocks; the GPT plugin's settings have three."""

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NUMBER = re.compile(
    r"(-?\d{1,18}(?:\.\d{1,18})?(?:e[+-]?\d{1,3})?)(ms|min|[kmg]b?|[sdwyh])?", re.IGNORECASE
)
# Times are seconds.
_TIMES = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_TIMES |= {"w": 604_800.0, "y": 31_536_000.0}
_SIZES = {"k": 1000, "m": 1000**2, "g": 1000**3, "kb": 1024, "mb": 1024**2, "gb": 1024**3}

_BLANKS = re.compile(r"[ \t\r]*")
_KEY = re.compile(r"[^\s=:{}\[\],;\"'#]+")
_BARE = re.compile(r"(?:(?!/\*)[^\n,;#{}\[\]\"])+")
_COMMENT = re.compile(r"/\*|\*/")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_SINGLE = re.compile(r"((?:[^'\\]|\\.)*)'", re.DOTALL)
_HEREDOC = re.compile(r"([A-Z]+)\n")
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SIGNS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class UclError(ValueError):
    """What is not understood, and in which line."""

    def __init__(self, line: int, fault: str) -> None:
        super().__init__(f"line {line}: {fault}")


def parse(text: str) -> dict[str, Any]:
    """The settings of a text, by name; times in seconds.  Raises UclError."""
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> dict[str, Any]:
        self._skip()
        if not self._take("{"):
            return self._block("", 0)
        found = self._block("}", 1)
        self._skip()
        if self._at < len(self._text):
            raise self._refusal("there is text after the closing brace")
        return found

    def _refusal(self, fault: str, at: int | None = None) -> UclError:
        return UclError(self._text.count("\n", 0, self._at if at is None else at) + 1, fault)

    def _bounded(self, depth: int) -> None:
        if depth > DEPTH:
            raise self._refusal(f"more than {DEPTH} blocks within each other")

    # --- Signs ------------------------------------------------------------------------------

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _skip(self, *, lines: bool = True) -> None:
        """Past blanks and comments, and past the ends of lines if asked to."""
        while True:
            self._match(_BLANKS)
            if lines and self._take("\n"):
                continue
            if self._next() == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text.startswith("/*", self._at):
                self._comment()
            else:
                return

    def _comment(self) -> None:
        begin, level = self._at, 0
        for sign in _COMMENT.finditer(self._text, self._at):
            level += 1 if sign[0] == "/*" else -1
            if not level:
                self._at = sign.end()
                return
        raise self._refusal("a comment has no end", begin)

    # --- Structure --------------------------------------------------------------------------

    def _block(self, end: str, depth: int) -> dict[str, Any]:
        """Settings up to the closing brace, or the end of the text."""
        self._bounded(depth)
        begin = self._at
        found: dict[str, Any] = {}
        while True:
            self._skip()
            if self._take(";") or self._take(","):
                continue
            if not self._next():
                if end:
                    raise self._refusal("a block has no closing brace", begin)
                return found
            if end and self._take(end):
                return found
            at = self._at
            name = self._name()
            if name in found:
                raise self._refusal("a setting stands there a second time", at)
            found[name] = self._after(depth)

    def _name(self) -> str:
        if self._next() == ".":
            raise self._refusal("a macro such as .include is only read where rspamadm is installed")
        if self._next() == '"':
            return self._quoted()
        name = self._match(_KEY)
        if not name:
            raise self._refusal("the name of a setting is missing")
        return name

    def _after(self, depth: int) -> Any:
        """What follows a name: a value, or names and the block that they stand before."""
        self._bounded(depth)
        self._skip(lines=False)
        if self._take("=") or self._take(":"):
            self._skip()
            return self._ended(depth)
        if self._next() in ("", "\n", ";"):
            raise self._refusal("a setting has no value")
        if self._next() in ("{", "["):
            return self._ended(depth)
        at = self._at
        name = self._name() if self._next() != "'" else ""
        self._skip(lines=False)
        if name and (self._next() == "{" or self._next() == '"'):
            return {name: self._after(depth + 1)}
        self._at = at
        return self._ended(depth)

    def _ended(self, depth: int) -> Any:
        """A value, and a look at whether it ends where it may."""
        is_block = self._next() in ("{", "[")
        value = self._value(depth)
        self._skip(lines=False)
        if not is_block and self._next() not in ("", "\n", ";", ",", "}", "]"):
            raise self._refusal("there is text after a value")
        return value

    def _value(self, depth: int) -> Any:
        if self._take("{"):
            return self._block("}", depth + 1)
        if self._take("["):
            return self._list(depth + 1)
        if self._next() == '"':
            return self._quoted()
        if self._take("'"):
            return self._single()
        if self._take("<<"):
            return self._heredoc()
        word = self._match(_BARE).strip()
        if not word:
            raise self._refusal("a value is missing")
        return _meant(word)

    def _list(self, depth: int) -> list[Any]:
        self._bounded(depth)
        begin = self._at
        found: list[Any] = []
        while True:
            self._skip()
            if self._take("]"):
                return found
            if not self._next():
                raise self._refusal("a list has no closing bracket", begin)
            if not (self._take(",") or self._take(";")):
                found.append(self._ended(depth))

    # --- Strings ----------------------------------------------------------------------------

    def _quoted(self) -> str:
        begin = self._at
        match = _QUOTED.match(self._text, self._at)
        if match is None:
            raise self._refusal("a string has no closing quote in its line", begin)
        self._at = match.end()
        if re.sub(_ESCAPE, "", match[1]).count("\\"):
            raise self._refusal("a string has a backslash before a sign that needs none", begin)
        text = _ESCAPE.sub(_sign, match[1])
        # Two escapes may make up one sign, as in JSON.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _single(self) -> str:
        match = _SINGLE.match(self._text, self._at)
        if match is None:
            raise self._refusal("a string has no closing quote")
        self._at = match.end()
        return match[1].replace("\\'", "'").replace("\\\n", "")

    def _heredoc(self) -> str:
        begin = self._at
        match = _HEREDOC.match(self._text, self._at)
        if match is None:
            raise self._refusal("after << stands no word in capitals alone in its line")
        end = re.compile(rf"^{match[1]}(?=[\s;,]|\Z)", re.MULTILINE).search(self._text, match.end())
        if end is None:
            raise self._refusal(f"the text after <<{match[1]} has no end", begin)
        self._at = end.end()
        return self._text[match.end() : max(match.end(), end.start() - 1)]


def _sign(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _SIGNS.get(match[2], match[2])


def _meant(word: str) -> Any:
    """What a word without quotes stands for."""
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if word == "null":
        return None
    match = _NUMBER.fullmatch(word)
    if match is None:
        return word
    unit = (match[2] or "").lower()
    if unit in _TIMES:
        return float(match[1]) * _TIMES[unit]
    number: float = int(match[1]) if re.fullmatch(r"-?\d+", match[1]) else float(match[1])
    return number * _SIZES.get(unit, 1)
