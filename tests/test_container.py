"""The container and what goes with it beside Mailcow: that the files say what the program expects.

No container is built here.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rspamd_llm import config, postfix

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
MAILCOW = ROOT / "packaging" / "mailcow"
ALLOWED = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK"} | {
    "ENTRYPOINT",
    "CMD",
}


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The Containerfile's steps: instruction and the rest, continued lines joined."""
    lines = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in told)]


def the(steps: list[tuple[str, str]], instruction: str) -> str:
    """What the last step of a kind says: it is the one that counts."""
    return [rest for name, rest in steps if name == instruction][-1]


def mailcow(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((MAILCOW / name).read_text())
    return document


# --- The Containerfile ----------------------------------------------------------------------


def test_every_step_is_one_that_there_is(steps: list[tuple[str, str]]) -> None:
    assert {name for name, _ in steps} <= ALLOWED


def test_what_the_build_needs_is_copied_and_not_held_back(steps: list[tuple[str, str]]) -> None:
    copied = {
        Path(source).name
        for name, rest in steps
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert copied == let_in
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    data = " ".join(setup["options.data_files"].values()).split()
    assert {path.partition("/")[0] for path in data} <= copied


def test_it_runs_as_nobody_of_importance_and_serves(steps: list[tuple[str, str]]) -> None:
    user = the(steps, "USER").partition(":")[0]
    assert user != "0"
    assert f"--uid {user} " in the(steps, "RUN")
    command = json.loads(the(steps, "ENTRYPOINT")) + json.loads(the(steps, "CMD"))
    assert command == ["rspamd-llm", "serve"]


def test_its_health_is_asked_where_the_daemon_tells_it(steps: list[tuple[str, str]]) -> None:
    assert f"http://{config.Metrics().listen}/healthz" in the(steps, "HEALTHCHECK")


def test_its_port_is_the_milters(steps: list[tuple[str, str]]) -> None:
    assert f"inet:{the(steps, 'EXPOSE')}@" in config.Milter().socket


# --- Mailcow --------------------------------------------------------------------------------


def test_the_daemon_and_rspamd_read_the_same_key() -> None:
    services = mailcow("docker-compose.override.yml")["services"]
    ours = services["rspamd-llm-mailcow"]["volumes"]
    (shared,) = services["rspamd-mailcow"]["volumes"]
    assert shared in ours
    assert shared.split(":")[1] == str(Path(config.Trust().key_file).parent)


def test_what_is_remembered_outlives_the_container(steps: list[tuple[str, str]]) -> None:
    override = mailcow("docker-compose.override.yml")
    (volume,) = override["volumes"]
    kept = override["services"]["rspamd-llm-mailcow"]["volumes"]
    assert f"{volume}:{the(steps, 'VOLUME')}" in kept
    assert config.Store().url.startswith(f"sqlite://{the(steps, 'VOLUME')}/")


def test_stopping_has_the_time_that_the_unit_gives() -> None:
    service = mailcow("docker-compose.override.yml")["services"]["rspamd-llm-mailcow"]
    assert service["stop_grace_period"] == f"{config.UNIT_STOP:g}s"


def test_a_searxng_may_be_had_by_taking_away_the_marks() -> None:
    text = (MAILCOW / "docker-compose.override.yml").read_text()
    services = yaml.safe_load(re.sub(r"(?m)^#(  )", r"\1", text))["services"]
    assert set(services) == {"rspamd-llm-mailcow", "rspamd-mailcow", "searxng-mailcow"}
    assert "json" in mailcow("searxng-settings.yml")["search"]["formats"]


def test_the_settings_are_valid_and_reach_all_addresses(steps: list[tuple[str, str]]) -> None:
    settings = config.parse(tomllib.loads((MAILCOW / "rspamd-llm.toml").read_text()))
    assert config.warnings(settings) == ()
    assert settings.milter.socket == f"inet:{the(steps, 'EXPOSE')}@0.0.0.0"


def test_postfix_asks_the_daemon_first_and_never_waits_for_either() -> None:
    text = (MAILCOW / "extra.cf").read_text()
    value = re.sub(r"(?m)^#.*\n", "", text).partition("=")[2]
    defaults = postfix.Settings(
        default_action="tempfail", connect_timeout=30, command_timeout=30, content_timeout=300
    )
    first, second = postfix.entries(value, defaults)
    services = mailcow("docker-compose.override.yml")["services"]
    (alias,) = services["rspamd-llm-mailcow"]["networks"]["mailcow-network"]["aliases"]
    assert first.address == f"inet:{alias}:11390"
    assert second.address == "inet:rspamd:9900"
    assert first.settings.default_action == second.settings.default_action == "accept"
    assert first.settings.content_timeout >= config.Milter().deadline + 30
