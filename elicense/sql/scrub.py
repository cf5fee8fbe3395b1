"""Taking the last remnants of deleted data out of an SQLite database's files.

Rows are overwritten as they are deleted (``secure_delete``), but what was moved
between pages before, and the write-ahead log, may still hold copies.  So the log
is emptied, the files are searched for what must not be there, and only if it is
found, or nobody knows any more what to search for, the database is written anew.
Then nothing is left but what stands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from elicense.sql.engines import parse_url

_WAIT_S: Final = 10.0
_PART: Final = 1 << 20


def scrub(url: str, traces: Sequence[bytes] | None, hints: Sequence[bytes] = ()) -> bool:
    """Remove traces of deleted data; return whether none is left in any of the database's files.

    Args:
        url: The database, which may be in use.  Only SQLite's files are this project's; a database
            server frees its own space.
        traces: Bytes that must not be found, such as salts; None when nobody knows them any more, as after a
            crash before a scrub: then the database is written anew, whatever it holds.
        hints: Bytes that are searched for as well, but may be part of what stands.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return False
    path = Path(parsed.database or "").absolute()
    try:
        location = f"{path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(location, uri=True, isolation_level=None, timeout=_WAIT_S)) as db:
            db.execute("PRAGMA secure_delete = ON").close()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if traces is not None and not _found(path, [*traces, *hints]):
                return True
            db.execute("VACUUM").close()
            ((busy, *_),) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error:
        return False
    # While somebody reads, what was there before may stay in the write-ahead log.
    if traces is None:
        return not busy
    return not _found(path, traces) and not (busy and _found(path, hints))


def _found(path: Path, traces: Sequence[bytes]) -> bool:
    """Whether one of ``traces`` stands anywhere in the database's file or its write-ahead log."""
    overlap = max(map(len, traces), default=1) - 1
    for file in (path, path.with_name(f"{path.name}-wal")):
        if not file.exists():
            continue
        # A part at a time: while one is searched nothing else of this process runs.
        with file.open("rb") as opened:
            before = b""
            while read := opened.read(_PART):
                part = before + read
                if any(trace in part for trace in traces):
                    return True
                before = part[-overlap:] if overlap else b""
    return False
