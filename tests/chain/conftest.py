"""Fixtures of the chain: one DNS server, one Rspamd and one Postfix for the whole session.

A test that changes what these share (keys, configuration) starts its own instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.chain import postfix as postfix_module
from tests.chain import rspamd as rspamd_module
from tests.chain.dns import NxDomainServer
from tests.chain.postfix import PrivatePostfix
from tests.chain.rspamd import PrivateRspamd
from tests.chain.verdicts import KEY


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks the tests of this folder (pytest asks this file about no others)."""
    item.add_marker(pytest.mark.chain)


def _require(missing: list[str]) -> None:
    """Skips the test where it cannot run, but never where it has to: on the build server."""
    reason = f"not installed: {', '.join(missing)}" if missing else ""
    if not reason and os.geteuid() != 0:
        reason = "only root can start a Postfix and a Rspamd under their own users"
    if reason and os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def dns() -> Iterator[NxDomainServer]:
    with NxDomainServer() as server:
        yield server


@pytest.fixture(scope="session")
def rspamd_installed() -> None:
    _require(rspamd_module.missing_programs())


@pytest.fixture(scope="session")
def postfix_installed() -> None:
    _require(postfix_module.missing_programs())


@pytest.fixture(scope="session")
def rspamd(rspamd_installed: None, dns: NxDomainServer) -> Iterator[PrivateRspamd]:
    """Rspamd with our plugin, which knows KEY and no other key.

    Odd mail that a newer Rspamd would reject is delivered too, so that its symbols can be read.
    """
    files = {"local.d/actions.conf": "reject = 100;"}
    with PrivateRspamd(dns.port, keys=[KEY.hex()], files=files) as instance:
        yield instance


@pytest.fixture(scope="session")
def postfix(postfix_installed: None, rspamd: PrivateRspamd) -> Iterator[PrivatePostfix]:
    """Postfix with that Rspamd as its only milter."""
    with PrivatePostfix([rspamd.milter]) as instance:
        yield instance
