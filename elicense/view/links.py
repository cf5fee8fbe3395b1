"""Documents that lead to a person known by an earlier one: the links, and the only SQL over them.

A person keeps the tag of their first document for good: licences, claims and bars
stay under it, and every later document gets a link that leads there in one step.
A link is never deleted, not even with the licence: a bar under one number must be
found under the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, select

from elicense.sql.bulk import BulkLookup
from elicense.sql.row import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class PersonLink(Row):
    """A link; fields in column order.

    Attributes:
        person_key: Tag of the later document.
        first_key: Tag under which the person is known.
        license_id: Licence whose record made it.
        city: City whose log holds that record.
        epoch: Epoch of that log.
        idx: Index of the record.
    """

    person_key: bytes
    first_key: bytes
    license_id: bytes
    city: int
    epoch: int
    idx: int


def define_link_table(metadata: MetaData) -> Table:
    """Add ``person_link`` to ``metadata`` and return it."""
    table = Table(
        "person_link",
        metadata,
        Column("person_key", LargeBinary(16), nullable=False),
        Column("first_key", LargeBinary(16), nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        PrimaryKeyConstraint("person_key"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )
    Index("person_link_first", table.c.first_key)
    return table


class LinkStore:
    """Reads and writes links inside a caller's transaction.

    Args:
        table: From :func:`define_link_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [table.c[name] for name in PersonLink.__dataclass_fields__]
        self._of = BulkLookup(self._columns[:2], table.c.person_key)
        self._to = BulkLookup(self._columns[:2], table.c.first_key)
        self._from = BulkLookup(self._columns, table.c.person_key)
        self._around = BulkLookup(self._columns, table.c.first_key)

    def of(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return under which tag each person is known; one that is known under the tag itself is absent."""
        return {row[0]: row[1] for row in self._of.execute(conn, keys)}

    def root(self, conn: Connection, key: bytes) -> bytes:
        """Return under which tag one person is known."""
        return self.of(conn, [key]).get(key, key)

    def leading_to(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return every tag that leads to one of these, and to which."""
        return {row[0]: row[1] for row in self._to.execute(conn, keys)}

    def add(self, conn: Connection, link: PersonLink) -> None:
        """Insert a link from a tag that leads nowhere yet to one that stays; what led to the former follows."""
        table = self._table
        moved = table.update().where(table.c.first_key == link.person_key).values(first_key=link.first_key)
        conn.execute(moved)
        conn.execute(table.insert(), [link.as_dict()])

    def all(self, conn: Connection) -> list[PersonLink]:
        """Return every link, for checks of small stores."""
        return [PersonLink(*row) for row in conn.execute(select(*self._columns).order_by(self._table.c.person_key))]

    def page(self, conn: Connection, *, after: bytes, limit: int) -> list[PersonLink]:
        """Return up to ``limit`` links behind a person, in order."""
        person = self._table.c.person_key
        query = select(*self._columns).where(person > after).order_by(person).limit(limit)
        return [PersonLink(*row) for row in conn.execute(query)]

    def around(self, conn: Connection, keys: Iterable[bytes]) -> set[PersonLink]:
        """Return every link that leads from or to one of these."""
        found: set[PersonLink] = set()
        for lookup in (self._from, self._around):
            found.update(PersonLink(*row) for row in lookup.execute(conn, keys))
        return found


class Roots:
    """Links as records make them, in memory: which tags are one person's."""

    def __init__(self) -> None:
        self._first: dict[bytes, bytes] = {}

    def root(self, key: bytes) -> bytes:
        """Return under which tag a person is known."""
        while key in self._first:
            key = self._first[key]
        return key

    def add(self, key: bytes, first: bytes) -> None:
        """Link two tags, unless they lead to one already."""
        source, target = self.root(key), self.root(first)
        if source != target:
            self._first[source] = target

    def as_dict(self) -> dict[bytes, bytes]:
        """Return every link in one step."""
        return {key: self.root(key) for key in self._first}
