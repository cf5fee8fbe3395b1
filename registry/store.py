"""The registry's tables and their queries: the only SQL of the registry besides logs, view and trust."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

from elicense.access.store import AccessStore, define_access_table
from elicense.log.store import LogKey, LogStore, define_log_tables
from elicense.quota.store import QuotaStore, define_quota_table
from elicense.sql.bulk import BulkInsert
from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from elicense.sql.row import values_of
from elicense.trust.store import TrustStore, define_trust_tables
from elicense.view.links import PersonLink
from elicense.view.ruling_store import RulingStore, define_ruling_table
from elicense.view.store import ViewStore, define_view_tables
from elicense.workers.lease_store import LeaseStore, define_lease_table
from registry.access_store import AccessIndexStore, define_access_index_tables
from registry.ban_store import BanStore, define_ban_table
from registry.claim_store import ClaimStore, define_claim_table
from registry.conflict_store import ConflictStore, define_conflict_tables
from registry.custody_store import CustodyStore, define_custody_table
from registry.evidence_store import EvidenceStore, define_evidence_table
from registry.feed_store import FeedStore, define_feed_tables
from registry.model import City, CityState, Pending, PublishedHead
from registry.place_pages import PlacePages
from registry.postponed_store import PostponedStore, define_postponed_table
from registry.quarantine_store import QuarantineStore, define_quarantine_table
from registry.told_store import ToldStore, define_told_tables
from registry.transfer_store import TransferStore, define_transfer_tables

_VKEY_LENGTH: Final = 400
#: Places that one query looks up: three numbers each.
_MAX_PLACES: Final = 1_000

metadata = MetaData()
_log_tables = define_log_tables(metadata)
_view_tables = define_view_tables(metadata)
_trust_tables = define_trust_tables(metadata)
_quota_table = define_quota_table(metadata)
_lease_table = define_lease_table(metadata)
_ruling_table = define_ruling_table(metadata)
_ban_table = define_ban_table(metadata)
_transfer_tables = define_transfer_tables(metadata)
_conflict_tables = define_conflict_tables(metadata)
_quarantine_table = define_quarantine_table(metadata)
_told_tables = define_told_tables(metadata)
_postponed_table = define_postponed_table(metadata)
_custody_table = define_custody_table(metadata)
_claim_table = define_claim_table(metadata)
_feed_tables = define_feed_tables(metadata)
_evidence_table = define_evidence_table(metadata)

city_table = Table(
    "city",
    metadata,
    Column("city", Integer, nullable=False, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("log_key", String(_VKEY_LENGTH), nullable=False),
    Column("enrolled_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("city", "epoch"),
    info={"dist": "city"},
)

state_table = Table(
    "city_state",
    metadata,
    Column("city", Integer, nullable=False, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("next_index", BigInteger, nullable=False),
    Column("tip_size", BigInteger, nullable=False),
    Column("city_clock_us", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("as_of_us", BigInteger, nullable=False),
    Column("awaited_size", BigInteger, nullable=False),
    Column("awaited_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("city"),
    info={"dist": "city"},
)

pending_table = Table(
    "pending_decision",
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

published_table = Table(
    "published_head",
    metadata,
    Column("log", Integer, nullable=False, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("published_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("log", "epoch"),
    info={"dist": "log"},
    sqlite_with_rowid=False,
)

_state_values = values_of(CityState)
_pending_values = values_of(Pending)

#: The access log has a database of its own.
access_metadata = MetaData()
_access_table = define_access_table(access_metadata)
_access_index_tables = define_access_index_tables(access_metadata)


def access_store() -> AccessIndexStore:
    """Return the queries of the access log."""
    return AccessIndexStore(AccessStore(_access_table), _access_index_tables)


class RegistryStore:
    """Queries of the registry, each inside a caller's transaction.

    Attributes:
        logs: The city logs and the registry's own log.
        view: The national view.
        bans: Bars from applying anew.
        conflicts: Conflicts between two licences of one person.
        quarantines: Cities whose logs are not taken in.
        rulings: From when on decisions changed what a licence counts for.
        trust: Active certificates and join tokens.
        quota: How much of verifiers' quotas is leased.
        lease: Which process does what one alone must do.
        transfers: Hand-overs between cities.
        told: What cities signed that they know.
        postponed: Erasures that wait until the registry holds its own log again.
        custody: Where decisions about custody lie.
        claims: Which city has which person.
        feeds: What each city is told of its records.
        evidence: What shows that a city broke the rules.
    """

    def __init__(self) -> None:
        self.logs = LogStore(_log_tables)
        self.view = ViewStore(*_view_tables)
        self.bans = BanStore(_ban_table)
        self.conflicts = ConflictStore(*_conflict_tables)
        self.quarantines = QuarantineStore(_quarantine_table)
        self.rulings = RulingStore(_ruling_table)
        self.trust = TrustStore(_trust_tables)
        self.quota = QuotaStore(_quota_table)
        self.lease = LeaseStore(_lease_table)
        self.transfers = TransferStore(*_transfer_tables)
        self.told = ToldStore(*_told_tables)
        self.postponed = PostponedStore(_postponed_table)
        self.custody = CustodyStore(_custody_table)
        self.claims = ClaimStore(_claim_table)
        self.feeds = FeedStore(*_feed_tables)
        self.evidence = EvidenceStore(_evidence_table)
        self._add_pending = BulkInsert(pending_table)
        self._pending_pages = PlacePages([pending_table.c[name] for name in Pending.__dataclass_fields__])
        self._states = select(*[state_table.c[name] for name in CityState.__dataclass_fields__])
        self._state = FixedStatement(self._states.where(state_table.c.city == bindparam("code")))
        self._all_states = FixedStatement(self._states)
        self._put_state = BulkInsert(state_table, replace=True)
        self._cities = select(*[city_table.c[name] for name in City.__dataclass_fields__])
        self._open_epoch = FixedStatement(
            self._cities.where(city_table.c.city == bindparam("code")).order_by(city_table.c.epoch.desc()).limit(1)
        )

    def cities(self, conn: Connection) -> list[City]:
        """Return every epoch of every enrolled city, in order."""
        query = self._cities.order_by(city_table.c.city, city_table.c.epoch)
        return [City(*row) for row in conn.execute(query)]

    def epochs(self, conn: Connection, code: int) -> list[City]:
        """Return every epoch of a city, in order; none when it is not enrolled."""
        query = self._cities.where(city_table.c.city == code).order_by(city_table.c.epoch)
        return [City(*row) for row in conn.execute(query)]

    def city(self, conn: Connection, code: int) -> City | None:
        """Return the open epoch of a city, or None when it is not enrolled."""
        row = self._open_epoch.first(conn, {"code": code})
        return None if row is None else City(*row)

    def add_city(self, conn: Connection, city: City) -> None:
        """Insert an epoch of a city."""
        conn.execute(city_table.insert(), [city.as_dict()])

    def states(self, conn: Connection) -> list[CityState]:
        """Return the replication state of every city that was ever heard."""
        return [CityState(*row) for row in self._all_states.all(conn)]

    def state(self, conn: Connection, city: int) -> CityState | None:
        """Return the replication state of a city, or None when it was never heard."""
        row = self._state.first(conn, {"code": city})
        return None if row is None else CityState(*row)

    def put_state(self, conn: Connection, state: CityState) -> None:
        """Insert or replace the replication state of a city."""
        self._put_state.execute(conn, [_state_values(state)])

    @staticmethod
    def has_one_writer(conn: Connection) -> bool:
        """Tell whether nobody else can write until the transaction ends, so that nothing needs to be read twice."""
        return conn.dialect.name == "sqlite"

    def unite(self, conn: Connection, link: PersonLink) -> None:
        """Have a person be known under another tag; their claim, a lease that led there, is used up."""
        source, target = link.person_key, link.first_key
        waiting = pending_table
        self.claims.drop(conn, source)
        conn.execute(waiting.update().where(waiting.c.person_key == source).values(person_key=target))
        self.bans.move(conn, source, target)
        moved = [row.license_id for row in self.view.by_person(conn, [source]).get(source, ())]
        self.rulings.move(conn, moved, source, target)
        self.conflicts.move(conn, source, target)
        self.transfers.move(conn, moved, source, target)
        self.view.unite(conn, link)

    def add_pending(self, conn: Connection, pending: Sequence[Pending]) -> None:
        """Remember licences that wait for a decision."""
        self._add_pending.execute(conn, [_pending_values(waiting) for waiting in pending])

    def pending(self, conn: Connection, *, limit: int, after: Pending | None = None) -> list[Pending]:
        """Return licences that wait for a decision, each city's in log order, from behind ``after`` on."""
        place = None if after is None else (after.city, after.epoch, after.idx)
        return [Pending(*row) for row in self._pending_pages.read(conn, after=place, limit=limit)]

    def still_pending(self, conn: Connection, pending: Sequence[Pending]) -> list[Pending]:
        """Return those of ``pending`` that have not been decided meanwhile."""
        return self.pending_at(conn, [(waiting.city, waiting.epoch, waiting.idx) for waiting in pending])

    def pending_at(self, conn: Connection, places: Iterable[tuple[int, int, int]]) -> list[Pending]:
        """Return what waits for a decision of the records at city, epoch and index."""
        table, wanted = pending_table, sorted(places)
        columns = [table.c[name] for name in Pending.__dataclass_fields__]
        found: list[Pending] = []
        for start in range(0, len(wanted), _MAX_PLACES):
            part = wanted[start : start + _MAX_PLACES]
            query = select(*columns).where(tuple_(table.c.city, table.c.epoch, table.c.idx).in_(part))
            found += [Pending(*row) for row in conn.execute(query)]
        return found

    def end_pending(self, conn: Connection, pending: Sequence[Pending]) -> None:
        """Forget licences that have been decided."""
        if not pending:
            return
        table = pending_table
        statement = table.delete().where(
            table.c.city == bindparam("of_city"),
            table.c.epoch == bindparam("of_epoch"),
            table.c.idx == bindparam("of_idx"),
        )
        keys = [{"of_city": done.city, "of_epoch": done.epoch, "of_idx": done.idx} for done in pending]
        conn.execute(statement, keys)

    def published(self, conn: Connection) -> list[PublishedHead]:
        """Return how far each log is public, in order."""
        table = published_table
        query = select(*[table.c[name] for name in PublishedHead.__dataclass_fields__])
        return [PublishedHead(*row) for row in conn.execute(query.order_by(table.c.log, table.c.epoch))]

    def published_size(self, conn: Connection, key: LogKey) -> int:
        """Return how many entries of a log are public."""
        table = published_table
        query = select(table.c.size).where(table.c.log == key.log, table.c.epoch == key.epoch)
        return conn.execute(query).scalar() or 0

    def put_published(self, conn: Connection, heads: Sequence[PublishedHead]) -> None:
        """Move on how far logs are public."""
        if not heads:
            return
        statement = insert_for(conn.dialect.name, published_table)
        replaced = {c.name: statement.excluded[c.name] for c in published_table.c if not c.primary_key}
        upsert = statement.on_conflict_do_update(index_elements=["log", "epoch"], set_=replaced)
        conn.execute(upsert, [head.as_dict() for head in heads])
