"""The settings: names, defaults and bounds from config.py, words from rspamd-llm.toml.

A comment of rspamd-llm.toml belongs to the settings that follow it, up to the next comment; one
that an empty line parts from the settings belongs to the section.  What may not live here: a form.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rspamd_llm
from rspamd_llm.allowed import Check, UnfitError
from rspamd_llm.config import Config, to_document

TEMPLATE = Path(rspamd_llm.__file__).parent / "data/rspamd-llm.toml"

_LONG_NUMBER = re.compile(r"(?<= )\d{5,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A name with its default as TOML, and what it may be."""

    name: str
    default: str
    allowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Settings that share a comment, and the comment."""

    settings: tuple[Setting, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of the file; `meaning` is what the file says of it as a whole, or nothing."""

    name: str
    meaning: str
    entries: tuple[Entry, ...]


def sections() -> tuple[Section, ...]:
    """All sections, in the order of config.py.

    Raises ValueError where rspamd-llm.toml lacks a setting, explains one with nothing, or has
    another default than config.py.
    """
    told = _told(TEMPLATE.read_text(encoding="utf-8"))
    defaults = to_document(Config())
    found = []
    for item in dataclasses.fields(Config):
        meaning, entries = told.pop(item.name, ("", []))
        values = tomllib.loads("".join(line for lines, _ in entries for line in lines))
        if values != defaults[item.name]:
            raise ValueError(f"[{item.name}]: {TEMPLATE.name} has other settings than config.py")
        checks = {
            setting.name: setting.metadata["check"]
            for setting in dataclasses.fields(getattr(Config(), item.name))
        }
        found.append(
            Section(
                name=item.name,
                meaning=meaning,
                entries=tuple(_entry(lines, text, checks) for lines, text in entries),
            )
        )
    if told:
        raise ValueError(f"{TEMPLATE.name} has unknown sections: {', '.join(told)}")
    return tuple(found)


def names(found: tuple[Section, ...]) -> tuple[str, ...]:
    """What settings are called in prose: `section.name` everywhere."""
    return tuple(
        f"{section.name}.{setting.name}"
        for section in found
        for entry in section.entries
        for setting in entry.settings
    )


def own_names(section: Section) -> tuple[str, ...]:
    """What a section's prose calls its own settings, as far as it cannot be another word."""
    every = (setting.name for entry in section.entries for setting in entry.settings)
    return tuple(name for name in every if "_" in name)


_Entries = list[tuple[list[str], str]]
"""For each comment the lines of its settings, and its text."""


def _told(text: str) -> dict[str, tuple[str, _Entries]]:
    """For each section its own comment and its entries."""
    found: dict[str, tuple[str, _Entries]] = {}
    name, comment = "", list[str]()
    for line in [*text.splitlines(), ""]:
        if head := re.fullmatch(r"\[(\w+)\]", line):
            name, comment = head[1], []
            found[name] = "", []
        elif not name:
            continue
        elif line.startswith("#"):
            comment.append(line.lstrip("# "))
        elif not line and comment:
            found[name] = " ".join(comment), found[name][1]
            comment = []
        elif line:
            entries = found[name][1]
            if comment:
                entries.append(([], " ".join(" ".join(comment).split())))
                comment = []
            if not entries:
                raise ValueError(f"[{name}]: no comment above: {line}")
            entries[-1][0].append(line + "\n")
    return found


def _entry(lines: list[str], text: str, checks: Mapping[str, Check]) -> Entry:
    settings = []
    for line in lines:
        name, _, default = line.strip().partition(" = ")
        settings.append(Setting(name=name, default=default, allowed=allowed(checks[name])))
    return Entry(settings=tuple(settings), meaning=text)


def allowed(check: Check) -> str:
    """What a check says is allowed, as it says it to who wrote something else."""
    alone, listed = _refusal(check, *_UNFIT), _refusal(check, *([value] for value in _UNFIT))
    item = listed.removeprefix("a list, each item ")
    if alone.startswith("a list"):
        text = f"{alone}, each item {item}"
    elif item == alone and item != listed:
        text = f"{alone}, or a list of such"
    else:
        text = alone
    return _LONG_NUMBER.sub(lambda number: f"{int(number[0]):_}", text)


_UNFIT = ("\0", object())
"""A string that is no name, number, address; and what is no string either."""


def _refusal(check: Check, *values: Any) -> str:
    """What the check says to the first of the values that it refuses."""
    for value in values:
        try:
            check(value)
        except UnfitError as unfit:
            return str(unfit)
    raise ValueError(f"{check} takes anything")
