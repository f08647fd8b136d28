"""A mail's texts without what differs from one copy of a campaign to the next.

Plain functions over values.  What may not live here: what makes two mails the same campaign
(fingerprint.py).

A sender writes all that is masked, and could have a harmless text remembered to send another one
under the same masks.  So masked is what leaves no choice of words: the recipient's own address, his
name where a greeting calls him by it, digits (how many there are stays) and runs of letters and
digits that nobody can read.  Never masked is what says where to go, whom to call and where to pay:
hosts, other people's addresses, telephone numbers, bank accounts and wallets.  And where a text has
more of what would be masked than mail has, nothing in it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from rspamd_llm import brands, chance, domains, spelling, targets
from rspamd_llm.personal import Personal, nameless
from rspamd_llm.targets import MARK

ME = f"{MARK}me"
"""Stands for the recipient's address or user's name."""

NAMED_MOST = 6
"""Times in a text that the recipient's local part is masked outside of addresses: a user's name."""

NUMBERS_LEAST, NUMBERS_SHARE, NUMBERS_MOST = 4, 3, 200
"""Words with numbers that are masked in any text, one in how many beyond, and at most: of an order
confirmation's words one in five has a number."""

TOKENS_LEAST, TOKENS_SHARE, TOKENS_MOST = 2, 20, 30
"""The same for tokens: a subject has one or two, a text a reference in each paragraph at most."""

ODD_MOST = 1_000
"""Words of a text that are looked at closely, which bounds the work to 20 ms.  Long newsletters in
plain text have 300 URLs and numbers."""

WORD_LONGEST = 2_000
"""Characters of a word that is looked at: what browsers agree on for a URL."""

FOLDED_LONGEST, FOLDED_MOST = 64, 20_000
"""Characters of a word whose compatible signs are folded, and of a text's in all: to sort a run of
combining marks takes time by the square of its length, and a sign may stand for eighteen."""

NUMBER_LONG = 6
"""Digits from which a number is masked as a token is: a hexadecimal one may lack letters."""

SUFFIX_LEAST = 4
"""Digits after letters that are masked (`INV20260187`): fewer are part of a name (`office365`)."""

CHUNK_LEAST = 16
"""Signs of a token that may hold `-` and `_`, as URL-safe base64 and UUIDs do; an order's number
of that length is masked too."""

_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_ODD = re.compile(rf"[0-9@{MARK}]|%40|://|www\.", re.IGNORECASE)
_WEB = re.compile(r"(?:https?://|(?<![\w.-])www\.)[^\s<>\"']+", re.IGNORECASE)
_SITE = re.compile(r"https?://[^/?#\\]*", re.IGNORECASE)
_AFTER = ".,;:!?)]}>*_'\""
_AROUND = f"([{{<{_AFTER}"
_ADDRESS = re.compile(
    r"([^\s@<>\"'(),;:\[\]/?=&]{1,64})(?:@|%40)([\w-][\w.-]{0,254})", re.IGNORECASE
)
_HOST = re.compile(
    r"(?<![\w-])(?:(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![\w-])"
)
_IPV6 = re.compile(r"(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}", re.IGNORECASE)
# No top-level domains (IANA's list of 2026), so that names of files are none of hosts.
_ENDINGS = (
    "pdf doc docx docm xls xlsx xlsm ppt pptx odt ods txt rtf csv xml json htm html jpg jpeg png "
    "gif tif tiff bmp svg eml msg ics vcf rar exe php asp aspx jsp"
)
_FILES = frozenset(_ENDINGS.split())
_CHUNK = re.compile(r"[A-Za-z0-9_-]+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z]*[0-9][A-Za-z0-9]*")
_DIGITS = re.compile(r"[0-9]+")

