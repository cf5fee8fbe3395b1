"""Migrations: drafted, run, compared, and refused as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, exc, inspect

from elicense.errors import StoreCorrupt, StoreUnavailable
from elicense.log.store import define_log_tables
from elicense.sql.migrations import differences, draft, upgrade
from elicense.sql.schema_version import is_current, newest, require_current, versions

BROKEN = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("SELECT no_such_column FROM log_head")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package without migrations yet."""
    name = "migrated_package"
    (tmp_path / name / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def logs() -> MetaData:
    metadata = MetaData()
    define_log_tables(metadata)
    return metadata


def scratch(tmp_path: Path) -> str:
    """A database to draft from; the migrations run on others."""
    return f"sqlite:///{tmp_path / 'scratch.db'}"


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_a_drafted_migration_makes_the_tables_as_the_metadata_says(
    database_url: str, package: str, tmp_path: Path
) -> None:
    path = draft(scratch(tmp_path), package, logs(), number="0001", message="First tables")
    assert path.name == "0001_first_tables.py"
    upgrade(database_url, package)
    assert differences(database_url, logs()) == []
    assert is_current(database_url, package)
    require_current(database_url, package)
    upgrade(database_url, package)
    assert tables(database_url) >= {"log_head", "log_entry", "log_tile", "log_checkpoint"}


def test_a_second_migration_leads_on_from_the_first(database_url: str, package: str, tmp_path: Path) -> None:
    draft(scratch(tmp_path), package, logs(), number="0001", message="First tables")
    upgrade(database_url, package)
    wider = logs()
    Table("extra", wider, Column("id", Integer, primary_key=True, autoincrement=False))
    assert differences(database_url, wider) != []
    draft(database_url, package, wider, number="0002", message="An extra table")
    assert not is_current(database_url, package)
    with pytest.raises(StoreUnavailable, match="upgrade"):
        require_current(database_url, package)
    upgrade(database_url, package)
    assert differences(database_url, wider) == []
    assert is_current(database_url, package)


def test_a_migration_that_fails_half_way_leaves_nothing(database_url: str, package: str, tmp_path: Path) -> None:
    path = draft(scratch(tmp_path), package, logs(), number="0001", message="First tables")
    upgrade(database_url, package)
    path.with_name("0002_broken.py").write_text(BROKEN)
    with pytest.raises((exc.OperationalError, exc.ProgrammingError)):
        upgrade(database_url, package)
    assert "half" not in tables(database_url)
    assert differences(database_url, logs()) == []


def test_a_database_that_does_not_exist_is_made_by_a_migration_alone(package: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    draft(scratch(tmp_path), package, logs(), number="0001", message="First tables")
    with pytest.raises(StoreUnavailable):
        is_current(url, package)
    assert not (tmp_path / "new.db").exists()
    upgrade(url, package)
    assert is_current(url, package)


def test_a_file_that_is_no_database_is_not_migrated(package: str, tmp_path: Path) -> None:
    draft(scratch(tmp_path), package, logs(), number="0001", message="First tables")
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage " * 2_000)
    with pytest.raises(StoreCorrupt):
        upgrade(f"sqlite:///{path}", package)
    assert path.read_bytes().startswith(b"garbage ")


@pytest.mark.parametrize("side", ["registry", "city_node"])
def test_the_newest_schema_by_name_is_the_one_that_the_migrations_lead_to(side: str) -> None:
    assert newest(side) == ScriptDirectory(str(versions(side).parent)).get_current_head()
