"""The Debian package on a fresh Debian with systemd and Postfix: from installing to purging.

Slow: it builds the package and fetches a Debian, so that it runs only where it is asked for.  The
daemon runs under its unit, with everything that locks it down in force.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests import waiting
from tests.chain import debian as debian_module
from tests.chain.debian import DebianError, PrivateDebian

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/lib/rspamd-llm/bin/python3"
CONFIG = Path("/etc/rspamd-llm/rspamd-llm.toml")
KEY = Path("/etc/rspamd-llm/verdict.key")
SOCKET = "/var/spool/postfix/rspamd-llm/milter.sock"
DROP_INS = Path("/etc/systemd/system/rspamd-llm.service.d")
EXAMPLES = Path("/usr/share/doc/rspamd-llm/examples/rspamd-llm.service.d")

SETTINGS: dict[str, dict[str, Any]] = {
    "milter": {"socket": f"unix:{SOCKET}"},
    "llm": {"engine": "embedded", "model": "builtin"},
    "evidence": {"dns": False, "registration": False},
    "search": {"provider": "none"},
    "gate": {"skip_networks": []},
    "store": {"verdict_ttl": 0},
}
MILTER = "{ unix:rspamd-llm/milter.sock, default_action=tempfail, content_timeout=90s }"
SEND = """
import smtplib
with smtplib.SMTP("127.0.0.1", timeout=120) as line:
    line.sendmail("eve@example.net", ["bob@example.org"],
        b"From: eve@example.net\\r\\nTo: bob@example.org\\r\\nSubject: Your parcel\\r\\n\\r\\n"
        b"Pay the fee of 2 EUR at http://parcel.example/ or it goes back.\\r\\n")
"""

pytestmark = pytest.mark.package


def give_up(reason: str) -> None:
    """It was asked for, and cannot run."""
    pytest.fail(reason)


@pytest.fixture(scope="module")
def package() -> Path:
    """The package, built from this tree."""
    if not os.environ.get("PACKAGE"):
        pytest.skip("slow, and fetches a Debian: PACKAGE=1 script/test -m package runs it")
    missing = debian_module.missing_programs()
    if missing:
        give_up(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        give_up("only root can start a Debian of its own")
    built = subprocess.run(
        [ROOT / "script/package"], capture_output=True, text=True, timeout=1800, check=False
    )
    if built.returncode != 0:
        give_up(f"script/package failed: {built.stderr[-2000:]}")
    return ROOT / built.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def debian(package: Path) -> Iterator[PrivateDebian]:
    """A Debian with Postfix and what the package depends on, and the package just installed."""
    depends = field(package, "Depends").split(", ")
    machine = PrivateDebian([*depends, "postfix"])
    try:
        machine.__enter__()
    except DebianError as error:
        give_up(str(error))
    try:
        machine.run("groupadd", "--system", "_rspamd")  # all of Rspamd that matters here
        install(machine, package)
        yield machine
    finally:
        machine.end()


@pytest.fixture(scope="module")
def serving(debian: PrivateDebian) -> PrivateDebian:
    """The same, judging what Postfix takes, over a unix socket and with the builtin model."""
    write(debian, CONFIG, tomli_w.dumps(SETTINGS))
    debian.run("useradd", "--create-home", "bob")
    debian.run("postconf", "-e", f"smtpd_milters={MILTER}", "mydestination=example.org,localhost")
    debian.run("postfix", "reload")
    debian.run("systemctl", "restart", "rspamd-llm")
    return debian


def field(package: Path, name: str) -> str:
    """A field of a package's description."""
    return subprocess.check_output(["dpkg-deb", "--field", package, name], text=True).strip()


def install(machine: PrivateDebian, package: Path) -> None:
    target = machine.root / "root" / package.name
    target.write_bytes(package.read_bytes())
    # By the archive's tool, which insists on the dependencies; all of them are there already.
    machine.run("apt-get", "install", "--yes", f"/root/{package.name}")
    target.unlink()


def inside(machine: PrivateDebian, path: Path) -> Path:
    """Where a file of the machine's disk is seen from here."""
    return machine.root / path.relative_to("/")


def write(machine: PrivateDebian, path: Path, text: str) -> None:
    inside(machine, path).parent.mkdir(parents=True, exist_ok=True)
    inside(machine, path).write_text(text, encoding="utf-8")


