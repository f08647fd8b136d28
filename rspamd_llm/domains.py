"""Host names: registered domains, where a URL leads, the services between sender and reader.

Plain functions over names; the only importer of publicsuffixlist.  What may not live here: brands
(brands.py), what a finding weighs (facts.py), and the network: the list is the one that the
package ships.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

from rspamd_llm import spelling

# WHATWG URL 3.5: a host whose last label is a number is an IPv4 address, in whatever spelling.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
# A URL within a URL, plain or percent-encoded, also twice.
_INNER = re.compile(r"https?(?:%(?:25)?3a|:)(?:%(?:25)?2f|/){2}([\w.-]{1,253})", re.IGNORECASE)
# Suffixes below a country's (ISO 3166-1) that anybody there may register under.
_BELOW = frozenset(("co", "com", "gob", "gov", "ltd", "ne", "net", "or", "org", "plc"))
# Where the large mail providers have long had their names.
_TAKEN = frozenset(("com", "net", "org", "de", "fr", "it", "es", "nl", "be", "at", "ch", "pl")) | {
    *("se", "no", "dk", "fi", "ie", "pt", "gr", "cz", "hu", "ro", "ca", "in", "jp", "ru"),
    *("co.uk", "co.jp", "co.in", "co.nz", "co.za", "co.kr", "co.id", "co.th", "com.au", "com.br"),
    *("com.mx", "com.ar", "com.tr", "com.sg", "com.hk", "com.tw", "com.my", "com.ph", "com.vn"),
}
# Countries' suffixes that were given away for free, or are sold as if they meant something else.
_CHEAP = frozenset(
    {"ai", "cc", "cf", "cm", "ga", "gg", "gq", "io", "la", "me", "ml"}
    | {"nu", "pw", "sh", "st", "su", "tk", "to", "tv", "vu", "ws"}
)


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@functools.cache
def _icann_suffixes() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True)


def prepare() -> None:
    """Loads all tables now."""
    _suffixes()
    _icann_suffixes()
    for kind, value in load("services.toml").items():
        if isinstance(value, str):  # the other is the date of the list
            services(kind)


def load(name: str) -> dict[str, Any]:
    """A table of the package's data."""
    text = (resources.files(__package__) / "data" / name).read_text(encoding="utf-8")
    return tomllib.loads(text)


# --- Names ----------------------------------------------------------------------------------


def ascii_host(host: str) -> str:
    """A host name in ASCII, international ones by IDNA; empty where IDNA has no such name."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


@functools.lru_cache(maxsize=4_096)
def registered_domain(host: str) -> str:
    """The registered domain (eTLD+1, private section included) of a host name, in ASCII.

    Empty for an address literal, a bare suffix and what is no host name.
    """
    host = host.strip().strip(".").lower()
    if not host or len(host) > 253 or is_address(host):
        return ""
    host = ascii_host(host)
    if not _HOST.fullmatch(host):
        return ""
    return _suffixes().privatesuffix(host) or ""


@functools.lru_cache(maxsize=4_096)
def icann_domain(host: str) -> str:
    """The domain that a registry knows of a host name: by the list's ICANN section alone.

    Of `someone.github.io` it is `github.io`.  Empty where `registered_domain` is.
    """
    domain = registered_domain(host)
    return (_icann_suffixes().privatesuffix(domain) or "") if domain else ""


def domain_of(address: str) -> str:
    """The registered domain of a mail address; empty where there is none."""
    return registered_domain(address.rpartition("@")[2]) if "@" in address else ""


def has_suffix(host: str) -> bool:
    """Whether a name ends as domain names do: `invoice.pdf` and `v1.2b` do not."""
    is_reserved = host.rpartition(".")[2] in ("example", "test", "invalid")  # RFC 2606
    return is_reserved or bool(_suffixes().publicsuffix(host, accept_unknown=False))


@functools.lru_cache(maxsize=4_096)
def is_address(host: str) -> bool:
    """Whether a host is an IP address, in whatever spelling browsers take."""
    if _NUMERIC.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def shown(name: str) -> str:
    """A host name with its punycode labels (RFC 3492) as the letters that they stand for."""
    if "xn--" not in name:
        return name
    return ".".join(_decoded(label) for label in name.split("."))


def _decoded(label: str) -> str:
    if not label.startswith("xn--") or len(label) > 63:  # RFC 1035 2.3.4
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def mixed_label(host: str) -> str:
    """The first label of a host that mixes scripts which no language writes together."""
    if host.isascii() and "xn--" not in host:
        return ""
    labels = shown(host[:253]).split(".")
    return next((label for label in labels if len(spelling.scripts(label)) > 1), "")


def is_country_wide(domain: str, names: frozenset[str]) -> bool:
    """Whether a registered domain is one of the names under a suffix that its owner would hold."""
    label, _, suffix = domain.partition(".")
    if label not in names:
        return False
    below, _, top = suffix.rpartition(".")
    if not below and top in ("com", "net", "org", "eu"):
        return True
    return len(top) == 2 and top not in _CHEAP and (not below or below in _BELOW)


def is_edit(one: str, other: str) -> bool:
    """Whether one letter is added, left out or changed, or two neighbours have changed places."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), -1)
    if start < 0:
        return True  # one more letter at the end
    one, other = one[start:], other[start:]
    if one[1:] == other or one == other[1:] or one[1:] == other[1:]:
        return True
    return one[:2] == other[:2][::-1] and one[2:] == other[2:]


