"""Where the daemon's time goes: `python -m bench profile`, under the load of `bench load rate`.

py-spy looks 100 times a second at what holds the interpreter, in the daemon and in each reader.  A
sample belongs to the innermost function of ours in it, or to the loop where there is none.  Needs
the right to trace other processes (root has it).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench import load_rate, report
from bench.load_setting import Setting, place
from bench.report import Measure

SECONDS = 10
"""Of the load's fifteen."""

PER_SECOND = 100

PARTS: Mapping[str, frozenset[str]] = {
    name: frozenset(modules.split())
    for name, modules in {
        "reading: structure and text": "mail structure charsets visible styles looks signs "
        "attachments filetypes zipnames",
        "reading: facts": "facts brands domains spelling injection gate reading",
        "to the readers and back": "readers nursery",
        "the prompt": "prompt fence sentences redact tokens assembly",
        "the call of the model": "api",
        "whom to ask; the answer": "llm servers breaker admission forms verdict",
        "evidence, with all sources off": "gather privacy words lookups",
        "milter and log": "milter libmilter headers log",
        "scanner": "scanner core",
    }.items()
}
LOOP = "the loop and threads themselves"

SPY = Path(sys.executable).with_name("py-spy")

_OURS = re.compile(r"\(rspamd_llm/(?:[a-z_]+/)*([a-z_]+)\.py")


def part_of(stack: str) -> str:
    """The part that a sample belongs to: frames from the outermost on, parted by `;`."""
    for frame in reversed(stack.split(";")):
        if found := _OURS.search(frame):
            return next((name for name, modules in PARTS.items() if found[1] in modules), LOOP)
    return LOOP


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Per cent of the samples of each part; a line has a stack and how often it was seen."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counts[part_of(stack)] += int(count)
    whole = counts.total() or 1
    return {name: 100 * counts[name] / whole for name in (*PARTS, LOOP)}


def run() -> tuple[list[Measure], dict[str, float]]:
    """The load's own measures, and the shares."""
    with tempfile.TemporaryDirectory(prefix="rspamd-llm-bench-") as name:
        samples = Path(name) / "samples"
        with place(Setting(), load_rate.LATENCY) as where:
            command = [str(SPY), "record", "--subprocesses", "--gil", "--nonblocking"]
            command += ["--format", "raw", "--rate", str(PER_SECOND), "--duration", str(SECONDS)]
            command += ["--output", str(samples), "--pid", str(where.target.pid)]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as spy:
                load = asyncio.run(
                    load_rate.measured(Setting(), where, load_rate.CONNECTIONS, load_rate.ROUNDS)
                )
                if spy.wait() != 0:
                    raise SystemExit("py-spy failed; may this user trace other processes?")
        return load, shares(samples.read_text().splitlines())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench profile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args(arguments)
    if not SPY.exists():
        print("profile: missing: py-spy (script/setup installs it)", file=sys.stderr)
        return 1
    print("profile ...", file=sys.stderr, flush=True)
    load, found = run()
    print(report.headline())
    print(report.table([*load, *(Measure(name, share, "%") for name, share in found.items())]))
    return 0
