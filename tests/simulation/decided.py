"""What the registry's log decided: who has custody, who got persons, and which of two licences stands."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from elicense.v1.log_pb2 import RegistryRecord
from tests.simulation.quarantines import QuarantineRules
from tests.simulation.written import CityWritings, Place, Violated, Watch, Written


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A take-over that the registry accepted.

    Attributes:
        place: Where the take-over lies; its city has custody from then on.
        source: The last record that counts of the city before.
    """

    place: Place
    source: Place


@dataclass
class Decisions:
    """What the registry's log decided.

    Attributes:
        writings: What cities wrote.
        quarantines: What must hold of quarantines.
        accepted: Take-overs of each licence, in order.
        grants: City and person tags of each grant, by place in the log.
        stands: By licence that names a conflict: the one that stands by what was decided last; empty for none.
        void: Licences that lost a conflict, or were barred when they had won it.
        lost: Licences that a hand-over is lost of, for ever.
        is_whole: Whether the registry's log holds whatever it held before; one that was set back does not at first.
    """

    writings: CityWritings
    quarantines: QuarantineRules
    accepted: dict[bytes, list[TakenOver]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    grants: dict[tuple[int, int], tuple[int, list[bytes]]] = field(default_factory=dict)
    stands: dict[bytes, bytes] = field(default_factory=dict)
    void: set[bytes] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    is_whole: bool = True
    _sizes: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def read(self, registry: Watch) -> None:
        """Read what the registry has decided since, and check that its view says the same."""
        for epoch, size, _ in registry.heads(0):
            if size <= self._sizes[epoch]:
                continue
            for index, content in registry.entries(0, epoch, self._sizes[epoch]):
                self._sizes[epoch] = index + 1
                self._note(epoch, index, RegistryRecord.FromString(content or b""))
        self.is_whole = all(size >= self._sizes[epoch] for epoch, size, _ in registry.heads(0))
        if not self.is_whole:
            return  # it was set back, and its cities give it all of that again
        for license_id, taken_over in self.accepted.items():
            self._check(registry, license_id, taken_over[-1])

    def start_anew(self, registry: Watch) -> None:
        """Forget what the registry's log does not hold any more, which goes on without it."""
        before = {license_id: taken_over[-1] for license_id, taken_over in self.accepted.items()}
        for known in (self.accepted, self.grants, self.stands, self.void, self._sizes):
            known.clear()
        self.quarantines.forget()
        self.read(registry)
        for license_id, last in before.items():
            if self.accepted.get(license_id, [None])[-1] != last:
                self.lost.add(license_id)

    def _note(self, epoch: int, index: int, record: RegistryRecord) -> None:
        self.quarantines.note(record)
        if record.HasField("claims_granted"):
            granted = record.claims_granted
            self.grants[epoch, index] = granted.city, [claim.person_tag for claim in granted.claims]
        if record.HasField("conflict_resolved"):
            self.stands[record.conflict_resolved.conflict_id] = record.conflict_resolved.standing_license_id
            self.void.add(record.conflict_resolved.void_license_id)
        if record.HasField("license_barred"):
            self.void.add(record.license_barred.license_id)
        if not record.HasField("transfer_decided"):
            return
        decided = record.transfer_decided
        if decided.refusal:
            self.refused += 1
            return
        taken = TakenOver(
            Place(decided.position.city, decided.position.epoch, decided.position.index),
            Place(decided.source.city, decided.source.epoch, decided.source.index),
        )
        before = self.accepted[decided.license_id]
        if before and before[-1].place.city != taken.source.city:
            raise Violated(f"a license was taken over from {taken.source.city}, and {before[-1].place.city} had it")
        before.append(taken)

    def _is_emptied(self, registry: Watch, place: Place) -> bool:
        """Return whether the registry has emptied a slot, as upon an entry that its city has lost and gets back."""
        slots = registry.entries(place.city, place.epoch, place.idx)
        return bool(slots) and slots[0] == (place.idx, None)

    def _check(self, registry: Watch, license_id: bytes, last: TakenOver) -> None:
        rows = registry.connection.execute(
            "SELECT city, epoch, idx FROM license_view WHERE license_id = ?", (license_id,)
        ).fetchall()
        if not rows and (license_id in self.writings.erased or self._is_emptied(registry, last.place)):
            return
        if len(rows) != 1:
            raise Violated(f"a license that was taken over stands {len(rows)} times in the national view")
        counts = Place(*rows[0])
        if counts.city != last.place.city or counts < last.place:
            raise Violated(f"{last.place.city} took a license over by {last.place}, and what counts is {counts}")

    def custodian(self, license_id: bytes) -> int | None:
        """Return who has custody of a licence that was taken over; None of any other."""
        taken_over = self.accepted.get(license_id)
        return taken_over[-1].place.city if taken_over else None

    def is_late(self, written: Written) -> bool:
        """Whether a record was written by a city that had handed the licence over before, as far as is decided."""
        late = False
        for taken in self.accepted.get(written.license_id, ()):
            if taken.source.city == written.place.city and written.place > taken.source:
                late = True
            if taken.place.city == written.place.city and written.place >= taken.place:
                late = False
        return late
