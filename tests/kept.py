"""A history to read: messages and scans as a daemon has them, noted as it notes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from rspamd_llm.domain import (
    Authentication,
    DomainRecords,
    Envelope,
    Evidence,
    Facts,
    Mail,
    Message,
    Registration,
    Scan,
    Scored,
    Source,
    Verdict,
)
from rspamd_llm.history import ROWS, History

AT = 1_795_000_000.0
"""A time, in seconds since 1970."""

ENVELOPE = Envelope(
    queue_id="4XyZ1F2z3aB",
    client_address="192.0.2.7",
    client_name="mx.bulk.example",
    helo="mx.bulk.example",
    sender="<secret-sender@bulk.example>",
    recipients=("<secret-rcpt@b.test>", "<secret-two@b.test>"),
    recipient_count=2,
)
MESSAGE = Message(
    envelope=ENVELOPE,
    data=b"Subject: secret-subject\r\nFrom: secret-from@bulk.example\r\n\r\nsecret-body",
    size=4_321,
    forged=2,
)
MAIL = Mail(
    from_name="secret-name",
    from_address="secret-from@bulk.example",
    subject="secret-subject",
    text="secret-body " * 400,
)
FACTS = Facts(sender_domain="bulk.example", link_domains=("shop.example",))
EVIDENCE = Evidence(
    authentication=Authentication(spf="pass", spf_domain="bulk.example", dmarc="fail"),
    records=DomainRecords(exists=True, mail=True, spf=True),
    registrations={"bulk.example": Registration(found=True, created=date(2026, 11, 1))},
    day=date(2026, 11, 12),
    missing=(Source.WEB,),
)
STAGES = {"read": 0.01, "evidence": 0.5, "fit": 0.0, "model": 1.5}


def scored(
    score: float = 0.97,
    category: str = "phishing",
    reason: str = "It asks for a password at a new domain.",
    **values: Any,
) -> Scan:
    """A scan with a verdict; `values` replace the others of Scan."""
    outcome = Scored(
        verdict=Verdict(score=score, category=category, reason=reason),
        model=values.pop("model", "gemma3:12b"),
        prompt_id="9f3c2a11",
        seconds=2.0,
        tokens_in=900,
        tokens_out=30,
        injection=values.pop("injection", False),
    )
    known: dict[str, Any] = {"stages": STAGES, "facts": FACTS, "evidence": EVIDENCE}
    return Scan(outcome=outcome, **known | values)


def keep(
    path: Path,
    *noted: tuple[Message, Scan, Mail | None],
    full: bool = False,
    days: int = 21,
    rows: int = ROWS,
    clock: Callable[[], float] = lambda: AT,
) -> None:
    """Notes them in a file, and closes it."""
    history = History(path, days=days, full=full, rows=rows, clock=clock)
    for message, scan, mail in noted:
        history.note(message, replace(scan, mail=mail))
    history.close()
    assert history.dropped == 0, history.fault


def keep_at(path: Path, noted: Iterable[tuple[float, Scan]]) -> None:
    """Notes scans, each at its time."""
    several = list(noted)
    times = iter([at for at, _ in several])
    # The history also asks for the time when it looks for what is old, in a thread of its own.
    history = History(path, days=3_650, full=False, clock=lambda: AT)
    for _, scan in several:
        history._clock = lambda: next(times)
        history.note(MESSAGE, scan)
    history.close()
    assert history.dropped == 0, history.fault
