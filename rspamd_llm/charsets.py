"""Bytes -> text: the character sets of mail, wrong labels included.

What may not live here: MIME, HTML, and any codec that a sender's label could load by its name
alone.  Nothing here raises, and every text is free of lone surrogates.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from email.quoprimime import header_decode
from encodings.aliases import aliases

# Codecs that are no character sets of mail.  Decoding punycode takes time by the square of its
# length, and the codec `undefined` only raises.
_NO_CHARSETS = frozenset(
    ("base64_codec", "bz2_codec", "hex_codec", "idna", "mbcs", "oem", "punycode", "quopri_codec",
     "raw_unicode_escape", "rot_13", "undefined", "unicode_escape", "uu_codec", "zlib_codec")
)  # fmt: skip
# Read in place of the label: the sets that browsers and mail programs read (WHATWG Encoding 4.2),
# each containing the one named.
_WIDER: Mapping[str, tuple[str, ...]] = {
    "latin_1": ("cp1252", "latin_1"),
    "cp1252": ("cp1252", "latin_1"),
    "iso8859_9": ("cp1254", "iso8859_9"),
    "iso8859_11": ("cp874", "iso8859_11"),
    "tis_620": ("cp874", "iso8859_11"),
    "gb2312": ("gb18030",),
    "gbk": ("gb18030",),
    "big5": ("big5hkscs", "cp950"),
    "cp950": ("cp950", "big5hkscs"),
    "big5hkscs": ("big5hkscs", "cp950"),
    "shift_jis": ("cp932", "shift_jis_2004"),
    "euc_kr": ("cp949",),
    "euc_jp": ("euc_jp", "euc_jis_2004"),
    "iso2022_jp": ("iso2022_jp", "iso2022_jp_2", "iso2022_jp_ext", "iso2022_jp_3"),
}
# Labels seen in mail that Python does not know.
_MORE: Mapping[str, str] = {
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "cp65001": "utf_8",
    "gb_2312": "gb2312",
    "gb_2312_80": "gb2312",
    "iso_2022_jp_ms": "iso2022_jp",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_8_i": "iso8859_8",
    "unicode": "utf_16",
    "utf8mb4": "utf_8",
    "windows_874": "cp874",
}
# By a table, not by codecs.lookup: that imports a module by the sender's name for it, and
# remembers for ever each name that it does not find.
_KNOWN: Mapping[str, str] = {
    name: codec
    for name, codec in {**{codec: codec for codec in aliases.values()}, **aliases, **_MORE}.items()
    if codec not in _NO_CHARSETS
}
_SHIFTED = ("utf_7", "iso2022", "hz")  # text in 7 bits: ASCII under these may be more
_WIDE = ("utf_16", "utf_32")
_MULTIBYTE = ("gb", "big5", "cp9", "shift", "euc", "johab")

_SURE = 8
"""Signs beyond ASCII that must all be UTF-8 before a label such as gb2312 is taken to be wrong.
About 8 % of such pairs of bytes are UTF-8 by chance, so of eight, one in 10**9."""

_DAMAGE = 5
"""One sign in five may be broken for a text to be still in the set it names: mail is cut within
signs and damaged on its way, while Latin-1 under the label UTF-8 breaks at nearly each."""

_ASCII = bytes(range(128))
_META = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_META_REACH = 1_024  # WHATWG HTML 4.2.5.4: it stands in the first 1,024 bytes
_WORD = re.compile(r"=\?([^\s?*]{1,40})(?:\*[^\s?]{0,40})?\?([bBqQ])\?([^?]*)\?=")


def decode(payload: bytes, label: str = "", *, hint: str = "") -> tuple[str, bool]:
    """The text of bytes, and whether it is in the character set that `label` names.

    Without a label it is UTF-8, or what `hint` names.  Where the label is wrong: UTF-8 if it is
    that; the label's own text if little of it is broken; the hint; windows-1252, which is what
    programs that know no better show, and which never fails.
    """
    names = _codecs(label)
    own = next((text for name in names if (text := _strict(payload, name)) is not None), None)
    utf8 = _strict(payload, "utf_8")
    if own is not None and not _is_utf8_instead(payload, names[0], utf8):
        return own, True
    if utf8 is not None:
        if b"\x1b$" in payload and (japanese := _strict(payload, "iso2022_jp_ext")) is not None:
            return japanese, not label
        return utf8, not label
    hinted = next((t for name in _codecs(hint) if (t := _strict(payload, name)) is not None), None)
    if not label and hinted is not None:
        return hinted, True
    for name in names or ("utf_8",):
        text = payload.decode(name, "replace").encode("utf-8", "replace").decode()
        beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
        if text.count("\ufffd") * _DAMAGE <= beyond_ascii:
            return text, False
    return hinted if hinted is not None else payload.decode("cp1252", "replace"), False


def meta(payload: bytes) -> str:
    """The character set that an HTML document names for itself; empty where it names none."""
    match = _META.search(payload[:_META_REACH])
    return match.group(1).decode("ascii", "ignore") if match else ""


def field(value: str, hint: str = "") -> str:
    """A raw header field with all in it as UTF-8: raw bytes (as surrogates) and encoded words.

    Encoded words (RFC 2047) stay such, for what is in them may not pass for the field's syntax.
    """
    if not value.isascii():
        value = decode(value.encode("utf-8", "surrogateescape"), hint=hint)[0]
    if "=?" not in value:
        return value
    pieces: list[str] = []
    end, label, pending = 0, "", b""
    for match in _WORD.finditer(value):
        content = _word(match.group(2), match.group(3))
        if not content:  # nothing that could be shown in its place
            continue
        between = value[end : match.start()]
        # Senders split a text anywhere, within a sign too: words of one set are read together.
        if pending and (between.strip() or match.group(1).lower() != label):
            pieces.append(_utf8_word(pending, label))
            pending = b""
        if not pending or between.strip():
            pieces.append(between)
        end, label, pending = match.end(), match.group(1).lower(), pending + content
    if pending:
        pieces.append(_utf8_word(pending, label))
    return "".join(pieces) + value[end:]


def words(value: str) -> str:
    """A header's text with its encoded words decoded."""
    spelled = field(value)
    pieces: list[str] = []
    end = 0
    for match in _WORD.finditer(spelled):
        if content := _word(match.group(2), match.group(3)):
            between = spelled[end : match.start()]
            pieces.append(between if between.strip() or not end else "")
            pieces.append(decode(content, match.group(1))[0])
            end = match.end()
    return "".join(pieces) + spelled[end:]


