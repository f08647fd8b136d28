"""Prometheus's alert rules: when somebody should look, and what he can do then.

https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rspamd_llm.domain import Failure
from rspamd_llm.metrics import definitions as metrics
from rspamd_llm.metrics import process
from script.monitoring.promql import JOB, TARGET, increase, quantile, rate, series, total

UNSCORED_SHARE = 0.10
"""Share of the mail to be judged that may go without a verdict for a while: a server that restarts
costs less."""

NO_OPINION_SHARE = 0.5
"""Share of questions to Rspamd that may go unanswered: some always come late."""

NEAR_DEADLINE = 0.8
"""Share of the deadline from which on a bit more load costs verdicts."""

FORGED, FORGED_TIMES = 50, 5
"""Messages with forged headers in an hour, and how many times the usual: mail that another
rspamd-llm has seen brings some every day."""

MEMORY = 1_000_000_000
"""Bytes: the daemon's bound under the heaviest load tried is 782 MB (docs/reliability.md)."""

CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule."""

    name: str
    expression: str
    minutes: int
    """For which it must hold."""
    when: str
    """What the expression says, in words."""
    severity: str
    summary: str
    """What has happened; `{{ }}` as Prometheus's templates have it."""
    cure: str
    """What to do, with a command."""


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _unscored(code: Failure) -> str:
    """Messages of the last five minutes that went unscored with this code.

    A single one counts for less than five minutes, so that with `for` it brings no alert.
    """
    counted = series(metrics.MESSAGES, status="unscored", code=code.value)
    return f"{total(increase(counted, '5m'), *TARGET)} > 0"


def _share(part: str, whole: str, most: float) -> str:
    """Whether a part of what was counted in ten minutes is more than a share of the whole."""
    shares = [total(rate(counted, "10m"), *TARGET) for counted in (part, whole)]
    return f"{shares[0]}\n  / {shares[1]}\n  > {most:g}"


def _surge(counted: str) -> str:
    """Whether an hour has far more than the hours of the day before it."""
    hour = total(increase(counted, "1h"), *TARGET)
    day = total(increase(counted, "1d", "1h"), *TARGET)
    return f"{hour} > {FORGED}\nand\n{hour}\n  > {FORGED_TIMES} * {day} / 24"


_UP = f"up{{job={json.dumps(JOB)}}}"
_BUCKETS = rate(series(metrics.MESSAGE_SECONDS, "bucket", status=("scored", "unscored")), "10m")

