"""Which records of a city's log count once custody has moved: for whoever folds the logs again."""

from __future__ import annotations

from typing import Final

from registry.transfer_model import Handovers, Position

_END: Final = 2**63


class Custody:
    """Follows custody through one city's log, by what the registry's log decided.

    While batches are taken in nothing is decided yet, and the rows themselves
    say who has custody; so it lets everything pass.

    Args:
        handovers: The decisions.
    """

    def __init__(self, handovers: Handovers) -> None:
        self._handovers = handovers
        self._away: set[bytes] = set()
        self._counts_from: dict[bytes, Position] = {}
        self._seen: set[tuple[Position, bool]] = set()

    def is_decided(self, where: Position) -> bool:
        """Whether a take-over has been decided."""
        return where in self._handovers.decided

    def arrives(self, license_id: bytes, previous_entry_hash: bytes, where: Position) -> bool:
        """Whether a take-over of what it cites moved custody here; from then on the city's records count."""
        handover = self._handovers.decided.get(where)
        if handover is None or not handover.accepted or handover.license_id != license_id:
            return False
        if previous_entry_hash == handover.source_hash:
            self._seen.add((where, True))
        self._away.discard(license_id)
        city, epoch, _ = where
        self._counts_from[license_id] = (city, epoch, handover.target_size)
        return True

    def wrote(self, license_id: bytes, where: Position, leaf_hash: bytes) -> None:
        """Note a record that counts: it may be the last one before custody moved away."""
        handover = self._handovers.departures.get(where)
        if handover is None or handover.license_id != license_id:
            return
        if leaf_hash == handover.source_hash:
            self._seen.add((where, False))
        self._away.add(license_id)

    def is_elsewhere(self, license_id: bytes, where: Position) -> bool:
        """Whether a record of this city was written without custody."""
        early = where < self._counts_from.get(license_id, where)
        return license_id in self._away or early or self._has_left(license_id, where)

    def is_away(self, license_id: bytes, city: int) -> bool:
        """Whether custody has moved away from this city for good."""
        return license_id in self._away or self._has_left(license_id, (city, _END, _END))

    def _has_left(self, license_id: bytes, where: Position) -> bool:
        """Whether custody left a city before a place in its log: the record by which it did may be erased there."""
        moves = self._handovers.of(license_id)
        left = [m.source for m in moves if m.source is not None and m.source[0] == where[0] and m.source < where]
        if not left:
            return False
        return not any(m.arrival[0] == where[0] and max(left) < m.arrival <= where for m in moves)

    def halves(self) -> set[tuple[Position, bool]]:
        """Return what this city's log holds of hand-overs: positions, and whether custody came or went there."""
        return self._seen
