"""The fields of a message's header as bytes, for those who must have them to the byte.

What may not live here: what a field means.
"""

from __future__ import annotations

import re

# The empty line that ends a header (RFC 5322 2.1).
_END = re.compile(rb"(?:\A|\r?\n)\r?\n")
# A line's end, but for one that is followed by its continuation (RFC 5322 2.2.3).
_LINE_END = re.compile(rb"\r?\n(?![ \t])")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


def head(data: bytes) -> bytes:
    """A message's header, with the empty line that ends it."""
    end = _END.search(data)
    return data[: end.end()] if end else data


def split(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Names and values of a message's header, in order, and its body, with CRLF between lines.

    Values are all that follows the colon, folding, blanks and the last CRLF included.  Lines that
    are no fields are left out.
    """
    end = _END.search(data)
    head, body = (data[: end.start()], data[end.end() :]) if end else (data, b"")
    fields = []
    for line in _LINE_END.split(head):
        match = _FIELD.match(line)
        if match:
            fields.append((match[1], _crlf(line[match.end() :]) + b"\r\n"))
    return fields, _crlf(body)


def _crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
