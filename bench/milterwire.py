"""The milter protocol as values and bytes: packets, edits, and what an MTA makes of them.

Plain functions only: no sockets, no asyncio, and nothing of the daemon's own code, so that what
tests compare the daemon with is independent of it.

Numbers and layouts are those of libmilter's mfdef.h and mfapi.h (Sendmail 8.14 and later); which
of them Postfix offers, and how it applies edits, is from Postfix's src/milter/milter8.c and
src/cleanup/cleanup_milter.c (3.x).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VERSION = 6  # SMFI_PROT_VERSION
CHUNK = 65535  # MILTER_CHUNK_SIZE: the most body bytes in one packet

# Commands (SMFIC_*), MTA to filter.
ABORT, BODY, CONNECT, MACRO, EOM, HELO = b"A", b"B", b"C", b"D", b"E", b"H"
HEADER, MAIL, EOH, OPTNEG, QUIT, RCPT = b"L", b"M", b"N", b"O", b"Q", b"R"
DATA, UNKNOWN = b"T", b"U"

# Actions a filter may ask for (SMFIF_*). All of them are what Postfix offers.
F_ADDHDRS, F_CHGBODY, F_ADDRCPT, F_DELRCPT, F_CHGHDRS = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
F_QUARANTINE, F_CHGFROM, F_ADDRCPT_PAR, F_SETSYMLIST = 1 << 5, 1 << 6, 1 << 7, 1 << 8
ALL_ACTIONS = 0x1FF  # SMFI_CURR_ACTS

# Steps a filter does not want (NO_), does not answer (NR_), and the rest (SMFIP_*).
P_NO = {CONNECT: 1 << 0, HELO: 1 << 1, MAIL: 1 << 2, RCPT: 1 << 3, BODY: 1 << 4}
P_NO |= {HEADER: 1 << 5, EOH: 1 << 6, UNKNOWN: 1 << 8, DATA: 1 << 9}
P_NR = {HEADER: 1 << 7, CONNECT: 1 << 12, HELO: 1 << 13, MAIL: 1 << 14, RCPT: 1 << 15}
P_NR |= {DATA: 1 << 16, UNKNOWN: 1 << 17, EOH: 1 << 18, BODY: 1 << 19}
P_SKIP, P_RCPT_REJ, P_LEADING_SPACE = 1 << 10, 1 << 11, 1 << 20
ALL_STEPS = 0x1FFFFF  # SMFI_CURR_PROT, which is also Postfix's MILTER8_V6_PROTO_MASK

# Final answers (SMFIR_*), filter to MTA; PROGRESS is none.
FINAL = {b"a": "accept", b"c": "continue", b"d": "discard", b"r": "reject", b"t": "tempfail"}
FINAL |= {b"y": "replycode", b"s": "skip", b"4": "shutdown", b"f": "connfail"}
PROGRESS = b"p"

# Macros by step, as Postfix sends them unless the filter asks for others (postconf(5),
# milter_connect_macros and the seven that follow it, 3.7). Keys of SYMBOL_STEPS are SMFIM_*.
MACROS: dict[bytes, tuple[str, ...]] = {
    CONNECT: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    HELO: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
    MAIL: (
        "i", "{auth_type}", "{auth_authen}", "{auth_author}",
        "{mail_addr}", "{mail_host}", "{mail_mailer}",
    ),
    RCPT: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    DATA: ("i",),
    EOH: ("i",),
    EOM: ("i",),
}  # fmt: skip
SYMBOL_STEPS = {0: CONNECT, 1: HELO, 2: MAIL, 3: RCPT, 4: DATA, 5: EOM, 6: EOH}


class ProtocolError(Exception):
    """The filter sent what the protocol does not allow here."""


@dataclass(frozen=True)
class Edit:
    """One change asked for at end of message. kind is the name libmilter gives it."""

    kind: str
    name: str = ""
    value: str = ""
    index: int = 0


Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Mail:
    """A message as an MTA keeps it: headers (value: all that follows the colon), then the body.

    Text is UTF-8 with surrogateescape, so any bytes survive the round trip.
    """

    headers: Headers
    body: bytes = b""

    @classmethod
    def parse(cls, raw: bytes) -> Mail:
        """Reads a message with either line ending; ends the header at the first line that is
        neither header nor continuation, as Postfix does (is_header.c)."""
        lines = raw.replace(b"\r\n", b"\n").split(b"\n")
        headers: list[tuple[str, str]] = []
        body: list[bytes] = []
        for at, line in enumerate(lines):
            if line[:1] in (b" ", b"\t") and headers:
                name, value = headers[-1]
                headers[-1] = (name, value + "\n" + text(line))
                continue
            label, colon, rest = line.partition(b":")
            label = label.rstrip(b" \t")
            if not colon or not label or any(not 33 <= c <= 126 for c in label):
                body = lines[at:] if line else lines[at + 1 :]
                break
            headers.append((text(label), text(rest)))
        return cls(tuple(headers), b"\r\n".join(body))

    def raw(self) -> bytes:
        head = "".join(f"{name}:{value}\n" for name, value in self.headers)
        return octets(head).replace(b"\n", b"\r\n") + b"\r\n" + self.body

    def values(self, name: str) -> list[str]:
        """All values of one header, first to last, without the space around them."""
        return [v.strip() for n, v in self.headers if n.lower() == name.lower()]

    def edited(self, edits: Iterable[Edit], *, leading_space: bool = False) -> Mail:
        body = b"".join(octets(edit.value) for edit in edits if edit.kind == "replbody")
        headers = apply_edits(self.headers, edits, leading_space=leading_space)
        return Mail(headers, body or self.body)


def apply_edits(
    headers: Headers, edits: Iterable[Edit], *, leading_space: bool = False
) -> Headers:  # fmt: skip
    """The headers after the edits, as Postfix applies them: each at once, in order.

    Added ones go to the end. A change or deletion counts from 1 among the headers of that name
    as they then are, in any case; a change of one that is not there adds it, a deletion does
    nothing. An insertion counts all headers from 0, our MTA's own Received being number 0,
    which is not in `headers` (milters never see it). Postfix puts a space after the colon
    unless the filter negotiated to send its own.
    """
    space = "" if leading_space else " "
    result = list(headers)
    for edit in edits:
        line = (edit.name, space + edit.value)
        if edit.kind == "addheader":
            result.append(line)
        elif edit.kind == "insheader":
            result.insert(max(0, edit.index - 1), line)
        elif edit.kind == "chgheader":
            same = [i for i, (n, _) in enumerate(result) if n.lower() == edit.name.lower()]
            at = max(1, edit.index) - 1  # 0 means 1, for Sendmail's sake (milter8.c)
            if edit.value and at < len(same):
                result[same[at]] = line
            elif edit.value:
                result.append(line)
            elif at < len(same):
                del result[same[at]]
    return tuple(result)


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def strings(*values: str) -> bytes:
    """Strings as the protocol has them: each ends in NUL, so what follows a NUL inside is lost
    (milter8.c measures with strlen)."""
    return b"".join(octets(value).partition(b"\0")[0] + b"\0" for value in values)


def packet(command: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload) + 1) + command + payload


def chunks(body: bytes) -> Iterator[bytes]:
    """The body as Postfix cuts it: full packets, then the rest; none at all for no body."""
    for at in range(0, len(body), CHUNK):
        yield body[at : at + CHUNK]


def read_edit(code: bytes, payload: bytes) -> Edit | None:
    """The edit that a reply stands for; None where it is no edit."""
    match code:
        case b"h":
            name, value = _split(payload, 2)
            return Edit("addheader", name, value)
        case b"i" | b"m":
            name, value = _split(payload[4:], 2)
            which = "insheader" if code == b"i" else "chgheader"
            return Edit(which, name, value, *struct.unpack("!I", payload[:4]))
        case b"b":
            return Edit("replbody", value=text(payload))
        case b"q" | b"+" | b"-" | b"2" | b"e":
            kinds = {b"q": "quarantine", b"+": "addrcpt", b"-": "delrcpt", b"2": "addrcpt_par"}
            return Edit(kinds.get(code, "chgfrom"), value=text(payload.rstrip(b"\0")))
    return None


def read_symbols(payload: bytes) -> dict[bytes, tuple[str, ...]]:
    """The macro lists that may follow the negotiated options: step number, names with spaces.
    Steps that are not named keep the MTA's own lists (seen with Postfix 3.7.11)."""
    lists: dict[bytes, tuple[str, ...]] = {}
    while payload:
        (step,) = struct.unpack("!I", payload[:4])
        names, _, payload = payload[4:].partition(b"\0")
        if step in SYMBOL_STEPS:
            lists[SYMBOL_STEPS[step]] = tuple(text(names).replace(",", " ").split())
    return lists


def _split(payload: bytes, count: int) -> list[str]:
    parts = payload.split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise ProtocolError(f"{count} strings expected, got {payload!r}")
    return [text(part) for part in parts[:-1]]
