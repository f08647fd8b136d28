"""The Rspamd plugin in a real Rspamd: what each genuine verdict is worth, what no forger gets.

The signatures come from verdicts.py, which knows nothing of this project's own code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chain.dns import NxDomainServer
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import KEY, OTHER_KEY, QUEUE_ID, key_id, sign, verdict

MAIL = (
    "From: Ann <ann@example.net>\r\n"
    "To: Bob <bob@example.org>\r\n"
    "Subject: minutes\r\n"
    "Date: {date}\r\n"
    "Message-ID: <1@example.net>\r\n"
    "{headers}"
    "\r\n"
    "Here are the minutes of yesterday.\r\n"
)
DATE = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
OURS = "LLM_"


def mail(*headers: str) -> bytes:
    """A mail with these header lines."""
    lines = "".join(f"{line}\r\n" for line in headers)
    return MAIL.format(date=DATE, headers=lines).encode("latin-1")


def with_verdict(*values: str) -> bytes:
    return mail(*(f"X-GPT-Verdict: {value}" for value in values))


@dataclass(frozen=True)
class Symbols:
    """What the plugin added: symbol -> points, symbol -> options, and the points in sum."""

    points: dict[str, float]
    options: dict[str, list[str]]

    @property
    def names(self) -> set[str]:
        return set(self.points)


def scan(
    rspamd: PrivateRspamd, message: bytes, queue_id: str | None = QUEUE_ID, **headers: str
) -> Symbols:
    if queue_id is not None:
        headers["Queue-Id"] = queue_id
    return ours(rspamd.scan(message, headers))


def ours(answer: dict[str, Any]) -> Symbols:
    symbols = {name: found for name, found in answer["symbols"].items() if name.startswith(OURS)}
    return Symbols(
        points={name: round(found["score"], 4) for name, found in symbols.items()},
        options={name: found.get("options", []) for name, found in symbols.items()},
    )


def assert_forged(found: Symbols, why: str) -> None:
    assert found.points == {"LLM_FORGED": 0.0}
    assert found.options["LLM_FORGED"] == [why]


class TestGenuineVerdicts:
    """A genuine verdict becomes exactly its symbols, with exactly their points."""

    @pytest.mark.parametrize(
        ("s", "expected"),
        [
            ("0.00", {"LLM_HAM": 0.0}),
            ("0.25", {"LLM_HAM": 0.0}),
            ("0.26", {"LLM_UNCERTAIN": 0.0}),
            ("0.50", {"LLM_UNCERTAIN": 0.0}),
            ("0.74", {"LLM_UNCERTAIN": 0.0}),
            ("0.75", {"LLM_SPAM": 2.5}),
            ("0.97", {"LLM_SPAM": 4.7}),
            ("1.00", {"LLM_SPAM": 5.0}),
        ],
    )
    def test_score(self, rspamd: PrivateRspamd, s: str, expected: dict[str, float]) -> None:
        found = scan(rspamd, with_verdict(verdict(s=s)))
        assert found.points == expected
        assert list(found.options.values()) == [[s]]

    @pytest.mark.parametrize(
        ("c", "expected"),
        [
            ("none", {"LLM_SPAM": 5.0}),
            ("phishing", {"LLM_SPAM": 5.0, "LLM_PHISHING": 3.0}),
            ("scam", {"LLM_SPAM": 5.0, "LLM_SCAM": 3.0}),
            ("malware", {"LLM_SPAM": 5.0, "LLM_MALWARE": 3.0}),
            ("marketing", {"LLM_SPAM": 5.0, "LLM_MARKETING": 0.0}),
            ("invoice", {"LLM_SPAM": 5.0}),  # unknown to this Rspamd
            ("spam", {"LLM_SPAM": 5.0}),  # names a symbol, is no category
            ("ham", {"LLM_SPAM": 5.0}),
        ],
    )
    def test_category(self, rspamd: PrivateRspamd, c: str, expected: dict[str, float]) -> None:
        assert scan(rspamd, with_verdict(verdict(s="1.00", c=c))).points == expected

    @pytest.mark.parametrize("s", ["0.25", "0.74"])
    def test_category_counts_with_spam_only(self, rspamd: PrivateRspamd, s: str) -> None:
        assert "LLM_PHISHING" not in scan(rspamd, with_verdict(verdict(s=s, c="phishing"))).names

    @pytest.mark.parametrize(
        "code",
        [
            "authenticated",
            "network",
            "size",
            "allowlist",
            "optout",
            "sampled",
            "decided",
            "no-text",
        ],
    )
    def test_skipped(self, rspamd: PrivateRspamd, code: str) -> None:
        found = scan(rspamd, with_verdict(verdict(st="skipped", s="-", c=code)))
        assert found == Symbols({"LLM_SKIPPED": 0.0}, {"LLM_SKIPPED": [code]})

    @pytest.mark.parametrize(
        "code",
        [
            "timeout",
            "overloaded",
            "model-unavailable",
            "model-invalid",
            "context-overflow",
            "stopping",
            "internal",
        ],
    )
    def test_unscored(self, rspamd: PrivateRspamd, code: str) -> None:
        found = scan(rspamd, with_verdict(verdict(st="unscored", s="-", c=code)))
        assert found == Symbols({"LLM_UNSCORED": 0.0}, {"LLM_UNSCORED": [code]})

    @pytest.mark.parametrize("age", [895, -895])
    def test_clock_may_differ_by_a_quarter_of_an_hour(
        self, rspamd: PrivateRspamd, age: int
    ) -> None:
        assert scan(rspamd, with_verdict(verdict(age=age))).names == {"LLM_SPAM"}

    @pytest.mark.parametrize(
        "line",
        ["x-gpt-verdict: {}", "X-GPT-VERDICT: {}", "X-Gpt-vErdict:{}"],
    )
    def test_header_name_in_any_case(self, rspamd: PrivateRspamd, line: str) -> None:
        assert scan(rspamd, mail(line.format(verdict()))).names == {"LLM_SPAM"}

    @pytest.mark.parametrize(
        "rest", ["\r\n\r\nbody\r\n", "\n\nbody\n", "\r\n\r\n", "\n\n", "\r\n", "\n", ""]
    )
    def test_verdict_may_be_the_last_header(self, rspamd: PrivateRspamd, rest: str) -> None:
        first = "Subject: a\r\n" if "\r" in rest else "Subject: a\n"
        message = f"{first}X-GPT-Verdict: {verdict()}{rest}".encode()
        assert scan(rspamd, message).names == {"LLM_SPAM"}

    def test_lines_may_end_in_lf(self, rspamd: PrivateRspamd) -> None:
        message = with_verdict(verdict()).replace(b"\r\n", b"\n")
        assert scan(rspamd, message).names == {"LLM_SPAM"}

    def test_header_is_removed(self, rspamd: PrivateRspamd) -> None:
        answer = rspamd.scan(with_verdict(verdict()), {"Queue-Id": QUEUE_ID})
        assert answer["milter"]["remove_headers"]["X-GPT-Verdict"] == 0


class TestNoVerdict:
    def test_absent(self, rspamd: PrivateRspamd) -> None:
        assert scan(rspamd, mail()).points == {"LLM_ABSENT": 0.0}

    def test_authenticated_users_are_expected_to_have_none(self, rspamd: PrivateRspamd) -> None:
        assert scan(rspamd, mail(), User="ann").names == set()

    def test_a_header_of_an_attached_mail_is_none_of_this_mail(self, rspamd: PrivateRspamd) -> None:
        message = mail("MIME-Version: 1.0", "Content-Type: message/rfc822") + with_verdict(
            verdict()
        )
        assert scan(rspamd, message).names == {"LLM_ABSENT"}

    def test_other_headers_of_ours_are_no_verdict(self, rspamd: PrivateRspamd) -> None:
        message = mail("X-GPT-Status: scored", "X-GPT-Score: 0.97", "X-GPT-Category: phishing")
        assert scan(rspamd, message).names == {"LLM_ABSENT"}


def altered(change: Callable[[str], str]) -> Callable[[], str]:
    """A genuine verdict that somebody changed afterwards."""
    return lambda: change(verdict(c="phishing"))


def signed(template: str) -> Callable[[], str]:
    """Another text, signed with the right key: form alone must refuse it."""
    return lambda: sign(
        template.format(
            q=QUEUE_ID, t=int(time.time()), k=key_id(KEY), K=key_id(KEY).upper().replace("0", "A")
        )
    )


ORDER = "v=1; st=scored; q={q}; t={t}; s=0.97; c=none; k={k}"

BAD_FORMS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "words": lambda: "spam",
    "version-2": lambda: verdict(v="2"),
    "version-01": lambda: verdict(v="01"),
    "unknown-status": lambda: verdict(st="trusted"),
    "upper-case-status": lambda: verdict(st="SCORED"),
    "score-1.5": lambda: verdict(s="1.5"),
    "score-1.50": lambda: verdict(s="1.50"),
    "score-1.01": lambda: verdict(s="1.01"),
    "score-10.00": lambda: verdict(s="10.00"),
    "score-nan": lambda: verdict(s="NaN"),
    "score-nan-lower": lambda: verdict(s="nan"),
    "score-inf": lambda: verdict(s="inf"),
    "score-negative": lambda: verdict(s="-0.5"),
    "score-negative-two-decimals": lambda: verdict(s="-0.50"),
    "score-one-decimal": lambda: verdict(s="0.9"),
    "score-three-decimals": lambda: verdict(s="0.975"),
    "score-bare": lambda: verdict(s="1"),
    "score-without-zero": lambda: verdict(s=".97"),
    "score-comma": lambda: verdict(s="0,97"),
    "score-hex": lambda: verdict(s="0x1"),
    "score-exponent": lambda: verdict(s="1e0"),
    "scored-without-score": lambda: verdict(s="-"),
    "skipped-with-score": lambda: verdict(st="skipped", s="0.97", c="size"),
    "unscored-with-score": lambda: verdict(st="unscored", s="0.97", c="timeout"),
    "category-upper-case": lambda: verdict(c="Phishing"),
    "category-empty": lambda: verdict(c=""),
    "category-with-digit-first": lambda: verdict(c="1a"),
    "category-33-characters": lambda: verdict(c="a" * 33),
    "time-negative": lambda: verdict(t=f"-{int(time.time())}"),
    "time-fraction": lambda: verdict(t=f"{time.time():.2f}"),
    "time-hex": lambda: verdict(t=hex(int(time.time()))),
    "time-huge": lambda: verdict(t="9" * 40),
    "time-missing": lambda: verdict(t=""),
    "queue-id-empty": lambda: verdict(q=""),
    "queue-id-with-space": lambda: verdict(q=f"{QUEUE_ID} x"),
    "key-id-short": lambda: verdict(k=key_id(KEY)[:7]),
    "key-id-long": lambda: verdict(k=key_id(KEY) + "0"),
    "key-id-upper-case": signed(ORDER.replace("{k}", "{K}")),
    "mac-upper-case": altered(lambda text: text[:-64] + text[-64:].upper()),
    "mac-short": altered(lambda text: text[:-1]),
    "mac-long": altered(lambda text: text + "0"),
    "mac-empty": altered(lambda text: text[:-64]),
    "mac-missing": altered(lambda text: text.rpartition(";")[0]),
    "mac-no-hex": altered(lambda text: text[:-1] + "g"),
    "truncated": altered(lambda text: text[:40]),
    "other-order": signed("st=scored; v=1; q={q}; t={t}; s=0.97; c=none; k={k}"),
    "score-after-category": signed("v=1; st=scored; q={q}; t={t}; c=none; s=0.97; k={k}"),
    "further-field": signed(ORDER + "; x=1"),
    "further-field-first": signed("x=1; " + ORDER),
    "field-twice": signed("v=1; st=scored; q={q}; t={t}; s=0.10; s=0.97; c=none; k={k}"),
    "field-missing": signed("v=1; st=scored; q={q}; t={t}; s=0.97; k={k}"),
    "field-after-mac": altered(lambda text: text + "; x=1"),
    "semicolon-at-the-end": altered(lambda text: text + ";"),
    "no-spaces": signed(ORDER.replace("; ", ";")),
    "two-spaces": signed(ORDER.replace("; ", ";  ")),
    "tab": signed(ORDER.replace("; ", ";\t")),
    "space-before-equals": signed(ORDER.replace("s=", "s =")),
    "two-spaces-first": altered(lambda text: f" {text}"),
    "space-last": altered(lambda text: f"{text} "),
    "quoted": altered(lambda text: f'"{text}"'),
    "comment": altered(lambda text: f"{text} (genuine)"),
    "folded": altered(lambda text: text.replace("; s=", ";\r\n s=")),
    "folded-with-tab": altered(lambda text: text.replace("; s=", ";\r\n\ts=")),
    "folded-first": altered(lambda text: f"\r\n {text}"),
    "folded-last": altered(lambda text: f"{text}\r\n "),
    "nul-inside": altered(lambda text: text.replace("st=", "\0st=")),
    "nul-last": altered(lambda text: f"{text}\0"),
    "carriage-return-inside": altered(lambda text: text.replace("; s=", ";\r s=")),
    "no-break-space": altered(lambda text: text.replace("; s=", ";\xa0s=")),
    "encoded-word": altered(
        lambda text: f"=?utf-8?q?{text.replace('=', '=3D').replace(' ', '_')}?="
    ),
    "second-verdict-behind": altered(lambda text: f"{text}, {text}"),
    "very-long": lambda: verdict() + "x" * 100_000,
}


class TestForgeries:
    """Whatever is not wholly genuine gives LLM_FORGED with its reason, and nothing else."""

    @pytest.mark.parametrize("name", BAD_FORMS)
    def test_form(self, rspamd: PrivateRspamd, name: str) -> None:
        assert_forged(scan(rspamd, with_verdict(BAD_FORMS[name]())), "form")

    def test_genuine_then_forged(self, rspamd: PrivateRspamd) -> None:
        message = with_verdict(verdict(), verdict(s="0.00", key=OTHER_KEY))
        assert_forged(scan(rspamd, message), "copies")

    def test_forged_then_genuine(self, rspamd: PrivateRspamd) -> None:
        message = with_verdict(verdict(s="0.00", key=OTHER_KEY), verdict())
        assert_forged(scan(rspamd, message), "copies")

    def test_genuine_twice(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(*[verdict()] * 2)), "copies")

    def test_genuine_and_empty(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(), "")), "copies")

    def test_copy_in_another_case(self, rspamd: PrivateRspamd) -> None:
        message = mail(f"X-GPT-Verdict: {verdict()}", f"x-gpt-verdict: {verdict()}")
        assert_forged(scan(rspamd, message), "copies")

    def test_copy_at_the_other_end_of_the_head(self, rspamd: PrivateRspamd) -> None:
        message = f"x-gpt-verdict: {verdict(s='0.00')}\r\n".encode() + with_verdict(verdict())
        assert_forged(scan(rspamd, message), "copies")

    def test_wrong_mac(self, rspamd: PrivateRspamd) -> None:
        value = verdict()
        last = "0" if value[-1] != "0" else "1"
        assert_forged(scan(rspamd, with_verdict(value[:-1] + last)), "mac")

    def test_mac_of_zeros(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict()[:-64] + "0" * 64)), "mac")

    def test_unknown_key(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(key=OTHER_KEY))), "key")

    def test_other_key_under_a_known_name(self, rspamd: PrivateRspamd) -> None:
        message = with_verdict(verdict(key=OTHER_KEY, k=key_id(KEY)))
        assert_forged(scan(rspamd, message), "mac")

    def test_empty_key(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(key=b""))), "key")

    def test_empty_key_under_a_known_name(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(key=b"", k=key_id(KEY)))), "mac")

    @pytest.mark.parametrize(
        ("field", "other"),
        [("s=0.97", "s=0.00"), ("c=none", "c=scam"), ("st=scored; ", "st=skipped; ")],
    )
    def test_changed_field(self, rspamd: PrivateRspamd, field: str, other: str) -> None:
        value = verdict().replace(field, other)
        why = "form" if "skipped" in other else "mac"  # skipped has no score
        assert_forged(scan(rspamd, with_verdict(value)), why)

    def test_verdict_of_another_message(self, rspamd: PrivateRspamd) -> None:
        message = with_verdict(verdict(q="4AaBbCcDdEe"))
        assert_forged(scan(rspamd, message), "queue")

    def test_verdict_of_another_message_with_the_queue_id_changed(
        self, rspamd: PrivateRspamd
    ) -> None:
        value = verdict(q="4AaBbCcDdEe").replace("4AaBbCcDdEe", QUEUE_ID)
        assert_forged(scan(rspamd, with_verdict(value)), "mac")

    def test_queue_id_in_another_case(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(q=QUEUE_ID.lower()))), "queue")

    @pytest.mark.parametrize("queue_id", [QUEUE_ID, "-", None])
    def test_verdict_for_no_queue_id(self, rspamd: PrivateRspamd, queue_id: str | None) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(q="-")), queue_id), "queue")

    @pytest.mark.parametrize("q", [QUEUE_ID, "undef", "nil"])
    def test_message_without_queue_id(self, rspamd: PrivateRspamd, q: str) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(q=q)), None), "queue")

    @pytest.mark.parametrize("age", [901, 86_400, 1_000_000_000, -905, -86_400])
    def test_stale(self, rspamd: PrivateRspamd, age: int) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(age=age))), "stale")

    def test_authenticated_user(self, rspamd: PrivateRspamd) -> None:
        assert_forged(scan(rspamd, with_verdict(verdict(key=OTHER_KEY)), User="ann"), "key")

    def test_header_is_removed(self, rspamd: PrivateRspamd) -> None:
        answer = rspamd.scan(with_verdict("spam", "ham"), {"Queue-Id": QUEUE_ID})
        assert answer["milter"]["remove_headers"]["X-GPT-Verdict"] == 0


# Rspamd looks at files at a fraction of this interval: every 3 s as installed.
SEES_NEW_KEYS_SOON = {"override.d/options.inc": "map_watch_interval = 20s;\n"}


OWN_SECTION = """
    spam_at_least = 0.9; ham_at_most = 0.1;
    categories = ["phishing", "scam", "invoice", "tech-support",
                  "spam", "Bad", "none", "observed"];
    """
OWN_FILES = {
    "local.d/rspamd_llm_group.conf": """
        symbols = {
            "LLM_SPAM" { weight = 6.0; }
            "LLM_HAM" { weight = -1.0; }
            "LLM_SCAM" { weight = 7.0; }
            "LLM_INVOICE" { weight = 1.5; description = "An invoice nobody asked for"; }
            "LLM_FORGED" { weight = 2.0; }
            "LLM_OBSERVED" { weight = 9.0; }
        }
        """,
    "local.d/settings.conf": """
        few {
            id = "few";
            apply { symbols_enabled = ["LLM_CHECK", "LLM_PHISHING", "LLM_OBSERVED"]; }
        }
        """,
}


@pytest.fixture(scope="module")
def own_rspamd(rspamd_installed: None, dns: NxDomainServer) -> Iterator[PrivateRspamd]:
    """An Rspamd whose keys and points the tests of this module change."""
    files = {"local.d/rspamd_llm.conf": OWN_SECTION, **OWN_FILES, **SEES_NEW_KEYS_SOON}
    with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as instance:
        yield instance


@pytest.fixture(scope="module")
def observing(rspamd_installed: None, dns: NxDomainServer) -> Iterator[PrivateRspamd]:
    """The same configuration, but for `observe = true`."""
    files = {"local.d/rspamd_llm.conf": OWN_SECTION + "observe = true;", **OWN_FILES}
    with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as instance:
        yield instance


def settled(rspamd: PrivateRspamd, expected: set[str], message: Callable[[], bytes]) -> None:
    """Waits until the mail gets these symbols.

    A new key file is seen within 4 s; a busy machine gets some more.
    """
    deadline = time.monotonic() + 10
    found: set[str] = set()
    while time.monotonic() < deadline:
        found = scan(rspamd, message()).names
        if found == expected:
            return
        time.sleep(0.05)
    pytest.fail(f"{found} instead of {expected}:\n{rspamd.log()[-2000:]}")


def ensure_key(rspamd: PrivateRspamd) -> None:
    """Brings KEY back, where a test before has replaced it."""
    if not accepts(rspamd, KEY):
        rspamd.write_keys([KEY.hex()])
        settled(rspamd, {"LLM_SPAM"}, lambda: with_verdict(verdict()))


def accepts(rspamd: PrivateRspamd, key: bytes) -> bool:
    return "LLM_FORGED" not in scan(rspamd, with_verdict(verdict(key=key))).names


class TestConfiguration:
    """The administrator's local.d wins over what is installed."""

    @pytest.mark.parametrize(
        ("s", "c", "expected"),
        [
            ("0.89", "none", {"LLM_UNCERTAIN": 0.0}),
            ("0.90", "none", {"LLM_SPAM": 4.8}),
            ("0.11", "none", {"LLM_UNCERTAIN": 0.0}),
            ("0.10", "none", {"LLM_HAM": -1.0}),
            ("1.00", "invoice", {"LLM_SPAM": 6.0, "LLM_INVOICE": 1.5}),
            ("1.00", "tech-support", {"LLM_SPAM": 6.0, "LLM_TECH_SUPPORT": 0.0}),
            ("1.00", "malware", {"LLM_SPAM": 6.0}),
            ("1.00", "spam", {"LLM_SPAM": 6.0}),
        ],
    )
    def test_own_thresholds_categories_and_points(
        self, own_rspamd: PrivateRspamd, s: str, c: str, expected: dict[str, float]
    ) -> None:
        assert scan(own_rspamd, with_verdict(verdict(s=s, c=c))).points == expected

    @pytest.mark.parametrize("c", ["phishing", "scam"])
    def test_no_more_than_8_points_in_sum(self, own_rspamd: PrivateRspamd, c: str) -> None:
        points = scan(own_rspamd, with_verdict(verdict(s="1.00", c=c))).points
        assert sum(points.values()) == 8.0

    def test_own_limit_and_refused_thresholds(
        self, rspamd_installed: None, dns: NxDomainServer
    ) -> None:
        files = {
            "local.d/rspamd_llm.conf": "spam_at_least = 0.4;",  # would make spam worth less than 0
            "local.d/rspamd_llm_group.conf": "max_score = 6.5;",
        }
        with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as rspamd:
            points = scan(rspamd, with_verdict(verdict(s="1.00", c="scam"))).points
            assert sum(points.values()) == 6.5
            assert scan(rspamd, with_verdict(verdict(s="0.45"))).names == {"LLM_UNCERTAIN"}
            assert "using 0.75 and 0.25" in rspamd.log()

    @pytest.mark.parametrize("name", ["spam", "Bad", "none", "observed"])
    def test_impossible_categories_are_named_in_the_log(
        self, own_rspamd: PrivateRspamd, name: str
    ) -> None:
        assert f"category {name} ignored" in own_rspamd.log()


