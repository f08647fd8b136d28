"""Broken milter conversations as values: what a hostile or broken peer may send to the daemon.

    for number in range(1000):
        case = make(seed, number)

The same seed and number give the same bytes.  Plain functions only: sockets are fuzz's.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from bench import milterwire as wire

Packets = list[tuple[bytes, bytes]]

NEW_CONNECTION = b"K"  # SMFIC_QUIT_NC: another SMTP client, on the same line to the filter
COMMANDS = tuple(bytes([code]) for code in b"ABCDEHKLMNOQRTU")

ENDS = (
    "finish",  # says that nothing more comes, and reads until the daemon closes
    "close",  # closes at once, whatever is under way
    "reset",  # the same with a reset
)

ODD = (
    b"", b"\0", b"\0\0\0", b" ", b"\r\n", b"\n X: y", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80",
    b"%s%n%d", b"=?utf-8?q?=00?=", "\u202eG\u00fc\u2028".encode(), b"{", b"{}", b"<>", b"[", b":",
    b"a" * 998, b"b" * 20_000, b"\xe9" * 60_000,
)  # fmt: skip

GREETINGS = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"EHLO mail.example.net\r\nMAIL FROM:<a@example.net>\r\n",
    b"\0" * 1_000,
    b"\xff" * 1_000,
)


@dataclass(frozen=True)
class Case:
    """One connection: pieces that are sent each by itself, `pause` seconds apart, and its end."""

    kind: str
    pieces: tuple[bytes, ...]
    end: str = "finish"
    pause: float = 0.0


def make(seed: int, number: int, kind: str = "") -> Case:
    """The case of a number; of the kinds in turn, or of one of them."""
    kind = kind or list(KINDS)[number % len(KINDS)]
    made = (KINDS[kind](random.Random(f"{seed} {kind} {number} {n}")) for n in itertools.count())
    return next(case for case in made if not is_fatal(case))


def is_fatal(case: Case) -> bool:
    """Whether libmilter itself may crash on a case: a macro without a value.

    Its smfi_getsymval (8.17) walks names and values in pairs up to a NULL, and with an odd number
    of strings steps over it into what lies behind.  No filter can help that: macros are had in no
    other way.  No MTA sends it; whoever may connect to the socket can.
    """
    data = b"".join(case.pieces)
    while len(data) > 4:
        (size,) = struct.unpack("!I", data[:4])
        if not 0 < size <= 2 * wire.CHUNK:
            return False  # libmilter hangs up here
        # The step comes first, then the strings, each with its NUL.
        if data[4:5] == wire.MACRO and data[6 : 4 + size].count(b"\0") % 2:
            return True
        data = data[4 + size :]
    return False


def good(rng: random.Random, messages: int = 1) -> Packets:
    """A conversation as Postfix would have it."""
    packets = [*greeting()]
    for _ in range(messages):
        packets += message(rng)
    return [*packets, (wire.QUIT, b"")]


def greeting() -> Packets:
    options = struct.pack("!III", wire.VERSION, wire.ALL_ACTIONS, wire.ALL_STEPS)
    peer = b"mail.example.net\x004" + struct.pack("!H", 40_000) + b"192.0.2.25\0"
    return [
        (wire.OPTNEG, options),
        macros(wire.CONNECT, b"j", b"mx.example.org"),
        (wire.CONNECT, peer),
        (wire.HELO, b"mail.example.net\0"),
    ]


def message(rng: random.Random) -> Packets:
    queue_id = b"4fuzz%06x" % rng.randrange(16**6)
    return [
        macros(wire.MAIL, b"{mail_addr}", b"sender@example.net"),
        (wire.MAIL, b"<sender@example.net>\0SIZE=1000\0"),
        macros(wire.RCPT, b"i", queue_id),
        (wire.RCPT, b"<user@example.org>\0"),
        macros(wire.DATA, b"i", queue_id),
        (wire.DATA, b""),
        (wire.HEADER, b"From\0 Alice <sender@example.net>\0"),
        (wire.HEADER, b"X-GPT-Verdict\0 v=1; st=scored\0"),
        (wire.HEADER, b"Subject\0 Hello\0"),
        (wire.EOH, b""),
        (wire.BODY, b"See http://www.example.net/%d for more.\r\n" % rng.randrange(10**6)),
        macros(wire.EOM, b"i", queue_id),
        (wire.EOM, b""),
        (wire.ABORT, b""),
    ]


def macros(step: bytes, *parts: bytes) -> tuple[bytes, bytes]:
    """Names and values in turn."""
    return wire.MACRO, step + b"".join(part + b"\0" for part in parts)


def _packed(packets: Packets) -> bytes:
    return b"".join(wire.packet(command, payload) for command, payload in packets)


def _some(rng: random.Random, most: int = 300) -> bytes:
    """Bytes of any kind."""
    return rng.choice(ODD) if rng.random() < 0.4 else rng.randbytes(rng.randrange(most))


def _between(rng: random.Random, into: Packets, what: Packets, first: int = 0) -> Packets:
    """Packets put into others, all at one place."""
    at = rng.randrange(first, len(into) + 1)
    return [*into[:at], *what, *into[at:]]


def _lengths(rng: random.Random) -> Case:
    """A packet that lies about its length."""
    packets = good(rng)
    at = rng.randrange(len(packets))
    true = len(packets[at][1]) + 1
    lies = (0, 1, true - 1, true + 1, true + 5, 65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1)
    size = struct.pack("!I", rng.choice(lies))
    lying = size + packets[at][0] + packets[at][1]
    return Case("lengths", (_packed(packets[:at]), lying, _packed(packets[at + 1 :])))


def _huge(rng: random.Random) -> Case:
    """A packet that is large, and says so."""
    size = rng.choice((65_534, 65_535, 65_536, 70_000, 1_000_000, 3_000_000))
    filling = rng.choice((b"\0", b"a", b"a\0", b"\xff"))
    packet = (rng.choice(COMMANDS), (filling * size)[:size])
    return Case("huge", (_packed(_between(rng, good(rng), [packet])),), rng.choice(ENDS))


def _unknown(rng: random.Random) -> Case:
    """Commands that there are not."""
    strange = [(bytes([rng.randrange(256)]), _some(rng)) for _ in range(rng.choice((1, 1, 3, 100)))]
    return Case("unknown", (_packed(_between(rng, good(rng), strange)),))


def _order(rng: random.Random) -> Case:
    """The right packets in any order, and any number of times."""
    packets = good(rng)
    chosen = rng.choices(packets[1:], k=rng.randrange(1, 60))
    first = packets[:1] if rng.random() < 0.8 else []
    return Case("order", (_packed(first + chosen),), rng.choice(ENDS))


def _mails(rng: random.Random) -> Case:
    """Messages that begin, and do not end before the next does."""
    begun: Packets = []
    for _ in range(rng.choice((2, 10, 100))):
        begun += message(rng)[: rng.choice((1, 2, 4, 9, 11))]
    return Case("mails", (_packed(greeting() + begun),), rng.choice(ENDS))


def _aborts(rng: random.Random) -> Case:
    """A flood of the word that a message is given up."""
    flood = [(wire.ABORT, b"")] * rng.choice((1, 2, 500))
    return Case("aborts", (_packed(_between(rng, good(rng, 2), flood)),), rng.choice(ENDS))


def _macros(rng: random.Random) -> Case:
    """Macros of any bytes, size and step, among them those that the daemon reads."""
    packets = good(rng)
    for _ in range(rng.choice((1, 3, 30))):
        step = rng.choice((*COMMANDS, b"", b"\xff"))
        names = (b"i", b"{auth_authen}", b"{auth_type}", b"j", _some(rng))
        parts = [part for _ in range(rng.choice((0, 1, 5))) for part in (rng.choice(names), b"")]
        parts[1::2] = [_some(rng) for _ in parts[1::2]]
        command, payload = macros(step, *parts)
        packets = _between(rng, packets, [(command, payload[: wire.CHUNK])], first=1)
    return Case("macros", (_packed(packets),))


def _headers(rng: random.Random) -> Case:
    """Header names and values of any bytes, ours among them."""
    names = (b"From", b"Subject", b"X-GPT-Verdict", b"x-gpt-score", b"X-GPT-\xff", b"Content-Type")
    added: Packets = []
    for _ in range(rng.choice((1, 5, 50))):
        name = rng.choice(names) if rng.random() < 0.5 else _some(rng)
        payload = name + b"\0" + _some(rng) + rng.choice((b"\0", b"\0", b"", b"\0\0more\0"))
        added.append((wire.HEADER, payload[: wire.CHUNK]))
    packets = good(rng)
    at = next(at for at, (command, _) in enumerate(packets) if command == wire.HEADER)
    return Case("headers", (_packed(packets[:at] + added + packets[at:]),))


def _options(rng: random.Random) -> Case:
    """Options of odd versions and flags, cut off, with more behind them, and offered again."""
    numbers = (0, 1, 2, 3, 5, 6, 7, 0x1FF, 0x1FFFFF, 2**31, 2**32 - 1, rng.randrange(2**32))
    offered = struct.pack("!III", *(rng.choice(numbers) for _ in range(3)))
    offered = rng.choice((offered, offered, offered[: rng.randrange(13)], offered + _some(rng)))
    odd = [(wire.OPTNEG, offered[: wire.CHUNK])]
    packets = good(rng)
    if rng.random() < 0.5:
        return Case("options", (_packed(odd + packets[1:]),))
    return Case("options", (_packed(_between(rng, packets, odd, first=1)),))


def _payloads(rng: random.Random) -> Case:
    """Payloads that are cut off, without their NULs, or something else."""
    packets = good(rng)
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(1, len(packets))
        command, payload = packets[at]
        cut = payload[: rng.randrange(len(payload) + 1)]
        packets[at] = (command, rng.choice((cut, payload.replace(b"\0", b""), _some(rng))))
    return Case("payloads", (_packed(packets),))


def _connects(rng: random.Random) -> Case:
    """SMTP clients of no known kind, with names and addresses that are none."""
    packets = good(rng)
    family = rng.choice((b"4", b"6", b"L", b"U", b"", b"\0", b"Z", b"5"))
    address = rng.choice((b"192.0.2.25\0", b"::1\0", b"IPv6:::1\0", b"/tmp/x\0", b"999.1\0", b""))
    port = rng.choice((b"\0\x19", b"\xff\xff", b"\0", b""))
    packets[2] = (wire.CONNECT, _some(rng) + b"\0" + family + port + address)
    packets[3] = (wire.HELO, _some(rng) + rng.choice((b"\0", b"")))
    return Case("connects", (_packed(packets),))


def _slow(rng: random.Random) -> Case:
    """A byte at a time, to the end or not."""
    data = _packed(good(rng))
    short = data[: rng.randrange(1, 250)]
    pieces = tuple(short[at : at + 1] for at in range(len(short)))
    return Case("slow", pieces, rng.choice(ENDS), pause=0.001)


def _leaves(rng: random.Random) -> Case:
    """Leaves after any step, the end of a message included, with a goodbye or without."""
    packets = good(rng, 2)
    told = packets[: rng.randrange(len(packets) + 1)]
    if rng.random() < 0.3:
        told.append((wire.QUIT, b""))
    return Case("leaves", (_packed(told),), rng.choice(ENDS))


def _leaves_at_the_end(rng: random.Random) -> Case:
    """Leaves while its message is judged."""
    told = greeting() + message(rng)[:-1]
    more = rng.choice((b"", wire.packet(wire.ABORT), wire.packet(wire.QUIT), _some(rng)))
    return Case("leaves at the end", (_packed(told), more), rng.choice(ENDS), pause=0.02)


def _garbage(rng: random.Random) -> Case:
    """No milter at all, or no more after a good beginning."""
    noise = rng.choice((rng.choice(GREETINGS), rng.randbytes(rng.randrange(5_000))))
    packets = good(rng)
    return Case("garbage", (_packed(packets[: rng.choice((0, 0, 1, 4, 9))]), noise))


def _mutated(rng: random.Random) -> Case:
    """A good conversation with bytes changed, lost, repeated and added."""
    data = bytearray(_packed(good(rng)))
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 200)]
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
    return Case("mutated", (bytes(data),))


def _early(rng: random.Random) -> Case:
    """Parts of a message that has not begun."""
    parts = message(rng)
    chosen = [rng.choice(parts[2:]) for _ in range(rng.randrange(1, 6))]
    chosen += rng.choice(([(wire.EOM, b"")], [(wire.BODY, _some(rng)), (wire.EOM, b"")], []))
    before = rng.choice(([], greeting()[:1], greeting()))
    after = rng.choice(([], parts))
    return Case("early", (_packed(before + chosen + after),), rng.choice(ENDS))


def _silent(rng: random.Random) -> Case:
    """Comes, says nothing or half a word, and stays for a while."""
    word = wire.packet(*greeting()[0])
    said = rng.choice((b"", word[:1], word[:4], word[:9], word))
    return Case("silent", (said, b""), rng.choice(ENDS), pause=0.2)


def _clients(rng: random.Random) -> Case:
    """Several SMTP clients on one line, which is for MTAs of Sendmail's kind."""
    packets = greeting()
    for _ in range(rng.choice((2, 5))):
        said = message(rng)
        packets += said[: rng.choice((0, 2, 9, len(said)))]
        packets.append((NEW_CONNECTION, b""))
        packets += greeting()[rng.choice((0, 1, 1, 1)) :]
    return Case("clients", (_packed(packets + message(rng)),), rng.choice(ENDS))


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "lengths": _lengths,
    "huge": _huge,
    "unknown": _unknown,
    "order": _order,
    "mails": _mails,
    "aborts": _aborts,
    "macros": _macros,
    "headers": _headers,
    "options": _options,
    "payloads": _payloads,
    "connects": _connects,
    "slow": _slow,
    "leaves": _leaves,
    "leaves at the end": _leaves_at_the_end,
    "garbage": _garbage,
    "mutated": _mutated,
    "early": _early,
    "silent": _silent,
    "clients": _clients,
}