def unit(machine: PrivateDebian, name: str) -> str:
    """A property of the daemon's unit."""
    return machine.run("systemctl", "show", "--value", "-p", name, "rspamd-llm").strip()


def status(machine: PrivateDebian, path: Path) -> str:
    """Owner, group and mode of a file."""
    return machine.run("stat", "-c", "%U %G %a", str(path)).strip()


def until(holds: Callable[[], bool], told: Callable[[], str]) -> None:
    """Waits for something; where it never comes, fails with what is told."""
    end = time.monotonic() + waiting.SECONDS
    while not holds():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def journal(machine: PrivateDebian) -> str:
    return machine.run("journalctl", "--no-pager", "--lines=60")


def judged(machine: PrivateDebian) -> str:
    """Sends a mail through Postfix and returns it as it was delivered."""
    box = inside(machine, Path("/var/mail/bob"))
    box.unlink(missing_ok=True)
    machine.run(PYTHON, "-", put=SEND)

    def delivered() -> bool:
        return box.exists() and "parcel.example" in box.read_text()

    until(delivered, lambda: journal(machine))
    return box.read_text()


@contextlib.contextmanager
def drop_in(machine: PrivateDebian, name: str) -> Iterator[None]:
    """The daemon, started again with one of the examples that come with the package."""
    write(machine, DROP_INS / name, inside(machine, EXAMPLES / name).read_text())
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "rspamd-llm")
    try:
        yield
    finally:
        inside(machine, DROP_INS / name).unlink()
        machine.run("systemctl", "daemon-reload")


# --- Installed ------------------------------------------------------------------------------


def test_installing_starts_the_daemon_now_and_at_each_boot(debian: PrivateDebian) -> None:
    assert unit(debian, "ActiveState") == "active", journal(debian)
    assert debian.run("systemctl", "is-enabled", "rspamd-llm").strip() == "enabled"
    assert debian.run("systemctl", "--failed", "--quiet", "--no-legend").strip() == ""


def test_it_makes_a_key_for_the_daemon_and_rspamd_alone(debian: PrivateDebian) -> None:
    assert status(debian, KEY) == "rspamd-llm _rspamd 640"
    assert status(debian, KEY.parent) == "root root 755"
    assert status(debian, Path("/var/lib/rspamd-llm")) == "rspamd-llm rspamd-llm 700"


def test_the_unit_has_no_fault_and_finds_the_manual(debian: PrivateDebian) -> None:
    assert debian.run("systemd-analyze", "verify", "--man=no", "rspamd-llm.service") == ""


def test_check_finds_the_daemon_and_the_key(debian: PrivateDebian) -> None:
    told = json.loads(debian.run("rspamd-llm", "check", "--json", check=False, errors=False))
    found = {row["check"]: row["status"] for row in told["checks"]}
    assert found["socket"] == "ok", told
    assert found["key"] == "ok", told


# --- At work --------------------------------------------------------------------------------


def test_mail_through_a_chrooted_postfix_is_judged(serving: PrivateDebian) -> None:
    chrooted = serving.run("postconf", "-F", "smtp/inet/chroot")
    assert chrooted.split() == ["smtp/inet/chroot", "=", "y"]
    assert "\nX-GPT-Status: scored\n" in judged(serving)
    assert status(serving, Path(SOCKET)) == "rspamd-llm postfix 660"


def test_postfix_has_nothing_against_the_folder_in_its_queue(serving: PrivateDebian) -> None:
    assert serving.run("postfix", "check").strip() == ""


def test_a_reload_keeps_the_process(serving: PrivateDebian) -> None:
    before = unit(serving, "MainPID")
    serving.run("systemctl", "reload", "rspamd-llm")
    assert "\nX-GPT-Status: scored\n" in judged(serving)
    assert unit(serving, "MainPID") == before


def test_the_watchdog_is_fed(serving: PrivateDebian) -> None:
    until(lambda: unit(serving, "WatchdogTimestampMonotonic") != "0", lambda: journal(serving))
    assert unit(serving, "WatchdogUSec") == "1min"


def test_a_daemon_that_dies_is_started_again(serving: PrivateDebian) -> None:
    before = unit(serving, "MainPID")
    serving.run("systemctl", "kill", "--signal=SEGV", "--kill-whom=main", "rspamd-llm")
    until(lambda: unit(serving, "MainPID") not in ("0", before), lambda: journal(serving))
    until(lambda: unit(serving, "ActiveState") == "active", lambda: journal(serving))
    assert "\nX-GPT-Status: scored\n" in judged(serving)


