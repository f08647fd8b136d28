"""The main job, shown: sample mails over SMTP through a private Postfix, the daemon with the
builtin model, and a private Rspamd; then what each of them said.

Run by script/demo.  Everything lives in temporary folders and on free ports, and ends with it.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import secrets
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chain import postfix as postfix_parts
from tests.chain import rspamd as rspamd_parts
from tests.chain.daemon import EMBEDDED, ROOT, PrivateDaemon
from tests.chain.dns import NxDomainServer
from tests.chain.postfix import PrivatePostfix
from tests.chain.rspamd import PrivateRspamd

SAMPLES = {
    "01-personal": "a personal mail",
    "02-newsletter": "a newsletter",
    "03-invoice": "an invoice",
    "04-parcel-phish": "a parcel phish",
    "05-advance-fee": "an advance-fee scam",
    "06-forged-headers": "casino spam with forged X-GPT headers",
    "07-french": "a mail in French",
    "08-french-phish": "a bank phish in French",
}

RSPAMD = {
    # These two judge the client's host name, which has no DNS here: every mail would get 6 points.
    "local.d/hfilter.conf": "enabled = false;\n",
    "local.d/once_received.conf": "enabled = false;\n",
    # A mail that is rejected is not delivered, and only a delivered one can be shown.
    "local.d/actions.conf": "reject = null;\n",
}
NOTE = """\
Rspamd is at its defaults, except that it rejects nothing, so that each mail can be shown (it
would at 15 points), and that two checks of host names are off, as there is no DNS here.
"""

NEXT = """What next:
  Your own mail    .venv/bin/rspamd-llm scan -c demo.toml MAIL...   with this demo.toml:
                       [llm]
                       engine = "embedded"
                       model = "builtin"
  A real model     The builtin model has 2 million parameters and is here to show the chain.
                   For mail that matters use gemma3:12b or better at Ollama, llama.cpp or vLLM.
  Your own server  docs/guide.md: install, choose a model, Postfix's and Rspamd's lines."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One delivered mail, as its headers tell."""

    score: str
    category: str
    reason: str
    ours: str
    """Our symbols with their points."""
    others: str
    """Rspamd's own symbols of a tenth of a point and more."""
    total: str
    action: str


def main() -> int:
    """Runs the demonstration; 1 where it could not run or a mail did not come through."""
    missing = [*postfix_parts.missing_programs(), *rspamd_parts.missing_programs()]
    if missing:
        print(f"demo: missing: {', '.join(missing)}; script/setup installs them", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print(
            "demo: run it as root: Postfix and Rspamd start under their own users", file=sys.stderr
        )
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    with ExitStack() as stack:
        key = secrets.token_hex(32)
        console.print("Starting a private Rspamd, the daemon with its model, a private Postfix ...")
        dns = stack.enter_context(NxDomainServer())
        rspamd = stack.enter_context(PrivateRspamd(dns.port, [key], RSPAMD))
        daemon = stack.enter_context(PrivateDaemon({"llm": EMBEDDED}, keys=(key,)))
        ours = f"{{ {daemon.milter}, default_action=accept, content_timeout=90s }}"
        postfix = stack.enter_context(PrivatePostfix([ours, rspamd.milter]))
        console.print(
            f"SMTP 127.0.0.1:{postfix.port}  ->  rspamd-llm {daemon.address}  ->  "
            f"Rspamd 127.0.0.1:{rspamd.milter_port}\n"
        )
        seen = [_sent(postfix, name) for name in SAMPLES]
        console.print(_table(seen))
        console.print(Text(NOTE))
        console.print(Text(NEXT))
    return 0 if all(isinstance(one, Seen) for one in seen) else 1


def _sent(postfix: PrivatePostfix, name: str) -> Seen | str:
    """What was seen of a sample, or why it did not come through."""
    sample = (ROOT / "tests" / "data" / "demo" / f"{name}.eml").read_bytes()
    sender = str(email.message_from_bytes(sample)["Return-Path"]).strip("<>")
    # As if it had been sent just now: Rspamd gives points for old dates.
    sample = re.sub(rb"(?m)^Date: .*$", f"Date: {formatdate()}".encode(), sample, count=1)
    code, reply = postfix.send(sample, sender, ["user@example.org"], client="203.0.113.99")
    if code != 250:
        return f"{code} {reply}"
    delivered = postfix.wait_delivered(1)
    if not delivered:
        return "not delivered"
    return _read(email.message_from_bytes(delivered[0], policy=email.policy.default))


def _read(mail: EmailMessage) -> Seen:
    result = " ".join(str(mail["X-Spamd-Result"]).split())
    symbols = re.findall(r"(\w+)\((-?[\d.]+)\)", result)
    total = re.search(r"\[(-?[\d.]+) / (-?[\d.]+)\]", result)

    def listed(*, of_ours: bool) -> str:
        chosen = (
            f"{name} {float(points):.2f}"
            for name, points in symbols
            if name.startswith("LLM_") == of_ours and (of_ours or abs(float(points)) > 0.1)
        )
        return "\n".join(chosen)

    return Seen(
        score=str(mail["X-GPT-Score"] or mail["X-GPT-Status"]),
        category=str(mail["X-GPT-Category"] or ""),
        reason=str(mail["X-GPT-Reason"] or ""),
        ours=listed(of_ours=True),
        others=listed(of_ours=False),
        total=total[1] if total else "?",
        action=str(mail["X-Rspamd-Action"]),
    )


def _table(seen: list[Seen | str]) -> Table:
    table = Table(show_lines=True, header_style="bold")
    table.add_column("mail", max_width=16)
    table.add_column("the model", min_width=30)
    table.add_column("symbols, points", no_wrap=True)
    table.add_column("total", justify="right")
    table.add_column("action", max_width=10)
    for label, one in zip(SAMPLES.values(), seen, strict=True):
        if isinstance(one, str):
            table.add_row(label, Text(one, style="red"))
            continue
        style = "bold red" if one.ours.startswith("LLM_SPAM") else "bold green"
        said = Text(f"{one.score} {one.category}", style=style)
        said.append(f"\n{one.reason}", style="not bold default")
        symbols = Text(one.ours, style=style)
        symbols.append(f"\n{one.others}", style="not bold default")
        table.add_row(label, said, symbols, one.total, one.action)
    return table


if __name__ == "__main__":
    sys.exit(main())
