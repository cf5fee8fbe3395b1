"""What each commit of a log left: its head, the signature of the log, and the one of whoever holds it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, bindparam, select

from elicense.errors import StoreCorrupt
from elicense.log.model import CheckpointRow, Head, LogKey
from elicense.log.tables import LogTables
from elicense.sql.bulk import BulkInsert
from elicense.sql.direct import FixedStatement

if TYPE_CHECKING:
    from sqlalchemy import Connection


def of_log(table: Table) -> tuple[Any, Any]:
    """Return the condition that a row is of the log that :func:`key_values` names."""
    return table.c.log == bindparam("key_log"), table.c.epoch == bindparam("key_epoch")


def key_values(key: LogKey) -> dict[str, Any]:
    """Return the parameters of :func:`of_log`."""
    return {"key_log": key.log, "key_epoch": key.epoch}


class CommitStore:
    """Reads and keeps the heads of commits inside a caller's transaction.

    Args:
        tables: The tables of logs.
    """

    def __init__(self, tables: LogTables) -> None:
        head, checkpoint = tables.head, tables.checkpoint
        self._insert_checkpoint = BulkInsert(checkpoint)
        self._note_head = FixedStatement(
            head.update().where(*of_log(head), head.c.size == bindparam("at_size")).values(note=bindparam("new_note"))
        )
        self._cosign_head = FixedStatement(
            head.update()
            .where(*of_log(head), head.c.cosigned_size <= bindparam("at_size"))
            .values(cosigned_size=bindparam("at_size"), cosigned=bindparam("new_note"))
        )
        self._latest_cosigned = FixedStatement(select(head.c.cosigned_size, head.c.cosigned).where(*of_log(head)))
        row = [checkpoint.c[name] for name in ("size", "root", "note", "cosigned", "recorded_us")]
        rows = select(*row).where(*of_log(checkpoint))
        self._at = FixedStatement(rows.where(checkpoint.c.size == bindparam("at_size")))
        between = rows.where(checkpoint.c.size > bindparam("start"), checkpoint.c.size <= bindparam("stop"))
        self._between = FixedStatement(between)
        self._batch_end = FixedStatement(between.order_by(checkpoint.c.size.desc()).limit(1))
        after = rows.where(checkpoint.c.size > bindparam("start")).order_by(checkpoint.c.size).limit(1)
        self._of = FixedStatement(after)
        self._newest_signed = FixedStatement(
            rows.where(checkpoint.c.cosigned.is_not(None) | checkpoint.c.note.is_not(None))
            .order_by(checkpoint.c.size.desc())
            .limit(1)
        )
        self._recorded = FixedStatement(
            select(checkpoint.c.size)
            .where(*of_log(checkpoint), checkpoint.c.recorded_us < bindparam("before_us"))
            .order_by(checkpoint.c.size.desc())
            .limit(1)
        )
        self._first_cosigned = FixedStatement(after.where(checkpoint.c.cosigned.is_not(None)))
        self._first_noted = FixedStatement(after.where(checkpoint.c.note.is_not(None)))
        at_size = checkpoint.update().where(*of_log(checkpoint), checkpoint.c.size == bindparam("at_size"))
        self._note_checkpoint = FixedStatement(at_size.values(note=bindparam("new_note")))
        self._cosign_checkpoint = FixedStatement(at_size.values(cosigned=bindparam("new_note")))

    def add(self, conn: Connection, head: Head) -> None:
        """Keep the head of a new commit."""
        key, recorded_us = head.key, head.recorded_us
        self._insert_checkpoint.execute(
            conn, [(key.log, key.epoch, head.size, head.root, head.note, None, recorded_us)]
        )

    def note(self, conn: Connection, key: LogKey, size: int, note: bytes) -> None:
        """Keep the signed checkpoint of an earlier commit."""
        self._note_checkpoint.run(conn, {**key_values(key), "at_size": size, "new_note": note})

    def batch_end(self, conn: Connection, key: LogKey, start: int, max_entries: int) -> CheckpointRow | None:
        """Return the furthest commit head above ``start`` and at most ``max_entries`` after it, or None."""
        row = self._batch_end.first(conn, {**key_values(key), "start": start, "stop": start + max_entries})
        return None if row is None else CheckpointRow(*row)

    def at(self, conn: Connection, key: LogKey, size: int) -> CheckpointRow | None:
        """Return what one commit left, or None when no commit ended at ``size``."""
        row = self._at.first(conn, {**key_values(key), "at_size": size})
        return None if row is None else CheckpointRow(*row)

    def of(self, conn: Connection, key: LogKey, index: int) -> CheckpointRow | None:
        """Return what the commit left that wrote an entry, or None when there is no such entry."""
        row = self._of.first(conn, {**key_values(key), "start": index})
        return None if row is None else CheckpointRow(*row)

    def size_before(self, conn: Connection, key: LogKey, before_us: int) -> int:
        """Return the size after the last commit before ``before_us`` (UTC microseconds); 0 before the first."""
        return self._recorded.scalar(conn, {**key_values(key), "before_us": before_us}) or 0

    def between(self, conn: Connection, key: LogKey, start: int, stop: int) -> dict[int, CheckpointRow]:
        """Return what the commits left that ended above ``start`` and up to ``stop``, by size."""
        rows = self._between.all(conn, {**key_values(key), "start": start, "stop": stop})
        return {row[0]: CheckpointRow(*row) for row in rows}

    def store_note(self, conn: Connection, key: LogKey, size: int, note: bytes) -> None:
        """Keep the signed checkpoint of the head at ``size``."""
        self.note(conn, key, size, note)
        values = {**key_values(key), "at_size": size, "new_note": note}
        self._note_head.run(conn, values)

    def store_cosigned(self, conn: Connection, key: LogKey, size: int, note: bytes) -> None:
        """Keep a cosigned checkpoint; the latest one is that of the greatest size."""
        values = {**key_values(key), "at_size": size, "new_note": note}
        self._cosign_checkpoint.run(conn, values)
        self._cosign_head.run(conn, values)

    def latest_cosigned(self, conn: Connection, key: LogKey) -> tuple[int, bytes] | None:
        """Return size and note of the greatest cosigned checkpoint, or None."""
        row = self._latest_cosigned.first(conn, key_values(key))
        return None if row is None or row[1] is None else (row[0], row[1])

    def first_signed(self, conn: Connection, key: LogKey, index: int) -> tuple[int, bytes] | None:
        """Return size and note of the earliest head over an entry: a cosigned one if there is any, or None."""
        for query in (self._first_cosigned, self._first_noted):
            row = query.first(conn, {**key_values(key), "start": index})
            if row is not None:
                found = CheckpointRow(*row)
                return found.size, found.cosigned or found.note or b""
        return None

    def newest_signed(self, conn: Connection, key: LogKey) -> bytes | None:
        """Return the note of the newest head whose signature is stored, with every signature, or None."""
        row = self._newest_signed.first(conn, key_values(key))
        if row is None:
            return None
        found = CheckpointRow(*row)
        return found.cosigned or found.note

    def cosigned_head(self, conn: Connection, key: LogKey) -> tuple[int, bytes | None]:
        """Return size and note of the greatest cosigned checkpoint as they are stored."""
        row = self._latest_cosigned.first(conn, key_values(key))
        if row is None:
            raise StoreCorrupt("a log has no head; run fsck", log=key.log)
        return row[0], row[1]
