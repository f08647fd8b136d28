"""Brands that others write in the name of, and names that are made to be taken for others.

Plain functions over names and the package's brands.toml.  What may not live here: mail, and what
a finding weighs (facts.py).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from rspamd_llm import domains
from rspamd_llm.spelling import skeleton

NAME_WORDS = 12
"""Words looked at of a sender's name; the longest honest ones have 10 (a ministry's office)."""

SUBJECT_WORDS = 10
"""Words looked at of a subject; a line of a mailbox's list shows about so many."""

_EDIT_LEAST = 6
_KEPT_LEAST = 4
"""Letters from which a name with one letter edited, or with look-alike letters, is no chance."""

_DASH = re.compile("-")
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand, as brands.toml explains its parts; names and `beside` are skeletons."""

    name: str
    names: tuple[tuple[str, ...], ...]
    site: str
    common: bool
    person: bool
    family: bool
    beside: frozenset[str]

    @property
    def labels(self) -> frozenset[str]:
        """The brand's names as a domain would spell them."""
        return frozenset("".join(words) for words in self.names)

    def is_common(self, words: tuple[str, ...]) -> bool:
        """Whether a name of the brand is a common word; further names are not."""
        return self.common and words == self.names[0]


@dataclass(slots=True)
class _Owned:
    """Domains by exact name, by name under every country's suffix, by top-level domain."""

    exact: set[str] = field(default_factory=set)
    everywhere: frozenset[str] = frozenset()
    tops: set[str] = field(default_factory=set)

    def add(self, entries: Iterable[str]) -> None:
        for entry in entries:
            if entry.startswith("."):
                self.tops.add(entry[1:])
            elif entry.endswith(".*"):
                self.everywhere |= {entry[:-2]}
            else:
                self.exact.add(entry)
                self.exact.add(domains.registered_domain(entry))
        self.exact.discard("")

    def has(self, domain: str) -> bool:
        top = domain.rpartition(".")[2]
        known = domain in self.exact or top in self.tops
        return known or domains.is_country_wide(domain, self.everywhere)


@dataclass(frozen=True, slots=True)
class _Book:
    brands: dict[tuple[str, ...], Brand]
    """By the words of each name."""
    firsts: frozenset[str]
    owned: dict[str, _Owned]
    all_owned: _Owned
    sites: frozenset[str]
    companions: frozenset[str]
    names: Names


def prepare() -> None:
    """Loads the table now."""
    _book()


@functools.cache
def _book() -> _Book:
    data = domains.load("brands.toml")
    companions = _skeletons(data["companions"])
    beside = companions | _skeletons(data["glue"])
    by_words: dict[tuple[str, ...], Brand] = {}
    owned: dict[str, _Owned] = {}
    everything = _Owned()
    names: list[Name] = []
    for entry in data["brands"]:
        spelled = (entry["name"], *entry.get("words", ()))
        site = next(domain for domain in entry["domains"] if not domain.startswith("."))
        brand = Brand(
            name=entry["name"],
            names=tuple(_words(name, NAME_WORDS) for name in spelled),
            site=site.replace(".*", ".com"),
            common=entry.get("common", False),
            person=entry.get("person", False),
            family=entry.get("family", False),
            beside=_skeletons(entry["beside"]) if "beside" in entry else beside,
        )
        by_words = dict.fromkeys(brand.names, brand) | by_words
        owned[brand.name] = _Owned()
        owned[brand.name].add(entry["domains"])
        everything.add((*entry["domains"], *entry.get("mail", ())))
        if "beside" not in entry:
            near = frozenset(entry.get("near", ()))
            names += (
                Name.of(
                    _squeezed(name),
                    brand.site,
                    common=brand.family or (brand.common and name == brand.name),
                    near=near,
                )
                for name in spelled
            )
    return _Book(
        brands=by_words,
        firsts=frozenset(words[0] for words in by_words),
        owned=owned,
        all_owned=everything,
        sites=frozenset(brand.site for brand in by_words.values()),
        companions=companions,
        names=Names(names),
    )


