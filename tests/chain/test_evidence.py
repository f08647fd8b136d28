"""What is looked up of a mail that a real Postfix took: the prompt shows it, the mail is untouched.

The model is a stub that shows its prompts; DNS, SearXNG and registry are stand-ins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from bench.standins import Domain, Found, StandIns, signed
from bench.stubmodel import StubModel
from tests.chain.daemon import PrivateDaemon
from tests.chain.postfix import PrivatePostfix

# Of the open internet, as SPF tells nothing of others: IANA's.  Nothing is ever sent there.
CLIENT, STRANGER = "192.0.37.1", "192.0.37.99"
FIRM = Domain(
    name="firm.example",
    address=CLIENT,
    dmarc="reject",
    pages=[Found("Firm of joiners", "https://www.firm.example/", "Stairs since 1987")],
)
YOUNG = Domain(name="young.example", address="192.0.37.2", days=3)
OURS = "mx.example.org"

ODD = (
    b"From: Firm <info@firm.example>\r\n"
    b"To:bob@example.org\r\n"
    b"Subject:no blank\r\n"
    b"X-Two:  two blanks\r\n"
    b"X-Tab:\ta tab\r\n"
    b"X-Folded: one\r\n\ttwo\r\n   three\r\n"
    b"X-Folded-First:\r\n text\r\n"
    b"X-Trailing: blanks \t \r\n"
    b"x-CASE: Of Letters\r\n"
    b"X-Bytes: caf\xe9\r\n"
)
ODD_NAMES = re.findall(r"(?m)^([\w-]+):", ODD.decode("latin-1"))
BODY = b"\r\nHello Bob,\r\n\r\n.two  blanks \r\n\tand a tab\r\n"
PLAIN = b"From: Firm <info@firm.example>\r\nTo: bob@example.org\r\nSubject: hello\r\n"


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel.running() as server:
        yield server


@pytest.fixture(scope="module")
def postfix(postfix_installed: None, stub: StubModel) -> Iterator[PrivatePostfix]:
    """Postfix with our daemon as its only milter."""
    llm = {"base_url": stub.base_url, "model": "stub"}
    with (
        StandIns.running(FIRM, YOUNG) as world,
        PrivateDaemon(
            {"llm": llm, **world.settings(trusted_authserv=[OURS])},
            unix=True,
            environment=world.environment,
        ) as daemon,
        PrivatePostfix([daemon.milter]) as started,
    ):
        yield started


def through(
    postfix: PrivatePostfix,
    stub: StubModel,
    mail: bytes,
    client: str = CLIENT,
    sender: str = "info@firm.example",
) -> tuple[bytes, str]:
    """The mail as it was delivered, and the prompt that the model got."""
    helo = sender.rpartition("@")[2]
    code, reply = postfix.send(mail, sender, client=client, helo=f"mail.{helo}")
    assert code == 250, reply
    (delivered,) = postfix.wait_delivered(1)
    return delivered, stub.requests[-1].body["messages"][-1]["content"]


@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/simple"])
def test_a_mail_arrives_to_the_byte_and_its_signature_holds(
    postfix: PrivatePostfix, stub: StubModel, canonical: str
) -> None:
    mail = signed(ODD + BODY, FIRM.name, canonical=canonical, names=ODD_NAMES)
    delivered, prompt = through(postfix, stub, mail)
    assert "DKIM: pass by firm.example" in prompt.splitlines()
    head, _, body = mail.replace(b"\r\n", b"\n").partition(b"\n\n")
    arrived, _, kept = delivered.partition(b"\n\n")
    assert head in arrived
    assert kept.rstrip(b"\n") == body.rstrip(b"\n")


def test_a_signature_that_does_not_hold(postfix: PrivatePostfix, stub: StubModel) -> None:
    mail = signed(ODD + BODY, FIRM.name, canonical="simple/simple", names=ODD_NAMES)
    _, prompt = through(postfix, stub, mail.replace(b":  two", b": two"), STRANGER)
    told = {
        "SPF: fail for firm.example",
        "DKIM: fail by firm.example",
        "DMARC: fail (policy reject)",
    }
    assert told <= {*prompt.splitlines()}


def test_our_headers_have_one_blank(postfix: PrivatePostfix, stub: StubModel) -> None:
    delivered, _ = through(postfix, stub, PLAIN + BODY)
    ours = dict(re.findall(rb"(?m)^X-GPT-(\w+):(.*)", delivered))
    assert ours[b"Status"] == b" scored"
    assert len(ours) == 6
    assert [value for value in ours.values() if not re.match(rb" \S", value)] == []


def test_what_is_known_of_a_firm(postfix: PrivatePostfix, stub: StubModel) -> None:
    _, prompt = through(postfix, stub, PLAIN + BODY)
    lines = prompt.splitlines()
    assert f"Sent by: [{CLIENT}], name firm.example, HELO firm.example" in lines
    assert {"SPF: pass for firm.example", "DMARC: pass (policy reject)"} <= {*lines}
    assert "Sender's domain in DNS: takes mail, has SPF, DMARC policy reject" in lines
    assert re.search(r"^Registered: firm.example \d{4}-\d\d$", prompt, re.MULTILINE)
    (told,) = (line for line in lines if line.startswith("firm.example: "))
    assert '"Firm of joiners" at firm.example: Stairs since 1987' in told
    assert "Not found out" not in prompt


def test_a_mail_in_the_firms_name(postfix: PrivatePostfix, stub: StubModel) -> None:
    _, prompt = through(postfix, stub, PLAIN + BODY, STRANGER)
    lines = prompt.splitlines()
    assert f"Sent by: [{STRANGER}], no confirmed name, HELO firm.example" in lines
    assert {"SPF: fail for firm.example", "DMARC: fail (policy reject)"} <= {*lines}


def test_a_young_domain_that_nobody_knows(postfix: PrivatePostfix, stub: StubModel) -> None:
    mail = PLAIN.replace(b"firm.example", b"young.example") + BODY
    _, prompt = through(postfix, stub, mail, YOUNG.address, "info@young.example")
    # Midnight may have passed.
    assert re.search(r"^Registered: young.example [34] days ago$", prompt, re.MULTILINE)
    assert "The web knows nothing of: young.example" in prompt.splitlines()
    assert {"SPF: pass for young.example", "DMARC: none"} <= {*prompt.splitlines()}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (OURS, {"DKIM: fail by firm.example", "SPF: pass for firm.example"}),
        ("mx.elsewhere.example", {"DMARC: pass (policy reject)", "SPF: pass for firm.example"}),
    ],
    ids=["trusted", "forged"],
)
def test_authentication_results_count_if_a_trusted_host_wrote_them(
    postfix: PrivatePostfix, stub: StubModel, host: str, expected: set[str]
) -> None:
    results = (
        f"Authentication-Results: {host};\r\n\tdkim=fail header.d=firm.example;\r\n\tdmarc=fail"
    )
    mail = results.encode() + b" header.from=firm.example\r\n" + PLAIN + BODY
    _, prompt = through(postfix, stub, mail)
    told = {*prompt.splitlines()}
    assert expected <= told
    # What the host left out (SPF) is checked by ourselves, and no more than that.
    assert ("DMARC: fail (policy reject)" in told) is (host == OURS)
