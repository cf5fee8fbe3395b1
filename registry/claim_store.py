"""The table of claims, which city has which person: the only SQL over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

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
    select,
)

from elicense.sql.bulk import BulkInsert, BulkLookup, BulkMark, BulkUpdate
from elicense.sql.row import values_of
from registry.model import Claim, ClaimState

_claim_values = values_of(Claim)
_HELD: Final = int(ClaimState.HELD)
_RELEASED: Final = int(ClaimState.RELEASED)
#: A standing claim that its own city, or any after a release, may write over.
_OWN_OR_RELEASED: Final = f"claim.city = excluded.city OR claim.state = {_RELEASED}"
#: A city's lease of a person who has no licence.
_FREE_LEASE: Final = (
    f"claim.city = ? AND claim.state = {int(ClaimState.LEASED)}"  # noqa: S608  # our own names, no data
    " AND NOT EXISTS (SELECT 1 FROM license_view WHERE license_view.person_key = claim.person_key)"
)


def define_claim_table(metadata: MetaData) -> Table:
    """Add ``claim`` to ``metadata`` and return it."""
    return Table(
        "claim",
        metadata,
        Column("person_key", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("request_id", String(36), nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("lease_end_us", BigInteger, nullable=False),
        Column("registry_epoch", BigInteger, nullable=False),
        Column("registry_index", BigInteger, nullable=False),
        PrimaryKeyConstraint("person_key"),
        info={"dist": "person_key"},
        sqlite_with_rowid=False,
    )


class ClaimStore:
    """Queries over claims, each inside a caller's transaction.

    Args:
        table: From :func:`define_claim_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        claims = [table.c[name] for name in Claim.__dataclass_fields__]
        self._claims = BulkLookup(claims, table.c.person_key)
        self._locked_claims = BulkLookup(claims, table.c.person_key, ordered_lock=True)
        self._acquire = BulkInsert(table, replace=True, only_if=_OWN_OR_RELEASED)
        values = tuple(name for name in Claim.__dataclass_fields__ if name != "person_key")
        self._take_over = BulkUpdate(table, values=values, found_by=("person_key", "city", "state"))
        self._take_from = BulkUpdate(table, values=values, found_by=("person_key", "license_id", "state"))
        self._hold = BulkUpdate(table, values=("state", "license_id"), found_by=("person_key", "city"))
        self._release = BulkUpdate(table, values=("state",), found_by=("person_key", "city", "license_id", "state"))
        used = (table.c.person_key, table.c.license_id)
        self._use = BulkMark(used, table.c.person_key, changes=f"state = {_HELD}", condition=_FREE_LEASE)

    def of(self, conn: Connection, keys: Iterable[bytes], *, lock: bool = False) -> dict[bytes, Claim]:
        """Return the claims of persons, by person; ``lock`` keeps others from changing them, in key order."""
        lookup = self._locked_claims if lock else self._claims
        return {row[0]: Claim(*row) for row in lookup.execute(conn, keys)}

    def page(self, conn: Connection, *, after: bytes, limit: int) -> list[Claim]:
        """Return up to ``limit`` claims of persons behind ``after``, in order of person."""
        query = select(*[self._table.c[name] for name in Claim.__dataclass_fields__])
        query = query.where(self._table.c.person_key > after).order_by(self._table.c.person_key).limit(limit)
        return [Claim(*row) for row in conn.execute(query)]

    def acquire(
        self,
        conn: Connection,
        wanted: Sequence[Claim],
        *,
        lapsed: Mapping[bytes, int],
        over: Mapping[bytes, bytes] | None = None,
    ) -> dict[bytes, Claim]:
        """Write claims by compare-and-set and return what then holds, by person.

        A claim is written when nobody holds the person or it was released, when
        the same city does, over a lease named in ``lapsed`` (person to city) while that
        city still has nothing but the lease, or over the hold of a licence named in ``over``
        (person to licence).  Rows are taken in key order, so that two writers seldom deadlock.
        """
        if not wanted:
            return {}
        ordered = sorted(wanted, key=lambda claim: claim.person_key)
        self._take_over.execute(
            conn,
            [
                (*_claim_values(claim)[1:], claim.person_key, lapsed[claim.person_key], int(ClaimState.LEASED))
                for claim in ordered
                if claim.person_key in lapsed
            ],
        )
        past = over or {}
        self._take_from.execute(
            conn,
            [
                (*_claim_values(claim)[1:], claim.person_key, past[claim.person_key], int(ClaimState.HELD))
                for claim in ordered
                if claim.person_key in past
            ],
        )
        # What was taken over stands under its new city by now, and is written once more.
        if self._acquire.execute(conn, [_claim_values(claim) for claim in ordered]) == len(ordered):
            return {claim.person_key: claim for claim in ordered}
        return self.of(conn, [claim.person_key for claim in ordered])

    def hold(self, conn: Connection, city: int, holds: Mapping[bytes, bytes]) -> None:
        """Turn a city's leases into holds, now that records use them; ``holds`` maps person to licence."""
        self._hold.execute(conn, [(_HELD, used_by, key, city) for key, used_by in sorted(holds.items())])

    def use_leases(self, conn: Connection, city: int, persons: Iterable[bytes]) -> dict[bytes, bytes]:
        """Turn those leases of a city into holds whose person has no licence.

        One statement looks and writes, however many there are: this is how nearly every licence comes in.

        Returns:
            The persons, each with the licence for which they were claimed.
        """
        return {row[0]: row[1] for row in self._use.execute(conn, persons, city)}

    def release(self, conn: Connection, city: int, releases: Mapping[bytes, bytes]) -> None:
        """Release persons whom a city held for licences that are cancelled now; ``releases`` maps person to licence."""
        self._release.execute(conn, [(_RELEASED, key, city, of, _HELD) for key, of in sorted(releases.items())])

    def forget(self, conn: Connection, person_key: bytes, license_id: bytes) -> None:
        """Delete a claim that was released, with the licence that it was for."""
        table = self._table
        conn.execute(
            table.delete().where(
                table.c.person_key == person_key,
                table.c.license_id == license_id,
                table.c.state == int(ClaimState.RELEASED),
            )
        )

    def move(self, conn: Connection, person_key: bytes, license_id: bytes, *, source: int, target: int) -> bool:
        """Give a person whom one city holds to another, with the licence; False when that city does not hold it."""
        table = self._table
        statement = (
            table.update()
            .where(
                table.c.person_key == person_key,
                table.c.city == source,
                table.c.license_id == license_id,
                table.c.state == int(ClaimState.HELD),
            )
            .values(city=target)
        )
        return conn.execute(statement).rowcount == 1

    def drop(self, conn: Connection, person_key: bytes) -> None:
        """Delete a person's claim, whatever it is."""
        conn.execute(self._table.delete().where(self._table.c.person_key == person_key))
