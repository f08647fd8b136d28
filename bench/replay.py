"""Mails to send under load, each different from all before it: made ones, or those of a folder."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from bench.mails import make
from bench.milterwire import Mail

SIZE = 8_000
"""Bytes of a made mail: between median and mean of the mails for development (4 and 9 kB)."""


def made() -> Iterator[Mail]:
    """Made mails without end, the same ones each time."""
    return (make(SIZE, number) for number in itertools.count())


def filed(folder: Path) -> Iterator[Mail]:
    """The mails of a folder and those below it, each read when it is its turn. In an order that
    is mixed, so that the first few are a fair sample, and the same each time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    random.Random(0).shuffle(paths)
    return (Mail.parse(path.read_bytes()) for path in paths)


def take(mails: Iterator[Mail], count: int) -> list[Mail]:
    """The next mails. Ends the benchmark where there are not as many: a mail sent twice may be
    cheaper the second time."""
    taken = list(itertools.islice(mails, count))
    if len(taken) < count:
        raise SystemExit(f"the folder has {count - len(taken)} mails too few")
    return taken