def _word(encoding: str, content: str) -> bytes:
    """The bytes of one encoded word."""
    if encoding in "qQ":
        return header_decode(content).encode("latin-1", "replace")
    content = re.sub(r"[^A-Za-z0-9+/]", "", content)
    if len(content) % 4 == 1:  # one sign is no byte
        content = content[:-1]
    try:
        return binascii.a2b_base64(content + "=" * (-len(content) % 4))
    except binascii.Error:
        return b""


def _utf8_word(content: bytes, label: str) -> str:
    text = decode(content, label)[0]
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def _codecs(label: str) -> tuple[str, ...]:
    """The codecs to try for a label, first choice first; none where it names no character set."""
    key = re.sub(r"[^a-z0-9]+", "_", label[:60].lower()).strip("_")
    codec = _KNOWN.get(key) or _KNOWN.get(key.removeprefix("x_"), "")
    return _WIDER.get(codec, (codec,) if codec else ())


def utf8(text: str) -> str:
    """A text that was decoded with surrogateescape, with U+FFFD for bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _strict(payload: bytes, codec: str) -> str | None:
    """The text of bytes that are entirely in a character set, else nothing."""
    try:
        text = payload.decode(codec)
        text.encode("utf-8")  # some codecs give surrogates, which are no text
    except (LookupError, ValueError):
        return None
    return text


def _is_utf8_instead(payload: bytes, codec: str, utf8: str | None) -> bool:
    """Whether bytes that can be read by `codec` are UTF-8 all the same."""
    if utf8 is None or codec == "utf_8" or codec.startswith(_SHIFTED):
        return False
    if codec.startswith(_WIDE):
        return b"\0" not in payload
    high = len(payload.translate(None, _ASCII))
    signs = len(utf8) - (len(payload) - high)
    return signs >= (_SURE if codec.startswith(_MULTIBYTE) else 1)
