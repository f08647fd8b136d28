"""What Rspamd's effective configuration says of our plugin, as `rspamadm` tells.

Asked by `check` alone, and never needed.  What may not live here: what is made of it
(checkrspamd.py), and a question to the Rspamd that runs (rspamd.py).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rspamd_llm import programs

NAME = "rspamd_llm"
"""Of the plugin, its section and its group."""

SECONDS = 20.0
"""For one call of rspamadm, which reads all of the configuration: 0.2 s, but it resolves the names
of hosts there, and so may wait for the DNS."""

LIMIT = 10_000_000
"""Bytes of its answer: all groups with their symbols have some 200,000."""

LOCAL = Path("/etc/rspamd")
"""The local configuration folder, where rspamadm does not tell another."""

KEY_FILE = "/etc/rspamd-llm/verdict.key"
"""What the plugin reads where its section names none."""

ENABLED = "enabled"

PLUGIN_BYTES = 1_000_000
"""Bytes read of the plugin's file, which has 20,000."""

_VERSION = re.compile(r"^local VERSION = '([^'\\n]{1,40})'", re.MULTILINE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Our plugin in a Rspamd's configuration."""

    local: Path
    """The folder of local configuration, with plugins.d and local.d."""
    section: Mapping[str, Any] | None
    """The section rspamd_llm; None where there is none."""
    max_score: float
    """Of the group; 0 where nothing bounds it, as with Rspamd itself."""
    state: str
    """ENABLED, or why Rspamd leaves the plugin out in its own word (failed, explicitly); empty
    where it knows of none."""

    @property
    def plugin(self) -> Path:
        """The plugin's file."""
        return self.local / "plugins.d" / f"{NAME}.lua"

    @property
    def key_file(self) -> str:
        """The key file of the section, or the plugin's own default."""
        return str((self.section or {}).get("key_file", KEY_FILE))

    @property
    def categories(self) -> frozenset[str] | None:
        """The categories that have symbols; None where the section does not say."""
        told = (self.section or {}).get("categories")
        if told is None:
            return None
        return frozenset(map(str, told if isinstance(told, list) else [told]))


def read() -> Setup | None:
    """How our plugin is set up in the Rspamd of this machine; None where there is none.

    Raises ValueError where its configuration cannot be read.
    """
    program = programs.find("rspamadm")
    if program is None:
        return None
    try:
        local = _output(program, "lua", "-b", "-e", "print(rspamd_paths.LOCAL_CONFDIR)").strip()
        section = _output(program, "configdump", "-C", NAME)
        found = _object(section) if section.lstrip().startswith("{") else None
        groups = _object(_output(program, "configdump", "-g", "-C"))
        modules = _output(program, "configdump", "-m")
    except (OSError, ValueError) as error:
        _log.debug("what rspamadm tells is of no use: %s", error or type(error).__name__)
        raise ValueError(str(error) or type(error).__name__) from error
    return Setup(
        local=Path(local) if local.startswith("/") else LOCAL,
        section=found,
        max_score=_number(groups.get(NAME)),
        state=_state(modules),
    )


def version(plugin: Path) -> str:
    """The version of a plugin's file; empty where it names none.  Raises OSError."""
    with plugin.open("rb") as file:
        text = file.read(PLUGIN_BYTES).decode("utf-8", "replace")
    found = _VERSION.search(text)
    return found[1] if found else ""


def _output(*command: str) -> str:
    return programs.output(*command, seconds=SECONDS, limit=LIMIT)


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return document


def _number(group: object) -> float:
    told = group.get("max_score", 0.0) if isinstance(group, dict) else 0.0
    return float(told) if isinstance(told, int | float) else 0.0


def _state(modules: str) -> str:
    """Of lines such as `Modules disabled (failed): a, b`; one that failed is told as enabled, too,
    and first."""
    state = ""
    for line in modules.splitlines():
        head, _, names = line.partition(":")
        if NAME in names.replace(",", " ").split():
            state = head.partition("(")[2].rstrip(")") or ENABLED
    return state
