"""The errors."""

from __future__ import annotations

from rspamd_llm.domain.outcome import Failure


class RspamdLlmError(Exception):
    """The base of our own errors."""


class ConfigError(RspamdLlmError):
    """The configuration, or a file it names, is not usable.  Holds every fault found."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class AddressError(RspamdLlmError):
    """The milter socket cannot be opened; the text names cause and cure."""


class ModelError(RspamdLlmError):
    """No verdict came of asking the model; `code` says how that is reported."""

    def __init__(self, code: Failure, cause: str) -> None:
        super().__init__(cause)
        self.code = code


class ReadingError(RspamdLlmError):
    """A mail was not read; `code` says how that is reported."""

    def __init__(self, code: Failure, cause: str) -> None:
        super().__init__(cause)
        self.code = code


class EvidenceError(RspamdLlmError):
    """A lookup did not answer; the text says why, for the log, without any text of the mail."""
