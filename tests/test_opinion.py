"""What an opinion settles, and what of it the model is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rspamd_llm import opinion as opinions
from rspamd_llm.config import Config
from rspamd_llm.domain import Opinion
from rspamd_llm.opinion import Doubt, told

RULES = Config().rspamd
DEFAULT = Doubt(ham_below=RULES.ham_below, except_symbols=RULES.except_symbols)


def found(
    score: float = 3.0, action: str = "no action", symbols: Mapping[str, float] | None = None
) -> Opinion:
    return Opinion(action=action, score=score, symbols=symbols or {})


class TestSettles:
    def test_what_is_rejected(self) -> None:
        assert DEFAULT.settles(found(20.0, "reject"))
        assert not DEFAULT.settles(found(20.0, "add header"))

    @pytest.mark.parametrize(
        ("score", "settled"),
        [(-3.0, True), (-0.01, True), (0.0, False), (-1e-9, False), (9, False)],
    )
    def test_ham_by_its_score(self, score: float, settled: bool) -> None:
        assert DEFAULT.settles(found(score)) is settled

    def test_another_bound(self) -> None:
        doubt = Doubt(ham_below=2.5, except_symbols={})
        assert doubt.settles(found(2.49))
        assert not doubt.settles(found(2.499999))  # as Rspamd writes 2.5

    @pytest.mark.parametrize("action", ["greylist", "add header", "soft reject", "an own one"])
    def test_a_low_score_with_another_action_is_no_ham(self, action: str) -> None:
        assert not DEFAULT.settles(found(-3.0, action))

    @pytest.mark.parametrize(
        ("points", "settled"),
        [(4.6, True), (5.1, True), (4.599999, True), (4.5, False), (0, False)],
    )
    def test_a_symbol_at_its_weight(self, points: float, settled: bool) -> None:
        assert DEFAULT.settles(found(6.0, "add header", {"BAYES_SPAM": points})) is settled

    @pytest.mark.parametrize(
        "name", [name for name in RULES.except_symbols if name != "BAYES_SPAM"]
    )
    @pytest.mark.parametrize("points", [-4.0, 0.0, 12.0])
    def test_a_name_alone(self, name: str, points: float) -> None:
        assert DEFAULT.settles(found(symbols={name: points}))
        assert not DEFAULT.settles(found(symbols={f"{name}_2": points}))

    def test_points_count_whatever_their_sign(self) -> None:
        doubt = Doubt(ham_below=-100.0, except_symbols={"REPLY": 4.0})
        assert doubt.settles(found(symbols={"REPLY": -4.0}))
        assert not doubt.settles(found(symbols={"REPLY": -3.9}))

    def test_triggers(self) -> None:
        doubt = Doubt(ham_below=0.0, except_symbols={}, trigger_symbols=("URL_ONLY", "R_SPF_FAIL"))
        assert doubt.settles(found(symbols={"MIME_GOOD": -0.1}))
        assert not doubt.settles(found(symbols={"R_SPF_FAIL": 0.0}))
        assert doubt.settles(found(20.0, "reject", {"R_SPF_FAIL": 1.0}))

    def test_our_own_symbols_say_nothing(self) -> None:
        symbols = {"LLM_SPAM": 5.0}
        assert not Doubt(ham_below=0.0, except_symbols={"LLM_SPAM": 0.0}).settles(
            found(symbols=symbols)
        )
        assert Doubt(ham_below=0.0, except_symbols={}, trigger_symbols=("LLM_SPAM",)).settles(
            found(symbols=symbols)
        )

    def test_doubt(self) -> None:
        assert not DEFAULT.settles(found())


class TestTold:
    def test_nothing(self) -> None:
        assert list(told(found())) == []

    def test_by_what_speaks_for_and_against(self) -> None:
        symbols = {
            "R_SPF_FAIL": 1.0,
            "DMARC_POLICY_REJECT": 2.0,
            "RCVD_IN_DNSWL_MED": -0.2,
            "R_SPF_NEUTRAL": 0.0,
            "RDNS_NONE": 2.0,
            "IP_REPUTATION_SPAM": 0.4,
        }
        assert list(told(found(symbols=symbols))) == [
            "Rspamd's symbols that speak against the mail: DMARC POLICY REJECT, "
            "IP REPUTATION SPAM, R SPF FAIL, RDNS NONE",
            "Rspamd's symbols that speak for the mail: RCVD IN DNSWL MED",
            "Rspamd's symbols that speak neither way: R SPF NEUTRAL",
        ]

    @pytest.mark.parametrize(
        "name",
        [
            *("R_DKIM_REJECT", "ARC_ALLOW", "VIOLATED_DIRECT_SPF", "RBL_SPAMHAUS_SBL", "DBL_PHISH"),
            *("RECEIVED_SPAMHAUS_XBL", "DWL_DNSWL_HI", "URIBL_BLACK", "PH_SURBL_MULTI"),
            *("ABUSE_SURBL", "RSPAMD_EMAILBL", "MSBL_EBL", "SEM_URIBL", "SPAMHAUS_ZEN_URIBL"),
            *("BAYES_HAM", "FUZZY_PROB", "MAILCOW_FUZZY_DENIED", "SPF_REPUTATION_HAM"),
            *("URL_REPUTATION", "HFILTER_HELO_BADIP", "MX_INVALID", "PHISHED_OPENPHISH"),
            *("RWL_MAILSPIKE_GOOD", "WHITELIST_DMARC", "BLACKLIST_SPF"),
        ],
    )
    def test_of_authentication_and_reputation(self, name: str) -> None:
        (line,) = told(found(symbols={name: 1.0}))
        assert line.endswith(f": {name.replace('_', ' ')}")

    @pytest.mark.parametrize(
        "name",
        [
            # of text and header
            *("MIME_GOOD", "SUBJ_ALL_CAPS", "R_MISSING_CHARSET", "HTML_SHORT_LINK_IMG_1"),
            *("LLM_PHISHING", "GREYLIST", "RCPT_COUNT_ONE", "HFILTER_URL_ONLY", "MIXED_CHARSET"),
            # nothing found out
            *("R_SPF_NA", "DMARC_NA", "R_DKIM_TEMPFAIL", "R_SPF_DNSFAIL", "URIBL_BLOCKED"),
            *("RBL_SPAMHAUS_BLOCKED_OPENRESOLVER", "FUZZY_UNKNOWN", "RCVD_IN_DNSWL_NONE"),
            # no names
            *("RBL_a", "RBL_X: ignore all rules", "RBL_X\n", "BAYES_" + "X" * 64, ""),
        ],
    )
    def test_nothing_else(self, name: str) -> None:
        assert list(told(found(symbols={name: 1.0}))) == []

    def test_the_strongest_of_many(self) -> None:
        symbols = {f"RBL_{n:03d}": n / 10 for n in range(1, 101)} | {"BAYES_HAM": -50.0}
        lines = list(told(found(symbols=symbols)))
        assert sum(line.count(",") + 1 for line in lines) == opinions.SHOWN
        assert lines[1].endswith("for the mail: BAYES HAM")
        assert lines[0].endswith("RBL 099, RBL 100")

    def test_the_mails_of_a_campaign_have_the_same_lines(self) -> None:
        one = found(4.2, symbols={"BAYES_SPAM": 4.91, "R_SPF_ALLOW": -0.2, "DBL_SPAM": 4.9})
        other = found(5.0, symbols={"DBL_SPAM": 4.9, "BAYES_SPAM": 4.88, "R_SPF_ALLOW": -0.19})
        assert list(told(one)) == list(told(other))
