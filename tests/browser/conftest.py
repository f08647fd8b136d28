"""Fixtures of the browser's tests: one Chromium for a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a real Chromium")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks the tests of this folder (pytest asks this file about no others)."""
    item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Skips the test where there is none, but never where it has to run: on the build server."""
    try:
        from tests.browser import chromium as module  # noqa: PLC0415  it may not be installed

        missing = module.missing_programs()
    except ModuleNotFoundError:
        missing = ["selenium"]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(reason)
        pytest.skip(reason)
    with module.Chromium.running(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
