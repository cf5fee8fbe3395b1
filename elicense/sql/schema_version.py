"""Which schema a database has and which one a package wants, without the library that changes one into the other.

Every start asks; loading Alembic for it would take a tenth of the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from elicense.errors import StoreUnavailable
from elicense.sql.engines import open_engine, parse_url
from elicense.sql.faults import fault_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Where Alembic notes what it has run.
VERSION_TABLE: Final = "alembic_version"
_NOTED: Final = "SELECT version_num FROM alembic_version"

_COMMANDS: Final = {"registry": "elicense-registry", "city_node": "elicense-city"}
"""The command of each package that has migrations."""


def is_current(url: str, package: str) -> bool:
    """Tell whether a database has the newest schema of ``package``."""
    return _held(url) == {newest(package)}


def is_new(url: str, *, create: bool = True) -> bool:
    """Tell whether no release has set up a database; ``create`` makes a missing SQLite file.

    Raises:
        StoreUnavailable: The database can not be reached.
        StoreCorrupt: The file is not a database or is damaged.
    """
    return not _held(url, create=create)


def require_current(url: str, package: str) -> None:
    """Refuse a database whose schema is not the newest one of ``package``.

    Raises:
        StoreUnavailable: It is older or newer, or the database can not be reached.
    """
    wanted = newest(package)
    held = held_revision(url, package)
    if held != wanted:
        raise StoreUnavailable(
            f"the database has the schema of an older release, {held}, and this one needs {wanted}; "
            f"stop the node, back the database up and run `{_COMMANDS.get(package, package)} upgrade`"
        )


def held_revision(url: str, package: str) -> str:
    """Return the revision of a database's schema, which is one that ``package`` knows.

    Raises:
        StoreUnavailable: No release has set it up, a newer one has, or the database can not be reached.
        StoreCorrupt: The file is not a database or is damaged.
    """
    held = _held(url)
    if not held:
        raise StoreUnavailable("no release has set up this database; does the configuration name the right one?")
    unknown = held - {path.name.partition("_")[0] for path in _migrations(package)}
    if unknown or len(held) > 1:
        raise StoreUnavailable(
            f"the database has the schema {' and '.join(sorted(held))}, and this release knows none after "
            f"{newest(package)}: a newer release wrote it; run that one, or put a backup of before in its place"
        )
    return held.pop()


def newest(package: str) -> str:
    """Return the newest revision of ``package``: the highest number that a migration's file name begins with."""
    return max(path.name.partition("_")[0] for path in _migrations(package))


def versions(package: str) -> Path:
    """Return the folder with the migrations of ``package``."""
    return Path(str(files(package))) / "migrations" / "versions"


@contextmanager
def transaction(url: str, *, create: bool = False, alone_wait_s: float | None = None) -> Iterator[Connection]:
    """Yield a connection of its own in a transaction, which is committed unless something is raised.

    Args:
        url: As for :class:`~elicense.sql.database.Database`.
        create: Make a missing SQLite file.
        alone_wait_s: See :func:`~elicense.sql.engines.open_engine`.

    Raises:
        StoreUnavailable: The database can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: The file is not a database or is damaged.
    """
    engine = open_engine(parse_url(url), connections=1, create=create, alone_wait_s=alone_wait_s)
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


def _migrations(package: str) -> Iterator[Path]:
    return versions(package).glob("[0-9]*_*.py")


def _held(url: str, *, create: bool = False) -> set[str]:
    with transaction(url, create=create) as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return set()
        return {row[0] for row in connection.exec_driver_sql(_NOTED)}
