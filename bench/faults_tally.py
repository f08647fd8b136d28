"""What the fault suite counts, and when a row of it has failed: values and plain functions.

What became of a mail is read from the headers of the delivered file alone: from the symbols that
Rspamd wrote, and without a Rspamd from ours.  Sending, starting and stopping are faults_chain's.
Nothing of the daemon's own code may be imported here.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

GENUINE = {"LLM_SPAM": 4.7, "LLM_PHISHING": 3.0}
"""What the stub model's answer, 0.97 and phishing, is worth.  No forgery of the suite claims that,
so any other judgement is a forger's."""

WITHOUT_JUDGEMENT = {"LLM_ABSENT", "LLM_FORGED", "LLM_SKIPPED", "LLM_UNSCORED"}

SCORED, ABSENT, FORGED = "scored", "absent", "forged"
UNREAD, NOTHING = "unread", "nothing"
"""Without Rspamd: a scored verdict stands in the mail and nobody has used it, or none does."""


def unscored(code: str) -> str:
    """The outcome of a mail that the model gave no verdict on."""
    return f"unscored; {code}"


def skipped(code: str) -> str:
    """The outcome of a mail that the model was not asked about."""
    return f"skipped; {code}"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A mail that was sent: what may become of it, and what the SMTP server said.

    `id` is the local part of its recipient, by which it is found again.  `seconds` is from the
    connection to the answer to the end of DATA, `within` their limit.
    """

    id: str
    may: frozenset[str]
    within: float
    seconds: float
    code: int
    reply: str

    @property
    def is_accepted(self) -> bool:
        return self.code == 250


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A mail in the maildir: our symbols with their points, and what they or our headers say."""

    id: str
    outcome: str
    symbols: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        """Whether Rspamd took a verdict as genuine."""
        return self.outcome.partition(";")[0] in ("scored", "skipped", "unscored")

    @property
    def is_deceived(self) -> bool:
        """Whether Rspamd judged by something else than what our model has said."""
        judging = self.symbols.keys() - WITHOUT_JUDGEMENT
        return bool(judging or self.points) and dict(self.symbols) != GENUINE

    @property
    def points(self) -> float:
        return sum(self.symbols.values())


def read(mail: bytes) -> Delivered:
    """A delivered file, however broken the mail in it is."""
    head = re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0].decode("latin-1")
    lines = re.sub(r"\r?\n[ \t]+", " ", head).split("\n")
    fields: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()].append(value.strip())
    recipient = fields["delivered-to"][0] if fields["delivered-to"] else "?"  # ours is the first
    name = recipient.partition("@")[0]
    if not fields["x-spamd-result"]:
        is_scored = fields["x-gpt-status"] == ["scored"] and len(fields["x-gpt-verdict"]) == 1
        return Delivered(id=name, outcome=UNREAD if is_scored else NOTHING)
    found = re.findall(r"\b(LLM_\w+)\((-?[\d.]+)\)\[([^\]]*)\]", fields["x-spamd-result"][-1])
    symbols = {symbol: float(points) for symbol, points, _ in found}
    options = {symbol: option for symbol, _, option in found}
    return Delivered(id=name, symbols=symbols, outcome=_outcome(options))


def _outcome(options: Mapping[str, str]) -> str:
    if "LLM_UNSCORED" in options:
        return unscored(options["LLM_UNSCORED"])
    if "LLM_SKIPPED" in options:
        return skipped(options["LLM_SKIPPED"])
    if {"LLM_SPAM", "LLM_UNCERTAIN", "LLM_HAM"} & options.keys():
        return SCORED
    if "LLM_FORGED" in options:
        return FORGED
    return ABSENT if "LLM_ABSENT" in options else NOTHING


@dataclass(frozen=True, kw_only=True)
class Tally:
    """A row of the suite, counted.  `faults` are the reasons why it has failed."""

    sent: int = 0
    accepted: int = 0
    once: int = 0
    valid: int = 0
    deceived: int = 0
    stolen: float = 0.0
    """Points that forged or replayed verdicts were given."""
    slowest: float = 0.0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    skipped: str = ""
    """Why the row did not run."""


def count(
    sent: Iterable[Sent],
    delivered: Iterable[Delivered],
    *,
    faults: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Tally:
    """What became of the mails of a row; `faults` are those already known."""
    by_id = {one.id: one for one in sent}
    copies: dict[str, list[Delivered]] = defaultdict(list)
    for one in delivered:
        copies[one.id].append(one)
    found = list(faults)
    refused = [one for one in by_id.values() if not one.is_accepted]
    found += _some("not accepted", (f"{one.id}: {one.code} {one.reply}" for one in refused))
    found += _some("lost", by_id.keys() - copies.keys())
    found += _some("delivered more than once", (name for name in copies if len(copies[name]) > 1))
    found += _some("delivered but never sent", copies.keys() - by_id.keys())
    late = [one for one in by_id.values() if one.seconds > one.within]
    found += _some("late", (f"{one.id}: {one.seconds:.1f} s of {one.within:.1f}" for one in late))
    everything = [one for several in copies.values() for one in several]
    deceived = [one for one in everything if one.is_deceived]
    found += _some("a forged verdict counted", (f"{one.id}: {one.symbols}" for one in deceived))
    wrong: dict[str, list[str]] = defaultdict(list)
    for one in everything:
        may = by_id[one.id].may if one.id in by_id else frozenset()
        if may and one.outcome not in may:
            wrong[f"{one.outcome!r} where {' or '.join(map(repr, sorted(may)))} is right"] += [
                one.id
            ]
    for what, names in wrong.items():
        found += _some(what, names)
    return Tally(
        sent=len(by_id),
        accepted=len(by_id) - len(refused),
        once=sum(len(copies[name]) == 1 for name in by_id),
        valid=sum(one.is_valid and not one.is_deceived for one in everything),
        deceived=len(deceived),
        stolen=sum(max(0.0, one.points) for one in deceived),
        slowest=max((one.seconds for one in by_id.values()), default=0.0),
        outcomes=Counter(one.outcome for one in everything),
        faults=found,
        notes=notes,
    )


def _some(what: str, whom: Iterable[str]) -> list[str]:
    """One fault for all mails that have it, with the first three of them."""
    names = sorted(whom)
    shown = "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
    return [f"{what}, {len(names)} mails: {shown}"] if names else []


def table(rows: Mapping[str, Tally]) -> str:
    """All rows, a line for each; below it what was noted and what is wrong."""
    heads = ("fault", "sent", "accepted", "once", "valid", "stolen", "slowest", "", "outcomes")
    lines: list[tuple[str, ...]] = [heads]
    below: list[str] = []
    for name, row in rows.items():
        if row.skipped:
            lines.append((name, "", "", "", "", "", "", "skip", row.skipped))
            continue
        outcomes = ", ".join(f"{row.outcomes[key]} {key}" for key in sorted(row.outcomes))
        numbers = (str(number) for number in (row.sent, row.accepted, row.once, row.valid))
        word = "FAIL" if row.faults else "pass"
        lines.append((name, *numbers, f"{row.stolen:g}", f"{row.slowest:.1f} s", word, outcomes))
        below += [f"{name}: {note}" for note in row.notes]
        below += [f"{name}: FAIL: {fault}" for fault in row.faults]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    told = [
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:-1], widths[1:], strict=True))
        + f"  {line[-1]}"
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in told), "", *below]).rstrip()
