"""The registry's tables and their queries: the only SQL of the registry besides logs, view and trust."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    func,
    select,
    tuple_,
)

from elicense.access.store import AccessStore, define_access_table
from elicense.log.store import LogKey, LogStore, define_log_tables
from elicense.quota.store import QuotaStore, define_quota_table
from elicense.sql.bulk import BulkInsert, BulkLookup, BulkMark, BulkUpdate
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
from registry.conflict_store import ConflictStore, define_conflict_tables
from registry.custody_store import CustodyStore, define_custody_table
from registry.model import City, CityState, Claim, ClaimState, NotedDisposition, Pending, PublishedHead
from registry.postponed_store import PostponedStore, define_postponed_table
from registry.quarantine_model import Quarantine
from registry.quarantine_store import QuarantineStore, define_quarantine_table
from registry.told_store import ToldStore, define_told_tables
from registry.transfer_store import TransferStore, define_transfer_tables

_DETAIL_LENGTH: Final = 200
_VKEY_LENGTH: Final = 400
#: Places that one query looks up: three numbers each.
_MAX_PLACES: Final = 1_000
#: Objects of one kind kept as evidence against one city.
EVIDENCE_PER_REASON: Final = 16

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

claim_table = Table(
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

feed_table = Table(
    "disposition_feed",
    metadata,
    Column("city", Integer, nullable=False, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("city"),
    info={"dist": "city"},
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
    Column("other_city", Integer),
    PrimaryKeyConstraint("city", "seq"),
    info={"dist": "city"},
)
Index("disposition_license", disposition_table.c.license_id)

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

evidence_table = Table(
    "evidence",
    metadata,
    Column("city", Integer, nullable=False, autoincrement=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("reason", String(63), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("noted_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("city", "digest"),
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

_claim_values = values_of(Claim)
_state_values = values_of(CityState)
_disposition_values = values_of(NotedDisposition)
_pending_values = values_of(Pending)
_HELD: Final = int(ClaimState.HELD)
_RELEASED: Final = int(ClaimState.RELEASED)
#: A standing claim that its own city, or any after a release, may write over.
_OWN_OR_RELEASED: Final = f"claim.city = excluded.city OR claim.state = {_RELEASED}"
#: A city's lease of a person who has no licence.
_FREE_LEASE: Final = (
    f"claim.city = ? AND claim.state = {int(ClaimState.LEASED)}"  # noqa: S608  # our own names, no data
    " AND NOT EXISTS (SELECT 1 FROM license_view WHERE license_view.person_key = claim.person_key)"
)

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
        claims = [claim_table.c[name] for name in Claim.__dataclass_fields__]
        self._claims = BulkLookup(claims, claim_table.c.person_key)
        self._locked_claims = BulkLookup(claims, claim_table.c.person_key, ordered_lock=True)
        self._acquire = BulkInsert(claim_table, replace=True, only_if=_OWN_OR_RELEASED)
        values = tuple(name for name in Claim.__dataclass_fields__ if name != "person_key")
        self._take_over = BulkUpdate(claim_table, values=values, found_by=("person_key", "city", "state"))
        self._take_from = BulkUpdate(claim_table, values=values, found_by=("person_key", "license_id", "state"))
        self._hold = BulkUpdate(claim_table, values=("state", "license_id"), found_by=("person_key", "city"))
        self._release = BulkUpdate(
            claim_table, values=("state",), found_by=("person_key", "city", "license_id", "state")
        )
        used = (claim_table.c.person_key, claim_table.c.license_id)
        self._use = BulkMark(used, claim_table.c.person_key, changes=f"state = {_HELD}", condition=_FREE_LEASE)
        self._add_dispositions = BulkInsert(disposition_table)
        self._add_pending = BulkInsert(pending_table)
        self._states = select(*[state_table.c[name] for name in CityState.__dataclass_fields__])
        self._state = FixedStatement(self._states.where(state_table.c.city == bindparam("code")))
        self._put_state = BulkInsert(state_table, replace=True)
        self._cities = select(*[city_table.c[name] for name in City.__dataclass_fields__])
        self._open_epoch = FixedStatement(
            self._cities.where(city_table.c.city == bindparam("code")).order_by(city_table.c.epoch.desc()).limit(1)
        )
        said = disposition_table.c
        self._dispositions = FixedStatement(
            select(*[said[name] for name in NotedDisposition.__dataclass_fields__])
            .where(said.city == bindparam("of_city"), said.seq > bindparam("after"))
            .order_by(said.seq)
            .limit(bindparam("most", type_=Integer))
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
        return [CityState(*row) for row in conn.execute(self._states)]

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

    def claims(self, conn: Connection, keys: Iterable[bytes], *, lock: bool = False) -> dict[bytes, Claim]:
        """Return the claims of persons, by person; ``lock`` keeps others from changing them, in key order."""
        lookup = self._locked_claims if lock else self._claims
        return {row[0]: Claim(*row) for row in lookup.execute(conn, keys)}

    def claims_page(self, conn: Connection, *, after: bytes, limit: int) -> list[Claim]:
        """Return up to ``limit`` claims of persons behind ``after``, in order of person."""
        query = select(*[claim_table.c[name] for name in Claim.__dataclass_fields__])
        query = query.where(claim_table.c.person_key > after).order_by(claim_table.c.person_key).limit(limit)
        return [Claim(*row) for row in conn.execute(query)]

    def acquire_claims(
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
        return self.claims(conn, [claim.person_key for claim in ordered])

    def hold_claims(self, conn: Connection, city: int, holds: Mapping[bytes, bytes]) -> None:
        """Turn a city's leases into holds, now that records use them; ``holds`` maps person to licence."""
        self._hold.execute(conn, [(_HELD, used_by, key, city) for key, used_by in sorted(holds.items())])

    def use_leases(self, conn: Connection, city: int, persons: Iterable[bytes]) -> dict[bytes, bytes]:
        """Turn those leases of a city into holds whose person has no licence.

        One statement looks and writes, however many there are: this is how nearly every licence comes in.

        Returns:
            The persons, each with the licence for which they were claimed.
        """
        return {row[0]: row[1] for row in self._use.execute(conn, persons, city)}

    def release_claims(self, conn: Connection, city: int, releases: Mapping[bytes, bytes]) -> None:
        """Release persons whom a city held for licences that are cancelled now; ``releases`` maps person to licence."""
        self._release.execute(conn, [(_RELEASED, key, city, of, _HELD) for key, of in sorted(releases.items())])

    def forget_claim(self, conn: Connection, person_key: bytes, license_id: bytes) -> None:
        """Delete a claim that was released, with the licence that it was for."""
        table = claim_table
        conn.execute(
            table.delete().where(
                table.c.person_key == person_key,
                table.c.license_id == license_id,
                table.c.state == int(ClaimState.RELEASED),
            )
        )

    def unite(self, conn: Connection, link: PersonLink) -> None:
        """Have a person be known under another tag; their claim, a lease that led there, is used up."""
        source, target = link.person_key, link.first_key
        table, waiting = claim_table, pending_table
        conn.execute(table.delete().where(table.c.person_key == source))
        conn.execute(waiting.update().where(waiting.c.person_key == source).values(person_key=target))
        self.bans.move(conn, source, target)
        moved = [row.license_id for row in self.view.by_person(conn, [source]).get(source, ())]
        self.rulings.move(conn, moved, source, target)
        self.conflicts.move(conn, source, target)
        self.transfers.move(conn, moved, source, target)
        self.view.unite(conn, link)

    def move_claim(self, conn: Connection, person_key: bytes, license_id: bytes, *, source: int, target: int) -> bool:
        """Give a person whom one city holds to another, with the licence; False when that city does not hold it."""
        table = claim_table
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

    def add_dispositions(
        self,
        conn: Connection,
        city: int,
        epoch: int,
        notes: Sequence[tuple[int, int, bytes, str]],
        *,
        other_city: int = 0,
    ) -> int:
        """Append to a city's feed: (index, kind, licence id, detail) each, of a hand-over with ``other_city``.

        Returns:
            The number of the first; 0 for none.
        """
        if not notes:
            return 0
        statement = insert_for(conn.dialect.name, feed_table)
        taken = statement.on_conflict_do_update(
            index_elements=["city"], set_={"seq": feed_table.c.seq + statement.excluded.seq}
        ).returning(feed_table.c.seq)
        last = conn.execute(taken, {"city": city, "seq": len(notes)}).scalar_one()
        first = last - len(notes) + 1
        rows = [
            NotedDisposition(city, first + offset, epoch, idx, kind, license_id, detail, other_city)
            for offset, (idx, kind, license_id, detail) in enumerate(notes)
        ]
        self._add_dispositions.execute(conn, [_disposition_values(row) for row in rows])
        return int(first)

    def raise_feed(self, conn: Connection, city: int, number: int) -> None:
        """Have a city's feed go on behind ``number``, if its last one is lower."""
        statement = insert_for(conn.dialect.name, feed_table)
        raised = statement.on_conflict_do_update(
            index_elements=["city"],
            set_={"seq": statement.excluded.seq},
            where=feed_table.c.seq < statement.excluded.seq,
        )
        conn.execute(raised, {"city": city, "seq": number})

    def dispositions(self, conn: Connection, city: int, *, after: int, limit: int) -> list[NotedDisposition]:
        """Return up to ``limit`` dispositions of a city's feed that follow number ``after``."""
        rows = self._dispositions.all(conn, {"of_city": city, "after": after, "most": limit})
        return [NotedDisposition(*row) for row in rows]

    def dispositions_of(
        self, conn: Connection, license_id: bytes, kinds: Collection[int], *, city: int | None = None
    ) -> list[NotedDisposition]:
        """Return the words of these kinds about a licence, in one city's feed or in whatever, in order."""
        table = disposition_table
        query = (
            select(*[table.c[name] for name in NotedDisposition.__dataclass_fields__])
            .where(table.c.license_id == license_id, table.c.kind.in_([int(kind) for kind in kinds]))
            .order_by(table.c.city, table.c.seq)
        )
        if city is not None:
            query = query.where(table.c.city == city)
        return [NotedDisposition(*row) for row in conn.execute(query)]

    def told_once(self, conn: Connection, license_id: bytes, kind: int) -> int | None:
        """Return the last city that was told this of a licence, as nobody else's doing; None when none was.

        However many words there are, one row is returned: a city may have written of the licence without end.
        """
        table = disposition_table
        query = (
            select(table.c.city)
            .where(
                table.c.license_id == license_id, table.c.kind == int(kind), func.coalesce(table.c.other_city, 0) == 0
            )
            .order_by(table.c.city.desc())
            .limit(1)
        )
        return conn.execute(query).scalar_one_or_none()

    def add_pending(self, conn: Connection, pending: Sequence[Pending]) -> None:
        """Remember licences that wait for a decision."""
        self._add_pending.execute(conn, [_pending_values(waiting) for waiting in pending])

    def pending(self, conn: Connection, *, limit: int, after: Pending | None = None) -> list[Pending]:
        """Return licences that wait for a decision, each city's in log order, from behind ``after`` on."""
        table = pending_table
        columns = [table.c[name] for name in Pending.__dataclass_fields__]
        key = (table.c.city, table.c.epoch, table.c.idx)
        query = select(*columns).order_by(*key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(after.city, after.epoch, after.idx))
        return [Pending(*row) for row in conn.execute(query)]

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

    def add_evidence(
        self, conn: Connection, *, city: int, digest: bytes, reason: str, body: bytes, now_us: int, cited: bool = False
    ) -> bool:
        """Keep what shows a city breaking the rules; the same object is kept once.  Tells whether it is new.

        Of one kind a city has no more than :data:`EVIDENCE_PER_REASON` kept: the first ones prove
        as much as any number, and no city may fill the registry's disk.  What a decision cites is kept
        whatever else there is: a city that does small wrongs first must not push out what proves a great one.
        """
        of_kind = (evidence_table.c.city == city, evidence_table.c.reason == reason)
        count = select(func.count()).select_from(evidence_table).where(*of_kind)
        if not cited and conn.execute(count).scalar_one() >= EVIDENCE_PER_REASON:
            return False
        values = {"city": city, "digest": digest, "reason": reason, "body": body, "noted_us": now_us}
        statement = insert_for(conn.dialect.name, evidence_table)
        kept = conn.execute(statement.on_conflict_do_nothing(index_elements=["city", "digest"]), values)
        return kept.rowcount == 1

    def evidence(self, conn: Connection, city: int, digest: bytes) -> bytes | None:
        """Return what is kept as evidence against a city, or None."""
        table = evidence_table
        query = select(table.c.body).where(table.c.city == city, table.c.digest == digest)
        return conn.execute(query).scalar_one_or_none()

    def evidence_of(self, conn: Connection, digests: Collection[bytes], *, most_bytes: int) -> list[bytes]:
        """Return what is kept of these digests, against whatever city, up to so many bytes together."""
        table, found, room = evidence_table, [], most_bytes
        wanted = sorted(set(digests))
        for start in range(0, len(wanted), _MAX_PLACES):
            part = table.c.digest.in_(wanted[start : start + _MAX_PLACES])
            sizes = select(table.c.city, table.c.digest, func.length(table.c.body)).where(part).order_by(table.c.digest)
            for city, digest, size in conn.execute(sizes).all():
                body = self.evidence(conn, city, digest) if size <= room else None
                if body is not None:
                    found.append(body)
                    room -= size
        return found

    def lacking_evidence(self, conn: Connection) -> list[Quarantine]:
        """Return the quarantines of which the evidence that they rest on is not kept."""
        kept = select(evidence_table.c.city, evidence_table.c.digest)
        held = {(row[0], row[1]) for row in conn.execute(kept)}
        return [each for each in self.quarantines.all(conn) if (each.city, each.digest) not in held]

    def all_evidence(self, conn: Connection) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield everything that is kept as evidence: city, digest, body."""
        table = evidence_table
        query = select(table.c.city, table.c.digest, table.c.body).order_by(table.c.city, table.c.digest)
        for row in conn.execute(query):
            yield row[0], row[1], row[2]

    def evidence_reasons(self, conn: Connection) -> list[tuple[int, bytes, str]]:
        """Return why each piece of evidence is kept: city, digest, reason."""
        table = evidence_table
        return [(row[0], row[1], row[2]) for row in conn.execute(select(table.c.city, table.c.digest, table.c.reason))]

    def evidence_counts(self, conn: Connection, reason: str) -> dict[int, int]:
        """Return how many pieces of evidence are kept for a reason, by city."""
        table = evidence_table
        query = select(table.c.city, func.count()).where(table.c.reason == reason).group_by(table.c.city)
        return {row[0]: row[1] for row in conn.execute(query)}

    def evidence_for(self, conn: Connection, reason: str) -> list[tuple[bytes, int]]:
        """Return body and time of all evidence that is kept for a reason, the oldest first of each city."""
        table = evidence_table
        query = select(table.c.body, table.c.noted_us).where(table.c.reason == reason)
        return [(row[0], row[1]) for row in conn.execute(query.order_by(table.c.city, table.c.noted_us))]

    def words(
        self, conn: Connection, city: int, kind: int, *, after: int, until: int, limit: int
    ) -> list[NotedDisposition]:
        """Return up to ``limit`` words of one kind in a city's feed, behind number ``after`` and up to ``until``."""
        query = select(*[disposition_table.c[name] for name in NotedDisposition.__dataclass_fields__])
        c = disposition_table.c
        query = query.where(c.city == city, c.seq > after, c.seq <= until, c.kind == kind).order_by(c.seq).limit(limit)
        return [NotedDisposition(*row) for row in conn.execute(query)]

    def feeds(self, conn: Connection) -> dict[int, int]:
        """Return the last number of each city's feed."""
        return {row[0]: row[1] for row in conn.execute(select(feed_table.c.city, feed_table.c.seq))}

    def cities_with_words(self, conn: Connection) -> set[int]:
        """Return the cities that have words in their feeds."""
        return set(conn.execute(select(disposition_table.c.city).distinct()).scalars())

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
