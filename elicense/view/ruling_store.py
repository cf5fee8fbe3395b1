"""The table of rulings, from when on each counted: the only SQL over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

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
        Column("decided_us", BigInteger, nullable=False),
        Column("before", SmallInteger, nullable=False),
        Column("after", SmallInteger, nullable=False),
        PrimaryKeyConstraint("license_id", "decided_us"),
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
        self._all = select(*columns).order_by(table.c.license_id, table.c.decided_us)

    def add(self, conn: Connection, rulings: Sequence[LicenseRuling]) -> None:
        """Keep rulings; of two at one instant the later word stands."""
        if not rulings:
            return
        statement = insert_for(conn.dialect.name, self._table)
        upsert = statement.on_conflict_do_update(
            index_elements=["license_id", "decided_us"], set_={"after": statement.excluded.after}
        )
        ordered = sorted(rulings, key=lambda ruling: (ruling.license_id, ruling.decided_us))
        conn.execute(upsert, [ruling.as_dict() for ruling in ordered])

    def of(self, conn: Connection, license_ids: Iterable[bytes]) -> dict[bytes, list[LicenseRuling]]:
        """Return the rulings on each licence; one without is absent."""
        found: dict[bytes, list[LicenseRuling]] = defaultdict(list)
        for row in conn.execute(self._of, {"ids": list(license_ids)}):
            found[row[0]].append(LicenseRuling(*row))
        return dict(found)

    def all(self, conn: Connection) -> list[LicenseRuling]:
        """Return every ruling, for checks of small stores."""
        return [LicenseRuling(*row) for row in conn.execute(self._all)]
