"""Settings of Rspamd's GPT plugin -> ours, and what of them has no place here, with the reason.

Plain functions.  The plugin's options are those of Rspamd 3.9 to 4.1
(https://docs.rspamd.com/modules/gpt, src/plugins/lua/gpt.lua).  What may not live here: reading
UCL (ucl.py), and files (importgpt.py).  No sentence tells the value of a setting that may be a
secret.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rspamd_llm.allowed import CATEGORY, UnfitError
from rspamd_llm.commented import Name
from rspamd_llm.config import Config, Evidence, Llm, Milter
from rspamd_llm.gptleft import LEFT, READ, SAMPLING, TAKEN, VOTES

PLUGIN_URL = "https://api.openai.com/v1/chat/completions"
"""Where the plugin asks unless `url` says otherwise."""

HOUR = 3600
"""Seconds for which the plugin's cache keeps an answer by default; so does `store.verdict_ttl`."""

MODEL_SHARE = 1.5
"""Look-ups take up to a third of a mail's time: so much more the mail gets than the model had."""

MARGIN = 30
"""Seconds by which Postfix's content_timeout for us is above milter.deadline, as in the guide."""

HAM = -1000.0
"""The least that `rspamd.ham_below` may be: no mail has so few points."""

_HERE = re.compile(r"https?://(?:localhost|127\.[\d.]+|\[::1\])(?=[:/]|\Z)")
_ANSWERS = re.compile(r"/(?:chat/completions|api/(?:chat|generate))/*\Z")


@dataclass(frozen=True, slots=True)
class Import:
    """What became of the plugin's settings."""

    values: Mapping[Name, Any]
    """Ours, each fit for the configuration."""
    api_key: str = field(repr=False)
    prompt: str
    rspamd: tuple[str, ...]
    """Lines for Rspamd's own configuration of our plugin."""
    left: tuple[str, ...]
    """What was not carried over, or only in part: the name of the setting, and the reason."""
    notes: tuple[str, ...]
    """What is different from now on, and what is left to do."""


def convert(settings: Mapping[str, Any], *, scanner: str) -> Import:
    """Our configuration from the plugin's; `scanner` is the URL of Rspamd's normal worker."""
    work = _Work(settings)
    work.server()
    work.tokens()
    work.time()
    work.doubt(scanner)
    work.categories()
    work.lookups()
    work.leave()
    return Import(
        values=work.values,
        api_key=work.api_key,
        prompt=_text(settings.get("prompt")),
        rspamd=tuple(work.rspamd),
        left=tuple(work.left),
        notes=(*work.notes, *_notes(settings)),
    )


