"""Benchmarks of the daemon against its requirements: `python -m bench all`.

Each starts the daemon with a configuration of its own and a stub model server beside it. Exit
status 1 when a requirement is missed. Run them on a machine that does nothing else.

Others have options of their own (--help): `python -m bench reading` for what reading mail costs,
`python -m bench evidence` for what looking things up costs, `python -m bench injection` for whether
a mail can talk the model round, `python -m bench fuzz` for whether a peer that speaks broken milter
does the daemon any harm, `python -m bench faults` for what becomes of mail when something breaks,
`python -m bench load` for how the daemon holds under load, `python -m bench profile` for where its
time goes then, `python -m bench soak` for whether its memory stays flat over 100,000 messages,
`python -m bench campaign` for what copies of one mail cost.
"""

from __future__ import annotations

import argparse
import sys

from bench import (
    campaign,
    evidence,
    faults,
    fingerprints,
    fuzz,
    injection,
    latency,
    load,
    memory,
    profile,
    reading,
    report,
    soak,
    startup,
    throughput,
)

BENCHMARKS = {
    "latency": latency.run,
    "throughput": throughput.run,
    "memory": memory.run,
    "startup": startup.run,
}


# These read their own options.
APART = {
    "fingerprints": fingerprints.main,
    "campaign": campaign.main,
    "reading": reading.main,
    "evidence": evidence.main,
    "injection": injection.main,
    "fuzz": fuzz.main,
    "faults": faults.main,
    "load": load.main,
    "profile": profile.main,
    "soak": soak.main,
}


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] in APART:
        return APART[sys.argv[1]](sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="+", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help="measure a bare pymilter program instead: what libmilter itself costs",
    )
    args = parser.parse_args()
    names = list(BENCHMARKS) if "all" in args.what else list(dict.fromkeys(args.what))
    measures: list[report.Measure] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measures += BENCHMARKS[name](stand_in=args.stand_in)
    return report.told(measures, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
