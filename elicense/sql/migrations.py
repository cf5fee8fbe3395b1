"""Alembic migrations, run by a program and without an ``env.py``.

A package keeps its migrations in ``<package>/migrations/versions``.  One
process migrates at a time (an installation step or a job); each run is one
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.operations.ops import UpgradeOps
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from elicense.errors import StoreUnavailable
from elicense.sql.engines import open_engine, parse_url
from elicense.sql.faults import fault_of

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
    with _transaction(url, create=True) as connection:
        _run(connection, script, lambda revision, _context: script._upgrade_revs("head", revision))


def is_current(url: str, package: str) -> bool:
    """Tell whether a database has the newest schema of ``package``."""
    with _transaction(url) as connection:
        held = MigrationContext.configure(connection).get_current_heads()
    return set(held) == set(_script(package).get_heads())


def is_new(url: str, *, create: bool = True) -> bool:
    """Tell whether no release has set up a database; ``create`` makes a missing SQLite file.

    Raises:
        StoreUnavailable: The database can not be reached.
        StoreCorrupt: The file is not a database or is damaged.
    """
    with _transaction(url, create=create) as connection:
        return not MigrationContext.configure(connection).get_current_heads()


def require_current(url: str, package: str) -> None:
    """Refuse a database whose schema is not the newest one of ``package``.

    Raises:
        StoreUnavailable: It is older or newer, or the database can not be reached.
    """
    if not is_current(url, package):
        raise StoreUnavailable("the database has another schema than this release; run `init` of this release first")


def differences(url: str, metadata: MetaData) -> list[Any]:
    """Return where a database's tables differ from ``metadata``; none when the migrations are complete."""
    with _transaction(url) as connection:
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
    with _transaction(url, create=True) as connection:
        operations = produce_migrations(MigrationContext.configure(connection), metadata).upgrade_ops
    body = render_python_code(operations or UpgradeOps([]))
    parent = script.get_current_head()
    text = _DRAFT.format(message=message, revision=number, parent=parent, body=body)
    path = Path(script.versions) / f"{number}_{message.lower().replace(' ', '_')}.py"
    path.write_text(text, encoding="utf-8")
    return path


def _script(package: str) -> ScriptDirectory:
    return ScriptDirectory(str(Path(str(files(package))) / "migrations"))


def _run(connection: Connection, script: ScriptDirectory, step: _Step) -> None:
    environment = EnvironmentContext(Config(), script, fn=step)
    # SQLite rolls DDL back like PostgreSQL once BEGIN is ours, which alembic does not expect of it.
    environment.configure(connection=connection, transactional_ddl=True)
    with environment.begin_transaction():
        environment.run_migrations()


@contextmanager
def _transaction(url: str, *, create: bool = False) -> Iterator[Connection]:
    engine = open_engine(parse_url(url), connections=1, create=create)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from error
    finally:
        engine.dispose()
