"""What Rspamd's opinion means to us: whether it settles a mail, and what of it the model is told.

Plain functions.  What may not live here: asking Rspamd (rspamd.py), and the prompt's frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rspamd_llm.domain import Opinion

OURS = "LLM_"
"""How the names of our own symbols begin: what they say is no opinion of Rspamd's."""

ROUNDING = 0.005
"""Points by which two numbers may differ and mean the same: Rspamd writes 4.699999 for 4.7, and
points have two decimals wherever its administrators see them."""

SHOWN = 12
"""Symbols that the model is told: about 100 tokens; mail has half as many of these kinds."""

_NAME = re.compile(r"[A-Z0-9_]{1,64}")

# The names of Rspamd's stock symbols for authentication and reputation, which say what the text
# cannot.  Symbols for header and text are left out: the model sees those itself.
_KINDS = re.compile(
    r"R_SPF_|R_DKIM_|DMARC_|ARC_|VIOLATED_DIRECT_SPF"
    r"|RBL_|RWL_|RCVD_IN_|RECEIVED_|DWL_|SEM_|MSBL_|SPAMHAUS_|MAILSPIKE"
    r"|DBL|URIBL|SURBL|RSPAMD_(?:URI|EMAIL)BL|[A-Z0-9_]+_(?:URIBL|SURBL)(?:_|$)"
    r"|WHITELIST_|BLACKLIST_|FUZZY_|MAILCOW_FUZZY_|BAYES_|PHISHED_|HACKED_WP_PHISHING"
    r"|[A-Z0-9_]+_REPUTATION(?:_|$)"
    r"|HFILTER_(?:HELO|HOSTNAME|FROMHOST)_|RDNS_|MX_(?:INVALID|MISSING|GOOD|WHITE)"
)
# Nothing was found out: no record, no answer, or a list that refuses to tell.
_SILENT = re.compile(r".*_(?:NA|DNSWL_NONE|DNSFAIL|TEMPFAIL|UNKNOWN|BLOCKED(?:_OPENRESOLVER)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """When Rspamd is in doubt, and the model is asked: the rules of [rspamd]."""

    ham_below: float
    except_symbols: Mapping[str, float]
    """By name, the least points that a symbol must have in the answer, whatever their sign."""
    trigger_symbols: tuple[str, ...] = ()

    def settles(self, opinion: Opinion) -> bool:
        """Whether the opinion decides a mail, so that the model need not be asked."""
        if opinion.action == "reject":
            return True
        if opinion.action == "no action" and opinion.score <= self.ham_below - ROUNDING:
            return True
        theirs = {name: abs(points) for name, points in _theirs(opinion)}
        if any(
            name in theirs and theirs[name] >= least - ROUNDING
            for name, least in self.except_symbols.items()
        ):
            return True
        return bool(self.trigger_symbols) and theirs.keys().isdisjoint(self.trigger_symbols)


def told(opinion: Opinion) -> Iterator[str]:
    """Our lines for the model: Rspamd's symbols of authentication and reputation, by what they
    speak for, in the words of their names.

    Without points, and in the order of the names: the mails of one campaign have the same lines.
    """
    known = [
        (name, points)
        for name, points in _theirs(opinion)
        if _NAME.fullmatch(name) and _KINDS.match(name) and not _SILENT.fullmatch(name)
    ]
    known.sort(key=lambda symbol: (-round(abs(symbol[1]), 2), symbol[0]))
    sides: dict[str, list[str]] = {"against the mail": [], "for the mail": [], "neither way": []}
    for name, points in known[:SHOWN]:
        sides[_side(points)].append(name.replace("_", " "))
    for side, names in sides.items():
        if names:
            yield f"Rspamd's symbols that speak {side}: {', '.join(sorted(names))}"


def _side(points: float) -> str:
    if abs(points) < ROUNDING:
        return "neither way"
    return "against the mail" if points > 0 else "for the mail"


def _theirs(opinion: Opinion) -> Iterator[tuple[str, float]]:
    return ((name, at) for name, at in opinion.symbols.items() if not name.startswith(OURS))
