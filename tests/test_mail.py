"""Bytes -> Mail: what mail programs write, what senders damage, and what they make endless."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import attachments, mail, structure, visible
from rspamd_llm.domain import Attachment, Hiding, Hop, Link, Mail, Quoted, Trait

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"

HEAD = b"From: Ada <ada@sender.example>\r\nTo: bob@rcpt.example\r\nSubject: Hello\r\n"
CUT = "only the beginning of the message was read"


def body(content: bytes, kind: str = "text/plain", *more: str) -> Mail:
    """The Mail of one part under the usual header."""
    fields = "".join(f"{field}\r\n" for field in (f"Content-Type: {kind}", *more))
    return mail.read(HEAD + fields.encode() + b"\r\n" + content)


def encoded(content: bytes, kind: str = "text/plain", *more: str) -> Mail:
    """The same, in base64."""
    return body(base64.encodebytes(content), kind, "Content-Transfer-Encoding: base64", *more)


def multipart(*parts: bytes, kind: str = "mixed", end: bytes = b"--frontier--\r\n") -> Mail:
    inner = b"".join(b"--frontier\r\n" + part + b"\r\n" for part in parts)
    return body(inner + end, f'multipart/{kind}; boundary="frontier"')


def header(field: str | bytes) -> Mail:
    """The Mail of one header field."""
    raw = field if isinstance(field, bytes) else field.encode()
    return mail.read(raw + b"\r\n\r\nText\r\n")


def strings(value: object) -> Iterator[str]:
    """Every string in a value of the domain's."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from strings(item)
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from strings(getattr(value, item.name))


def assert_clean(read: Mail) -> None:
    """Free of NUL and lone surrogates, and within every limit."""
    text = "\n".join(strings(read))
    assert "\0" not in text
    text.encode("utf-8")  # raises on a lone surrogate
    assert max(map(len, (read.subject, read.from_name, read.from_address))) <= 1_000
    assert len(read.hidden) <= mail.HIDDEN_LIMIT
    assert len(read.links) <= visible.LINK_LIMIT
    assert len(read.alts) <= mail.ALTS_LIMIT
    assert len(read.attachments) <= structure.ATTACHMENT_LIMIT
    assert len(read.quoted) <= structure.QUOTED_LIMIT
    assert all(len(quoted.text) <= mail.QUOTED_TEXT_LIMIT for quoted in read.quoted)
    assert all(len(file.members) <= attachments.MEMBER_LIMIT for file in read.attachments)
    assert all(len(file.links) <= attachments.LINK_LIMIT for file in read.attachments)


