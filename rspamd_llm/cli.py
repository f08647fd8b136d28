"""The commands: arguments in, exit status out.

0 all well, 1 the work failed, 2 wrong usage or configuration.  What a command does is in its own
module; this one reads arguments, finds the configuration and turns errors into sentences.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path

from rspamd_llm import config as configs
from rspamd_llm.allowed import without_login
from rspamd_llm.domain import AddressError, ConfigError, RspamdLlmError

MOST_DAYS = 3650
"""Days that `report` goes back at most, as many as history.days may keep."""

DEFAULT_CONFIG = Path("/etc/rspamd-llm/rspamd-llm.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return _run(parsed)
    except ConfigError as error:
        for fault in error.faults:
            print(f"rspamd-llm: {fault}", file=sys.stderr)
        return 2
    except AddressError as error:
        print(f"rspamd-llm: {error}", file=sys.stderr)
        return 2
    except RspamdLlmError as error:
        print(f"rspamd-llm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


# Commands import what they need when they run: `config` and `--help` answer at once, and `serve`
# does not carry the terminal's tables.
def _run(parsed: argparse.Namespace) -> int:
    match parsed.command:
        case "init":
            from rspamd_llm import init  # noqa: PLC0415

            return init.init(parsed.dir)
        case "import-gpt":
            from rspamd_llm import importgpt  # noqa: PLC0415

            return importgpt.import_gpt(parsed.file, parsed.output)
        case "config":
            return _show_config(parsed)
        case "serve":
            from rspamd_llm import serve  # noqa: PLC0415

            return serve.serve(_load(parsed.config))
        case "check":
            from rspamd_llm import check  # noqa: PLC0415

            return check.check(parsed.config or _found(), as_json=parsed.json)
        case "report":
            return _report(parsed)
        case _:
            from rspamd_llm import scanfiles  # noqa: PLC0415

            return scanfiles.scan(
                _load(parsed.config),
                files=tuple(parsed.mail) or ("-",),
                sender=scanfiles.Sender(
                    ip=parsed.ip,
                    helo=parsed.helo,
                    address=parsed.sender,
                    recipients=tuple(parsed.rcpt),
                ),
                as_json=parsed.json,
                explain=parsed.explain,
            )


def _found() -> Path | None:
    """The configuration file to use where -c names none; None for the defaults."""
    named = os.environ.get("RSPAMD_LLM_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _load(path: Path | None) -> configs.Config:
    return configs.load(path or _found())


def _show_config(parsed: argparse.Namespace) -> int:
    import tomli_w  # noqa: PLC0415

    config = configs.Config() if parsed.defaults else _load(parsed.config)
    document = configs.to_document(config)
    document["store"]["url"] = without_login(config.store.url)
    print(tomli_w.dumps(document), end="")
    return 0


def _report(parsed: argparse.Namespace) -> int:
    from rspamd_llm import report  # noqa: PLC0415

    span = report.from_time(parsed.since) if parsed.since else report.last_days(parsed.days or 1)
    return report.report(
        _load(parsed.config),
        span=span,
        rspamd=parsed.rspamd_history,
        as_json=parsed.json,
        quiet=parsed.quiet,
    )


def _days(text: str) -> int:
    """Days to report on; a history keeps at most as many."""
    if text.isdecimal() and len(text) <= len(str(MOST_DAYS)) and 1 <= int(text) <= MOST_DAYS:
        return int(text)
    raise argparse.ArgumentTypeError(f"a whole number from 1 to {MOST_DAYS}")


def _past(text: str) -> datetime:
    """A time that has been, local where it names no zone."""
    try:
        found = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            "a date or time such as 2026-11-21 or 2026-11-21T06:00"
        ) from error
    if found >= datetime.now().astimezone():
        raise argparse.ArgumentTypeError("a time in the past")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rspamd-llm",
        description="Mail scanner for Postfix and Rspamd that asks a local language model.",
    )
    parser.add_argument("--version", action="version", version=metadata.version("rspamd-llm"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help=f"configuration file (default: $RSPAMD_LLM_CONFIG, then {DEFAULT_CONFIG})",
    )
    reported = argparse.ArgumentParser(add_help=False)
    reported.add_argument("--json", action="store_true", help="print JSON")

    def command(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=parents)

    command("serve", "Run the daemon in the foreground.", configured)

    scan = command("scan", "Scan mail files and print verdicts.", configured, reported)
    scan.add_argument("--explain", action="store_true", help="show facts, prompt and raw answer")
    scan.add_argument("--ip", default="", metavar="A", help="the client's address")
    scan.add_argument("--helo", default="", metavar="H", help="the client's HELO name")
    scan.add_argument("--from", dest="sender", default="", metavar="A", help="envelope sender")
    scan.add_argument("--rcpt", action="append", default=[], metavar="A", help="a recipient")
    scan.add_argument("mail", nargs="*", metavar="MAIL", help="mail files; - is standard input")

    command("check", "Check the configuration and all it depends on.", configured, reported)

    report = command("report", "Tell what the daemon did since yesterday.", configured, reported)
    span = report.add_mutually_exclusive_group()
    span.add_argument("--days", type=_days, metavar="N", help="the last N days (default: 1)")
    span.add_argument("--since", type=_past, metavar="TIME", help="such as 2026-11-21T06:00")
    report.add_argument(
        "--rspamd-history",
        default="",
        metavar="FROM",
        help="compare with Rspamd's history: a file, its log, http://127.0.0.1:11334, or redis://",
    )
    report.add_argument("--quiet", action="store_true", help="print nothing where all is well")

    init = command("init", "Write a commented configuration and a verdict key.")
    init.add_argument(
        "--dir", type=Path, default=DEFAULT_CONFIG.parent, help="folder (default: %(default)s)"
    )

    convert = command("import-gpt", "Write our configuration from Rspamd's GPT plugin's.")
    convert.add_argument(
        "file", nargs="?", default="", metavar="FILE", help="gpt.conf, or -; none: ask rspamadm"
    )
    convert.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write there, with the key beside it"
    )

    show = command("config", "Print the effective configuration, without secrets.", configured)
    show.add_argument("--defaults", action="store_true", help="print the defaults")
    return parser
