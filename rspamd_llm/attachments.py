"""A file's content -> Attachment: its kind, the names in it, its links, and what it can do.

Looked at, never run, never unpacked to disk, never trusted: each format is read by a scan for what
matters, which also works on the beginning of a file (mails are cut at `max_body`), goes forward
only and is bounded.  So there is no library here: those for zip, OLE and PDF want whole files, and
hostile ones keep them busy for seconds.  What may not live here: MIME, judgement.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rspamd_llm.domain import Attachment, Trait
from rspamd_llm.filetypes import is_misnamed, kind_of
from rspamd_llm.zipnames import Entry, entries, packed_data

CONTENT_LIMIT = 1_000_000
"""Bytes looked at of one file: `max_body`, so that a mail's only file is read to its end."""

INFLATE_LIMIT = 1_000_000
"""Bytes inflated of all files of a mail together: 5 ms."""

MEMBER_LIMIT = 50
"""Names kept of one archive; the prompt shows the first few."""

NAME_LIMIT = 200
"""Characters kept of a name."""

LINK_LIMIT = 50
"""Links kept of one document: a catalogue has some hundred, a lure has one."""

URL_LIMIT = 2_000
"""Characters kept of a link: what browsers agree on."""

ENTRY_LIMIT = 10_000
"""Entries read of an archive; one with more is a bomb for whoever unpacks it."""

BOMB_RATIO, BOMB_SIZE = 100, 100_000_000
"""Times its size, and bytes, that a bomb claims to unpack to.  Text packs 20 to 1 at most."""

_STREAMS = 200  # compressed streams tried in one file
_STREAM = 200_000  # bytes inflated of one of them
_MATCHES = 1_000  # URLs met in one text before those kept are counted without repeats


@dataclass(slots=True)
class Budget:
    """What may still be inflated for one mail."""

    left: int = INFLATE_LIMIT

    def inflate(self, packed: bytes, form: int, limit: int = _STREAM) -> bytes:
        """The beginning of deflated data, as far as it is whole; `form` is zlib's wbits."""
        limit = min(limit, self.left)
        if limit <= 0:
            return b""
        unpacker = zlib.decompressobj(form)
        found = b""
        try:
            # In steps, so that damage does not cost what stands before it.
            for start in range(0, len(packed), 4_096):
                found += unpacker.decompress(packed[start : start + 4_096], limit - len(found))
                if len(found) >= limit or unpacker.eof:
                    break
        except zlib.error:
            pass
        self.left -= len(found)
        return found


@dataclass(slots=True)
class _Found:
    """What one file's content told."""

    kind: str = ""
    members: list[str] = field(default_factory=list)
    links: dict[str, None] = field(default_factory=dict)
    traits: set[Trait] = field(default_factory=set)


def inspect(name: str, type_: str, content: bytes, budget: Budget | None = None) -> Attachment:
    """The Attachment of a file that its sender calls `name` and `type_`.  Never raises.

    `budget` is shared by the files of a mail.
    """
    start = content[:CONTENT_LIMIT]
    found = _Found(kind=kind_of(start))
    reader = _READERS.get(found.kind)
    if reader is not None:
        # Damaged or hostile: what was found before stands.
        with contextlib.suppress(ArithmeticError, LookupError, ValueError, struct.error):
            reader(start, found, budget if budget is not None else Budget())
    if found.links:
        found.traits.add(Trait.LINKS)
    if is_misnamed(name, type_, found.kind):
        found.traits.add(Trait.MISNAMED)
    return Attachment(
        name=name,
        type=type_,
        size=len(content),
        found=found.kind,
        members=tuple(found.members),
        links=tuple(found.links),
        traits=tuple(trait for trait in Trait if trait in found.traits),
    )


def _add_member(found: _Found, name: bytes) -> None:
    if len(found.members) < MEMBER_LIMIT:
        text = _printable(_text(name[: 4 * NAME_LIMIT]))[:NAME_LIMIT]
        if text:
            found.members.append(text)


def _add_link(found: _Found, url: str) -> None:
    url = _printable(url).strip()[:URL_LIMIT]
    if len(found.links) < LINK_LIMIT and url.lower().startswith(("http://", "https://")):
        found.links.setdefault(url)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")  # the zip format's own (APPNOTE, appendix D); never fails


def _printable(text: str) -> str:
    """The text without controls, surrogates and signs that show it in another order."""
    return text if text.isprintable() else "".join(sign for sign in text if sign.isprintable())


