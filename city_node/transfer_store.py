"""The city's table of hand-overs: the only SQL over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
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
    or_,
    select,
    tuple_,
)

from elicense.sql.direct import FixedStatement
from elicense.sql.row import Row

DETAIL_LENGTH: Final = 200


class Direction(IntEnum):
    """Which way a licence moves; numbers as in the proto."""

    OUT = 1
    IN = 2
    LATE = 3
    """A notice: the city before changed the licence after the hand-over."""


class HandOverState(IntEnum):
    """How far a hand-over is; numbers as in the proto."""

    OPEN = 1
    DONE = 2
    WITHDRAWN = 3
    CANCELLED = 4
    REFUSED = 5
    RECALLED = 6
    """Withdrawn here; the registry has not confirmed that nobody was faster."""


@dataclass(frozen=True, slots=True)
class HandOver(Row):
    """A hand-over that this city takes part in; fields in column order.

    Attributes:
        license_id: UUID bytes.
        direction: :class:`Direction` number.
        city: City whose log holds the record: this one, or the other one of a notice.
        epoch: Epoch of the record of the offer or take-over, or of the late record.
        idx: Its index.
        other_city: The other city.
        state: :class:`HandOverState` number.
        updated_us: When that state was reached, by this node's clock.
        detail: The registry's word; may be empty.
    """

    license_id: bytes
    direction: int
    city: int
    epoch: int
    idx: int
    other_city: int
    state: int
    updated_us: int
    detail: str

    @property
    def place(self) -> tuple[bytes, int, int, int, int]:
        """What tells it from every other hand-over."""
        return self.license_id, self.direction, self.city, self.epoch, self.idx


def define_hand_over_table(metadata: MetaData) -> Table:
    """Add ``hand_over`` to ``metadata`` and return it."""
    table = Table(
        "hand_over",
        metadata,
        Column("license_id", LargeBinary(16), nullable=False),
        Column("direction", SmallInteger, nullable=False),
        Column("city", Integer, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("idx", BigInteger, nullable=False),
        Column("other_city", Integer, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("updated_us", BigInteger, nullable=False),
        Column("detail", String(DETAIL_LENGTH), nullable=False),
        PrimaryKeyConstraint("license_id", "direction", "city", "epoch", "idx"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )
    Index("hand_over_state", table.c.state, table.c.updated_us)
    return table


class HandOverStore:
    """Reads and writes hand-overs inside a caller's transaction.

    Args:
        table: From :func:`define_hand_over_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._select = select(*[table.c[name] for name in HandOver.__dataclass_fields__])
        self._of_license = FixedStatement(self._select.where(table.c.license_id == bindparam("license_id")))
        self._recalled = FixedStatement(self._select.where(table.c.state == int(HandOverState.RECALLED)))

    def add(self, conn: Connection, hand_overs: Sequence[HandOver]) -> None:
        """Insert hand-overs."""
        if hand_overs:
            conn.execute(self._table.insert(), [hand_over.as_dict() for hand_over in hand_overs])

    def end_offer(self, conn: Connection, license_id: bytes, state: HandOverState, *, now_us: int) -> None:
        """End the open offer of a licence, if there is one."""
        c = self._table.c
        conn.execute(
            self._table.update()
            .where(c.license_id == license_id, c.direction == int(Direction.OUT), c.state == int(HandOverState.OPEN))
            .values(state=int(state), updated_us=now_us)
        )

    def depart(self, conn: Connection, license_id: bytes, last: tuple[int, int], *, now_us: int) -> bool:
        """Note that a licence was taken over: the offer up to ``last`` (epoch, index) is done, later ones are void.

        Returns:
            Whether that was not noted before.
        """
        offers = [each for each in self.of_license(conn, license_id) if each.direction == Direction.OUT]
        taken = max((each for each in offers if (each.epoch, each.idx) <= last), key=_place, default=None)
        if taken is not None and taken.state == HandOverState.DONE:
            return False
        for each in offers:
            if each is taken:
                state = HandOverState.DONE
            elif (each.epoch, each.idx) > last and each.state in (HandOverState.OPEN, HandOverState.RECALLED):
                state = HandOverState.WITHDRAWN
            else:
                continue
            self.set_state(conn, each, state, now_us=now_us)
        return True

    def set_state(self, conn: Connection, hand_over: HandOver, state: HandOverState, *, now_us: int) -> None:
        """Note how far one hand-over is."""
        c = self._table.c
        columns = (c.license_id, c.direction, c.city, c.epoch, c.idx)
        conn.execute(
            self._table.update()
            .where(*[column == value for column, value in zip(columns, hand_over.place, strict=True)])
            .values(state=int(state), updated_us=now_us)
        )

    def recalled(self, conn: Connection) -> list[HandOver]:
        """Return the offers that were withdrawn here and wait for the registry to confirm it."""
        return [HandOver(*row) for row in self._recalled.all(conn)]

    def end_take_over(
        self, conn: Connection, place: tuple[bytes, int, int], state: HandOverState, *, detail: str, now_us: int
    ) -> None:
        """Note what the registry decided on a take-over, by licence, epoch and index."""
        c = self._table.c
        license_id, epoch, index = place
        conn.execute(
            self._table.update()
            .where(c.license_id == license_id, c.direction == int(Direction.IN), c.epoch == epoch, c.idx == index)
            .values(state=int(state), updated_us=now_us, detail=detail)
        )

    def acknowledge(self, conn: Connection, license_id: bytes, place: tuple[int, int, int], *, now_us: int) -> bool:
        """End the notice of a record at city, epoch and index; False when there is none, ended or not."""
        c = self._table.c
        city, epoch, index = place
        of_record = (c.city == city, c.epoch == epoch, c.idx == index)
        notice = (c.license_id == license_id, c.direction == int(Direction.LATE), *of_record)
        ended = self._table.update().where(*notice, c.state == int(HandOverState.OPEN))
        conn.execute(ended.values(state=int(HandOverState.DONE), updated_us=now_us))
        return conn.execute(select(c.state).where(*notice)).first() is not None

    def of_license(self, conn: Connection, license_id: bytes) -> list[HandOver]:
        """Return every hand-over of one licence."""
        return [HandOver(*row) for row in self._of_license.all(conn, {"license_id": license_id})]

    def of_licenses(self, conn: Connection, license_ids: Sequence[bytes]) -> list[HandOver]:
        """Return every hand-over of these licences, some thousands at most."""
        if not license_ids:
            return []
        return [HandOver(*row) for row in conn.execute(self._select.where(self._table.c.license_id.in_(license_ids)))]

    def licenses(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` licences behind ``after`` that have hand-overs, in order, for checks."""
        column = self._table.c.license_id
        query = select(column).where(column > after).distinct().order_by(column).limit(limit)
        return list(conn.execute(query).scalars())

    def state_of(self, conn: Connection, place: tuple[bytes, int, int]) -> HandOverState | None:
        """Return how far a take-over is, by licence, epoch and index; None when there is none."""
        license_id, epoch, index = place
        for each in self.of_license(conn, license_id):
            if (each.direction, each.epoch, each.idx) == (Direction.IN, epoch, index):
                return HandOverState(each.state)
        return None

    def arriving(self, conn: Connection, license_id: bytes) -> bool:
        """Whether a take-over of a licence waits for the registry's word."""
        open_ = int(HandOverState.OPEN)
        return any(each.direction == Direction.IN and each.state == open_ for each in self.of_license(conn, license_id))

    def page(
        self, conn: Connection, *, since_us: int, before: tuple[int, bytes, int, int] | None, limit: int
    ) -> list[HandOver]:
        """Return open hand-overs and those that changed since ``since_us``, the newest first.

        Args:
            conn: The transaction.
            since_us: Open ones are listed however old they are.
            before: Time, licence, direction and index of the last one of the page before.
            limit: At most this many.
        """
        c = self._table.c
        key = (c.updated_us, c.license_id, c.direction, c.idx)
        waiting = c.state.in_((int(HandOverState.OPEN), int(HandOverState.RECALLED)))
        query = self._select.where(or_(waiting, c.updated_us >= since_us))
        if before is not None:
            query = query.where(tuple_(*key) < tuple_(*before))
        return [HandOver(*row) for row in conn.execute(query.order_by(*[each.desc() for each in key]).limit(limit))]

    def all(self, conn: Connection) -> list[HandOver]:
        """Return every hand-over, for checks of small stores."""
        return [HandOver(*row) for row in conn.execute(self._select)]


def _place(hand_over: HandOver) -> tuple[int, int]:
    return hand_over.epoch, hand_over.idx
