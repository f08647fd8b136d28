"""`rspamd-llm check`: live checks, with a cause and a cure for each failure.

In what order things are looked at, and how that is shown.  What may not live here: the looking
(checkhost.py, checkmail.py, checkrspamd.py, checkup.py, checkprobe.py), but for the configuration's
file and what the running daemon says of itself.
"""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rspamd_llm import (
    assembly,
    checkhost,
    checkmail,
    checkprobe,
    checkrspamd,
    checkup,
    log,
    login,
    running,
)
from rspamd_llm import config as configs
from rspamd_llm.allowed import without_login
from rspamd_llm.config import Config
from rspamd_llm.domain import ConfigError, RspamdLlmError
from rspamd_llm.health import Health, OtherVersionError, ServerHealth
from rspamd_llm.nursery import Nursery
from rspamd_llm.results import Result, failed, ok, warning
from rspamd_llm.running import address


def check(path: Path | None, *, as_json: bool) -> int:
    """Runs all checks and prints their results; 1 if any failed, 2 if nothing could be checked."""
    log.set_up(level="error", form="text")
    name = str(path) if path else "the defaults"
    try:
        config = configs.load(path)
        results = [*_configuration(name, path, config), *_machine(config)]
        results += asyncio.run(_model(config))
        status = 1 if any(result.status == "failed" for result in results) else 0
    except ConfigError as error:
        cure = f"correct {name}; `rspamd-llm config --defaults` shows every setting"
        results = [failed("configuration", fault, cure) for fault in error.faults]
        status = 2
    if as_json:
        json.dump({"ok": status == 0, "checks": [asdict(r) for r in results]}, sys.stdout, indent=2)
        print()
    else:
        Console().print(_table(results))
    return status


def _configuration(name: str, path: Path | None, config: Config) -> list[Result]:
    return [
        ok("configuration", f"{name} is valid"),
        *_open_to_all(path, config),
        *(
            Result(check="configuration", status="warning", detail=told)
            for told in configs.warnings(config)
        ),
    ]


def _open_to_all(path: Path | None, config: Config) -> list[Result]:
    """A file with a password in it that everybody on the machine may read."""
    has_login = without_login(config.store.url) != config.store.url
    if path is None or not has_login or not path.stat().st_mode & stat.S_IROTH:
        return []
    return [
        warning(
            "configuration",
            f"store.url holds a password, and everybody here may read {path}",
            f"chgrp rspamd-llm {path} && chmod 640 {path}",
        )
    ]


def _machine(config: Config) -> list[Result]:
    """What is found on this machine, without a question to any model or source."""
    socket = checkhost.socket(config)
    is_running = socket.status == "ok"
    user = checkhost.daemon_user(config, is_running=is_running)
    return [
        checkhost.key(config),
        *checkhost.permissions(config, user, is_running=is_running),
        socket,
        *_running(config),
        *checkhost.room(config, user),
        *checkmail.postfix_here(config),
        *checkrspamd.rspamd_here(config),
        *checkhost.clocks(config),
    ]


def _running(config: Config) -> list[Result]:
    """What the daemon itself has come to think of its model servers."""
    listen = config.metrics.listen
    if not listen:
        return []
    try:
        health = running.ask(*address(listen), _token(config))
    except OSError as error:
        return [
            warning(
                "daemon",
                f"nobody answers at {listen}: {error.strerror or error}",
                "start the daemon; where it runs, its log tells why it has not this port",
            )
        ]
    except OtherVersionError as error:
        return [_other_version(f"{error} runs")]
    except ValueError as error:
        return [
            warning(
                "daemon",
                f"{listen} is not our daemon's: {error}",
                "another program listens there: choose another metrics.listen",
            )
        ]
    return [_versions(health), *map(_breaker, health.servers), _store(health, config)]


def _token(config: Config) -> str:
    """The port's token, as far as we may read it."""
    told = config.metrics
    try:
        return login.load(listen=told.listen, page=False, token_file=told.token_file).token
    except ConfigError:
        return ""


def _versions(health: Health) -> Result:
    detail = f"version {health.version} runs, {health.in_flight} mails are being judged"
    if health.version != metadata.version("rspamd-llm"):
        return _other_version(detail)
    return ok("daemon", detail)


def _other_version(detail: str) -> Result:
    detail += f"; installed is {metadata.version('rspamd-llm')}"
    return warning("daemon", detail, "restart the daemon: `systemctl restart rspamd-llm`")


def _breaker(server: ServerHealth) -> Result:
    if server.is_well:
        return ok("daemon", f"{server.url}: its breaker is closed, {server.calls} calls under way")
    when = f"in {server.retry_in:.0f} s" if server.retry_in else "now"
    return warning(
        "daemon",
        f"{server.url}: its breaker is open, the daemon leaves it out; tried again {when}",
        "see below whether it answers; the daemon takes it back by itself once it does",
    )


def _store(health: Health, config: Config) -> Result:
    shown = without_login(config.store.url)
    if not health.store_fault:
        return ok("daemon", f"its store works: {shown}")
    return warning(
        "daemon",
        f"its store {shown} fails: {health.store_fault}; memory serves in its place",
        "see to it; the daemon takes it up again by itself",
    )


async def _model(config: Config) -> list[Result]:
    """What the daemon would work with, and mails that are judged by it."""
    try:
        plan = assembly.plan(config)
        works = await assembly.start(plan, Nursery())
    except ConfigError as error:
        return [failed("configuration", fault, "correct the setting") for fault in error.faults]
    except RspamdLlmError as error:
        return [failed("model", str(error), "see above")]
    try:
        results = [] if works.engine else await checkup.servers(plan, works)
        results += await checkup.store(config)
        results += await checkup.evidence(config, works.lookups)
        if works.rspamd is not None:
            results.append(await checkup.opinion(config, works.rspamd))
        if any(result.status == "failed" for result in results):
            return results
        probed = await checkprobe.probe(config, works)
        if probed[0].status == "ok":
            probed += await checkprobe.full_length(config, plan, works)
        return results + probed
    finally:
        await works.stop()


def _table(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "check", "found"):
        table.add_column(name, overflow="fold")
    signs = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "red")}
    for result in results:
        sign, style = signs[result.status]
        found = Text(result.detail)
        if result.cure:
            found.append(f"\ncure: {result.cure}", style="italic")
        table.add_row(Text(sign, style=style), result.check, found)
    return table
