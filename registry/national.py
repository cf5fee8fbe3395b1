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

from elicense.clock import china_date, from_timestamp
from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import flags_of, kept_flags, person_key_of, read_with_standing, row_of
from elicense.view.model import Revision, ViewRow
from elicense.view.opening import read_opening
from elicense.view.person import PersonIndex
from registry.bans import PersonBan, ban_by, running, takes_back
from registry.custody_fold import Custody
from registry.links import AskedLink, asked_by
from registry.model import Claim, ClaimState, Pending
from registry.transfer_model import Arrival, Handovers, OpenOffer, Position

_FIRST_EVENTS = frozenset({license_pb2.LICENSE_EVENT_ISSUED})
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
class ReceivedRecord:
    """One record of a batch, as far as it could be read.

    Attributes:
        index: Index in the city's log.
        leaf_hash: Leaf hash, recomputed.
        message: The record; None when it can not be read.
        person_key: Tag of the person; empty when unreadable.
        standing: Serialized standing of its licence; empty when unreadable.
        erasure: The record, when it erases a licence; there is no ``message`` then.
        row: The licence's row as this record alone would make it; None without ``message``.
        effective_us: From when the record counts.
    """

    index: int
    leaf_hash: bytes
    message: license_pb2.LicenseRecord | None
    person_key: bytes
    standing: bytes
    erasure: license_pb2.LicenseRecord | None = None
    row: ViewRow | None = None
    effective_us: int = 0

    def of_person(self, person_key: bytes) -> ReceivedRecord:
        """Return the record under the tag that its person is known by."""
        return replace(self, person_key=person_key, row=self.row and replace(self.row, person_key=person_key))


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


def receive(
    records: Iterable[tuple[int, bytes, bytes]], *, city: int, epoch: int, persons: PersonIndex
) -> list[ReceivedRecord]:
    """Read a batch of (index, record, leaf hash).

    Whatever can be said of a record by itself is worked out here, because batches
    are read side by side and folded one after the other.

    A record of another log counts as unreadable; the opening of an epoch is about no licence and left out.
    """
    received = []
    for index, record, leaf_hash in records:
        try:
            message, standing = read_with_standing(record)
        except Malformed:
            erasure = read_erasure(record)
            if erasure is not None and (erasure.city, erasure.epoch) == (city, epoch):
                received.append(ReceivedRecord(index, leaf_hash, None, b"", b"", erasure))
            elif read_opening(record) is None:
                received.append(ReceivedRecord(index, leaf_hash, None, b"", b""))
            continue
        if message.city != city or message.epoch != epoch:
            received.append(ReceivedRecord(index, leaf_hash, None, b"", b""))
            continue
        row = row_of(
            message,
            index=index,
            leaf_hash=leaf_hash,
            flags=flags_of(message),
            persons=persons,
            person_key=person_key_of(message, persons),
            standing=standing,
        )
        effective_us = from_timestamp(message.effective_time)
        received.append(ReceivedRecord(index, leaf_hash, message, row.person_key, standing, None, row, effective_us))
    return received


