"""Message -> Reading: a mail as its reader sees it, and the facts that follow from it.

Runs in the reader processes (nursery.py).  What may not live here: anything that reaches outside.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from rspamd_llm import facts as facts_of
from rspamd_llm import fingerprint as fingerprints
from rspamd_llm import gate, injection
from rspamd_llm import mail as mails
from rspamd_llm.domain import Mail, Message, Reading
from rspamd_llm.prompt import TEXT_LOOKED_AT


def prepare() -> None:
    """Builds the tables that the first mail would else wait for."""
    facts_of.prepare()
    injection.prepare()
    fingerprints.prepare()


def read(message: Message) -> Reading | None:
    """A message read; None where there is nothing to judge."""
    mail = mails.read(message.data, truncated=message.size > len(message.data))
    if gate.is_empty(mail):
        return None
    facts = facts_of.gather(message, mail, now=datetime.now(UTC))
    mail, facts = _shortened(mail), injection.noted(facts, mail)
    content = fingerprints.content(message.envelope, mail, facts)
    return Reading(mail=mail, facts=facts, content=content)


def _shortened(mail: Mail) -> Mail:
    """A mail without what no prompt looks at: many are held at once while the model is asked."""
    return replace(mail, text=mail.text[:TEXT_LOOKED_AT], plain=mail.plain[:TEXT_LOOKED_AT])
