"""A Postfix of one's own: a started instance in a temporary folder, on a free port.

It takes mail for one domain over SMTP, shows it to the milters it is given, and puts it into one
maildir. It sends nothing outwards, asks no DNS, and never reads or writes /etc/postfix. What
milters or mail look like is not known here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chain.ports import HOST, free_port, wait_for_port

DOMAIN = "example.org"
_PROGRAM = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "postfix"
_START_SECONDS = 20.0
_STOP_SECONDS = 20.0

# service, type, command: no chroot, no second instance of what speaks to the outside.
_MASTER = """
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


def missing_programs() -> list[str]:
    """What a PrivatePostfix needs and this machine lacks."""
    return [] if Path(_PROGRAM).is_absolute() else ["postfix"]


def queue_id(reply: str) -> str:
    """The queue ID in the reply to the end of DATA."""
    found = re.search(r"queued as (\w+)", reply)
    if found is None:
        raise PostfixError(f"no queue ID in {reply!r}")
    return found[1]


class PostfixError(Exception):
    """Postfix did not start; the message carries its log."""


class PrivatePostfix:
    """Context manager around one Postfix instance.

    milters       entries of smtpd_milters in Postfix's own syntax, asked in this order
    parameters    further main.cf parameters, which win over the ones set here
    """

    def __init__(
        self, milters: Sequence[str] = (), parameters: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rspamd-llm-postfix-"))
        self._config = self.folder / "etc"
        self._inbox = self.folder / "mail" / "inbox"
        self._log_file = self.folder / "log" / "mail.log"
        self._milters = tuple(milters)
        self._parameters = dict(parameters or {})
        self._taken: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._process = subprocess.Popen(
                [_PROGRAM, "-c", str(self._config), "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if not wait_for_port(self.port, _START_SECONDS):
                raise PostfixError(f"nothing answers on port {self.port}:\n{self.log()}")
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
        """Stops the instance and removes its folder. May be called twice."""
        if self._process is not None:
            # What we started is a shell script that waits for the master: it is the master that
            # must be told. It passes the signal on to its children, which share our session.
            self._signal_master(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal_master(self, number: signal.Signals) -> None:
        try:
            pid = int((self.folder / "queue/pid/master.pid").read_text())
            os.kill(pid, number)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            assert self._process is not None
            self._process.send_signal(number)

    # -- use -------------------------------------------------------------------------------

    def send(
        self,
        mail: bytes,
        sender: str = "sender@example.net",
        recipients: Sequence[str] = (f"bob@{DOMAIN}",),
        *,
        helo: str = "mail.example.net",
        client: str | None = None,
        login: str | None = None,
        timeout: float = 120.0,
    ) -> tuple[int, str]:
        """Sends one mail and returns the first refusal, or the reply to the end of DATA.

        client    the address the mail shall seem to come from (XCLIENT); 127.0.0.1 without it
        login     the user name the client shall seem to have logged in with
        """
        with smtplib.SMTP(HOST, self.port, local_hostname=helo, timeout=timeout) as smtp:
            smtp.ehlo()
            if client is not None or login is not None:
                self._claim(smtp, client or HOST, login)
            code, reply = smtp.mail(sender)
            if code != 250:
                return code, reply.decode("utf-8", "replace")
            for recipient in recipients:
                code, reply = smtp.rcpt(recipient)
                if code != 250:
                    return code, reply.decode("utf-8", "replace")
            try:
                code, reply = smtp.data(re.sub(rb"(?<!\r)\n", b"\r\n", mail))
            except smtplib.SMTPDataError as error:
                code, text = error.smtp_code, error.smtp_error
                reply = text if isinstance(text, bytes) else text.encode()
            return code, reply.decode("utf-8", "replace")

    @staticmethod
    def _claim(smtp: smtplib.SMTP, client: str, login: str | None) -> None:
        address = f"IPV6:{client}" if ":" in client else client
        command = f"XCLIENT NAME=[UNAVAILABLE] ADDR={address}"
        if login is not None:
            command += f" LOGIN={login}"
        code, reply = smtp.docmd(command)
        if code != 220:
            raise PostfixError(f"XCLIENT: {code} {reply!r}")
        smtp.ehlo()

    def wait_delivered(self, n: int = 1, timeout: float = 20.0) -> list[bytes]:
        """The next n delivered mails, oldest first, each handed out once.

        Fewer when the time runs out: the caller's assertion then shows what came.
        """
        deadline = time.monotonic() + timeout
        while True:
            fresh = sorted(
                (path for path in self._inbox.glob("new/*") if path.name not in self._taken),
                key=lambda path: path.stat().st_mtime_ns,
            )[:n]
            if len(fresh) == n or time.monotonic() >= deadline:
                self._taken.update(path.name for path in fresh)
                return [path.read_bytes() for path in fresh]
            time.sleep(0.02)

    def log(self) -> str:
        """Everything Postfix has logged so far."""
        try:
            return self._log_file.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    # -- files -----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.folder.chmod(0o755)  # postfix and nobody must pass through
        for name in ("etc", "queue", "data", "mail", "log"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "data", "postfix")
        shutil.chown(self.folder / "mail", "nobody")
        settings = self._main() | self._parameters
        (self._config / "main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        (self._config / "master.cf").write_text(
            f"{HOST}:{self.port} inet n - n - 500 smtpd{_MASTER}"
        )

    def _main(self) -> dict[str, str]:
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self._log_file),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": f"mx.{DOMAIN}",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": HOST,
            "inet_protocols": "all",  # a mail may claim to come from an IPv6 client
            "disable_dns_lookups": "yes",
            "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
            "smtpd_authorized_xforward_hosts": "127.0.0.0/8",
            "smtpd_client_connection_count_limit": "0",
            "virtual_mailbox_domains": DOMAIN,
            # Every recipient's mail goes to one maildir: tests count mails, not people.
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_mailbox_base": str(self._inbox.parent),
            "virtual_uid_maps": "static:65534",
            "virtual_gid_maps": "static:65534",
            # Bounces to the outside end here.
            "default_transport": "discard:outside",
            "relay_transport": "discard:outside",
            "smtpd_milters": ", ".join(self._milters),
            # A milter that fails shall be seen, unless its own entry says otherwise.
            "milter_default_action": "tempfail",
            "milter_connect_timeout": "5s",
        }
