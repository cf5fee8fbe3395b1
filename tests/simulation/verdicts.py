"""What a verifier may be told: no verdict knows more than its node can, or less than it must.

1. The log behind an answer is no longer than the city's.
2. VALID by the registry as of a time: nothing that the city had committed before that time forbids driving, and
   nothing that the registry held when it was asked.  (While it has its log back from its cities, it may hold what a
   city wrote upon a decision that it lacks: that forbids nothing as of a time before it was written.)
3. VALID by the registry is no older than the verifier's limit.
4. VALID by a city: it has custody, and nothing that it had committed when it was asked forbids driving; but for what
   it had written, before its operator was told so, of a licence that was erased by an entry which both sides have lost.
5. INVALID: a record says so.
6. NO_MATCH: the registry held no licence of the person when it was asked, or it was erased since.
7. VALID by the registry: it did not hold, when it was asked, that the person is barred by a licence that counted.
   (One that never counted bars from the next; it takes nothing from another city's, or any city could.)

8. VALID by the registry: a licence of the person has counted since it was asked, or just before.

A record that is written too late, by a city that had handed the licence over, forbids and bars nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from elicense.clock import SECOND_US, from_timestamp
from elicense.license.verdict import ViewFlags
from elicense.v1 import verification_pb2 as pb
from tests.simulation.decided import Decisions
from tests.simulation.persons import PersonRules
from tests.simulation.written import CityWritings, Violated, Watch, Written, held

LIMIT_US: Final = 600 * SECOND_US
#: How old an answer may be.
_CACHED_US: Final = SECOND_US
_NEVER_COUNTED: Final = int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.VOID)
_BY_RECORD: Final = {pb.VERDICT_REASON_STATUS_LETTER, pb.VERDICT_REASON_CANCELLED}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was true when a verifier asked.

    Attributes:
        at_us: True time.
        setbacks: How many databases had been set back.
        number: Number of the document asked about.
        committed: Records of the person that forbid driving and were committed.
        held: Those of them that the registry held.
        undecided: Those of them of cities that had custody by a decision which it lacked.
        custodian: City in custody by the national view; 0 where it does not know the licence.
        is_held: Whether the registry held a licence of the person.
        is_barred: Whether it held that a licence of the person that counted bars them from the next.
        is_whole: Whether it held whatever it had decided.
    """

    at_us: int
    setbacks: int
    number: str
    committed: tuple[Written, ...]
    held: tuple[Written, ...]
    undecided: tuple[Written, ...]
    custodian: int
    is_held: bool
    is_barred: bool
    is_whole: bool


