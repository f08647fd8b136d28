"""Who may look at the port: the token, the session it buys, and the names we answer to."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from rspamd_llm import login as logins
from rspamd_llm.domain import ConfigError
from rspamd_llm.login import SESSION_SECONDS, Login, load

TOKEN = "0123456789abcdef0123456789abcdef"
NOW = 1_795_000_000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    return path


def fault(**settings: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**{"listen": "127.0.0.1:11391", "page": True, "token_file": "", **settings})  # type: ignore[arg-type]
    (text,) = caught.value.faults
    return text


class TestLoad:
    @pytest.mark.parametrize("listen", ["127.0.0.1:11391", "127.0.0.2:11391", "[::1]:11391"])
    def test_on_the_machine_itself_none_is_needed(self, listen: str) -> None:
        assert load(listen=listen, page=True, token_file="").token == ""

    @pytest.mark.parametrize("listen", ["0.0.0.0:11391", "192.0.2.1:11391", "[::]:11391"])
    def test_elsewhere_the_page_needs_one(self, listen: str, file: Path) -> None:
        text = fault(listen=listen)
        assert text.startswith(f"metrics.page: {listen} is open to other machines, and the page ne")
        assert "metrics.token_file" in text
        assert load(listen=listen, page=False, token_file="").token == ""
        assert load(listen=listen, page=True, token_file=str(file)).token == TOKEN

    def test_without_a_port_nothing_is_read(self) -> None:
        assert load(listen="", page=True, token_file="/nowhere").token == ""

    def test_a_file_that_cannot_be_read(self, file: Path) -> None:
        file.unlink()
        assert fault(token_file=str(file)) == (
            f"metrics.token_file: {file} cannot be read: No such file or directory"
        )

    def test_a_file_open_to_everyone(self, file: Path) -> None:
        file.chmod(0o644)
        assert fault(token_file=str(file)) == (
            f"metrics.token_file: {file} is open to everyone; cure: chmod 640 {file}"
        )

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n", b"secret15secret1", b"secret " * 5, b"secret\n" * 5, b"\xff" * 32,
         "sécret".encode() * 9, b"s" * 1_001, b"s" * 100_000],
    )  # fmt: skip
    def test_a_file_without_a_token(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        text = fault(token_file=str(file))
        assert text.startswith(f"metrics.token_file: {file} holds no token, which has 16 to 1000 ")
        assert "secret" not in text.replace(str(file), "")

    def test_the_token_is_never_shown(self, file: Path) -> None:
        login = load(listen="127.0.0.1:1", page=True, token_file=str(file))
        assert TOKEN not in repr(login)
        assert login.secret.hex() not in repr(login)
        assert repr(login.secret) not in repr(login)


class TestAdmission:
    def test_without_a_token_anyone(self) -> None:
        assert Login().admits("", "", NOW)
        assert not Login().is_token("")

    @pytest.mark.parametrize(
        ("authorization", "is_admitted"),
        [
            (f"Bearer {TOKEN}", True),
            (f"bearer  {TOKEN} ", True),
            ("", False),
            ("Bearer", False),
            ("Bearer ", False),
            (f"Bearer {TOKEN[:-1]}", False),
            (f"Bearer {TOKEN}0", False),
            (f"Basic {TOKEN}", False),
            (TOKEN, False),
            ("Bearer \udcff", False),
        ],
    )
    def test_by_header(self, authorization: str, is_admitted: bool) -> None:
        assert Login(token=TOKEN).admits(authorization, "", NOW) is is_admitted

    def test_programs_on_the_machine_itself_need_none(self, file: Path) -> None:
        here = load(listen="127.0.0.1:11391", page=True, token_file=str(file))
        elsewhere = load(listen="0.0.0.0:11391", page=True, token_file=str(file))
        assert here.admits_program("", "", NOW)
        assert not here.admits("", "", NOW)
        assert not elsewhere.admits_program("", "", NOW)
        assert elsewhere.admits_program(f"Bearer {TOKEN}", "", NOW)

    def test_by_session_until_it_ends(self) -> None:
        login = Login(token=TOKEN)
        session = login.session(NOW)
        assert TOKEN not in session
        assert len(session) <= logins.SESSION_LONGEST
        assert login.admits("", session, NOW + SESSION_SECONDS - 1)
        assert not login.admits("", session, NOW + SESSION_SECONDS)

    @pytest.mark.parametrize(
        "forged",
        ["", ".", "9999999999.", "9999999999." + "0" * 64, "x.y", "\udcff.\udcff", "." * 9_999],
    )
    def test_another_session(self, forged: str) -> None:
        assert not Login(token=TOKEN).admits("", forged, NOW)

    def test_a_session_that_was_made_longer(self) -> None:
        login = Login(token=TOKEN)
        until, _, signature = login.session(NOW).partition(".")
        assert not login.admits("", f"{int(until) + 1}.{signature}", NOW)

    def test_a_session_of_before_a_restart(self) -> None:
        assert not Login(token=TOKEN).admits("", Login(token=TOKEN).session(NOW), NOW)

    def test_it_takes_as_long_for_one_that_is_nearly_right(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No comparison but the one that takes the same time for any text."""
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        class Guarded(str):
            __slots__ = ()

            def __eq__(self, other: object) -> bool:
                raise AssertionError("compared by ==")

            __hash__ = str.__hash__

        monkeypatch.setattr(hmac, "compare_digest", compare)
        login = Login(token=Guarded(TOKEN))
        assert login.admits(f"Bearer {TOKEN}", "", NOW)
        assert not login.admits("Bearer 0123", "", NOW)
        assert not login.admits("", "123.abc", NOW)
        assert [one for one, _ in compared] == [TOKEN.encode(), b"0123", b"", b"abc"]


class TestNames:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:11391", "127.0.0.1:8080", "[::1]:11391", "[::1]", "127.0.0.9:1"],
    )
    def test_of_this_machine(self, host: str) -> None:
        assert load(listen="127.0.0.9:11391", page=True, token_file="").knows(host)

    @pytest.mark.parametrize(
        "host",
        ["", "evil.example", "evil.example:11391", "127.0.0.1.evil.example", "localhost.evil",
         "[::2]", "[", "127.0.0.9", "::1", "localhost@evil", "evil@localhost"],
    )  # fmt: skip
    def test_of_others(self, host: str) -> None:
        assert not load(listen="127.0.0.1:11391", page=True, token_file="").knows(host)

    def test_with_a_token_any_name_does(self, file: Path) -> None:
        """As behind a proxy that has a name and a certificate."""
        login = load(listen="127.0.0.1:11391", page=True, token_file=str(file))
        assert login.knows("mail.example.org")
