"""What `check` finds: plain values.  What may not live here: the finding, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check: what was looked at, how it was found, and where it failed cause and cure."""

    check: str
    status: str
    """ok, warning or failed."""
    detail: str
    cure: str = ""


def ok(check: str, detail: str) -> Result:
    """All is well."""
    return Result(check=check, status="ok", detail=detail)


def warning(check: str, detail: str, cure: str) -> Result:
    """Something is worse than it could be, or may be: mail is judged all the same."""
    return Result(check=check, status="warning", detail=detail, cure=cure)


def failed(check: str, detail: str, cure: str) -> Result:
    """Mail is not judged, or no verdict is used."""
    return Result(check=check, status="failed", detail=detail, cure=cure)