class TestHeader:
    def test_a_plain_mail(self) -> None:
        data = (
            b"Received: from mx.sender.example (mx.sender.example [8.8.8.8]) by us; x\r\n"
            b"From: Ada Lovelace <ada@sender.example>\r\n"
            b"Reply-To: office@sender.example, Other <other@else.example>\r\n"
            b"To: bob@rcpt.example, carol@rcpt.example\r\nCc: dave@rcpt.example\r\n"
            b"Subject: Engines\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
            b"In-Reply-To: <1@sender.example>\r\nList-Id: <list.sender.example>\r\n"
            b"\r\nDear Bob,\r\n\r\nthe   engine runs: https://sender.example/engine.\r\n"
        )
        assert mail.read(data) == Mail(
            from_name="Ada Lovelace",
            from_address="ada@sender.example",
            reply_to=("office@sender.example", "other@else.example"),
            to_count=3,
            subject="Engines",
            date=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
            text="Dear Bob,\nthe engine runs: https://sender.example/engine.",
            plain="Dear Bob,\nthe engine runs: https://sender.example/engine.",
            links=(Link(text="", target="https://sender.example/engine"),),
            hop=Hop(host="mx.sender.example", address="8.8.8.8"),
            listed=True,
            reply=True,
        )

    @pytest.mark.parametrize(
        ("field", "name", "address"),
        [
            ('From: "Bank, The" <a@b.example>', "Bank, The", "a@b.example"),
            ("From: =?utf-8?B?U8O2cmVu?= <a@b.example>", "Sören", "a@b.example"),
            ("From: =?iso-8859-1?Q?S=F6ren?=\r\n =?utf-8?Q?_K?= <a@b.c>", "Sören K", "a@b.c"),
            ('From: "=?utf-8?B?U8O2cmVu?=" <a@b.example>', "Sören", "a@b.example"),
            ('From: ".=?utf-8?Q?S=C3=B6?=.x" <a@b.example>', ".Sö.x", "a@b.example"),
            ("From: a@b.example (Ada)", "Ada", "a@b.example"),
            ("From: Sören <a@b.example>", "Sören", "a@b.example"),
            ("FROM:\ta@b.example", "", "a@b.example"),
            ("From: =?no-such-set?Q?x?= <a@b.example>", "=?no-such-set?Q?x?=", "a@b.example"),
            ("From:", "", ""),
            ("From: nobody at all", "", ""),
        ],
    )  # fmt: skip
    def test_sender(self, field: str, name: str, address: str) -> None:
        read = header(field)
        assert read.from_address == address
        if name != "=?no-such-set?Q?x?=":
            assert read.from_name == name

    @pytest.mark.parametrize(
        ("field", "subject"),
        [
            (b"Subject: Hello", "Hello"),
            (b"Subject: Hello\r\nSubject: Bye", "Hello"),
            (b"Subject: one\r\n\ttwo", "one two"),
            (b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            (b"Subject: =?utf-8?B?8J+YgA==?= ok", "😀 ok"),
            (b"Subject: =?utf-8?Q?a=0D=0ABcc:_x?=", "a Bcc: x"),
            (b"Subject: =?utf-8?Q?a=00b=1Bc?=", "abc"),
            ("Subject: Grüße".encode(), "Grüße"),
            (b"Subject: =?", "=?"),
            (b"Subject:", ""),
            (b"X-Other: y", ""),
        ],
    )
    def test_subject(self, field: bytes, subject: str) -> None:
        assert header(field).subject == subject

    def test_a_subject_in_raw_latin_1(self) -> None:
        assert header("Subject: Grüße".encode("latin-1")).subject == "Grüße"

    def test_raw_bytes_in_the_header_share_the_character_set_of_the_body(self) -> None:
        data = "Subject: Привет\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\nПока"
        read = mail.read(data.encode("koi8-r"))
        assert (read.subject, read.text, read.defects) == ("Привет", "Пока", ())

    @pytest.mark.parametrize(
        ("label", "text", "codec"),
        [
            ("gb2312", "你镕", "gbk"),
            ("iso-8859-1", "10 €", "windows-1252"),
            ("shift_jis", "①", "cp932"),
            ("no-such-set", "Grüße", "utf-8"),
            ("iso-8859-1", "Grüße", "utf-8"),
            ("utf-8", "Grüße", "latin-1"),
            ("x-unknown", "Grüße", "latin-1"),
        ],
    )
    def test_encoded_words_under_wrong_labels(self, label: str, text: str, codec: str) -> None:
        word = base64.b64encode(text.encode(codec)).decode()
        read = header(f"Subject: =?{label}?B?{word}?=\r\nFrom: =?{label}?B?{word}?= <a@b.example>")
        assert (read.subject, read.from_name) == (text, text)

    def test_a_sign_split_between_encoded_words(self) -> None:
        assert header("Subject: a =?utf-8?Q?=C3?=\r\n =?UTF-8?Q?=BC?= b").subject == "a ü b"

    def test_what_encoded_words_spell_is_no_syntax(self) -> None:
        read = header("From: =?utf-8?Q?=22Bank=22_=3Cservice=40bank.example=3E=2C?= <a@b.example>")
        assert read.from_address == "a@b.example"
        assert read.from_name == '"Bank" <service@bank.example>,'

    def test_a_subject_is_bounded(self) -> None:
        assert header("Subject: " + "x" * 50_000).subject == "x" * structure.HEADER_LIMIT

    def test_of_several_senders_and_of_several_fields_the_first_counts(self) -> None:
        read = header("From: a@one.example, b@two.example\r\nFrom: c@three.example")
        assert read.from_address == "a@one.example"

    @pytest.mark.parametrize(
        ("field", "count"),
        [
            ("To: undisclosed-recipients:;", 0),
            ("To:", 0),
            ("X: y", 0),
            ("To: a@b.example\r\nCc: c@d.example", 2),
            ("To: team: a@b.example, c@d.example;", 2),
        ],
    )
    def test_recipients_are_counted(self, field: str, count: int) -> None:
        assert header(field).to_count == count

    def test_a_thousand_recipients(self) -> None:
        field = "To: " + ",\r\n ".join(f"person{i}@rcpt.example" for i in range(1_000))
        assert header(field).to_count == 1_000

    @pytest.mark.parametrize(
        ("field", "automatic"),
        [
            ("Auto-Submitted: auto-replied", True),
            ("Auto-Submitted: auto-generated; x=y", True),
            ("Auto-Submitted: No", False),
            ("Auto-Submitted: no (really)", True),
            ("Content-Type: multipart/report; boundary=x", True),
            ("Precedence: bulk", False),
        ],
    )
    def test_automatic_mail(self, field: str, automatic: bool) -> None:
        assert header(field).automatic is automatic

    @pytest.mark.parametrize(
        ("received", "hop"),
        [
            ("from a.example ([8.8.4.4]) by b", Hop(host="a.example", address="8.8.4.4")),
            ("from a.example (x [IPv6:2a00::1]) by b", Hop(host="a.example", address="2a00::1")),
            ("from a.example (x [10.0.0.1]) by b.example", Hop()),
            ("by b.example (8.8.8.8)", Hop()),
            ("from a.example (x [999.1.1.1]) by b", Hop()),
            ("nonsense", Hop()),
        ],
    )  # fmt: skip
    def test_the_newest_public_hop(self, received: str, hop: Hop) -> None:
        assert header(f"Received: {received}; Mon, 2 Mar 2026 10:00:00 +0000").hop == hop

    def test_private_hops_are_passed_over(self) -> None:
        read = header(
            "Received: from inside ([192.168.1.2]) by us\r\n"
            "Received: from out ([8.8.4.4]) by inside"
        )
        assert read.hop == Hop(host="out", address="8.8.4.4")

    @pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 25:61:00", "\x00"])
    def test_a_date_that_is_none(self, date: str) -> None:
        assert header(f"Date: {date}").date is None


class TestText:
    @pytest.mark.parametrize(
        ("charset", "text"),
        [
            ("utf-8", "Grüße 😀"),
            ("iso-8859-1", "Grüße"),
            ("windows-1252", "10 €"),
            ("koi8-r", "Привет"),
            ("iso-2022-jp", "こんにちは"),
            ("shift_jis", "こんにちは"),
            ("gb2312", "你好"),
            ("big5", "你好"),
            ("euc-kr", "안녕"),
            ("utf-16", "Grüße"),
            ("utf-7", "Grüße"),
        ],
    )
    def test_character_sets(self, charset: str, text: str) -> None:
        read = encoded(text.encode(charset), f"text/plain; charset={charset}")
        assert (read.text, read.defects) == (text, ())

    def test_iso_2022_jp_needs_no_transfer_encoding(self) -> None:
        read = body("こんにちは".encode("iso-2022-jp"), "text/plain; charset=ISO-2022-JP")
        assert read.text == "こんにちは"

    @pytest.mark.parametrize(
        "charset", ["no-such-set", "ascii", "punycode", "idna", "rot13", "hex", '"\0"']
    )
    def test_a_wrong_label_is_read_as_utf_8_and_told(self, charset: str) -> None:
        read = encoded("Grüße".encode(), f"text/plain; charset={charset}")
        assert read.text == "Grüße"
        if "\0" not in charset:
            assert read.defects == ("a text part was not in the character set it names",)

    @pytest.mark.parametrize(
        ("label", "text", "codec"),
        [
            ("utf-8", "Grüße aus Köln", "latin-1"),
            ("us-ascii", "10 € für dich", "windows-1252"),
            ("iso-8859-1", "Grüße", "utf-8"),
            ("koi8-r", "Привет", "utf-8"),
            ("gb2312", "Привет, как дела?", "utf-8"),
            ("utf-16", "plain words.", "utf-8"),
            ("iso-2022-jp", "Grüße", "utf-8"),
            ("utf-7", "Grüße", "utf-8"),
        ],
    )
    def test_a_wrong_label_is_told(self, label: str, text: str, codec: str) -> None:
        read = encoded(text.encode(codec), f"text/plain; charset={label}")
        assert read.text == text
        assert read.defects == ("a text part was not in the character set it names",)

    @pytest.mark.parametrize(
        ("label", "text", "codec"),
        [
            ("gb2312", "镕 and 你好", "gb18030"),
            ("GB_2312-80", "你好", "gb2312"),
            ("iso-8859-1", "10 € “now”", "windows-1252"),
            ("big5", "你好 㗎", "big5hkscs"),
            ("shift_jis", "①②", "cp932"),
            ("ks_c_5601-1987", "똠", "cp949"),
            ("iso-8859-9", "ışık €", "cp1254"),
            ("iso-2022-jp", "ｶﾅ", "iso2022_jp_ext"),
            ("x-sjis", "こんにちは", "cp932"),
            ("unicode-1-1-utf-7", "Grüße", "utf-7"),
            ("iso-8859-8-i", "שלום", "iso-8859-8"),
            ("hz-gb-2312", "你好", "hz"),
        ],
    )
    def test_the_wider_set_behind_a_label(self, label: str, text: str, codec: str) -> None:
        read = encoded(text.encode(codec), f"text/plain; charset={label}")
        assert (read.text, read.defects) == (text, ())

    def test_a_little_damage_leaves_the_rest_in_its_set(self) -> None:
        read = encoded("Привет, как дела".encode() + b"\xd0", "text/plain; charset=utf-8")
        assert read.text.startswith("Привет, как дела")
        assert read.defects

    def test_html_may_name_its_own_set(self) -> None:
        page = '<html><meta http-equiv=x content="text/html; charset=windows-1251"><p>Привет'
        read = encoded(page.encode("cp1251"), "text/html")
        assert (read.text, read.defects) == ("Привет", ())
        assert encoded(page.encode("cp1251"), "text/html; charset=utf-8").text == "Привет"
        assert encoded(page.encode(), "text/html; charset=utf-8").text == "Привет"

    def test_japanese_in_seven_bits_without_a_label(self) -> None:
        read = body("こんにちは".encode("iso-2022-jp"))
        assert (read.text, read.defects) == ("こんにちは", ())

    def test_quoted_printable(self) -> None:
        read = body(
            b"100=25 soft=\r\nly", "text/plain", "Content-Transfer-Encoding: quoted-printable"
        )
        assert read.text == "100% softly"

    def test_base64_in_capitals_and_with_blanks(self) -> None:
        assert (
            body(b"aGVsbG8=", "TEXT/PLAIN", "Content-Transfer-Encoding:  BASE64 ").text == "hello"
        )

    def test_damaged_base64_is_told(self) -> None:
        assert (
            "base64 text is damaged"
            in body(b"aGVsbG8", "text/plain", "Content-Transfer-Encoding: base64").defects
        )

    def test_the_alternative_that_is_plain_comes_first(self) -> None:
        read = multipart(
            b"Content-Type: text/plain\r\n\r\nplain words",
            b"Content-Type: text/html\r\n\r\n<p>rich words <a href='https://a.example/x'>here</a>",
            kind="alternative",
        )
        assert (read.plain, read.text) == ("plain words", "rich words here")
        assert read.links == (Link(text="here", target="https://a.example/x"),)

    def test_html_alone(self) -> None:
        read = body(b"<h1>Big</h1><p>sale &amp; more<script>x()</script>", "text/html")
        assert read.text == "Big\nsale & more"

    def test_bare_links_do_not_repeat_those_with_a_text(self) -> None:
        read = multipart(
            b"Content-Type: text/plain\r\n\r\nhttps://a.example www.b.example",
            b"Content-Type: text/html\r\n\r\n<a href='https://a.example'>a</a>",
        )
        assert [link.target for link in read.links] == ["http://www.b.example", "https://a.example"]

    def test_bare_links_in_html_are_links_but_for_those_that_name_another(self) -> None:
        read = body(
            b"<p>see http://a.example/x or <a href='http://b.example'>http://c.example</a>",
            "text/html",
        )
        found = [(link.text, link.target) for link in read.links]
        assert sorted(found) == [
            ("", "http://a.example/x"), ("http://c.example", "http://b.example"),
        ]  # fmt: skip

    def test_links_of_an_alternative_that_is_not_shown_are_none(self) -> None:
        read = multipart(
            b"\r\nsee http://plain.example/",
            b"Content-Type: text/html\r\n\r\n<a href='http://rich.example/'>see</a>",
            kind="alternative",
        )
        assert [link.target for link in read.links] == ["http://rich.example/"]

    @pytest.mark.parametrize("html", [b"<p> &nbsp; ", b"<img src=x>", b""])
    def test_html_that_says_nothing_leaves_the_plain_text(self, html: bytes) -> None:
        rich = b"Content-Type: text/html\r\n\r\n" + html
        assert multipart(b"\r\nplain words", rich, kind="alternative").text == "plain words"

    def test_plain_text_beside_html_is_shown_too(self) -> None:
        """Nobody but multipart/alternative makes the one stand for the other."""
        read = multipart(b"\r\npay now", b"Content-Type: text/html\r\n\r\n<p>hello")
        assert (read.text, read.plain) == ("pay now\nhello", "pay now")

    def test_plain_text_within_the_chosen_alternative_is_shown(self) -> None:
        inner = (
            b"Content-Type: multipart/mixed; boundary=in\r\n\r\n"
            b"--in\r\nContent-Type: text/html\r\n\r\n<p>rich\r\n--in\r\n\r\nfooter\r\n--in--\r\n"
        )
        read = multipart(b"\r\nplain", inner, kind="alternative")
        assert (read.text, read.plain) == ("rich\nfooter", "plain\nfooter")

    def test_every_part_of_text_is_read(self) -> None:
        read = multipart(b"\r\none", b"Content-Type: text/plain\r\n\r\ntwo")
        assert read.text == "one\ntwo"

    @pytest.mark.parametrize("kind", ["text/enriched", "text/x-anything", "text/calendar"])
    def test_unknown_kinds_of_text_are_read_where_there_is_no_other(self, kind: str) -> None:
        assert body(b"words", kind).text == "words"
        assert multipart(b"\r\nplain", f"Content-Type: {kind}\r\n\r\nx".encode()).text == "plain"

    def test_a_part_with_a_name_is_shown_unless_it_is_an_attachment(self) -> None:
        named = body(b"<p>pay now", 'text/html; name="a.html"')
        assert named.text == "pay now"
        attached = body(
            b"<p>pay now", 'text/html; name="a.html"', "Content-Disposition: attachment"
        )
        assert attached.text == ""
        assert [file.name for file in named.attachments + attached.attachments] == ["a.html"] * 2

    @pytest.mark.parametrize("kind", ["foo/bar", "image/png", "application/octet-stream"])
    def test_what_is_no_text_is_a_file_so_that_the_mail_is_not_empty(self, kind: str) -> None:
        read = body(b"pay now", kind)
        assert (read.text, [file.type for file in read.attachments]) == ("", [kind])

    @pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
    def test_line_endings(self, ending: bytes) -> None:
        read = mail.read(ending.join((b"Subject: a", b"", b"one", b"two")))
        assert (read.subject, read.text) == ("a", "one\ntwo")

    def test_nul_and_controls_are_left_out(self) -> None:
        assert body(b"a\0b\x1b[31mc\x7f\td").text == "ab[31mc d"

    def test_character_references_smuggle_no_controls(self) -> None:
        read = body(
            b"<p>a&#0;&#1;&#xD800;b<a href='http://a.example/&#10;x&#9;y'>&#27;go</a>", "text/html"
        )
        assert_clean(read)
        assert read.links == (Link(text="go", target="http://a.example/xy"),)
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", read.text)


class TestAttachments:
    def test_names_types_and_sizes(self) -> None:
        read = multipart(
            b"\r\nsee attached",
            b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n"
            b'Content-Disposition: attachment; filename="b.pdf"\r\n\r\naGVsbG8=',
            b"Content-Type: image/png\r\nContent-ID: <logo>\r\n\r\n123",
            b"Content-Type: APPLICATION/ZIP\r\n\r\nPK",
        )
        assert read.text == "see attached"
        assert read.attachments == (
            Attachment(name="b.pdf", type="application/pdf", size=5),
            Attachment(name="", type="image/png", size=3),
            Attachment(name="", type="application/zip", size=2),
        )

    @pytest.mark.parametrize(
        ("parameter", "name"),
        [
            ("filename*=utf-8''Rechnung%20%C3%BC.exe", "Rechnung ü.exe"),
            ("filename*0=inv; filename*1=oice.exe", "invoice.exe"),
            ('filename="=?utf-8?B?csOpc3Vtw6kuZXhl?="', "résumé.exe"),
            ('filename="=?nope?B?x?="', "=?nope?B?x?="),
            ('filename="a\tb.exe"', "a b.exe"),
            ("filename=ü.exe", "ü.exe"),
            (f"filename={'x' * 900}", "x" * 200),
        ],
    )
    def test_spellings_of_names(self, parameter: str, name: str) -> None:
        part = f"Content-Disposition: attachment; {parameter}\r\n\r\n123".encode()
        assert [file.name for file in multipart(part).attachments] == [name]

    def test_what_has_no_name_gets_none_and_twice_the_same(self) -> None:
        data = HEAD + b"Content-Type: application/rtf\r\nContent-Disposition: attachment\r\n\r\nx"
        assert mail.read(data) == mail.read(data)
        assert mail.read(data).attachments[0].name == ""

    def test_an_attached_message_is_an_attachment_with_its_size(self) -> None:
        part = b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n"
        part += b"\r\nA: b\r\n\r\n12345"
        assert multipart(part).attachments == (
            Attachment(name="", type="message/rfc822", size=5, found="eml"),
        )

    def test_no_more_than_the_limit(self) -> None:
        part = b"Content-Type: image/png; name=x.png\r\n\r\n1"
        assert len(multipart(*[part] * 80).attachments) == structure.ATTACHMENT_LIMIT

    def test_content_is_looked_into(self) -> None:
        read = multipart(
            b"Content-Type: application/pdf; name=a.pdf\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(b"%PDF-1.5 /URI (http://lure.example/)"),
            b"Content-Type: application/pdf; name=b.pdf\r\n\r\nMZ",
        )
        first, second = read.attachments
        assert (first.found, first.links, first.traits) == (
            "pdf", ("http://lure.example/",), (Trait.LINKS,),
        )  # fmt: skip
        assert (second.found, second.traits) == ("exe", (Trait.MISNAMED,))
        assert read.links == (), "a file's links are not the mail's"

    def test_a_name_stays_in_the_order_that_decides_what_opens_it(self) -> None:
        name = "invoice\u202efdp.exe"
        read = multipart(f"Content-Type: x/y; name={name}\r\n\r\nMZ".encode())
        assert read.attachments[0].name == "invoicefdp.exe"
        assert read.hidings == (Hiding.BIDI,)

    def test_an_invitation_is_a_file_and_with_nothing_else_a_text(self) -> None:
        invitation = b"Content-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR"
        read = multipart(b"\r\ncome", invitation, kind="alternative")
        assert (read.text, read.attachments[0].found) == ("come", "ics")
        assert multipart(invitation).text == "BEGIN:VCALENDAR"


INNER = (
    b"From: Eve <eve@inner.example>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"
    b'Content-Type: multipart/mixed; boundary="inner"\r\n\r\n'
    b"--inner\r\nContent-Type: text/html\r\n\r\n<p>pay at <a href='http://i.example'>i</a>\r\n"
    b"--inner\r\nContent-Type: application/zip; name=a.zip\r\n\r\nPK\r\n--inner--\r\n"
)
QUOTED = Quoted(from_address="eve@inner.example", subject="Grüße", text="pay at i")


class TestQuoted:
    @pytest.mark.parametrize(
        "field", [b"", b"Content-Disposition: attachment; filename=a.eml\r\n", b"X: y\r\n"]
    )
    @pytest.mark.parametrize(
        "kind", [b"message/rfc822", b"message/partial; id=1", b"message/global", b"message/news"]
    )
    def test_a_quoted_mail_is_told_apart(self, kind: bytes, field: bytes) -> None:
        read = multipart(
            b"\r\nlook at this", b"Content-Type: " + kind + b"\r\n" + field + b"\r\n" + INNER
        )
        assert (read.subject, read.text, read.plain) == ("Hello", "look at this", "look at this")
        assert read.quoted == (QUOTED,)
        assert read.links == ()
        assert [file.type for file in read.attachments] == (
            [kind.partition(b";")[0].decode()] if field.startswith(b"Content-D") else []
        )

    def test_nothing_but_a_forward_has_no_text_of_its_own(self) -> None:
        read = mail.read(HEAD + b"Content-Type: message/rfc822\r\n\r\n" + INNER)
        assert (read.text, read.quoted, read.defects) == ("", (QUOTED,), ())

    def test_a_transfer_encoding_hides_nothing(self) -> None:
        part = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        assert multipart(part + base64.encodebytes(INNER)).quoted == (QUOTED,)

    @pytest.mark.parametrize("kind", [b"text/rfc822-headers", b"message/rfc822-headers"])
    def test_the_header_alone(self, kind: bytes) -> None:
        read = multipart(b"\r\nreturned", b"Content-Type: " + kind + b"\r\n\r\n" + HEAD)
        assert read.text == "returned"
        assert read.quoted == (Quoted(from_address="ada@sender.example", subject="Hello"),)

    def test_one_level_deep(self) -> None:
        outer = b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\n" + INNER
        read = multipart(b"Content-Type: message/rfc822\r\n\r\n" + outer)
        assert read.quoted == (Quoted(subject="outer"),)

    def test_the_bounds(self) -> None:
        part = b"Content-Type: message/rfc822\r\n\r\nSubject: a\r\n\r\n" + b"word " * 2_000
        read = multipart(*[part] * 20)
        assert len(read.quoted) == structure.QUOTED_LIMIT
        assert {len(quoted.text) for quoted in read.quoted} == {mail.QUOTED_TEXT_LIMIT}

    def test_a_digest(self) -> None:
        read = multipart(b"\r\nSubject: one\r\n\r\n1", b"\r\nSubject: two\r\n\r\n2", kind="digest")
        assert [quoted.subject for quoted in read.quoted] == ["one", "two"]
        assert read.text == ""

    def test_a_delivery_report(self) -> None:
        read = multipart(
            b"Content-Type: text/plain\r\n\r\nYour mail was not delivered.",
            b"Content-Type: message/delivery-status\r\n\r\n"
            b"Reporting-MTA: dns; mx.example\r\n\r\nAction: failed\r\nStatus: 5.1.1",
            b"Content-Type: message/rfc822\r\n\r\n" + INNER,
            kind="report; report-type=delivery-status",
        )
        assert (read.text, read.automatic) == ("Your mail was not delivered.", True)
        assert (read.quoted, read.attachments, read.links) == ((QUOTED,), (), ())


class TestHidden:
    def test_of_all_places(self) -> None:
        read = mail.read(
            "Subject: Hel\u200blo\r\nFrom: A\u202ead <a@b.example>\r\nContent-Type: text/html;"
            " charset=utf-8\r\n\r\n<p>shown</p><p style='display:none'>buried words</p>"
            "<a href='http://a.example'>g\u200bo</a><img alt='a pic\u200bture'>".encode()
        )
        assert (read.subject, read.from_name) == ("Hello", "Ada")
        assert "buried words" in read.hidden
        assert "buried" not in read.text
        assert {Hiding.DISPLAY, Hiding.INVISIBLE_SIGNS, Hiding.BIDI} <= set(read.hidings)
        assert [link.text for link in read.links] == ["go"]
        assert (read.images, read.alts) == (1, ("a picture",))

    def test_of_plain_text(self) -> None:
        spelled = "".join(chr(0xE0000 + ord(sign)) for sign in "obey me")
        read = body(f"hello{spelled} you".encode(), "text/plain; charset=utf-8")
        assert (read.text, read.plain) == ("hello you", "hello you")
        assert "obey me" in read.hidden
        assert read.hidings == (Hiding.INVISIBLE_SIGNS,)

    def test_bounded(self) -> None:
        part = b"Content-Type: text/html\r\n\r\n<p>a<p style='display:none'>" + b"word " * 2_000
        read = multipart(*[part] * 5)
        assert 0 < len(read.hidden) <= mail.HIDDEN_LIMIT

    def test_what_a_quoted_mail_hides_is_not_the_mails(self) -> None:
        inner = b"Content-Type: text/html\r\n\r\n<p>a<p style='display:none'>buried<img src=x>"
        read = multipart(b"Content-Type: message/rfc822\r\n\r\n" + inner)
        assert (read.hidden, read.hidings, read.images) == ("", (), 0)
        assert read.quoted == (Quoted(text="a"),)


class TestDamage:
    @pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":", b" "])
    def test_nothing_at_all(self, data: bytes) -> None:
        read = mail.read(data)
        assert (read.subject, read.from_address, read.text.strip(": ")) == ("", "", "")

    def test_no_header(self) -> None:
        assert "words alone" in mail.read(b"words alone\r\n").text

    def test_no_body(self) -> None:
        assert mail.read(b"Subject: a\r\n").subject == mail.read(b"Subject: a").subject == "a"

    def test_a_message_that_went_on_is_told(self) -> None:
        assert mail.read(HEAD + b"\r\ntext", truncated=True).defects == (CUT,)

    @pytest.mark.parametrize("cut", range(0, 400, 7))
    def test_cut_anywhere_it_is_read_so_far(self, cut: int) -> None:
        whole = HEAD + (
            b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n'
            b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=\r\n"
            b"--b\r\nContent-Type: text/html\r\n\r\n<p>hello world\r\n--b--\r\n"
        )
        read = mail.read(whole[:cut])
        assert_clean(read)
        assert read.from_address == ("ada@sender.example" if cut > 40 else read.from_address)

    def test_a_broken_part_does_not_hide_the_others(self) -> None:
        """mail-parser gives up on this one; mail programs show it."""
        good = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"wire the money")
        bad = b"Content-Type: multipart/mixed; boundary=none-such\r\n\r\nnothing"
        read = multipart(good, bad, end=b"")
        assert "wire the money" in read.text
        assert "a MIME boundary is missing" in read.defects

    def test_a_missing_boundary_parameter(self) -> None:
        read = body(b"--x\r\n\r\ntext", "multipart/mixed")
        assert "text" in read.text
        assert "a MIME boundary is missing" in read.defects

    def test_defects_are_fixed_sentences(self) -> None:
        defects = encoded(b"\xff", 'text/plain; charset="ascii"', "Bad header line").defects
        assert set(defects) <= {CUT, "the message is malformed", *mail._DEFECTS.values()}

    def test_ten_thousand_headers(self) -> None:
        many = b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(10_000))
        read = mail.read(many + HEAD + b"\r\ntext")
        assert (read.subject, read.text) == ("Hello", "text")

    def test_two_hundred_levels(self) -> None:
        data = HEAD
        for level in range(200):
            data += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        read = mail.read(data + b"\r\ndeep down\r\n")
        assert read.subject == "Hello"
        assert read.defects
        assert "deep down" in read.text, "no mail is empty for being deep"

    def test_thousands_of_parts_without_text_are_no_empty_mail(self) -> None:
        part = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        assert mail.read(part.partition(b"\r\n")[2] + part * 2_000).text

    def test_empty_parts_are_an_empty_mail(self) -> None:
        assert multipart(b"\r\n", b"Content-Type: text/html\r\n\r\n<p>").text == ""

    @pytest.mark.parametrize(
        "level",
        [
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
            b"Content-Type: message/rfc822\r\n\r\n",
            b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n",
        ],
    )
    def test_twenty_thousand_levels(self, level: bytes) -> None:
        assert CUT in mail.read(HEAD + level * 20_000).defects

    def test_a_flat_message_is_read_up_to_the_limit_of_parts(self) -> None:
        read = multipart(*[b"\r\nword"] * 30_000)
        assert CUT in read.defects
        assert structure.PART_LIMIT < read.text.count("word") + 2 < structure.PART_LIMIT * 2


