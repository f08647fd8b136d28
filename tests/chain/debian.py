"""A Debian of one's own: a fresh one in a temporary folder, booted with its systemd.

It has no network and sees nothing of this machine: systemd-nspawn gives it namespaces of its own,
which end with it, mounts and all.  What is installed in it is not known here.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

BOOT_SECONDS = 120.0
COMMAND_SECONDS = 300.0
END_SECONDS = 30.0
BOOTSTRAP_SECONDS = 900.0
"""What debootstrap may take: it fetches and unpacks some hundred packages."""

_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
)
_UP = ("running", "degraded")


def missing_programs() -> list[str]:
    """What a PrivateDebian needs and this machine lacks."""
    found = [name for name in ("debootstrap", "systemd-nspawn") if shutil.which(name) is None]
    return found if _cgroups() else [*found, "a cgroup v2 hierarchy"]


def release() -> str:
    """The code name of the Debian that this machine runs, such as bookworm."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    fields = dict(line.partition("=")[::2] for line in lines)
    return fields.get("VERSION_CODENAME", "").strip('"')


class DebianError(Exception):
    """It could not be made or booted; the message says how far it came."""


class PrivateDebian:
    """Context manager around one.  `packages` are there beside the essential ones."""

    def __init__(self, packages: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-debian-"))
        self.root = self.folder / "root"
        self._packages = ("dbus", "systemd", "systemd-sysv", *packages)
        # Not the folder's: that may have characters which no machine's name has.
        self._name = f"rspamd-llm-{secrets.token_hex(6)}"
        self._cgroup = Path(_cgroups()) / self._name
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        try:
            self._unpack()
            self._boot()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _unpack(self) -> None:
        # What it mounts in the folder is gone with it, even if it is cut short.
        command = [
            "unshare",
            "--mount",
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(self._packages)}",
        ]
        try:
            done = subprocess.run(
                [*command, release(), str(self.root)],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BOOTSTRAP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DebianError("debootstrap did not come to its end") from error
        if done.returncode != 0:
            raise DebianError(f"debootstrap failed: {(done.stdout + done.stderr)[-2000:]}")

    def _boot(self) -> None:
        # A cgroup of its own: nspawn divides the one that it is started in, and all of it is ended
        # and removed by its name.
        self._cgroup.mkdir()
        machine = (
            "systemd-nspawn --boot --quiet --register=no --keep-unit --private-network "
            f"--console=passive --machine={self._name} --directory={self.root}"
        )
        log = self.folder / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                ["sh", "-c", f"echo $$ >{self._cgroup}/cgroup.procs && exec {machine}"],
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        until = time.monotonic() + BOOT_SECONDS
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > until:
                raise DebianError(f"it did not boot:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.1)

    def _is_up(self) -> bool:
        try:
            scope = self._cgroup / "payload/init.scope/cgroup.procs"
            self._leader = int(scope.read_text(encoding="ascii").split()[0])
        except (OSError, IndexError, ValueError):
            return False
        return self.run("systemctl", "is-system-running", check=False).strip() in _UP

    def run(self, *command: str, check: bool = True, errors: bool = True, put: str = "") -> str:
        """Runs a command in it as root, with `put` on its standard input.

        Returns what it printed, without its standard error where `errors` is not set.  Raises
        DebianError with that where it fails and `check` is set.
        """
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "env", "-i", *_ENVIRONMENT, *command],
            input=put,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise DebianError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}")
        return done.stdout

    def end(self) -> None:
        """Ends and removes it.  May be called twice."""
        if self._process is not None:
            (self._cgroup / "cgroup.kill").write_text("1", encoding="ascii")
            self._process.wait()
            self._process = None
        if self._cgroup.exists():
            self._remove_cgroup()
        # Its mounts were in its own namespace, which is gone: what is here is the folder alone.
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(f"/run/systemd/nspawn/propagate/{self._name}", ignore_errors=True)

    def _remove_cgroup(self) -> None:
        until = time.monotonic() + END_SECONDS
        while "populated 1" in (self._cgroup / "cgroup.events").read_text(encoding="ascii"):
            if time.monotonic() > until:
                raise DebianError(f"there are still processes in {self._cgroup}")
            time.sleep(0.05)
        folders = [path for path in self._cgroup.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, reverse=True), self._cgroup]:
            folder.rmdir()


def _cgroups() -> str:
    """Where the cgroup v2 hierarchy is mounted; empty where it is not."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return next((line.split()[1] for line in mounts if line.split()[2] == "cgroup2"), "")
