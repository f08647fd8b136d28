"""What benchmarks report: measures with their limits, the machine they ran on, a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measure:
    """One number. `most` and `least` are requirements; without either it is for information."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        if self.most is not None:
            return self.value <= self.most
        return None if self.least is None else self.value >= self.least

    @property
    def required(self) -> str:
        if self.most is not None:
            return f"<= {self.most:g} {self.unit}"
        return "" if self.least is None else f">= {self.least:g} {self.unit}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which `percent` of 100 lie, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def machine() -> dict[str, str]:
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def headline() -> str:
    """The machine in a line."""
    return "; ".join(f"{key} {value}" for key, value in machine().items())


def told(measures: Sequence[Measure], *, as_json: bool = False) -> int:
    """Prints the measures as a table or as JSON, with the machine; 1 if a requirement is missed."""
    print(to_json(measures) if as_json else f"{headline()}\n{table(measures)}")
    return int(any(measure.met is False for measure in measures))


def table(measures: Sequence[Measure]) -> str:
    rows = [("", "measured", "required", "")]
    words = {True: "pass", False: "FAIL", None: ""}
    for measure in measures:
        value = f"{measure.value:.2f} {measure.unit}"
        rows.append((measure.name, value, measure.required, words[measure.met]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {limit:>{widths[2]}}  {word}".rstrip()
        for name, value, limit, word in rows
    ]
    return "\n".join(lines)


def to_json(measures: Sequence[Measure]) -> str:
    found = [asdict(measure) | {"met": measure.met} for measure in measures]
    return json.dumps({"machine": machine(), "measures": found}, indent=2)


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