class TestEndless:
    """Forms that cost minutes or gigabytes before they were bounded.  They end; no time is judged:
    the suite as a whole would not."""

    @pytest.mark.parametrize(
        "field",
        [
            b"Subject: " + b"=?utf-8?Q?a?= " * 70_000,
            b"Subject: =?punycode?Q?" + b"abz9" * 250_000 + b"?=",
            b"Content-Type: text/plain; " + b"a=b; " * 200_000,
            b'Content-Type: text/plain; a="' + b";" * 1_000_000,
            b"Content-Type: text/plain; " + b"a*0=b; " * 140_000,
        ],
        ids=["encoded-words", "punycode", "parameters", "semicolons", "continuations"],
    )
    def test_one_long_field(self, field: bytes) -> None:
        assert mail.read(field + b"\r\nFrom: a@b.example\r\n\r\ntext").from_address == "a@b.example"

    def test_many_long_fields_of_parts(self) -> None:
        part = b'Content-Type: text/plain; a="' + b";" * 4_000 + b"\r\n\r\nx"
        assert multipart(*[part] * 240).text

    def test_a_punycode_body(self) -> None:
        assert encoded(b"abz9" * 180_000, "text/plain; charset=punycode").text.startswith("abz9")

    def test_empty_lines_in_deep_parts(self) -> None:
        data = HEAD
        for level in range(90):
            data += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        assert CUT in mail.read(data + b"\r\n" + b"\n" * 900_000).defects

    @pytest.mark.parametrize(
        "html",
        [
            b"<div>" * 200_000,
            b"".join(b"<b id=%d><p>" % i for i in range(60_000)),
            b"<a " + b" ".join(b"a%d" % i for i in range(130_000)) + b">",
            b"<a href=x><table><td>" * 40_000,
        ],
        ids=["depth", "formatting", "attributes", "links"],
    )
    def test_html(self, html: bytes) -> None:
        assert body(b"<p>start</p>" + html, "text/html").text.startswith("start")

    def test_what_bounds_html_does_not_change_what_it_shows(self) -> None:
        words = "word " * 5_000
        image = "<img alt='x' src='data:image/png;base64," + "QUJD" * 5_000 + "'>"
        styled = "<div><font color=red>a</font><b>b<i>c</i></b><s>d</s><br><small/>e</div>"
        read = body(f"{image}<p>{words}</p>{styled}".encode(), "text/html")
        assert read.text == f"{words.strip()}\nabcd\ne"

    def test_html_that_goes_on_is_told(self) -> None:
        read = body(b"<p>x" * (visible.MARKUP_LIMIT + 1), "text/html")
        assert read.text.count("x") == visible.MARKUP_LIMIT
        assert read.defects == (CUT,)

    def test_the_limit_is_of_the_mail_not_of_the_part(self) -> None:
        part = b"Content-Type: text/html\r\n\r\n" + b"<p>x" * (visible.MARKUP_LIMIT // 2)
        assert multipart(*[part] * 5).text.count("x") <= visible.MARKUP_LIMIT + 2

    def test_zip_bombs_are_told(self) -> None:
        store = io.BytesIO()
        with zipfile.ZipFile(store, "w") as archive:
            for number in range(attachments.ENTRY_LIMIT + 1):
                archive.writestr(str(number), "")
        part = b"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        read = multipart(b"\r\ntext", part + base64.encodebytes(store.getvalue()))
        assert (read.text, read.attachments[0].traits) == ("text", (Trait.BOMB,))

    def test_many_quoted_mails(self) -> None:
        inner = b"Content-Type: message/rfc822\r\n\r\nSubject: a\r\n\r\nword"
        read = multipart(b"\r\ntext", *[inner] * 10_000)
        assert (read.text, len(read.quoted)) == ("text", structure.QUOTED_LIMIT)
        assert CUT in read.defects


class TestAnything:
    @given(st.binary(max_size=2_000))
    @settings(max_examples=150, deadline=None)
    def test_any_bytes_give_a_clean_mail(self, data: bytes) -> None:
        assert_clean(mail.read(data))

    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [
                        b"From: ", b"To: ", b"Subject: ", b"Date: ", b"Received: from ", b"\r\n",
                        b"\r\n\r\n", b"--b", b"--b--", b"=?utf-8?Q?", b"?=", b'"', b"<", b">",
                        b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: text/html",
                        b"Content-Type: message/rfc822", b"; charset=", b"gb2312", b"iso-2022-jp",
                        b"Content-Type: text/rfc822-headers", b"Content-Type: multipart/report",
                        b"; boundary=b", b"Content-Type: message/delivery-status", b"PK\3\4",
                        b"PK\1\2", b"PK\5\6", b"%PDF-1.5", b"/URI (http://a", b"=?gb2312?B?",
                        b"utf-7", b"utf-16",
                        b"Content-Transfer-Encoding: base64", b"Content-Disposition: attachment",
                        b"; filename*=utf-8''", b"; name=", b"<a href=", b"&#xD800;", b"&#0;",
                        b"@a.example", b"\xed\xa0\x80", b"\xff", b"\0", b"+2AA-", b"=ED=A0=80",
                    ]
                ),
            ),
            max_size=40,
        ).map(b"".join)
    )  # fmt: skip
    @settings(max_examples=250, deadline=None)
    def test_any_pieces_of_mail_give_a_clean_mail(self, data: bytes) -> None:
        assert_clean(mail.read(data))
        assert mail.read(data) == mail.read(data)


@pytest.mark.corpus
@pytest.mark.parametrize("part", range(4))
def test_the_corpus_is_read(part: int) -> None:
    if not CORPUS.is_dir():
        pytest.skip("no shared/corpus beside the project")
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file())[part::4]
    for path in files:
        read = mail.read(path.read_bytes()[:1_000_000])
        assert_clean(read)
    assert files
