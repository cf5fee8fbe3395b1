"""What must be left when a database was set back and restored.

1. Whatever the registry had of a city's log is in it again, byte for byte.
2. Each proof that was handed out of what is left still verifies against the log, on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from elicense.clock import SECOND_US
from elicense.log.checkpoint import Checkpoint
from elicense.log.tree import subtree_root
from tests.simulation.written import CityWritings, Place, Violated, Watch, leaves

#: How long after a restore an answer of before may arrive.
_LATEST_US: Final = 3 * SECOND_US


@dataclass
class SetbackRules:
    """Checks the rules.

    Attributes:
        registry: The registry's database.
        cities: Those of the cities.
        writings: What cities wrote, as far as it is not lost.
        under_way: Cities that were set back, and not restored yet; with what must be in their logs again.
    """

    registry: Watch
    cities: dict[int, Watch]
    writings: CityWritings
    under_way: dict[int, dict[Place, bytes]] = field(default_factory=dict)
    _ended_us: dict[int, int] = field(default_factory=dict)
    _proved: list[tuple[Place, bytes, Checkpoint]] = field(default_factory=list)

    def begin(self, code: int) -> None:
        """Note what the registry has of a city's log."""
        self.under_way[code] = {
            Place(code, epoch, idx): leaf
            for epoch, size, _ in self.registry.heads(code)
            for idx, leaf in enumerate(leaves(self.registry, code, epoch, size))
        }

    def end(self, code: int, now_us: int) -> None:
        """Check that it is there again."""
        for place, leaf in self.under_way.pop(code).items():
            if self._leaf(self.cities[code], place) != leaf:
                raise Violated(f"{place} is lost, which the registry had")
        self._ended_us[code] = now_us

    def lost(self, code: int, epoch: int, size: int, now_us: int) -> None:
        """Note that what a city has signed behind a size of an epoch is of a history that may be lost."""
        self._ended_us[code] = now_us
        self._proved = [
            each for each in self._proved if each[0].city != code or (each[0].epoch, each[2].size) <= (epoch, size)
        ]

    def may_be_lost(self, code: int, now_us: int) -> bool:
        """Whether an answer of a city that arrives now may be of before its database was set back."""
        return code in self.under_way or now_us < self._ended_us.get(code, 0) + _LATEST_US

    def proved(self, place: Place, leaf: bytes, signed: Checkpoint) -> None:
        """Remember a proof that was handed out, and was found to be sound then."""
        self._proved.append((place, leaf, signed))

    def settled(self) -> None:
        """Check old proofs against what is left."""
        for place, leaf, signed in self._proved if self._ended_us else ():
            for whose, source in (("its city", self.cities[place.city]), ("the registry", self.registry)):
                left = leaves(source, place.city, place.epoch, signed.size)
                if len(left) < signed.size:
                    continue  # that head was lost with the database
                if left[place.idx] != leaf or subtree_root(left) != signed.root:
                    raise Violated(f"the proof of {place} does not verify any more at {whose}")

    def _leaf(self, source: Watch, place: Place) -> bytes | None:
        found = source.connection.execute(
            "SELECT leaf_hash FROM log_entry WHERE log = ? AND epoch = ? AND idx = ?", place
        ).fetchone()
        return found[0] if found else None