def _skeletons(text: str) -> frozenset[str]:
    return frozenset(skeleton(word) for word in text.split())


def _squeezed(name: str) -> str:
    """A name as a domain spells it: without accents, blanks and signs."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(sign for sign in decomposed if sign.isascii() and sign.isalnum())


def _words(text: str, limit: int) -> tuple[str, ...]:
    """The first words of a text as skeletons."""
    joined = _APOSTROPHE.sub(" ", text[:300])
    return tuple(skeleton(word) for word in _WORD.findall(joined)[:limit])


# --- Who a mail says it is from -------------------------------------------------------------


def claimed_in_name(name: str) -> Brand | None:
    """The brand that a sender's name carries as whole words."""
    words = _words(name, NAME_WORDS)
    for start, end, brand in _mentions(words):
        rest = (*words[:start], *words[end:])
        if not brand.is_common(words[start:end]) or (
            (rest or not brand.person)
            and all(word in brand.beside or word.isdigit() for word in rest)
        ):
            return brand
    return None


def claimed_in_subject(subject: str) -> Brand | None:
    """The brand that a subject begins with, as a brand's own notices do: with its business.

    News and questions about a brand begin with it too, so a companion word has to stand right
    beside it; a common word as a name is none there.
    """
    words = _words(subject, SUBJECT_WORDS)
    companions = _book().companions
    for start, end, brand in _mentions(words):
        if start > 2:
            break
        beside = {*words[max(0, start - 1) : start], *words[end : end + 1]}
        if beside & companions and not brand.is_common(words[start:end]):
            return brand
    return None


def _mentions(words: tuple[str, ...]) -> Iterable[tuple[int, int, Brand]]:
    book = _book()
    for start, word in enumerate(words):
        if word in book.firsts:
            for end in range(min(len(words), start + 6), start, -1):
                brand = book.brands.get(words[start:end])
                if brand is not None:
                    yield start, end, brand
                    break


def is_a_brands(domain: str) -> bool:
    """Whether a registered domain is some brand's own for sure: named in the list, or its site.

    What is only like one (`x.*`) under some country's suffix is anybody's to register.
    """
    book = _book()
    owned = book.all_owned
    return domain in owned.exact or domain.rpartition(".")[2] in owned.tops or domain in book.sites


def owns(brand: Brand, domain: str) -> bool:
    """Whether a registered domain is a brand's own."""
    book = _book()
    if book.owned[brand.name].has(domain):
        return True
    # Independent members: sparkasse-hannover.de is one, sparkasse-sicherheit.de is none.
    return brand.family and any(
        label in part and not is_dressed(part, label)
        for label in brand.labels
        for part in (skeleton(domain.partition(".")[0]).replace("-", ""),)
    )


# --- Names made to be taken for others ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """A name that others imitate."""

    plain: str
    label: str
    """Its skeleton."""
    domain: str
    """Shown for it."""
    distinct: bool
    """No common word, so that a slight change of it means it."""
    near: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, plain: str, domain: str, *, common: bool = False, near: frozenset[str] = frozenset()
    ) -> Name:
        """The name that a domain spells so; of common words, long compounds are distinct."""
        return cls(plain, skeleton(plain), domain, not common or len(plain) >= 10, near)


