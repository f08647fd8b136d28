"""The plugin's symbols with their points, read from conf/rspamd; and why a verdict is refused.

What may not live here: any form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf/rspamd"
GROUPS = CONF / "groups.conf"
PLUGIN = CONF / "rspamd_llm.lua"

_SYMBOL = re.compile(
    r'"(?P<name>LLM_\w+)" \{\s*weight = (?P<weight>[\d.]+);(?:\s*# (?P<remark>[^\n]*))?\s*'
    r'description = "(?P<description>[^"]*)";\s*\}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A symbol of a result; `remark` says how its points come about, where that wants words."""

    name: str
    points: float
    remark: str
    meaning: str


def symbols() -> tuple[Symbol, ...]:
    """Those of the group `rspamd_llm`, in its order."""
    return tuple(
        Symbol(
            name=found["name"],
            points=float(found["weight"]),
            remark=found["remark"] or "",
            meaning=found["description"],
        )
        for found in _SYMBOL.finditer(GROUPS.read_text(encoding="utf-8"))
    )


def points(symbol: Symbol) -> str:
    """A symbol's points in words."""
    return f"{symbol.points:g}" + (f" {symbol.remark}" if symbol.remark else "")


def most() -> float:
    """The points of all symbols together, at most."""
    found = re.search(r"max_score = ([\d.]+);", GROUPS.read_text(encoding="utf-8"))
    assert found is not None
    return float(found[1])


def others() -> tuple[str, ...]:
    """Symbols that the plugin makes and the group does not weigh, in the plugin's order."""
    weighed = {symbol.name for symbol in symbols()}
    named = re.findall(r"'(LLM_[A-Z]+)'", PLUGIN.read_text(encoding="utf-8"))
    return tuple(name for name in dict.fromkeys(named) if name not in weighed)


def refusals() -> tuple[str, ...]:
    """The options of LLM_FORGED, in the order of the checks."""
    _, _, rest = PLUGIN.read_text(encoding="utf-8").partition("function genuine_verdict")
    body, _, _ = rest.partition("\nend")
    return tuple(re.findall(r"return nil, '([a-z]+)'", body))
