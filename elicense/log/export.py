"""A log in a database, to be exported to files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import MetaData

from elicense.errors import NotFound, StoreCorrupt
from elicense.log.entry import commitment
from elicense.log.store import LogStore
from elicense.log.tables import define_log_tables
from elicense.sql.database import Database

if TYPE_CHECKING:
    from elicense.log.model import LogKey


class DatabaseSource:
    """Implements :class:`elicense.log.tile_folder.Source` over the tables of logs.

    The log may grow meanwhile: what lies below the head that was read first stays.

    Args:
        database: A registry's or a city's database.
        key: Which log.
    """

    def __init__(self, database: Database, key: LogKey) -> None:
        self._database = database
        self._store = LogStore(define_log_tables(MetaData()))
        self._key = key

    def head(self) -> bytes:
        """Return the newest head whose signature is stored.

        Raises:
            NotFound: There is no such log, or nothing of it is signed.
        """
        found = self._database.read_now(lambda conn: self._store.commits.newest_signed(conn, self._key))
        if found is None:
            raise NotFound("the database holds no signed head of this log", city=self._key.log, epoch=self._key.epoch)
        return found

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Return leaf hashes as they are stored."""
        return self._database.read_now(lambda conn: self._store.leaf_hashes(conn, self._key, start, stop))

    def entries(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the entries, made anew from records and salts.

        Raises:
            StoreCorrupt: One is missing or damaged.
        """
        stored = self._database.read_now(lambda conn: self._store.entries(conn, self._key, start, stop - start))
        if [entry.index for entry in stored] != list(range(start, stop)):
            raise StoreCorrupt("an entry of the log is missing; run fsck", log=self._key.log)
        return [
            b"" if entry.record is None or entry.salt is None else commitment(entry.salt, entry.record)
            for entry in stored
        ]
