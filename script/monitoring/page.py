"""docs/metrics.md: the reference of metrics and alerts, and how both are put to use."""

from __future__ import annotations

from rspamd_llm.metrics.definitions import DEFINITIONS
from rspamd_llm.metrics.kinds import Definition, Group, Unit
from script.monitoring.alerts import ALERTS, Alert
from script.monitoring.promql import JOB

BEGINNING = f"""\
<!-- Made by `python -m script.monitoring`; what it is made of stands there and in
rspamd_llm/metrics. -->

# Metrics and alerts

The daemon tells its numbers at `[metrics] listen` (127.0.0.1:11391), in Prometheus's form:

    curl -s http://127.0.0.1:11391/metrics

Nothing there names an address, a domain or a text of any mail. For Prometheus, in `prometheus.yml`
(the job must be called `{JOB}`, or the alert for a daemon that is down does not know it):

    scrape_configs:
      - job_name: {JOB}
        static_configs:
          - targets: ["127.0.0.1:11391"]
    rule_files:
      - rspamd-llm.rules.yml

Where `token_file` is set, the job needs the token as well, from a file that Prometheus may read:

        authorization:
          credentials_file: /etc/prometheus/rspamd-llm.token

The rules are [conf/prometheus/rspamd-llm.rules.yml](../conf/prometheus/rspamd-llm.rules.yml), for
the folder of `prometheus.yml`. Grafana's dashboard (10.3 and later) is
[conf/grafana/rspamd-llm.json](../conf/grafana/rspamd-llm.json): Dashboards, New, Import. It shows
one daemon or several; choose the Prometheus that has the numbers at its top.

This page, the rules and the dashboard are made of the same table as what the daemon tells. A
counter begins at 0 with each start of the daemon; a histogram `x` is `x_bucket`, `x_sum` and
`x_count`.
"""

ALERTS_TEXT = """\
Thresholds stand in the rules' file; change one there where your mail is different.

| alert | when | for | severity | what to do |
|---|---|---|---|---|
"""


def text() -> str:
    """The whole page."""
    parts = [BEGINNING]
    for group in Group:
        rows = [_row(metric) for metric in DEFINITIONS if metric.group is group]
        parts.append(
            f"## {group.value}\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n"
            + "".join(rows)
        )
    parts.append(f"## Alerts\n\n{ALERTS_TEXT}" + "".join(map(_alert, ALERTS)))
    return "\n".join(parts)


def _row(metric: Definition) -> str:
    # The names of others end in their unit.
    is_told = metric.unit in {Unit.BOOLEAN, Unit.TIME}
    unit = f" ({metric.unit.value})" if is_told else ""
    labels = "; ".join(
        f"`{label}`: {', '.join(filter(None, values))}" if values else f"`{label}`"
        for label, values in metric.labels.items()
    )
    return f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.text}{unit} |\n"


def _alert(alert: Alert) -> str:
    cure = alert.cure.replace("|", "\\|")  # a bar ends a cell
    return f"| {alert.name} | {alert.when} | {alert.minutes} min | {alert.severity} | {cure} |\n"
