"""The dashboard, the alert rules and the page of metrics: in step with the table of metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rspamd_llm.metrics import definitions
from rspamd_llm.metrics.definitions import DEFINITIONS
from rspamd_llm.metrics.kinds import Group
from script.monitoring import __main__ as monitoring
from script.monitoring import alerts, dashboard, promql
from script.monitoring.alerts import ALERTS, Alert

FILES = monitoring.files()
TARGET = {"instance", "job"}

_SELECTOR = re.compile(r"\b((?:rspamd_llm|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|=)"([^"]*)"')
_BY = re.compile(r"sum by \(([^)]*)\) \((?:\w+\()?([a-z_]+)")


def series() -> dict[str, frozenset[str]]:
    return {name: labels for metric in DEFINITIONS for name, labels in metric.series.items()}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard.text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Every expression of the rules and of the dashboard."""
    found = {alert.name: alert.expression for alert in ALERTS}
    for panel in panels():
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def faults(expression: str) -> Iterator[str]:
    """What an expression names that the table does not have."""
    known = series()
    for name, matchers in _SELECTOR.findall(expression):
        if name not in known:
            yield name
            continue
        yield from (label for label, _ in _MATCHER.findall(matchers) if not allows(name, label))
    for labels, name in _BY.findall(expression):
        yield from (label for label in labels.split(", ") if not allows(name, label))


def allows(name: str, label: str) -> bool:
    return label in series()[name] | TARGET


class TestFiles:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_each_file_is_up_to_date(self, path: Path) -> None:
        told = path.read_text(encoding="utf-8")
        assert told == FILES[path], "run `python -m script.monitoring`"

    def test_all_are_made_alike_each_time(self) -> None:
        assert monitoring.files() == FILES

    def test_the_page_has_every_metric_and_every_alert(self) -> None:
        (page,) = (text for path, text in FILES.items() if path.suffix == ".md")
        for metric in DEFINITIONS:
            assert f"\n| `{metric.name}` | {metric.kind.value} |" in page
        for alert in ALERTS:
            assert f"\n| {alert.name} |" in page


class TestExpressions:
    @pytest.mark.parametrize("name", expressions())
    def test_each_names_what_the_table_has(self, name: str) -> None:
        expression = expressions()[name]
        assert "up{" in expression or _SELECTOR.search(expression)
        assert list(faults(expression)) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            "rspamd_llm_mesages_total > 0",
            "rspamd_llm_stage_seconds > 0",
            'rspamd_llm_ready{server="x"} == 0',
            "sum by (job, stage) (rate(rspamd_llm_messages_total[5m]))",
        ],
    )
    def test_a_wrong_one_would_be_found(self, wrong: str) -> None:
        assert list(faults(wrong))

    def test_none_can_be_written_with_what_the_table_does_not_have(self) -> None:
        with pytest.raises(ValueError, match="is no series"):
            promql.series(definitions.STAGE_SECONDS)
        with pytest.raises(ValueError, match="is never"):
            promql.series(definitions.MESSAGES, status="scord")
        with pytest.raises(KeyError):
            promql.series(definitions.READY, status="scored")


class TestDashboard:
    def test_it_shows_every_metric_in_the_row_of_its_group(self) -> None:
        shown: dict[str, str] = {}
        row = ""
        for panel in panels():
            if panel["type"] == "row":
                row = panel["title"]
            for target in panel.get("targets", []):
                for name, _ in _SELECTOR.findall(target["expr"]):
                    shown[name.removesuffix("_bucket")] = row
        assert shown == {metric.name: metric.group.value for metric in DEFINITIONS}

    def test_rows(self) -> None:
        rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
        assert rows == [group.value for group in Group]

    def test_panels_do_not_overlap_and_fit_the_width(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells

    def test_panels_are_told_apart_and_each_asks_the_chosen_source(self) -> None:
        drawn = [panel for panel in panels() if panel["type"] != "row"]
        assert len({panel["id"] for panel in panels()}) == len(panels())
        assert len({panel["title"] for panel in drawn}) == len(drawn)
        for panel in drawn:
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            for asked in (panel, *panel["targets"]):
                assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}

    def test_its_variables_and_form(self) -> None:
        document = json.loads(dashboard.text())
        source, instance = document["templating"]["list"]
        assert (source["name"], source["type"], source["query"]) == (
            "datasource",
            "datasource",
            "prometheus",
        )
        assert instance["name"] == "instance"
        assert definitions.READY.name in instance["query"]["query"]
        assert document["schemaVersion"] >= 38  # Grafana 10.0's
        # One of the administrator's own has another number, so that an import makes a new one.
        assert "id" not in document


