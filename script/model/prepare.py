"""Mails -> the texts the model reads, made by the product's own functions, as JSON lines."""

import json
import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rspamd_llm import compact, facts, mail
from rspamd_llm.domain import Envelope, Message
from script.model.labels import Sample


@dataclass(frozen=True, slots=True)
class Example:
    source: str
    kind: str
    language: str
    label: str
    text: str


def text_of(data: bytes) -> str:
    """What the daemon would hand the model for this mail."""
    message = Message(envelope=Envelope(), data=data, size=len(data))
    read = mail.read(data)
    return compact.compact(read, facts.gather(message, read))


def example(sample: Sample) -> Example:
    return Example(sample.source, sample.kind, sample.language, sample.label, text_of(sample.data))


def examples(samples: Iterable[Sample]) -> Iterator[Example]:
    with multiprocessing.Pool(2) as pool:
        yield from pool.imap(example, samples, chunksize=32)


def save(path: Path, found: Iterable[Example]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for one in found:
            fields = {name: getattr(one, name) for name in Example.__slots__}
            out.write(json.dumps(fields, ensure_ascii=False) + "\n")
            count += 1
    return count


def load(path: Path) -> list[Example]:
    with path.open(encoding="utf-8") as lines:
        return [Example(**json.loads(line)) for line in lines]
