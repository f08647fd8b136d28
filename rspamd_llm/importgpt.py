"""`rspamd-llm import-gpt`: our configuration from that of Rspamd's own GPT plugin.

What may not live here: what a setting of theirs is to us (gptconf.py), and UCL's syntax (ucl.py).
The key never goes to the terminal: it is written to a file, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from rspamd_llm import commented, gptconf, neighbours, programs, rspamadm, ucl
from rspamd_llm.commented import Name
from rspamd_llm.domain import ConfigError
from rspamd_llm.gptconf import Import
from rspamd_llm.gptleft import LEFT, READ
from rspamd_llm.init import DAEMON_USER, FOLDER, belongs, own

LIMIT = 1_000_000
"""Bytes read of a configuration; the plugin's own has 5,000."""

SCANNER = "http://127.0.0.1:11333"
"""Rspamd's normal worker, unless its administrator chose another place."""

KEY_NAME = "api.key"
PROMPT_NAME = "prompt.txt"

_HINT = "name the file, such as /etc/rspamd/local.d/gpt.conf, or - for standard input"


def import_gpt(source: str, output: Path | None) -> int:
    """Converts a file, `-` for standard input, or what the installed Rspamd has where it is empty.

    Our configuration goes to the output, with a key and instructions beside it, or to standard
    output without these; what was not carried over goes to standard error.  Raises ConfigError.
    """
    settings = _read(source) if source else _installed()
    result = gptconf.convert(settings, scanner=neighbours.scanner() or SCANNER)
    if output is None:
        _tell(result, _without_files(result))
        print(_text(result, _named(result, FOLDER)), end="")
        return 0
    folder = output.absolute().parent
    files = {output.absolute(): (_text(result, _named(result, folder, is_written=True)), 0o644)}
    if result.api_key:
        files[folder / KEY_NAME] = (result.api_key + "\n", 0o600)
    if result.prompt:
        files[folder / PROMPT_NAME] = (_instructions(result.prompt), 0o644)
    _write(files)
    _tell(result, (*(f"wrote {path}" for path in files), *_with_files(result, folder)))
    return 0


# --- Reading --------------------------------------------------------------------------------


def _installed() -> Mapping[str, Any]:
    """The section of the Rspamd on this machine, with all that it includes."""
    program = programs.find("rspamadm")
    if program is None:
        raise ConfigError((f"there is no rspamadm here to ask: {_HINT}",))
    try:
        told = programs.output(
            *(program, "configdump", "-C", "gpt"), seconds=rspamadm.SECONDS, limit=rspamadm.LIMIT
        )
        sections = list(neighbours.documents(told)) if told.lstrip().startswith("{") else []
    except (OSError, ValueError) as error:
        raise ConfigError((f"rspamadm does not tell its configuration: {_HINT}",)) from error
    if not sections:
        raise ConfigError((f"the Rspamd here has no section gpt: {_HINT}",))
    return _merged(sections)


