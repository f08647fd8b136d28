"""The daemon: `rspamd-llm serve`.

The main thread starts everything, owns the signals and ends everything; mail never comes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rspamd_llm import advice, assembly, keys, libmilter, log, login
from rspamd_llm.config import Config, warnings
from rspamd_llm.core import Core
from rspamd_llm.domain import ConfigError, Message, Scan
from rspamd_llm.history import History, Reader
from rspamd_llm.login import Login
from rspamd_llm.metrics import Metrics
from rspamd_llm.milter import Service, Session, Traffic
from rspamd_llm.nursery import Nursery
from rspamd_llm.page import Page
from rspamd_llm.stopping import Stop, block_signals
from rspamd_llm.watchdog import Watchdog, notify, period
from rspamd_llm.web import Web

LAST_ANSWERS = 2.0
"""Seconds for abandoned scans to be answered, once the drain time is over."""

ANSWER_GRACE = 0.5
"""Seconds between the last message's end and ours: libmilter writes the answer to the MTA after our
callback has returned, and tells nobody when it has."""

START_INTERVAL = 0.01
"""Seconds between looks at whether all has started."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is told and kept of each message, and who may look at it."""

    metrics: Metrics
    history: History | None
    access: Login

    def note(self, message: Message, scan: Scan) -> None:
        """A message was answered.  Any thread may tell."""
        log.scanned(message, scan)
        self.metrics.scanned(message, scan)
        if self.history is not None:
            self.history.note(message, scan)

    def close(self) -> None:
        """Writes what is to be written."""
        if self.history is not None:
            self.history.close()


def serve(config: Config) -> NoReturn:
    """Runs until a signal ends it.  Does not return but for an error: the process exits with 0.

    Raises ConfigError, AddressError and EngineError when it cannot start.
    """
    block_signals()
    log.set_up(level=config.log.level, form=config.log.format)
    address = libmilter.Address.parse(config.milter.socket)
    nursery = Nursery()
    plan = assembly.plan(config)
    ring = keys.Ring(Path(config.trust.key_file))
    access = login.load(
        listen=config.metrics.listen, page=config.metrics.page, token_file=config.metrics.token_file
    )
    for warning in warnings(config):
        _log.warning("%s", warning)

    core = Core()
    stop = Stop()
    stop.take_signals()
    lost = functools.partial(stop.ask, failed=True)
    starting = core.submit(assembly.start(plan, nursery, keys=ring.keys, lost=lost))
    while not starting.done() and not stop.wait(START_INTERVAL):
        pass
    if stop.wait(0):
        # The embedded engine ends with us, however far it has come with its model.
        os._exit(1 if stop.failed else 0)
    works = starting.result()
    listener = libmilter.Listener(address)
    traffic = Traffic()
    watched = Watched(metrics=Metrics(), history=_history(config), access=access)
    service = Service(
        scan=lambda message, deadline: core.submit(works.scanner.scan(message, deadline)),
        begin=lambda head: core.submit(works.scanner.begin(head)),
        report=watched.note,
        key=lambda: ring.keys[0],
        deadline=config.milter.deadline,
        max_body=config.milter.max_body,
        max_size=config.gate.max_size,
        tempfail=config.milter.on_error == "tempfail",
        listener=listener,
        traffic=traffic,
    )
    try:
        listener.open(
            functools.partial(Session, service),
            name="rspamd-llm",
            mode=int(config.milter.socket_mode, 8),
            group=config.milter.socket_group,
            ended=stop.ask,
        )
    except BaseException:
        core.run(works.stop())
        raise
    _log.info("serving at %s with model %s", address, config.llm.model)
    watchdog = Watchdog(address, lambda: core.submit(asyncio.sleep(0)), period())
    watchdog.start()
    notify("READY=1")
    advice.warn_later(config)
    web = _web(config, core, works, watched)

    stop.take_hangups()

    while not stop.wait():
        if stop.hung_up():
            _reload(config, core, works, ring)
    watchdog.stop()
    if web is not None:
        web.stop()
    _stop(config.milter.drain, core, works, listener, traffic)
    watched.close()
    # libmilter's threads are still there; letting main() return has crashed with them.
    os._exit(1 if listener.failed or stop.failed else 0)


def _reload(config: Config, core: Core, works: assembly.Works, ring: keys.Ring) -> None:
    """Reads instructions, lists, keys and other secrets again; a fault leaves all as it was."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}")
    try:
        plan = assembly.plan(config)
        fresh = keys.load(ring.path)
        core.run(works.renew(plan, fresh), timeout=LAST_ANSWERS)
        ring.keys = fresh
    except ConfigError as error:
        for fault in error.faults:
            _log.error("not reloaded, all stays as it was: %s", fault)
    except TimeoutError:
        _log.error("not reloaded: the core does not answer")
    else:
        _log.info("read again: instructions, lists, keys; key id %s signs", keys.key_id(fresh[0]))
    notify("READY=1")


def _history(config: Config) -> History | None:
    """What keeps the verdicts, where any are kept."""
    kept = config.history
    if kept.keep == "none":
        return None
    return History(Path(kept.file), days=kept.days, full=kept.keep == "full")


def _web(config: Config, core: Core, works: assembly.Works, watched: Watched) -> Web | None:
    """The port for those who watch, where one is configured."""
    if not config.metrics.listen:
        return None
    page = None
    if config.metrics.page:
        page = Page(
            Reader(Path(config.history.file)) if watched.history else None,
            watched.history,
            days=config.history.days,
            has_login=bool(watched.access.token),
        )
    web = Web(
        config.metrics.listen,
        health=lambda: asyncio.wrap_future(core.submit(works.health())),
        text=lambda health: watched.metrics.text(health, works.counters.snapshot()),
        page=page,
        login=watched.access,
    )
    web.start()
    return web


def _stop(
    drain: float,
    core: Core,
    works: assembly.Works,
    listener: libmilter.Listener,
    traffic: Traffic,
) -> None:
    """Gives messages under way their time, and closes what is open."""
    notify("STOPPING=1")
    _log.info("stopping: messages under way get up to %g s", drain)
    core.call(works.scanner.begin_stop)
    if not listener.ended:
        _close(listener)
    if not traffic.wait_empty(drain):
        core.call(works.scanner.abandon)
        traffic.wait_empty(LAST_ANSWERS)
    time.sleep(ANSWER_GRACE)
    with contextlib.suppress(Exception):
        core.run(works.stop(), timeout=LAST_ANSWERS)
    _log.info("stopped")
    sys.stderr.flush()


def _close(listener: libmilter.Listener) -> None:
    try:
        listener.close()
    except OSError as error:
        # Out of descriptors, say: what is under way is answered all the same.
        _log.error("the address is given up only at the end: %s", error)
