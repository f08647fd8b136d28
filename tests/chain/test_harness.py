"""The harness itself: real parts start, pass a mail on, show what they did, and leave nothing."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from tests.chain.dns import NxDomainServer
from tests.chain.ports import HOST, free_port
from tests.chain.postfix import PrivatePostfix, queue_id
from tests.chain.rspamd import CONF, PrivateRspamd
from tests.chain.verdicts import QUEUE_ID, verdict

EXAMPLE = CONF.parent / "postfix" / "main.cf.example"
MAIL = b"From: ann@example.net\nTo: bob@example.org\nSubject: minutes\n%s\nHere they are.\n"
TWO_VERDICTS = f"X-GPT-Verdict: {verdict()}\nX-Other: stays\nx-gpt-verdict: {verdict()}\n".encode()

# Decides before everything else, as a white list or a virus scanner may.
EARLY_PLUGIN = """
rspamd_config:register_symbol({
  name = 'EARLY', type = 'prefilter', priority = 100,
  callback = function(task)
    task:set_pre_result(task:get_header('X-Action'), 'decided early', 'early')
  end,
})
"""
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def head(mail: bytes) -> str:
    """The header lines, folded lines joined."""
    return mail.split(b"\n\n")[0].decode().replace("\n\t", " ")


class TestPostfixWithRspamd:
    def test_mail_is_delivered_with_its_symbols(self, postfix: PrivatePostfix) -> None:
        code, reply = postfix.send(MAIL % b"")
        (mail,) = postfix.wait_delivered(1)
        assert code == 250
        assert "LLM_ABSENT(0.00)" in head(mail)
        assert mail.endswith(b"\n\nHere they are.\n\n") or mail.endswith(b"\n\nHere they are.\n")
        assert queue_id(reply) in postfix.log()

    def test_forged_verdicts_are_removed(self, postfix: PrivatePostfix) -> None:
        postfix.send(MAIL % TWO_VERDICTS)
        (mail,) = postfix.wait_delivered(1)
        assert "LLM_FORGED(0.00)[copies]" in head(mail)
        assert "X-Other: stays" in head(mail)
        assert b"x-gpt-verdict" not in mail.lower()

    def test_rspamd_knows_the_queue_id(
        self, postfix: PrivatePostfix, rspamd: PrivateRspamd
    ) -> None:
        _, reply = postfix.send(MAIL % b"")
        postfix.wait_delivered(1)
        assert f"qid: <{queue_id(reply)}>" in rspamd.log()

    def test_a_mail_may_come_from_anywhere(
        self, postfix: PrivatePostfix, rspamd: PrivateRspamd
    ) -> None:
        postfix.send(MAIL % b"", client="2001:db8::25", helo="far.example.com")
        (mail,) = postfix.wait_delivered(1)
        assert "[IPv6:2001:db8::25]" in head(mail)
        assert "ip: 2001:db8::25" in rspamd.log()

    def test_mail_of_a_logged_in_user_needs_no_verdict(self, postfix: PrivatePostfix) -> None:
        postfix.send(MAIL % b"", client="203.0.113.9", login="ann")
        (mail,) = postfix.wait_delivered(1)
        assert "MIME_GOOD" in head(mail)
        assert "LLM_" not in head(mail)

    def test_refusals_are_returned(self, postfix: PrivatePostfix) -> None:
        code, reply = postfix.send(MAIL % b"", recipients=["bob@elsewhere.example"])
        assert (code, "Relay access denied" in reply) == (554, True)
        code, reply = postfix.send(MAIL % b"\n" + GTUBE + b"\n")
        assert (code, "Gtube pattern" in reply) == (554, True)
        assert postfix.wait_delivered(1, timeout=0) == []


def test_verdict_is_removed_whatever_a_prefilter_decides(
    rspamd_installed: None, postfix_installed: None, dns: NxDomainServer
) -> None:
    files = {
        "plugins.d/early.lua": EARLY_PLUGIN,
        "rspamd.conf.local": (CONF / "rspamd.conf.local").read_text() + "early { }\n",
    }
    with (
        PrivateRspamd(dns.port, files=files) as rspamd,
        PrivatePostfix([rspamd.milter]) as postfix,
    ):
        for action in ("no action", "add header"):
            postfix.send(MAIL % (f"X-Action: {action}\n".encode() + TWO_VERDICTS))
            (mail,) = postfix.wait_delivered(1)
            assert f"X-Rspamd-Pre-Result: action={action}; module=early;" in head(mail)
            assert b"x-gpt-verdict" not in mail.lower()


@pytest.mark.parametrize(
    "settings", ['{"symbols_enabled": ["MIME_GOOD"]}', '{"groups_disabled": ["rspamd_llm"]}']
)
def test_verdict_is_removed_whatever_a_users_settings_switch_off(
    rspamd: PrivateRspamd, settings: str
) -> None:
    answer = rspamd.scan(MAIL % TWO_VERDICTS, {"Settings": settings})
    assert not [name for name in answer["symbols"] if name.startswith("LLM_")]
    assert answer["milter"]["remove_headers"]["X-GPT-Verdict"] == 0


def test_the_example_for_postfix_accepts_mail_while_our_milter_is_down(
    postfix_installed: None, rspamd: PrivateRspamd
) -> None:
    entries = EXAMPLE.read_text().partition("smtpd_milters =")[2].partition("\n\n")[0]
    assert entries.index(":11390") < entries.index(":11332")
    entries = entries.replace(":11390", f":{free_port()}")
    entries = entries.replace(":11332", f":{rspamd.milter_port}")
    with PrivatePostfix([entries]) as postfix:
        code, _ = postfix.send(MAIL % TWO_VERDICTS)
        (mail,) = postfix.wait_delivered(1)
        assert "milter-reject" not in postfix.log()
    assert code == 250
    assert "LLM_FORGED(0.00)[copies]" in head(mail)


def test_programs_end_and_leave_no_files(
    rspamd_installed: None, postfix_installed: None, dns: NxDomainServer
) -> None:
    with PrivateRspamd(dns.port) as rspamd, PrivatePostfix() as postfix:
        rspamd.scan(MAIL % b"", {"Queue-Id": QUEUE_ID})
        master = int((postfix.folder / "queue/pid/master.pid").read_text())
        os.kill(master, 0)
    assert not rspamd.folder.exists()
    assert not postfix.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(master, 0)
    for port in (rspamd.port, rspamd.milter_port, postfix.port):
        with socket.socket() as probe:
            assert probe.connect_ex((HOST, port)) != 0


QUERY = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\x07example\x03com\x00" + b"\0\x01\0\x01"
NXDOMAIN = struct.pack("!6H", 7, 0x8183, 1, 0, 0, 0) + QUERY[12:]


class TestDnsServer:
    def test_udp(self, dns: NxDomainServer) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(QUERY, (HOST, dns.port))
            assert client.recv(512) == NXDOMAIN
        assert "example.com" in dns.asked

    def test_tcp(self, dns: NxDomainServer) -> None:
        with socket.create_connection((HOST, dns.port), timeout=5) as client:
            client.sendall(struct.pack("!H", len(QUERY)) + QUERY)
            assert client.recv(512) == struct.pack("!H", len(NXDOMAIN)) + NXDOMAIN

    def test_broken_question(self, dns: NxDomainServer) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(QUERY[:15], (HOST, dns.port))
            assert client.recv(512) == struct.pack("!6H", 7, 0x8181, 0, 0, 0, 0)
