"""The tables of feeds, what each city is told of its records: the only SQL over them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

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
    String,
    Table,
    bindparam,
    func,
    select,
    update,
)

from elicense.sql.bulk import BulkInsert
from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from elicense.sql.row import values_of
from registry.model import NotedDisposition

_DETAIL_LENGTH: Final = 200

_disposition_values = values_of(NotedDisposition)


def define_feed_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add ``disposition_feed``, the last number of each feed, and ``disposition``, its words; return both."""
    feed = Table(
        "disposition_feed",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("seq", BigInteger, nullable=False),
        PrimaryKeyConstraint("city"),
        info={"dist": "city"},
    )
    words = Table(
        "disposition",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("seq", BigInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("kind", SmallInteger, nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("detail", String(_DETAIL_LENGTH), nullable=False),
        Column("other_city", Integer),
        PrimaryKeyConstraint("city", "seq"),
        info={"dist": "city"},
    )
    Index("disposition_license", words.c.license_id)
    return feed, words


class FeedStore:
    """Queries over feeds, each inside a caller's transaction.

    Args:
        feed: From :func:`define_feed_tables`.
        words: From the same.
    """

    def __init__(self, feed: Table, words: Table) -> None:
        self._feed = feed
        self._words = words
        self._insert = BulkInsert(words)
        said = words.c
        behind = said.city == bindparam("of_city"), said.seq > bindparam("after")
        after = (
            select(*[said[name] for name in NotedDisposition.__dataclass_fields__])
            .where(*behind)
            .order_by(said.seq)
            .limit(bindparam("most", type_=Integer))
        )
        self._after = FixedStatement(after)
        self._of_kind = FixedStatement(
            after.where(said.seq <= bindparam("until"), said.kind == bindparam("of_kind", type_=Integer))
        )
        self._first = FixedStatement(select(func.min(said.seq)).where(*behind))

    def add(
        self,
        conn: Connection,
        city: int,
        epoch: int,
        notes: Sequence[tuple[int, int, bytes, str]],
        *,
        other_city: int = 0,
    ) -> int:
        """Append to a city's feed: (index, kind, licence id, detail) each, of a hand-over with ``other_city``.

        Returns:
            The number of the first; 0 for none.
        """
        if not notes:
            return 0
        statement = insert_for(conn.dialect.name, self._feed)
        taken = statement.on_conflict_do_update(
            index_elements=["city"], set_={"seq": self._feed.c.seq + statement.excluded.seq}
        ).returning(self._feed.c.seq)
        last = conn.execute(taken, {"city": city, "seq": len(notes)}).scalar_one()
        first = last - len(notes) + 1
        rows = [
            NotedDisposition(city, first + offset, epoch, idx, kind, license_id, detail, other_city)
            for offset, (idx, kind, license_id, detail) in enumerate(notes)
        ]
        self._insert.execute(conn, [_disposition_values(row) for row in rows])
        return int(first)

    def move_behind(self, conn: Connection, city: int, *, answered: int, number: int) -> None:
        """Give the words behind number ``answered`` of a city's feed numbers behind ``number``, in the same order.

        The feed goes on behind ``number`` if there are none.
        """
        by, words = number - answered, self._words
        statement = insert_for(conn.dialect.name, self._feed)
        # First of all: it locks the feed, so that nobody adds to it meanwhile.
        raised = statement.on_conflict_do_update(index_elements=["city"], set_={"seq": self._feed.c.seq + by})
        conn.execute(raised, {"city": city, "seq": number})
        # By way of numbers that no word has: none may pass through the number of another.
        for behind, moved in ((words.c.seq > answered, -(words.c.seq + by)), (words.c.seq < 0, -words.c.seq)):
            conn.execute(update(words).where(words.c.city == city, behind).values(seq=moved))

    def after(self, conn: Connection, city: int, *, after: int, limit: int) -> list[NotedDisposition]:
        """Return up to ``limit`` dispositions of a city's feed that follow number ``after``."""
        rows = self._after.all(conn, {"of_city": city, "after": after, "most": limit})
        return [NotedDisposition(*row) for row in rows]

    def of_license(
        self, conn: Connection, license_id: bytes, kinds: Collection[int], *, city: int | None = None
    ) -> list[NotedDisposition]:
        """Return the words of these kinds about a licence, in one city's feed or in whatever, in order."""
        table = self._words
        query = (
            select(*[table.c[name] for name in NotedDisposition.__dataclass_fields__])
            .where(table.c.license_id == license_id, table.c.kind.in_([int(kind) for kind in kinds]))
            .order_by(table.c.city, table.c.seq)
        )
        if city is not None:
            query = query.where(table.c.city == city)
        return [NotedDisposition(*row) for row in conn.execute(query)]

    def told_once(self, conn: Connection, license_id: bytes, kind: int) -> int | None:
        """Return the last city that was told this of a licence, as nobody else's doing; None when none was.

        However many words there are, one row is returned: a city may have written of the licence without end.
        """
        table = self._words
        query = (
            select(table.c.city)
            .where(
                table.c.license_id == license_id, table.c.kind == int(kind), func.coalesce(table.c.other_city, 0) == 0
            )
            .order_by(table.c.city.desc())
            .limit(1)
        )
        return conn.execute(query).scalar_one_or_none()

    def of_kind(
        self, conn: Connection, city: int, kind: int, *, after: int, until: int, limit: int
    ) -> list[NotedDisposition]:
        """Return up to ``limit`` words of one kind in a city's feed, behind number ``after`` and up to ``until``."""
        given = {"of_city": city, "of_kind": int(kind), "after": after, "until": until, "most": limit}
        return [NotedDisposition(*row) for row in self._of_kind.all(conn, given)]

    def next_behind(self, conn: Connection, city: int, after: int, *, until: int) -> int:
        """Return the number before a city's first word behind ``after``; ``until`` if none has come up to there.

        A city may state that it has any number: a feed has gaps that are not worth going through.
        """
        first = self._first.scalar(conn, {"of_city": city, "after": after})
        return until if first is None else min(int(first) - 1, until)

    def ends(self, conn: Connection) -> dict[int, int]:
        """Return the last number of each city's feed."""
        return {row[0]: row[1] for row in conn.execute(select(self._feed.c.city, self._feed.c.seq))}

    def cities(self, conn: Connection) -> set[int]:
        """Return the cities that have words in their feeds."""
        return set(conn.execute(select(self._words.c.city).distinct()).scalars())