@dataclass
class VerdictOracle:
    """Judges verdicts.

    Attributes:
        judged: How many were VALID or INVALID of a person with one licence.
        setbacks: How many databases were set back so far; what is on its way then is not judged.
    """

    registry: Watch
    cities: dict[int, Watch]
    writings: CityWritings
    decisions: Decisions
    persons: PersonRules
    judged: int = 0
    setbacks: int = 0

    def asking(self, number: str, now_us: int) -> Asked:
        """Note what is true before a question leaves."""
        committed = tuple(self._forbidding(number))
        licenses = self.writings.licenses(number)
        custodian = 0
        if len(licenses) == 1:
            # The national view may be of before, while the registry is filled again.
            custodian = self.decisions.custodian(*licenses) or self._in_view(*licenses)
        known = tuple(held(committed, self.registry))
        counting = [each for each in held(self._counting(number), self.registry) if not self._is_emptied(each)]
        # One that was set back may have got a take-over again before the license itself, which says nothing to it, or
        # what a city wrote upon one, such as another number, before its own decision.
        issued = {each.license_id for each in counting if each.issues}
        is_whole = self.decisions.is_whole
        is_held = any(
            number in each.numbers and each.license_id in issued and (each.issues or is_whole) for each in counting
        )
        undecided = (
            () if is_whole else tuple(each for each in known if self._in_view(each.license_id) != each.place.city)
        )
        return Asked(
            now_us,
            self.setbacks,
            number,
            committed,
            known,
            undecided,
            custodian,
            is_held,
            self._is_barred(known),
            is_whole,
        )

    def told(self, asked: Asked, verdict: pb.Verdict) -> None:
        """Check an answer at the moment when the verifier hears it."""
        fresh = verdict.freshness
        if self._is_beyond_judging(asked, fresh):
            return
        self._within_the_log(fresh)
        if verdict.outcome == pb.OUTCOME_VALID and fresh.source != pb.SOURCE_CITY:
            self._of_somebody_licensed(asked)
        if len(self.writings.of_person(asked.number)) != 1:
            return  # which licence speaks for the person is not known from here
        if verdict.outcome == pb.OUTCOME_VALID:
            self.judged += 1
            if fresh.source == pb.SOURCE_CITY:
                self._valid_by_city(asked, fresh)
            else:
                self._valid_by_registry(asked, fresh)
        elif verdict.outcome == pb.OUTCOME_INVALID and set(verdict.reasons) <= _BY_RECORD:
            self.judged += 1
            if all(each.is_clean for each in self.writings.records(asked.number)):
                raise Violated("a verdict is INVALID, and no record forbids driving")
        elif verdict.outcome == pb.OUTCOME_NO_MATCH and asked.is_held and not self._is_erased(asked.number):
            raise Violated("a verdict is NO_MATCH, and the registry held the license when it was asked")

    def _within_the_log(self, fresh: pb.Freshness) -> None:
        if not fresh.city:
            return
        # A city that was set back has less than the registry for a while.
        heads = [*self.cities[fresh.city].heads(fresh.city), *self.registry.heads(fresh.city)]
        if fresh.log_size > max(size for _, size, _ in heads):
            raise Violated(f"a verdict rests on {fresh.log_size} entries of {fresh.city}, which has fewer")

    def _is_beyond_judging(self, asked: Asked, fresh: pb.Freshness) -> bool:
        """Whether a verdict may rest on what is not known here."""
        if asked.setbacks != self.setbacks or not self.decisions.lost.isdisjoint(self.writings.licenses(asked.number)):
            return True
        spoken_for = {fresh.city, *(each.place.city for each in self.writings.records(asked.number))}
        if not self.decisions.quarantines.unmended.isdisjoint(spoken_for):
            return True  # whoever has the city's key vouches for what it likes
        # What a city wrote last may reach the registry when the city was set back already.
        return bool(fresh.city) and self.registry.head(fresh.city)[:2] > self.cities[fresh.city].head(fresh.city)[:2]

    def _of_somebody_licensed(self, asked: Asked) -> None:
        if not (asked.is_whole or self.decisions.is_whole):
            raise Violated("VALID by the registry, which lacks decisions")
        if asked.is_barred:
            raise Violated("VALID by the registry, which held when asked that the person is barred")
        if not self.persons.counted(self.writings.of_person(asked.number), asked.at_us - _CACHED_US):
            raise Violated("VALID by the registry, where no license of the person counts")

    def _valid_by_registry(self, asked: Asked, fresh: pb.Freshness) -> None:
        as_of_us = from_timestamp(fresh.as_of_time)
        if as_of_us < asked.at_us - LIMIT_US:
            raise Violated("a verdict is VALID from records that are older than the verifier's limit")
        for each in self._forbidding(asked.number):
            if each.place.city == fresh.city and each.at_us < as_of_us:
                raise Violated(f"VALID as of {as_of_us}, and {each.place} said at {each.at_us} that nobody may drive")
        for each in asked.held:
            is_later = each in asked.undecided and each.at_us > as_of_us
            if not is_later and not self.decisions.is_late(each):
                raise Violated(f"VALID by the registry, which held {each.place} when asked")

    def _valid_by_city(self, asked: Asked, fresh: pb.Freshness) -> None:
        if asked.custodian not in (0, fresh.city):
            raise Violated(f"VALID by {fresh.city}, and {asked.custodian} had custody when it was asked")
        for each in asked.committed:
            told_us = self.writings.told[fresh.city].get(each.license_id, 0)
            is_lost = each.license_id not in self.writings.erased and each.at_us < told_us
            if not is_lost and not self.decisions.is_late(each):
                raise Violated(f"VALID by {fresh.city} after {each.place} forbade driving")

    def _in_view(self, license_id: bytes) -> int:
        """Return which city has a licence by the national view; 0 where it does not know the licence."""
        query = "SELECT city FROM license_view WHERE license_id = ?"
        row = self.registry.connection.execute(query, (license_id,)).fetchone()
        return int(row[0]) if row else 0

    def _is_barred(self, known: Iterable[Written]) -> bool:
        query = "SELECT flags FROM license_view WHERE license_id = ?"
        barring = {each.license_id for each in known if each.bars}
        rows = [row for license_id in barring for row in self.registry.connection.execute(query, (license_id,))]
        return any(not flags & _NEVER_COUNTED for (flags,) in rows)

    def _forbidding(self, number: str) -> Iterator[Written]:
        return (each for each in self._counting(number) if each.forbids)

    def _is_erased(self, number: str) -> bool:
        return not self.writings.erased.isdisjoint(self.writings.licenses(number))

    def _is_emptied(self, written: Written) -> bool:
        """Whether nothing is left of a record, though the entry that erased it may be lost on both sides."""
        return written.license_id in self.writings.ever_erased and self.registry.record(written.place) is None

    def _counting(self, number: str) -> Iterator[Written]:
        return (each for each in self.writings.records(number) if not self.decisions.is_late(each))
