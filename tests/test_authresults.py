"""Authentication-Results of trusted hosts, as real servers write them, and as forgers do."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm.domain import Authentication, Signature
from rspamd_llm.evidence import authresults
from rspamd_llm.evidence.authresults import told

TRUSTED = frozenset({"mx.our.test"})
NAME = b"Authentication-Results:"


def read(
    *values: str | bytes, trusted: frozenset[str] = TRUSTED, domain: str = "example.test"
) -> Authentication | None:
    """What is understood of a mail with these headers, the first on top."""
    lines = [each.encode() if isinstance(each, str) else each for each in values]
    head = b"".join(NAME + b" " + line.replace(b"\n", b"\r\n") + b"\r\n" for line in lines)
    data = b"Received: from x\r\n" + head + b"From: a@example.test\r\n\r\nthe body\r\n"
    return told(data, trusted, domain)


def dkim(domain: str, result: str = "pass", *, aligned: bool = False) -> Signature:
    return Signature(domain=domain, result=result, aligned=aligned)


def from_us(**fields: object) -> Authentication:
    return Authentication(told_by="mx.our.test", **fields)  # type: ignore[arg-type]


class TestRealOnes:
    def test_opendkim(self) -> None:
        assert read(
            "mx.our.test;\n\tdkim=pass (2048-bit key; unprotected) header.d=example.test"
            ' header.i=@example.test header.a=rsa-sha256 header.s=s header.b="ABcd/+=="'
        ) == from_us(signatures=(dkim("example.test", aligned=True),))

    def test_opendmarc(self) -> None:
        assert read(
            "mx.our.test; dmarc=fail (p=quarantine dis=none) header.from=example.test"
        ) == from_us(dmarc="fail", policy="quarantine")

    def test_policyd_spf(self) -> None:
        assert read(
            "mx.our.test; spf=softfail (domain owner discourages use of this host)\n"
            " smtp.mailfrom=bounce.example.test (client-ip=192.0.2.1; helo=x.test;\n"
            " envelope-from=a@bounce.example.test; receiver=<UNKNOWN>)"
        ) == from_us(spf="softfail", spf_domain="bounce.example.test")

    def test_rspamd(self) -> None:
        assert read(
            "mx.our.test;\n"
            "\tdkim=pass header.d=example.test header.s=s header.b=abc+def=;\n"
            '\tdkim=fail ("body hash did not verify") header.d=esp.test header.s=k header.b=x;\n'
            "\tdmarc=pass (policy=reject) header.from=example.test;\n"
            "\tspf=pass (mx.our.test: domain of a@example.test designates 192.0.2.1)"
            " smtp.mailfrom=a@example.test;\n"
            "\tarc=none"
        ) == from_us(
            spf="pass",
            spf_domain="example.test",
            signatures=(dkim("example.test", aligned=True), dkim("esp.test", "fail")),
            dmarc="pass",
            policy="reject",
            arc="none",
        )

    def test_gmail(self) -> None:
        assert read(
            "mx.our.test;\n"
            "       dkim=pass header.i=@news.example.test header.s=20230601 header.b=a1b2c3;\n"
            "       arc=pass (i=1 spf=pass spfdomain=x.test dkim=pass dkdomain=x.test);\n"
            "       spf=pass (google.com: domain of x@y.test designates 2001:db8::1 as permitted"
            " sender) smtp.mailfrom=x@y.test;\n"
            "       dmarc=pass (p=REJECT sp=QUARANTINE dis=NONE) header.from=example.test"
        ) == from_us(
            spf="pass",
            spf_domain="y.test",
            signatures=(dkim("news.example.test", aligned=True),),
            dmarc="pass",
            policy="reject",
            arc="pass",
        )

    def test_fastmail(self) -> None:
        assert read(
            "mx.our.test;\n    dmarc=pass policy.published-domain-policy=none\n"
            "      policy.applied-disposition=none policy.evaluated-disposition=none\n"
            "      (p=none,d=none,d.eval=none) policy.policy-from=p\n"
            "      header.from=example.test;\n    x-ptr=pass smtp.helo=a.test policy.ptr=a.test"
        ) == from_us(dmarc="pass", policy="none")

    def test_old_words(self) -> None:
        assert read("mx.our.test; spf=hardfail smtp.mail=a@b.test") == from_us(spf="fail")

    def test_nothing_to_tell(self) -> None:
        assert read("mx.our.test; none") is None
        assert read("mx.our.test 1; none") is None
        assert read("mx.our.test") is None
        assert read("") is None
        assert told(b"", TRUSTED, "") is None

    def test_no_signature_is_something_told(self) -> None:
        assert read("mx.our.test; dkim=none") == from_us()


class TestForms:
    @pytest.mark.parametrize(
        "value",
        [
            "mx.our.test; spf=pass smtp.mailfrom=b.test",
            "MX.Our.Test; SPF=Pass smtp.MailFrom=B.test",
            'mx.our.test 1; spf/1 = pass smtp.mailfrom = "b.test"',
            '"mx.our.test"; spf=pass smtp.mailfrom="a b"@b.test',
            "(a comment) mx.our.test (another; spf=fail); spf=pass (x (nested; y) z)"
            " smtp.mailfrom=b.test.",
            "mx.our.test;spf=pass smtp.mailfrom=b.test;",
            "\n mx.our.test;\n spf=pass\n smtp.mailfrom=\n b.test",
            'mx.our.test; spf=pass reason="because; dkim=pass (" smtp.mailfrom=b.test',
            "mx.our.test; x-new=pass; dkim-adsp=pass; spf=odd; spf=pass smtp.mailfrom=b.test",
            "mx.our.test; spf=pass (a \\) quoted) smtp.mailfrom=b.test smtp.mailfrom=c.test",
            "mx.our.test; ; junk; spf=pass smtp.mailfrom=b.test; dkim; =; spf=",
        ],
    )
    def test_all_say_the_same(self, value: str) -> None:
        assert read(value) == from_us(spf="pass", spf_domain="b.test")

    def test_helo_where_there_is_no_sender(self) -> None:
        found = read("mx.our.test; spf=pass smtp.mailfrom=<> smtp.helo=h.test")
        assert found == from_us(spf="pass", spf_domain="h.test")

    @pytest.mark.parametrize("domain", ["a b", "[192.0.2.1]", "x" * 70 + ".test", "ex\xe4.test"])
    def test_what_is_no_domain_is_left_out(self, domain: str) -> None:
        assert read(
            f'mx.our.test; spf=pass smtp.mailfrom="x@{domain}"; dkim=pass header.d="{domain}"'
        ) == from_us(spf="pass")

    def test_lines_without_cr(self) -> None:
        data = b"Authentication-Results: mx.our.test;\n spf=pass\nFrom: a@b.test\n\nbody"
        assert told(data, TRUSTED, "b.test") == from_us(spf="pass")


class TestBelief:
    @pytest.mark.parametrize(
        "host",
        [
            "other.test",
            "amx.our.test",
            "mx.our.test.evil.test",
            "mx.our.tes",
            "our.test",
            "mx.our.test@evil.test",
            "mx.our.test/evil",
            "mx_our_test",
            "mx.our.\u0442est",
            "mx.our.test\u200b",
            "\uff4dx.our.test",
            "evil.test (mx.our.test)",
            "(mx.our.test)",
            '"mx.our.test evil"',
            '"mx.our.test"evil',
            "evil.test mx.our.test",
            "",
        ],
    )
    def test_other_hosts_are_not_believed(self, host: str) -> None:
        assert read(f"{host}; spf=pass; dmarc=pass") is None

    def test_nor_other_headers(self) -> None:
        for name in (
            b"ARC-Authentication-Results: i=1; ",
            b"X-Authentication-Results: ",
            b"Old-Authentication-Results: ",
            b"Authentication-Results-Original: ",
            b"Subject: Authentication-Results: ",
            b"Subject: x\r\n Authentication-Results: ",
            b" Authentication-Results: ",
        ):
            data = name + b"mx.our.test; spf=pass\r\nFrom: a@b.test\r\n\r\n"
            assert told(b"Received: x\r\n" + data, TRUSTED, "b.test") is None

    def test_nor_the_body(self) -> None:
        data = b"From: a@b.test\r\n\r\n" + NAME + b" mx.our.test; spf=pass\r\n\r\n"
        assert told(data, TRUSTED, "b.test") is None

    def test_nobody_without_trust(self) -> None:
        assert read("mx.our.test; spf=pass", trusted=frozenset()) is None

    def test_trust_has_no_case(self) -> None:
        assert read("mx.our.test; spf=pass", trusted=frozenset({"MX.our.TEST"})) is not None

    def test_the_topmost_of_each_method(self) -> None:
        assert read(
            "evil.test; spf=pass; dkim=pass header.d=example.test; dmarc=pass",
            "mx.our.test; spf=fail smtp.mailfrom=b.test",
            "mx.our.test; spf=pass smtp.mailfrom=c.test; dkim=pass header.d=d.test",
            "mx.our.test; dkim=pass header.d=example.test; dmarc=fail",
        ) == from_us(spf="fail", spf_domain="b.test", signatures=(dkim("d.test"),), dmarc="fail")

    def test_the_host_that_told_is_named(self) -> None:
        found = read(
            "mx.our.test; none",
            "mx2.our.test; spf=pass",
            trusted=frozenset({"mx.our.test", "mx2.our.test"}),
        )
        assert found == Authentication(spf="pass", told_by="mx2.our.test")

    @pytest.mark.parametrize(
        "value",
        [
            "mx.our.test; spf=fail (dmarc=pass; dmarc=pass)",
            'mx.our.test; spf=fail reason="x; dmarc=pass header.from=example.test"',
            'mx.our.test; spf=fail smtp.mailfrom="a; dmarc=pass"@b.test',
            'mx.our.test; spf=fail smtp.mailfrom="a\\"; dmarc=pass; \\""@b.test',
            "mx.our.test; spf=fail (unclosed; dmarc=pass",
            "mx.our.test; spf=fail \\; dmarc=pass",
            "mx.our.test; spf=fail (x \\) ; dmarc=pass)",
        ],
    )
    def test_what_others_wrote_into_a_header_tells_nothing(self, value: str) -> None:
        found = read(value)
        assert found is None or found.dmarc == ""

    def test_a_comment_without_end_swallows_what_it_is_in(self) -> None:
        assert read("mx.our.test; dkim=none; spf=fail (x; dmarc=pass") == from_us()

    def test_a_result_for_another_from_domain_is_not_this_ones(self) -> None:
        value = "mx.our.test; dmarc=pass (p=none) header.from=other.test"
        assert read(value) == from_us()
        assert read(value, domain="www.other.test") == from_us(dmarc="pass", policy="none")

    @pytest.mark.parametrize("result", ["passed", "pass1", "", "p\u0430ss", "none\u200b"])
    def test_unknown_results_are_skipped(self, result: str) -> None:
        assert read(f"mx.our.test; dmarc={result}") is None

    def test_policies_are_known_words(self) -> None:
        assert read("mx.our.test; dmarc=pass (p=whatever) policy.dmarc=x") == from_us(dmarc="pass")


class TestBounds:
    def test_few_signatures(self) -> None:
        many = "; ".join(f"dkim=pass header.d=d{i}.test" for i in range(50))
        found = read(f"mx.our.test; {many}")
        assert found is not None
        assert len(found.signatures) == 10

    def test_a_header_of_great_length_is_skipped(self) -> None:
        long = "mx.our.test; spf=pass (" + "x" * 20_000 + ")"
        assert read(long) is None
        assert read(long, "mx.our.test; spf=fail") == from_us(spf="fail")

    @pytest.mark.parametrize(
        "piece",
        [
            "(",
            ")",
            '"',
            ";",
            "a",
            " ",
            "a ",
            "=",
            "\\",
            "a=",
            "(\\",
            'a="',
            ";=",
            "\n ",
            "p=",
            "()",
        ],
    )
    def test_no_text_takes_long(self, piece: str) -> None:
        value = "mx.our.test; spf=pass " + piece * (8_000 // len(piece))
        begun = time.process_time()
        read(*[value] * 30)
        assert time.process_time() - begun < 5.0

    @settings(deadline=None)
    @given(st.text(alphabet='();=" \\\t\r\n.aspfdkimdmarc@/-1\xe4', max_size=200))
    def test_no_text_breaks_it(self, text: str) -> None:
        found = read("mx.our.test;" + text)
        assert found is None or found.told_by == "mx.our.test"

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_nor_do_bytes(self, data: bytes) -> None:
        told(NAME + b" mx.our.test;" + data, TRUSTED, "example.test")
        told(data, TRUSTED, "example.test")


def test_what_was_not_told_is_filled_in_and_nothing_else() -> None:
    partly = Authentication(spf="fail", spf_domain="a.example", told_by="mx.example")
    signed = (Signature(domain="b.example", result="pass", aligned=True),)
    own = Authentication(
        spf="pass", spf_domain="c.example", signatures=signed, dmarc="pass", policy="reject"
    )
    assert not authresults.is_full(partly)
    full = authresults.completed(partly, own)
    assert authresults.is_full(full)
    assert full == Authentication(
        spf="fail",
        spf_domain="a.example",
        signatures=signed,
        dmarc="pass",
        policy="reject",
        told_by="mx.example",
    )
