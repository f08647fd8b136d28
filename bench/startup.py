"""How long the daemon takes from its start to the first milter connection that is served."""

from __future__ import annotations

from bench.daemon import daemon, model_server
from bench.report import Measure, median

MOST = 1.5  # seconds at the median
STARTS = 5


def run(*, stand_in: bool = False) -> list[Measure]:
    times = []
    with model_server(0.0) as url:
        for _ in range(STARTS):
            with daemon(url, stand_in=stand_in) as target:
                times.append(target.ready)
    return [
        Measure(f"startup, median of {STARTS}", median(times), "s", most=MOST),
        Measure("startup, slowest", max(times), "s"),
    ]
