"""The rules of the house, read from the imports themselves."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rspamd_llm"
MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """A module's name below the package: `facts`, `evidence.dns`, `domain` for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {dotted(path): path for path in MODULES}

# Each outside package has one adapter, which turns its exceptions into ours.
ADAPTERS = {
    "mailparser": {"mail"},
    "selectolax": {"visible"},
    "jinja2": {"page"},
    "publicsuffixlist": {"domains"},
    "openai": {"api"},
    "aiohttp": {"api", "rspamd", "web"},  # clients and a server, which share but the name
    "prometheus_client": {"metrics"},
    "httpx2": {"api"},
    "msgspec": {"nursery"},
    "redis": {"rspamdfetch", "store.valkey"},  # of Rspamd's history, and our store
    "zstandard": {"rspamdfetch"},
    "xllamacpp": {"engine_child"},
    "Milter": {"milter", "libmilter"},
    "milter": {"milter", "libmilter"},
    "rich": {"check", "scanfiles"},
    "tomli_w": {"cli"},
    "httpcore2": {"evidence.fetch", "evidence.network"},
    "dns": {"evidence.dns"},
    "dkim": {"evidence.dkim"},
    "spf": {"evidence.spf"},
    "ddgs": {"evidence.ddgs_child"},
}
# What stands on the straight line between a message and its outcome: values in, values out.
PLAIN = {
    "attachments",
    "brands",
    "chance",
    "charsets",
    "charts",
    "commented",
    "compact",
    "domain",
    "domains",
    "evidence.authresults",
    "evidence.dkim",
    "evidence.dmarc",
    "evidence.guard",
    "evidence.headerfields",
    "evidence.names",
    "evidence.pages",
    "evidence.privacy",
    "evidence.spf",
    "evidence.words",
    "facts",
    "fence",
    "filetypes",
    "fingerprint",
    "gate",
    "gptleft",
    "headers",
    "health",
    "injection",
    "keys",
    "lists",
    "looks",
    "mail",
    "masks",
    "opinion",
    "personal",
    "prompt",
    "reading",
    "records",
    "redact",
    "sentences",
    "signs",
    "spelling",
    "structure",
    "styles",
    "targets",
    "tokens",
    "ucl",
    "verdict",
    "visible",
    "zipnames",
}
OUTSIDE = {"asyncio", "socket", "subprocess", "urllib.request", "http", "ssl", "threading"}


def imports(path: Path) -> set[str]:
    """All that a module imports, wherever in it: `rspamd_llm.x` for our own."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            module = node.module or ""
            found.add(module)
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name.removeprefix("rspamd_llm.") in NAMES}
    return found


def ours(path: Path) -> set[str]:
    return {
        name.removeprefix("rspamd_llm.") for name in imports(path) if name.startswith("rspamd_llm.")
    }


def outside(path: Path) -> set[str]:
    tops = {name.partition(".")[0] for name in imports(path)}
    return tops - sys.stdlib_module_names - {"rspamd_llm"}


def module(name: str) -> Path:
    return NAMES[name]


each_module = pytest.mark.parametrize("path", MODULES, ids=dotted)


def test_there_are_modules() -> None:
    assert module("domain") in MODULES


def test_domain_imports_nothing_but_the_standard_library() -> None:
    for name, path in NAMES.items():
        if name.partition(".")[0] == "domain":
            assert {needed.partition(".")[0] for needed in ours(path)} <= {"domain"}
            assert outside(path) == set()


@each_module
def test_an_outside_package_has_one_adapter(path: Path) -> None:
    for name in outside(path):
        assert dotted(path) in ADAPTERS.get(name, set()), f"{path.name} imports {name}"


def test_the_scanner_imports_no_adapter() -> None:
    scanner = module("scanner")
    assert ours(scanner) <= {"domain", "gate", "steps", "verdict"}
    assert outside(scanner) == set()


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_the_plain_modules_reach_nowhere(name: str) -> None:
    values = {"evidence", *(other for other in NAMES if other.startswith("domain."))}
    assert ours(module(name)) <= PLAIN | values
    assert not imports(module(name)) & OUTSIDE


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: ours(path) & NAMES.keys() - {name} for name, path in NAMES.items()}
    while graph:
        free = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


@each_module
def test_a_module_says_what_it_is_for_and_is_no_longer_than_a_sitting(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), f"{path.name} has no docstring"
    assert len(source.splitlines()) <= 400, f"{path.name}: over 400 lines ask why"