ALERTS = (
    Alert(
        name="RspamdLlmDown",
        expression=f"{_UP} == 0 or absent({_UP})",
        minutes=2,
        when="the port does not answer, or Prometheus does not know the job",
        severity=CRITICAL,
        summary="rspamd-llm is down, or does not answer: mail passes by Postfix's default_action, "
        "without verdicts.",
        cure="`systemctl status rspamd-llm` and `journalctl -u rspamd-llm -n 50` tell why; "
        "`systemctl restart rspamd-llm` starts it anew.",
    ),
    Alert(
        name="RspamdLlmNotReady",
        expression=f"{series(metrics.READY)} == 0",
        minutes=2,
        when="no model server is well, or the daemon stops",
        severity=CRITICAL,
        summary="No model server is well: mail passes unscored.",
        cure="`rspamd-llm check` names each server and what is wrong with it.",
    ),
    Alert(
        name="RspamdLlmServerLeftOut",
        expression=f"{series(metrics.SERVER_UP)} == 0",
        minutes=5,
        when="the breaker of a model server is open",
        severity=WARNING,
        summary="The model server {{ $labels.server }} fails and is left out.",
        cure="`rspamd-llm check` tries it; for Ollama see `journalctl -u ollama -n 50` over there.",
    ),
    Alert(
        name="RspamdLlmUnscored",
        expression=_share(
            series(metrics.MESSAGES, status="unscored"),
            series(metrics.MESSAGES, status=("scored", "unscored")),
            UNSCORED_SHARE,
        ),
        minutes=10,
        when=f"more than {_percent(UNSCORED_SHARE)} of the mail that was to be judged in ten "
        "minutes is unscored",
        severity=CRITICAL,
        summary="{{ $value | humanizePercentage }} of the mail that was to be judged has no "
        "verdict.",
        cure='`journalctl -u rspamd-llm --since "-15 min" | grep status=unscored` has the codes '
        "and causes; `rspamd-llm check` tries the model.",
    ),
    Alert(
        name="RspamdLlmOverloaded",
        expression=_unscored(Failure.OVERLOADED),
        minutes=5,
        when="mail went unscored as overloaded in the last five minutes",
        severity=WARNING,
        summary="More mail comes than the model can judge in time; the surplus passes unscored.",
        cure="`rspamd-llm check` tells how long an answer takes; raise llm.concurrency as far as "
        "the servers go, add a server, or ask less often (docs/how-often.md).",
    ),
    Alert(
        name="RspamdLlmDeadlineReached",
        expression=_unscored(Failure.TIMEOUT),
        minutes=5,
        when="mail went unscored for want of time in the last five minutes",
        severity=WARNING,
        summary="Mail reaches its deadline without a verdict.",
        cure='`journalctl -u rspamd-llm --since "-15 min" | grep code=timeout` shows which stage '
        "takes the time; `rspamd-llm check` tells how long an answer takes.",
    ),
    Alert(
        name="RspamdLlmStoreFails",
        expression=f"{series(metrics.STORE_UP)} == 0",
        minutes=5,
        when="the store fails",
        severity=WARNING,
        summary="The store fails: verdicts and look-ups are remembered in memory alone.",
        cure="`rspamd-llm check` says why; `df -h /var/lib/rspamd-llm` shows a full disk.",
    ),
    Alert(
        name="RspamdLlmNoOpinion",
        expression=_share(
            series(metrics.RSPAMD, outcome=("failed", "late", "refused")),
            series(metrics.RSPAMD, outcome=("answered", "failed", "late", "refused")),
            NO_OPINION_SHARE,
        ),
        minutes=10,
        when=f"Rspamd left more than {_percent(NO_OPINION_SHARE)} of the questions of ten minutes "
        "unanswered",
        severity=WARNING,
        summary="Rspamd does not give its opinion: the model is asked about each mail.",
        cure="`rspamd-llm check` says why; `systemctl status rspamd` shows whether it runs.",
    ),
    Alert(
        name="RspamdLlmSourceOpen",
        expression=f"{series(metrics.SOURCE_UP)} == 0",
        minutes=15,
        when="the breaker of an evidence source is open",
        severity=WARNING,
        summary="The evidence source {{ $labels.source }} fails and is left alone: mail is judged "
        "without it.",
        cure="`rspamd-llm check` tries it; where a search engine has banned this machine, choose "
        "another in [search].",
    ),
    Alert(
        name="RspamdLlmForgedHeaders",
        expression=_surge(series(metrics.FORGED_MESSAGES)),
        minutes=0,
        when=f"more than {FORGED} messages of an hour, and more than {FORGED_TIMES} times as many "
        "as in an hour of the day before, brought X-GPT headers",
        severity=WARNING,
        summary="{{ $value | humanize }} messages within an hour brought X-GPT headers of their "
        "own: somebody may be trying to pass for judged.",
        cure="They were deleted. `rspamd-llm check` shows that key and plugin are in order, "
        "so that nobody believes such headers; Postfix's log names the clients.",
    ),
    Alert(
        name="RspamdLlmMemory",
        expression=total(series(metrics.MEMORY, process=(process.DAEMON, process.READERS)), *TARGET)
        + f" > {MEMORY}",
        minutes=15,
        when=f"the daemon and its readers take more than {MEMORY / 1e6:.0f} MB",
        severity=WARNING,
        summary="The daemon and its readers take {{ $value | humanize1024 }}B of memory.",
        cure="`systemctl status rspamd-llm` shows the processes; `systemctl restart rspamd-llm` "
        "gives the memory back. Please report it.",
    ),
    Alert(
        name="RspamdLlmSlow",
        expression=f"{quantile(0.95, total(_BUCKETS, *TARGET, 'le'))}\n"
        f"  > {NEAR_DEADLINE:g} * {total(series(metrics.DEADLINE), *TARGET)}",
        minutes=10,
        when=f"one mail in twenty takes more than {_percent(NEAR_DEADLINE)} of the deadline; of "
        "deadlines above 75 s never, as the histogram ends at 60 s",
        severity=WARNING,
        summary="One mail in twenty takes {{ $value | humanizeDuration }} and more, close to the "
        "deadline.",
        cure="`rspamd-llm check` tells how long an answer takes; a smaller model, more servers, or "
        "asking less often (docs/how-often.md) makes it less.",
    ),
)


def text() -> str:
    """The rules' file.  Its strings are written as JSON has them, which YAML understands."""
    lines = [
        "# Made by `python -m script.monitoring`; what it is made of stands in script/monitoring",
        "# and rspamd_llm/metrics.  The scrape job must be called " + JOB + ": docs/metrics.md.",
        "groups:",
        "  - name: rspamd-llm",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            "        expr: |-",
            *(f"          {line}" for line in alert.expression.splitlines()),
            f"        for: {alert.minutes}m",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          cure: {json.dumps(alert.cure)}",
        ]
    return "\n".join(lines) + "\n"
