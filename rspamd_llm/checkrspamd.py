"""What `check` finds of Rspamd's configuration: our plugin, its version, its key and its group.

A Rspamd without our section may be another's; one with it is ours, and what is wrong there costs
every verdict.  What may not live here: how Rspamd's configuration is asked (rspamadm.py).
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from rspamd_llm import access, keys, rspamadm
from rspamd_llm.config import Config
from rspamd_llm.domain import ConfigError
from rspamd_llm.results import Result, failed, ok, warning
from rspamd_llm.rspamadm import Setup

USERS = ("_rspamd", "rspamd")
"""Rspamd's user: Debian's name, and that of Rspamd's own packages."""

_RESTART = "restart Rspamd"
_COPIES = (
    Path(sys.prefix, "share/rspamd-llm/rspamd"),
    Path("/usr/share/rspamd-llm/rspamd"),
    Path(__file__).resolve().parents[1] / "conf" / "rspamd",
)


def rspamd_here(config: Config) -> list[Result]:
    """How the Rspamd of this machine, if there is one, is set up for us."""
    try:
        setup = rspamadm.read()
    except ValueError as error:
        cure = "see what `rspamadm configtest` says"
        return [warning("plugin", f"Rspamd's configuration cannot be read: {error}", cure)]
    if setup is None:
        return [ok("plugin", "Rspamd is not installed here")]
    if setup.section is None:
        return [
            warning(
                "plugin",
                "Rspamd's configuration has no section rspamd_llm: it does not load the plugin, and"
                " uses no verdict",
                f"cat {_copy('rspamd.conf.local')} >> {setup.local / 'rspamd.conf.local'}, and"
                f" {_RESTART}",
            )
        ]
    return [_plugin(setup), _key(config, setup), *_group(setup), *_categories(config, setup)]


def _copy(name: str) -> Path:
    """Where a file for Rspamd lies that came with this program."""
    places = [folder / name for folder in _COPIES]
    return next((path for path in places if path.exists()), places[-1])


def _plugin(setup: Setup) -> Result:
    copy = f"cp {_copy('rspamd_llm.lua')} {setup.plugin}, and {_RESTART}"
    if not setup.state:
        return failed("plugin", f"Rspamd does not load the plugin: no {setup.plugin}", copy)
    if setup.state != rspamadm.ENABLED:
        return failed(
            "plugin",
            f"Rspamd leaves the plugin out: disabled ({setup.state})",
            f"see what `rspamadm configdump -m` says; {copy}"
            if setup.state == "failed"
            else f"take `enabled = false` out of its section, and {_RESTART}",
        )
    try:
        theirs = rspamadm.version(setup.plugin)
    except OSError as error:
        told = f"its version is not known: {setup.plugin}: {error.strerror}"
        return warning("plugin", told, "run `rspamd-llm check` as root")
    ours = metadata.version("rspamd-llm")
    if theirs == ours:
        return ok("plugin", f"version {ours}, in {setup.plugin}")
    named = f"of version {theirs}" if theirs else "of a version that does not tell its number"
    return warning(
        "plugin", f"{setup.plugin} is {named}, ours is {ours}: they work together one apart", copy
    )


def _key(config: Config, setup: Setup) -> Result:
    """Whether Rspamd verifies with the key that signs."""
    theirs = Path(setup.key_file)
    try:
        signing = keys.key_id(keys.load(Path(config.trust.key_file))[0])
    except ConfigError:
        return warning("rspamd key", f"Rspamd reads {theirs}; ours is to be had first", "see `key`")
    cure = f'set key_file = "{config.trust.key_file}" in {setup.local}/local.d/rspamd_llm.conf, or'
    cure += f" copy our key to {theirs}, and {_RESTART}"
    if not theirs.is_absolute():
        return failed("rspamd key", f"key_file {theirs} does not begin with /", cure)
    try:
        known = [keys.key_id(key) for key in keys.load(theirs)]
    except ConfigError as error:
        fault = str(error).removeprefix("trust.key_file: ")
        return failed("rspamd key", f"Rspamd's key_file: {fault}", cure)
    if signing not in known:
        return failed(
            "rspamd key",
            f"key {signing} signs, and Rspamd knows {', '.join(known)} ({theirs}): every verdict"
            " counts as LLM_FORGED (key)",
            cure,
        )
    user = next(filter(None, map(access.user, USERS)), None)
    refusal = access.refusal(user, theirs, access.READ) if user else ""
    if user and refusal:
        return warning(
            "rspamd key",
            f"{refusal}: Rspamd has the key from its start as root at best, and will not notice a"
            " new one",
            f"chgrp {user.name} {theirs} && chmod 640 {theirs}, and let the group pass its folder",
        )
    return ok("rspamd key", f"Rspamd knows {signing}, which signs ({theirs})")


def _group(setup: Setup) -> list[Result]:
    if setup.max_score > 0:
        return [ok("rspamd group", f"gives {setup.max_score:g} points at most")]
    return [
        warning(
            "rspamd group",
            "Rspamd's group rspamd_llm has no max_score: its symbols have no points, or no bound",
            f"cat {_copy('groups.conf')} >> {setup.local / 'local.d/groups.conf'}, and {_RESTART}",
        )
    ]


def _categories(config: Config, setup: Setup) -> list[Result]:
    if setup.categories is None:
        return []
    unknown = [name for name in config.verdict.categories if name not in setup.categories]
    if not unknown:
        return []
    return [
        warning(
            "plugin",
            f"verdict.categories has {', '.join(unknown)}, for which the plugin has no symbol",
            f"add it to categories in {setup.local}/local.d/rspamd_llm.conf, and {_RESTART}",
        )
    ]
