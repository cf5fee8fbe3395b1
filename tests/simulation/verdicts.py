"""What a verifier may be told: no verdict knows more than its node can, or less than it must.

1. The log behind an answer is no longer than the city's.
2. VALID by the registry as of a time: nothing that the city had committed before that time forbids driving, and
   nothing that the registry held when it was asked.
3. VALID by the registry is no older than the verifier's limit.
4. VALID by a city: it has custody, and nothing that it had committed when it was asked forbids driving.
5. INVALID: a record says so.
6. NO_MATCH: the registry held no licence of the person when it was asked, or it was erased since.

A record that is written too late, by a city that had handed the licence over, forbids nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from elicense.clock import SECOND_US, from_timestamp
from elicense.v1 import verification_pb2 as pb
from tests.simulation.written import CityWritings, Decisions, Violated, Watch, Written

LIMIT_US: Final = 600 * SECOND_US
_BY_RECORD: Final = {pb.VERDICT_REASON_STATUS_LETTER, pb.VERDICT_REASON_CANCELLED}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was true when a verifier asked.

    Attributes:
        at_us: True time.
        number: Number of the document asked about.
        committed: Records of the person that forbid driving and were committed.
        held: Those of them that the registry held.
        custodian: City in custody by the national view; 0 where it does not know the licence.
        is_held: Whether the registry held a licence of the person.
    """

    at_us: int
    number: str
    committed: tuple[Written, ...]
    held: tuple[Written, ...]
    custodian: int
    is_held: bool


@dataclass
class VerdictOracle:
    """Judges verdicts.

    Attributes:
        judged: How many were VALID or INVALID of a person with one licence.
    """

    registry: Watch
    cities: dict[int, Watch]
    writings: CityWritings
    decisions: Decisions
    judged: int = 0

    def asking(self, number: str, now_us: int) -> Asked:
        """Note what is true before a question leaves."""
        committed = tuple(self._forbidding(number))
        held = {city: self.registry.head(city)[0] for city in self.cities}
        licenses = self.writings.of_person[number]
        custodian = 0
        if len(licenses) == 1:
            row = self.registry.connection.execute(
                "SELECT city FROM license_view WHERE license_id = ?", tuple(licenses)
            ).fetchone()
            custodian = row[0] if row else 0
        known = tuple(each for each in committed if each.index < held[each.city])
        is_held = any(each.index < held[each.city] for each in self._records(number))
        return Asked(now_us, number, committed, known, custodian, is_held)

    def told(self, asked: Asked, verdict: pb.Verdict) -> None:
        """Check an answer at the moment when the verifier hears it."""
        fresh = verdict.freshness
        if fresh.city and fresh.log_size > self.cities[fresh.city].head(fresh.city)[0]:
            raise Violated(f"a verdict rests on {fresh.log_size} entries of {fresh.city}, which has fewer")
        if len(self.writings.of_person[asked.number]) != 1:
            return  # which licence speaks for the person is not known from here
        if verdict.outcome == pb.OUTCOME_VALID:
            self.judged += 1
            if fresh.source == pb.SOURCE_CITY:
                self._valid_by_city(asked, fresh)
            else:
                self._valid_by_registry(asked, fresh)
        elif verdict.outcome == pb.OUTCOME_INVALID and set(verdict.reasons) <= _BY_RECORD:
            self.judged += 1
            if all(each.is_clean for each in self._records(asked.number)):
                raise Violated("a verdict is INVALID, and no record forbids driving")
        elif verdict.outcome == pb.OUTCOME_NO_MATCH and asked.is_held and not self._is_erased(asked.number):
            raise Violated("a verdict is NO_MATCH, and the registry held the license when it was asked")

    def _valid_by_registry(self, asked: Asked, fresh: pb.Freshness) -> None:
        as_of_us = from_timestamp(fresh.as_of_time)
        if as_of_us < asked.at_us - LIMIT_US:
            raise Violated("a verdict is VALID from records that are older than the verifier's limit")
        for each in self._forbidding(asked.number):
            if each.city == fresh.city and each.at_us < as_of_us:
                raise Violated(
                    f"VALID as of {as_of_us}, and {each.city} had written at {each.at_us} that nobody may drive"
                )
        for each in asked.held:
            if not self.decisions.is_late(each):
                raise Violated(f"VALID by the registry, which held record {each.index} of {each.city} when asked")

    def _valid_by_city(self, asked: Asked, fresh: pb.Freshness) -> None:
        if asked.custodian not in (0, fresh.city):
            raise Violated(f"VALID by {fresh.city}, and {asked.custodian} had custody when it was asked")
        for each in asked.committed:
            if not self.decisions.is_late(each):
                raise Violated(f"VALID by {fresh.city} after record {each.index} of {each.city} forbade driving")

    def _forbidding(self, number: str) -> Iterator[Written]:
        return (each for each in self._records(number) if each.forbids and not self.decisions.is_late(each))

    def _is_erased(self, number: str) -> bool:
        return any(each.erases for each in self._records(number))

    def _records(self, number: str) -> Iterator[Written]:
        for license_id in self.writings.of_person[number]:
            yield from self.writings.of_license[license_id]
