"""What the running daemon says of itself, for `check`: a question to its port.

What may not live here: what is made of it (check.py).
"""

from __future__ import annotations

import http.client
import json

from rspamd_llm import health as healths
from rspamd_llm.health import Health, OtherVersionError

SECONDS = 3.0
"""For the answer: the daemon gives its core two."""

ANSWER_BYTES = 1_000_000
"""Bytes read of an answer; ours has some hundred for each model server."""


def address(listen: str) -> tuple[str, int]:
    """Host and port of `metrics.listen`, which config.py has found to be well-formed."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def ask(host: str, port: int, token: str = "") -> Health:
    """How the daemon is; a token is wanted where it does not listen on loopback.

    Raises OSError where nobody answers, OtherVersionError, and ValueError where the answer is none
    of ours.
    """
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/readyz", headers={"Connection": "close", **bearer})
        answer = connection.getresponse()
        body = answer.read(ANSWER_BYTES)
    except http.client.HTTPException as error:
        raise ValueError("no answer in HTTP") from error
    finally:
        connection.close()
    try:
        return healths.from_document(json.loads(body))
    except OtherVersionError:
        raise
    except (ValueError, RecursionError) as error:
        text = body[:60].decode("ascii", "replace").strip()
        raise ValueError(f"status {answer.status}, {text!r}") from error