# Telephone numbers as people write them: after +, an area code in brackets or before a blank; the
# three groups of North America; no dates.
_PHONE = re.compile(
    r"(?<![\w.,/=?&+-])(?:\+[0-9](?:[ ()./-]{0,2}[0-9]){6,14}"
    r"|\([0-9]{2,5}\)[ ./-]?[0-9](?:[ ./-]?[0-9]){5,9}"
    r"|(?:1[ .-])?(?:[2-9][0-9]{2}[.-][0-9]{3}[.-][0-9]{4}|[2-9][0-9]{2} [0-9]{3} [0-9]{4})"
    r"|(?![0-3]?[0-9][./-][01]?[0-9][./-](?:19|20)?[0-9]{2}(?![./-]?[0-9]))"
    r"0[0-9]{1,4}[ /.-][0-9](?:[ .-]?[0-9]){5,9})(?![\w-])"
)
# In capitals, or in small letters with nothing but digits after the country.
_IBAN = re.compile(
    r"(?<![\w/=?&.-])(?:[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?"
    r"|[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9]{4}){2,7}(?:[ -]?[0-9]{1,3})?)(?![\w-])"
)
_PARTING = re.compile(r"[ -]")


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks for one mail."""

    whose: Personal

    def text(self, text: str, *, line: bool = False, hosts: bool = True) -> str:
        """A text in small letters, masked, with its blanks folded; or all of it as it stands,
        where more would be masked than mail has.  Never raises.

        `line` is for subjects; without `hosts` no word is taken for one.
        """
        plain = spelling.undo(text).text
        named = nameless(plain, self.whose, line=line)
        if _DIGITS.search(named):
            named = _IBAN.sub(_account, _PHONE.sub(_kept, named))
        low = named.casefold()
        words = named.split()
        user = self.whose.user if self.whose.user in low else ""
        masking = _Masking(self, len(words), user, hosts)
        masked = [
            small if word.isascii() and word.isalpha() else masking.word(word)
            for word, small in zip(words, low.split(), strict=True)
        ]
        if masking.is_too_much():
            return f"{MARK}={' '.join(plain.split()).casefold()}"
        return " ".join(masked)

    def texts(self, several: Iterable[str]) -> str:
        """Short texts together, for they have one bound; MARK parts them."""
        return self.text(f" {MARK} ".join(several))

    def names(self, several: Iterable[str]) -> str:
        """Names of files, likewise."""
        return self.text(f" {MARK} ".join(several), hosts=False)

    def address(self, address: str) -> str:
        """A mail address: its domain, and what stands before it masked as a text is; all of it
        where everybody can get an address, for there that is the sender."""
        local, at, host = address.strip("<> ").casefold().rpartition("@")
        own = self.own(local, host)
        if own or not local or domains.is_free_mail(domains.registered_domain(host)):
            return own or local + at + host
        return f"{self.text(local, hosts=False)}@{host}"

    def target(self, url: str) -> str:
        """Where a link leads (targets.py); of a mail to be written, also what it is to say."""
        if url[:7].lower() == "mailto:":
            return f"mailto:{self.text(unquote(url[7:]))}"
        site = _SITE.match(url)
        if site is not None and ("@" in url or "%40" in url):
            url = site.group() + self.without_addresses(url[site.end() :])
        return targets.seen(url)

    def without_addresses(self, text: str) -> str:
        """A text without the recipients' addresses; others' stay."""
        return _ADDRESS.sub(lambda match: self.own(match[1], match[2]) or match.group(), text)

    def own(self, local: str, host: str) -> str:
        """What stands for a recipient's address; empty for others'.  After a `+` stands what he
        chose, or the sender."""
        base, plus, suffix = local.casefold().partition("+")
        if (base, host.rstrip(".-").casefold()) in self.whose.addresses:
            return f"{ME}{plus}{suffix}"
        return ""


@dataclass(slots=True)
class _Masking:
    """One text being masked, word by word."""

    masks: Masks
    words: int
    user: str
    hosts: bool
    odd: int = 0
    numbers: int = 0
    tokens: int = 0
    named: int = 0
    folded: int = 0

    def is_too_much(self) -> bool:
        """Whether more is masked than mail has."""
        numbers = min(NUMBERS_MOST, max(NUMBERS_LEAST, self.words // NUMBERS_SHARE))
        tokens = min(TOKENS_MOST, max(TOKENS_LEAST, self.words // TOKENS_SHARE))
        return self.numbers > numbers or self.tokens > tokens or self.odd > ODD_MOST

    def word(self, word: str) -> str:
        """What stays of a word."""
        if not word.isascii():
            if _OTHER_DIGIT.search(word):
                return word.casefold()  # whoever writes digits so may write a telephone number
            word = self._folded(word)
        is_user = self.user and word.strip(_AROUND).casefold() == self.user
        if is_user and self.named < NAMED_MOST:
            self.named += 1
            return word.casefold().replace(self.user, ME)
        if not _ODD.search(word) or MARK in word or len(word) > WORD_LONGEST:
            return word.casefold()
        self.odd += 1
        if self.odd > ODD_MOST or self.numbers > NUMBERS_MOST or self.tokens > TOKENS_MOST:
            return word  # it is too much, whatever comes
        return self._odd(word)

    def _folded(self, word: str) -> str:
        """A word with full-width letters and the like as plain ones."""
        if len(word) > FOLDED_LONGEST or self.folded > FOLDED_MOST:
            return word
        self.folded += len(word)
        return unicodedata.normalize("NFKC", word)

    def _odd(self, word: str) -> str:
        """A word with digits, a URL or an address in it."""
        before = self.numbers
        masked = self._parted(word)
        self.numbers = min(self.numbers, before + 1)  # a date is one number
        return masked

    def _parted(self, word: str) -> str:
        web = _WEB.search(word)
        if web is not None:
            url = web.group().rstrip(_AFTER)
            whole = url if "://" in url else f"http://{url}"
            rest = word[web.start() + len(url) :].casefold()
            return self._around(word[: web.start()]) + self.masks.target(whole) + rest
        if "@" in word or "%40" in word:
            return _ADDRESS.sub(self._address, word).casefold()
        hosts = [found for found in _HOST.finditer(word) if _is_host(found)] if self.hosts else []
        if hosts:
            before, host = self._around(word[: hosts[0].start()]), hosts[0].group()
            rest = word[hosts[0].end() :]
            if rest[:1] in ("/", "?", "#", ":"):
                return before + self.masks.target(f"http://{host}{rest}")
            return before + host.casefold() + self._around(rest)
        return word.casefold() if _IPV6.search(word) else self._runs(word)

    def _around(self, text: str) -> str:
        """What stands beside a host in a word, where another one may stand."""
        return text.casefold() if "." in text else self._runs(text)

    def _address(self, found: re.Match[str]) -> str:
        own = self.masks.own(found[1], found[2])
        if own or domains.is_free_mail(domains.registered_domain(found[2].rstrip(".-"))):
            return own or found.group()
        return f"{self._runs(found[1])}@{found[2]}"

    def _runs(self, text: str) -> str:
        """A text with its numbers and tokens masked."""
        return _CHUNK.sub(self._chunk, text).casefold()

    def _chunk(self, found: re.Match[str]) -> str:
        """Letters, digits, `-` and `_`: one token, or several runs of letters and digits."""
        chunk = found.group()
        if len(chunk) >= CHUNK_LEAST and ("-" in chunk or "_" in chunk):
            pieces = chunk.replace("_", "-").split("-")
            is_read = any(len(piece) > 3 and chance.is_word(piece) for piece in pieces)
            if _UUID.fullmatch(chunk) or (not is_read and chance.is_token("".join(pieces))):
                return self._token(chunk)
        return _RUN.sub(self._run, chunk)

    def _run(self, found: re.Match[str]) -> str:
        run = found.group()
        if run.isdigit():
            return self._number(found)
        if chance.is_token(run) and brands.claimed_in_name(chance.read(run)) is None:
            return self._token(run)
        if run[0].isdigit() and run.lstrip("0123456789").isalpha():
            return _DIGITS.sub(self._number, run)
        name = run.rstrip("0123456789")
        if name.isalpha() and len(run) - len(name) >= SUFFIX_LEAST:
            return _DIGITS.sub(self._number, run)
        return run

    def _number(self, found: re.Match[str]) -> str:
        self.numbers += 1
        length = len(found.group())
        return f"{MARK}~{chance.size(length)}" if length >= NUMBER_LONG else "0" * length

    def _token(self, token: str) -> str:
        self.tokens += 1
        return f"{MARK}~{chance.size(len(token))}"


def _is_host(found: re.Match[str]) -> bool:
    return found.group().rpartition(".")[2].casefold() not in _FILES


def _kept(found: re.Match[str]) -> str:
    """A number that says whom to call, as one word that nothing is masked in."""
    return MARK + _PARTING.sub("", found.group())


def _account(found: re.Match[str]) -> str:
    """A bank account, likewise, if its check digits are right (ISO 13616)."""
    number = _PARTING.sub("", found.group()).upper()
    value = "".join(str(int(sign, 36)) for sign in number[4:] + number[:4])
    return MARK + number if int(value) % 97 == 1 else found.group()
