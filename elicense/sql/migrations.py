"""Alembic migrations, run by a program and without an ``env.py``.

A package keeps its migrations in ``<package>/migrations/versions``.  One
process migrates at a time (an installation step or a job); each run is one
transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.operations.ops import UpgradeOps
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from elicense.sql.schema_version import transaction, versions

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData

_Step = Callable[[Any, Any], list[Any]]

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


def upgrade(url: str, package: str) -> None:
    """Bring a database to the newest schema of ``package``; a missing SQLite file is made.

    Args:
        url: As for :class:`~elicense.sql.database.Database`.
        package: Import name of the package that holds ``migrations``.

    Raises:
        StoreUnavailable: The database can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: The file is not a database or is damaged.
    """
    script = _script(package)
    with transaction(url, create=True) as connection:
        _run(connection, script, lambda revision, _context: script._upgrade_revs("head", revision))


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


def _script(package: str) -> ScriptDirectory:
    return ScriptDirectory(str(versions(package).parent))


def _run(connection: Connection, script: ScriptDirectory, step: _Step) -> None:
    environment = EnvironmentContext(Config(), script, fn=step)
    # SQLite rolls DDL back like PostgreSQL once BEGIN is ours, which alembic does not expect of it.
    environment.configure(connection=connection, transactional_ddl=True)
    with environment.begin_transaction():
        environment.run_migrations()
