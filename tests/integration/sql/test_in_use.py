"""A PostgreSQL database that somebody works with: said so, with nobody made to wait behind the question."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import Connection

import elicense.sql.engines
import elicense.sql.in_use
from elicense.errors import StoreUnavailable
from elicense.sql.in_use import DatabaseInUse, sole_transaction
from elicense.sql.migrations import upgrade
from elicense.sql.schema_version import held_revision
from tests.support.older import wait_for_nobody
from tests.support.postgres import PostgresServer

FIRST = "0001"
#: A role that copies databases, beside the one that nodes have.
COPIER = "copier"


@pytest.fixture
def copier(postgres: PostgresServer) -> Iterator[str]:
    postgres.execute(f"CREATE ROLE {COPIER} LOGIN IN ROLE pg_read_all_data")
    yield COPIER
    postgres.execute(f"DROP ROLE {COPIER}")


@pytest.fixture
def url(postgres: PostgresServer, copier: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database with a schema; whoever waits for a lock in it gives up soon."""
    monkeypatch.setattr(elicense.sql.engines, "LOCK_WAIT_S", 1)
    with postgres.database() as at:
        upgrade(at, "registry", to=FIRST)
        yield at


def dump(url: str, role: str) -> psycopg.Connection:
    """Hold what pg_dump holds of every table for as long as it runs."""
    session = psycopg.connect(url.replace("+psycopg", "", 1), user=role)
    session.execute("LOCK TABLE alembic_version IN ACCESS SHARE MODE")
    return session


def at_each_look(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Have something done between two looks at whether everybody has left."""

    def sleep(seconds: float) -> None:
        do()
        time.sleep(seconds)

    monkeypatch.setattr(elicense.sql.in_use, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))


@pytest.mark.parametrize(("role", "said"), [("postgres", "1 other sessions"), (COPIER, "pg_dump copies it")])
def test_a_database_that_is_being_copied_is_in_use_and_a_node_still_starts_on_it(
    url: str, role: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_nobody(monkeypatch)
    found: list[str] = []
    at_each_look(monkeypatch, lambda: found.append(held_revision(url, "registry")))
    with dump(url, role), pytest.raises(DatabaseInUse, match=said), sole_transaction(url):
        pass
    assert set(found) == {FIRST}


@pytest.mark.parametrize("role", ["postgres", COPIER])
def test_a_database_is_had_alone_once_the_copy_has_ended(url: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as copying:
        copying.enter_context(dump(url, role))
        at_each_look(monkeypatch, copying.close)
        with sole_transaction(url), pytest.raises(StoreUnavailable):
            held_revision(url, "registry")
    assert held_revision(url, "registry") == FIRST


def test_whoever_comes_just_before_the_lock_is_noticed_and_not_kept_waiting(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_nobody(monkeypatch)
    ask = elicense.sql.in_use._others
    with ExitStack() as coming:
        come: list[psycopg.Connection] = []

        def others(connection: Connection) -> str | None:
            held = ask(connection)
            if not come:
                come.append(coming.enter_context(psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)))
            return held

        def start() -> None:
            come[0].execute("SET lock_timeout = '1s'")
            come[0].execute("SELECT version_num FROM alembic_version")

        monkeypatch.setattr(elicense.sql.in_use, "_others", others)
        at_each_look(monkeypatch, start)
        with pytest.raises(DatabaseInUse, match="1 other sessions"), sole_transaction(url):
            pass
