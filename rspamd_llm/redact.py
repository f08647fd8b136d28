"""Personal tokens in a text, masked: the recipients' always, others where that is asked for.

Plain functions.  Domains stay, for they tell most; what stands before an @ goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Hiding = Callable[[str], str]
"""Takes a text and returns it masked."""

_ADDRESS = re.compile(r"[^\s@<>\"'(),;:\[\]\u2039\u203a]{1,64}@(?=[\w.-]{1,255}\.\w)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b")
# 13 to 19 digits (ISO/IEC 7812), in groups or not.
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
# 7 to 15 digits (E.164) that begin as phone numbers do and are grouped as people write them.
_PHONE = re.compile(r"(?<![\w.,/-])(?:\+|00|0|\()\(?\d(?:[ ./()-]{0,2}\d){6,13}(?![\w-])")


RECIPIENTS_HIDDEN = 100
"""Recipients whose local parts are masked: a mail to more of them names none."""


def hiding(recipients: Sequence[str], *, everything: bool) -> Hiding:
    """What masks the recipients' local parts, and with `everything` all personal tokens.

    A local part is masked where it stands before its domain, with @ or its URL form %40.
    """
    several = recipients[:RECIPIENTS_HIDDEN]
    pairs = {tuple(address.strip("<>").rpartition("@")[::2]) for address in several}
    known = [
        f"{re.escape(local)}(@|%40)(?={re.escape(domain)})" for local, domain in pairs if local
    ]
    own = re.compile(rf"(?<![\w.+-])(?:{'|'.join(known)})", re.IGNORECASE) if known else None

    def hide(text: str) -> str:
        if own is not None:
            text = own.sub("[recipient]@", text)
        return mask(text) if everything else text

    return hide


def mask(text: str) -> str:
    """The text with personal tokens as [address]@domain, [iban], [card], [phone]."""
    text = _ADDRESS.sub("[address]@", text)
    text = _IBAN.sub("[iban]", text)
    text = _CARD.sub("[card]", text)
    return _PHONE.sub("[phone]", text)
