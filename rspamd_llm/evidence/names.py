"""What can be a name: plain rules over texts.

What may not live here: registered domains (domains.py), and whether a name is there (dns.py).
"""

from __future__ import annotations

import re

# Printable ASCII but for the dot and the backslash, which escapes what is not printable.
_LABEL = re.compile(r"[!-\-/-\[\]-~]{1,63}")
_HOST = re.compile(r"[A-Za-z0-9._-]+")


def is_name(name: str) -> bool:
    """Whether DNS can know a name: by RFC 1035 2.3.4, of printable ASCII.

    Not one that ends in digits: that is an address (RFC 3696 2).
    """
    labels = name.removesuffix(".").split(".")
    fits = len(name.removesuffix(".")) <= 253 and all(map(_LABEL.fullmatch, labels))
    return fits and not labels[-1].isdecimal()


def is_host(name: str) -> bool:
    """Whether a name can be a host's or a mail domain's: of letters, digits, hyphens, and the
    underscores that some have."""
    return _HOST.fullmatch(name) is not None and is_name(name)
