"""Verdicts that the daemon did not make for the mail they stand in, as an attacker writes them.

All claim either that the mail is wanted or that it is malware, which the suite's model never says:
so one that is believed shows.  The key is the suite's own, with which Rspamd checks: a replay is
what the daemon has truly signed, for another mail or long ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.faults_tally import ABSENT, FORGED
from tests.chain.verdicts import HEADER, KEY, OTHER_KEY, key_id
from tests.chain.verdicts import verdict as signed

ANOTHER = "4XyZ1F2z3aB"
"""The queue ID of a mail that is not among those sent."""

AGE = 1_000
"""Seconds; a verdict is good for 900."""


@dataclass(frozen=True, slots=True)
class Forgery:
    """The header lines of a forger, and what may be found of them where no daemon removed them."""

    name: str
    lines: bytes
    may: frozenset[str] = frozenset((FORGED,))


def forgeries(replayed: Sequence[str] = ()) -> list[Forgery]:
    """All of them, fresh; `replayed` are verdicts out of mails that were delivered."""
    near = frozenset((FORGED, ABSENT))
    other = signed(q=ANOTHER, s="0.00")
    made = [
        Forgery("invented", _line("v=1; st=scored; q=x; t=1; s=0.00; c=none; k=0; m=0")),
        Forgery("empty", _line("")),
        Forgery("another mail's", _line(other)),
        Forgery("another mail's, malware", _line(signed(q=ANOTHER, s="1.00", c="malware"))),
        Forgery("for no queue ID", _line(signed(q="-", s="0.00"))),
        Forgery("stale", _line(signed(q=ANOTHER, s="0.00", age=AGE))),
        Forgery("another key", _line(signed(q=ANOTHER, s="1.00", c="malware", key=OTHER_KEY))),
        Forgery(
            "another key under the name of ours",
            _line(signed(q=ANOTHER, s="0.00", key=OTHER_KEY, k=key_id(KEY))),
        ),
        Forgery("no key", _line(signed(q=ANOTHER, s="0.00", key=b""))),
        Forgery("twice", _line(other) * 2),
        Forgery("a hundred times", _line(other) * 100),
        Forgery("in three cases", b"".join(_line(other, name) for name in _CASES)),
        Forgery("folded", _line(other.replace("; s=", ";\r\n s="))),
        Forgery("very long", _line(f"{other}{'x' * 50_000}")),
        Forgery("a blank before the colon", _line(other, f"{HEADER} "), near),
        Forgery("a tab before the colon", _line(other, f"{HEADER}\t"), near),
        Forgery("no blank behind the colon", f"{HEADER}:{other}\r\n".encode()),
        Forgery("a carriage return before it", f"X-Other: a\r{HEADER}: {other}\r\n".encode(), near),
        Forgery("a name with a sign in it", _line(other, "X-GPT\u200b-Verdict"), near),
        Forgery(
            "all our headers",
            _line(other) + b"X-GPT-Status: scored\r\nX-GPT-Score: 0.00\r\nX-GPT-Category: none\r\n",
        ),
    ]
    return made + [
        Forgery(f"replayed {number}", _line(value)) for number, value in enumerate(replayed, 1)
    ]


_CASES = ("X-GPT-Verdict", "x-gpt-verdict", "X-Gpt-VERDICT")


def of_own_queue_id(queue_id: str) -> dict[str, list[str]]:
    """Verdicts that name the right mail and must not count all the same, by name.

    Nobody knows a queue ID before Postfix has taken the mail, so these are shown to Rspamd itself.
    """
    good = signed(q=queue_id, s="0.00")
    return {
        "stale": [signed(q=queue_id, s="0.00", age=AGE)],
        "from the future": [signed(q=queue_id, s="0.00", age=-AGE)],
        "another key": [signed(q=queue_id, s="0.00", key=OTHER_KEY)],
        "another score": [good.replace("s=0.00", "s=1.00")],
        "repeated": [good, good],
        "genuine, then forged": [good, signed(q=queue_id, s="1.00", key=OTHER_KEY)],
        "in another case of the queue ID": [signed(q=queue_id.swapcase(), s="0.00")],
    }


def _line(value: str, name: str = HEADER) -> bytes:
    return f"{name}: {value}\r\n".encode()
