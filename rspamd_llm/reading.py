"""Message -> Reading: a mail as its reader sees it, and the facts that follow from it.

Runs in the reader processes (nursery.py).  What may not live here: anything that reaches outside.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rspamd_llm import facts as facts_of
from rspamd_llm import gate, injection
from rspamd_llm import mail as mails
from rspamd_llm.domain import Message, Reading


def prepare() -> None:
    """Builds the tables that the first mail would else wait for."""
    facts_of.prepare()
    injection.prepare()


def read(message: Message) -> Reading | None:
    """A message read; None where there is nothing to judge."""
    mail = mails.read(message.data, truncated=message.size > len(message.data))
    if gate.is_empty(mail):
        return None
    facts = facts_of.gather(message, mail, now=datetime.now(UTC))
    return Reading(mail=mail, facts=injection.noted(facts, mail))
