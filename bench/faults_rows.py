"""The faults of the model, the daemon and Rspamd: what is broken, and what may become of mail then.

Each row gets the Rspamd of all rows and whether it shall be short, and tells what it counted.
"""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from bench.faults_chain import (
    COMMAND_TIMEOUT,
    CONTENT_TIMEOUT,
    DEADLINE,
    SLACK,
    Chain,
    eventually,
    running,
)
from bench.faults_forgeries import forgeries
from bench.faults_tally import ABSENT, FORGED, SCORED, UNREAD, Tally, unscored
from bench.stubanswers import Behaviour, verdict
from tests.chain.ports import free_port
from tests.chain.rspamd import PrivateRspamd

UNAVAILABLE, INVALID = unscored("model-unavailable"), unscored("model-invalid")
TIMEOUT, OVERLOADED, STOPPING = unscored("timeout"), unscored("overloaded"), unscored("stopping")

HANGS = 7.0
"""Seconds of a deadline well beyond the 5 s after which a hanging call always counts against its
server."""

# --- The model -------------------------------------------------------------------------------

LIES = {
    "HTML": Behaviour(fault="html"),
    "no JSON": Behaviour(fault="not-json"),
    "no choices": Behaviour(fault="no-choices"),
    "empty": Behaviour(fault="empty"),
    "null": Behaviour(fault="null"),
    "cut short": Behaviour(fault="length"),
    "NaN": Behaviour(fault="nan"),
    "reasoning alone": Behaviour(fault="reasoning"),
    "1.7": Behaviour(answer=verdict(1.7)),
    "-1": Behaviour(answer=verdict(-1)),
    "507": Behaviour(answer=verdict(507)),
    "infinite": Behaviour(answer='{"score": Infinity, "category": "none", "reason": ""}'),
    "prose": Behaviour(answer="I would say that 0.97 of such mails are phishing."),
}
BREAKS = {name: Behaviour(fault=name) for name in ("close", "early", "reset")}


def model_down(rspamd: PrivateRspamd, short: bool) -> Tally:
    """Nothing listens at the model's port."""
    return _failing("model-down", Behaviour(fault="down"), rspamd, short)


