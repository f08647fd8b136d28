"""The documentation holds: its links lead somewhere, its commands and settings are the program's.

What it says cannot be tested; what it names can.  The French pages are held against the English.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rspamd_llm import cli, config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FRENCH = sorted((ROOT / "docs" / "fr").glob("*.md"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_french_page = pytest.mark.parametrize("page", FRENCH, ids=lambda page: page.name)

# --- Reading Markdown -----------------------------------------------------------------------


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """A page's blocks, and what stands within its sentences, in their order."""
    parsed = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return tuple(inner for token in parsed for inner in (token, *(token.children or ())))


def blocks(page: Path) -> list[str]:
    """Blocks of code, indented or fenced."""
    return [token.content for token in tokens(page) if token.type in ("code_block", "fence")]


def spans(page: Path) -> list[str]:
    """Code within sentences."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def sentences(page: Path) -> list[str]:
    """Text that is no code, line by line as it is written."""
    return [token.content for token in tokens(page) if token.type == "text"]


def links(page: Path) -> list[str]:
    named = {"link_open": "href", "image": "src"}
    return [
        unquote(str(token.attrs[named[token.type]]))
        for token in tokens(page)
        if token.type in named
    ]


def headings(page: Path) -> list[tuple[str, str]]:
    """Level (h1 to h6) and text, as written."""
    found = tokens(page)
    return [
        (token.tag, after.content)
        for token, after in pairwise(found)
        if token.type == "heading_open"
    ]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    names: set[str] = set()
    for _, heading in headings(page):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (numbered := f"{name}-{number}" if number else name) in names:
            number += 1
        names.add(numbered)
    return names


# --- Links ----------------------------------------------------------------------------------


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file):
            broken.append(f"{target}: no such heading")
    assert broken == []


def test_links_are_found() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "guide.md"):
        assert len(links(page)) > 10


# --- Commands -------------------------------------------------------------------------------

COMMAND = re.compile(
    r"(?:^|[|;&(]\s*|\bsudo (?:-u \S+ )?|docker compose exec (?:-\S+ )?\S+ )"
    r"(?:/\S*/)?rspamd-llm(?= )(?P<rest>[^|;&<>#\n]*)",
    re.MULTILINE,
)


def options() -> dict[str, set[str]]:
    """Each command with its options, and "" with those of none."""
    parser = cli._parser()
    found = {"": set(parser._option_string_actions)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found[name] = set(sub._option_string_actions)
    return found


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `rspamd-llm`, wherever it is run."""
    for text in (*blocks(page), *spans(page)):
        for found in COMMAND.finditer(text.replace("\\\n", " ")):
            words = re.sub(r"[\[\]|]", " ", found["rest"]).split()
            if words:
                yield words


@each_page
def test_commands_are_the_programs(page: Path) -> None:
    known = options()
    wrong = []
    for words in commands(page):
        name = "" if words[0].startswith("-") else words[0]
        if name not in known:
            wrong.append(f"rspamd-llm {name}: no such command")
            continue
        for word in words:
            option = word.partition("=")[0].rstrip(".")
            if re.match(r"--?[a-z]", option) and option not in known[name]:
                wrong.append(f"rspamd-llm {name} {option}: no such option")
    assert wrong == []


def test_commands_are_found() -> None:
    named = {words[0] for page in PAGES for words in commands(page)}
    assert named >= {"check", "config", "init", "report", "scan", "serve"}


# --- Settings -------------------------------------------------------------------------------

SECTIONS = {entry.name for entry in fields(config.Config)}
INLINE = re.compile(r"\[([a-z_]+)\] ([a-z_]+)(?: = (.+))?")
FILE = r"\.(?:conf|local|lua|md|py|toml)$"
DOTTED = re.compile(r"([a-z_]+)\.([a-z_]+)")
NAMES = {
    (entry.name, setting.name)
    for entry in fields(config.Config)
    for setting in fields(getattr(config.Config(), entry.name))
}


def documents(page: Path) -> Iterator[dict[str, Any]]:
    """What is written as configuration: blocks that begin with a section, and settings in spans.

    A section of systemd's units begins with a capital letter.
    """
    for block in blocks(page):
        if re.match(r"\s*\[[a-z_]+\]\s*$", block, re.MULTILINE):
            yield tomllib.loads(block)
    for span in spans(page):
        found = INLINE.fullmatch(span)
        if found and found[3] and "..." not in found[3]:
            yield tomllib.loads(f"[{found[1]}]\n{found[2]} = {found[3]}")


@each_page
def test_settings_are_accepted(page: Path) -> None:
    for document in documents(page):
        config.parse(document)  # raises ConfigError, which names what is wrong


def is_module(name: str) -> bool:
    """`evidence.dns` is a setting and a module, `rspamd.lua` a file."""
    path = ROOT / "rspamd_llm" / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir() or bool(re.search(FILE, name))


@each_page
def test_names_of_settings_exist(page: Path) -> None:
    unknown = []
    for span in spans(page):
        found = INLINE.fullmatch(span)
        dotted = DOTTED.fullmatch(span)
        if found:
            name = found[1], found[2]
        elif dotted and dotted[1] in SECTIONS and not is_module(span):
            name = dotted[1], dotted[2]
        else:
            continue
        if name not in NAMES:
            unknown.append(span)
    assert unknown == []


def test_settings_are_found() -> None:
    found = {name for page in PAGES for document in documents(page) for name in document}
    assert found >= {"llm", "gate", "search", "evidence", "store", "rspamd", "prompt", "verdict"}


# --- French ---------------------------------------------------------------------------------


def original(page: Path) -> Path:
    return ROOT / "docs" / page.name


def translation(page: Path) -> Path:
    return ROOT / "docs" / "fr" / page.name


def targets(page: Path) -> list[str]:
    """Where a page's links lead, by their English names; but for the one to the other language."""
    found = []
    for target in links(page):
        path = target.partition("#")[0]  # headings have other names in French
        if re.match(r"[a-z]+:", target):
            found.append(target)
        elif path:
            file = (page.parent / path).resolve()
            if file not in (original(page), translation(page)):
                found.append(str(original(file) if file in FRENCH else file))
    return found


def test_there_are_french_pages() -> None:
    assert {page.name for page in FRENCH} == {"mailcow.md", "privacy.md", "quickstart.md"}


@each_french_page
def test_a_french_page_has_the_commands_of_its_original(page: Path) -> None:
    assert blocks(page) == blocks(original(page))


@each_french_page
def test_a_french_page_is_built_as_its_original(page: Path) -> None:
    kinds = ("heading_open", "list_item_open", "tr_open", "td_open", "paragraph_open")
    shapes = [
        [token.tag for token in tokens(each) if token.type in kinds]
        for each in (page, original(page))
    ]
    assert shapes[0] == shapes[1]
    assert targets(page) == targets(original(page))


@each_french_page
def test_a_french_page_leads_to_french_ones(page: Path) -> None:
    named = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
    assert named & {original(other) for other in FRENCH} <= {original(page)}


@each_french_page
def test_french_is_set_as_french(page: Path) -> None:
    """Unbreakable blanks before high signs and within guillemets; apostrophes of one kind."""
    text = "\n".join(part for part in sentences(page) if not part.startswith("http"))
    assert re.findall(r".{0,20}(?:^|[^\u00a0\u202f])[:;?!](?!\S)", text, re.MULTILINE) == []
    assert re.findall(r".{0,20}(?:«[^\u00a0\u202f]|[^\u00a0\u202f]»).{0,20}", text) == []
    assert re.findall(r".{0,20}'.{0,20}", text) == []
