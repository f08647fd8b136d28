"""What time it is for another host: the Date of its answer in HTTP.

Asked by `check` alone.  What may not live here: what a difference means (checkhost.py).
"""

from __future__ import annotations

import http.client
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

SECONDS = 3.0
"""For the answer, of which the head is enough."""


def ahead(url: str) -> float | None:
    """Seconds by which a host's clock is ahead of ours; None where it does not tell.

    The answer's status is of no matter: one who refuses us tells the time, too.
    """
    split = urlsplit(url)
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    try:
        line = kind(split.hostname or "", split.port, timeout=SECONDS)
        try:
            line.request("GET", split.path or "/", headers={"Connection": "close"})
            told = line.getresponse().getheader("Date", "")
        finally:
            line.close()
        return parsedate_to_datetime(told).timestamp() - time.time()
    except (OSError, http.client.HTTPException, ValueError, TypeError, OverflowError):
        return None
