"""Wanted mail that machines write: delivery reports, cron, monitoring, builds, abuse reports.

Nobody addresses anybody in it, much of it is no prose, and some of it quotes unwanted mail: the
model must not take what is strange for what is bad.
"""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from script.model import slots
from script.model.mime import Draft, File
from script.model.setting import Setting

KINDS = ("bounce", "away", "cron", "monitor", "build", "abuse")
FORGES = (("GitHub", "github.com"), ("GitLab", "gitlab.com"))
QUOTED = ("advance", "pills", "bank_phish", "casino", "parcel_phish")


@functools.cache
def tables() -> Mapping[str, Any]:
    path = Path(__file__).parent / "phrases" / "machine.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def draft(here: Setting, kind: str) -> Draft:
    rng, table = here.rng, tables()[kind]
    forge, domain = "Jenkins", slots.company_domain(rng, "en")
    if kind == "build" and rng.random() < 0.6:
        forge, domain = rng.choice(FORGES)
    values = _values(here, domain) | {"forge": forge}
    for name in ("why", "job", "state", "what", "info"):
        values[name] = rng.choice(table.get(name, [""])).format_map(values)
    values["lines"] = _lines(here, table.get("line", ()), values)

    def chosen(name: str) -> str:
        return str(rng.choice(table[name])).format_map(values)

    headers: dict[str, str] = {}
    if rng.random() < table["automatic"]:
        headers["Auto-Submitted"] = rng.choice(["auto-replied", "auto-generated"])
    if rng.random() < table.get("listed", 0):
        headers["List-Id"] = f"<{values['project'].replace('/', '.')}.{domain}>"
        headers["In-Reply-To"] = f"<{slots.token(rng, 9)}@{domain}>"
    page = table.get("link", "").format_map(values) if rng.random() < 0.6 else ""
    files = []
    if rng.random() < table.get("report", 0):
        files.append(File(f"{domain}!{values['four']}.xml.gz", "application/gzip", b"\x1f\x8b"))
    return Draft(
        from_name=chosen("name"),
        from_address=f"{chosen('user')}@{domain}",
        to_name="",
        to_address=here.to_address,
        subject=chosen("subject"),
        paragraphs=[chosen("text")],
        links=[(page, page)] if page else [],
        files=files,
        headers=headers,
        look="both" if kind == "build" and rng.random() < 0.5 else "text",
        host=here.host(domain),
    )


def _values(here: Setting, domain: str) -> dict[str, str]:
    rng, voice = here.rng, here.voice
    quoted = rng.choice(QUOTED)
    tech = voice.sample("tech", rng.randint(1, 3)) if here.language == "en" else []
    machine = rng.choice(["web", "db", "mx", "backup", "node", "proxy"])
    return dict(voice.values) | {
        "domain": domain,
        "host": f"{machine}{rng.randint(1, 20)}",
        "victim": f"{slots.token(rng, 6)}@{slots.company_domain(rng, here.language)}",
        "project": f"{slots.invented_word(rng)}/{slots.invented_word(rng)}",
        "address": slots.address(rng),
        "number": str(rng.randint(1, 9000)),
        "digit": str(rng.randint(1, 9)),
        "token": slots.token(rng, 7),
        "work": voice.subject("work"),
        "lure": voice.subject(quoted),
        "bait": voice.says(quoted)[0],
        "tech": " ".join(tech),
    }


def _lines(here: Setting, forms: Sequence[str], values: Mapping[str, str]) -> str:
    """Some lines of a log, each with numbers of its own."""
    rng = here.rng
    lines = []
    for _ in range(rng.randint(2, 14) if forms else 0):
        fresh = {"number": str(rng.randint(1, 99999)), "token": slots.token(rng, 6)}
        fresh |= {"num": str(rng.randint(50, 99)), "address": slots.address(rng)}
        lines.append(rng.choice(forms).format_map(dict(values) | fresh))
    return "\n".join(lines)