# --- Zip ------------------------------------------------------------------------------------


def _member(content: bytes, entry: Entry, budget: Budget) -> bytes:
    """The beginning of what an entry of a zip file holds."""
    packed, is_deflated = packed_data(content, entry)
    packed = packed[:_STREAM]
    return budget.inflate(packed, -zlib.MAX_WBITS) if is_deflated else packed


_RELATION = re.compile(rb"<Relationship\b[^<>]{0,5000}")
_TARGET = re.compile(rb"\bTarget\s{0,9}=\s{0,9}[\"']([^\"'<>]{1,4000})")


def _read_zip(content: bytes, found: _Found, budget: Budget) -> None:
    total, count, tried = 0, 0, 0
    is_document = found.kind != "zip"
    for entry in entries(content):
        count += 1
        if count > ENTRY_LIMIT:
            found.traits.add(Trait.BOMB)
            break
        total += entry.size
        name = entry.name.lower()
        if entry.flags & 1:
            found.traits.add(Trait.ENCRYPTED)
        if not is_document:
            _add_member(found, entry.name)
            continue
        if name.endswith(b"vbaproject.bin") or name.startswith((b"xl/macrosheets/", b"basic/")):
            found.traits.add(Trait.MACROS)
        if tried < _STREAMS and name.endswith((b".rels", b"meta-inf/manifest.xml")):
            tried += 1
            _read_relations(_member(content, entry, budget), found)
    if total > BOMB_SIZE and total > BOMB_RATIO * len(content):
        found.traits.add(Trait.BOMB)


def _read_relations(xml: bytes, found: _Found) -> None:
    """The links of an OOXML relationship part; of an ODF manifest whether it is encrypted."""
    if b"encryption-data" in xml:
        found.traits.add(Trait.ENCRYPTED)
    for match in _RELATION.finditer(xml):
        target = _TARGET.search(match.group())
        if target is not None and b"External" in match.group():
            _add_link(found, target.group(1).decode("utf-8", "replace").replace("&amp;", "&"))


# --- Tar and gzip ---------------------------------------------------------------------------


def _read_tar(content: bytes, found: _Found, budget: Budget) -> None:
    _ = budget
    at = total = 0
    while at + 512 <= len(content) and content[at + 257 : at + 262] == b"ustar":
        name = content[at : at + 100].partition(b"\0")[0]
        size = int(content[at + 124 : at + 136].strip(b"\0 ") or b"0", 8)
        if content[at + 156 : at + 157] not in b"LKxg":  # long names and other notes on an entry
            _add_member(found, name)
        at += 512 + (max(0, size) + 511) // 512 * 512
        total += size
    if total > BOMB_SIZE and total > BOMB_RATIO * len(content):
        found.traits.add(Trait.BOMB)