class TestRules:
    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
    def test_each_alert_says_what_and_what_to_do(self, alert: Alert) -> None:
        assert alert.severity in {"critical", "warning"}
        assert alert.summary.endswith(".")
        assert alert.when
        assert re.search(r"`(rspamd-llm check|systemctl|journalctl)\b[^`]*`", alert.cure)
        # What a template names must be left by the expression.
        named = set(re.findall(r"\$labels\.(\w+)", alert.summary))
        assert named <= set().union(
            *(series()[name] for name, _ in _SELECTOR.findall(alert.expression))
        )

    def test_each_is_in_the_file_as_it_is(self) -> None:
        text = alerts.text()
        for alert in ALERTS:
            assert f"- alert: {alert.name}\n" in text
            assert f"for: {alert.minutes}m\n" in text
            for line in alert.expression.splitlines():
                assert f"          {line}\n" in text

    def test_names_are_told_apart(self) -> None:
        assert len({alert.name for alert in ALERTS}) == len(ALERTS)


# --- What the rules do, in Prometheus's own hands -------------------------------------------

MINUTES = 30
WELL: Mapping[str, str] = {
    "up": "1",
    "rspamd_llm_ready": "1",
    'rspamd_llm_server_up{server="a"}': "1",
    'rspamd_llm_source_up{source="web"}': "1",
    "rspamd_llm_store_up": "1",
    "rspamd_llm_deadline_seconds": "60",
    'rspamd_llm_memory_bytes{process="daemon"}': "150000000",
    'rspamd_llm_memory_bytes{process="readers"}': "50000000",
    'rspamd_llm_memory_bytes{process="helpers"}': "9000000000",
    'rspamd_llm_messages_total{status="scored", code=""}': "0+100",
    'rspamd_llm_messages_total{status="unscored", code="model-invalid"}': "0+1",
    'rspamd_llm_messages_total{status="unscored", code="overloaded"}': "0",
    'rspamd_llm_messages_total{status="unscored", code="timeout"}': "0",
    'rspamd_llm_rspamd_total{outcome="answered"}': "0+100",
    'rspamd_llm_rspamd_total{outcome="late"}': "0+5",
    "rspamd_llm_forged_messages_total": "0+0.1",
    'rspamd_llm_message_seconds_bucket{status="scored", le="10.0"}': "0+100",
    'rspamd_llm_message_seconds_bucket{status="scored", le="30.0"}': "0+100",
    'rspamd_llm_message_seconds_bucket{status="scored", le="60.0"}': "0+100",
    'rspamd_llm_message_seconds_bucket{status="scored", le="+Inf"}': "0+100",
}
"""A daemon that is well: what each series is, or where it begins and how it grows a minute."""

