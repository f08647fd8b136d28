"""Which settings of Rspamd's GPT plugin have no place in our configuration, and why.

Data for gptconf.py; what may not live here: code.  The names are those of Rspamd 3.9 to 4.1
(https://docs.rspamd.com/modules/gpt; those of its cache: lualib/lua_cache.lua, lua_redis.lua).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLING = "the model is always asked at temperature 0: the same mail, the same verdict"
VOTES = (
    "one model is asked, so there is no vote; the thresholds of our plugin are spam_at_least and"
    " ham_at_most in local.d/rspamd_llm.conf"
)

_REDIS = "what is remembered stands in [store] url, which may be a Redis: valkey://host:6379/0"
_STAGES = "milter.deadline bounds all that a mail waits for"
_FORM = "a JSON schema is asked for where the server takes one, and three lines are understood too"

LEFT: Mapping[str, tuple[Any, str]] = {
    "temperature": (0, SAMPLING),
    "top_p": (None, SAMPLING),
    "connect_timeout": (None, _STAGES),
    "ssl_timeout": (None, _STAGES),
    "write_timeout": (None, _STAGES),
    "read_timeout": (None, _STAGES),
    "request_timeout": (None, _STAGES),
    "condition": (
        None,
        "is Lua for the plugin; here [gate] and [rspamd] say which mail is judged",
    ),
    "context_augment": (None, "is Lua for the plugin; what the model is shown is fixed"),
    "reply_conversion": (None, f"is Lua for the plugin; {_FORM}"),
    "json": (False, _FORM),
    "include_response_format": (False, _FORM),
    "reply_trim_mode": ("replies", "quoted text is shown to the model apart, and bounded"),
    "min_words": (None, "short mail is judged too: by its sender, links and files"),
    "autolearn": (
        False,
        "the model's verdict does not teach Bayes: a mistake of the model's would be learnt",
    ),
    "reason_header": ("X-GPT-Reason", "the header is always added, and named X-GPT-Reason"),
    "allow_passthrough": (
        False,
        "mail for which another rule has set the result early is judged unless that is a reject",
    ),
    "consensus_spam_threshold": (0.75, VOTES),
    "consensus_ham_threshold": (0.25, VOTES),
    "cache_prefix": ("rsllm", _REDIS),
    "cache_format": (None, _REDIS),
    "cache_hash_len": (None, _REDIS),
    "cache_probes": (None, _REDIS),
    "cache_use_hashing": (None, _REDIS),
    "redis": (None, _REDIS),
    "servers": (None, _REDIS),
    "read_servers": (None, _REDIS),
    "write_servers": (None, _REDIS),
    "sentinels": (None, _REDIS),
    "sentinel_master_name": (None, _REDIS),
    "username": (None, _REDIS),
    "password": (None, _REDIS),
    "db": (None, _REDIS),
    "dbname": (None, _REDIS),
    "database": (None, _REDIS),
    "prefix": (None, _REDIS),
    "redis_version": (None, _REDIS),
}
"""By name: the value with which nothing is lost, and the reason why any other is left out."""

READ = frozenset(
    (
        *("enabled", "type", "url", "api_key", "model", "model_parameters", "max_tokens"),
        *("timeout", "prompt", "symbols_to_except", "symbols_to_trigger", "allow_ham"),
        *("extra_symbols", "cache_ttl", "context", "search_context"),
    )
)
"""What gptconf.py carries over, or tells of itself."""

TAKEN = frozenset(
    (
        *("none", "spam", "ham", "uncertain", "skipped", "unscored", "absent", "forged"),
        *("observed", "check", "clean", "asked", "aside"),
    )
)
"""Categories whose symbol means something else; our plugin refuses them."""
