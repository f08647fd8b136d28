"""What is masked, and what is no personal token."""

from __future__ import annotations

import pytest

from rspamd_llm import redact


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.com.", "write to [address]@mail.example.com."),
        ("call +49 171 5550123 now", "call [phone] now"),
        ("call 0171/555 01 23.", "call [phone]."),
        ("tel. (030) 555 0123", "tel. [phone]"),
        ("card 4111 1111 1111 1111", "card [card]"),
        ("card 4111-1111-1111-1111, thanks", "card [card], thanks"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN [iban]"),
    ],
)
def test_personal_tokens(text: str, masked: str) -> None:
    assert redact.mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Invoice 2026-0187 of 24 February 2026",
        "EUR 1.250,00 by 12:30",
        "https://example.com/track/0049123",
        "version 3.11.2, 600x400 pixels",
        "room 0123",
    ],
)
def test_what_is_no_personal_token(text: str) -> None:
    assert redact.mask(text) == text


class TestRecipients:
    def test_their_local_parts_are_masked_whatever_is_asked_for(self) -> None:
        hide = redact.hiding(["<bob@x.example>", "ann.lee@y.example"], everything=False)
        assert hide("Dear BOB@x.example and bob%40x.example") == (
            "Dear [recipient]@x.example and [recipient]@x.example"
        )
        assert hide("ann.lee@y.example, eve@y.example") == "[recipient]@y.example, eve@y.example"

    def test_other_words_stay(self) -> None:
        hide = redact.hiding(["<bob@x.example>"], everything=False)
        assert hide("Bob, kabob@x.example, bob@z.example") == "Bob, kabob@x.example, bob@z.example"

    @pytest.mark.parametrize("recipients", [[], ["<>"], [""], ["postmaster"]])
    def test_no_address_no_masking(self, recipients: list[str]) -> None:
        assert redact.hiding(recipients, everything=False)("a@b.example") == "a@b.example"
