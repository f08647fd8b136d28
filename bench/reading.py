"""What reading a mail costs: `python -m bench reading [FOLDER...]`.

CPU by stage for each mail of the folders (the mails for development where no folder is named and
they are there), one after the other in this process, and how long the prompts are for a model that
follows instructions. Exit status 1 when a requirement is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import brief, report
from bench.report import Measure, median, percentile
from rspamd_llm import tokens
from rspamd_llm.config import Config
from rspamd_llm.domain import Brief
from rspamd_llm.prompt import Instructions

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"

MEDIAN_MOST = 6.0  # ms, for parsing, facts and prompt together
P99_MOST = 50.0  # ms
WORST_MOST = 1_000.0  # ms
INSTRUCTIONS_MOST = 1_800  # bytes
PROMPT_MOST = 5_000  # bytes at the median over PROMPT_FOLDER
PROMPT_FOLDER = "phishing_pot"

STAGES = ("read", "facts", "prompt")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one mail cost: ms of CPU by stage, and the length of its prompt."""

    file: str
    folder: str
    read: float
    facts: float
    prompt: float
    prompt_bytes: int
    prompt_tokens: int
    """By the upper bound that the budget is kept with."""
    error: str = ""

    @property
    def total(self) -> float:
        return self.read + self.facts + self.prompt


def cost(data: bytes, told: Instructions, now: datetime, *, file: str, folder: str) -> Cost:
    """What reading these bytes costs.  An exception, which must not be, is told in the value."""
    times = [time.process_time()]
    size = bound = 0
    error = ""
    try:
        message = brief.message_of(data)
        mail = brief.mail_of(message)
        times.append(time.process_time())
        facts = brief.facts_known(message, mail, now)
        times.append(time.process_time())
        found = Brief(message=message, mail=mail, facts=facts)
        prompt = brief.prompt(found, told)
        times.append(time.process_time())
        size = len((prompt.system + prompt.user).encode())
        bound = tokens.at_most(prompt.system) + tokens.at_most(prompt.user) + tokens.CHAT
    except Exception as raised:  # noqa: BLE001  what was raised is a result here
        error = type(raised).__name__
        times += [time.process_time()] * (len(STAGES) + 1 - len(times))
    read, known, put = (1_000 * (b - a) for a, b in itertools.pairwise(times))
    return Cost(
        file=file,
        folder=folder,
        read=read,
        facts=known,
        prompt=put,
        prompt_bytes=size,
        prompt_tokens=bound,
        error=error,
    )


def group(path: Path, root: Path) -> str:
    """The name that a file is counted under: its folder, all of torture together, and hard wanted
    mail (newsletters that look like spam) apart from easy."""
    parts = path.relative_to(root).parts[:-1] or (root.name,)
    if parts[0] == "torture":
        return "torture"
    kind = path.name.partition("-")[0]
    return "/".join(parts) + (f" {kind}" if kind in ("easy", "hard") else "")


def run(folders: Iterable[Path], told: Instructions) -> list[Cost]:
    """The cost of each file in the folders and in those below them."""
    now = datetime.now(UTC)
    # Lists and patterns are loaded on the first mail: that is the daemon's start, not a mail's.
    cost(b"From: a@b.example\n\n<p>http://b.example", told, now, file="", folder="")
    costs: list[Cost] = []
    for root in folders:
        print(f"{root} ...", file=sys.stderr, flush=True)
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            if path.parent == root and path.suffix == ".md":
                continue  # says what the folder is
            name = str(path.relative_to(root))
            costs.append(cost(path.read_bytes(), told, now, file=name, folder=group(path, root)))
    return costs


def measures(costs: Sequence[Cost], told: Instructions) -> list[Measure]:
    """The numbers that count, with their requirements."""
    totals = [one.total for one in costs]
    found = [
        Measure("mails read", len(costs), ""),
        Measure("exceptions", sum(bool(one.error) for one in costs), "", most=0),
        Measure("CPU for a mail, median", median(totals), "ms", most=MEDIAN_MOST),
        Measure("CPU for a mail, p99", percentile(totals, 99), "ms", most=P99_MOST),
        Measure("CPU for a mail, worst", max(totals), "ms", most=WORST_MOST),
        Measure("instructions", len(told.system.encode()), "bytes", most=INSTRUCTIONS_MOST),
    ]
    sizes = [one.prompt_bytes for one in costs if one.folder.endswith(PROMPT_FOLDER)]
    if sizes:
        name = f"instructions and mail, median of {PROMPT_FOLDER}"
        found.append(Measure(name, median(sizes), "bytes", most=PROMPT_MOST))
    # KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1_000_000
    return [*found, Measure("memory of this process, peak", peak, "MB")]


def breakdown(costs: Sequence[Cost]) -> str:
    """A table with a row for each folder; times in ms."""
    title = "folder mails read facts prompt together p95 p99 worst bytes p95 tokens p95 file"
    rows = [title.split()]
    for folder in dict.fromkeys(one.folder for one in costs):
        mine = [one for one in costs if one.folder == folder]
        totals = [one.total for one in mine]
        worst = max(mine, key=lambda one: one.total)
        sizes = [one.prompt_bytes for one in mine]
        bounds = [one.prompt_tokens for one in mine]
        stages = [[getattr(one, stage) for one in mine] for stage in STAGES]
        rows.append(
            [
                folder,
                str(len(mine)),
                *(f"{median(stage):.1f}" for stage in stages),
                f"{median(totals):.1f}",
                f"{percentile(totals, 95):.1f}",
                f"{percentile(totals, 99):.1f}",
                f"{worst.total:.0f}",
                f"{median(sizes):.0f}",
                f"{percentile(sizes, 95):.0f}",
                f"{median(bounds):.0f}",
                f"{percentile(bounds, 95):.0f}",
                worst.file[-48:],
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        numbers = (f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append(f"{row[0]:<{widths[0]}}  {'  '.join(numbers)}  {row[-1]}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench reading", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="*", type=Path, help=f"default: {CORPUS.name}, if there")
    parser.add_argument("--json", action="store_true", help="one JSON object with every mail")
    args = parser.parse_args(arguments)
    folders = args.folder or ([CORPUS] if CORPUS.is_dir() else [])
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        parser.error(f"no such folder: {', '.join(missing)}" if missing else "name a folder")
    told = brief.instructions(Config())
    costs = run(folders, told)
    if not costs:
        parser.error("the folders hold no files")
    found = measures(costs, told)
    if args.json:
        document = json.loads(report.to_json(found))
        document["mails"] = [asdict(one) for one in costs]
        print(json.dumps(document, ensure_ascii=False, indent=2))
        return int(any(measure.met is False for measure in found))
    print(report.headline())
    print(f"\n{breakdown(costs)}\n")
    for one in [one for one in costs if one.error][:20]:
        print(f"RAISED {one.error}: {one.folder}, {one.file}")
    print(report.table(found))
    return int(any(measure.met is False for measure in found))
