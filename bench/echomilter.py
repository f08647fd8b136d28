"""The smallest pymilter program: a stand-in for the daemon, to prove the client with and to
measure what libmilter alone costs. Never part of the daemon, never imported by it.

    python -m bench.echomilter inet:11390@127.0.0.1 [symbols] [leading-space] [model=URL]

It deletes every X-Echo header, last to first, and adds X-Echo headers that say what it was
shown. The subject steers it: `sleep 0.2` waits at end of message, with a progress report each
50 ms; `reject`, `tempfail`, `discard`, `replycode` and `skip` do that; `die` ends the process
after the first edit. With a model's base URL it asks that server once for each message.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import urllib.request
from typing import Any, ClassVar

import Milter

ANSWERS = {"reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL, "discard": Milter.DISCARD}


class Echo(Milter.Base):  # type: ignore[misc]
    """One SMTP connection."""

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.echoes = 0
        self.chunks: list[bytes] = []

    def negotiate(self, options: list[int]) -> Any:
        self.may_delete = bool(options[0] & Milter.CHGHDRS)
        offered = options[1]
        result = super().negotiate(options)
        if "leading-space" in self.options:
            options[1] |= offered & Milter.P_HDR_LEADSPC
        if "symbols" in self.options:
            # Not by pymilter 1.0.5's symlist decorator: it hands bytes to a function that wants
            # text, and the exception turns the whole negotiation into "as you please".
            self._ctx.setsymlist(Milter.M_EOM, "i j")
        return result

    def connect(self, host: str, _family: str, address: Any) -> Any:
        self.client = [host, address]
        return Milter.CONTINUE

    @Milter.noreply  # type: ignore[untyped-decorator]
    def hello(self, name: str) -> Any:
        self.client.append(name)
        return Milter.CONTINUE

    def envfrom(self, sender: str, *arguments: str) -> Any:
        user = self.getsymval("{auth_authen}")
        self.seen = {"client": self.client, "from": [sender, *arguments], "user": user}
        self.seen |= {"early": self.getsymval("i"), "rcpts": [], "headers": []}
        self.echoes = 0
        self.chunks = []
        return Milter.ACCEPT if "waved" in sender else Milter.CONTINUE

    def envrcpt(self, rcpt: str, *_arguments: str) -> Any:
        if "refused" in rcpt:
            return Milter.REJECT
        self.seen["rcpts"].append([rcpt, self.getsymval("{rcpt_addr}")])
        return Milter.CONTINUE

    @Milter.noreply  # type: ignore[untyped-decorator]
    def header(self, name: str, value: str) -> Any:
        self.seen["headers"].append([name, value])
        self.echoes += name.lower() == "x-echo"
        return Milter.CONTINUE

    def body(self, chunk: bytes) -> Any:
        self.chunks.append(chunk)
        return Milter.SKIP if self.subject() == ["skip"] else Milter.CONTINUE

    def eom(self) -> Any:
        for option in self.options:
            if option.startswith("model="):
                self.ask(option.removeprefix("model="), b"".join(self.chunks))
        if self.may_delete:
            for index in range(self.echoes, 0, -1):
                self.chgheader("x-echo", index, "")
        content = b"".join(self.chunks)
        self.seen |= {"id": self.getsymval("i"), "chunks": [len(chunk) for chunk in self.chunks]}
        if "symbols" in self.options:
            self.seen["server"] = self.getsymval("j")
        self.seen["digest"] = hashlib.sha256(content).hexdigest()
        for key, value in self.seen.items():
            self.addheader("X-Echo", f"{key}={value!r}".encode("utf-8", "replace").decode())
            if self.subject() == ["die"]:
                time.sleep(0.1)  # lets the edit reach the other side
                os._exit(3)
        return self.finish(*self.subject()[:2])

    def finish(self, word: str = "", argument: str = "") -> Any:
        if word == "sleep":
            until = time.monotonic() + float(argument)
            while time.monotonic() < until:
                time.sleep(0.05)
                self.progress()
        if word == "replycode":
            self.setreply("550", "5.7.1", "no thank you")
            return Milter.REJECT
        return ANSWERS.get(word, Milter.CONTINUE)

    def ask(self, url: str, content: bytes) -> None:
        messages = [{"role": "user", "content": content[:6000].decode("utf-8", "replace")}]
        data = json.dumps({"model": "stub", "messages": messages}).encode()
        with urllib.request.urlopen(f"{url}/chat/completions", data, timeout=60) as answer:  # noqa: S310
            answer.read()

    def subject(self) -> list[str]:
        found = [value for name, value in self.seen["headers"] if name == "Subject"]
        return str(found[0]).split() if found else []


def main(address: str, *options: str) -> None:
    Milter.factory = Echo
    Echo.options = options
    Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS)
    Milter.runmilter("echo", address, timeout=60)


if __name__ == "__main__":
    main(*sys.argv[1:])