ILL: Mapping[str, Mapping[str, str]] = {
    "RspamdLlmDown": {"up": "0"},
    "RspamdLlmNotReady": {"rspamd_llm_ready": "0"},
    "RspamdLlmServerLeftOut": {'rspamd_llm_server_up{server="a"}': "0"},
    "RspamdLlmUnscored": {
        'rspamd_llm_messages_total{status="unscored", code="model-invalid"}': "0+12"
    },
    "RspamdLlmOverloaded": {
        'rspamd_llm_messages_total{status="unscored", code="overloaded"}': "0+1"
    },
    "RspamdLlmDeadlineReached": {
        'rspamd_llm_messages_total{status="unscored", code="timeout"}': "0+1"
    },
    "RspamdLlmStoreFails": {"rspamd_llm_store_up": "0"},
    "RspamdLlmNoOpinion": {'rspamd_llm_rspamd_total{outcome="late"}': "0+110"},
    "RspamdLlmSourceOpen": {'rspamd_llm_source_up{source="web"}': "0"},
    "RspamdLlmMemory": {'rspamd_llm_memory_bytes{process="readers"}': "900000000"},
    "RspamdLlmSlow": {
        'rspamd_llm_message_seconds_bucket{status="scored", le="10.0"}': "0+10",
        'rspamd_llm_message_seconds_bucket{status="scored", le="30.0"}': "0+10",
    },
}
"""For each alert what is otherwise."""

FORGED = "rspamd_llm_forged_messages_total"
FORGED_ALERT = "RspamdLlmForgedHeaders"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def run(promtool: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [promtool, *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def labelled(name: str) -> str:
    """A series with the labels of the daemon that it comes from."""
    name, _, labels = name.rstrip("}").partition("{")
    own = f", {labels}" if labels else ""
    return f'{name}{{job="rspamd-llm", instance="mx:11391"{own}}}'


def case(values: Mapping[str, str], minutes: int, fires: str) -> dict[str, Any]:
    """A test of promtool's: of all alerts this one fires at that time, and no other."""
    inputs = []
    for name, value in values.items():
        steps = value if "x" in value else f"{value}x{minutes}"
        inputs.append({"series": labelled(name), "values": steps})
    return {
        "interval": "1m",
        "input_series": inputs,
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minutes}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in [fires] if name
                ],
            }
        ],
    }


def judged(promtool: str, folder: Path, cases: list[dict[str, Any]]) -> None:
    """Runs the cases against the rules."""
    (folder / "rules.yml").write_text(alerts.text())
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (folder / "tests.yml").write_text(json.dumps(document))
    run(promtool, "test", "rules", folder / "tests.yml")


class TestInPrometheus:
    def test_the_rules_are_valid(self, promtool: str, tmp_path: Path) -> None:
        path = tmp_path / "rules.yml"
        path.write_text(alerts.text())
        run(promtool, "check", "rules", path)

    def test_every_query_of_the_dashboard_is_valid(self, promtool: str, tmp_path: Path) -> None:
        rules = [
            {"record": f"q{number}", "expr": expression.replace("$__rate_interval", "5m")}
            for number, expression in enumerate(expressions().values())
        ]
        path = tmp_path / "queries.yml"
        path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
        run(promtool, "check", "rules", path)

    def test_each_alert_fires_when_it_should_and_alone(self, promtool: str, tmp_path: Path) -> None:
        assert {alert.name for alert in ALERTS} == {*ILL, FORGED_ALERT}
        day = 24 * 60
        cases = [
            case(WELL, MINUTES, ""),
            *(case({**WELL, **other}, MINUTES, name) for name, other in ILL.items()),
            # Too short to be told.
            *(case({**WELL, **other}, 1, "") for name, other in ILL.items()),
            case({}, MINUTES, "RspamdLlmDown"),
            # A day with a few, then an hour with many; and a day in which many are usual.
            case({**WELL, FORGED: f"0+0.1x{day} {day // 10}+5x60"}, day + 60, FORGED_ALERT),
            case({**WELL, FORGED: "0+5"}, day, ""),
        ]
        judged(promtool, tmp_path, cases)

    def test_a_single_mail_that_was_late_is_no_alert(self, promtool: str, tmp_path: Path) -> None:
        late = 'rspamd_llm_messages_total{status="unscored", code="timeout"}'
        cases = [
            case({**WELL, late: f"0x10 1x{minutes}"}, 10 + minutes, "") for minutes in range(8)
        ]
        judged(promtool, tmp_path, cases)
