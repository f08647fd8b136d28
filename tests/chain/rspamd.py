"""An Rspamd of one's own, with this project's plugin: a temporary configuration, free ports.

The stock configuration stays as it is, but for what would reach the network. Delivered mail
carries every symbol and its points in X-Spamd-Result. Whether a verdict is right is not known
here, nor how one is signed.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.chain.ports import HOST, free_port, wait_for_port

CONF = Path(__file__).parents[2] / "conf" / "rspamd"
_PROGRAM = shutil.which("rspamd")
_STOCK = Path("/etc/rspamd/rspamd.conf")
_USERS = ("_rspamd", "rspamd")  # Debian's name and the name of Rspamd's own packages
_START_SECONDS = 60.0  # a first start compiles every regular expression: 15 s on a slow machine
_STOP_SECONDS = 10.0


def missing_programs() -> list[str]:
    """What a PrivateRspamd needs and this machine lacks."""
    return [] if _PROGRAM and _STOCK.exists() and _user() else ["rspamd"]


def _user() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in _USERS if name in names), None)


class RspamdError(Exception):
    """Rspamd did not start or did not scan; the message carries what it said."""


class PrivateRspamd:
    """Context manager around one Rspamd.

    dns_port  where its DNS questions go (a NxDomainServer)
    keys      lines of the key file; None for no key file at all
    key_mode  its permissions; it belongs to root and to Rspamd's group
    files     further configuration: path below the local folder -> text, such as
              {"local.d/rspamd_llm.conf": "spam_at_least = 0.8;"}; wins over the harness's own
    """

    def __init__(
        self,
        dns_port: int,
        keys: Sequence[str] | None = (),
        files: Mapping[str, str] | None = None,
        *,
        key_mode: int = 0o640,
    ) -> None:
        self.port = free_port()
        self.milter_port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-rspamd-"))
        self.key_file = self.folder / "keys" / "verdict.key"
        self._dns_port = dns_port
        self._keys = keys
        self._key_mode = key_mode
        self._files = dict(files or {})
        self._user = _user() or "root"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def milter(self) -> str:
        """Its address as an entry of smtpd_milters."""
        return f"inet:{HOST}:{self.milter_port}"

    @property
    def url(self) -> str:
        """The address of its HTTP scanning worker."""
        return f"http://{HOST}:{self.port}"

    # -- life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=(self.folder / "log" / "output").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops Rspamd and removes its folder. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- use -------------------------------------------------------------------------------

    def scan(self, mail: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Scans one mail over HTTP and returns Rspamd's answer.

        headers are those of the scan, not of the mail: Queue-Id, User, IP, From, Rcpt ...
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request("POST", "/checkv2", mail, dict(headers or {}))
            reply = connection.getresponse()
            body = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            raise RspamdError(f"{reply.status} {reply.reason}: {body[:500]!r}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def write_keys(self, lines: Sequence[str], *, mode: int = 0o640) -> None:
        """Replaces the key file in one step, as a careful administrator does."""
        fresh = self.key_file.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        os.chown(fresh, 0, pwd.getpwnam(self._user).pw_gid)
        fresh.chmod(mode)
        fresh.replace(self.key_file)

    def log(self) -> str:
        """Everything Rspamd has logged so far."""
        text = ""
        for name in ("rspamd.log", "output"):
            path = self.folder / "log" / name
            if path.exists():
                text += path.read_text("utf-8", "replace")
        return text

    # -- starting --------------------------------------------------------------------------

    def _command(self) -> list[str]:
        command = [_PROGRAM or "rspamd", "-f", "-c", str(_STOCK), "-u", self._user]
        command += ["-g", pwd.getpwnam(self._user).pw_name]
        for name, folder in (
            ("LOCAL_CONFDIR", "etc"),
            ("DBDIR", "db"),
            ("RUNDIR", "run"),
            ("LOGDIR", "log"),
        ):
            command.append(f"--var={name}={self.folder / folder}")
        return command

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RspamdError(f"Rspamd ended while starting:\n{self.log()}")
            if self._pong() and wait_for_port(self.milter_port, 0.1):
                return
            time.sleep(0.05)
        raise RspamdError(f"Rspamd does not answer:\n{self.log()}")

    def _pong(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=1)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    # -- files -----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.folder.chmod(0o755)
        for name in ("etc/local.d", "etc/plugins.d", "db", "run", "log", "keys"):
            (self.folder / name).mkdir(parents=True)
        for name in ("db", "run", "log"):
            shutil.chown(self.folder / name, self._user)
        etc = self.folder / "etc"
        shutil.copy(CONF / "rspamd_llm.lua", etc / "plugins.d")
        shutil.copy(CONF / "rspamd.conf.local", etc)
        shutil.copy(CONF / "groups.conf", etc / "local.d")
        if self._keys is not None:
            self.write_keys(self._keys, mode=self._key_mode)
        for name, text in (self._settings() | self._files).items():
            path = etc / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def _settings(self) -> dict[str, str]:
        cache = _expression_cache(self._user) or self.folder / "db"
        return {
            "override.d/rspamd_llm.conf": f'key_file = "{self.key_file}";\n',
            "local.d/options.inc": f"""
                dns {{ nameserver = ["{HOST}:{self._dns_port}"]; timeout = 0.2s; retransmits = 1; }}
                hs_cache_dir = "{cache}/";
                filters = "chartable,dkim,regexp";
                """,
            "local.d/logging.inc": 'level = "info";\n',
            "local.d/worker-normal.inc": f'bind_socket = "{HOST}:{self.port}"; count = 1;\n',
            "local.d/worker-controller.inc": "enabled = false;\n",
            "local.d/worker-proxy.inc": f"""
                bind_socket = "{HOST}:{self.milter_port}";
                milter = yes;
                upstream "local" {{ default = yes; self_scan = yes; }}
                """,
            "local.d/milter_headers.conf": """
                use = ["x-spamd-result", "x-rspamd-action"];
                skip_local = false;
                skip_authenticated = false;
                """,
        }


def _expression_cache(user: str) -> Path | None:
    """A folder that keeps compiled expressions between runs, so that a start takes a second.

    None when somebody else put a thing of that name there: what lies in it gets executed.
    """
    path = Path(tempfile.gettempdir()) / "rspamd-llm-expressions"
    owner = pwd.getpwnam(user).pw_uid
    try:
        path.mkdir(mode=0o700)
        os.chown(path, owner, -1)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o022:
            return None
    return path
