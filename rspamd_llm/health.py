"""How the daemon is, at one moment: what its port tells, and what `check` asks it.

Plain values, and their JSON, read strictly.  What may not live here: how it is asked (web.py serves
it, running.py asks for it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

VERSION_LIMIT = 40
"""Characters of a version; ours have ten."""


class OtherVersionError(ValueError):
    """A daemon of another version, which says other things of itself than this one knows."""

    def __init__(self, version: str) -> None:
        super().__init__(f"a daemon of version {version}")
        self.version = version


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """A model server as the daemon knows it."""

    url: str
    is_well: bool
    """Its breaker is closed."""
    retry_in: float
    """Seconds until it is asked again; 0 where it is well, or being tried now."""
    calls: int
    """Calls under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """A source of evidence as the daemon knows it."""

    name: str
    """As `domain.Source` has it."""
    is_well: bool
    """Its breaker is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The daemon."""

    version: str
    model: str
    is_stopping: bool
    in_flight: int
    """Messages that are being judged."""
    waiting: int
    """Messages that wait for a slot of `llm.concurrency`."""
    servers: tuple[ServerHealth, ...]
    sources: tuple[SourceHealth, ...]
    """Those that are looked up by domain and switched on."""
    is_rspamd_well: bool | None
    """Whether Rspamd's breaker is closed; None where it is not asked."""
    deadline: float
    """Seconds that a message has at most."""
    store_fault: str
    """Why the store fails; empty while it works."""

    @property
    def is_ready(self) -> bool:
        """Whether a mail that comes now has a chance to be judged."""
        return not self.is_stopping and any(server.is_well for server in self.servers)


def to_document(health: Health) -> dict[str, Any]:
    """As JSON has it."""
    return {"ready": health.is_ready, **asdict(health)}


def from_document(document: Any) -> Health:
    """The value of parsed JSON.  Raises ValueError for what is none of ours."""
    try:
        servers = tuple(
            ServerHealth(
                url=_of(str, server["url"]),
                is_well=_of(bool, server["is_well"]),
                retry_in=float(_of((int, float), server["retry_in"])),
                calls=_of(int, server["calls"]),
            )
            for server in _of(list, document["servers"])
        )
        sources = tuple(
            SourceHealth(name=_of(str, source["name"]), is_well=_of(bool, source["is_well"]))
            for source in _of(list, document["sources"])
        )
        return Health(
            version=_of(str, document["version"]),
            model=_of(str, document["model"]),
            is_stopping=_of(bool, document["is_stopping"]),
            in_flight=_of(int, document["in_flight"]),
            waiting=_of(int, document["waiting"]),
            servers=servers,
            sources=sources,
            is_rspamd_well=_of((bool, type(None)), document["is_rspamd_well"]),
            deadline=float(_of((int, float), document["deadline"])),
            store_fault=_of(str, document["store_fault"]),
        )
    except (LookupError, TypeError) as error:
        told = document.get("version") if isinstance(document, dict) else None
        if isinstance(told, str) and len(told) <= VERSION_LIMIT and told.isprintable():
            raise OtherVersionError(told) from error
        raise ValueError("not what the daemon says of itself") from error


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(type(value).__name__)
    return value
