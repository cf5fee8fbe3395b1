"""The table of erasures that wait until the registry holds its own log again: the only SQL over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    bindparam,
)

from elicense.sql.bulk import BulkLookup
from elicense.sql.database import insert_for
from elicense.sql.row import Row
from registry.place_pages import PlacePages

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Postponed(Row):
    """An ERASED entry that is not carried out yet; fields in column order.

    Attributes:
        city: City whose log holds it.
        epoch: Epoch of that log.
        idx: Its index.
        license_id: The licence that it erases.
    """

    city: int
    epoch: int
    idx: int
    license_id: bytes


def define_postponed_table(metadata: MetaData) -> Table:
    """Add ``postponed_erasure`` to ``metadata`` and return it."""
    table = Table(
        "postponed_erasure",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        PrimaryKeyConstraint("city", "epoch", "idx"),
        info={"dist": "city"},
    )
    Index("postponed_erasure_license", table.c.license_id)
    return table


class PostponedStore:
    """Reads and writes postponed erasures inside a caller's transaction.

    Args:
        table: From :func:`define_postponed_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns = [table.c[name] for name in Postponed.__dataclass_fields__]
        self._pages = PlacePages(columns)
        self._of_license = BulkLookup(columns, table.c.license_id)

    def add(self, conn: Connection, postponed: Sequence[Postponed]) -> None:
        """Remember erasures; one that is known already stays as it is."""
        if postponed:
            statement = insert_for(conn.dialect.name, self._table)
            conn.execute(
                statement.on_conflict_do_nothing(index_elements=["city", "epoch", "idx"]),
                [each.as_dict() for each in postponed],
            )

    def page(self, conn: Connection, *, limit: int, after: Postponed | None = None) -> list[Postponed]:
        """Return up to ``limit`` of them, each city's in log order, from behind ``after`` on."""
        place = None if after is None else (after.city, after.epoch, after.idx)
        return [Postponed(*row) for row in self._pages.read(conn, after=place, limit=limit)]

    def of_license(self, conn: Connection, license_ids: Sequence[bytes]) -> list[Postponed]:
        """Return those of these licences, in order."""
        return [Postponed(*row) for row in sorted(self._of_license.execute(conn, license_ids))]

    def remove(self, conn: Connection, postponed: Sequence[Postponed]) -> None:
        """Forget erasures that were carried out, or refused."""
        if not postponed:
            return
        c = self._table.c
        statement = self._table.delete().where(
            c.city == bindparam("of_city"), c.epoch == bindparam("of_epoch"), c.idx == bindparam("of_idx")
        )
        conn.execute(statement, [{"of_city": p.city, "of_epoch": p.epoch, "of_idx": p.idx} for p in postponed])