def model_503(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The model server answers 503."""
    return _failing("model-503", Behaviour(status=503), rspamd, short)


def _failing(name: str, behaviour: Behaviour, rspamd: PrivateRspamd, short: bool) -> Tally:
    with running(name, rspamd) as chain:
        chain.stub.set(behaviour)
        for _ in range(2 if short else 10):
            chain.burst(6, UNAVAILABLE, forgeries=forgeries(), forged=[UNAVAILABLE])
        if not short or behaviour.fault == "down":  # a breaker's pause is 5 s
            chain.stub.set(Behaviour())
            chain.heals(UNAVAILABLE)
        return chain.tally()


def model_slow(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The model answers after the deadline."""
    with running("model-slow", rspamd) as chain:
        _too_late(chain, Behaviour(latency=DEADLINE + 2), short)
        return chain.tally()


def model_dripping(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The model answers a byte every half a second."""
    with running("model-dripping", rspamd) as chain:
        _too_late(chain, Behaviour(fault="drip", interval=0.5), short)
        return chain.tally()


def _too_late(chain: Chain, behaviour: Behaviour, short: bool) -> None:
    for _ in range(1 if short else 3):
        chain.stub.set(behaviour)
        within = DEADLINE + SLACK
        chain.burst(6, TIMEOUT, within=within, forgeries=forgeries(), forged=[TIMEOUT])
        chain.check_idle()
        if not short:
            chain.stub.set(Behaviour())
            chain.heals(UNAVAILABLE)


def model_hanging(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The model never answers: after some mails the rest pass at once."""
    with running("model-hanging", rspamd, settings={"milter": {"deadline": HANGS}}) as chain:
        chain.stub.set(Behaviour(fault="hang"))
        chain.burst(6, TIMEOUT, within=HANGS + SLACK, forgeries=forgeries(), forged=[TIMEOUT])
        chain.check_idle()
        chain.burst(4 if short else 40, UNAVAILABLE, within=SLACK)
        chain.stub.set(Behaviour())
        chain.heals(UNAVAILABLE)
        return chain.tally()


def model_lying(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The model answers 200 with what is no verdict, or breaks the connection."""
    with running("model-lying", rspamd) as chain:
        for behaviour in LIES.values():
            chain.stub.set(behaviour)
            chain.burst(2 if short else 8, INVALID, forgeries=forgeries(), forged=[INVALID])
        chain.stub.set(Behaviour())
        chain.heals()
        for behaviour in BREAKS.values():
            chain.stub.set(behaviour)
            chain.send(UNAVAILABLE)
        return chain.tally()


# --- The daemon ------------------------------------------------------------------------------


def daemon_stopped(rspamd: PrivateRspamd, short: bool) -> Tally:
    """Nothing listens at the daemon's port, and later something does again."""
    with running("daemon-stopped", rspamd) as chain:
        chain.daemon.stop()
        chain.burst(6 if short else 60, ABSENT, forgeries=forgeries())
        chain.daemon.start()
        chain.heals()
        return chain.tally()


def daemon_wedged(rspamd: PrivateRspamd, short: bool) -> Tally:
    """SIGSTOP before mail comes, and while mail is being judged."""
    with running("daemon-wedged", rspamd) as chain:
        for _ in range(1 if short else 3):
            chain.daemon.process.send_signal(signal.SIGSTOP)
            chain.burst(6, ABSENT, within=COMMAND_TIMEOUT + SLACK, forgeries=forgeries())
            chain.daemon.process.send_signal(signal.SIGCONT)
            chain.heals()
            chain.stub.set(Behaviour(fault="hang"))

            def send() -> object:
                within = CONTENT_TIMEOUT + SLACK
                return chain.burst(6, ABSENT, within=within, forgeries=forgeries())

            with chain.under_way(send, 6):
                chain.daemon.process.send_signal(signal.SIGSTOP)
            chain.stub.set(Behaviour())
            chain.daemon.process.send_signal(signal.SIGCONT)
            chain.heals(UNAVAILABLE)  # for it the model has hung
        return chain.tally()


def daemon_killed(rspamd: PrivateRspamd, short: bool) -> Tally:
    """SIGKILL while the model is asked, and at any moment of a steady stream of mail."""
    rng = random.Random(5)
    with running("daemon-killed", rspamd) as chain:
        chain.stub.set(Behaviour(fault="hang"))
        with chain.under_way(lambda: chain.burst(6, ABSENT, forgeries=forgeries()), 6):
            chain.daemon.stop(signal.SIGKILL)
        chain.stub.set(Behaviour(latency=0.1))
        chain.daemon.start()
        chain.heals()
        tricks = forgeries()

        def send(number: int) -> None:
            if number % 2:
                # What was deleted before the end stays deleted, so a forgery may also be gone.
                trick = tricks[number // 2 % len(tricks)]
                chain.send(SCORED, FORGED, ABSENT, forgery=trick)
            else:
                chain.send(SCORED, ABSENT)

        with chain.load(6, send):
            for _ in range(2 if short else 10):
                time.sleep(rng.uniform(0.5, 1.5))
                chain.daemon.stop(signal.SIGKILL)
                chain.daemon.start()
        chain.heals()
        return chain.tally()


def restarted(rspamd: PrivateRspamd, short: bool) -> Tally:
    """The daemon is restarted under load, as systemd does it."""
    with running("restarted", rspamd) as chain:
        chain.stub.set(Behaviour(latency=0.3))
        tricks = forgeries()

        def send(number: int) -> None:
            if number % 2:
                trick = tricks[number // 2 % len(tricks)]
                chain.send(SCORED, STOPPING, *trick.may, forgery=trick)
            else:
                chain.send(SCORED, STOPPING, ABSENT)

        restarts = 4 if short else 10
        with chain.load(8, send):
            for _ in range(restarts):
                time.sleep(1.0)
                status = chain.daemon.stop()
                chain.check(status == 0, f"a stop ended with status {status}")
                chain.daemon.start()
            time.sleep(1.0)
        chain.notes.append(f"{restarts} restarts")
        chain.heals()
        return chain.tally()


# --- Rspamd ----------------------------------------------------------------------------------


def rspamd_down(rspamd: PrivateRspamd, short: bool) -> Tally:
    """Nothing listens at Rspamd's port."""
    absent = f"inet:127.0.0.1:{free_port()}"
    with running("rspamd-down", rspamd, second_milter=absent) as chain:
        chain.burst(6 if short else 60, UNREAD, forgeries=forgeries(), forged=[UNREAD])
        return chain.tally()


# --- Too much --------------------------------------------------------------------------------

AT_ONCE = 2.0
"""Seconds in which nine of ten of the mails that cannot be served must be told so."""

IN_VAIN = 0.02
"""Share of the mails that may wait until their deadline and get nothing: one whose turn comes with
a little less time left than a call takes is given its chance."""


def crowd(rspamd: PrivateRspamd, short: bool) -> Tally:
    """Many connections at once for one slot of the model."""
    connections, latency, deadline = (60, 1.0, 6.0) if short else (200, 5.0, 30.0)
    settings: dict[str, dict[str, Any]] = {
        "llm": {"concurrency": 1},
        "milter": {"deadline": deadline},
    }
    with running("crowd", rspamd, settings=settings) as chain:
        chain.stub.set(Behaviour(latency=latency))
        chain.send(SCORED, within=latency + SLACK)  # now it is known what a call takes
        within = deadline + SLACK + connections / 10  # Rspamd scans 10 mails a second at least
        chain.burst(connections, SCORED, OVERLOADED, TIMEOUT, within=within)
        waits = sorted(
            sum(value for name, value in record.items() if name.endswith("_s"))
            for record in chain.daemon.told("scan")
            if record.get("code") == "overloaded"
        )
        chain.check(bool(waits), "no mail was told that it could not be served")
        if waits:
            most = waits[len(waits) * 9 // 10]
            chain.notes.append(
                f"told that they cannot be served: {len(waits)}, half of them in "
                f"{waits[len(waits) // 2]:.2f} s, nine of ten in {most:.2f} s, all in "
                f"{waits[-1]:.2f} s"
            )
            chain.check(most <= AT_ONCE, f"nine of ten were told in {most:.1f} s only")
        late = sum(record.get("code") == "timeout" for record in chain.daemon.told("scan"))
        chain.notes.append(f"waited in vain: {late}")
        chain.check(late <= connections * IN_VAIN, f"{late} waited in vain")
        served = sum(record.get("status") == "scored" for record in chain.daemon.told("scan"))
        least = int(deadline / latency) // 2
        chain.check(served > least, f"{served} were served where {least} could be")
        chain.check(chain.stub.peak == 1, f"{chain.stub.peak} model calls at once")
        chain.check(eventually(lambda: chain.stub.active == 0), "a model call goes on for nobody")
        return chain.tally()
