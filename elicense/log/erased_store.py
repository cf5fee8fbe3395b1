"""Taking records out of logs, and which of them the database's files may still hold: the only SQL that does so.

An SQLite file keeps what was deleted until it is scrubbed, which comes after the
commit.  So the commit itself marks every slot that it emptied; whoever starts
after a crash finds the marks and scrubs again.  A database server frees its own
space, so nothing is marked there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, bindparam, select, tuple_

from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import insert_for

if TYPE_CHECKING:
    from elicense.log.tables import LogTables

#: Bytes of a record's beginning that are looked for afterwards, which name its licence; its salt is looked for whole.
_TRACE: Final = 64
_MAX_PLACES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Erased:
    """A slot that was emptied.

    Attributes:
        key: The log.
        index: Index of the slot.
        traces: Bytes that must not be found in the database's files any more; nothing else has the same.
        hints: Bytes that should not, either; but another record that stands may end with the same.
    """

    key: LogKey
    index: int
    traces: tuple[bytes, ...]
    hints: tuple[bytes, ...] = ()


def erased_of(key: LogKey, entry: StoredEntry) -> Erased | None:
    """Return what becomes of an entry once it is erased; None when it is so already."""
    if entry.record is None or entry.salt is None:
        return None
    return Erased(
        key, entry.index, (entry.salt, entry.record[:_TRACE]), hints=(entry.record[len(entry.record) // 2 :],)
    )


class ErasedStore:
    """Empties slots inside a caller's transaction.

    Args:
        tables: From :func:`elicense.log.tables.define_log_tables`.
    """

    def __init__(self, tables: LogTables) -> None:
        entry, marked = tables.entry, tables.scrub
        self._entry = entry
        self._marked = marked
        self._entries = select(
            entry.c.log, entry.c.epoch, entry.c.idx, entry.c.record, entry.c.salt, entry.c.leaf_hash
        ).where(tuple_(entry.c.log, entry.c.epoch, entry.c.idx).in_(bindparam("places", expanding=True)))

    def erase(self, conn: Connection, places: Iterable[tuple[LogKey, int]]) -> list[Erased]:
        """Delete record and salt of these entries; their leaf hashes, and with them every proof, stay.

        Returns:
            The slots that held something.
        """
        wanted = sorted({(key.log, key.epoch, index) for key, index in places})
        found: list[Erased] = []
        for start in range(0, len(wanted), _MAX_PLACES):
            part = wanted[start : start + _MAX_PLACES]
            for log, epoch, *rest in conn.execute(self._entries, {"places": part}):
                erased = erased_of(LogKey(log, epoch), StoredEntry(*rest))
                if erased is not None:
                    found.append(erased)
            c = self._entry.c
            where = tuple_(c.log, c.epoch, c.idx).in_(part)
            conn.execute(self._entry.update().where(where).values(record=None, salt=None))
        self._mark(conn, found)
        return found

    def between(self, conn: Connection, key: LogKey, start: int, stop: int) -> list[int]:
        """Return the indices of the emptied slots from ``start`` up to ``stop``, in order."""
        c = self._entry.c
        there = (c.log == key.log, c.epoch == key.epoch, c.idx >= start, c.idx < stop, c.record.is_(None))
        return list(conn.scalars(select(c.idx).where(*there).order_by(c.idx)))

    def unscrubbed(self, conn: Connection) -> list[tuple[LogKey, int]]:
        """Return the emptied slots whose content the database's files may still hold."""
        c = self._marked.c
        rows = conn.execute(select(c.log, c.epoch, c.idx).order_by(c.log, c.epoch, c.idx))
        return [(LogKey(log, epoch), index) for log, epoch, index in rows]

    def scrubbed(self, conn: Connection, places: Iterable[tuple[LogKey, int]]) -> None:
        """Note that the files hold nothing of these slots any more."""
        wanted = sorted({(key.log, key.epoch, index) for key, index in places})
        c = self._marked.c
        for start in range(0, len(wanted), _MAX_PLACES):
            part = tuple_(c.log, c.epoch, c.idx).in_(wanted[start : start + _MAX_PLACES])
            conn.execute(self._marked.delete().where(part))

    def _mark(self, conn: Connection, erased: Sequence[Erased]) -> None:
        if not erased or conn.dialect.name != "sqlite":
            return
        statement = insert_for(conn.dialect.name, self._marked)
        conn.execute(
            statement.on_conflict_do_nothing(index_elements=["log", "epoch", "idx"]),
            [{"log": each.key.log, "epoch": each.key.epoch, "idx": each.index} for each in erased],
        )
