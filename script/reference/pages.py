"""Which files are generated, and their texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from script.reference import manpages, markdown

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference.md"


def generated() -> Mapping[Path, str]:
    """Each generated file with the text that it must have."""
    return {
        ROOT / "docs/configuration.md": markdown.configuration(),
        REFERENCE: markdown.reference(REFERENCE.read_text(encoding="utf-8")),
        ROOT / "man/rspamd-llm.1": manpages.program(),
        ROOT / "man/rspamd-llm.toml.5": manpages.configuration(),
    }
