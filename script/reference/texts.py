"""What the reference says that stands nowhere in the code: one text for each thing.

A test proves that nothing is missing here and nothing left over.  Backticks mark what is written as
it stands; there is no other markup.  What may not live here: names, defaults, bounds and help that
the code tells by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from rspamd_llm.domain import Failure, Skip
from rspamd_llm.domain.outcome import Cache

Texts = Mapping[str, str]

PROGRAM = (
    "`rspamd-llm` stands before Rspamd as a milter of Postfix. It reads each message as its reader"
    " would see it, looks up what a careful person would look up, asks a language model for a"
    " judgement, and hands the message back with signed X-GPT headers. A plugin of Rspamd turns the"
    " verdict into symbols. What cannot be judged in time passes without a score.",
    "`python -m rspamd_llm` is the same.",
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "scan": (
        "Needs no verdict key. `--json` prints one object a line: `file`, `status` (scored,"
        " skipped, unscored, error), `code`, `score`, `category`, `reason`, `model`, `seconds`;"
        " what does not apply is null. With `--explain` also the facts, the prompt, the raw answer"
        " and the times.",
    ),
    "check": (
        "Each check that is not well names a cause and a cure. `--json` prints"
        ' `{"ok": ..., "checks": [{"check", "status", "detail", "cure"}]}`; a status is ok, warning'
        " or failed. A warning leaves the exit status 0.",
    ),
    "init": ("Never overwrites: a file that is there is kept.",),
    "config": ("Left out are the password in `store.url` and what stands in files of secrets.",),
}
"""What is to be said of a command beyond its help, as paragraphs."""

EXIT_STATUS: Texts = {
    "0": "All well.",
    "1": "The work failed: a check fails, a mail could not be read or not be scored.",
    "2": "Wrong usage or configuration.",
    "130": "Interrupted from the keyboard.",
}

SIGNALS: Texts = {
    "SIGTERM, SIGINT": (
        "Stop it, with status 0. Messages being judged get `milter.drain` seconds; those that end"
        " later pass as `unscored; stopping`."
    ),
    "SIGHUP": (
        "Reads the instructions (`prompt.file`), the lists, the verdict keys and the other secrets"
        " again, as `systemctl reload rspamd-llm` does. A fault in any of them is told in the log,"
        " and changes nothing. Other settings want a restart. SIGHUP never stops the daemon."
    ),
}
"""What `serve` does at a signal."""

ENVIRONMENT: Texts = {
    "RSPAMD_LLM_CONFIG": "The configuration file where `-c` names none.",
    "DDGS_PROXY": "A proxy for the web searches of ddgs.",
    "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID": "Set by systemd; see `sd_notify(3)`.",
}

CONFIGURATION = (
    "A file in TOML 1.0. What is left out keeps its default. `rspamd-llm init` writes a file with"
    " every setting and a comment, `rspamd-llm config` prints what is in force, and"
    " `rspamd-llm check` tries it.",
    "An unknown section or name, a wrong type or a value out of range is an error; all are reported"
    " at once. Names of search engines that the installed ddgs does not have, and a list of"
    " registries that is none, keep the daemon from starting. Settings that contradict each other,"
    " or those of a Postfix on this machine (`content_timeout`, `default_action`), are warned about"
    " at start and by `check`.",
    "After a change restart the daemon. For what files of instructions, lists, keys and other"
    " secrets hold, `systemctl reload rspamd-llm` is enough.",
)

HEADERS: Texts = {
    "X-GPT-Verdict": "The signed verdict, one line. The plugin takes it out of the delivered mail.",
    "X-GPT-Status": (
        "`scored`, or `skipped` or `unscored` with the code. `scored; injection` where the mail's"
        " text speaks to a model; that changes no score."
    ),
    "X-GPT-Score": "From 0.00, wanted, to 1.00, unwanted.",
    "X-GPT-Category": "One of `verdict.categories`, or `none`.",
    "X-GPT-Reason": (
        "One sentence of the model's, at most 240 characters; RFC 2047 where it is not ASCII."
    ),
    "X-GPT-Model": (
        "The model, the id of the instructions, the seconds it took, and where the verdict came"
        " from."
    ),
}
"""Those that a message may gain; the last four where it is scored."""

ARRIVING = (
    "Every X-GPT header that arrives is deleted, in any case, all copies. Mail of authenticated"
    " users gains none. Every other message that reaches its end gains these, of which"
    " X-GPT-Verdict alone is believed; the others are for people."
)

QUESTION = (
    "`X-GPT-Question` is no header of mail: it marks our request to Rspamd, where Rspamd is asked"
    " first."
)

FIELDS: Texts = {
    "v": "1",
    "st": "`scored`, `skipped` or `unscored`",
    "q": "the queue ID; `-` when the MTA gave none",
    "t": "Unix seconds",
    "s": "the score with two decimals; `-` unless scored",
    "c": "the category or `none` when scored, else the code",
    "k": "first 8 hex digits of SHA-256(key)",
    "m": "HMAC-SHA-256(key, everything from `v=1` up to but not including `; m=`), lower-case hex",
}
"""Of X-GPT-Verdict, in their order."""

CACHE: Mapping[Cache, str] = {
    Cache.MISS: "the model was asked about this mail",
    Cache.HIT: "its verdict was remembered",
    Cache.JOINED: "the mail waited for the verdict on one like it",
}

SKIPPED: Mapping[Skip, str] = {
    Skip.AUTHENTICATED: "the sender has logged in (such mail gains no headers)",
    Skip.NETWORK: "the client is in `gate.skip_networks`",
    Skip.SIZE: "the message is larger than `gate.max_size`",
    Skip.ALLOWLIST: (
        "its From domain stands in `gate.allow_file`, and it proves to be that domain's"
    ),
    Skip.OPTOUT: "all its recipients stand in `gate.optout_file`",
    Skip.SAMPLED: "`gate.sample` left it out",
    Skip.DECIDED: "Rspamd is in no doubt about it (`rspamd.url`)",
    Skip.NO_TEXT: (
        "there is nothing to judge: no subject, text (shown or hidden), link, image, file or quoted"
        " mail"
    ),
}
"""The model was not asked because ..."""

UNSCORED: Mapping[Failure, str] = {
    Failure.TIMEOUT: "the deadline came",
    Failure.OVERLOADED: "`milter.max_in_flight` was reached, or it could not be answered in time",
    Failure.MODEL_UNAVAILABLE: "no connection, closed early, or an error status",
    Failure.MODEL_INVALID: "the answer is no verdict: no JSON, NaN, out of range, cut short, empty",
    Failure.CONTEXT_OVERFLOW: "the prompt is longer than the model's context",
    Failure.STOPPING: "the daemon was being stopped",
    Failure.INTERNAL: "a mistake of ours; the log says which",
}
"""There is no verdict because ..."""

SYMBOLS: Texts = {
    "LLM_OBSERVED": "While the plugin observes only; its option is the points in sum.",
    "LLM_CHECK": "The plugin's check; in no result.",
    "LLM_CLEAN": "Takes X-GPT-Verdict out of the mail; in no result.",
    "LLM_ASKED": "Begins a scan that the daemon has asked for; in no result.",
    "LLM_ASIDE": "Ends such a scan without a trace of it; in no result.",
}
"""Those that are no part of the group."""

REFUSALS: Texts = {
    "copies": "the header stands there more than once",
    "form": "the header is not exactly in the daemon's form",
    "key": "no key that Rspamd knows has this id",
    "mac": "the signature is wrong",
    "queue": "the verdict was made for another message, or for none",
    "stale": "the verdict is more than 900 seconds old, or from the future",
}
"""Why a verdict counts as LLM_FORGED: the symbol's option."""
