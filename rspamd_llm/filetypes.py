"""A file's first bytes -> its kind, and whether its name says another one.

Tables and a few forms, no more.  What may not live here: what a file contains (attachments.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "pdf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"{\\rt", "rtf"),  # as much as Word asks for
    (0, b"MZ", "exe"),
    (0, b"\x7fELF", "elf"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"\x1f\x8b\x08", "gz"),
    (0, b"BZh", "bz2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"MSCF", "cab"),
    (7, b"**ACE**", "ace"),
    (0, b"L\0\0\0\x01\x14\x02\0", "lnk"),
    (0, b"ITSF", "chm"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "onenote"),
    (0, b"\xca\xfe\xba\xbe", "class"),
    (0, b"\x78\x9f\x3e\x22", "tnef"),
    (0, b"vhdxfile", "vhd"),
    (0, b"conectix", "vhd"),
    (257, b"ustar", "tar"),
    (32_769, b"CD001", "iso"),
    (0, b"BEGIN:VCALENDAR", "ics"),
    (0, b"#!", "script"),
)

_START = 1_024
"""Bytes in which text shows what it is: as far as browsers look (WHATWG MIME Sniffing 7)."""

_PDF_REACH = 1_024  # readers open a PDF with this much before its first sign

_HTML = re.compile(
    r"(?:<!--(?:(?!-->).)*-->|<\?xml[^>]*>|\s)*<(?:!doctype\s+html|html|head|body|script|meta|title"
    r"|style|iframe|form|table|div|center|h1|p|a|img|br|hta:application)\b",
    re.DOTALL | re.IGNORECASE,
)  # fmt: skip
_SVG = re.compile(
    r"(?:<!--(?:(?!-->).)*-->|<\?xml[^>]*>|<!doctype\s+svg[^>]*>|\s)*<svg\b",
    re.DOTALL | re.IGNORECASE,
)
_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bat", re.compile(r"\s*@?echo\s+off\b", re.IGNORECASE)),
    ("vbs", re.compile(
        r"\s*(?:option\s+explicit|on\s+error\s+resume\s+next|dim\s+\w+|set\s+\w+\s*=\s*createobject)"
        r"\b", re.IGNORECASE)),
    ("vbs", re.compile(r".*\bcreateobject\s*\(\s*\"", re.DOTALL | re.IGNORECASE)),
    ("js", re.compile(r".*(?:\bnew\s+ActiveXObject\b|\bWScript\.|\beval\s*\()", re.DOTALL)),
    ("js", re.compile(
        r"\s*(?:/\*.*?\*/\s*)?[(;!\"']?(?:use strict\b|(?:var|let|const)\s+[\w$]+\s*=|function\b\s*"
        r"[\w$]*\s*\()", re.DOTALL)),
)  # fmt: skip
_HEADER = re.compile(
    r"(?:(?:Received|Return-Path|Delivered-To|From|To|Subject|Date|Message-ID|MIME-Version"
    r"|Content-Type|Reply-To|DKIM-Signature|ARC-[\w-]+|X-[\w-]+):[^\n]*\n(?:[ \t][^\n]*\n)*){2}",
    re.IGNORECASE,
)

_FAMILIES: Mapping[str, frozenset[str]] = {
    family: frozenset(kinds.split())
    for family, kinds in {
        "program": "exe elf lnk script js vbs bat class jar chm",
        "page": "html svg",
        "archive": "zip rar 7z gz bz2 xz cab ace tar iso vhd",
        "office": "docx xlsx pptx odf ole rtf onenote",
        "pdf": "pdf",
        "image": "png jpeg gif webp bmp tiff svg",
        "mail": "eml",
        "calendar": "ics",
    }.items()
}
# What a name's ending promises, by families and kinds.  A zip file under a document's name and a
# document under a zip file's are no other kind; old Word documents are often web pages or mails.
_PROMISES: Mapping[str, str] = {
    ending: promise
    for endings, promise in {
        "pdf": "pdf",
        "doc dot xls xlt ppt pps": "office page eml zip",
        "docx xlsx pptx odt ods odp": "office zip",
        "docm xlsm xlsb pptm rtf": "office zip",
        "jpg jpeg jpe jfif png gif webp bmp tif tiff": "image",
        "zip rar 7z gz tgz bz2 xz cab tar iso img": "archive docx xlsx pptx odf jar",
        "html htm shtml xhtml svg": "page eml",
        "txt csv log asc": "page eml ics js vbs bat script",
        "eml": "eml",
        "ics": "ics",
    }.items()
    for ending in endings.split()
}
_TYPES: Mapping[str, str] = {
    "application/pdf": "pdf",
    "application/zip": "zip",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "text/html": "html",
    "text/plain": "txt",
}


def kind_of(content: bytes) -> str:
    """The kind of a file by its content, such as `pdf`; empty where it shows none."""
    if not content:
        return "empty"
    if content.startswith(b"PK"):
        return _zip_kind(content)
    for at, magic, kind in _MAGIC:
        if content.startswith(magic, at):
            return "" if kind == "bmp" and content[6:10] != b"\0\0\0\0" else kind
    if b"%PDF-" in content[:_PDF_REACH]:
        return "pdf"
    return _text_kind(content)


def _zip_kind(content: bytes) -> str:
    """The kind of a zip file: a document is one too, and tells itself by its entries' names."""
    if not content.startswith((b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00")):
        return ""
    if content.startswith(b"mimetypeapplication/vnd.oasis.opendocument", 30):
        return "odf"
    if b"[Content_Types].xml" in content:
        for folder, kind in ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx")):
            if folder in content:
                return kind
    return "jar" if content.find(b"META-INF/MANIFEST.MF", 0, 4_096) >= 0 else "zip"


def _text_kind(content: bytes) -> str:
    start = content[:_START]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = start.decode("utf-16", "ignore")
    elif b"\0" in start:
        return ""
    else:
        text = start.decode("utf-8-sig", "replace")
    if _SVG.match(text):
        return "svg"
    if _HTML.match(text):
        return "html"
    if _HEADER.match(text.replace("\r\n", "\n")):
        return "eml"
    return next((kind for kind, form in _SCRIPTS if form.match(text)), "")


def is_misnamed(name: str, type_: str, found: str) -> bool:
    """Whether a file's name (without one, its type) promises another kind than was found."""
    stem, dot, ending = name.rpartition(".")
    promise = _PROMISES.get(ending.strip().lower() if stem and dot else _TYPES.get(type_, ""), "")
    if not promise:
        return False
    families = {family for family, kinds in _FAMILIES.items() if found in kinds}
    return bool(families) and not families & {*promise.split()} and found not in promise.split()
