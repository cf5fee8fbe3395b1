"""The PostgreSQL of tests: one server a run, a fresh database for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from elicense.sql import embedded
from elicense.sql.embedded import PostgresServer

__all__ = ["PostgresServer", "running_postgres"]

# They keep the server small and quick to start.
_SETTINGS = {"shared_buffers": "64MB", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server and stop it, whatever happens in between."""
    with embedded.running_postgres(_SETTINGS) as server:
        yield server
