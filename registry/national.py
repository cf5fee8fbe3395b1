"""How a city's batch changes the national view: pure rules, no I/O.

Order of judgement for each record: can it be read, does it belong to this log,
does its city have custody, does it follow the revision before it, and does its
city hold the person.  A record that fails keeps its place in the log, without
national effect, and gets a disposition that says why.

A licence of a person whom its city does not hold waits as *provisional* until
the registry has decided, in its own log, whether it counts: so the view depends
on logs alone, never on which city's batch happened to arrive first.

A take-over from another city waits likewise (:mod:`registry.handovers`), and
leaves the licence where it is until it is decided.  A record that the old city
wrote too late does not vanish in silence: the new city gets a notice.

A licence that was revoked gets its person back, when a correction says so, only
while nobody else has got them: else it waits as a first revision does.

A cancelled licence stays cancelled and frees its person: whoever asks for the
person next may have it.  A revoked one does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from elicense.clock import china_date
from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.fold import kept_flags
from elicense.view.model import Revision, ViewRow
from registry.bans import PersonBan, ban_by, running, takes_back
from registry.custody_fold import Custody
from registry.links import AskedLink
from registry.model import Claim, ClaimState, Pending
from registry.received import FIRST_EVENTS, ReceivedRecord
from registry.transfer_model import Arrival, Handovers, OpenOffer, Position

#: A licence with one of these does not count, and so keeps nobody from being granted the person.
_NOT_COUNTING = int(ViewFlags.CANCELLED | ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.VOID)
#: As numbers: arithmetic on flags takes long, and this runs for every record.
_CANCELLED = int(ViewFlags.CANCELLED)
_REVOKED = int(ViewFlags.REVOKED)
STANDS_ASIDE = _NOT_COUNTING | _REVOKED
"""Flags of licences that need not keep a person from being granted: only those ever move to another tag."""
_CONFIRMED = replication_pb2.DISPOSITION_KIND_CONFIRMED
_UNREADABLE = replication_pb2.DISPOSITION_KIND_UNREADABLE
_NOT_IN_CUSTODY = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
_TAKEN_OVER = license_pb2.LICENSE_EVENT_TRANSFERRED_IN
_OFFERED = int(ViewFlags.OFFERED)
KNOWN_EVENTS = frozenset(
    {
        license_pb2.LICENSE_EVENT_ISSUED,
        license_pb2.LICENSE_EVENT_UPDATED,
        license_pb2.LICENSE_EVENT_RENEWED,
        license_pb2.LICENSE_EVENT_STATUS_CHANGED,
        license_pb2.LICENSE_EVENT_CANCELLED,
        license_pb2.LICENSE_EVENT_CORRECTED,
        license_pb2.LICENSE_EVENT_TRANSFERRED_OUT,
        license_pb2.LICENSE_EVENT_TRANSFERRED_IN,
        license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN,
    }
)
"""Events whose meaning this registry knows."""


@dataclass(frozen=True, slots=True)
class LateRecord:
    """A record of a licence in another city's custody.

    Attributes:
        in_custody: The city in custody.
        index: Index of the record.
        license_id: The licence.
    """

    in_custody: int
    index: int
    license_id: bytes


@dataclass(slots=True)
class NationalChange:
    """What a batch does to the national view.

    Attributes:
        rows: New rows by person and licence; their flags are those to add to what stands.
        revisions: Entries of the revision index.
        holds: Persons whose lease became a hold, with the licence.
        releases: Persons whose licence was cancelled, with the licence.
        bans: Bars from applying anew that licences bring, by person and licence; None where one was taken back.
        pending: Licences that wait for a decision in the registry's log.
        restored: Records that take back what ended a licence, whether or not they wait.
        arrivals: Take-overs that wait for a decision in the registry's log.
        offers: Licences that are offered to another city now, by licence; None where that has ended.
        late: Records of licences in another city's custody.
        links: Links between documents that records ask for.
        notes: Records without national effect: (index, kind, licence id, detail).
        erasures: Records that erase licences, with their indices.
    """

    rows: dict[tuple[bytes, bytes], ViewRow] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    holds: dict[bytes, bytes] = field(default_factory=dict)
    releases: dict[bytes, bytes] = field(default_factory=dict)
    bans: dict[tuple[bytes, bytes], PersonBan | None] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    restored: list[Pending] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    offers: dict[bytes, OpenOffer | None] = field(default_factory=dict)
    late: list[LateRecord] = field(default_factory=list)
    links: list[AskedLink] = field(default_factory=list)
    notes: list[tuple[int, int, bytes, str]] = field(default_factory=list)
    erasures: list[tuple[int, license_pb2.LicenseRecord]] = field(default_factory=list)


class NationalFold:
    """Folds one batch of one city into the national view.

    Attributes:
        change: What the batch does.
        custody: Where custody is by the decisions given.

    Args:
        rows: Every licence of the persons in the batch, by person.
        claims: Who holds each of these persons.
        received_us: When the batch arrived.
        handovers: Take-overs that the registry's log decided; none while batches are taken in.
    """

    def __init__(
        self,
        *,
        rows: Mapping[bytes, Sequence[ViewRow]],
        claims: Mapping[bytes, Claim],
        received_us: int,
        handovers: Handovers | None = None,
    ) -> None:
        self.custody = Custody(handovers or Handovers())
        self._rows = {key: {row.license_id: row for row in held} for key, held in rows.items()}
        self._claims = claims
        self._received_us = received_us
        self.change = NationalChange()

    def apply(self, received: ReceivedRecord) -> None:
        """Fold one record."""
        row = received.row
        if row is None:
            self._without_license(received)
            return
        held = self._rows.setdefault(row.person_key, {})
        before = held.get(row.license_id)
        added = self._added(received, row, before, held)
        if added is None:
            return
        if row.event == _TAKEN_OVER:
            before = None  # whatever this city wrote of it before it moved away
        own = row.flags
        stood = 0 if before is None else before.flags
        if own & _CANCELLED and not stood & _NOT_COUNTING & ~_CANCELLED:
            self.change.releases[row.person_key] = row.license_id
        if added:
            row = replace(row, flags=int(added) | own)
        # What stands is kept by the table; here too, for the records behind this one.
        held[row.license_id] = replace(row, flags=row.flags | kept_flags(stood)) if stood else row
        key = (row.person_key, row.license_id)
        earlier = self.change.rows.get(key) if before is not None else None
        if earlier is not None:
            row = replace(row, flags=row.flags | kept_flags(earlier.flags))
        self.change.rows[key] = row
        if (row.flags | stood) & _REVOKED:
            self.change.bans[key] = ban_by(row)
        if (stood | own) & _OFFERED or row.event == _TAKEN_OVER:
            self._note_offer(received, row)
        self.custody.wrote(row.license_id, _place(row), received.leaf_hash)
        self.change.links += received.links
        self.change.revisions.append(row.as_revision(effective_us=received.effective_us, received_us=self._received_us))

    def _added(
        self,
        received: ReceivedRecord,
        row: ViewRow,
        before: ViewRow | None,
        held: Mapping[bytes, ViewRow],
    ) -> ViewFlags | None:
        """Return the flags that a record adds to its own; None when it has no place in the view, or not yet."""
        if row.event == _TAKEN_OVER:
            where = _place(row)
            if self.custody.arrives(row.license_id, received.previous_entry_hash, where):
                return ViewFlags(0)
            self._wait(received, row, where)
            return None
        if row.event in FIRST_EVENTS:
            return self._first(received, row, before, held)
        return self._next(received, row, before)

    def _first(
        self,
        received: ReceivedRecord,
        row: ViewRow,
        before: ViewRow | None,
        held: Mapping[bytes, ViewRow],
    ) -> ViewFlags | None:
        """Return the flags of a first revision; None when it has no place in the view."""
        if before is not None or row.revision != 1:
            self._note(received, _UNREADABLE, row.license_id, "A first revision of a license that exists already.")
            return None
        claim = self._claims.get(row.person_key)
        # A released claim is nobody's any more, whoever had it; the batch that releases it may go on.
        granted = claim is not None and claim.city == row.city and claim.state == ClaimState.LEASED
        # A lease is given only once every bar is over, so a revoked licence stands in its way no more.
        free = not held or (
            all(other.flags & STANDS_ASIDE for other in held.values()) and not self._barred(held.values(), row)
        )
        if granted and free and row.person_key not in self.change.releases:
            self.change.holds[row.person_key] = row.license_id
            if received.provisional:
                # The grant was made but its answer lost: the city does not know that it held the person.
                self._note(received, _CONFIRMED, row.license_id, "The license counts nationwide.")
            return ViewFlags(0)
        self.change.pending.append(_pending(received, row))
        return ViewFlags.PROVISIONAL

    def _barred(self, others: Iterable[ViewRow], row: ViewRow) -> bool:
        """Whether a bar ran when the licence was issued; it may have come in behind the lease."""
        bans = [ban for other in others if (ban := ban_by(other)) is not None]
        if not bans:
            return False
        # A city's clock may be off by minutes, never by years.
        issued_us = min(row.recorded_us, self._received_us)
        return running(bans, china_date(issued_us)) is not None

    def _wait(self, received: ReceivedRecord, row: ViewRow, where: Position) -> None:
        """Have a take-over decided, unless it has been."""
        if not self.custody.is_decided(where):
            arrival = Arrival(*where, received.leaf_hash, row.license_id, row.person_key)
            self.change.arrivals.append(arrival)

    def _note_offer(self, received: ReceivedRecord, row: ViewRow) -> None:
        to_city = received.offered_to
        if row.event == license_pb2.LICENSE_EVENT_TRANSFERRED_OUT and to_city:
            self.change.offers[row.license_id] = OpenOffer(
                to_city=to_city,
                license_id=row.license_id,
                from_city=row.city,
                epoch=row.epoch,
                idx=received.idx,
                offered_us=row.recorded_us,
                person_key=row.person_key,
            )
        elif not to_city:
            self.change.offers[row.license_id] = None

    def _next(self, received: ReceivedRecord, row: ViewRow, before: ViewRow | None) -> ViewFlags | None:
        """Return the flags that a later revision adds; None when it has no place in the view."""
        where = _place(row)
        if before is None or before.city != row.city or self.custody.is_elsewhere(row.license_id, where):
            if before is not None:
                self.change.late.append(LateRecord(before.city, received.idx, row.license_id))
            detail = "The city does not have custody of the license."
            self._note(received, _NOT_IN_CUSTODY, row.license_id, detail)
            return None
        if row.revision != before.revision + 1 or received.previous_entry_hash != before.entry_hash:
            detail = "The record does not follow the revision before it."
            self._note(received, _UNREADABLE, row.license_id, detail)
            return None
        if before.flags & ViewFlags.CANCELLED and not row.flags & ViewFlags.CANCELLED:
            self._note(received, _UNREADABLE, row.license_id, "The license is cancelled and stays so.")
            return None
        added = ViewFlags(0) if row.event in KNOWN_EVENTS else ViewFlags.UNKNOWN_EVENT
        if before.flags & _REVOKED and takes_back(before, row.standing):
            restored = _pending(received, row)
            self.change.restored.append(restored)
            if not before.flags & _NOT_COUNTING and not self._has_person(row.person_key, row.license_id):
                self.change.pending.append(restored)
                return added | ViewFlags.PROVISIONAL
        return added

    def _has_person(self, person_key: bytes, license_id: bytes) -> bool:
        """Whether a licence holds its person, so that nobody else can have been licensed since."""
        if self.change.holds.get(person_key) == license_id:
            return True
        claim = self._claims.get(person_key)
        return claim is not None and (claim.state, claim.license_id) == (ClaimState.HELD, license_id)

    def _without_license(self, received: ReceivedRecord) -> None:
        if received.erasure is not None:
            self.change.erasures.append((received.idx, received.erasure))
        else:
            self._note(received, _UNREADABLE, b"", "The record can not be read, or is of another log.")

    def _note(self, received: ReceivedRecord, kind: int, license_id: bytes, detail: str) -> None:
        self.change.notes.append((received.idx, kind, license_id, detail))


def _place(row: ViewRow) -> Position:
    return row.city, row.epoch, row.idx


def _pending(received: ReceivedRecord, row: ViewRow) -> Pending:
    return Pending(
        city=row.city,
        epoch=row.epoch,
        idx=received.idx,
        entry_hash=received.leaf_hash,
        license_id=row.license_id,
        person_key=row.person_key,
    )