class NationalFold:
    """Folds one batch of one city into the national view.

    Attributes:
        change: What the batch does.
        custody: Where custody is by the decisions given.

    Args:
        rows: Every licence of the persons in the batch, by person.
        claims: Who holds each of these persons.
        persons: Computes name tags.
        received_us: When the batch arrived.
        handovers: Take-overs that the registry's log decided; none while batches are taken in.
    """

    def __init__(
        self,
        *,
        rows: Mapping[bytes, Sequence[ViewRow]],
        claims: Mapping[bytes, Claim],
        persons: PersonIndex,
        received_us: int,
        handovers: Handovers | None = None,
    ) -> None:
        self.custody = Custody(handovers or Handovers())
        self._rows = {key: {row.license_id: row for row in held} for key, held in rows.items()}
        self._claims = claims
        self._persons = persons
        self._received_us = received_us
        self.change = NationalChange()

    def apply(self, received: ReceivedRecord) -> None:
        """Fold one record."""
        message, row = received.message, received.row
        if message is None or row is None:
            self._without_license(received)
            return
        held = self._rows.setdefault(received.person_key, {})
        before = held.get(message.license_id)
        where = (message.city, message.epoch, received.index)
        added = self._added(received, message, before, held)
        if added is None:
            return
        if message.event == _TAKEN_OVER:
            before = None  # whatever this city wrote of it before it moved away
        own = row.flags
        stood = 0 if before is None else before.flags
        if own & _CANCELLED and not stood & _NOT_COUNTING & ~_CANCELLED:
            self.change.releases[received.person_key] = message.license_id
        if added:
            row = replace(row, flags=int(added) | own)
        # What stands is kept by the table; here too, for the records behind this one.
        held[message.license_id] = replace(row, flags=row.flags | kept_flags(stood)) if stood else row
        key = (received.person_key, message.license_id)
        earlier = self.change.rows.get(key) if before is not None else None
        if earlier is not None:
            row = replace(row, flags=row.flags | kept_flags(earlier.flags))
        self.change.rows[key] = row
        if (row.flags | stood) & _REVOKED:
            self.change.bans[key] = ban_by(row)
        if (stood | own) & _OFFERED or message.event == _TAKEN_OVER:
            self._note_offer(received, message)
        self.custody.wrote(message, where, received.leaf_hash)
        self.change.links += asked_by(message, self._persons, index=received.index)
        self.change.revisions.append(row.as_revision(effective_us=received.effective_us, received_us=self._received_us))

    def _added(
        self,
        received: ReceivedRecord,
        message: license_pb2.LicenseRecord,
        before: ViewRow | None,
        held: Mapping[bytes, ViewRow],
    ) -> ViewFlags | None:
        """Return the flags that a record adds to its own; None when it has no place in the view, or not yet."""
        if message.event == _TAKEN_OVER:
            where = (message.city, message.epoch, received.index)
            if self.custody.arrives(message, where):
                return ViewFlags(0)
            self._wait(received, message, where)
            return None
        if message.event in _FIRST_EVENTS:
            return self._first(received, message, before, held)
        return self._next(received, message, before)

    def _first(
        self,
        received: ReceivedRecord,
        message: license_pb2.LicenseRecord,
        before: ViewRow | None,
        held: Mapping[bytes, ViewRow],
    ) -> ViewFlags | None:
        """Return the flags of a first revision; None when it has no place in the view."""
        if before is not None or message.revision != 1:
            self._note(received, _UNREADABLE, message.license_id, "A first revision of a license that exists already.")
            return None
        claim = self._claims.get(received.person_key)
        # A released claim is nobody's any more, whoever had it; the batch that releases it may go on.
        granted = claim is not None and claim.city == message.city and claim.state == ClaimState.LEASED
        # A lease is given only once every bar is over, so a revoked licence stands in its way no more.
        free = not held or (
            all(row.flags & STANDS_ASIDE for row in held.values()) and not self._barred(held.values(), message)
        )
        if granted and free and received.person_key not in self.change.releases:
            self.change.holds[received.person_key] = message.license_id
            if message.provisional:
                # The grant was made but its answer lost: the city does not know that it held the person.
                self._note(received, _CONFIRMED, message.license_id, "The license counts nationwide.")
            return ViewFlags(0)
        self.change.pending.append(_pending(received, message))
        return ViewFlags.PROVISIONAL

    def _barred(self, rows: Iterable[ViewRow], message: license_pb2.LicenseRecord) -> bool:
        """Whether a bar ran when the licence was issued; it may have come in behind the lease."""
        bans = [ban for row in rows if (ban := ban_by(row)) is not None]
        if not bans:
            return False
        # A city's clock may be off by minutes, never by years.
        issued_us = min(from_timestamp(message.record_time), self._received_us)
        return running(bans, china_date(issued_us)) is not None

    def _wait(self, received: ReceivedRecord, message: license_pb2.LicenseRecord, where: Position) -> None:
        """Have a take-over decided, unless it has been."""
        if not self.custody.is_decided(where):
            arrival = Arrival(*where, received.leaf_hash, message.license_id, received.person_key)
            self.change.arrivals.append(arrival)

    def _note_offer(self, received: ReceivedRecord, message: license_pb2.LicenseRecord) -> None:
        to_city = message.license.offered_to_city
        if message.event == license_pb2.LICENSE_EVENT_TRANSFERRED_OUT and to_city:
            self.change.offers[message.license_id] = OpenOffer(
                to_city=to_city,
                license_id=message.license_id,
                from_city=message.city,
                epoch=message.epoch,
                idx=received.index,
                offered_us=from_timestamp(message.record_time),
                person_key=received.person_key,
            )
        elif not to_city:
            self.change.offers[message.license_id] = None

    def _next(
        self, received: ReceivedRecord, message: license_pb2.LicenseRecord, before: ViewRow | None
    ) -> ViewFlags | None:
        """Return the flags that a later revision adds; None when it has no place in the view."""
        where = (message.city, message.epoch, received.index)
        if before is None or before.city != message.city or self.custody.is_elsewhere(message.license_id, where):
            if before is not None:
                self.change.late.append(LateRecord(before.city, received.index, message.license_id))
            detail = "The city does not have custody of the license."
            self._note(received, _NOT_IN_CUSTODY, message.license_id, detail)
            return None
        if message.revision != before.revision + 1 or message.previous_entry_hash != before.entry_hash:
            detail = "The record does not follow the revision before it."
            self._note(received, _UNREADABLE, message.license_id, detail)
            return None
        if before.flags & ViewFlags.CANCELLED and not flags_of(message) & ViewFlags.CANCELLED:
            self._note(received, _UNREADABLE, message.license_id, "The license is cancelled and stays so.")
            return None
        added = ViewFlags(0) if message.event in KNOWN_EVENTS else ViewFlags.UNKNOWN_EVENT
        if before.flags & _REVOKED and takes_back(before, received.standing):
            restored = _pending(received, message)
            self.change.restored.append(restored)
            if not before.flags & _NOT_COUNTING and not self._has_person(received.person_key, message.license_id):
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
            self.change.erasures.append((received.index, received.erasure))
        else:
            self._note(received, _UNREADABLE, b"", "The record can not be read, or is of another log.")

    def _note(self, received: ReceivedRecord, kind: int, license_id: bytes, detail: str) -> None:
        self.change.notes.append((received.index, kind, license_id, detail))


def _pending(received: ReceivedRecord, message: license_pb2.LicenseRecord) -> Pending:
    return Pending(
        city=message.city,
        epoch=message.epoch,
        idx=received.index,
        entry_hash=received.leaf_hash,
        license_id=message.license_id,
        person_key=received.person_key,
    )
