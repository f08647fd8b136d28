"""What remembering verdicts saves: `python -m bench fingerprints DIR`.

Reads all mails of a folder, and of those below it, as if they had all arrived within the life of a
verdict, and counts how often the model is asked: once a fingerprint. Nothing is looked up, so no
group is smaller for its evidence. With --groups it lists the members of each group, for a person to
see that no two mails of different kind are in one.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.utils import getaddresses
from pathlib import Path

from bench import report
from bench.report import Measure, median, percentile
from rspamd_llm import domains, reading
from rspamd_llm import fingerprint as fingerprints
from rspamd_llm.config import Config
from rspamd_llm.domain import Brief, Envelope, Message

LARGEST = 10
HOSTS_SHOWN = 6
FIELD_READ = 300
"""Characters read of a header field: the parser of addresses goes as deep as brackets do."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A mail, as far as a person needs it to see what kind it is of."""

    file: str
    subject: str
    sender: str
    recipient: str
    hosts: tuple[str, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The mails of a folder by their fingerprints, and what fingerprints cost in ms of CPU."""

    groups: dict[str, list[Member]]
    costs: tuple[float, ...]
    empty: int
    """Mails with nothing to judge, which nobody is asked about."""

    @property
    def mails(self) -> int:
        return sum(map(len, self.groups.values()))


def recipients(data: bytes) -> tuple[str, ...]:
    """The recipient of a mail that has lost its envelope: of Delivered-To, or the first of To."""
    header = message_from_bytes(data.partition(b"\n\n")[0], policy=policy.compat32)
    for name in ("Delivered-To", "X-Original-To", "To"):
        fields = [str(field)[:FIELD_READ] for field in header.get_all(name, [])]
        found = [address for _, address in getaddresses(fields) if "@" in address]
        if found:
            return (found[0],)
    return ()


def count(folder: Path) -> Counted:
    """The mails of a folder and of those below it, by their fingerprints."""
    reading.prepare()
    fingerprints.prepare()
    groups: defaultdict[str, list[Member]] = defaultdict(list)
    costs: list[float] = []
    empty = 0
    most = Config().milter.max_body
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        to = recipients(data)
        envelope = Envelope(recipients=to, recipient_count=len(to))
        message = Message(envelope=envelope, data=data[:most], size=len(data))
        read = reading.read(message)
        if read is None:
            empty += 1
            continue
        brief = Brief(message=message, mail=read.mail, facts=read.facts)
        began = time.process_time()
        found = fingerprints.content(envelope, read.mail, read.facts)
        costs.append(1_000 * (time.process_time() - began))
        groups[found].append(_member(str(path.relative_to(folder)), brief))
    return Counted(groups=dict(groups), costs=tuple(costs), empty=empty)


def _member(file: str, brief: Brief) -> Member:
    mail = brief.mail
    hosts = dict.fromkeys(domains.place(link.target).host for link in mail.links)
    return Member(
        file=file,
        subject=mail.subject,
        sender=mail.from_address,
        recipient=" ".join(brief.message.envelope.recipients),
        hosts=tuple(host for host in hosts if host),
        text=" ".join(mail.text.split()),
    )


def several(counted: Counted) -> list[list[Member]]:
    """The groups of two mails and more, the largest first."""
    found = [group for group in counted.groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), group[0].file))


def measures(counted: Counted) -> list[Measure]:
    """The numbers of a folder."""
    asked, mails = len(counted.groups), counted.mails
    found = [
        Measure("mails that are judged", mails, "mails"),
        Measure("fingerprints: times the model is asked", asked, "calls"),
        Measure("calls saved", mails - asked, "calls"),
        Measure("calls saved, of the mails", 100 * (mails - asked) / max(1, mails), "%"),
        Measure("campaigns of two mails and more", len(several(counted)), "groups"),
    ]
    if counted.costs:
        found += [
            Measure("a fingerprint's CPU, median", median(counted.costs), "ms"),
            Measure("a fingerprint's CPU, p99", percentile(counted.costs, 99), "ms"),
            Measure("a fingerprint's CPU, worst", max(counted.costs), "ms"),
        ]
    return found


def listed(groups: Iterable[Sequence[Member]], *, letters: int) -> str:
    """The members of groups, for a person to look at; `letters` of their texts."""
    lines: list[str] = []
    for group in groups:
        lines.append(f"\n{len(group)} mails")
        for member in group:
            hosts = " ".join(member.hosts[:HOSTS_SHOWN])
            lines.append(f"  {member.file}  {member.sender} to {member.recipient}")
            lines.append(f"    {member.subject!r}  links: {hosts or 'none'}")
            if letters:
                lines.append(f"    {member.text[:letters]!r}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench fingerprints", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--groups", action="store_true", help="list the members of each group")
    parser.add_argument(
        "--text", type=int, default=0, metavar="N", help="with N letters of each one's text"
    )
    args = parser.parse_args(arguments)
    counted = count(args.folder)
    status = report.told(measures(counted))
    sizes = ", ".join(str(len(group)) for group in several(counted)[:LARGEST])
    print(f"the largest groups: {sizes or 'none'}")
    if args.groups:
        print(listed(several(counted), letters=args.text))
    return status
