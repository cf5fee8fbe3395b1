"""What the registry's log says: the fold of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from google.protobuf.message import DecodeError

from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, position
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.scratch import Scratch, Shelf
from elicense.v1 import log_pb2
from registry.acknowledged import acknowledgements_in
from registry.check_conflicts import ConflictCheck
from registry.check_published import PublishedCheck
from registry.check_quarantines import QuarantineCheck
from registry.custody_store import CustodyDecision
from registry.transfer_model import Handovers

LicenseKey = tuple[bytes, bytes]
"""A licence: person key and licence id."""


@dataclass(slots=True)
class Decided:
    """What the registry's log says.

    What grows with the logs lies in a file.  The rest is in memory, and read again when a check goes on: to
    read an entry twice changes nothing.  It is one row for each epoch of a city's log, some 900 bytes with a
    quarantine and a published head, and epochs are few: each but the first is a restore that people decided on.
    340 cities with ten epochs each, every one of them in quarantine once, are 3 MB.

    Attributes:
        grants: Persons granted: (person tag, city).
        ruled: Flags that each ruling gave: (licence, person tag, epoch, index of the decision, flags); the
            latest one counts, and no flags mean that the licence does.
        rulings: The same by when: (licence, person tag, microseconds, flags).
        confirmed: Licences that count, though no grant let them: (licence, person tag).
        transfers: Every decision on a take-over, as it stands: (licence, epoch, index, decision).
        conflicts: Conflicts, and what cities said in them.
        vectors: The vectors of city heads.
        told: What cities signed that they know: (city, epoch, epoch of the record, its index, epoch here, index, note).
        quarantines: What was decided about quarantines.
        epochs: Epochs opened after a city's first, by log: (key, size and root at which the one before ended).
        own_epochs: Epochs of this log after its first: epoch, size and root at which the one before ended.
    """

    grants: Shelf
    ruled: Shelf
    rulings: Shelf
    confirmed: Shelf
    transfers: Shelf
    conflicts: ConflictCheck
    told: Shelf
    vectors: PublishedCheck = field(default_factory=PublishedCheck)
    quarantines: QuarantineCheck = field(default_factory=QuarantineCheck)
    epochs: dict[LogKey, tuple[str, int, bytes]] = field(default_factory=dict)
    own_epochs: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, scratch: Scratch) -> Decided:
        """Return what nothing has been read into in this run."""
        return cls(
            grants=scratch.shelf("granted", keys=2),
            ruled=scratch.shelf("ruled", keys=4, values=1),
            rulings=scratch.shelf("ruling", keys=3, values=1),
            confirmed=scratch.shelf("confirmed", keys=2),
            transfers=scratch.shelf("transfer", keys=3, values=1),
            conflicts=ConflictCheck(scratch),
            told=scratch.shelf("told", keys=4, values=3),
        )

    def flags(self, license_id: bytes, persons: Container[bytes]) -> ViewFlags | None:
        """Return what the latest ruling gave a licence of a person, by all the person's tags; None without one."""
        held = [row for row in self.ruled.of([(license_id,)]) if row[1] in persons]
        return ViewFlags(int(max(held, key=itemgetter(2, 3))[4])) if held else None

    def handovers(self, licenses: Iterable[bytes]) -> Handovers:
        """Return what was decided on take-overs of some licences."""
        handovers = Handovers()
        rows: list[Any] = self.transfers.of([(license_id,) for license_id in licenses])
        for *_, decided in rows:
            handovers.add(log_pb2.TransferDecided.FromString(decided))
        return handovers

    def custody(self, licenses: Iterable[bytes]) -> set[CustodyDecision]:
        """Return the same, by what a record without custody would follow."""
        rows: list[Any] = self.transfers.of([(license_id,) for license_id in licenses])
        return {
            CustodyDecision.of(log_pb2.TransferDecided.FromString(decided), epoch, index)
            for _, epoch, index, decided in rows
        }

    def read(self, key: LogKey, entries: Sequence[StoredEntry], found: Callable[[Finding], None]) -> None:
        """Fold entries of the registry's log."""
        for entry in entries:
            if entry.record is None:
                continue
            try:
                record = log_pb2.RegistryRecord.FromString(entry.record)
            except DecodeError:
                found(Finding(position(key, entry.index), "the record is not a decision"))
                continue
            kind = record.WhichOneof("decision")
            fold = _FOLDS.get(kind or "")
            if fold is None:
                found(Finding(position(key, entry.index), f"a decision of a kind that is not known here: {kind}"))
                continue
            if not fold(self, record, key, entry.index):
                found(Finding(position(key, entry.index), "the decision is about a conflict that was never opened"))

    # -- kinds of decisions; each tells whether it makes sense ---------------------------------------------------------

    def _granted(self, record: log_pb2.RegistryRecord, _key: LogKey, _index: int) -> bool:
        granted = record.claims_granted
        self.grants.put((claim.person_tag, granted.city) for claim in granted.claims)
        return True

    def _confirmed(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        confirmed = record.provisional_confirmed
        self.confirmed.put([(confirmed.license_id, confirmed.person_tag)])
        self._rule(record, key, index, (confirmed.person_tag, confirmed.license_id), ViewFlags(0))
        return True

    def _opened(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        opened = record.conflict_opened
        self._rule(record, key, index, (opened.person_tag, opened.license_id), ViewFlags.CONFLICT)
        return self.conflicts.opened(record, key, index)

    def _barred(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        barred = record.license_barred
        self._rule(record, key, index, (barred.person_tag, barred.license_id), ViewFlags.VOID)
        self.conflicts.barred(barred.license_id)
        return True

    def _stated(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        return self.conflicts.stated(record, key, index)

    def _resolved(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        resolved = record.conflict_resolved
        is_known = self.conflicts.resolved(record)
        if is_known and resolved.void_license_id:
            self._rule(record, key, index, (resolved.person_tag, resolved.void_license_id), ViewFlags.VOID)
        return is_known

    def _settled(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        settled = record.conflict_settled
        if not self.conflicts.settled(settled.conflict_id):
            return False
        self.confirmed.put([(settled.conflict_id, settled.person_tag)])
        self._rule(record, key, index, (settled.person_tag, settled.conflict_id), ViewFlags(0))
        return True

    def _vector(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        self.vectors.read(key, index, record)
        return True

    def _acknowledged(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        # Damage is found by the leaf hash, and what it leaves out by the table.
        with suppress(Malformed):
            rows = acknowledgements_in(record.custody_acknowledged, key, index)
            self.told.put((r.city, r.epoch, r.of_epoch, r.of_idx, key.epoch, index, r.note) for r in rows)
        return True

    def _quarantine(self, record: log_pb2.RegistryRecord, _key: LogKey, _index: int) -> bool:
        self.quarantines.read(record)
        return True

    def _transferred(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        decided = record.transfer_decided
        self.transfers.put([(decided.license_id, key.epoch, index, decided.SerializeToString(deterministic=True))])
        return True

    def _epoch(self, record: log_pb2.RegistryRecord, _key: LogKey, _index: int) -> bool:
        opened = record.epoch_opened
        told = opened.log_verifier_key, opened.closed_size, opened.closed_root
        self.epochs[LogKey(opened.city, opened.epoch)] = told
        return True

    def _own_epoch(self, record: log_pb2.RegistryRecord, key: LogKey, _index: int) -> bool:
        opened = record.registry_epoch_opened
        self.own_epochs[key.epoch] = opened.closed_epoch, opened.closed_size, opened.closed_root
        return True

    def _rule(self, record: log_pb2.RegistryRecord, key: LogKey, index: int, of: LicenseKey, flags: ViewFlags) -> None:
        person_key, license_id = of
        self.ruled.put([(license_id, person_key, key.epoch, index, int(flags))])
        # Of two rulings at one instant the later word stands.
        self.rulings.put([(license_id, person_key, from_timestamp(record.record_time), int(flags))])


_Fold = Callable[[Decided, log_pb2.RegistryRecord, LogKey, int], bool]

_FOLDS: Final[dict[str, _Fold]] = {
    "claims_granted": Decided._granted,
    "provisional_confirmed": Decided._confirmed,
    "conflict_opened": Decided._opened,
    "license_barred": Decided._barred,
    "conflict_stated": Decided._stated,
    "conflict_resolved": Decided._resolved,
    "conflict_settled": Decided._settled,
    "custody_acknowledged": Decided._acknowledged,
    "head_vector": Decided._vector,
    "city_quarantined": Decided._quarantine,
    "release_asked": Decided._quarantine,
    "quarantine_ended": Decided._quarantine,
    "transfer_decided": Decided._transferred,
    "epoch_opened": Decided._epoch,
    "registry_epoch_opened": Decided._own_epoch,
}
"""How each kind of decision is folded; a kind that is not here is reported."""