def _read_gzip(content: bytes, found: _Found, budget: Budget) -> None:
    inner = budget.inflate(content, 16 + zlib.MAX_WBITS, INFLATE_LIMIT // 2)
    if inner[257:262] == b"ustar":
        _read_tar(inner, found, budget)
    elif content[3:4] == b"\x08":  # the file's name and nothing else before it (RFC 1952)
        _add_member(found, content[10 : 10 + NAME_LIMIT].partition(b"\0")[0])
    # RFC 1952 2.3.1: the size stands at the end.  A file that was cut ends in anything, but then
    # what was read of it is hardly this dense.
    size = int.from_bytes(content[-4:], "little")
    if size > max(BOMB_SIZE, BOMB_RATIO * len(content)) and len(inner) > 20 * len(content[:20_000]):
        found.traits.add(Trait.BOMB)


# --- OLE (the old Office formats, and encrypted new ones) -----------------------------------

_STREAM_NAMES = {
    name.encode("utf-16-le"): trait
    for name, trait in (
        ("VBA", Trait.MACROS),
        ("_VBA_PROJECT", Trait.MACROS),
        ("_VBA_PROJECT_CUR", Trait.MACROS),
        ("Macros", Trait.MACROS),
        ("EncryptedPackage", Trait.ENCRYPTED),
        ("EncryptedSummary", Trait.ENCRYPTED),
    )
}


def _read_ole(content: bytes, found: _Found, budget: Budget) -> None:
    """By the directory's entries: 128 bytes each, within sectors of 512 (MS-CFB 2.6.1)."""
    _ = budget
    for name, trait in _STREAM_NAMES.items():
        if any(_is_entry(content, at, name) for at in _places(content, name)):
            found.traits.add(trait)
    document = "WordDocument".encode("utf-16-le")
    for at in _places(content, document):
        if _is_entry(content, at, document):
            # MS-DOC 2.5.2: bit 8 of the flags at 10 of the stream says that it is encrypted.
            sector = int.from_bytes(content[at + 116 : at + 120], "little")
            begin = (sector + 1) << min(16, int.from_bytes(content[30:32], "little"))
            if content[begin : begin + 2] == b"\xec\xa5" and content[begin + 11] & 1:
                found.traits.add(Trait.ENCRYPTED)


def _places(content: bytes, sought: bytes) -> Iterator[int]:
    at = content.find(sought)
    for _ in range(_MATCHES):
        if at < 0:
            return
        yield at
        at = content.find(sought, at + 1)


def _is_entry(content: bytes, at: int, name: bytes) -> bool:
    length = int.from_bytes(content[at + 64 : at + 66], "little")
    is_storage_or_stream = content[at + 66 : at + 67] in (b"\1", b"\2")
    return at % 128 == 0 and length == len(name) + 2 and is_storage_or_stream


# --- PDF, RTF, web pages --------------------------------------------------------------------

# Names may be spelled with hexadecimal numbers (ISO 32000 7.3.5), in whatever part.
# A string is read up to its first bracket, so that no start is read over by the one before it.
_URI = re.compile(
    rb"/(?:U|#55)(?:R|#52)(?:I|#49)\s{0,20}+(?:\(((?:[^()\\]++|\\.)++)|<([0-9A-Fa-f\s]{8,8000}+)>)",
    re.DOTALL,
)
_ENCRYPT = re.compile(rb"/Encrypt\s{0,20}+(?:\d{1,10}+\s{1,20}+\d{1,5}+\s{1,20}+R|<<)")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)


def _read_pdf(content: bytes, found: _Found, budget: Budget) -> None:
    if _ENCRYPT.search(content):
        found.traits.add(Trait.ENCRYPTED)
    _read_uris(content, found)
    at = content.find(b"/ObjStm")  # links stand in the open or in such streams (ISO 32000 7.5.7)
    for _ in range(_STREAMS):
        begin = content.find(b"stream", at) if at >= 0 else -1
        if begin < 0:
            return
        begin += 6 + (2 if content[begin + 6 : begin + 8] == b"\r\n" else 1)
        _read_uris(budget.inflate(content[begin : begin + _STREAM], zlib.MAX_WBITS), found)
        at = content.find(b"/ObjStm", begin)


def _read_uris(text: bytes, found: _Found) -> None:
    for _, match in zip(range(_MATCHES), _URI.finditer(text), strict=False):
        if match.group(2):
            digits = b"".join(match.group(2).split())
            raw = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
        else:
            raw = _ESCAPE.sub(_unescaped, match.group(1))
        is_wide = raw.startswith(b"\xfe\xff")
        _add_link(found, raw.decode("utf-16", "ignore") if is_wide else _text(raw))


def _unescaped(match: re.Match[bytes]) -> bytes:
    spelled = match.group(1)
    return bytes((int(spelled, 8) & 255,)) if spelled.isdigit() else spelled.strip(b"\r\n")


def _read_rtf(content: bytes, found: _Found, budget: Budget) -> None:
    _ = budget
    if b"\\objdata" in content.lower():
        found.traits.add(Trait.MACROS)


_URL = re.compile(rb"https?://[^\s\"'<>\\()\x00-\x1f]{3,2000}", re.IGNORECASE)
_VOCABULARIES = ("http://www.w3.org/", "https://www.w3.org/", "http://schemas.", "http://ns.adobe")


def _read_page(content: bytes, found: _Found, budget: Budget) -> None:
    _ = budget
    for _, match in zip(range(_MATCHES), _URL.finditer(content), strict=False):
        url = match.group().decode("utf-8", "replace").replace("&amp;", "&")
        if not url.startswith(_VOCABULARIES):
            _add_link(found, url)


_READERS: dict[str, Callable[[bytes, _Found, Budget], None]] = {
    "zip": _read_zip,
    "docx": _read_zip,
    "xlsx": _read_zip,
    "pptx": _read_zip,
    "odf": _read_zip,
    "jar": _read_zip,
    "tar": _read_tar,
    "gz": _read_gzip,
    "ole": _read_ole,
    "pdf": _read_pdf,
    "rtf": _read_rtf,
    "html": _read_page,
    "svg": _read_page,
}
