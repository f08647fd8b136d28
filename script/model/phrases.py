"""The sentences of phrases/*.toml, and the choosing among them.

Of each list of three or more wordings the last is kept out of training: held-out mail is made
mostly of those, so that the measuring sees sentences the model has not.
"""

import functools
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "fr", "de", "es", "it", "pt", "nl")


@functools.cache
def table(language: str) -> Mapping[str, Any]:
    path = Path(__file__).parent / "phrases" / f"{language}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Voice:
    """One language, one source of chance, and whether it speaks for training or measuring."""

    rng: random.Random
    language: str
    held_out: bool
    values: Mapping[str, str]

    def choose(self, wordings: Sequence[str]) -> str:
        if len(wordings) >= 3:
            if self.held_out and self.rng.random() < 0.7:
                return self._filled(wordings[-1])
            wordings = wordings[:-1]
        return self._filled(self.rng.choice(wordings)) if wordings else ""

    def _filled(self, wording: str) -> str:
        return wording.format_map(self.values)

    def words(self, name: str) -> str:
        return self.choose(table(self.language)["words"][name])

    def sample(self, pool: str, count: int) -> list[str]:
        wordings = table(self.language)["pool"][pool]
        kept = len(wordings) - len(wordings) // 5
        some = wordings[kept:] if self.held_out else wordings[:kept]
        return [self._filled(one) for one in self.rng.sample(some, min(count, len(some)))]

    def subject(self, kind: str) -> str:
        return self.choose(table(self.language)["kind"][kind]["subject"])

    def says(self, kind: str) -> list[str]:
        """One wording of each group; now and then a group but the first is left out."""
        groups = table(self.language)["kind"][kind].get("say", [])
        chosen = [
            self.choose(group)
            for place, group in enumerate(groups)
            if place == 0 or self.rng.random() > 0.15
        ]
        return [one for one in chosen if one]

    def button(self, kind: str) -> str:
        return self.choose(table(self.language)["kind"][kind].get("button", []))
