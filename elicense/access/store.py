"""The table of looks and its queries: the only SQL over it.

It lives in a database of its own (on SQLite a file per process), so that a busy
or full access log does not stand in the way of the licences, and the other way
round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    delete,
    select,
    tuple_,
)

from elicense.access.entry import START, AccessEntry, AccessPosition, RecordedAccess
from elicense.sql.bulk import BulkInsert
from elicense.trust.spiffe import MAX_SPIFFE_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NODE_NAME: Final = 100
MAX_CASE_NUMBER: Final = 64


def define_access_table(metadata: MetaData) -> Table:
    """Add ``access`` to ``metadata`` and return it."""
    return Table(
        "access",
        metadata,
        Column("node", String(MAX_NODE_NAME), nullable=False),
        Column("day", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("caller", String(MAX_SPIFFE_ID), nullable=False),
        Column("via", String(MAX_SPIFFE_ID), nullable=False),
        Column("role", String(16), nullable=False),
        Column("purpose", SmallInteger, nullable=False),
        Column("case_number", String(MAX_CASE_NUMBER), nullable=False),
        Column("method", String(64), nullable=False),
        Column("subjects", LargeBinary, nullable=False),
        Column("outcomes", LargeBinary, nullable=False),
        Column("fields", LargeBinary, nullable=False),
        Column("sealed_until_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("node", "day", "sequence"),
        info={"dist": "node"},
        sqlite_with_rowid=False,
    )


class AccessStore:
    """Reads and appends looks inside a caller's transaction.

    Args:
        table: Where they are.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._append = BulkInsert(table)
        self._entry_columns = tuple(table.c[name] for name in AccessEntry._fields)

    def last(self, connection: Connection, node: str) -> AccessPosition:
        """Return the position of a node's last look, :data:`START` when there is none."""
        c = self._table.c
        row = connection.execute(
            select(c.day, c.sequence).where(c.node == node).order_by(c.day.desc(), c.sequence.desc()).limit(1)
        ).first()
        return START if row is None else AccessPosition(row.day, row.sequence)

    def append(self, connection: Connection, looks: Sequence[RecordedAccess]) -> None:
        """Add looks; a position that is taken is an error, since passing over it would lose a look."""
        self._append.execute(connection, [_row(look) for look in looks])

    def append_own(
        self, connection: Connection, node: str, position: AccessPosition, entries: Sequence[AccessEntry]
    ) -> None:
        """Add looks of one node, the first at ``position`` and each further one under the next number; as above."""
        head, first = (node, position.day), position.sequence
        rows = [(*head, sequence, *entry) for sequence, entry in enumerate(entries, first)]
        self._append.execute(connection, rows)

    def after(self, connection: Connection, node: str, position: AccessPosition, limit: int) -> list[RecordedAccess]:
        """Return up to ``limit`` looks of a node behind a position, in order."""
        c = self._table.c
        rows = connection.execute(
            select(c.day, c.sequence, *self._entry_columns)
            .where(c.node == node, tuple_(c.day, c.sequence) > (position.day, position.sequence))
            .order_by(c.day, c.sequence)
            .limit(limit)
        )
        return [RecordedAccess(node, AccessPosition(row[0], row[1]), AccessEntry(*row[2:])) for row in rows]

    def at(
        self, connection: Connection, places: Sequence[tuple[str, AccessPosition]]
    ) -> dict[tuple[str, AccessPosition], RecordedAccess]:
        """Return the looks at these places, by node and position; one that is not there is absent."""
        c = self._table.c
        wanted = sorted({(node, position.day, position.sequence) for node, position in places})
        rows = connection.execute(
            select(c.node, c.day, c.sequence, *self._entry_columns).where(tuple_(c.node, c.day, c.sequence).in_(wanted))
        )
        looks = (RecordedAccess(row[0], AccessPosition(row[1], row[2]), AccessEntry(*row[3:])) for row in rows)
        return {(look.node, look.position): look for look in looks}

    def drop_before(self, connection: Connection, node: str, day: int) -> int:
        """Delete a node's looks of the days before ``day``, its last one excepted, and return how many there were.

        The last look stays whatever its day, because the numbers go on from it.
        """
        c = self._table.c
        last = self.last(connection, node)
        old = delete(self._table).where(c.node == node, c.day < day, c.sequence < last.sequence)
        return connection.execute(old).rowcount


def _row(look: RecordedAccess) -> tuple[bytes | int | str, ...]:
    position = look.position
    return (look.node, position.day, position.sequence, *look.entry)
