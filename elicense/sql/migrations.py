"""Alembic migrations, run by a program and without an ``env.py``.

A package keeps its migrations in ``<package>/migrations/versions``.  One
process migrates at a time (an installation step or a job).  A new database gets
them all in one transaction; one that holds something gets each in its own, so
that whatever is interrupted leaves a schema that is known, and is gone on with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.operations.ops import UpgradeOps
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from elicense.errors import StoreUnavailable
from elicense.sql.in_use import sole_transaction
from elicense.sql.schema_version import held_revision, transaction, versions

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

_DRAFT: Final = '''"""{message}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {parent!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    {body}
'''


@dataclass(frozen=True, slots=True)
class Revision:
    """One step from a schema to the next.

    Attributes:
        number: Revision that it leads to, such as ``0002``.
        about: What it is for, in a sentence.
    """

    number: str
    about: str


def upgrade(url: str, package: str, *, to: str = "head") -> None:
    """Bring a database to the newest schema of ``package``, in one transaction; a missing SQLite file is made.

    Args:
        url: As for :class:`~elicense.sql.database.Database`.
        package: Import name of the package that holds ``migrations``.
        to: Revision to stop at.

    Raises:
        StoreUnavailable: The database can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: The file is not a database or is damaged.
    """
    with transaction(url, create=True) as connection:
        _run(connection, _script(package), to)


def take_step(url: str, package: str, to: str, *, and_then: Callable[[Connection], None] | None = None) -> None:
    """Take one step of :func:`missing`, in one transaction, on a database that nobody else works with meanwhile.

    Args:
        url: As for :class:`~elicense.sql.database.Database`.
        package: Import name of the package that holds ``migrations``.
        to: Revision that the step leads to.
        and_then: What else belongs to it; None for nothing.

    Raises:
        DatabaseInUse: A node runs on it, or a command does.
        StoreUnavailable: The database can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: The file is damaged.
    """
    with sole_transaction(url) as connection:
        _run(connection, _script(package), to)
        if and_then is not None:
            and_then(connection)


def missing(url: str, package: str) -> list[Revision]:
    """Return the steps that lead from a database's schema to the newest one of ``package``, the next one first.

    Raises:
        StoreUnavailable: No release has set it up, a newer one has, it has not the tables of the schema
            that it claims, or it can not be reached.
        StoreCorrupt: The file is not a database or is damaged.
    """
    script, held = _script(package), held_revision(url, package)
    steps = [Revision(each.revision, each.doc.partition("\n")[0]) for each in script.iterate_revisions("head", held)]
    if steps:
        _require_tables(url, script, held)
    return steps[::-1]


def differences(url: str, metadata: MetaData) -> list[Any]:
    """Return where a database's tables differ from ``metadata``; none when the migrations are complete."""
    with transaction(url) as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def draft(url: str, package: str, metadata: MetaData, *, number: str, message: str) -> Path:
    """Write the migration that leads from the database's tables to ``metadata``, for a person to review.

    Args:
        url: A database that has every earlier migration.
        package: Where to put the file.
        metadata: The tables wanted.
        number: Revision, such as ``0002``.
        message: What changes, in a few words.

    Returns:
        The new file.
    """
    script = _script(package)
    with transaction(url, create=True) as connection:
        operations = produce_migrations(MigrationContext.configure(connection), metadata).upgrade_ops
    body = render_python_code(operations or UpgradeOps([]))
    parent = script.get_current_head()
    text = _DRAFT.format(message=message, revision=number, parent=parent, body=body)
    path = Path(script.versions) / f"{number}_{message.lower().replace(' ', '_')}.py"
    path.write_text(text, encoding="utf-8")
    return path


def _require_tables(url: str, script: ScriptDirectory, number: str) -> None:
    """Refuse a database without the tables and columns that the migrations up to ``number`` make.

    Both sides number their revisions alike: one side's steps in a database of the
    other would do harm before the first of them fails.
    """
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            _run(connection, script, number)
            wanted = _columns(connection)
    finally:
        engine.dispose()
    with transaction(url) as connection:
        lacking = sorted(wanted - _columns(connection))
    if lacking:
        table, column = lacking[0]
        raise StoreUnavailable(
            f"the database says that it has the schema {number}, but has no {table}.{column}; "
            "is it the one of another node?"
        )


def _columns(connection: Connection) -> set[tuple[str, str]]:
    found = inspect(connection).get_multi_columns()
    return {(table, str(column["name"])) for (_, table), columns in found.items() for column in columns}


def _script(package: str) -> ScriptDirectory:
    return ScriptDirectory(str(versions(package).parent))


def _run(connection: Connection, script: ScriptDirectory, to: str) -> None:
    environment = EnvironmentContext(Config(), script, fn=lambda revision, _context: script._upgrade_revs(to, revision))
    # SQLite rolls DDL back like PostgreSQL once BEGIN is ours, which alembic does not expect of it.
    environment.configure(connection=connection, transactional_ddl=True)
    with environment.begin_transaction():
        environment.run_migrations()
