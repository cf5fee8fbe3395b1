"""The tables of the licence view and their queries: the only SQL over them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    SmallInteger,
    Table,
    bindparam,
    select,
    tuple_,
)

from elicense.license.verdict import OF_LATEST_RECORD
from elicense.log.model import LogKey
from elicense.sql.bulk import BulkInsert, BulkLookup, BulkUpdate
from elicense.sql.direct import FixedStatement
from elicense.sql.row import values_of
from elicense.view.links import LinkStore, PersonLink, define_link_table
from elicense.view.lookup import PersonLookup
from elicense.view.model import Revision, RevisionValues, RowValues, ViewRow

#: Flags that a new record leaves standing, as a mask of a 16-bit column.
_STAYING: Final = 0x7FFF & ~OF_LATEST_RECORD

#: Persons that one query looks up, most first.
_SIZES: Final = (64, 8, 1)

_row_values = cast("Callable[[ViewRow], RowValues]", values_of(ViewRow))
_revision_values = cast("Callable[[Revision], RevisionValues]", values_of(Revision))


def define_view_tables(metadata: MetaData) -> tuple[Table, Table, Table]:
    """Add ``license_view``, ``license_revision`` and ``person_link`` to ``metadata`` and return them."""
    view = Table(
        "license_view",
        metadata,
        Column("person_key", LargeBinary(16), nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("event", SmallInteger, nullable=False),
        Column("flags", SmallInteger, nullable=False),
        Column("entry_hash", LargeBinary(32), nullable=False),
        Column("name_tag", LargeBinary(16), nullable=False),
        Column("standing", LargeBinary, nullable=False),
        Column("recorded_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("person_key", "license_id"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )
    revision = Table(
        "license_revision",
        metadata,
        Column("license_id", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("event", SmallInteger, nullable=False),
        Column("effective_us", BigInteger, nullable=False),
        Column("recorded_us", BigInteger, nullable=False),
        Column("received_us", BigInteger, nullable=False),
        Column("person_key", LargeBinary(16), nullable=False),
        PrimaryKeyConstraint("license_id", "city", "epoch", "idx"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
    return view, revision, define_link_table(metadata)


class ViewStore:
    """Reads and writes the licence view inside a caller's transaction.

    Args:
        view: The table ``license_view``.
        revision: The table ``license_revision``.
        link: The table ``person_link``.

    Attributes:
        links: Which documents lead to which person.
        persons: The query of :meth:`of_persons`, for those who need no transaction around it.
    """

    def __init__(self, view: Table, revision: Table, link: Table) -> None:
        self.links = LinkStore(link)
        self._view = view
        self._revision = revision
        fields = ViewRow.__dataclass_fields__
        self._columns = [view.c[name] for name in fields]
        self._by_person = BulkLookup(self._columns, view.c.person_key)
        self.persons = PersonLookup(view, link)
        self._by_license = FixedStatement(
            select(*self._columns)
            .join(revision, (revision.c.person_key == view.c.person_key) & (revision.c.license_id == view.c.license_id))
            .where(revision.c.license_id == bindparam("license_id"))
            .limit(1)
        )
        persons = select(revision.c.person_key).where(revision.c.license_id == bindparam("of_id")).distinct()
        self._of_license = FixedStatement(
            select(*self._columns)
            .where(view.c.license_id == bindparam("license_id"), view.c.person_key.in_(persons))
            .order_by(view.c.person_key)
        )
        merged = f"(license_view.flags & {_STAYING}) | excluded.flags"
        self._put = BulkInsert(view, replace=True, merged={"flags": merged})
        self._add = BulkInsert(view)
        self._replace = BulkInsert(view, replace=True)
        self._set_flags = BulkUpdate(view, values=("flags",), found_by=("person_key", "license_id"))
        self._add_revisions = BulkInsert(revision)
        self._revision_columns = [revision.c[name] for name in Revision.__dataclass_fields__]
        self._history = BulkLookup(self._revision_columns, revision.c.license_id)

    def by_person(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, list[ViewRow]]:
        """Return every licence of each person, by person; a person without one is absent."""
        found: dict[bytes, list[ViewRow]] = defaultdict(list)
        for row in self._by_person.execute(conn, keys):
            found[row[0]].append(ViewRow(*row))
        return dict(found)

    def of_persons(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, list[ViewRow]]:
        """Return every licence of each person, by person, and :data:`NOBODY` for a person without one.

        Takes as long for a person without a licence as for one with a licence: the
        database gives a row of the same shape for either, and nothing is decided
        by which it was.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        return self.persons.by_person(wanted, conn.exec_driver_sql(*self.persons.query(conn.dialect.name, wanted)))

    def marks(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, Hashable]:
        """Return by person a value that changes whenever one of the person's licences does."""
        found = self.by_document(conn, keys)
        return {
            key: frozenset((row.license_id, row.city, row.epoch, row.idx, row.flags) for row in rows)
            for key, rows in found.items()
        }

    def by_document(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, list[ViewRow]]:
        """Return every licence of whoever each document leads to, by document; where there is none it is absent."""
        asked = list(keys)
        links = self.links.of(conn, asked)
        found = self.by_person(conn, [links.get(key, key) for key in asked])
        return {key: rows for key in asked if (rows := found.get(links.get(key, key)))}

    def unite(self, conn: Connection, link: PersonLink) -> None:
        """Have a person be known under another tag: licences and revisions move there, and a link leads there."""
        held = self.by_person(conn, [link.person_key]).get(link.person_key, [])
        if held:
            conn.execute(self._view.delete().where(self._view.c.person_key == link.person_key))
            self.replace(conn, [dataclasses.replace(row, person_key=link.first_key) for row in held])
            c = self._revision.c
            of_held = c.license_id.in_([row.license_id for row in held]) & (c.person_key == link.person_key)
            conn.execute(self._revision.update().where(of_held).values(person_key=link.first_key))
        self.links.add(conn, link)

    def by_license(self, conn: Connection, license_id: bytes) -> ViewRow | None:
        """Return the row of one licence, or None; where persons may share a licence id, of any of them."""
        row = self._by_license.first(conn, {"license_id": license_id})
        return None if row is None else ViewRow(*row)

    def of_license(self, conn: Connection, license_id: bytes) -> list[ViewRow]:
        """Return the rows of every licence with an id: ids are a city's own choice, so persons may share one."""
        return [ViewRow(*row) for row in self._of_license.all(conn, {"license_id": license_id, "of_id": license_id})]

    def page(self, conn: Connection, *, city: int, after: tuple[bytes, bytes] | None, limit: int) -> list[ViewRow]:
        """Return up to ``limit`` licences of ``city`` that follow ``after`` in key order."""
        return [ViewRow(*row) for row in conn.execute(self._page_of(self._columns, city, after, limit))]

    def standings(
        self, conn: Connection, *, city: int, after: tuple[bytes, bytes] | None, limit: int
    ) -> list[tuple[bytes, bytes, bytes]]:
        """Like :meth:`page`, but of each licence its place, which is person and licence id, and its standing alone."""
        columns = [self._view.c[name] for name in ("person_key", "license_id", "standing")]
        rows = conn.execute(self._page_of(columns, city, after, limit))
        return [(person_key, license_id, standing) for person_key, license_id, standing in rows]

    def _page_of(
        self, columns: list[Column[Any]], city: int, after: tuple[bytes, bytes] | None, limit: int
    ) -> Select[Any]:
        place = (self._view.c.person_key, self._view.c.license_id)
        query = select(*columns).where(self._view.c.city == city)
        if after is not None:
            query = query.where(tuple_(*place) > tuple_(*after))
        return query.order_by(*place).limit(limit)

    def rows(self, conn: Connection, *, after: tuple[bytes, bytes] | None, limit: int) -> list[ViewRow]:
        """Return up to ``limit`` licences of whatever city that follow ``after`` in key order, for checks."""
        key = (self._view.c.person_key, self._view.c.license_id)
        query = select(*self._columns).order_by(*key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*after))
        return [ViewRow(*row) for row in conn.execute(query)]

    def indexed(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` licences behind ``after`` that have revisions, in order, for checks."""
        column = self._revision.c.license_id
        query = select(column).where(column > after).distinct().order_by(column).limit(limit)
        return list(conn.execute(query).scalars())

    def put(self, conn: Connection, rows: Sequence[ViewRow]) -> None:
        """Insert or replace rows; a licence must not stand in ``rows`` twice.

        The flags of a row that stands already are kept, and those of the new
        row added: flags are cleared by :meth:`set_flags` alone, so that a
        decision and a new revision of one licence can not undo each other.  Only
        what the latest record alone decides is replaced by what it says.
        """
        self.put_values(conn, [_row_values(row) for row in sorted(rows, key=_place)])

    def put_values(self, conn: Connection, rows: Sequence[RowValues]) -> None:
        """Like :meth:`put`, for rows that are plain tuples, in the order of their keys."""
        self._put.execute(conn, rows)

    def add_values(self, conn: Connection, rows: Sequence[RowValues]) -> None:
        """Insert rows of licences that have none, as plain tuples; one that stands already is an error.

        On PostgreSQL its log gets two records a row for this, and three where such a row is looked for as well.
        """
        self._add.execute(conn, rows)

    def replace(self, conn: Connection, rows: Sequence[ViewRow]) -> None:
        """Insert rows, or put them in the place of those that stand, flags included."""
        self._replace.execute(conn, [_row_values(row) for row in sorted(rows, key=_place)])

    def set_flags(self, conn: Connection, flags: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Replace the flags of licences: (person key, licence id, flags) each."""
        self._set_flags.execute(conn, [(new, person, of) for person, of, new in sorted(flags)])

    def add_revisions(self, conn: Connection, revisions: Sequence[Revision]) -> None:
        """Insert revisions into the index."""
        self.add_revision_values(conn, list(map(_revision_values, revisions)))

    def add_revision_values(self, conn: Connection, revisions: list[RevisionValues]) -> None:
        """Like :meth:`add_revisions`, for revisions that are plain tuples, in any order; puts them into order."""
        revisions.sort()
        self._add_revisions.execute(conn, revisions)

    def drop_revision(self, conn: Connection, license_id: bytes, key: LogKey, index: int) -> None:
        """Take one revision out of the index; its record stays in the log."""
        c = self._revision.c
        conn.execute(
            self._revision.delete().where(
                c.license_id == license_id, c.city == key.log, c.epoch == key.epoch, c.idx == index
            )
        )

    def revisions(self, conn: Connection, license_id: bytes, *, after: int, limit: int) -> list[Revision]:
        """Return up to ``limit`` revisions of a licence with a number above ``after``, oldest first."""
        table = self._revision
        query = (
            select(*self._revision_columns)
            .where(table.c.license_id == license_id, table.c.revision > after)
            .order_by(table.c.revision, table.c.epoch, table.c.idx)
            .limit(limit)
        )
        return [Revision(*row) for row in conn.execute(query)]

    def places(
        self, conn: Connection, license_id: bytes, *, not_of: int, after: tuple[int, int, int], limit: int
    ) -> list[tuple[int, int, int]]:
        """Return up to ``limit`` positions behind one, of a licence's revisions that other cities than one wrote."""
        c = self._revision.c
        place = (c.city, c.epoch, c.idx)
        query = select(*place).where(c.license_id == license_id, c.city != not_of, tuple_(*place) > tuple_(*after))
        return [(row[0], row[1], row[2]) for row in conn.execute(query.order_by(*place).limit(limit))]

    def history(self, conn: Connection, license_ids: Iterable[bytes]) -> dict[bytes, list[Revision]]:
        """Return every revision of each licence, in any order; a licence without one is absent."""
        found: dict[bytes, list[Revision]] = defaultdict(list)
        for row in self._history.execute(conn, license_ids):
            found[row[0]].append(Revision(*row))
        return dict(found)

    def remove(self, conn: Connection, person_key: bytes, license_id: bytes) -> None:
        """Delete a licence and its revision index; without effect when there is none."""
        for table in (self._view, self._revision):
            conn.execute(table.delete().where(table.c.license_id == license_id, table.c.person_key == person_key))

    def all_rows(self, conn: Connection) -> list[ViewRow]:
        """Return the whole view in key order, for checks of small stores."""
        return [ViewRow(*row) for row in conn.execute(select(*self._columns).order_by(*self._columns[:2]))]


def _place(row: ViewRow) -> tuple[bytes, bytes]:
    return row.person_key, row.license_id
