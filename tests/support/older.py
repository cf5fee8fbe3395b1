"""Databases as an older release left them, and what a schema is made of."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, MetaData, inspect, select

import elicense.sql.in_use
from elicense.sql.migrations import upgrade
from elicense.sql.schema_version import transaction
from tests.support.stores import EmptyStore

VERSION = "alembic_version"


class Died(BaseException):
    """The process is gone: nothing that follows in it runs."""


def migrated_url(store: EmptyStore) -> str:
    """Return the URL of an empty database of a kind that migrations make; skips the test for any other."""
    if store.engine == "postgresql-partitioned":
        pytest.skip("partitions are made from the metadata, not by a migration")
    return store.url


def wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an upgrade wait for nobody to leave a database who is not about to."""
    monkeypatch.setattr(elicense.sql.in_use, "LEAVE_S", 0.5)


def shape(url: str) -> dict[str, object]:
    """Return columns, types, keys and indexes of every table but the one that notes the revision."""
    with transaction(url) as connection:
        found = inspect(connection)
        return {
            table: {
                "columns": {
                    str(column["name"]): (str(column["type"]), column["nullable"], column["default"])
                    for column in found.get_columns(table)
                },
                "key": found.get_pk_constraint(table)["constrained_columns"],
                "unique": found.get_unique_constraints(table),
                "foreign": found.get_foreign_keys(table),
                "indexes": sorted(
                    (str(each["name"]), each["unique"], each["column_names"]) for each in found.get_indexes(table)
                ),
                "rowid": _has_rowid(connection, table),
            }
            for table in found.get_table_names()
            if table != VERSION
        }


def _has_rowid(connection: Connection, table: str) -> bool:
    if connection.dialect.name != "sqlite":
        return False
    made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).scalar_one()
    return "WITHOUT ROWID" not in made


def rows(url: str) -> dict[str, set[tuple[object, ...]]]:
    """Return every row of every table but the one that notes the revision, columns in the order of their names."""
    found: dict[str, set[tuple[object, ...]]] = {}
    with transaction(url) as connection:
        for table in _tables(connection).sorted_tables:
            if table.name != VERSION:
                columns = sorted(table.columns, key=lambda column: column.name)
                found[table.name] = {tuple(row) for row in connection.execute(select(*columns))}
    return found


def write_as_older(current: str, older: str, package: str, number: str) -> None:
    """Fill a new database with what a current one holds, as a release with an earlier schema had kept it.

    Args:
        current: Database to read.
        older: Database to make.
        package: Whose migrations.
        number: Revision of the older release.
    """
    upgrade(older, package, to=number)
    with transaction(current) as source, transaction(older) as sink:
        held = _tables(source).tables
        for table in _tables(sink).sorted_tables:
            if table.name == VERSION:
                continue
            kept = [column for column in table.columns if column.name in held[table.name].columns]
            wanted = select(*(held[table.name].columns[column.name] for column in kept)).distinct()
            found = [row._asdict() for row in source.execute(wanted)]
            for row in found:
                if "recorded_us" in table.columns and "recorded_us" not in row:
                    # What a city's state said before it said what completes it.
                    row["recorded_us"] = row["received_us"]
            if found:
                sink.execute(table.insert(), found)


def _tables(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    return found