class Names:
    """Names that others imitate, to be compared with one domain at a time."""

    def __init__(self, names: Iterable[Name]) -> None:
        self._by_label: dict[str, Name] = {}
        self._by_edit: dict[str, list[Name]] = {}
        for name in names:
            self._by_label.setdefault(name.label, name)
            if name.distinct and len(name.label) >= _EDIT_LEAST:
                for key in _deletions(name.label):
                    self._by_edit.setdefault(key, []).append(name)

    def match(self, domain: str) -> Name | None:
        """The name that a registered domain, which is not its owner's, could be taken for."""
        plain = domains.shown(domain.partition(".")[0])
        label = skeleton(plain)
        name = self._by_label.get(label)
        if name is not None:
            # Under another suffix, or with letters that look alike.
            least = _EDIT_LEAST if plain == name.plain else _KEPT_LEAST
            return name if name.distinct and len(label) >= least else None
        if len(label) >= _EDIT_LEAST:
            for key in _deletions(label):
                for name in self._by_edit.get(key, ()):
                    if plain not in name.near and domains.is_edit(label, name.label):
                        return name
        return self._inside(label)

    def _inside(self, label: str) -> Name | None:
        parts = frozenset(label.split("-"))
        joined = label.replace("-", "")
        for name in self._by_label.values():
            if name.label not in joined or len(name.label) < 3:
                continue
            apart = name.label in parts
            clear = apart and name.distinct and len(name.label) >= _EDIT_LEAST
            whole = apart or (name.distinct and len(name.label) >= _KEPT_LEAST)
            if clear or (whole and is_dressed(joined, name.label)):
                return name
        return None


def _deletions(label: str) -> set[str]:
    return {label} | {label[:i] + label[i + 1 :] for i in range(len(label[:63]))}


def is_dressed(label: str, name: str) -> bool:
    """Whether a label is a name with companion words and digits around it, and nothing else."""
    before, _, after = label.partition(name)
    return bool(before or after) and _is_companions(before) and _is_companions(after)


def _is_companions(text: str) -> bool:
    text = text.strip("0123456789-")
    companions = _book().companions
    reached = {0}
    for end in range(1, len(text) + 1):
        # 16 letters: longer companion words than that are none.
        if any(text[start:end] in companions for start in reached if end - start <= 16):
            reached.add(end)
    return len(text) in reached


@functools.lru_cache(maxsize=4_096)
def lookalike(host: str, own: tuple[str, ...], claimed: Brand | None = None) -> str:
    """The domain that a host could be taken for: a brand's, or one of the recipients' `own`.

    With a brand that the sender claims to be, its name anywhere in the domain is enough.
    """
    domain = domains.registered_domain(host)
    book = _book()
    if not domain or domain in own or book.all_owned.has(domain) or domains.is_between(host):
        return ""
    whole = _whole_inside(host, domain, own)
    if whole:
        return whole
    if own and (known := _names_of(own).match(domain)) is not None:
        same = domain.partition(".")[0] == known.domain.partition(".")[0]
        suffixes = domain.partition(".")[2], known.domain.partition(".")[2]
        # A firm's name under another suffix is often the firm; .co for .com is seldom.
        if not same or domains.is_edit(*suffixes):
            return known.domain
    if (known := book.names.match(domain)) is not None:
        return known.domain
    label = skeleton(domains.shown(domain.partition(".")[0])).replace("-", "")
    names = claimed.labels if claimed is not None and not claimed.family else ()
    if claimed is not None and any(len(name) >= 3 and name in label for name in names):
        return claimed.site
    return ""


def _whole_inside(host: str, domain: str, own: tuple[str, ...]) -> str:
    """A known domain that stands as a whole in a host of another (paypal.com.a.example).

    Where the other follows after a hyphen (paypal.com-a.example) it counts as well.
    """
    known = _book().all_owned
    below = host[: -len(domain)].strip(".") if host.endswith(domain) else ""
    cuts = [below, *(host[: dash.start()] for dash in islice(_DASH.finditer(host), 8))]
    for cut in cuts:
        labels = cut.split(".")[-8:]  # deeper hosts are looked at near their ends
        for start in range(len(labels) - 1):
            ends = range(start + 2, min(len(labels), start + 3) + 1)
            for end in ends if cut is below else (len(labels),):
                run = ".".join(labels[start:end])
                if run in own or known.has(run):
                    return run
    return ""


@functools.lru_cache(maxsize=64)
def _names_of(own: tuple[str, ...]) -> Names:
    return Names(Name.of(domains.shown(domain.partition(".")[0]), domain) for domain in own)
