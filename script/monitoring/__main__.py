"""`python -m script.monitoring` writes all files that are made of the table of metrics."""

from pathlib import Path

from script.monitoring import alerts, dashboard, page

ROOT = Path(__file__).resolve().parents[2]


def files() -> dict[Path, str]:
    """What is to stand in which file."""
    return {
        ROOT / "conf/grafana/rspamd-llm.json": dashboard.text(),
        ROOT / "conf/prometheus/rspamd-llm.rules.yml": alerts.text(),
        ROOT / "docs/metrics.md": page.text(),
    }


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
