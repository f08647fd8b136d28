"""How the daemon holds under load: `python -m bench load [PART...]`.

    added    time added to a bare call of the model at 1, 10, 50 and 200 connections   (2 minutes)
    rate     messages a second at 200 connections with a model that takes 1 s          (20 seconds)
    skipped  mail that is not judged while 200 calls of the model hang                 (30 seconds)
    bursts   bursts of 2 to 100 simultaneous mails with a model that takes 1 s         (4 minutes)

Each part starts a daemon and a stub model server of its own and sends distinct mails as Postfix
does, made ones or those of a folder. Daemon, stub and loader together run on two cores, on a
machine that has more as well, as they did for the numbers to compare with. Exit status 1 when a
requirement is missed. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import cpu, load_added, load_bursts, load_rate, load_skipped, report
from bench.load_setting import Setting
from bench.report import Measure

PARTS: Mapping[str, Callable[[Setting], list[Measure]]] = {
    "added": load_added.run,
    "rate": load_rate.run,
    "skipped": load_skipped.run,
    "bursts": load_bursts.run,
}

CORES = 2
"""Of the machine that load_rate's numbers to compare with come from."""


def run(parts: Sequence[str], setting: Setting) -> list[Measure]:
    """The parts of these names, one after the other."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # ours, and our children's
    told: list[Measure] = []
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        ours, cores = cpu.seconds(os.getpid()), cpu.Cores.now()
        told += PARTS[part](setting)
        told.append(taken_by_others(part, cpu.seconds(os.getpid()) - ours, cpu.Cores.now() - cores))
    return told


def taken_by_others(part: str, ours: float, cores: cpu.Cores) -> Measure:
    """What programs that are no part of it took meanwhile, and the hypervisor: the more, the less
    the other numbers say of the daemon. `ours` are seconds of CPU of this process and its own."""
    others = max(cores.whole - cores.idle - ours, 0.0)
    return Measure(f"{part}, share of the cores taken by others", 100 * others / cores.whole, "%")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--short", action="store_true", help="less of everything: 2 minutes")
    parser.add_argument("--unix", action="store_true", help="by a unix socket instead of TCP")
    parser.add_argument("--mails", type=Path, metavar="FOLDER", help="send this folder's mails")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if args.mails and not args.mails.is_dir():
        parser.error(f"no such folder: {args.mails}")
    setting = Setting(unix=args.unix, short=args.short, folder=args.mails)
    measures = run(list(dict.fromkeys(args.parts)) or [*PARTS], setting)
    return report.told(measures, as_json=args.json)
