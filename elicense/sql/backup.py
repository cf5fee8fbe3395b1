"""Online backup of an SQLite database: one snapshot, checked, in one file.

The copy is of one moment, however much is written meanwhile, and holds up
nobody.  It appears under its name only once it is whole, checked and durable.
Pages are copied as they are; where they may still hold what was erased, the copy is
written anew.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from elicense.errors import AlreadyExists, Refused, StoreCorrupt, StoreFull, StoreUnavailable
from elicense.sql.engines import parse_url
from elicense.trust.secret_file import SECRET_MODE, sync_folder

_PAGES_PER_STEP: Final = 2_048
#: Table of what was erased and may still be found in the pages (:mod:`elicense.log.erased_store`).
_MARKS: Final = "log_scrub"


class BackupElsewhere(Refused):
    """The database server makes its own backups."""

    reason = "BACKUP_ELSEWHERE"


def backup(url: str, out: Path, *, progress: Callable[[int, int], None]) -> None:
    """Copy a database into a new file, which is checked and durable on return.

    Args:
        url: ``sqlite:////path`` of the database, which may be in use.
        out: The file to make, mode 0600.
        progress: Called with pages that are copied, and how many there are.

    Raises:
        BackupElsewhere: It is a PostgreSQL database.
        AlreadyExists: There is such a file.
        StoreUnavailable: The database, or the new file, can not be opened.
        StoreFull: There is no room for the copy.
        StoreCorrupt: The copy, and so the database, is damaged.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise BackupElsewhere(
            "PostgreSQL is backed up with its own tools: pg_basebackup with an archive of the log, or pg_dump"
        )
    if out.exists():
        raise AlreadyExists(f"{out} exists; name a new file")
    partial = out.with_name(f".{out.name}.part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE))
        _copy(Path(parsed.database or ""), partial, progress)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(out)
        sync_folder(out.absolute().parent)
    except OSError as error:
        raise StoreUnavailable(f"{out} can not be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _copy(source_path: Path, out: Path, progress: Callable[[int, int], None]) -> None:
    try:
        with (
            closing(
                sqlite3.connect(f"{source_path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
            ) as source,
            closing(sqlite3.connect(out, isolation_level=None)) as copy,
        ):
            source.execute("PRAGMA query_only = ON").close()
            # One snapshot for all steps: what others commit meanwhile must not start the copy over.
            source.execute("BEGIN").close()
            source.execute("SELECT count(*) FROM sqlite_master").close()
            source.backup(
                copy, pages=_PAGES_PER_STEP, progress=lambda _, remaining, total: progress(total - remaining, total)
            )
            found = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(10)")]
            if found == ["ok"] and _is_marked(copy):
                # Nobody has the copy yet, so there is nothing to go back to.
                copy.execute("PRAGMA journal_mode = OFF").close()
                copy.execute("VACUUM").close()
            # The copy is to be one file, without a write-ahead log beside it.
            copy.execute("PRAGMA journal_mode = DELETE").close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise StoreFull("there is no room for the backup") from error
        raise StoreUnavailable("the database can not be read now") from error
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt("the database is damaged; run fsck") from error
    if found != ["ok"]:
        raise StoreCorrupt("the copy is damaged, and so is the database; run fsck")


def _is_marked(copy: sqlite3.Connection) -> bool:
    """Whether something that was erased may be left in the pages."""
    known = copy.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (_MARKS,)).fetchone()
    return known is not None and copy.execute(f"SELECT 1 FROM {_MARKS} LIMIT 1").fetchone() is not None  # noqa: S608
