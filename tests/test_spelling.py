"""Obfuscation undone: what a text says, and whether its spelling evades."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import spelling
from rspamd_llm.spelling import Spelled, scripts, skeleton, undo

LONG = "This is a sentence of a longer mail, which has nothing else to say. " * 5


@pytest.mark.parametrize(
    ("text", "plain", "evades"),
    [
        # Letters apart.
        ("V I A G R A now", "VIAGRA now", True),
        ("p.a.y.p.a.l", "paypal", True),
        ("c-l-i-c-k here", "click here", True),
        ("c_l_i_c_k", "click", True),
        ("E n t r e g a fallida", "Entrega fallida", True),
        (LONG + "N E W S", LONG + "NEWS", False),
        (LONG + "S U M M E R", LONG + "SUMMER", False),
        (LONG + "W I N  M A N Y  H U G E  C A R S", LONG + "W I N  MANY  HUGE  CARS", False),
        ("the U.S.S.R. fell", "the U.S.S.R. fell", False),
        ("a b c", "a b c", False),
        ("x.a.b.c.d.example.com", "x.a.b.c.d.example.com", False),
        ("http://a.example/a-b-c-d-e", "http://a.example/a-b-c-d-e", False),
        # Letters of another script in a word.
        ("P\u0430yp\u0430l", "Paypal", True),
        ("\u0410mazon", "Amazon", True),
        ("Y\u03bfur acc\u03bfunt", "Your account", True),
        ("\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0440e\u0434\u0438\u0442",
         "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0440\u0435\u0434\u0438\u0442", False),
        ("\u041f\u0440\u0438\u0432\u0435\u0442", "\u041f\u0440\u0438\u0432\u0435\u0442", False),
        ("\u0441\u0430\u0440", "\u0441\u0430\u0440", False),  # Cyrillic, all of it
        ("5 k\u03a9, 3 \u03bcm, \u0394x", "5 k\u03a9, 3 \u03bcm, \u0394x", False),
        ("USB-\u043a\u0430\u0431\u0435\u043b", "USB-\u043a\u0430\u0431\u0435\u043b", False),
        # Letters in another style.
        ("\U0001d5db\U0001d5f2\U0001d5f9\U0001d5f9\U0001d5fc Ada", "Hello Ada", False),
        ("P\U0001d41ayp\U0001d41al", "Paypal", True),
        ("\uff21\uff22\uff23\u65e5\u672c", "ABC\u65e5\u672c", False),
        ("\uff28\uff45\uff4c\uff4c\uff4f", "Hello", False),
        ("\u24c5\u24d0\u24e8", "Pay", False),
        ("\U0001f17f\U0001f170\U0001f188", "PAY", False),
        ("\u1d18\u1d00\u028f", "pay", False),
        ("\U0001d5d7" * 90, "D" * 90, True),
        ("x\u00b2, 1\u00ba, \u2122, \u2116", "x\u00b2, 1\u00ba, \u2122, \u2116", False),
        ("M\u1d50\u1d49 Curie", "Mme Curie", False),
        # Digits and signs for letters, in words of the list.
        ("cheap V1agra", "cheap viagra", True),
        ("B1TC0IN", "BITCOIN", True),
        ("your p@ssw0rd", "your password", False),
        ("Micro$oft", "microsoft", False),
        ("mp3player h2o b4ckup", "mp3player h2o b4ckup", False),
        ("mail@p4yp4l.example", "mail@p4yp4l.example", False),
        # Marks.
        ("Z\u0338\u031b\u0330a\u0337\u0322\u031bl\u0335\u0321\u031b", "Zal", True),
        ("P\u0336e\u0336n\u0336d\u0336i\u0336n\u0336g\u0336 \u0336t\u0336o\u0336", None, True),
        ("Vie\u0323\u0302t Nam", "Vie\u0323\u0302t Nam", False),
        ("pay\u200bpal acc\u200bou\u200bnt", "paypal account", True),
        ("co\u00adoper\u00adate", "cooperate", False),
        ("", "", False),
    ],
)  # fmt: skip
def test_undo(text: str, plain: str | None, evades: bool) -> None:
    undone = undo(text)
    assert undone.evades is evades
    if plain is not None:
        assert undone.text == plain


def test_many_words_apart_evade_in_a_long_text() -> None:
    assert undo(LONG + "c h e a p, q u i c k, s m a r t, g r e a t").evades


def test_who_writes_in_two_scripts_may_slip() -> None:
    russian = "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 "
    slip = "\u043a\u0440e\u0434\u0438\u0442 "
    assert not undo(russian + slip * 2).evades
    assert undo(russian + slip * 3).evades


def test_only_the_beginning_is_looked_at() -> None:
    long = "word" * (spelling.LIMIT // 4) + " V I A G R A"
    assert undo(long) == Spelled(long, evades=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("paypal", "PayPaI"),
        ("paypal", "p\u00e0ypa1"),
        ("paypal", "\u0440\u0430\u0443\u0440\u0430\u04cf"),
        ("microsoft", "rnicr0s0ft"),
        ("wells", "vvells"),
        ("lodz", "\u0142\u00f3d\u017a"),
    ],
)
def test_skeletons_alike(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


def test_skeletons_unlike() -> None:
    assert len({skeleton(name) for name in ("paypal", "papal", "amazon", "ebay", "dhl")}) == 5


@pytest.mark.parametrize(
    ("label", "mixed"),
    [
        ("paypal", False),
        ("m\u00fcnchen", False),
        ("p\u0430ypal", True),
        ("\u03b1bc", True),
        ("\u4f8b\u3048abc", False),
        ("\u4f8b\u0430", True),
        ("abc-123", False),
    ],
)
def test_scripts(label: str, mixed: bool) -> None:
    assert (len(scripts(label)) > 1) is mixed


@pytest.mark.parametrize(
    "bait",
    [
        "a ", "a.", "a1", "a1b ", "v1agra ", "a" * 50 + "1", "\u0430a", "\u0430a ", "p\u0430ypal ",
        "a\u0300\u0301\u0302", "\U0001d5db", "\U0001d5dba", "\u200ba", "a_", "a- ", "A.B.C.D. ",
    ],
)  # fmt: skip
def test_time_is_linear(bait: str) -> None:
    start = time.process_time()
    undo(bait * (spelling.LIMIT // len(bait)))
    # 1 to 8 ms; a quadratic expression takes seconds.
    assert time.process_time() - start < 0.1


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_nothing_raises_or_grows(text: str) -> None:
    undone = undo(text)
    assert len(undone.text) <= len(text)
    skeleton(text)
    scripts(text)


class TestSoup:
    """What nobody decoded is decoded where a text is full of it, and left where it is not."""

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            (
                "Sch=C3=B6ne Gr=C3=BC=C3=9Fe aus M=C3=BCnchen, 5=20=E2=82=AC =\nund mehr",
                "Schöne Grüße aus München, 5 € und mehr",
            ),
            ("f=FCr Sie, gr=FCn, k=FChl, sch=F6n, gro=DF", "für Sie, grün, kühl, schön, groß"),
            ("&#72;&#101;llo &amp; w&ouml;rld &lt;b&gt;", "Hello & wörld <b>"),
        ],
    )
    def test_decoded(self, text: str, read: str) -> None:
        assert spelling.undo(text).text == read

    @pytest.mark.parametrize(
        "text",
        [
            "Write &amp; for an ampersand and &lt; for less.",
            "x=20, y=3D, see https://a.example/?a=C3&b=E2&c=20&d=3D&e=09&f=A0",
            "if a=b and c=d then e=f",
        ],
    )
    def test_left(self, text: str) -> None:
        assert spelling.undo(text).text == text
