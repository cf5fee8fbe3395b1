"""The city's tables and their queries: the only SQL of a city node besides logs, view and trust."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

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
    bindparam,
    func,
    select,
)

from city_node.transfer_store import HandOverStore, define_hand_over_table
from elicense.access.store import AccessStore, define_access_table
from elicense.log.store import LogKey, LogStore, define_log_tables
from elicense.quota.store import QuotaStore, define_quota_table
from elicense.sql.bulk import BulkInsert, BulkLookup
from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from elicense.sql.row import Row, values_of
from elicense.sql.single import Query
from elicense.trust.store import TrustStore, define_trust_tables
from elicense.v1 import replication_pb2
from elicense.view.store import ViewStore, define_view_tables
from elicense.workers.lease_store import LeaseStore, define_lease_table

_DETAIL_LENGTH: Final = 200
_VKEY_LENGTH: Final = 400
#: Kinds of dispositions that open a conflict and that end it.
_DISPUTED: Final = (replication_pb2.DISPOSITION_KIND_CONFLICT, replication_pb2.DISPOSITION_KIND_CONTESTED)
_ENDED: Final = (
    replication_pb2.DISPOSITION_KIND_CONFIRMED,
    replication_pb2.DISPOSITION_KIND_VOID,
    replication_pb2.DISPOSITION_KIND_STANDS,
)
_KEYS_PER_QUERY: Final = 2_000

#: The access log has a database of its own.
access_metadata = MetaData()
_access_table = define_access_table(access_metadata)

metadata = MetaData()
_log_tables = define_log_tables(metadata)
_view_tables = define_view_tables(metadata)
_trust_tables = define_trust_tables(metadata)
_quota_table = define_quota_table(metadata)
_lease_table = define_lease_table(metadata)
_hand_over_table = define_hand_over_table(metadata)

epoch_table = Table(
    "log_epoch",
    metadata,
    Column("log", Integer, nullable=False, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, autoincrement=False),
    Column("log_key", String(_VKEY_LENGTH), nullable=False),
    PrimaryKeyConstraint("log", "epoch"),
    info={"dist": "log"},
    sqlite_with_rowid=False,
)

request_table = Table(
    "issuing_request",
    metadata,
    Column("request_id", LargeBinary(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("license_id", LargeBinary(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    PrimaryKeyConstraint("request_id"),
    info={"dist": "request_id"},
    sqlite_with_rowid=False,
)

disposition_table = Table(
    "disposition",
    metadata,
    Column("city", Integer, nullable=False, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("license_id", LargeBinary(16), nullable=False),
    Column("detail", String(_DETAIL_LENGTH), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("other_city", Integer),
    PrimaryKeyConstraint("city", "seq"),
    info={"dist": "city"},
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class EpochKey(Row):
    """Which key signs an epoch of the city's log; fields in column order.

    Attributes:
        log: Division code.
        epoch: The epoch.
        log_key: Its public key, in C2SP vkey form.
    """

    log: int
    epoch: int
    log_key: str


@dataclass(frozen=True, slots=True)
class Request(Row):
    """What a request id came to; fields in column order.

    Attributes:
        request_id: UUID bytes.
        digest: SHA-256 of the request's meaning.
        license_id: Licence that it made or changed.
        epoch: Log epoch of the record.
        idx: Its index.
        size: Size of the log after the commit that holds it.
    """

    request_id: bytes
    digest: bytes
    license_id: bytes
    epoch: int
    idx: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredDisposition(Row):
    """The registry's word on one record, as the city keeps it; fields in column order.

    Attributes:
        city: Division code.
        seq: Number in the city's feed, from 1 without gaps.
        epoch: Epoch of the record.
        idx: Its index.
        kind: ``DispositionKind`` number.
        license_id: Licence; empty when the record can not be read.
        detail: One sentence for the clerk.
        received_us: When it arrived.
        other_city: The other city of a hand-over; 0, or None in a row of old, where there is none.
    """

    city: int
    seq: int
    epoch: int
    idx: int
    kind: int
    license_id: bytes
    detail: str
    received_us: int
    other_city: int | None = 0


RequestValues = tuple[bytes, bytes, bytes, int, int, int]
"""Columns of a :class:`Request`, in their order."""

_request_values = cast("Callable[[Request], RequestValues]", values_of(Request))


def access_store() -> AccessStore:
    """Return the queries of the access log."""
    return AccessStore(_access_table)


class CityStore:
    """Queries of a city node, each inside a caller's transaction.

    Attributes:
        logs: The city's log.
        view: The city's licences as they stand.
        trust: Active certificates and join tokens of the city's own people.
        quota: How much of verifiers' quotas is leased.
        lease: Which process does what one alone must do.
        hand_overs: Hand-overs that the city takes part in.
    """

    def __init__(self) -> None:
        self.logs = LogStore(_log_tables)
        self.view = ViewStore(*_view_tables)
        self.trust = TrustStore(_trust_tables)
        self.quota = QuotaStore(_quota_table)
        self.lease = LeaseStore(_lease_table)
        self.hand_overs = HandOverStore(_hand_over_table)
        columns = [request_table.c[name] for name in Request.__dataclass_fields__]
        self._requests = BulkLookup(columns, request_table.c.request_id)
        self._add_requests = BulkInsert(request_table)
        self._cursor = FixedStatement(
            select(func.max(disposition_table.c.seq)).where(disposition_table.c.city == bindparam("city"))
        )
        self._dispositions = FixedStatement(
            select(*[disposition_table.c[name] for name in StoredDisposition.__dataclass_fields__])
            .where(disposition_table.c.city == bindparam("of_city"), disposition_table.c.seq > bindparam("after"))
            .order_by(disposition_table.c.seq)
            .limit(bindparam("most", type_=Integer))
        )
        self._epochs = FixedStatement(
            select(*[epoch_table.c[name] for name in EpochKey.__dataclass_fields__])
            .where(epoch_table.c.log == bindparam("of_log"))
            .order_by(epoch_table.c.epoch)
        )

    def requests(self, conn: Connection, ids: Sequence[bytes]) -> dict[bytes, Request]:
        """Return what is known of these request ids, by id."""
        return self.requests_in(self._requests.execute(conn, ids))

    def requests_query(self, dialect: str, ids: Sequence[bytes]) -> Query:
        """Return the query for a few request ids, for those who need no transaction around it."""
        return self._requests.query(dialect, ids)

    @staticmethod
    def requests_in(rows: Iterable[Sequence[Any]]) -> dict[bytes, Request]:
        """Return the requests that such a query gave, by id."""
        return {row[0]: Request(*row) for row in rows}

    def add_requests(self, conn: Connection, requests: Sequence[Request]) -> None:
        """Insert request ids that have come to something."""
        self.add_request_values(conn, list(map(_request_values, requests)))

    def add_request_values(self, conn: Connection, requests: list[RequestValues]) -> None:
        """Like :meth:`add_requests`, for requests that are plain tuples, in any order; puts them into order."""
        requests.sort()
        self._add_requests.execute(conn, requests)

    def request_ids(self, conn: Connection, *, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` request ids behind ``after``, in order, for checks."""
        column = request_table.c.request_id
        return list(conn.execute(select(column).where(column > after).order_by(column).limit(limit)).scalars())

    def epoch_keys(self, conn: Connection, city: int) -> dict[int, EpochKey]:
        """Return the key of every epoch of the city's log, by epoch."""
        return {row[1]: EpochKey(*row) for row in self._epochs.all(conn, {"of_log": city})}

    def open_epoch(self, conn: Connection, key: EpochKey) -> None:
        """Open an empty log for an epoch, under its key; without effect when it exists."""
        self.logs.create(conn, LogKey(key.log, key.epoch))
        statement = insert_for(conn.dialect.name, epoch_table)
        conn.execute(statement.on_conflict_do_nothing(index_elements=["log", "epoch"]), [key.as_dict()])

    def remove_requests(self, conn: Connection, ids: Sequence[bytes]) -> None:
        """Forget request ids: what they hash could be guessed."""
        table = request_table
        for start in range(0, len(ids), _KEYS_PER_QUERY):
            conn.execute(table.delete().where(table.c.request_id.in_(list(ids[start : start + _KEYS_PER_QUERY]))))

    def disposition_cursor(self, conn: Connection, city: int) -> int:
        """Return the number of the last disposition that is stored; 0 before the first."""
        return self._cursor.scalar(conn, {"city": city}) or 0

    def unsettled(self, conn: Connection, city: int) -> tuple[int, int]:
        """Return how many of the city's licences another city disputes, and how many do not count because of one."""
        table = disposition_table
        kinds = (*_DISPUTED, *_ENDED)
        last = (
            select(table.c.license_id, func.max(table.c.seq).label("seq"))
            .where(table.c.city == city, table.c.kind.in_(kinds))
            .group_by(table.c.license_id)
            .subquery()
        )
        query = (
            select(table.c.kind, func.count())
            .join(last, (last.c.seq == table.c.seq) & (table.c.city == city))
            .group_by(table.c.kind)
        )
        counts: dict[int, int] = {row[0]: row[1] for row in conn.execute(query)}
        return counts.get(_DISPUTED[1], 0), counts.get(_DISPUTED[0], 0)

    def position(self, conn: Connection, city: int) -> Hashable:
        """Return a value that changes with every entry of the log and every word of the registry."""
        # The mirror of the registry's log grows all the time, and changes no licence.
        own = frozenset(size for size in self.logs.sizes(conn) if size[0] == city)
        return own, self.disposition_cursor(conn, city)

    def add_dispositions(self, conn: Connection, dispositions: Iterable[StoredDisposition]) -> None:
        """Append to the feed; its numbers must go on without a gap."""
        rows = [disposition.as_dict() for disposition in dispositions]
        if rows:
            conn.execute(disposition_table.insert(), rows)

    def dispositions(self, conn: Connection, city: int, *, after: int, limit: int) -> list[StoredDisposition]:
        """Return up to ``limit`` stored dispositions that follow number ``after``."""
        found = self._dispositions.all(conn, {"of_city": city, "after": after, "most": limit})
        return [StoredDisposition(*row) for row in found]

    def dispositions_at(self, conn: Connection, city: int, numbers: Iterable[int]) -> list[StoredDisposition]:
        """Return the stored dispositions of these numbers, in order."""
        table, wanted = disposition_table, sorted(set(numbers))
        columns = [table.c[name] for name in StoredDisposition.__dataclass_fields__]
        found: list[StoredDisposition] = []
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            part = table.c.seq.in_(wanted[start : start + _KEYS_PER_QUERY])
            query = select(*columns).where(table.c.city == city, part).order_by(table.c.seq)
            found += [StoredDisposition(*row) for row in conn.execute(query)]
        return found
