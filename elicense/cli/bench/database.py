"""Where a measured registry keeps its licences, and the options that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from elicense.sql.embedded import PostgresServer, running_postgres

#: As small servers are usually set up; the rest is PostgreSQL's own.
_SETTINGS: Final = {"shared_buffers": "256MB"}


@dataclass(frozen=True, slots=True)
class Database:
    """Where the registry keeps its licences.

    Attributes:
        url: URL of an empty PostgreSQL database; None for SQLite in the registry's folder.
        pid: Process id of the PostgreSQL server, whose CPU counts with its backends'; None for SQLite.
        server: The server, when it was started for the measurement; None otherwise.
    """

    url: str | None = None
    pid: int | None = None
    server: PostgresServer | None = None

    @property
    def store(self) -> str:
        """What to call it."""
        return "SQLite" if self.url is None else "PostgreSQL"

    @contextmanager
    def beside(self) -> Iterator[Database]:
        """Yield where another node keeps its own: an empty database of the same server of ours, or SQLite."""
        if self.server is None:
            yield Database()
            return
        with self.server.database() as url:
            yield Database(url, self.pid, self.server)

    def settle(self) -> None:
        """Do at once, on a server of ours, what autovacuum would do within minutes of a table being filled."""
        if self.server is not None and self.url is not None:
            self.server.execute("VACUUM (ANALYZE)", self.url.partition("?")[0].rpartition("/")[2])


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the registry keeps its licences; pass them to :func:`open_database`."""
    for option in (
        click.option(
            "--database-pid", type=int, metavar="PID", help="Process id of the server of --database; its CPU counts."
        ),
        click.option(
            "--database", metavar="URL", help="An empty PostgreSQL database of your own: postgresql+psycopg://..."
        ),
        click.option(
            "--postgres",
            is_flag=True,
            help="Keep licences in a PostgreSQL that is started for this run in a temporary folder, with fsync on "
            "(needs the extra `dev`); SQLite otherwise.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def open_database(*, postgres: bool, database: str | None, database_pid: int | None) -> Iterator[Database]:
    """Yield where licences are to be kept; a server of ours is stopped and removed afterwards.

    Raises:
        UsageError: The options do not go together.
        PostgresMissing: PostgreSQL is not installed.
    """
    if (database is None) != (database_pid is None):
        raise click.UsageError("give --database and --database-pid together")
    if not postgres:
        yield Database(database, database_pid)
        return
    if database is not None:
        raise click.UsageError("give either --postgres or --database")
    with running_postgres(_SETTINGS) as server, server.database() as url:
        yield Database(url, server.process.pid, server)
