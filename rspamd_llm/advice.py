"""Where Postfix's settings for us and our own work against each other, said with cause and cure.

Told by `check`, and by the daemon after its start.  What may not live here: how Postfix is asked
and its syntax (postfix.py, headerchecks.py), and contradictions among our own settings (config.py).
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rspamd_llm import access, headers
from rspamd_llm import postfix as postfixes
from rspamd_llm.config import Config
from rspamd_llm.domain import Key, Scored, Verdict
from rspamd_llm.headerchecks import Loss
from rspamd_llm.libmilter import Address
from rspamd_llm.milter import PROGRESS_INTERVAL
from rspamd_llm.postfix import Milter, Postfix, Smtpd
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
        if _is_rspamd(before)
    )


def _is_rspamd(milter: Milter) -> bool:
    return milter.port == RSPAMD_PORT or "rspamd" in milter.address.replace("rspamd-llm", "")


def reach(config: Config, postfix: Postfix, smtpd: Smtpd) -> tuple[Remark, ...]:
    """Whether Postfix comes to our unix socket: from its chroot, as its user.  Raises AddressError.

    What leads elsewhere by its path alone is `placement`'s.
    """
    address = Address.parse(config.milter.socket)
    return tuple(
        remark
        for service, milter in postfix.asking(address)
        if (path := smtpd.reaches(service, milter))
        for remark in _reach(address, path, milter, smtpd)
    )


def _reach(address: Address, path: str, milter: Milter, smtpd: Smtpd) -> Iterator[Remark]:
    if os.path.realpath(path) != os.path.realpath(address.path):
        yield Remark(
            f"Postfix's smtpd is chrooted to {smtpd.queue_directory}: it looks for"
            f" {milter.address} at {path}, and the daemon listens at {address.path}",
            f'set milter.socket = "unix:{smtpd.queue_directory}/rspamd-llm/milter.sock", where'
            " systemd/rspamd-llm.tmpfiles makes a folder for both, and name it"
            " unix:rspamd-llm/milter.sock in smtpd_milters; or set chroot to n for smtpd in"
            " master.cf",
        )
        return
    user = access.user(smtpd.user)
    refusal = access.refusal(user, Path(path), access.WRITE) if user else ""
    if refusal:
        yield Remark(
            f"Postfix cannot connect to the daemon: {refusal}",
            f"make {smtpd.user} a member of a group, name that in milter.socket_group with"
            " milter.socket_mode 0660, and let the group pass the folders; then restart both",
        )


def sample(config: Config) -> tuple[tuple[str, str], ...]:
    """Our headers, names and values, as a mail has them that nobody minds."""
    verdict = Verdict(score=0.03, category="none", reason="A colleague suggests lunch.")
    outcome = Scored(verdict=verdict, model=config.llm.model, prompt_id="9f3c2a11", seconds=1.84)
    return headers.edits(
        (), outcome, queue_id="4XyZ1F2z3aB", now=1_795_340_000, key=Key(bytes(32))
    ).add


def lost(losses: Sequence[Loss]) -> tuple[Remark, ...]:
    """What Postfix's tables do to our headers."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for loss in losses:
        told.setdefault((loss.setting, loss.table, loss.action), []).append(loss.header)
    return tuple(
        Remark(
            f"Postfix's {setting} ({table}) does {action} to {', '.join(names)}:"
            f" {_effect(setting, action, names)}",
            "take X-GPT-* out of it: the daemon deletes what arrives under these names",
        )
        for (setting, table, action), names in told.items()
    )


def _effect(setting: str, action: str, names: Sequence[str]) -> str:
    is_kept = action in ("IGNORE", "STRIP", "REPLACE")
    if setting == "header_checks":
        # cleanup(8): what a milter adds is not put to it, unless the mail comes a second time.
        if is_kept:
            return (
                "our headers are spared when the milter adds them, but not where mail passes"
                " Postfix a second time, as behind a content_filter"
            )
        return "mail is refused that had such a header before, as from another host with rspamd-llm"
    if not is_kept:
        return "every mail that the model has judged is refused or lost"
    if "X-GPT-Verdict" in names:
        return "Rspamd sees no verdict (LLM_ABSENT)"
    return "Rspamd has its verdict, but whoever reads the mail's header does not see these"


def warn_later(config: Config) -> None:
    """Tells the log of contradictions, from a thread of its own: nobody waits for postconf."""
    threading.Thread(target=_warn, args=(config,), name="postfix", daemon=True).start()


def _warn(config: Config) -> None:
    block_signals()
    postfix = postfixes.read()
    for remark in contradictions(config, postfix) if postfix else ():
        _log.warning("%s", remark)
