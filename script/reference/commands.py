"""The commands with their options and arguments, read from the parser of cli.py.

Not by argparse's own help: its form differs from one Python to the next.  What may not live here:
any form but that of a usage line.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from dataclasses import dataclass

from rspamd_llm import cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option (`-c FILE`, `--config FILE`) or an argument (`MAIL...`), and what it means."""

    forms: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command; `usage` is its line without the program's name."""

    name: str
    usage: str
    meaning: str
    options: tuple[Option, ...]


def commands() -> tuple[Command, ...]:
    """All commands, in the parser's order; their options without the shared ones."""
    common = shared()
    return tuple(
        dataclasses.replace(
            command, options=tuple(option for option in command.options if option not in common)
        )
        for command in _commands()
    )


def shared() -> tuple[Option, ...]:
    """Options that mean the same with several commands."""
    every = Counter(option for command in _commands() for option in command.options)
    return tuple(option for option, count in every.items() if count > 1)


def general() -> tuple[Option, ...]:
    """The options of the program itself."""
    return tuple(_option(action) for action in _actions(_parser()) if not _has_commands(action))


def _commands() -> list[Command]:
    (chosen,) = (action for action in _actions(_parser()) if _has_commands(action))
    assert isinstance(chosen.choices, dict)
    return [_command(name, parser) for name, parser in chosen.choices.items()]


def _parser() -> argparse.ArgumentParser:
    return cli._parser()


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help != argparse.SUPPRESS]


def _has_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _command(name: str, parser: argparse.ArgumentParser) -> Command:
    actions = [action for action in _actions(parser) if action.dest != "help"]
    return Command(
        name=name,
        usage=" ".join([name, *_usage(parser, actions)]),
        meaning=parser.description or "",
        options=tuple(_option(action) for action in actions),
    )


def _usage(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> list[str]:
    """What may follow the command's name, options first."""
    either = {
        action.dest: group._group_actions
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    parts: dict[str, None] = {}
    for action in sorted(actions, key=lambda action: not action.option_strings):
        parts.setdefault(_part(either.get(action.dest, [action])))
    return list(parts)


def _part(actions: list[argparse.Action]) -> str:
    """An option or argument, or several of which one may be given."""
    text = " | ".join(_forms(action)[0] for action in actions)
    needed = any(action.required and action.nargs not in ("*", "?") for action in actions)
    repeats = any(isinstance(action, argparse._AppendAction) for action in actions)
    return (text if needed else f"[{text}]") + ("..." if repeats else "")


def _option(action: argparse.Action) -> Option:
    meaning = (action.help or "") % {**vars(action), "prog": "rspamd-llm"}
    return Option(forms=_forms(action), meaning=meaning)


def _forms(action: argparse.Action) -> tuple[str, ...]:
    """The ways to write it, each with what follows."""
    value = action.metavar or action.dest.upper()
    assert isinstance(value, str)
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return (value + ("..." if action.nargs in ("*", "+") else ""),)
    return tuple(name if action.nargs == 0 else f"{name} {value}" for name in action.option_strings)