class TestObserving:
    """With `observe = true` no symbol has points, and each says what it would have had."""

    @pytest.mark.parametrize(
        ("s", "c", "expected"),
        [
            ("1.00", "none", {"LLM_SPAM": ["1.00", "would=6.00"], "LLM_OBSERVED": ["6.00"]}),
            ("0.97", "none", {"LLM_SPAM": ["0.97", "would=5.64"], "LLM_OBSERVED": ["5.64"]}),
            (
                "0.90",
                "phishing",
                {
                    "LLM_SPAM": ["0.90", "would=4.80"],
                    "LLM_PHISHING": ["would=3.00"],
                    "LLM_OBSERVED": ["7.80"],
                },
            ),
            (
                "1.00",
                "scam",  # more than the group's limit
                {
                    "LLM_SPAM": ["1.00", "would=6.00"],
                    "LLM_SCAM": ["would=7.00"],
                    "LLM_OBSERVED": ["8.00"],
                },
            ),
            (
                "1.00",
                "tech-support",  # a symbol without a weight
                {
                    "LLM_SPAM": ["1.00", "would=6.00"],
                    "LLM_TECH_SUPPORT": [],
                    "LLM_OBSERVED": ["6.00"],
                },
            ),
            ("0.50", "none", {"LLM_UNCERTAIN": ["0.50"], "LLM_OBSERVED": ["0.00"]}),
            ("0.10", "none", {"LLM_HAM": ["0.10", "would=-1.00"], "LLM_OBSERVED": ["-1.00"]}),
        ],
    )
    def test_scored(
        self, observing: PrivateRspamd, s: str, c: str, expected: dict[str, list[str]]
    ) -> None:
        found = scan(observing, with_verdict(verdict(s=s, c=c)))
        assert found == Symbols(dict.fromkeys(expected, 0.0), expected)

    @pytest.mark.parametrize(
        ("s", "c"),
        [
            ("0.00", "none"),
            ("0.50", "none"),
            ("0.90", "phishing"),
            ("0.95", "invoice"),
            ("1.00", "scam"),
        ],
    )
    def test_the_sum_is_what_the_same_rspamd_gives_when_it_acts(
        self, observing: PrivateRspamd, own_rspamd: PrivateRspamd, s: str, c: str
    ) -> None:
        message = with_verdict(verdict(s=s, c=c))
        given = sum(scan(own_rspamd, message).points.values())
        assert scan(observing, message).options["LLM_OBSERVED"] == [f"{given:.2f}"]

    @pytest.mark.parametrize("s", ["0.00", "1.00"])
    def test_the_mail_has_the_score_that_it_has_without_a_verdict(
        self, observing: PrivateRspamd, s: str
    ) -> None:
        plain = observing.scan(mail(), {"Queue-Id": QUEUE_ID})
        judged = observing.scan(with_verdict(verdict(s=s, c="scam")), {"Queue-Id": QUEUE_ID})
        assert judged["score"] == plain["score"]
        assert judged["action"] == plain["action"]

    @pytest.mark.parametrize(
        ("message", "symbol", "options", "total"),
        [
            (mail, "LLM_ABSENT", [], "0.00"),
            (
                lambda: with_verdict(verdict(st="skipped", s="-", c="size")),
                "LLM_SKIPPED",
                ["size"],
                "0.00",
            ),
            (
                lambda: with_verdict(verdict(st="unscored", s="-", c="timeout")),
                "LLM_UNSCORED",
                ["timeout"],
                "0.00",
            ),
            (lambda: with_verdict("spam"), "LLM_FORGED", ["form", "would=2.00"], "2.00"),
        ],
        ids=["absent", "skipped", "unscored", "forged"],
    )
    def test_all_other_symbols(
        self,
        observing: PrivateRspamd,
        message: Callable[[], bytes],
        symbol: str,
        options: list[str],
        total: str,
    ) -> None:
        expected = {symbol: options, "LLM_OBSERVED": [total]}
        assert scan(observing, message()) == Symbols(dict.fromkeys(expected, 0.0), expected)

    def test_where_there_is_no_symbol_nothing_is_observed(self, observing: PrivateRspamd) -> None:
        assert scan(observing, mail(), User="ann").names == set()

    def test_weights_of_the_settings_that_apply(self, observing: PrivateRspamd) -> None:
        found = scan(
            observing, with_verdict(verdict(s="1.00")), Settings='{"scores": {"LLM_SPAM": 1.5}}'
        )
        assert found.points == {"LLM_SPAM": 0.0, "LLM_OBSERVED": 0.0}
        assert found.options["LLM_SPAM"] == ["1.00", "would=1.50"]

    def test_a_symbol_that_settings_leave_out_counts_for_nothing(
        self, observing: PrivateRspamd
    ) -> None:
        message = with_verdict(verdict(s="1.00", c="phishing"))
        found = scan(observing, message, **{"Settings-ID": "few"})
        assert found.options == {"LLM_PHISHING": ["would=3.00"], "LLM_OBSERVED": ["3.00"]}

    def test_header_is_removed(self, observing: PrivateRspamd) -> None:
        answer = observing.scan(with_verdict(verdict()), {"Queue-Id": QUEUE_ID})
        assert answer["milter"]["remove_headers"]["X-GPT-Verdict"] == 0

    def test_it_is_said_once_at_start(
        self, observing: PrivateRspamd, own_rspamd: PrivateRspamd
    ) -> None:
        assert observing.log().count("only observing") == 1
        assert "only observing" not in own_rspamd.log()

    @pytest.mark.parametrize(
        ("value", "observes", "complains"),
        [
            ('"Yes"', True, False),
            ('"off"', False, False),
            ('"perhaps"', True, True),
            ("1", True, True),
        ],
    )
    def test_value(
        self,
        rspamd_installed: None,
        dns: NxDomainServer,
        value: str,
        observes: bool,
        complains: bool,
    ) -> None:
        files = {"local.d/rspamd_llm.conf": f"observe = {value};"}
        with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as rspamd:
            found = scan(rspamd, with_verdict(verdict(s="0.97")))
            assert found.points["LLM_SPAM"] == (0.0 if observes else 4.7)
            assert ("LLM_OBSERVED" in found.names) is observes
            assert ("observe must be true or false" in rspamd.log()) is complains


