"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.fuzzing import summary
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.stores import ENGINES, EmptyStore

# A deadline times the machine, not the rule under test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run on one worker more than there are cores: tests wait for disks, processes and pauses much of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was thrown at what, after a run that was asked to fuzz."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, ())]
    for line in summary(reports):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run, started when a test first needs it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=ENGINES)
def empty_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmptyStore]:
    """An empty database of each kind: SQLite, PostgreSQL, HASH-partitioned PostgreSQL."""
    if request.param == "sqlite":
        yield EmptyStore(f"sqlite:///{tmp_path / 'store.db'}", "sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield EmptyStore(url, request.param)


@pytest.fixture
def database_url(empty_store: EmptyStore) -> str:
    """URL of an empty database of each kind; use ``empty_store`` to create tables in it."""
    return empty_store.url
