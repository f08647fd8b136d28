"""`rspamd-llm init`: a commented configuration and a verdict key; never overwrites."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from importlib import resources
from pathlib import Path

from rspamd_llm import keys
from rspamd_llm.config import Trust
from rspamd_llm.domain import ConfigError

CONFIG_NAME = "rspamd-llm.toml"
KEY_NAME = "verdict.key"

DAEMON_USER = "rspamd-llm"
RSPAMD_GROUP = "_rspamd"

_NEXT = """
What next:
  1. Set [llm] base_url and model in {config} (or engine = "embedded", model = "builtin").
  2. rspamd-llm check -c {config}   (fails at "socket" until the daemon runs)
  3. Postfix, main.cf: this daemon before Rspamd, each with its own default_action:
       smtpd_milters =
         {{ inet:127.0.0.1:11390, default_action=accept, connect_timeout=5s,
           command_timeout=15s, content_timeout=90s }},
         {{ inet:127.0.0.1:11332, default_action=accept }}
  4. Rspamd: copy the plugin as the guide says (docs/guide.md), and let it read the key:
       key_file = "{key}"
     The daemon's user owns the key and Rspamd's group reads it, nobody else:
       chown {user}:{group} {key}; chmod 640 {key}
"""


def init(directory: Path) -> int:
    """Writes what is not there yet and says what comes next.

    Raises ConfigError if the folder cannot be written.
    """
    config, key = directory / CONFIG_NAME, directory / KEY_NAME
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True)
            directory.chmod(0o755)  # whatever the umask: Rspamd's user must pass
        _tell(config, written=_write_config(config, key.absolute()))
        _tell(key, written=_write_key(key))
    except OSError as error:
        raise ConfigError((f"{error.filename or directory}: {error.strerror}",)) from error
    print(
        _NEXT.format(config=config, key=key.absolute(), user=DAEMON_USER, group=RSPAMD_GROUP),
        end="",
    )
    return 0


def template() -> str:
    """The commented configuration that the package carries; its values are the defaults."""
    return (resources.files("rspamd_llm") / "data" / CONFIG_NAME).read_text(encoding="utf-8")


def _write_config(path: Path, key: Path) -> bool:
    # A JSON string is a TOML string, whatever stands in the path.
    text = template().replace(f'"{Trust().key_file}"', json.dumps(str(key), ensure_ascii=False))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def _write_key(path: Path) -> bool:
    written = True
    try:
        keys.create(path)
    except FileExistsError:
        written = False
    # The daemon owns the key, Rspamd's group reads it; also a kept one, made before they existed.
    # Where they do not exist yet, or we are not root, the text below says what is left to do.
    with contextlib.suppress(LookupError, OSError):
        shutil.chown(path, user=DAEMON_USER)
    with contextlib.suppress(LookupError, OSError):
        shutil.chown(path, group=RSPAMD_GROUP)
    return written


def _tell(path: Path, *, written: bool) -> None:
    print(f"{'wrote' if written else 'kept '} {path}")
