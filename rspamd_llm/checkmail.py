"""What `check` finds of Postfix: whether and how it asks us, and what it does to our headers.

It may be another's, so that nothing here fails.  What may not live here: how Postfix is asked
(postfix.py, headerchecks.py), and what contradicts what (advice.py).
"""

from __future__ import annotations

from rspamd_llm import advice, headerchecks, postfix
from rspamd_llm.config import Config
from rspamd_llm.domain import AddressError
from rspamd_llm.libmilter import Address
from rspamd_llm.results import Result, ok, warning


def postfix_here(config: Config) -> list[Result]:
    """What the Postfix of this machine, if there is one, makes of us."""
    found = postfix.read()
    if found is None:
        return [ok("postfix", "not installed here, or not to be read")]
    smtpd = postfix.smtpd(found)
    try:
        asking = found.asking(Address.parse(config.milter.socket))
        remarks = advice.placement(config, found) + advice.contradictions(config, found)
        remarks += advice.reach(config, found, smtpd) if smtpd else ()
    except AddressError:
        return []  # the check of the socket tells
    remarks += advice.lost(headerchecks.losses(advice.sample(config))) if asking else ()
    if remarks:
        return [warning("postfix", remark.cause, remark.cure) for remark in remarks]
    return [
        ok("postfix", f"{service.name or 'main.cf'} asks {milter}") for service, milter in asking
    ]
