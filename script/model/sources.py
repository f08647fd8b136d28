"""Mail of others, read from a folder that need not be there, each source with a held-out fifth.

Only sources that may be trained on are given as training mail; the rest serves measuring alone.
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from script.model.labels import Sample

# What a reader of spam of 2002 knows advance-fee fraud by; two of these make a scam.
_ADVANCE_FEE = re.compile(
    rb"next of kin|million (?:united states |us )?dollars|us\$ ?\d|nigeria|abacha|sierra leone|"
    rb"congo|late (?:father|husband)|confidential|foreign partner|security company|beneficiary|"
    rb"lottery|winning (?:number|ticket)|transfer (?:of|the|this) (?:fund|money|sum)",
    re.IGNORECASE,
)
# phishing_pot tells its label by these headers and by the honeypot's own address.
_LEAKS = re.compile(
    rb"^(?:X-MS-Exchange-[\w-]+|X-SID-[\w-]+|X-Sender-IP|X-Microsoft-Antispam[\w-]*|"
    rb"X-MS-Office[\w-]*|X-EOP[\w-]*|X-Forefront[\w-]*):[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_HONEYPOT = re.compile(rb"phishing@pot", re.IGNORECASE)


def held_out(name: str) -> bool:
    """A fifth of the files, by name alone, so that it stays the same everywhere."""
    return zlib.crc32(name.encode()) % 5 == 0


def read(corpus: Path) -> Iterator[Sample]:
    """Every mail that may be trained on or measured with; nothing if the folder is not there."""
    for path in _files(corpus / "ham" / "spamassassin"):
        kind = path.name.partition("-")[0]
        yield Sample("spamassassin-ham", kind, "en", "none", path.read_bytes(), held_out(path.name))
    for path in _files(corpus / "unwanted" / "spamassassin"):
        data = path.read_bytes()
        scam = len({match.lower() for match in _ADVANCE_FEE.findall(data)}) >= 2
        label = "scam" if scam else "marketing"
        yield Sample("spamassassin-spam", "spam", "en", label, data, held_out(path.name))
    for path in _files(corpus / "torture" / "sisimai_bounces"):
        if path.suffix != ".md":
            data = path.read_bytes()
            yield Sample("sisimai", "bounce", "en", "none", data, held_out(path.name))


def measured_only(corpus: Path) -> Iterator[Sample]:
    """Mail whose licence or nature keeps it out of training."""
    for path in _files(corpus / "unwanted" / "phishing_pot"):
        data = without_leaks(path.read_bytes())
        yield Sample("phishing_pot", "real", "", "phishing", data, True)
    for folder, kind in (("injection_benign", ""), ("torture/ietf_mailarchive", "list")):
        for path in _files(corpus / folder):
            yield Sample(path.parent.name, kind, "en", "none", path.read_bytes(), True)


def without_leaks(data: bytes) -> bytes:
    head, gap, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    head = _LEAKS.sub(b"", head + b"\n").rstrip(b"\n")
    return _HONEYPOT.sub(b"user@example.org", head + gap + body)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())