class TestKeys:
    """Keys rotate without a restart, and no faulty file ever takes a good key away."""

    def test_rotation(self, rspamd_installed: None, dns: NxDomainServer) -> None:
        with PrivateRspamd(dns.port, keys=[KEY.hex()]) as rspamd:
            rspamd.write_keys(["# new", OTHER_KEY.hex().upper(), "", "# old", KEY.hex()])
            settled(rspamd, {"LLM_SPAM"}, lambda: with_verdict(verdict(key=OTHER_KEY)))
            assert accepts(rspamd, KEY)
            rspamd.write_keys([OTHER_KEY.hex()])
            settled(rspamd, {"LLM_FORGED"}, lambda: with_verdict(verdict(key=KEY)))
            assert accepts(rspamd, OTHER_KEY)

    @pytest.mark.parametrize(
        "lines",
        [
            [KEY.hex(), OTHER_KEY.hex()[:-2]],
            [OTHER_KEY.hex() + "00"],
            ["zz" * 32],
            [f"{KEY.hex()} {OTHER_KEY.hex()}"],
            ["# nothing"],
        ],
        ids=["short", "long", "no-hex", "two-in-a-line", "none"],
    )
    def test_faulty_file_changes_nothing(
        self, own_rspamd: PrivateRspamd, lines: Sequence[str]
    ) -> None:
        ensure_key(own_rspamd)
        before = own_rspamd.log().count("refused")
        own_rspamd.write_keys(lines)
        wait_for_log(own_rspamd, "refused", before + 2)  # both workers
        assert accepts(own_rspamd, KEY)
        assert not accepts(own_rspamd, OTHER_KEY)

    def test_unreadable_file_changes_nothing(self, own_rspamd: PrivateRspamd) -> None:
        ensure_key(own_rspamd)
        own_rspamd.write_keys([OTHER_KEY.hex()], mode=0o600)
        wait_for_log(own_rspamd, "Permission denied", 1)
        assert accepts(own_rspamd, KEY)
        own_rspamd.key_file.chmod(0o640)
        settled(own_rspamd, {"LLM_SPAM"}, lambda: with_verdict(verdict(key=OTHER_KEY)))

    @pytest.mark.parametrize(
        "lines", [None, ["00" * 31], ["", "# none"]], ids=["no-file", "short-line", "no-key"]
    )
    def test_without_a_valid_key_nothing_is_trusted(
        self, rspamd_installed: None, dns: NxDomainServer, lines: Sequence[str] | None
    ) -> None:
        with PrivateRspamd(dns.port, keys=lines) as rspamd:
            assert_forged(scan(rspamd, with_verdict(verdict())), "key")
            assert_forged(scan(rspamd, with_verdict(verdict(key=b""))), "key")
            assert_forged(scan(rspamd, with_verdict(verdict(key=bytes(31)))), "key")
            assert "no valid key" in rspamd.log()

    def test_a_key_that_comes_later_is_used(
        self, rspamd_installed: None, dns: NxDomainServer
    ) -> None:
        with PrivateRspamd(dns.port, keys=None, files=SEES_NEW_KEYS_SOON) as rspamd:
            rspamd.write_keys([KEY.hex()])
            settled(rspamd, {"LLM_SPAM"}, lambda: with_verdict(verdict()))

    def test_keys_that_only_root_can_read_are_complained_about(
        self, rspamd_installed: None, dns: NxDomainServer
    ) -> None:
        with PrivateRspamd(dns.port, keys=[KEY.hex()], key_mode=0o600) as rspamd:
            assert accepts(rspamd, KEY)
            assert "a change of keys will go unnoticed" in rspamd.log()

    def test_keys_come_from_files_only(self, rspamd_installed: None, dns: NxDomainServer) -> None:
        files = {"override.d/rspamd_llm.conf": 'key_file = "http://keys.example.org/";'}
        with PrivateRspamd(dns.port, files=files) as rspamd:
            assert_forged(scan(rspamd, with_verdict(verdict())), "key")
            assert "key_file http://keys.example.org/ is no readable file" in rspamd.log()


def wait_for_log(rspamd: PrivateRspamd, text: str, times: int) -> None:
    deadline = time.monotonic() + 10
    while rspamd.log().count(text) < times:
        if time.monotonic() > deadline:
            pytest.fail(f"{text!r} is not in the log:\n{rspamd.log()[-2000:]}")
        time.sleep(0.05)
