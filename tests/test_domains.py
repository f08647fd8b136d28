"""Host names: registered domains, places, redirections, and what looks like what."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import brands, domains
from rspamd_llm.domains import Place, domain_of, place, registered_domain


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "example.com"),
        ("www.mail.example.com.", "example.com"),
        ("WWW.EXAMPLE.COM", "example.com"),
        (" example.com ", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", ""),
        ("com", ""),
        ("someone.github.io", "someone.github.io"),  # the private section counts
        ("github.io", ""),
        ("deep.host.sender.example", "sender.example"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("例え。jp", "xn--r8jz45g.jp"),  # an ideographic full stop
        ("192.0.2.1", ""),
        ("2001:db8::1", ""),
        ("[2001:db8::1]", ""),
        ("3221225985", ""),
        ("0xC0000201", ""),
        ("192.0.2", ""),
        ("", ""),
        (".", ""),
        ("a..example.com", ""),
        ("exa mple.com", ""),
        ("a" * 64 + ".com", ""),
        ("a." * 130 + "com", ""),
        ("\ud800.com", ""),
        ("bücher" * 12 + ".com", ""),
    ],
)
def test_registered_domain(host: str, domain: str) -> None:
    assert registered_domain(host) == domain


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("someone.github.io", "github.io"),
        ("shop.example.uk.com", "uk.com"),
        ("deep.host.sender.example", "sender.example"),
        ("github.io", ""),
        ("co.uk", ""),
        ("192.0.2.1", ""),
        ("", ""),
    ],
)
def test_icann_domain(host: str, domain: str) -> None:
    assert domains.icann_domain(host) == domain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@b.example.org", "example.org"),
        ("a@b@example.org", "example.org"),
        ("a@[192.0.2.1]", ""),
        ("a@localhost", ""),
        ("example.org", ""),
        ("", ""),
        ("@", ""),
    ],
)
def test_domain_of(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://A.example/x?y=1#z", Place("a.example", "/x?y=1")),
        ("https://u:p@a.example", Place("a.example", "?", login=True)),
        ("ftp://a.example/", domains.NOWHERE),
        ("http://[", domains.NOWHERE),
        ("", domains.NOWHERE),
    ],
)
def test_place(url: str, where: Place) -> None:
    assert place(url) == where


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://a.example/?u=http://b.test", "b.test"),
        ("https://a.example/?u=http%3A%2F%2Fb.test%2Fx", "b.test"),
        ("https://a.example/?u=http%253A%252F%252Fb.test%252Fx", "b.test"),
        ("https://a.example/http://www.a.example/then/https://b.test", "b.test"),
        ("https://a.example/?u=http://invoice.pdfx", ""),
        ("https://a.example/?u=http://192.0.2.1/", ""),
        ("https://a.example/?u=b.test", ""),
    ],
)
def test_inner_domain(url: str, domain: str) -> None:
    assert domains.inner_domain(place(url)) == domain


@pytest.mark.parametrize(
    ("one", "other", "edit"),
    [
        ("paypal", "paypall", True),
        ("paypal", "paypa", True),
        ("paypal", "aypal", True),
        ("paypal", "paypol", True),
        ("paypal", "apypal", True),
        ("paypal", "payapl", True),
        ("paypal", "paypal", False),
        ("paypal", "paypool", False),
        ("paypal", "pyapla", False),
        ("", "", False),
        ("", "a", True),
    ],
)
def test_is_edit(one: str, other: str, edit: bool) -> None:
    assert domains.is_edit(one, other) is edit
    assert domains.is_edit(other, one) is edit


@pytest.mark.parametrize(
    ("domain", "wide"),
    [
        ("ebay.fr", True),
        ("ebay.co.uk", True),
        ("ebay.com.au", True),
        ("ebay.com", True),
        ("ebay.xyz", False),
        ("ebay.tk", False),
        ("ebay.uk.com", False),
        ("ebay.web.app", False),
        ("myebay.fr", False),
    ],
)
def test_is_country_wide(domain: str, wide: bool) -> None:
    assert domains.is_country_wide(domain, frozenset({"ebay"})) is wide


@pytest.mark.parametrize(
    ("domain", "free"),
    [
        ("gmail.com", True),
        ("yahoo.co.uk", True),
        ("web.de", True),
        ("paypal.com", False),
        ("", False),
    ],
)
def test_is_free_mail(domain: str, free: bool) -> None:
    assert domains.is_free_mail(domain) is free


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        # Signs that look alike.
        ("paypa1.com", "paypal.com"),
        ("paypai.com", "paypal.com"),
        ("rnicrosoft.com", "microsoft.com"),
        ("arnazon.de", "amazon.com"),
        ("amaz0n.de", "amazon.com"),
        ("p\u00e0ypal.com", "paypal.com"),
        ("\u0440\u0430\u0443\u0440\u0430l.com", "paypal.com"),
        ("xn--pypal-4ve.com", "paypal.com"),
        # One letter more, less, other, or two changed about.
        ("paypall.com", "paypal.com"),
        ("netflx.com", "netflix.com"),
        ("goolge.com", "google.com"),
        ("instagrem.com", "instagram.com"),
        # Another suffix.
        ("paypal.xyz", "paypal.com"),
        ("paypal.github.io", "paypal.com"),
        # Inside another name.
        ("paypal-secure.example", "paypal.com"),
        ("paypalsecure.com", "paypal.com"),
        ("mynetflix-billing.com", "netflix.com"),
        ("dhl-tracking.example", "dhl.com"),
        ("orange-facture.com", "orange.com"),
        ("sparkasse-sicherheit.de", "sparkasse.com"),
        ("paypal.com.evil.test", "paypal.com"),
        ("www.paypal.com-login.evil.test", "paypal.com"),
        # The brands' own, and others' honest names.
        ("www.paypal.com", ""),
        ("amazon.co.jp", ""),
        ("s3.amazonaws.com", ""),
        ("sparkasse-hannover.de", ""),
        ("amazonas.com", ""),
        ("finance.com", ""),
        ("revolt.com", ""),
        ("grange.com", ""),
        ("freemail.example", ""),
        ("mobile.de", ""),
        ("telecom.it", ""),
        ("oranges.com", ""),
        ("shopping.com", ""),
        ("modern.com", ""),
        ("example.com", ""),
        ("192.0.2.1", ""),
        ("", ""),
    ],
)
def test_lookalikes_of_brands(host: str, meant: str) -> None:
    assert brands.lookalike(host, ()) == meant


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("acmec0rp.com", "acmecorp.com"),
        ("acmecorpp.com", "acmecorp.com"),
        ("acmecorp.co", "acmecorp.com"),
        ("acmecorp-login.example", "acmecorp.com"),
        ("acmecorp.com.evil.test", "acmecorp.com"),
        ("mail.acmecorp.com", ""),
        ("acmecorp.de", ""),
        ("acme.com", ""),
        ("tinyy.de", ""),  # too short for a letter to tell
    ],
)
def test_lookalikes_of_recipients(host: str, meant: str) -> None:
    assert brands.lookalike(host, ("acmecorp.com", "tiny.de")) == meant


def test_the_tables_are_sound() -> None:
    data = domains.load("brands.toml")
    names = [entry["name"] for entry in data["brands"]]
    assert len(names) == len(set(names)) > 120
    for entry in data["brands"]:
        assert entry["domains"]
        assert not {*entry} - {
            "name", "words", "domains", "mail", "common", "person", "beside", "family", "near"
        }  # fmt: skip
        for domain in (*entry["domains"], *entry.get("mail", ())):
            assert domain == domain.strip().lower()
            assert "." in domain
        # A brand's own domains never look like another's.
        for domain in entry["domains"]:
            assert brands.lookalike(domain.replace(".*", ".com").lstrip("."), ()) == ""
    for kind, entries in domains.load("services.toml").items():
        if kind != "made":
            hosts = [entry.partition("/")[0] for entry in entries.split()]
            assert all("." in host and host == host.lower() for host in hosts)


@given(st.text(max_size=80), st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_nothing_raises(host: str, own: str) -> None:
    to = place(f"https://{host}/{own}")
    assert domains.redirect(to, own).isascii()
    assert isinstance(domains.mixed_label(host), str)
    assert isinstance(brands.lookalike(host, (own,)), str)
    assert isinstance(brands.lookalike(f"paypal-{host}.com", (own,)), str)
    brands.claimed_in_name(host)
    brands.claimed_in_subject(host)
