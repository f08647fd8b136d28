"""The main job, shown: sample mails over SMTP through a private Postfix, the daemon with the
builtin model, and a private Rspamd; then what each of them said, how often the model was asked, and
what was looked up.

Run by script/demo.  Everything lives in temporary folders and on free ports, and ends with it.
"""

from __future__ import annotations

import email
import email.policy
import os
import re
import secrets
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.standins import StandIns, signed
from script.samples import SAMPLES, TRUSTED, WORLD, Sample
from tests.chain import postfix as postfix_parts
from tests.chain import rspamd as rspamd_parts
from tests.chain.daemon import EMBEDDED, ROOT, PrivateDaemon
from tests.chain.postfix import PrivatePostfix
from tests.chain.rspamd import PrivateRspamd

RSPAMD = {
    # These two judge the client's host name, for which Postfix asks no DNS here.
    "local.d/hfilter.conf": "enabled = false;\n",
    "local.d/once_received.conf": "enabled = false;\n",
    # A mail that is rejected is not delivered, and only a delivered one can be shown.
    "local.d/actions.conf": "reject = null;\n",
    "local.d/maps.d/dmarc_whitelist.inc.local": "".join(f"{domain}\n" for domain in TRUSTED),
}
HAM_BELOW = -5.0
"""Points below which Rspamd decides.  At the default, 0, stock Rspamd decides what authenticates
and has nothing against it, and how the model judges that could not be shown."""

VERDICT_TTL = 3600
"""Seconds; the default."""

WAYS = """\
  asked              the model judged the mail
  remembered         it had judged a mail of the same campaign: not asked again
  decided by Rspamd  Rspamd is asked first, and was in no doubt: model not asked
"""
NOTE = """\
In no doubt, because its administrator has put the library's domain on the allow-list for mail that
passes DMARC. Otherwise Rspamd is at its defaults, except that it rejects nothing, so that each mail
can be shown (it would at 15 points), and that two checks of host names are off, as this Postfix
asks no DNS. [rspamd] ham_below is -5 instead of 0: at 0, Rspamd would also decide mail for nothing
but SPF and DKIM that pass. Of these that is all the wanted mail, but the campaign's phish as well.
"""
LOOKED_UP = """\
A model that follows instructions reads these lines with the mail. The builtin model has not learned
to: its scores above are without them, and only the sentence below a score tells the warnings.

No question left this machine: DNS, SearXNG and RDAP server are stand-ins of this script that speak
the real protocols. With the defaults DNS goes to the system's resolvers, registrations are asked
for at the registries, and searches go to the engines that [search] names in the configuration:
docs/privacy.md tells what each of them learns, and how to run a SearXNG of your own.
"""

NEXT = """What next:
  Your own mail    .venv/bin/rspamd-llm scan -c demo.toml MAIL...
                   with this demo.toml:
                       [llm]
                       engine = "embedded"
                       model = "builtin"
  A real model     The builtin model has 2 million parameters and is here to
                   show the chain. For mail that matters use gemma3:12b or
                   better at Ollama, llama.cpp or vLLM.
  Your own server  docs/guide.md: install, choose a model, the lines for Postfix
                   and Rspamd."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One delivered mail, as its headers tell."""

    way: str
    """How the verdict came about."""
    seconds: str
    score: str
    category: str
    reason: str
    ours: str
    """Our symbols with their points."""
    others: str
    """Rspamd's own symbols of a tenth of a point and more."""
    total: str
    action: str
    looked_up: tuple[str, ...] = ()
    """The lines about what was looked up."""


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
        world = stack.enter_context(StandIns.running(*WORLD))
        rspamd = stack.enter_context(PrivateRspamd(world.zone.port, [key], RSPAMD))
        settings = {
            "llm": EMBEDDED,
            "rspamd": {"url": rspamd.url, "ham_below": HAM_BELOW},
            "store": {"verdict_ttl": VERDICT_TTL},
            "log": {"level": "debug", "format": "json"},
        }
        daemon = stack.enter_context(
            PrivateDaemon(settings | world.settings(), keys=(key,), environment=world.environment)
        )
        ours = f"{{ {daemon.milter}, default_action=accept, content_timeout=90s }}"
        postfix = stack.enter_context(PrivatePostfix([ours, rspamd.milter]))
        console.print(
            f"SMTP 127.0.0.1:{postfix.port} -> rspamd-llm {daemon.milter.removeprefix('inet:')}"
            f" -> Rspamd 127.0.0.1:{rspamd.milter_port}\n"
            f"Rspamd's own opinion, asked for first: {rspamd.url}\n"
            f"Stand-ins: DNS {world.zone.address}, SearXNG 127.0.0.1:{world.web.port},"
            f" RDAP 127.0.0.1:{world.registry.port}\n"
        )
        seen = [_sent(postfix, daemon, sample) for sample in SAMPLES]
        console.print(_table(seen))
        console.print(Text(_counted(seen), style="bold"))
        console.print(Text(WAYS))
        console.print(_flowing(NOTE))
        console.print(Text("What was looked up for three of them:", style="bold"))
        console.print(_lookups(seen))
        console.print(_flowing(LOOKED_UP))
        console.print(Text(NEXT))
    return 0 if all(isinstance(one, Seen) for one in seen) else 1


