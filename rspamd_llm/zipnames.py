"""Zip files: their entries by the directory at the end, or of a cut file by the local headers.

Not by the stdlib's zipfile, which reads whole files only, raises of many kinds and takes 10 us an
entry.  Nothing is unpacked here.  What may not live here: what an entry's name means.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    name: bytes
    flags: int
    packed: int
    size: int
    at: int
    """Where its local header stands."""


_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_END = struct.Struct("<4sHHHHIIH")
_FULL = 0xFFFFFFFF  # the true size stands in a zip64 field


def entries(content: bytes) -> Iterator[Entry]:
    """The entries of the directory at a zip file's end, or of a cut file its local headers."""
    end = content.rfind(b"PK\5\6")
    if end >= 0 and len(content) - end >= _END.size:
        *_, length, offset, _ = _END.unpack_from(content, end)
        # Where something stands before the archive its offsets are short by that.
        shift = end - length - offset if content[offset : offset + 4] != b"PK\1\2" else 0
        listed = _central(content, offset + shift, shift)
        first = next(listed, None)
        if first is not None:
            yield first
            yield from listed
            return
    yield from _local(content)


def _central(content: bytes, at: int, shift: int) -> Iterator[Entry]:
    while 0 <= at <= len(content) - _CENTRAL.size and content[at : at + 4] == b"PK\1\2":
        values = _CENTRAL.unpack_from(content, at)
        flags, packed, size, name, extra, comment = (values[i] for i in (3, 8, 9, 10, 11, 12))
        begin = at + _CENTRAL.size
        if size == _FULL:
            size = _zip64(content[begin + name : begin + name + extra])
        yield Entry(content[begin : begin + name], flags, packed, size, values[16] + shift)
        at = begin + name + extra + comment


def _zip64(extra: bytes) -> int:
    """The true size of an entry; 0 where it is not told."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1 and length >= 8 and len(extra) >= 12:
            return int.from_bytes(extra[4:12], "little")
        extra = extra[4 + length :]
    return 0


def _local(content: bytes) -> Iterator[Entry]:
    at = content.find(b"PK\3\4")
    while 0 <= at <= len(content) - _LOCAL.size:
        values = _LOCAL.unpack_from(content, at)
        flags, packed, size, name, extra = (values[i] for i in (2, 7, 8, 9, 10))
        begin = at + _LOCAL.size
        yield Entry(content[begin : begin + name], flags, packed, size, at)
        # A size of 0 may stand after the data (bit 3): the next header is looked for.
        at = content.find(b"PK\3\4", begin + name + extra + (packed if packed < _FULL else 0))


def packed_data(content: bytes, entry: Entry) -> tuple[bytes, bool]:
    """What an entry holds as it stands in the file, and whether it is deflated (else stored)."""
    if not 0 <= entry.at <= len(content) - _LOCAL.size:
        return b"", False
    values = _LOCAL.unpack_from(content, entry.at)
    begin = entry.at + _LOCAL.size + values[9] + values[10]
    end = begin + entry.packed if entry.packed else len(content)
    return content[begin:end], values[3] != 0
