"""Signs verdicts with the standard library alone, as docs and plugin define them.

This is a second, independent reading of the contract: it may not import rspamd_llm.
"""

from __future__ import annotations

import hashlib
import hmac
import time

HEADER = "X-GPT-Verdict"
QUEUE_ID = "4XyZ1F2z3aB"
KEY = bytes(range(32))  # begins with a zero byte: keys are bytes, not C strings
OTHER_KEY = bytes(range(100, 132))


def key_id(key: bytes) -> str:
    """The k field."""
    return hashlib.sha256(key).hexdigest()[:8]


def sign(text: str, key: bytes = KEY) -> str:
    """Appends the m field to a text that has all the others."""
    mac = hmac.new(key, text.encode("latin-1"), hashlib.sha256).hexdigest()
    return f"{text}; m={mac}"


def verdict(
    *,
    v: str = "1",
    st: str = "scored",
    q: str = QUEUE_ID,
    age: float = 0,
    t: str | None = None,
    s: str = "0.97",
    c: str = "none",
    k: str | None = None,
    key: bytes = KEY,
) -> str:
    """A signed verdict of any content; genuine unless asked otherwise. age is in seconds."""
    t = t if t is not None else str(int(time.time() - age))
    k = k if k is not None else key_id(key)
    return sign(f"v={v}; st={st}; q={q}; t={t}; s={s}; c={c}; k={k}", key)