def _read(source: str) -> Mapping[str, Any]:
    """The settings of a file: of its section gpt, or bare ones as in local.d/gpt.conf."""
    name = "standard input" if source == "-" else source
    try:
        if source == "-":
            content = sys.stdin.buffer.read(LIMIT + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(LIMIT + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError((f"{name}: cannot be read: {error.strerror}",)) from error
    except UnicodeError as error:
        raise ConfigError((f"{name}: is no text in UTF-8",)) from error
    if len(content) > LIMIT or "\0" in text:
        raise ConfigError((f"{name}: is no configuration of Rspamd's GPT plugin",))
    found = _parsed(name, text)
    section = found.get("gpt")
    if isinstance(section, list) and all(isinstance(part, Mapping) for part in section):
        section = _merged(section)
    settings = section if isinstance(section, Mapping) else found
    if not settings.keys() & (READ | LEFT.keys()):
        raise ConfigError((f"{name}: has no settings of Rspamd's GPT plugin",))
    return settings


def _parsed(name: str, text: str) -> Mapping[str, Any]:
    """As Rspamd itself understands a text where it is installed, else as far as we do."""
    program = programs.find("rspamadm")
    if program is not None:
        with contextlib.suppress(OSError, ValueError), tempfile.NamedTemporaryFile() as copy:
            copy.write(text.encode())
            copy.flush()
            told = programs.output(
                *(program, "configdump", "-C", "-c", copy.name),
                seconds=rspamadm.SECONDS,
                limit=rspamadm.LIMIT,
            )
            return _merged(list(neighbours.documents(told)))
    try:
        return ucl.parse(text)
    except ucl.UclError as error:
        raise ConfigError((f"{name}: is not understood: {error}",)) from error


def _merged(sections: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Sections of the same name, as Rspamd hands them to a plugin: what comes later wins."""
    return {name: value for section in sections for name, value in section.items()}


# --- Writing --------------------------------------------------------------------------------


def _named(result: Import, folder: Path, *, is_written: bool = False) -> dict[Name, Any]:
    """The settings that name files."""
    named: dict[Name, Any] = {}
    if result.api_key:
        named["llm", "api_key_file"] = str(folder / KEY_NAME)
    if result.prompt and is_written:
        named["prompt", "file"] = str(folder / PROMPT_NAME)
    return named


def _text(result: Import, named: Mapping[Name, Any]) -> str:
    text = commented.filled({**result.values, **named}, {})
    if not result.rspamd:
        return text
    lines = ("For Rspamd, so that its plugin gives these categories points:", *result.rspamd)
    return text + "\n" + "".join(f"# {commented.plain(line)}\n" for line in lines)


def _instructions(theirs: str) -> str:
    """Our own instructions, with the plugin's in the place of what they weigh.

    What stays says that mail is data, which categories there are, and the form of an answer.
    """
    path = resources.files("rspamd_llm") / "prompts" / "instruct.txt"
    ours = path.read_text(encoding="utf-8")
    before, _, rest = ours.partition("Weigh:")
    after = rest.partition("category is one of")
    asked = f"What this server's administrator asks you to weigh:\n{theirs.strip()}\n\n"
    return f"{before}{asked}{after[1]}{after[2]}"


def _write(files: Mapping[Path, tuple[str, int]]) -> None:
    """Writes all of the files or none; never over one that is there."""
    written: list[Path] = []
    try:
        for path, (text, mode) in files.items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(path)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            own(path, user=DAEMON_USER if mode == 0o600 else "")
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        cure = "; it is never overwritten" if isinstance(error, FileExistsError) else ""
        fault = f"{error.filename or path}: cannot be written: {error.strerror}{cure}"
        raise ConfigError((fault,)) from error


def _without_files(result: Import) -> tuple[str, ...]:
    told = []
    if result.api_key:
        told.append(
            f"write the key of the model server alone into {FOLDER / KEY_NAME}, readable for"
            f" {DAEMON_USER} alone; with -o FILE it is written beside FILE"
        )
    if result.prompt:
        told.append("prompt: not carried over; with -o FILE it is written beside FILE")
    return tuple(told)


def _with_files(result: Import, folder: Path) -> tuple[str, ...]:
    told = []
    if result.api_key and not belongs(folder / KEY_NAME, user=DAEMON_USER):
        told.append(f"{DAEMON_USER} must own the key: chown {DAEMON_USER} {folder / KEY_NAME}")
    if result.prompt:
        told.append(
            f"{PROMPT_NAME} has your prompt within our instructions, for a mail is put to the model"
            " in another form (docs/what-the-model-sees.md): take out of it what says how to"
            " answer, then see `rspamd-llm scan --explain MAIL`"
        )
    return tuple(told)


def _tell(result: Import, files: tuple[str, ...]) -> None:
    for title, lines in (
        ("Not carried over:", result.left),
        ("What to know:", (*files, *result.notes)),
    ):
        if lines:
            print(
                title, *(f"  {commented.plain(line)}" for line in lines), sep="\n", file=sys.stderr
            )