def test_keys_may_come_as_credentials(serving: PrivateDebian) -> None:
    """With the drop-in that comes as an example, and the settings that its comments name."""
    comments = inside(serving, EXAMPLES / "credentials.conf").read_text()
    named = re.findall(r"(?m)^# +\[(\w+)\] +(\w+) = \"(.+)\"$", comments)
    settings = {section: dict(values) for section, values in SETTINGS.items()}
    for section, name, path in named:
        settings.setdefault(section, {})[name] = path
        on_disk = CONFIG.parent / Path(path).name
        if on_disk != KEY:
            write(serving, on_disk, "secret\n")
        serving.run("chown", "root:root", str(on_disk))
        serving.run("chmod", "600", str(on_disk))
    write(serving, CONFIG, tomli_w.dumps(settings))
    try:
        with drop_in(serving, "credentials.conf"):
            assert len(named) == 4
            for _, _, path in named:
                assert status(serving, Path(path)).split()[-1] in ("400", "440"), path
            assert "\nX-GPT-Status: scored\n" in judged(serving)
    finally:
        serving.run("chown", "rspamd-llm:_rspamd", str(KEY))
        serving.run("chmod", "640", str(KEY))
        write(serving, CONFIG, tomli_w.dumps(SETTINGS))
        serving.run("systemctl", "restart", "rspamd-llm")


def test_it_runs_with_what_a_gpu_needs(serving: PrivateDebian) -> None:
    with drop_in(serving, "gpu.conf"):
        assert unit(serving, "PrivateDevices") == "no"
        assert "char-nvidia* rw" in unit(serving, "DeviceAllow")
        assert "\nX-GPT-Status: scored\n" in judged(serving)
    serving.run("systemctl", "restart", "rspamd-llm")


def test_it_stops_within_its_time_and_leaves_no_process(serving: PrivateDebian) -> None:
    serving.run("systemctl", "stop", "rspamd-llm")
    assert unit(serving, "Result") == "success"
    assert serving.run("pgrep", "-u", "rspamd-llm", check=False) == ""
    serving.run("systemctl", "start", "rspamd-llm")


# --- Its end: these come last ---------------------------------------------------------------


def test_an_upgrade_restarts_the_daemon_and_keeps_what_is_set(
    serving: PrivateDebian, package: Path, tmp_path: Path
) -> None:
    key = inside(serving, KEY).read_text()
    before = unit(serving, "MainPID")
    install(serving, newer(package, tmp_path))
    assert unit(serving, "MainPID") not in ("0", before)
    assert inside(serving, KEY).read_text() == key
    assert inside(serving, CONFIG).read_text() == tomli_w.dumps(SETTINGS)
    assert "\nX-GPT-Status: scored\n" in judged(serving)


def newer(package: Path, folder: Path) -> Path:
    """The same package as a later version."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "tree"], check=True)
    control = folder / "tree/DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+later", text), encoding="utf-8")
    target = folder / "later.deb"
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", "-z1", folder / "tree", target], check=True)
    return target


def test_removal_keeps_settings_and_purging_leaves_the_user_alone(serving: PrivateDebian) -> None:
    mine = CONFIG.parent / "allow.txt"
    write(serving, mine, "example.org\n")
    serving.run("dpkg", "--remove", "rspamd-llm")
    assert serving.run("pgrep", "-u", "rspamd-llm", check=False) == ""
    assert found(serving, "/usr", "/run") == set()
    assert inside(serving, KEY).exists()
    assert inside(serving, CONFIG).exists()

    serving.run("dpkg", "--purge", "rspamd-llm")
    assert found(serving, "/usr", "/etc", "/var", "/run") == {"/etc/rspamd-llm"}
    assert inside(serving, mine).read_text() == "example.org\n"
    assert serving.run("getent", "passwd", "rspamd-llm").startswith("rspamd-llm:")


def found(machine: PrivateDebian, *folders: str) -> set[str]:
    """What of the machine's disk bears our name; the journal and dpkg's own logs apart."""
    told = machine.run("find", *folders, "-xdev", "-name", "*rspamd-llm*", "-prune", "-print")
    return set(told.split())
