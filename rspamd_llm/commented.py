"""The commented configuration that the package carries, with values of one machine filled in.

Plain functions: values in, text out.  What may not live here: where a value comes from (init.py,
gptconf.py), and writing files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

NAME = "rspamd-llm.toml"
"""The file's name, in the package and where it is written to."""

WIDTH = 100
"""Signs of a line, beyond which a list has a line for each of its items."""

Name = tuple[str, str]
"""Section and setting, such as ("llm", "model")."""

_SECTION = re.compile(r"\[([a-z_]+)\]")
_SETTING = re.compile(r"([a-z_]+) = ")


def template() -> str:
    """The commented configuration of the package; its values are the defaults."""
    return (resources.files("rspamd_llm") / "data" / NAME).read_text(encoding="utf-8")


def filled(values: Mapping[Name, Any], remarks: Mapping[Name, Sequence[str]]) -> str:
    """The template with values in the place of defaults, and remarks as comments before a setting.

    Raises KeyError where the template has no such setting.
    """
    lines: list[str] = []
    section, missing = "", values.keys() | remarks.keys()
    for line in template().splitlines():
        if head := _SECTION.fullmatch(line):
            section = head[1]
        setting = _SETTING.match(line)
        name = (section, setting[1] if setting else "")
        missing -= {name}
        lines += [f"# {plain(remark)}" for remark in remarks.get(name, ())]
        lines.append(f"{name[1]} = {literal(values[name])}" if name in values else line)
    if missing:
        raise KeyError(f"the template lacks {sorted(missing)}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value as TOML writes it: a string, boolean, number, list, or table of numbers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {literal(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for one sign that TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    items = [literal(item) for item in value]
    line = f"[{', '.join(items)}]"
    if len(line) <= WIDTH - 20:  # room for the setting's name
        return line
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else literal(name)


def plain(text: str) -> str:
    """Text on one line, without what a comment of TOML or a terminal may not have."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
