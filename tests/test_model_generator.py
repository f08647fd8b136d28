"""The mail that the builtin model learns from: the same for a seed, varied, and really mail."""

import email
import email.policy
import random
from collections import Counter

import pytest

from rspamd_llm import mail
from script.model import generate, phrases, sources, unwanted
from script.model.labels import ANSWERS, LABELS, Sample
from script.model.vocabulary import unreachable

COUNT = 300


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(generate.many(3, COUNT))


def test_same_seed_same_mail(samples: list[Sample]) -> None:
    assert [one.data for one in generate.many(3, 50)] == [one.data for one in samples[:50]]
    assert next(generate.many(4, 1)).data != samples[0].data


def test_varied(samples: list[Sample]) -> None:
    assert {one.label for one in samples} == set(LABELS)
    assert {one.language for one in samples} == set(phrases.LANGUAGES)
    assert sum(one.label == "none" for one in samples) == COUNT // 2
    bodies = Counter(one.data.partition(b"\r\n\r\n")[2] for one in samples)
    assert bodies.most_common(1)[0][1] == 1


def test_parses_as_mail(samples: list[Sample]) -> None:
    for one in samples:
        message = email.message_from_bytes(one.data, policy=email.policy.default)
        assert message["From"]
        assert message["Date"].datetime
        assert not message.defects
        read = mail.read(one.data)
        assert read.from_address, one.kind
        assert read.text.strip(), one.kind
        assert not read.defects, (one.kind, read.defects)


@pytest.mark.parametrize("language", phrases.LANGUAGES)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_kind_in_every_language(language: str, held_out: bool) -> None:
    for kind in (*generate.WANTED_WEIGHTS, *generate.UNWANTED_WEIGHTS):
        one = generate.one(random.Random(kind), kind, language, held_out=held_out)
        assert (one.label == "none") == (kind not in unwanted.KINDS)
        assert b"{" not in one.data.partition(b"\r\nSubject:")[2].partition(b"\r\n")[0]


def test_training_never_sees_what_is_held_out() -> None:
    assert not {(one.kind, one.language) for one in generate.many(5, 400)} & generate.UNSEEN


def test_no_answer_can_be_merged_from_text() -> None:
    assert unreachable(ANSWERS, ["<", "none", "phishing", ">", "scam", "on"])
    assert not unreachable(ANSWERS, [ANSWERS[0][:-2], ANSWERS[0][-2:]])


def test_leaks_are_stripped() -> None:
    data = (
        b"From: a@b.example\nX-MS-Exchange-Organization-SCL: 9\nX-Sender-IP: 1.2.3.4\n"
        b"X-Microsoft-Antispam:\n BCL:0;\nTo: phishing@pot\nSubject: x\n\nDear phishing@pot\n"
    )
    assert sources.without_leaks(data) == (
        b"From: a@b.example\nTo: user@example.org\nSubject: x\n\nDear user@example.org\n"
    )
