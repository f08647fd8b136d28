"""`rspamd-llm check`: live checks, with a cause and a cure for each failure."""

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

from rspamd_llm import advice, assembly, checkup, keys, log, postfix, running
from rspamd_llm import config as configs
from rspamd_llm.allowed import without_login
from rspamd_llm.checkup import Result
from rspamd_llm.config import Config
from rspamd_llm.domain import AddressError, ConfigError, RspamdLlmError
from rspamd_llm.health import Health, ServerHealth
from rspamd_llm.libmilter import Address
from rspamd_llm.nursery import Nursery
from rspamd_llm.running import address


def check(path: Path | None, *, as_json: bool) -> int:
    """Runs all checks and prints their results; 1 if any failed, 2 if nothing could be checked."""
    log.set_up(level="error", form="text")
    name = str(path) if path else "the defaults"
    try:
        config = configs.load(path)
        results = [Result(check="configuration", status="ok", detail=f"{name} is valid")]
        results += _open_to_all(path, config)
        results += [
            Result(check="configuration", status="warning", detail=warning)
            for warning in configs.warnings(config)
        ]
        results += [_key(config), _socket(config), *_running(config), *_postfix(config)]
        results += asyncio.run(_model(config))
        status = 1 if any(result.status == "failed" for result in results) else 0
    except ConfigError as error:
        results = [
            Result(
                check="configuration",
                status="failed",
                detail=fault,
                cure=f"correct {name}; `rspamd-llm config --defaults` shows every setting",
            )
            for fault in error.faults
        ]
        status = 2
    if as_json:
        json.dump({"ok": status == 0, "checks": [asdict(r) for r in results]}, sys.stdout, indent=2)
        print()
    else:
        Console().print(_table(results))
    return status


def _open_to_all(path: Path | None, config: Config) -> list[Result]:
    """A file with a password in it that everybody on the machine may read."""
    has_login = without_login(config.store.url) != config.store.url
    if path is None or not has_login or not path.stat().st_mode & stat.S_IROTH:
        return []
    return [
        Result(
            check="configuration",
            status="warning",
            detail=f"store.url holds a password, and everybody here may read {path}",
            cure=f"chgrp rspamd-llm {path} && chmod 640 {path}",
        )
    ]


def _key(config: Config) -> Result:
    try:
        found = keys.load(Path(config.trust.key_file))
    except ConfigError as error:
        return Result(
            check="key",
            status="failed",
            detail=str(error),
            cure="make the file and let Rspamd and this daemon read it: `rspamd-llm init`",
        )
    return Result(
        check="key",
        status="ok",
        detail=f"{len(found)} in {config.trust.key_file}; key id {keys.key_id(found[0])} signs",
    )


def _socket(config: Config) -> Result:
    try:
        address = Address.parse(config.milter.socket)
        address.knock()
    except AddressError as error:
        return Result(check="socket", status="failed", detail=str(error), cure="correct it")
    except OSError as error:
        return Result(
            check="socket",
            status="failed",
            detail=f"nobody answers at {config.milter.socket}: {error.strerror or error}",
            cure="start the daemon: `systemctl start rspamd-llm`, or `rspamd-llm serve`",
        )
    return Result(check="socket", status="ok", detail=f"answers at {config.milter.socket}")


def _running(config: Config) -> list[Result]:
    """What the daemon itself has come to think of its model servers."""
    listen = config.metrics.listen
    if not listen:
        return []
    try:
        health = running.ask(*address(listen))
    except OSError as error:
        return [
            Result(
                check="daemon",
                status="warning",
                detail=f"nobody answers at {listen}: {error.strerror or error}",
                cure="start the daemon; where it runs, its log tells why it has not this port",
            )
        ]
    except ValueError as error:
        return [
            Result(
                check="daemon",
                status="warning",
                detail=f"{listen} is not our daemon's: {error}",
                cure="another program listens there: choose another metrics.listen",
            )
        ]
    return [_versions(health), *map(_breaker, health.servers), _store(health, config)]


def _versions(health: Health) -> Result:
    installed = metadata.version("rspamd-llm")
    detail = f"version {health.version} runs, {health.in_flight} mails are being judged"
    if health.version == installed:
        return Result(check="daemon", status="ok", detail=detail)
    return Result(
        check="daemon",
        status="warning",
        detail=f"{detail}; installed is {installed}",
        cure="restart the daemon: `systemctl restart rspamd-llm`",
    )


def _breaker(server: ServerHealth) -> Result:
    if server.is_well:
        detail = f"{server.url}: its breaker is closed, {server.calls} calls under way"
        return Result(check="daemon", status="ok", detail=detail)
    when = f"in {server.retry_in:.0f} s" if server.retry_in else "now"
    return Result(
        check="daemon",
        status="warning",
        detail=f"{server.url}: its breaker is open, the daemon leaves it out; tried again {when}",
        cure="see below whether it answers; the daemon takes it back by itself once it does",
    )


def _store(health: Health, config: Config) -> Result:
    shown = without_login(config.store.url)
    if not health.store_fault:
        return Result(check="daemon", status="ok", detail=f"its store works: {shown}")
    return Result(
        check="daemon",
        status="warning",
        detail=f"its store {shown} fails: {health.store_fault}; memory serves in its place",
        cure="see to it; the daemon takes it up again by itself",
    )


def _postfix(config: Config) -> list[Result]:
    """What the Postfix of this machine, if there is one, makes of us.  It may be another's."""
    found = postfix.read()
    if found is None:
        detail = "not installed here, or not to be read"
        return [Result(check="postfix", status="ok", detail=detail)]
    try:
        asking = found.asking(Address.parse(config.milter.socket))
        remarks = advice.placement(config, found) + advice.contradictions(config, found)
    except AddressError:
        return []  # the check of the socket tells
    if remarks:
        return [
            Result(check="postfix", status="warning", detail=remark.cause, cure=remark.cure)
            for remark in remarks
        ]
    return [
        Result(check="postfix", status="ok", detail=f"{service.name or 'main.cf'} asks {milter}")
        for service, milter in asking
    ]


async def _model(config: Config) -> list[Result]:
    try:
        plan = assembly.plan(config)
        works = await assembly.start(plan, Nursery())
    except ConfigError as error:
        return [
            Result(check="model", status="failed", detail=fault, cure="correct the setting")
            for fault in error.faults
        ]
    except RspamdLlmError as error:
        return [Result(check="model", status="failed", detail=str(error), cure="see above")]
    try:
        results = [] if works.engine else await checkup.servers(plan, works)
        results += await checkup.store(config)
        results += await checkup.evidence(config, works.lookups)
        if works.rspamd is not None:
            results.append(await checkup.opinion(config, works.rspamd))
        if any(result.status == "failed" for result in results):
            return results
        return [*results, await checkup.probe(config, works)]
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
