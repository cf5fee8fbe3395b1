"""Values of hand-overs between cities, and what the registry's log decided about them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from elicense.sql.row import Row
from elicense.v1 import log_pb2

Position = tuple[int, int, int]
"""Where a record lies: city, epoch, index."""


@dataclass(frozen=True, slots=True)
class Arrival(Row):
    """A take-over that waits for the registry's decision.

    Attributes:
        city: City that takes over, whose log holds the record.
        epoch: Epoch of the record.
        idx: Its index.
        entry_hash: Its leaf hash.
        license_id: The licence.
        person_key: Keyed tag of the person whom the record is about.
    """

    city: int
    epoch: int
    idx: int
    entry_hash: bytes
    license_id: bytes
    person_key: bytes


@dataclass(frozen=True, slots=True)
class OpenOffer(Row):
    """A licence that is offered to a city.

    Attributes:
        to_city: City that may take it over.
        license_id: The licence.
        from_city: City in custody.
        epoch: Epoch of the record that offers it.
        idx: Its index.
        offered_us: When it was offered.
        person_key: Keyed tag of the person.
    """

    to_city: int
    license_id: bytes
    from_city: int
    epoch: int
    idx: int
    offered_us: int
    person_key: bytes


@dataclass(frozen=True, slots=True)
class Handover:
    """What the registry's log says of one take-over.

    Attributes:
        license_id: The licence.
        arrival: Where the take-over lies.
        source: The record that it rests on; None when there was none.
        source_hash: Leaf hash of that record.
        target_size: Index from which on the new city's records of the licence count.
        accepted: Whether custody moved.
    """

    license_id: bytes
    arrival: Position
    source: Position | None
    source_hash: bytes
    target_size: int
    accepted: bool


@dataclass(slots=True)
class Handovers:
    """Every take-over that the registry's log decided; none while batches are taken in.

    Attributes:
        decided: By the position of the take-over.
        departures: Those that moved custody, by the last record of the old city that counts.
    """

    decided: dict[Position, Handover] = field(default_factory=dict)
    departures: dict[Position, Handover] = field(default_factory=dict)
    _of: defaultdict[bytes, dict[Position, Handover]] = field(default_factory=lambda: defaultdict(dict))

    def of(self, license_id: bytes) -> list[Handover]:
        """Return those of one licence that moved custody."""
        return list(self._of.get(license_id, {}).values())

    def add(self, decided: log_pb2.TransferDecided) -> None:
        """Note a decision of the log."""
        source = _at(decided.source) if decided.HasField("source") else None
        handover = Handover(
            license_id=decided.license_id,
            arrival=_at(decided.position),
            source=source,
            source_hash=decided.source_entry_hash,
            target_size=decided.target_size,
            accepted=decided.refusal == log_pb2.TRANSFER_REFUSAL_UNSPECIFIED,
        )
        self.decided[handover.arrival] = handover
        if handover.accepted and source is not None:
            self.departures[source] = handover
            self._of[handover.license_id][source] = handover


def _at(where: log_pb2.LogPosition) -> Position:
    return where.city, where.epoch, where.index
