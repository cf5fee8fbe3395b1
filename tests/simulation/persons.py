"""One person, one licence: looked up in the national view by the numbers that records name.

1. No number leads to two licences that count, whichever document named the holder when.
2. Whoever is barred, as far as the registry holds it, is granted to no city.
3. A city that wrote that somebody is barred does not license them itself.
4. A licence that lost a conflict never counts again; one that won it counts in the end, unless it was ended since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from elicense.license.model import DocumentType
from elicense.license.verdict import ViewFlags
from elicense.view.person import PersonIndex
from tests.simulation.decided import Decisions
from tests.simulation.written import CityWritings, Violated, Watch, Written, held

_COUNTS_NOT: Final = int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.CANCELLED | ViewFlags.VOID)


@dataclass
class PersonRules:
    """Checks the rules.

    Attributes:
        writings: What cities wrote.
        decisions: What the registry decided.
        tags: Computes person tags.
    """

    writings: CityWritings
    decisions: Decisions
    tags: PersonIndex
    #: Tags of the persons of whom the registry held, a step ago, that they are barred.
    _barred: set[bytes] = field(default_factory=set)
    _granted: int = 0
    #: When each licence was last seen to count.
    _counted_us: dict[bytes, int] = field(default_factory=dict)
    _counting: set[bytes] = field(default_factory=set)

    def check(self, registry: Watch, now_us: int) -> None:
        """Check what the registry has committed since."""
        counting = {
            license_id
            for (license_id,) in registry.connection.execute(
                "SELECT license_id FROM license_view WHERE (flags & ?) = 0", (_COUNTS_NOT,)
            )
        }
        # What stops counting has counted until now.
        self._counted_us.update(dict.fromkeys(counting | self._counting, now_us))
        self._counting = counting
        self._one_licence(counting)
        if self.decisions.is_whole and not self.decisions.void.isdisjoint(counting):
            raise Violated("a license counts that lost a conflict")
        self._no_grant()
        bars = [each for each in self.writings.bars if not self.decisions.is_late(each)]
        for each in held(bars, registry):
            self._barred.update(self._tag(number) for number in each.numbers)

    def counted(self, license_ids: Iterable[bytes], since_us: int) -> bool:
        """Whether one of these licences has counted at some moment since."""
        return any(each in self._counting or self._counted_us.get(each, 0) >= since_us for each in license_ids)

    def settled(self, registry: Watch) -> None:
        """Check, in the end, that whoever won a conflict counts."""
        for standing in set(self.decisions.stands.values()) - self.decisions.void:
            for (flags,) in registry.connection.execute(
                "SELECT flags FROM license_view WHERE license_id = ?", (standing,)
            ):
                if flags & (ViewFlags.CONFLICT | ViewFlags.VOID | ViewFlags.PROVISIONAL):
                    raise Violated("a license that won its conflict does not count")

    def forget(self) -> None:
        """Forget what the registry knew: it was set back."""
        self._barred.clear()
        self._granted = len(self.decisions.grants)

    def wrote(self, written: Written) -> None:
        """Check what a city has written."""
        if not written.issues:
            return
        for number in written.numbers:
            for each in self.writings.records(number):
                if each.bars and each.place < written.place and each.place.city == written.place.city:
                    raise Violated(f"{written.place} licenses somebody whom {each.place} had barred")

    def _one_licence(self, counting: set[bytes]) -> None:
        for number in self.writings.shared:
            named = {each.license_id for each in self.writings.of_number[number] if not self.decisions.is_late(each)}
            if len(named & counting) > 1:
                raise Violated("a person has two licences that count")

    def _no_grant(self) -> None:
        for place in list(self.decisions.grants)[self._granted :]:
            city, tags = self.decisions.grants[place]
            if not self._barred.isdisjoint(tags):
                raise Violated(f"{city} was granted a person whom the registry knew to be barred")
        self._granted = len(self.decisions.grants)

    def _tag(self, number: str) -> bytes:
        return self.tags.person_key(DocumentType.RESIDENT_ID, number)