# --- URLs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where a link leads: its host in lower case, what follows it, and whether login data stand
    before it."""

    host: str
    rest: str = ""
    login: bool = False


NOWHERE = Place("")


def place(url: str) -> Place:
    """The place of an http or https URL; nowhere for other schemes and nonsense."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return NOWHERE
        rest = f"{parts.path}?{parts.query}"
        return Place((parts.hostname or "").lower(), rest, login="@" in parts.netloc)
    except ValueError:
        return NOWHERE


def inner_domain(to: Place) -> str:
    """The registered domain of another site's URL in a URL's path or query; empty where none."""
    outer = registered_domain(to.host)
    for match in islice(_INNER.finditer(to.rest), 3):  # redirectors are chained, but seldom twice
        inner = registered_domain(match.group(1))
        if inner and inner != outer and has_suffix(inner):
            return inner
    return ""


# --- Services -------------------------------------------------------------------------------


class Services:
    """Host names of one kind, some with how the path begins."""

    def __init__(self, entries: Iterable[str]) -> None:
        hosts: dict[str, tuple[str, ...]] = {}
        everywhere: dict[str, tuple[str, ...]] = {}
        for entry in entries:
            host, slash, path = entry.partition("/")
            table = everywhere if host.endswith(".*") else hosts
            key = host.removesuffix(".*")
            table[key] = (*table.get(key, ()), slash + path)
        self._hosts: Mapping[str, tuple[str, ...]] = hosts
        self._everywhere: Mapping[str, tuple[str, ...]] = everywhere
        self._names = frozenset(everywhere)

    def has(self, host: str, rest: str = "") -> bool:
        """Whether a host, or one above it, is of this kind; with a path, also by that."""
        name = host
        for _ in range(6):  # more labels than an entry with all that stands below it
            if name in self._hosts and rest.startswith(self._hosts[name]):
                return True
            name = name.partition(".")[2]
            if "." not in name:
                break
        domain = registered_domain(host)
        if not is_country_wide(domain, self._names):
            return False
        return rest.startswith(self._everywhere[domain.partition(".")[0]])

    def names(self, domain: str) -> bool:
        """Whether a registered domain stands in the list by its whole name, or as `x.*` with a
        suffix under which nobody else has x: other countries' are anybody's to register."""
        name, _, suffix = domain.partition(".")
        return domain in self._hosts or (name in self._names and suffix in _TAKEN)


@functools.cache
def services(kind: str) -> Services:
    """The services of a kind, as services.toml names them."""
    return Services(load("services.toml")[kind].split())


@functools.lru_cache(maxsize=4_096)
def is_free_mail(domain: str) -> bool:
    """Whether everybody can get a mail address of a registered domain."""
    return services("freemail").has(domain)


@functools.lru_cache(maxsize=4_096)
def is_between(host: str) -> bool:
    """Whether a host is a mailing service's or a mail gateway's, which says nothing of a sender."""
    return services("mailing").has(host) or services("rewriters").has(host)


def redirect(to: Place, sender: str) -> str:
    """The registered domain that a link leads on to, by redirection through another site.

    Empty where it leads on to the sender's own, `elsewhere` where a known redirector keeps it to
    itself.  A sender's own site, mailing services and pages for sharing may lead on.
    """
    outer = registered_domain(to.host)
    if not outer or outer == sender:
        return ""
    known = services("redirectors").has(to.host, to.rest)
    if not known and "http" not in to.rest.lower():
        return ""
    if is_between(to.host) or services("sharers").has(to.host, to.rest):
        return ""
    inner = inner_domain(to)
    if inner:
        return "" if inner == sender else inner
    return "elsewhere" if known else ""
