"""Which slots of a city's log the registry may have emptied, and never held in full: none but of an erased licence.

Of such a one it may get, at last, what a city wrote of it before it heard of that, and empties it at once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.simulation.template import CITIES
from tests.simulation.written import CityWritings, Place, Violated, Watch


@dataclass
class SlotRules:
    """Checks the rule.

    Attributes:
        registry: The registry's database.
        writings: What cities wrote.
    """

    registry: Watch
    writings: CityWritings
    _seen: set[Place] = field(default_factory=set)
    _sizes: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))

    def check(self) -> None:
        """Check what the registry has taken in since."""
        for code in CITIES:
            for epoch, size, _ in self.registry.heads(code):
                if size > self._sizes[code, epoch]:
                    self._check(code, epoch)
                # One that was set back takes them in again.
                self._sizes[code, epoch] = size

    def _check(self, code: int, epoch: int) -> None:
        for idx, record in self.registry.entries(code, epoch, self._sizes[code, epoch]):
            place = Place(code, epoch, idx)
            if record is not None:
                self._seen.add(place)
            elif place not in self._seen and not self._is_erased(place):
                raise Violated(f"the registry took {place} emptied, and had never held it")

    def _is_erased(self, place: Place) -> bool:
        erased = (self.writings.of_license[license_id] for license_id in self.writings.erased)
        return any(written.place == place for records in erased for written in records)
