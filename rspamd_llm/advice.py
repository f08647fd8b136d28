"""Where Postfix's settings for us and our own work against each other, said with cause and cure.

Told by `check`, and by the daemon after its start.  What may not live here: how Postfix is asked
and its syntax (postfix.py), and contradictions among our own settings (config.py).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from rspamd_llm import postfix as postfixes
from rspamd_llm.config import Config
from rspamd_llm.libmilter import Address
from rspamd_llm.milter import PROGRESS_INTERVAL
from rspamd_llm.postfix import Milter, Postfix
from rspamd_llm.stopping import block_signals

SIGNS = 3
"""Signs of life that content_timeout must have room for: one or two may come late on a busy
machine."""

MARGIN = 5.0
"""Seconds between our deadline and Postfix's: a scan may be late by milter.GRACE, and the edits are
written after it."""

RSPAMD_PORT = 11332
"""Rspamd's milter, unless its administrator chose another port."""

_INSTEAD = {
    "tempfail": "refuses mail with 451",
    "reject": "rejects mail with 550",
    "quarantine": "keeps mail in its hold queue",
    "shutdown": "closes the sender's connection",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remark:
    """What an administrator should know, and what to do about it."""

    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.cause}; {self.cure}"


def contradictions(config: Config, postfix: Postfix) -> tuple[Remark, ...]:
    """Where Postfix's settings for us work against ours.  Raises AddressError."""
    told: list[Remark] = []
    for service, milter in postfix.asking(Address.parse(config.milter.socket)):
        where = milter.address + (f" of {service.name}" if service.name else "")
        told += _timeouts(config.milter.deadline, milter.settings.content_timeout, where)
        told += _action(config.milter.on_error, milter, where)
    return tuple(dict.fromkeys(told))


def _timeouts(deadline: float, content: int, where: str) -> Iterator[Remark]:
    cure = f"set content_timeout={math.ceil(deadline + MARGIN)}s or more in its entry"
    if content < SIGNS * PROGRESS_INTERVAL:
        yield Remark(
            f"Postfix's content_timeout for {where} ({content} s) has no room for {SIGNS} of the"
            f" daemon's signs of life ({PROGRESS_INTERVAL:g} s apart): when one is late, Postfix"
            " gives the daemon up in the middle of a mail",
            cure,
        )
    elif content < deadline + MARGIN:
        yield Remark(
            f"Postfix's content_timeout for {where} ({content} s) is not {MARGIN:g} s above"
            f" milter.deadline ({deadline:g} s): it holds only because the daemon sends a sign of"
            f" life every {PROGRESS_INTERVAL:g} s, which starts it anew",
            f"{cure}, or lower milter.deadline",
        )


def _action(on_error: str, milter: Milter, where: str) -> Iterator[Remark]:
    action = milter.settings.default_action.lower()
    if action not in ("accept", on_error):
        instead = _INSTEAD.get(action, "refuses mail with 451, as it does not know that word")
        yield Remark(
            f"Postfix's default_action for {where} is {action}: while the daemon is down or does"
            f" not answer, Postfix {instead}",
            f"set it in smtpd_milters: {{ {milter.address}, default_action=accept, ... }}",
        )


def placement(config: Config, postfix: Postfix) -> tuple[Remark, ...]:
    """Whether Postfix asks us at all, and before Rspamd.  Raises AddressError."""
    address = Address.parse(config.milter.socket)
    asking = postfix.asking(address)
    if not asking:
        return (
            Remark(
                f"Postfix does not ask the daemon: nothing in smtpd_milters leads to {address}",
                "put it before Rspamd, as conf/postfix/main.cf.example does, unless the mail comes"
                " from a Postfix elsewhere",
            ),
        )
    return tuple(
        Remark(
            f"Postfix asks {before.address} (Rspamd) before the daemon"
            + (f" in {service.name}" if service.name else "")
            + ": Rspamd then sees no verdict",
            "put the daemon first in smtpd_milters",
        )
        for service, milter in asking
        for before in service.milters[: service.milters.index(milter)]
        if before.port == RSPAMD_PORT
    )


def warn_later(config: Config) -> None:
    """Tells the log of contradictions, from a thread of its own: nobody waits for postconf."""
    threading.Thread(target=_warn, args=(config,), name="postfix", daemon=True).start()


def _warn(config: Config) -> None:
    block_signals()
    postfix = postfixes.read()
    for remark in contradictions(config, postfix) if postfix else ():
        _log.warning("%s", remark)
