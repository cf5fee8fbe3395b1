"""The registry's tables of hand-overs and their queries: what waits for a decision, and what is offered to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    Table,
    bindparam,
    select,
    tuple_,
)

from elicense.sql.bulk import BulkLookup
from registry.place_pages import PlacePages
from registry.transfer_model import Arrival, OpenOffer

_MAX_KEYS: Final = 4_000


def define_transfer_tables(metadata: MetaData) -> tuple[Table, Table]:
    """Add ``pending_transfer`` and ``transfer_offer`` to ``metadata`` and return them."""
    pending = Table(
        "pending_transfer",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("entry_hash", LargeBinary(32), nullable=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("person_key", LargeBinary(16), nullable=False),
        PrimaryKeyConstraint("city", "epoch", "idx"),
        info={"dist": "city"},
    )
    offer = Table(
        "transfer_offer",
        metadata,
        Column("to_city", Integer, nullable=False, autoincrement=False),
        Column("license_id", LargeBinary(16), nullable=False),
        Column("from_city", Integer, nullable=False, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("offered_us", BigInteger, nullable=False),
        Column("person_key", LargeBinary(16), nullable=False),
        PrimaryKeyConstraint("to_city", "license_id", "from_city"),
        info={"dist": "to_city"},
    )
    Index("transfer_offer_license", offer.c.license_id)
    return pending, offer


class TransferStore:
    """Queries of hand-overs, each inside a caller's transaction.

    Args:
        pending: The table ``pending_transfer``.
        offer: The table ``transfer_offer``.
    """

    def __init__(self, pending: Table, offer: Table) -> None:
        self._pending = pending
        self._offer = offer
        arrival = [pending.c[name] for name in Arrival.__dataclass_fields__]
        self._arrivals = select(*arrival)
        self._arrival_pages = PlacePages(arrival)
        self._arrivals_of = BulkLookup(arrival, pending.c.license_id)
        self._locked_arrivals_of = BulkLookup(arrival, pending.c.license_id, ordered_lock=True)
        offered = [offer.c[name] for name in OpenOffer.__dataclass_fields__]
        self._offers = select(*offered)
        self._offers_of = BulkLookup(offered, offer.c.license_id)
        self._end_offers = offer.delete().where(
            offer.c.license_id.in_(bindparam("license_ids", expanding=True)), offer.c.from_city == bindparam("of_city")
        )

    def add_arrivals(self, conn: Connection, arrivals: Sequence[Arrival]) -> None:
        """Remember take-overs that wait for a decision."""
        if arrivals:
            conn.execute(self._pending.insert(), [arrival.as_dict() for arrival in arrivals])

    def arrivals(self, conn: Connection, *, limit: int, after: Arrival | None = None) -> list[Arrival]:
        """Return take-overs that wait, each city's in log order, from behind ``after`` on."""
        place = None if after is None else (after.city, after.epoch, after.idx)
        return [Arrival(*row) for row in self._arrival_pages.read(conn, after=place, limit=limit)]

    def arrivals_of(self, conn: Connection, license_ids: Iterable[bytes], *, lock: bool = False) -> list[Arrival]:
        """Return the take-overs of these licences that wait, whosever they are; with ``lock`` none that is decided."""
        lookup = self._locked_arrivals_of if lock else self._arrivals_of
        return [Arrival(*row) for row in lookup.execute(conn, license_ids)]

    def still_waiting(self, conn: Connection, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Return those of ``arrivals`` that have not been decided meanwhile, in their order."""
        if not arrivals:
            return []
        table = self._pending
        keys = [(arrival.city, arrival.epoch, arrival.idx) for arrival in arrivals]
        query = self._arrivals.where(tuple_(table.c.city, table.c.epoch, table.c.idx).in_(keys))
        open_ = {Arrival(*row) for row in conn.execute(query)}
        return [arrival for arrival in arrivals if arrival in open_]

    def end_arrivals(self, conn: Connection, arrivals: Sequence[Arrival]) -> None:
        """Forget take-overs that have been decided."""
        if not arrivals:
            return
        table = self._pending
        statement = table.delete().where(
            table.c.city == bindparam("of_city"),
            table.c.epoch == bindparam("of_epoch"),
            table.c.idx == bindparam("of_idx"),
        )
        conn.execute(statement, [{"of_city": a.city, "of_epoch": a.epoch, "of_idx": a.idx} for a in arrivals])

    def set_offers(self, conn: Connection, from_city: int, offers: Mapping[bytes, OpenOffer | None]) -> None:
        """Replace what a city offers of licences; None ends an offer."""
        if not offers:
            return
        ordered = sorted(offers)
        for start in range(0, len(ordered), _MAX_KEYS):
            part = ordered[start : start + _MAX_KEYS]
            conn.execute(self._end_offers, {"license_ids": part, "of_city": from_city})
        made = [offer.as_dict() for license_id in ordered if (offer := offers[license_id]) is not None]
        if made:
            conn.execute(self._offer.insert(), made)

    def move(self, conn: Connection, license_ids: Iterable[bytes], source: bytes, target: bytes) -> None:
        """Have the take-overs of one tag, and the offers of its licences, stand under another."""
        p, o = self._pending, self._offer
        conn.execute(p.update().where(p.c.person_key == source).values(person_key=target))
        offered = o.c.license_id.in_(list(license_ids)) & (o.c.person_key == source)
        conn.execute(o.update().where(offered).values(person_key=target))

    def offer(self, conn: Connection, *, to_city: int, license_id: bytes, from_city: int) -> OpenOffer | None:
        """Return the open offer of one licence from one city, or from any with 0, to one city; or None."""
        c = self._offer.c
        query = self._offers.where(c.to_city == to_city, c.license_id == license_id)
        if from_city:
            query = query.where(c.from_city == from_city)
        row = conn.execute(query.order_by(c.from_city)).first()
        return None if row is None else OpenOffer(*row)

    def offers_of(self, conn: Connection, license_ids: Iterable[bytes]) -> list[OpenOffer]:
        """Return the open offers of these licences, whosever they are."""
        return [OpenOffer(*row) for row in self._offers_of.execute(conn, license_ids)]

    def offers(
        self, conn: Connection, *, to_city: int, person_key: bytes, after: tuple[bytes, int], limit: int
    ) -> list[OpenOffer]:
        """Return up to ``limit`` open offers to a city that follow a licence and its city; of one person if given."""
        c = self._offer.c
        key = (c.license_id, c.from_city)
        query = self._offers.where(c.to_city == to_city, tuple_(*key) > tuple_(*after))
        if person_key:
            query = query.where(c.person_key == person_key)
        return [OpenOffer(*row) for row in conn.execute(query.order_by(*key).limit(limit))]

    def offered(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` licences behind ``after`` that are offered, in order."""
        column = self._offer.c.license_id
        query = select(column).where(column > after).distinct().order_by(column).limit(limit)
        return list(conn.execute(query).scalars())
