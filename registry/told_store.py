"""What cities signed that they know, and up to which number their feeds were gone through: the only SQL over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    bindparam,
    select,
    tuple_,
)

from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from elicense.sql.row import Row

if TYPE_CHECKING:
    from elicense.log.model import LogKey

_PAGE: Final = 1_000


class Mark(IntEnum):
    """What a feed is gone through for."""

    TOLD = 1
    """Words that a licence went away, for the city's signature; by epoch of its log."""
    JUDGED = 2
    """Words about records without custody, for breaches of it; with epoch 0."""
    DECIDED = 3
    """Entries of the registry's own log, for decisions about custody; by its epoch, with city 0."""
    ANSWERED = 4
    """Words that were in an answer to the city, which may have them; with epoch 0."""
    SIGNED = 5
    """Words behind which nothing is left to be signed, for what a city does not sign; by epoch of its log."""


@dataclass(frozen=True, slots=True)
class ToldRow(Row):
    """A city's signed word that it knows that a licence went to another city.

    Attributes:
        city: Division code.
        epoch: Epoch of its log in which it says so.
        of_epoch: Epoch of its last record of the licence that counts.
        of_idx: Index of that record.
        size: Entries that the log had.
        note: The signed note.
        registry_epoch: Epoch of the registry's log that has it; None while none has.
        registry_idx: Index of its entry there.
    """

    city: int
    epoch: int
    of_epoch: int
    of_idx: int
    size: int
    note: bytes
    registry_epoch: int | None = None
    registry_idx: int | None = None


def define_told_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add ``told`` and ``feed_mark`` to ``metadata`` and return them."""
    told = Table(
        "told",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("epoch", BigInteger, nullable=False, autoincrement=False),
        Column("of_epoch", BigInteger, nullable=False, autoincrement=False),
        Column("of_idx", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("note", LargeBinary, nullable=False),
        Column("registry_epoch", BigInteger),
        Column("registry_idx", BigInteger),
        PrimaryKeyConstraint("city", "epoch", "of_epoch", "of_idx"),
        info={"dist": "city"},
    )
    Index("told_unlogged", told.c.registry_epoch)
    mark = Table(
        "feed_mark",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("what", SmallInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False, autoincrement=False),
        Column("seq", BigInteger, nullable=False),
        PrimaryKeyConstraint("city", "what", "epoch"),
        info={"dist": "city"},
        sqlite_with_rowid=False,
    )
    return told, mark


class ToldStore:
    """Reads and writes both tables inside a caller's transaction.

    Args:
        told: From :func:`define_told_tables`.
        mark: From there too.
    """

    def __init__(self, told: Table, mark: Table) -> None:
        self._told = told
        self._mark = mark
        self._columns = [told.c[name] for name in ToldRow.__dataclass_fields__]
        self._reached = FixedStatement(
            select(mark.c.seq).where(
                mark.c.city == bindparam("of_city"),
                mark.c.what == bindparam("what"),
                mark.c.epoch == bindparam("of_epoch"),
            )
        )

    def reached(self, conn: Connection, city: int, what: Mark, epoch: int = 0) -> int:
        """Return up to which number something was gone through; 0 before the first."""
        row = self._reached.first(conn, {"of_city": city, "what": int(what), "of_epoch": epoch})
        return 0 if row is None else int(row[0])

    def reach(self, conn: Connection, city: int, what: Mark, number: int, epoch: int = 0) -> None:
        """Note up to which number something was gone through."""
        statement = insert_for(conn.dialect.name, self._mark)
        values = {"city": city, "what": int(what), "epoch": epoch, "seq": number}
        upsert = statement.on_conflict_do_update(
            index_elements=["city", "what", "epoch"], set_={"seq": statement.excluded.seq}
        )
        conn.execute(upsert, values)

    def marks(self, conn: Connection) -> list[tuple[int, int, int, int]]:
        """Return every mark: city, what, epoch, number."""
        mark = self._mark.c
        query = select(mark.city, mark.what, mark.epoch, mark.seq).order_by(mark.city, mark.what, mark.epoch)
        return [(row[0], row[1], row[2], row[3]) for row in conn.execute(query)]

    def signed(self, conn: Connection, key: LogKey, places: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return those records, by epoch and index, of which the city has signed in this epoch that none follows."""
        c, wanted = self._told.c, sorted(places)
        if not wanted:
            return set()
        query = select(c.of_epoch, c.of_idx).where(
            c.city == key.log, c.epoch == key.epoch, tuple_(c.of_epoch, c.of_idx).in_(wanted)
        )
        return {(row[0], row[1]) for row in conn.execute(query)}

    def note(self, conn: Connection, key: LogKey, place: tuple[int, int]) -> bytes | None:
        """Return what the city has signed about one record, by epoch and index; None when it has not."""
        c = self._told.c
        query = select(c.note).where(
            c.city == key.log, c.epoch == key.epoch, c.of_epoch == place[0], c.of_idx == place[1]
        )
        return conn.execute(query).scalar_one_or_none()

    def add(self, conn: Connection, rows: Iterable[ToldRow]) -> None:
        """Keep what a city signed; of one record the first word is kept."""
        values = [row.as_dict() for row in rows]
        if values:
            conn.execute(insert_for(conn.dialect.name, self._told).on_conflict_do_nothing(), values)

    def unlogged(self, conn: Connection, *, limit: int) -> list[ToldRow]:
        """Return some of what does not stand in the registry's log yet."""
        c = self._told.c
        query = select(*self._columns).where(c.registry_epoch.is_(None)).order_by(c.city, c.epoch, c.of_epoch, c.of_idx)
        return [ToldRow(*row) for row in conn.execute(query.limit(limit))]

    def put_logged(self, conn: Connection, rows: Iterable[ToldRow]) -> None:
        """Keep what the registry's log has, also where the city has signed anew since."""
        values = [row.as_dict() for row in rows]
        if not values:
            return
        statement = insert_for(conn.dialect.name, self._told)
        replaced = {name: statement.excluded[name] for name in ("size", "note", "registry_epoch", "registry_idx")}
        key = ["city", "epoch", "of_epoch", "of_idx"]
        conn.execute(statement.on_conflict_do_update(index_elements=key, set_=replaced), values)

    def all(self, conn: Connection) -> Iterator[ToldRow]:
        """Yield everything that cities signed, in order."""
        c = self._told.c
        key = (c.city, c.epoch, c.of_epoch, c.of_idx)
        last: tuple[int, int, int, int] = (0, 0, 0, 0)
        while rows := conn.execute(
            select(*self._columns).where(tuple_(*key) > tuple_(*last)).order_by(*key).limit(_PAGE)
        ).all():
            yield from (ToldRow(*row) for row in rows)
            last = (rows[-1][0], rows[-1][1], rows[-1][2], rows[-1][3])
