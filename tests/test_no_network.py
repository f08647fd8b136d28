"""With all lookups switched off nothing is reached but the model server: told by the kernel.

A scan runs in a network namespace of its own, which has a loopback and no route.  What it tries
there, the namespace's counters know, whichever library tried.  The resolver's files are empty in
it.  As a program this module is what runs inside: `python -m tests.test_no_network FOLDER`.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from bench.stubmodel import StubModel

ROOT = Path(__file__).resolve().parents[1]
MAILS = (
    "demo/02-newsletter.eml",
    "demo/04-parcel-phish.eml",
    "mails/look-alike.eml",
    "mails/newsletter.eml",
)
ENVELOPE = ("--ip", "9.20.30.40", "--helo", "mx.sender.example", "--from", "a@sender.example")
RECIPIENTS = ("--rcpt", "bob@house.example", "--rcpt", "carol@other.example")
COUNTERS = {
    "/proc/net/snmp": ("IpOutNoRoutes", "UdpOutDatagrams", "TcpActiveOpens", "TcpAttemptFails"),
    "/proc/net/snmp6": ("Ip6OutNoRoutes", "Udp6OutDatagrams"),
}
RESOLVER = ("resolv.conf", "hosts", "nsswitch.conf")
UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")
NOWHERE = "198.51.100.53"
"""An address that a name server or a search engine could have (RFC 5737)."""

OFF: dict[str, dict[str, Any]] = {
    "evidence": {
        "dns": False,
        "authentication": "header",
        "trusted_authserv": ["mx.house.example"],
        "registration": False,
        "timeout": 1.0,
    },
    "search": {"provider": "none", "timeout": 1.0},
}


# --- Inside ---------------------------------------------------------------------------------


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = 1  # IFF_UP of netdevice(7)
        request = struct.pack("16sH14x", b"lo", up)
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def empty_resolver() -> None:
    for name in RESOLVER:
        path = Path("/etc", name)
        if path.exists():
            subprocess.run(["mount", "--bind", "/dev/null", str(path)], check=True)


def counters() -> dict[str, int]:
    """The namespace's counters: `/proc/net/snmp` has a line of names above each of numbers."""
    found: dict[str, int] = {}
    lines = Path("/proc/net/snmp").read_text().splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=True):
        group, _, rest = names.partition(":")
        for name, number in zip(rest.split(), numbers.split()[1:], strict=True):
            found[group + name] = int(number)
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        name, number = line.split()
        found[name] = int(number)
    return {name: found[name] for names in COUNTERS.values() for name in names}


def inside(folder: Path) -> None:
    """Scans with the folder's settings, and tells what was tried meanwhile."""
    raise_loopback()
    empty_resolver()
    document = json.loads((folder / "settings.json").read_text())
    with StubModel.running() as stub:
        document["llm"] = {"base_url": stub.base_url, "model": "stub"}
        path = folder / "rspamd-llm.toml"
        path.write_text(tomli_w.dumps(document))
        command = [sys.executable, "-m", "rspamd_llm", "scan", "-c", str(path), "--json"]
        mails = [str(ROOT / "tests" / "data" / name) for name in MAILS]
        before = counters()
        done = subprocess.run(
            [*command, *ENVELOPE, *RECIPIENTS, *mails], capture_output=True, text=True, check=False
        )
        after = counters()
        told = {
            "tried": {name: after[name] - before[name] for name in after},
            "connections": stub.connections,
            "calls": stub.calls,
            "rows": done.stdout.splitlines(),
            "errors": done.stderr,
        }
    print(json.dumps(told))


# --- Outside --------------------------------------------------------------------------------


@functools.cache
def why_not() -> str:
    """Why there can be no namespace here; empty where there can be one."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    trial = "mount --bind /dev/null /etc/resolv.conf"
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", trial], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


def scanned(folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """What came of a scan in a namespace, with everything off but for what is given."""
    if why := why_not():
        pytest.skip(f"no network namespace can be made: {why}")
    document = {name: OFF[name] | sections.get(name, {}) for name in OFF}
    (folder / "settings.json").write_text(json.dumps(document))
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.test_no_network", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    rows = [json.loads(row) for row in told["rows"]]
    assert [row["status"] for row in rows] == ["scored"] * len(MAILS), told
    assert told["calls"] == len(MAILS)
    return told


def test_with_all_lookups_off_nothing_but_the_model_server_is_reached(tmp_path: Path) -> None:
    told = scanned(tmp_path)
    # One to ask, which may serve the next mail too, and one more where the server is asked how it
    # counts.
    assert 1 <= told["connections"] <= 2 * len(MAILS)
    none = dict.fromkeys((name for names in COUNTERS.values() for name in names), 0)
    assert told["tried"] == none | {"TcpActiveOpens": told["connections"]}
    assert told["errors"] == ""


CONTROLS: dict[str, dict[str, dict[str, Any]]] = {
    "the system's resolver": {"evidence": {"dns": True}},
    "dns": {"evidence": {"dns": True, "nameservers": [NOWHERE]}},
    "authentication": {"evidence": {"authentication": "auto", "nameservers": [NOWHERE]}},
    "registration": {"evidence": {"registration": True, "nameservers": [NOWHERE]}},
    "searxng": {"search": {"provider": "searxng", "url": f"http://{NOWHERE}:8888"}},
    # In a process of its own, with a resolver of its own.
    "ddgs": {"search": {"provider": "ddgs"}},
}


@pytest.mark.parametrize("control", CONTROLS)
def test_the_counters_tell_of_each_lookup_that_is_on(tmp_path: Path, control: str) -> None:
    told = scanned(tmp_path, **CONTROLS[control])
    assert sum(told["tried"].values()) > told["connections"], told["tried"]


if __name__ == "__main__":
    inside(Path(sys.argv[1]))
