"""A file's content -> Attachment: kinds, names, links, traits; damaged, hostile and cut files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rspamd_llm import attachments
from rspamd_llm.attachments import Budget, inspect
from rspamd_llm.domain import Attachment, Trait

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
RELATIONS = """<?xml version="1.0"?><Relationships><Relationship Id="a" Type="t/hyperlink"
 Target="https://lure.example/?a=1&amp;b=2" TargetMode="External"/><Relationship Id="b"
 Target="styles.xml"/><Relationship TargetMode='External' Target='file:///c:/x'/></Relationships>"""


def zipped(files: dict[str, str | bytes], form: int = zipfile.ZIP_DEFLATED) -> bytes:
    store = io.BytesIO()
    with zipfile.ZipFile(store, "w", form) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return store.getvalue()


def document(folder: str, **more: str) -> bytes:
    inside: dict[str, str | bytes] = {"[Content_Types].xml": "<Types/>", f"{folder}/x.xml": "<x/>"}
    return zipped(inside | {name.replace("__", "/"): text for name, text in more.items()})


def tarred(*names: str) -> bytes:
    store = io.BytesIO()
    with tarfile.open(fileobj=store, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return store.getvalue()


def ole(*names: str, start: int = 5) -> bytes:
    """As much of a compound file as says what is in it: header and directory."""
    content = bytearray(OLE + b"\0" * 22 + b"\x09\0" + b"\0" * 480)
    for name in names:
        raw = name.encode("utf-16-le")
        entry = raw.ljust(64, b"\0") + struct.pack("<HB", len(raw) + 2, 2) + b"\0" * 49
        content += entry + struct.pack("<I", start) + b"\0" * 8
    return bytes(content)


def kind(content: bytes, name: str = "", type_: str = "") -> str:
    return inspect(name, type_, content).found


class TestKinds:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", "empty"),
            (b"plain words, nothing else", ""),
            (b"\0\1\2\3", ""),
            (b"%PDF-1.7\n", "pdf"),
            (b"\n\njunk %PDF-1.4\n", "pdf"),
            (OLE, "ole"),
            (b"{\\rtf1 hello}", "rtf"),
            (b"MZ\x90\0", "exe"),
            (b"\x7fELF\2\1", "elf"),
            (b"\x89PNG\r\n\x1a\n", "png"),
            (b"\xff\xd8\xff\xe0", "jpeg"),
            (b"GIF89a", "gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
            (b"Rar!\x1a\x07\x01\0", "rar"),
            (b"7z\xbc\xaf\x27\x1c", "7z"),
            (gzip.compress(b"x", mtime=0), "gz"),
            (bz2.compress(b"x"), "bz2"),
            (lzma.compress(b"x"), "xz"),
            (b"\0" * 32_769 + b"CD001\1", "iso"),
            (b"L\0\0\0\x01\x14\x02\0", "lnk"),
            (b"MSCF\0\0", "cab"),
            (tarred("a"), "tar"),
            (b"BEGIN:VCALENDAR\r\n", "ics"),
            (b"Received: from a\r\n\tby b\r\nSubject: c\r\n\r\nd", "eml"),
            (b"#!/bin/sh\n", "script"),
            (b"@ECHO OFF\r\n", "bat"),
            (b"\xef\xbb\xbf <!-- x --> <!DOCTYPE html><p>", "html"),
            ("<html>".encode("utf-16"), "html"),
            (b"<script>x()</script>", "html"),
            (b"<?xml version='1.0'?><!-- a --><svg xmlns='x'>", "svg"),
            (b"<svg onload=x()>", "svg"),
            (b"var a = new ActiveXObject('WScript.Shell');", "js"),
            (b"/* c */ function go() {", "js"),
            (b"On Error Resume Next\r\nDim a", "vbs"),
            (b'x = 1\r\nSet y = CreateObject("WScript.Shell")', "vbs"),
            (b"for example, let us meet; set a date", ""),
            (b"Dear Sir: please\nread: this\n", ""),
        ],
    )  # fmt: skip
    def test_by_content(self, content: bytes, found: str) -> None:
        assert kind(content) == found

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (zipped({"a.txt": "x"}), "zip"),
            (zipped({}), "zip"),
            (document("word"), "docx"),
            (document("xl"), "xlsx"),
            (document("ppt"), "pptx"),
            (zipped({"META-INF/MANIFEST.MF": "x", "a.class": "x"}), "jar"),
            (zipped({"mimetype": b"application/vnd.oasis.opendocument.text"}, 0), "odf"),
        ],
    )
    def test_of_zip_files(self, content: bytes, found: str) -> None:
        assert kind(content) == found

    def test_name_type_and_size_stay_what_they_were(self) -> None:
        assert inspect("a.bin", "x/y", b"1234") == Attachment(name="a.bin", type="x/y", size=4)


class TestArchives:
    def test_names_in_a_zip_file(self) -> None:
        file = inspect("a.zip", "", zipped({"one.txt": "1", "dir/two.zip": "2", "ü.exe": "3"}))
        assert file.members == ("one.txt", "dir/two.zip", "ü.exe")
        assert file.traits == ()

    def test_no_more_names_than_the_limit(self) -> None:
        file = inspect("a.zip", "", zipped({f"{i}.txt": "" for i in range(300)}))
        assert len(file.members) == attachments.MEMBER_LIMIT

    @pytest.mark.parametrize("cut", [40, 200, 5_000])
    def test_a_zip_file_that_was_cut_tells_what_it_had_begun(self, cut: int) -> None:
        whole = zipped({"invoice.exe": random.Random(1).randbytes(9_000), "b.txt": "x"})
        assert inspect("", "", whole[:-cut]).members[:1] == ("invoice.exe",)

    def test_a_zip_file_behind_something_else(self) -> None:
        content = b"PK\3\4" + b"\0" * 60 + zipped({"a.exe": "x" * 100})
        assert inspect("", "", content).members == ("a.exe",)

    def test_an_encrypted_zip_file(self) -> None:
        content = bytearray(zipped({"a.exe": "x"}))
        content[content.index(b"PK\1\2") + 8] |= 1
        file = inspect("", "", bytes(content))
        assert (file.members, file.traits) == (("a.exe",), (Trait.ENCRYPTED,))

    def test_names_are_cleaned(self) -> None:
        file = inspect("", "", zipped({"a\x1b\u202egpj.exe": "", "x" * 900: ""}))
        assert file.members == ("agpj.exe", "x" * attachments.NAME_LIMIT)

    def test_names_in_tar_files(self) -> None:
        content = tarred("a.exe", "b/c.txt")
        assert inspect("", "", content).members == ("a.exe", "b/c.txt")
        assert inspect("", "", gzip.compress(content)).members == ("a.exe", "b/c.txt")

    def test_the_name_in_a_gzip_file(self) -> None:
        store = io.BytesIO()
        with gzip.GzipFile("invoice.exe", "wb", fileobj=store) as packed:
            packed.write(b"x")
        assert inspect("", "", store.getvalue()).members == ("invoice.exe",)


class TestBombs:
    def test_a_zip_file_of_zeros(self) -> None:
        content = bytearray(zipped({"a": b"\0" * 1_000_000}))
        at = content.index(b"PK\1\2") + 24
        content[at : at + 4] = struct.pack("<I", 900_000_000)
        assert inspect("", "", bytes(content)).traits == (Trait.BOMB,)

    def test_the_size_in_a_zip64_field_counts(self) -> None:
        central = struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 8, 0, 0, 0, 10, 0xFFFFFFFF, 1, 12, 0, 0, 0, 0, 0
        )
        field = struct.pack("<HHQ", 1, 8, 10**12)
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central) + 13, 4, 0)
        content = b"PK\3\4" + central + b"a" + field + end
        assert inspect("", "", content).traits == (Trait.BOMB,)

    def test_ten_thousand_entries(self) -> None:
        names: dict[str, str | bytes] = {str(i): "" for i in range(attachments.ENTRY_LIMIT + 1)}
        file = inspect("", "", zipped(names, 0)[: attachments.CONTENT_LIMIT])
        assert (file.traits, len(file.members)) == ((Trait.BOMB,), attachments.MEMBER_LIMIT)

    def test_a_gzip_file_of_zeros(self) -> None:
        content = gzip.compress(b"\0" * 1_000_000)[:-4] + struct.pack("<I", 2_000_000_000)
        assert inspect("", "", content).traits == (Trait.BOMB,)

    @pytest.mark.parametrize("content", [b"words " * 9_000, random.Random(2).randbytes(50_000)])
    def test_files_that_are_none(self, content: bytes) -> None:
        for packed in (zipped({"a": content}), gzip.compress(content)):
            assert inspect("", "", packed).traits == ()

    def test_what_is_inflated_of_all_files_together_is_bounded(self) -> None:
        budget = Budget()
        bomb = document("word", **{f"word___rels__{i}.rels": " " * 100_000 for i in range(60)})
        for _ in range(5):
            inspect("", "", bomb, budget)
        assert budget.left == 0
        assert inspect("", "", document("word", x__a=RELATIONS), budget).found == "docx"


class TestDocuments:
    def test_links_of_an_office_document(self) -> None:
        file = inspect("a.docx", "", document("word", word___rels__document_xml__x=""))
        assert (file.links, file.traits) == ((), ())
        content = zipped(
            {"[Content_Types].xml": "", "word/_rels/document.xml.rels": RELATIONS, "word/a": ""}
        )
        file = inspect("a.docx", "", content)
        assert file.links == ("https://lure.example/?a=1&b=2",)
        assert (file.traits, file.members) == ((Trait.LINKS,), ())

    @pytest.mark.parametrize("name", ["word/vbaProject.bin", "xl/macrosheets/sheet1.xml"])
    def test_macros_of_an_office_document(self, name: str) -> None:
        content = zipped({"[Content_Types].xml": "", name: "x"})
        assert inspect("a.docm", "", content).traits == (Trait.MACROS,)

    @pytest.mark.parametrize(
        ("names", "traits"),
        [
            (["WordDocument", "Macros", "VBA"], (Trait.MACROS,)),
            (["Workbook", "_VBA_PROJECT_CUR"], (Trait.MACROS,)),
            (["EncryptionInfo", "EncryptedPackage"], (Trait.ENCRYPTED,)),
            (["WordDocument", "1Table"], ()),
            (["NoVBA", "VBAx"], ()),
        ],
    )
    def test_old_office_documents(self, names: list[str], traits: tuple[Trait, ...]) -> None:
        assert inspect("a.doc", "", ole("Root Entry", *names)).traits == traits

    @pytest.mark.parametrize(("flags", "traits"), [(0, ()), (1, (Trait.ENCRYPTED,))])
    def test_an_encrypted_word_document(self, flags: int, traits: tuple[Trait, ...]) -> None:
        content = ole("WordDocument", start=1).ljust(1_024, b"\0")
        content += b"\xec\xa5" + b"\0" * 9 + bytes((flags,)) + b"\0" * 20
        assert inspect("", "", content).traits == traits

    def test_words_in_a_document_are_no_macros(self) -> None:
        content = OLE.ljust(1_024, b"\0") + "we teach VBA and Macros".encode("utf-16-le")
        assert inspect("", "", content).traits == ()

    def test_an_object_in_rtf(self) -> None:
        content = rb"{\rtf1{\object\objemb{\*\ObjData 01050000}}}"
        assert inspect("a.doc", "", content).traits == (Trait.MACROS,)

    def test_an_encrypted_open_document(self) -> None:
        manifest = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"
        store = io.BytesIO()
        with zipfile.ZipFile(store, "w") as archive:
            archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
            archive.writestr("META-INF/manifest.xml", manifest, zipfile.ZIP_DEFLATED)
        assert inspect("a.odt", "", store.getvalue()).traits == (Trait.ENCRYPTED,)

    @pytest.mark.parametrize(
        ("spelled", "url"),
        [
            (b"/URI (https://a.example/x)", "https://a.example/x"),
            (rb"/URI(https://a.example/\(x\))", "https://a.example/(x)"),
            (rb"/URI(http\072//a.example)", "http://a.example"),
            (b"/#55RI <68747470733A2F2F612E6578616D706C65>", "https://a.example"),
            (b"/URI (\xfe\xff" + "https://a.example/ü".encode("utf-16-be") + b")",
             "https://a.example/ü"),
            (b"/URI (mailto:a@a.example)", ""),
            (b"/URI (http://a.example/(x))", "http://a.example/"),
            (b"/URI (http://a.example/x(", "http://a.example/x"),
            (b"/URI 12 0 R", ""),
        ],
    )  # fmt: skip
    def test_links_of_a_pdf(self, spelled: bytes, url: str) -> None:
        action = b"%PDF-1.5\n1 0 obj<</A<</S/URI" + spelled + b">>>>endobj\n"
        assert inspect("a.pdf", "", action).links == ((url,) if url else ())
        packed = b"%PDF-1.5\n2 0 obj<</Type/ObjStm/Filter/FlateDecode>>stream\r\n"
        packed += zlib.compress(spelled) + b"\r\nendstream endobj\n"
        file = inspect("a.pdf", "", packed)
        assert file.links == ((url,) if url else ())
        assert file.traits == ((Trait.LINKS,) if url else ())

    def test_an_encrypted_pdf(self) -> None:
        trailer = b"trailer<</Root 1 0 R/Encrypt 9 0 R>>"
        assert inspect("a.pdf", "", b"%PDF-1.5\n" + trailer).traits == (Trait.ENCRYPTED,)
        assert inspect("a.pdf", "", b"%PDF-1.5\n(no /Encryption)").traits == ()

    def test_links_of_a_web_page(self) -> None:
        page = b"<html xmlns='http://www.w3.org/1999/xhtml'><form action='https://a.example/p?a&amp;b'>"
        assert inspect("a.html", "", page).links == ("https://a.example/p?a&b",)

    def test_links_are_bounded_and_do_not_repeat(self) -> None:
        page = b"<html>" + b"".join(
            b"<a href='http://a.example/%d'>" % (i % 80) for i in range(500)
        )
        assert len(inspect("", "", page).links) == attachments.LINK_LIMIT


class TestMisnamed:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("invoice.pdf", b"MZ\x90\0"),
            ("invoice.pdf", b"<html><body>"),
            ("invoice.PDF", zipped({"a.exe": ""})),
            ("photo.jpg", b"MZ\x90\0"),
            ("photo.png", b"<html>"),
            ("notes.txt", b"MZ\x90\0"),
            ("a.zip", b"MZ\x90\0"),
            ("a.docx", b"<html>"),
            ("a.doc", b"MZ\x90\0"),
            ("a.html", b"%PDF-1.5"),
        ],
    )
    def test_another_kind_than_the_name_says(self, name: str, content: bytes) -> None:
        assert Trait.MISNAMED in inspect(name, "", content).traits

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jpg", b"\x89PNG\r\n\x1a\n"),
            ("a.jpeg", b"\xff\xd8\xff"),
            ("a.docx", document("word")),
            ("a.docx", ole("EncryptedPackage")),
            ("a.doc", b"{\\rtf1"),
            ("a.xls", b"<html><table>"),
            ("a.zip", document("xl")),
            ("a.tgz", gzip.compress(b"", mtime=0)),
            ("a.svg", b"<svg>"),
            ("a.txt", b"#!/bin/sh"),
            ("a.exe", b"%PDF-1.5"),
            ("a.unheard-of", b"MZ"),
            ("a.pdf", b"no kind at all"),
            ("a.pdf", b""),
            ("pdf", b"MZ"),
            (".pdf", b"MZ"),
        ],
    )
    def test_the_same_kind_or_none_that_is_known(self, name: str, content: bytes) -> None:
        assert Trait.MISNAMED not in inspect(name, "", content).traits

    def test_without_a_name_the_type_counts(self) -> None:
        assert inspect("", "application/pdf", b"MZ").traits == (Trait.MISNAMED,)
        assert inspect("", "image/png", b"\xff\xd8\xff").traits == ()


def rels_bomb() -> bytes:
    return document("word", **{f"word___rels__{i}.rels": " " * 90_000 for i in range(400)})


HOSTILE = {
    "pdf-uris": b"%PDF-1.5" + b"/URI(http://a.example)" * 45_000,
    "pdf-open-uris": b"%PDF-1.5" + b"/URI (" * 160_000,
    "pdf-open-hex": b"%PDF-1.5" + (b"/URI <" + b"4" * 7_000) * 140,
    "pdf-streams": b"%PDF-1.5" + b"/ObjStm stream\n" * 66_000,
    "pdf-bombs": b"%PDF-1.5" + (b"/ObjStm stream\n" + zlib.compress(b"/URI (" * 50_000)) * 400,
    "pdf-encrypt": b"%PDF-1.5" + b"/Encrypt          1          " * 34_000,
    "zip-local": b"PK\3\4" * 250_000,
    "zip-central": b"PK\3\4"
    + (b"PK\1\2" + b"\0" * 42) * 21_000
    + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, 46 * 21_000, 4, 0),
    "zip-ends": b"PK\5\6" * 250_000,
    "zip-rels": rels_bomb(),
    "docx-folders": b"PK\3\4[Content_Types].xml" + b"PK\3\4" * 240_000,
    "tar": (b"\0" * 257 + b"ustar").ljust(512, b"\0") * 2_000,
    "gz": gzip.compress(b"\0" * 50_000_000),
    "ole-names": OLE + "VBA".encode("utf-16-le") * 166_000,
    "ole-documents": OLE.ljust(1_024, b"\0") + ole("WordDocument")[512:] * 7_000,
    "html": b"<html>" + b"http://" * 140_000,
    "html-links": b"<html>" + b"http://a.example/?" * 55_000,
    "html-comments": b"<!---->" * 140_000,
    "html-open-comments": b"<!--" * 250_000,
    "xml": b"<?xml" * 200_000,
    "js": b"/*" * 500_000,
    "blanks": b" " * 1_000_000,
    "headers": b"X-A: b\n" * 140_000,
    "header-names": b"X-" * 500_000,
    "nothing": b"\0" * 1_000_000,
}


def assert_bounded(file: Attachment) -> None:
    assert len(file.members) <= attachments.MEMBER_LIMIT
    assert len(file.links) <= attachments.LINK_LIMIT
    assert all(len(name) <= attachments.NAME_LIMIT for name in file.members)
    assert all(len(url) <= attachments.URL_LIMIT for url in file.links)
    assert (Trait.LINKS in file.traits) == bool(file.links)
    assert "".join(file.members + file.links).isprintable()  # so no NUL and no lone surrogate


class TestAnything:
    @pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
    def test_hostile_files_end(self, content: bytes) -> None:
        """No time is judged: without the bounds some of these take minutes."""
        assert_bounded(inspect("a.pdf", "", content))

    @given(
        st.sampled_from(
            [
                b"PK\3\4",
                b"%PDF-1.4/URI(http://a",
                OLE,
                b"\x1f\x8b\x08\x08",
                b"{\\rt",
                b"<html>",
                b"",
            ]
        ),
        st.binary(max_size=400),
    )
    @settings(max_examples=300, deadline=None)
    def test_any_bytes(self, start: bytes, content: bytes) -> None:
        assert_bounded(inspect("a.pdf", "", start + content))

    @given(
        st.sampled_from(
            [
                zipped({"a.exe": "x" * 50, "b/c.zip": "y"}),
                zipped({"[Content_Types].xml": "", "word/_rels/a.rels": RELATIONS}),
                gzip.compress(tarred("a", "b")),
                ole("WordDocument", "Macros"),
            ]
        ),
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=30),
        st.integers(0, 3_000),
    )
    @settings(max_examples=300, deadline=None)
    def test_any_damage(self, whole: bytes, damage: list[tuple[int, int]], cut: int) -> None:
        content = bytearray(whole)
        for at, value in damage:
            content[at % len(content)] = value
        assert_bounded(inspect("a.zip", "", bytes(content[: len(content) - cut])))