def _notes(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("enabled") is False:
        yield "the plugin was switched off (enabled = false); its settings were read all the same"
    yield (
        "the points of GPT_SPAM and GPT_HAM stand in Rspamd's groups and were not read: LLM_SPAM"
        " has 2.5 to 5 points, LLM_HAM none, and your own go to local.d/rspamd_llm_group.conf"
    )
    yield (
        "when all works, write enabled = false; into Rspamd's local.d/gpt.conf: else the model is"
        " asked twice about a mail"
    )


class _Work:
    """What has been carried over so far; each method reads some of the settings."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.values: dict[Name, Any] = {}
        self.api_key = ""
        self.rspamd: list[str] = []
        self.left: list[str] = []
        self.notes: list[str] = []

    def _set(self, section: str, name: str, value: Any, source: str) -> None:
        """Takes a value if our configuration may have it; else tells why not."""
        kind = {item.name: item for item in dataclasses.fields(getattr(Config(), section))}
        try:
            kind[name].metadata["check"](value)
        except UnfitError as unfit:
            self.left.append(f"{source}: is not what {section}.{name} may be: {unfit}")
        else:
            self.values[section, name] = value

    def _number(self, name: str) -> float | None:
        value = self._settings.get(name)
        if value is not None and _number(value) is None:
            self.left.append(f"{name}: is no number")
        return _number(value)

    def server(self) -> None:
        """Whom the plugin asks, with which key, for which model."""
        settings = self._settings
        kind = settings.get("type", "openai")
        if kind == "ollama":
            self.notes.append(
                "Ollama is asked by its OpenAI API (/v1), which cuts long prompts without a word:"
                f" start it with OLLAMA_CONTEXT_LENGTH={Llm().context_tokens} or more"
            )
        elif kind != "openai":
            self.left.append("type: is neither openai nor ollama; only the OpenAI API is spoken")
        if "url" in settings or kind != "ollama":  # whose default here is Ollama itself
            self._url(settings.get("url", PLUGIN_URL))
        key = settings.get("api_key")
        if key and kind == "ollama":
            self.left.append("api_key: the plugin sends none to Ollama")
        elif key and not isinstance(key, str):
            self.left.append("api_key: is no text; write it in quotes")
        else:
            self.api_key = key or ""
        self._model(settings.get("model"))

    def _url(self, url: Any) -> None:
        base = _base(_text(url))
        self._set("llm", "base_url", base, "url")
        if ("llm", "base_url") not in self.values:
            return
        if not re.search(r"/v\d\w*\Z", base):
            self.notes.append(
                "llm.base_url: see whether it is what stands before /chat/completions"
            )
        if not _HERE.match(base):
            self.notes.append(f"mail goes to {base}, as it did with the plugin")

    def _model(self, model: Any) -> None:
        models = [name for name in (model if isinstance(model, list) else [model]) if _text(name)]
        if not models:
            self.left.append(
                "model: none is named, and the plugin's default depends on Rspamd's version; set"
                " llm.model"
            )
            return
        self._set("llm", "model", models[0], "model")
        if len(models) > 1:
            self.left.append(f"model: the first of the {len(models)} is taken; {VOTES}")

    def tokens(self) -> None:
        """How long an answer may be."""
        settings = self._settings
        parameters = _table(settings.get("model_parameters"))
        own = _table(parameters.get(self.values.get(("llm", "model"), "")))
        for name in own.keys() - {"max_completion_tokens", "max_tokens"}:
            if name != "temperature" or own[name] != 0:
                reason = SAMPLING if name in LEFT else "what else is sent to the server is fixed"
                self.left.append(f"model_parameters, {_shown(name)}: {reason}")
        told = own.get("max_completion_tokens", own.get("max_tokens"))
        told = self._number("max_tokens") if told is None else _number(told)
        if told is None:
            return
        if told < Llm().max_output_tokens:
            self.left.append(
                f"max_tokens: {told:g} may cut our answer short, which needs up to"
                f" {Llm().max_output_tokens}; llm.context_tokens says how much of a mail is shown"
            )
        else:
            self._set("llm", "max_output_tokens", int(told), "max_tokens")

    def time(self) -> None:
        """How long a mail may wait, and how long a verdict is remembered."""
        seconds = self._number("timeout")
        deadline = MODEL_SHARE * (seconds or 0)
        if deadline > Milter().deadline:
            self._set("milter", "deadline", deadline, "timeout")
            if ("milter", "deadline") in self.values:
                self.notes.append(
                    f"milter.deadline is {deadline:g} s, so that the model has {seconds:g} s:"
                    f" Postfix's content_timeout for us must be {deadline + MARGIN:g}s"
                )
        kept = self._number("cache_ttl")
        if kept is not None and kept != HOUR:
            self._set("store", "verdict_ttl", int(kept), "cache_ttl")

    def doubt(self, scanner: str) -> None:
        """About which mail the model is asked: as the plugin, after Rspamd's own opinion."""
        settings = self._settings
        self._set("rspamd", "url", scanner, "rspamd.url")
        self.notes.append(
            f"Rspamd is asked for its opinion first, at {scanner} ([rspamd] url), for the plugin"
            ' judged after Rspamd as well; with url = "" the model is asked about every mail'
        )
        if settings.get("allow_ham") is True:
            self._set("rspamd", "ham_below", HAM, "allow_ham")
        excepted = settings.get("symbols_to_except")
        if excepted is not None:
            self._excepted(excepted)
        triggers = settings.get("symbols_to_trigger")
        if isinstance(triggers, Mapping) and triggers:
            names = [str(name) for name in triggers]
            self._set("rspamd", "trigger_symbols", names, "symbols_to_trigger")
            if any((_number(least) or 0) > 0 for least in triggers.values()):
                self.left.append(
                    "symbols_to_trigger: the points that a symbol must have; its name is enough"
                )
            if len(triggers) > 1:
                self.left.append(
                    "symbols_to_trigger: the plugin wants all of them in a mail; here one is enough"
                )
        elif triggers is not None and triggers != {}:
            self.left.append("symbols_to_trigger: is no table of symbols")

    def _excepted(self, excepted: Any) -> None:
        told = {str(name): _number(least) for name, least in _table(excepted).items()}
        weights = {name: max(0.0, least) for name, least in told.items() if least is not None}
        if not isinstance(excepted, Mapping) or len(weights) < len(told):
            self.left.append("symbols_to_except: what is no symbol with a number")
        self._set("rspamd", "except_symbols", weights, "symbols_to_except")
        bayes = weights.get("BAYES_SPAM", 0.0)
        if 0 < bayes <= 1:
            self.notes.append(
                f"rspamd.except_symbols: BAYES_SPAM = {bayes:g} are points, of 5.1 by Rspamd's"
                " weight; 4.6 is where Bayes is 95 % sure"
            )

    def categories(self) -> None:
        """What the model may call a mail, and the points of that."""
        extra = self._settings.get("extra_symbols")
        if extra is None:
            return
        symbols: dict[str, list[str]] = {}
        for symbol, told in _table(extra).items():
            table = _table(told)
            category = _text(table.get("category")).lower()
            if why := _unfit(category, symbols.keys()):
                self.left.append(f"extra_symbols, {_shown(symbol)}: {why}")
                continue
            options = [f"weight = {_number(table.get('score')) or 0:g};"]
            if description := _text(table.get("description")):
                options.append(f"description = {json.dumps(description, ensure_ascii=False)};")
            symbols[category] = options
        if not symbols:
            self.left.append("extra_symbols: names no category; ours stay")
            return
        self._set("verdict", "categories", list(symbols), "extra_symbols")
        self.rspamd += [
            "local.d/rspamd_llm.conf:",
            f"    categories = {json.dumps(list(symbols))};",
        ]
        self.rspamd += ["local.d/rspamd_llm_group.conf:", "    symbols = {"]
        for category, options in symbols.items():
            name = "LLM_" + category.upper().replace("-", "_")
            self.rspamd.append(f'        "{name}" {{ {" ".join(options)} }}')
        self.rspamd.append("    }")

    def lookups(self) -> None:
        """What is asked of the web, and what is known of a user's mail."""
        if _table(self._settings.get("context")).get("enabled") is True:
            self.left.append(
                "context: no text of earlier mails is kept; gate.learn_correspondents remembers"
                " whom your users write to"
            )
        search = _table(self._settings.get("search_context"))
        if search.get("enabled") is not True:
            self.notes.append(
                "DNS, the domain registries and search engines are asked about the domains in a"
                " mail, which the plugin did not do (docs/privacy.md); that is off with [evidence]"
                ' dns = false, registration = false, authentication = "header", and [search]'
                ' provider = "none"'
            )
            return
        for theirs, ours in (
            ("max_domains", "max_domains"),
            ("max_results_per_query", "max_results"),
        ):
            if (told := _number(search.get(theirs))) is not None:
                self._set("search", ours, int(told), f"search_context, {theirs}")
        if (told := _number(search.get("timeout"))) is not None:
            self._set("search", "timeout", told, "search_context, timeout")
            if told > Evidence().timeout:
                self._set("evidence", "timeout", told, "search_context, timeout")
        if search.keys() & {"search_url", "search_engine"}:
            self.left.append(
                "search_context, search_url and search_engine: [search] provider names who is asked"
                " (docs/privacy.md)"
            )
        if search.keys() & {"enable_expression", "disable_expression"}:
            self.left.append(
                "search_context, expressions: it is asked for each mail that is judged"
            )

    def leave(self) -> None:
        """What has no place here."""
        for name, value in self._settings.items():
            if name in READ or value is None:
                continue
            if name not in LEFT:
                self.left.append(f"{_shown(name)}: is no setting of the plugin known here")
            elif value != LEFT[name][0]:
                self.left.append(f"{name}: {LEFT[name][1]}")


def _base(url: str) -> str:
    """What stands before the path of the one request; Ollama's own API has a sister in /v1."""
    base = _ANSWERS.sub("", url.strip())
    own = re.search(r"/api/(?:chat|generate)/*\Z", url.strip())
    return f"{base}/v1" if own else base.rstrip("/")


def _unfit(category: str, others: Collection[str]) -> str:
    """Why a category cannot have a symbol of ours; empty where it can."""
    try:
        CATEGORY(category)
    except UnfitError as unfit:
        return f"its category is not {unfit}"
    if category in TAKEN:
        return f"LLM_{category.upper()} is a symbol of our plugin that means something else"
    return "its category has a symbol already" if category in others else ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """A number, also one in quotes, as Lua takes it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None


def _shown(name: object) -> str:
    """A name of somebody's choosing, for a terminal."""
    text = "".join(sign if sign.isprintable() else "?" for sign in str(name))
    return text if len(text) <= 60 else text[:57] + "..."