def _sent(postfix: PrivatePostfix, daemon: PrivateDaemon, sample: Sample) -> Seen | str:
    """What was seen of a sample, or why it did not come through."""
    mail = (ROOT / "tests" / "data" / "demo" / f"{sample.file}.eml").read_bytes()
    header = email.message_from_bytes(mail)
    sender = str(header["Return-Path"]).strip("<>")
    helo = str(header["Received"]).split()[1]
    # As if it had been sent just now: Rspamd gives points for old dates.
    mail = re.sub(rb"(?m)^Date: .*$", f"Date: {formatdate()}".encode(), mail, count=1)
    if sample.signer:
        mail = signed(mail, sample.signer)
    code, reply = postfix.send(mail, sender, [sample.recipient], helo=helo, client=sample.client)
    if code != 250:
        return f"{code} {reply}"
    delivered = postfix.wait_delivered(1)
    if not delivered:
        return "not delivered"
    queue_id = postfix_parts.queue_id(reply)
    lines = [
        line
        for record in daemon.told("evidence")
        if record["queue_id"] == queue_id
        for line in record["lines"]
    ]
    return _read(email.message_from_bytes(delivered[0], policy=email.policy.default), tuple(lines))


def _read(mail: EmailMessage, looked_up: tuple[str, ...]) -> Seen:
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

    model = str(mail["X-GPT-Model"] or "")
    seconds = re.search(r"seconds=([\d.]+)", model)
    return Seen(
        way=_way(str(mail["X-GPT-Status"]), model),
        seconds=seconds[1] if seconds else "",
        score=str(mail["X-GPT-Score"] or ""),
        category=str(mail["X-GPT-Category"] or ""),
        reason=str(mail["X-GPT-Reason"] or ""),
        ours=listed(of_ours=True),
        others=listed(of_ours=False),
        total=total[1] if total else "?",
        action=str(mail["X-Rspamd-Action"]),
        looked_up=looked_up,
    )


def _way(status: str, model: str) -> str:
    """How a verdict came about, from X-GPT-Status and X-GPT-Model."""
    if status == "skipped; decided":
        return "decided by Rspamd"
    if not status.startswith("scored"):
        return status
    return "remembered" if model.endswith("cache=hit") else "asked"


def _counted(seen: list[Seen | str]) -> str:
    """How many mails came to their verdict in which way."""
    ways = Counter(one.way if isinstance(one, Seen) else "not delivered" for one in seen)
    return f"{len(seen)} mails: " + ", ".join(f"{count} {way}" for way, count in ways.items())


def _flowing(text: str) -> Text:
    """A text whose paragraphs are as wide as the terminal."""
    return Text("\n\n".join(" ".join(part.split()) for part in text.split("\n\n")) + "\n")


def _table(seen: list[Seen | str]) -> Table:
    # Three columns, as more do not fit into a terminal of 80.
    table = Table(show_lines=True, header_style="bold")
    table.add_column("mail", max_width=16)
    table.add_column("verdict", min_width=25)
    table.add_column("symbols and points", no_wrap=True)
    for sample, one in zip(SAMPLES, seen, strict=True):
        if isinstance(one, str):
            table.add_row(sample.what, Text(one, style="red"))
            continue
        style = {"LLM_SPAM": "bold red", "LLM_HAM": "bold green"}.get(one.ours.split()[0], "bold")
        said = Text(one.way, style="bold")
        if one.score:
            said.append(f", {one.seconds} s", style="not bold")
            said.append(f"\n{one.score} {one.category}", style=style)
            said.append(f"\n{one.reason}", style="not bold")
        symbols = Text(one.ours, style=style)
        symbols.append(f"\n{one.others}", style="not bold default")
        symbols.append(f"\ntotal {one.total}: {one.action}", style="default")
        table.add_row(sample.what, said, symbols)
    return table


def _lookups(seen: list[Seen | str]) -> Table:
    """What was looked up for the telling mails, a line for each thing."""
    table = Table(show_lines=True, header_style="bold")
    table.add_column("mail", max_width=16)
    table.add_column("what was looked up")
    for sample, one in zip(SAMPLES, seen, strict=True):
        if not sample.is_telling or isinstance(one, str):
            continue
        told = Text()
        for line in one.looked_up:
            what, colon, found = line.partition(": ")
            told.append(what + colon, style="bold").append(f"{found}\n")
        told.rstrip()
        table.add_row(sample.what, told)
    return table


if __name__ == "__main__":
    sys.exit(main())
