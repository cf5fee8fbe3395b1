"""The table of bars from applying anew: the only SQL over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    bindparam,
    select,
    tuple_,
)

from elicense.sql.bulk import BulkLookup
from elicense.sql.database import insert_for
from registry.bans import PersonBan

_GROUND_LENGTH: Final = 40


def define_ban_table(metadata: MetaData) -> Table:
    """Add ``person_ban`` to ``metadata`` and return it."""
    return Table(
        "person_ban",
        metadata,
        Column("person_key", LargeBinary(16), nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("ground", String(_GROUND_LENGTH), nullable=False),
        Column("until_day", Integer, nullable=False),
        PrimaryKeyConstraint("person_key", "license_id"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )


class BanStore:
    """Reads and writes bars inside a caller's transaction.

    Args:
        table: From :func:`define_ban_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns = [table.c[name] for name in PersonBan.__dataclass_fields__]
        self._of = BulkLookup(columns, table.c.person_key)
        self._all = select(*columns).order_by(table.c.person_key, table.c.license_id)

    def of(self, conn: Connection, keys: Iterable[bytes]) -> dict[bytes, list[PersonBan]]:
        """Return the bars of each person, over or not; a person without one is absent."""
        found: dict[bytes, list[PersonBan]] = defaultdict(list)
        for row in self._of.execute(conn, keys):
            found[row[0]].append(PersonBan(*row))
        return dict(found)

    def page(self, conn: Connection, *, after: tuple[bytes, bytes] | None, limit: int) -> list[PersonBan]:
        """Return up to ``limit`` bars that follow person and licence, in their order, for checks."""
        query = self._all.limit(limit)
        if after is not None:
            query = query.where(tuple_(self._table.c.person_key, self._table.c.license_id) > tuple_(*after))
        return [PersonBan(*row) for row in conn.execute(query)]

    def move(self, conn: Connection, source: bytes, target: bytes) -> None:
        """Have the bars of one tag stand under another."""
        held = self.of(conn, [source]).get(source, [])
        self.put(conn, {(source, ban.license_id): None for ban in held})
        self.put(conn, {(target, ban.license_id): replace(ban, person_key=target) for ban in held})

    def put(self, conn: Connection, bans: Mapping[tuple[bytes, bytes], PersonBan | None]) -> None:
        """Write what licences bring by (person, licence): a bar in place of the one before, or none any more."""
        gone = [{"person": person, "of": of} for (person, of), ban in sorted(bans.items()) if ban is None]
        if gone:
            table = self._table
            where = (table.c.person_key == bindparam("person"), table.c.license_id == bindparam("of"))
            conn.execute(table.delete().where(*where), gone)
        held = [ban.as_dict() for _, ban in sorted(bans.items()) if ban is not None]
        if held:
            statement = insert_for(conn.dialect.name, self._table)
            replaced = {c.name: statement.excluded[c.name] for c in self._table.c if not c.primary_key}
            keys = ["person_key", "license_id"]
            conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced), held)
