"""What happens to mail when something breaks: `python -m bench faults [NAME...] [--short]`.

Each row breaks one thing in a chain of a real Postfix, the daemon, a stub model and a real Rspamd,
sends mail through it, and counts what became of each.  Exit status 1 when a mail was not delivered
exactly once, a forged verdict counted, a mail came late or with another outcome than is right, or
the daemon did not recover.  Needs root, as Postfix and Rspamd start under their own users.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from bench import faults_rows, faults_store, faults_trust, report
from bench.faults_chain import RSPAMD
from bench.faults_tally import Tally, table
from tests.chain import postfix as postfix_parts
from tests.chain import rspamd as rspamd_parts
from tests.chain.dns import NxDomainServer
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import KEY

Row = Callable[[PrivateRspamd, bool], Tally]

ROWS: Mapping[str, Row] = {
    "model-down": faults_rows.model_down,
    "model-503": faults_rows.model_503,
    "model-slow": faults_rows.model_slow,
    "model-dripping": faults_rows.model_dripping,
    "model-hanging": faults_rows.model_hanging,
    "model-lying": faults_rows.model_lying,
    "daemon-stopped": faults_rows.daemon_stopped,
    "daemon-wedged": faults_rows.daemon_wedged,
    "daemon-killed": faults_rows.daemon_killed,
    "restarted": faults_rows.restarted,
    "rspamd-down": faults_rows.rspamd_down,
    "store": faults_store.store,
    "crowd": faults_rows.crowd,
    "forged": faults_trust.forged,
    "torture": faults_trust.torture,
}


def missing() -> list[str]:
    """What the suite needs and does not have here."""
    lacking = [*postfix_parts.missing_programs(), *rspamd_parts.missing_programs()]
    return lacking if os.geteuid() == 0 else [*lacking, "the rights of root"]


def run(names: Sequence[str], *, short: bool) -> dict[str, Tally]:
    """The rows of these names.  One that breaks itself has failed; the others run all the same."""
    told: dict[str, Tally] = {}
    with NxDomainServer() as dns, PrivateRspamd(dns.port, [KEY.hex()], RSPAMD) as rspamd:
        for name in names:
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
            began = time.monotonic()
            try:
                told[name] = ROWS[name](rspamd, short)
            except Exception as error:  # noqa: BLE001  one row shall not hide what the others say
                told[name] = Tally(faults=[f"the row itself broke: {error!r}"])
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return told


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--short", action="store_true", help="less of everything: 3 minutes")
    args = parser.parse_args(arguments)
    unknown = [name for name in args.names if name not in ROWS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(ROWS)}")
    lacking = missing()
    if lacking:
        print(f"faults: missing: {', '.join(lacking)}", file=sys.stderr)
        return 1
    began = time.monotonic()
    told = run(args.names or [*ROWS], short=args.short)
    print(report.headline())
    form = "short" if args.short else "long"
    print(f"{time.strftime('%Y-%m-%d')}, {form} form, {time.monotonic() - began:.0f} s\n")
    print(table(told))
    return int(any(row.faults for row in told.values()))
