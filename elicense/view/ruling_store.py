"""The table of rulings, from when on each counted: the only SQL over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    bindparam,
    select,
)

from elicense.sql.database import insert_for
from elicense.view.history import LicenseRuling


def define_ruling_table(metadata: MetaData) -> Table:
    """Add ``license_ruling`` to ``metadata`` and return it."""
    return Table(
        "license_ruling",
        metadata,
        Column("license_id", LargeBinary(16), nullable=False),
        Column("person_key", LargeBinary(16), nullable=False),
        Column("decided_us", BigInteger, nullable=False),
        Column("before", SmallInteger, nullable=False),
        Column("after", SmallInteger, nullable=False),
        PrimaryKeyConstraint("license_id", "person_key", "decided_us"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )


class RulingStore:
    """Reads and writes rulings inside a caller's transaction.

    Args:
        table: From :func:`define_ruling_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns = [table.c[name] for name in LicenseRuling.__dataclass_fields__]
        self._of = select(*columns).where(table.c.license_id.in_(bindparam("ids", expanding=True)))

    def add(self, conn: Connection, rulings: Sequence[LicenseRuling]) -> None:
        """Keep rulings; of two at one instant the later word stands."""
        if not rulings:
            return
        statement = insert_for(conn.dialect.name, self._table)
        upsert = statement.on_conflict_do_update(
            index_elements=["license_id", "person_key", "decided_us"], set_={"after": statement.excluded.after}
        )
        ordered = sorted(rulings, key=lambda ruling: (ruling.license_id, ruling.person_key, ruling.decided_us))
        conn.execute(upsert, [ruling.as_dict() for ruling in ordered])

    def of(self, conn: Connection, license_ids: Iterable[bytes]) -> dict[tuple[bytes, bytes], list[LicenseRuling]]:
        """Return the rulings on every licence with one of these ids, by person and id; one without is absent."""
        found: dict[tuple[bytes, bytes], list[LicenseRuling]] = defaultdict(list)
        for row in conn.execute(self._of, {"ids": list(license_ids)}):
            ruling = LicenseRuling(*row)
            found[ruling.person_key, ruling.license_id].append(ruling)
        return dict(found)

    def move(self, conn: Connection, license_ids: Iterable[bytes], source: bytes, target: bytes) -> None:
        """Have the rulings on licences of one tag stand under another."""
        held = self.of(conn, license_ids)
        for (person_key, license_id), rulings in held.items():
            if person_key == source:
                self.remove(conn, source, license_id)
                self.add(conn, [replace(ruling, person_key=target) for ruling in rulings])

    def remove(self, conn: Connection, person_key: bytes, license_id: bytes) -> None:
        """Forget the rulings on a licence; without effect when there is none."""
        c = self._table.c
        conn.execute(self._table.delete().where(c.license_id == license_id, c.person_key == person_key))

    def licenses(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` licences behind ``after`` that have rulings, in order, for checks."""
        column = self._table.c.license_id
        query = select(column).where(column > after).distinct().order_by(column).limit(limit)
        return list(conn.execute(query).scalars())

    def all(self, conn: Connection) -> list[LicenseRuling]:
        """Return every ruling, for looks at small stores."""
        table = self._table
        columns = [table.c[name] for name in LicenseRuling.__dataclass_fields__]
        query = select(*columns).order_by(table.c.license_id, table.c.person_key, table.c.decided_us)
        return [LicenseRuling(*row) for row in conn.execute(query)]
