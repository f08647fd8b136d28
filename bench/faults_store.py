"""The row of the fault suite about where answers are kept: a store that fails costs no verdict."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.faults_chain import Chain, running
from bench.faults_tally import SCORED, Tally
from bench.standins import Domain, StandIns
from tests.chain.rspamd import PrivateRspamd

WRITTEN = 0.5
"""Seconds after which what a mail gave to keep was tried to be written; nobody waits for that."""

DISK = "64k"
"""Of the tiny disk: less than the file and its log need."""


def store(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The store's file cannot be made, is taken away, is overwritten, has a full disk."""
    del short  # there is nothing to leave out
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-store-")))
        world = stack.enter_context(StandIns.running())
        (folder / "file").touch()
        (folder / "gone").mkdir()
        places = {"unwritable": folder / "file", "gone": folder / "gone", "damaged": folder}
        disk = stack.enter_context(_tiny_disk())
        if disk is not None:
            places["full"] = disk
        told: list[tuple[str, Tally]] = []
        for name, place in places.items():
            told.append((name, _store(name, place / "store.db", world, rspamd)))
        notes = [f"{name}: {note}" for name, one in told for note in one.notes]
        if disk is None:
            notes.append("full disk: skipped, a tmpfs cannot be mounted here")
        return _together([one for _, one in told], notes)


def _store(name: str, file: Path, world: StandIns, rspamd: PrivateRspamd) -> Tally:
    settings = world.settings() | {"store": {"url": f"sqlite://{file}"}}
    with running(
        f"store-{name}", rspamd, settings=settings, environment=world.environment
    ) as chain:

        def some(first: int) -> None:
            """Mails of domains that nobody has heard of, so that there is something to keep."""
            for number in range(first, first + 4):
                domain = f"{name}-firm-{number}.example"
                world.add(Domain(name=domain))
                chain.send(SCORED, sender=f"ann@{domain}")

        some(0)
        if name == "gone":
            shutil.rmtree(file.parent)
        if name == "damaged":
            for path in file.parent.glob("store.db*"):
                path.write_bytes(os.urandom(path.stat().st_size))
        some(4)
        chain.daemon.stop()  # writes what waits to be written
        first = _warnings(chain)
        chain.daemon.start()
        some(8)
        time.sleep(WRITTEN)
        second = _warnings(chain)[len(first) :]
        warnings = [message.replace(str(file.parent), "...") for message in first + second]
        chain.notes.append(f"warned {len(first)} + {len(second)} times: {', '.join(set(warnings))}")
        chain.check(bool(warnings), f"{name}: no warning")
        chain.check(max(len(first), len(second)) <= 1, f"{name}: warned more than once: {warnings}")
        missing = [record for record in chain.daemon.told("scan") if record.get("missing")]
        chain.check(not missing, f"{name}: judged without evidence: {missing[:1]}")
        return chain.tally()


def _warnings(chain: Chain) -> list[str]:
    """What the daemon has warned of the store, over all its lives."""
    lines = [line for line in chain.daemon.log().splitlines() if line.startswith("{")]
    records = [json.loads(line) for line in lines]
    return [
        record["message"]
        for record in records
        if record["level"] in ("warning", "error") and "store" in record["message"]
    ]


@contextlib.contextmanager
def _tiny_disk() -> Iterator[Path | None]:
    """A full disk, or None where this machine lets nobody mount one."""
    with tempfile.TemporaryDirectory(prefix="faults-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", folder]
        try:
            mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
        if not mounted:
            yield None
            return
        try:
            with contextlib.suppress(OSError), (Path(folder) / "ballast").open("wb") as ballast:
                while True:
                    ballast.write(bytes(4096))
                    ballast.flush()
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], capture_output=True, check=False)


def _together(parts: list[Tally], notes: list[str]) -> Tally:
    """Several tallies as one."""
    outcomes: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part.outcomes)
    return Tally(
        sent=sum(part.sent for part in parts),
        accepted=sum(part.accepted for part in parts),
        once=sum(part.once for part in parts),
        valid=sum(part.valid for part in parts),
        deceived=sum(part.deceived for part in parts),
        stolen=sum(part.stolen for part in parts),
        slowest=max(part.slowest for part in parts),
        outcomes=outcomes,
        faults=[fault for part in parts for fault in part.faults],
        notes=notes,
    )
