"""The tables beside the looks in the registry's access log, and their queries: the only SQL over them.

Looks of all nodes lie in one table, each node's numbered by itself.  Beside it
stands how far each node's looks have arrived and have been indexed, the index by
subject, and a count of sealed looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    delete,
    func,
    select,
    tuple_,
)

from elicense.access.entry import START, AccessPosition
from elicense.access.store import MAX_NODE_NAME, AccessStore
from elicense.errors import Aborted
from elicense.sql.bulk import BulkInsert
from elicense.sql.database import insert_for
from elicense.sql.row import Row, values_of
from elicense.trust.spiffe import MAX_SPIFFE_ID

_KEYS_PER_QUERY: Final = 1_000


def define_access_index_tables(metadata: MetaData) -> tuple[Table, Table, Table]:
    """Add ``access_source``, ``access_subject`` and ``access_seal`` to ``metadata`` and return them."""
    source = Table(
        "access_source",
        metadata,
        Column("node", String(MAX_NODE_NAME), nullable=False),
        Column("city", Integer, nullable=False),
        Column("day", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("complete_us", BigInteger, nullable=False),
        Column("indexed_day", Integer, nullable=False),
        Column("indexed_sequence", BigInteger, nullable=False),
        Column("indexed_complete_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("node"),
        info={"dist": "node"},
    )
    subject = Table(
        "access_subject",
        metadata,
        Column("subject", LargeBinary(16), nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("node", String(MAX_NODE_NAME), nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("place", SmallInteger, nullable=False),
        Column("day", Integer, nullable=False),
        Column("sealed_until_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("subject", "at_us", "node", "sequence", "place"),
        Index("access_subject_day", "day"),
        info={"dist": "subject"},
        sqlite_with_rowid=False,
    )
    seal = Table(
        "access_seal",
        metadata,
        Column("caller", String(MAX_SPIFFE_ID), nullable=False),
        Column("day", Integer, nullable=False),
        Column("looks", BigInteger, nullable=False),
        PrimaryKeyConstraint("caller", "day"),
        info={"dist": "caller"},
        sqlite_with_rowid=False,
    )
    return source, subject, seal


@dataclass(frozen=True, slots=True)
class Source(Row):
    """How far one node's looks have come; fields in column order.

    Attributes:
        node: Name of the process that answered them.
        city: Division code of its city; 0 for the registry.
        day: Day of the last look that is held.
        sequence: Its number; 0 before the first.
        complete_us: Every look that was asked there before this is held; 0 when nothing is known.
        indexed_day: Day of the last look that is in the index.
        indexed_sequence: Its number.
        indexed_complete_us: Every look that was asked there before this is in the index.
    """

    node: str
    city: int
    day: int = START.day
    sequence: int = START.sequence
    complete_us: int = 0
    indexed_day: int = START.day
    indexed_sequence: int = START.sequence
    indexed_complete_us: int = 0

    @property
    def held(self) -> AccessPosition:
        """Position of the last look that is held."""
        return AccessPosition(self.day, self.sequence)

    @property
    def indexed(self) -> AccessPosition:
        """Position of the last look that is in the index."""
        return AccessPosition(self.indexed_day, self.indexed_sequence)


@dataclass(frozen=True, slots=True)
class SubjectLook(Row):
    """A look in the index by subject; fields in column order.

    Attributes:
        subject: Tag of who was looked at.
        at_us: When.
        node: Where.
        sequence: Number of the look there.
        place: Place of the subject among those of the look.
        day: Day under which the look is kept.
        sealed_until_us: Until when the holder does not see it; 0 when it was not sealed.
    """

    subject: bytes
    at_us: int
    node: str
    sequence: int
    place: int
    day: int
    sealed_until_us: int


_subject_values = values_of(SubjectLook)


class AccessIndexStore:
    """Queries of the registry's access log, each inside a caller's transaction.

    Args:
        looks: The looks themselves.
        tables: What :func:`define_access_index_tables` returned.

    Attributes:
        looks: The looks themselves.
    """

    def __init__(self, looks: AccessStore, tables: tuple[Table, Table, Table]) -> None:
        self.looks = looks
        self._source, self._subject, self._seal = tables
        self._add_subjects = BulkInsert(self._subject)
        self._source_columns = [self._source.c[name] for name in Source.__dataclass_fields__]
        self._subject_columns = [self._subject.c[name] for name in SubjectLook.__dataclass_fields__]

    def sources(self, conn: Connection) -> list[Source]:
        """Return how far each node's looks have come, by name."""
        return [Source(*row) for row in conn.execute(select(*self._source_columns).order_by(self._source.c.node))]

    def source(self, conn: Connection, node: str, city: int) -> Source:
        """Return how far a node's looks have come; it is noted as new when it is."""
        new = insert_for(conn.dialect.name, self._source).on_conflict_do_nothing(index_elements=["node"])
        conn.execute(new, [Source(node, city).as_dict()])
        query = select(*self._source_columns).where(self._source.c.node == node)
        return Source(*conn.execute(query).one())

    def advance(self, conn: Connection, old: Source, new: Source) -> None:
        """Move a source on by compare-and-set over both positions.

        Raises:
            Aborted: Another process was faster; nothing must be committed.
        """
        c = self._source.c
        update = (
            self._source.update()
            .where(
                c.node == old.node,
                c.day == old.day,
                c.sequence == old.sequence,
                c.indexed_day == old.indexed_day,
                c.indexed_sequence == old.indexed_sequence,
            )
            .values(new.as_dict())
        )
        if conn.execute(update).rowcount != 1:
            raise Aborted("another process moved these looks on; read again")

    def add_subjects(self, conn: Connection, looks: Sequence[SubjectLook]) -> None:
        """Put looks into the index by subject."""
        self._add_subjects.execute(conn, [_subject_values(look) for look in looks])

    def of_subjects(
        self,
        conn: Connection,
        subjects: Sequence[bytes],
        *,
        now_us: int,
        before: tuple[int, str, int, int] | None,
        limit: int,
    ) -> list[SubjectLook]:
        """Return up to ``limit`` looks at subjects, newest first, without those that are still sealed.

        Args:
            conn: A transaction.
            subjects: Tags of the subjects: those of one person.
            now_us: Until when seals must be over.
            before: (at_us, node, sequence, place) of the last look of the page before.
            limit: Most looks.
        """
        c = self._subject.c
        order = (c.at_us, c.node, c.sequence, c.place)
        query = select(*self._subject_columns).where(c.subject.in_(subjects), c.sealed_until_us <= now_us)
        if before is not None:
            query = query.where(tuple_(*order) < before)
        query = query.order_by(*(column.desc() for column in order)).limit(limit)
        return [SubjectLook(*row) for row in conn.execute(query)]

    def counts_since(self, conn: Connection, subjects: Iterable[bytes], since_us: int) -> dict[bytes, int]:
        """Return how often each of these subjects was looked at since then."""
        c = self._subject.c
        wanted = sorted(set(subjects))
        counts: dict[bytes, int] = {}
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            query = (
                select(c.subject, func.count())
                .where(c.subject.in_(wanted[start : start + _KEYS_PER_QUERY]), c.at_us >= since_us)
                .group_by(c.subject)
            )
            counts.update((row[0], row[1]) for row in conn.execute(query))
        return counts

    def sealed_before(self, conn: Connection, subject: bytes, at_us: int) -> int | None:
        """Return when the unbroken run of sealed looks at a subject that lasts at ``at_us`` began, or None."""
        c = self._subject.c
        began: int | None = None
        moment = at_us
        while True:
            query = select(func.min(c.at_us)).where(c.subject == subject, c.at_us < moment, c.sealed_until_us >= moment)
            earlier = conn.execute(query).scalar()
            if earlier is None:
                return began
            began = moment = earlier

    def count_sealed(self, conn: Connection, caller: str, day: int, looks: int) -> int:
        """Add to a caller's sealed looks of a day and return how many there are."""
        statement = insert_for(conn.dialect.name, self._seal)
        upsert = statement.on_conflict_do_update(
            index_elements=["caller", "day"], set_={"looks": self._seal.c.looks + statement.excluded.looks}
        )
        conn.execute(upsert, [{"caller": caller, "day": day, "looks": looks}])
        c = self._seal.c
        return int(conn.execute(select(c.looks).where(c.caller == caller, c.day == day)).scalar_one())

    def drop_before(self, conn: Connection, day: int) -> None:
        """Delete what is older than ``day``: looks, their index and counts."""
        for source in self.sources(conn):
            self.looks.drop_before(conn, source.node, day)
        conn.execute(delete(self._subject).where(self._subject.c.day < day))
        conn.execute(delete(self._seal).where(self._seal.c.day < day))
