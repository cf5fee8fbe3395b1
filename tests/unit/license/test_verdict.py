from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.license.codec import decode_standing
from elicense.license.license_bytes import standing_bytes
from elicense.license.model import Standing, StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.license.status_letters import LETTERS
from elicense.license.verdict import (
    NO_MATCH,
    REGISTRY_UNREACHABLE,
    Finding,
    LastKnown,
    Outcome,
    VerdictReason,
    ViewFlags,
    apply_freshness,
    assess,
)
from elicense.v1 import verification_pb2
from tests.unit.license.samples import a_license

ON = date(2021, 6, 1)
SHORT = {
    "S": VerdictReason.STATUS_LETTER,
    "X": VerdictReason.EXPIRED,
    "Y": VerdictReason.NOT_YET_VALID,
    "N": VerdictReason.NO_CLASS,
    "U": VerdictReason.UNKNOWN_LETTER,
    "P": VerdictReason.PROVISIONAL,
    "C": VerdictReason.CONFLICT,
    "E": VerdictReason.UNKNOWN_EVENT,
    "G": VerdictReason.CANCELLED,
    "T": VerdictReason.IN_TRANSFER,
}
FLAGS = {
    "P": ViewFlags.PROVISIONAL,
    "C": ViewFlags.CONFLICT,
    "E": ViewFlags.UNKNOWN_EVENT,
    "G": ViewFlags.CANCELLED,
    "T": ViewFlags.TAKEN_UP,
}


def shifted(days: str, default: int) -> date | None:
    """Read a day relative to the day of the verdict: ``-1`` is the day before, ``*`` is open."""
    if days == "*":
        return None
    return ON + timedelta(days=int(days) if days else default)


def the_standing(letters: str, classes: str, validity: str) -> Standing:
    """Read ``D[-5,-1]`` items and a validity such as ``-10,0``."""

    def items(text: str) -> list[tuple[str, date, date | None]]:
        read = []
        for item in text.split():
            code, _, span = item.rstrip("]").partition("[")
            start, _, end = span.partition(",")
            first = shifted(start, -100)
            assert first is not None
            read.append((code, first, shifted(end or "*", 0)))
        return read

    period = None
    if validity:
        start, _, end = validity.partition(",")
        first = shifted(start, -100)
        assert first is not None
        kind = ValidityKind.LONG_TERM if end == "*" else ValidityKind.SIX_YEARS
        period = Validity(kind, first, shifted(end.removesuffix("!"), 0) if not end.endswith("!") else None)
    return Standing(
        tuple(VehicleClass(*item) for item in items(classes)),
        tuple(StatusLetter(*item) for item in items(letters)),
        period,
    )


# Days are relative to the day of the verdict, both ends included; "*" is open-ended.
MATRIX = """
letters            | classes             | validity  | flags | outcome       | reasons | drivable
                   | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
                   | C1                  | -100,*    |       | VALID         |         | C1 C2 C3 C4
                   | C2 E                | -100,900  |       | VALID         |         | C2 E F
                   | C1                  | 0,900     |       | VALID         |         | C1 C2 C3 C4
                   | C1                  | 1,900     |       | INVALID       | Y       |
                   | C1                  | -100,0    |       | VALID         |         | C1 C2 C3 C4
                   | C1                  | -100,-1   |       | INVALID       | X       |
                   | C1                  | -100,!    |       | INVALID       | X       |
                   | C1                  |           |       | INVALID       | N       |
                   |                     | -100,900  |       | INVALID       | N       |
                   | C1[-9,-1]           | -100,900  |       | INVALID       | N       |
                   | C1[-9,0]            | -100,900  |       | VALID         |         | C1 C2 C3 C4
                   | C1[0]               | -100,900  |       | VALID         |         | C1 C2 C3 C4
                   | C1[1]               | -100,900  |       | INVALID       | N       |
                   | A1[-9,-1] C1        | -100,900  |       | VALID         |         | C1 C2 C3 C4
                   | C1[-9,-1] D[0,0]    | -100,900  |       | VALID         |         | D E F
                   | Y7                  | -100,900  |       | VALID         |         | Y7
A                  | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
H                  | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
H I N P T          | C2                  | -100,900  |       | VALID         |         | C2
D                  | C1                  | -100,900  |       | INVALID       | S       |
D[0]               | C1                  | -100,900  |       | INVALID       | S       |
D[1]               | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
D[-9,0]            | C1                  | -100,900  |       | INVALID       | S       |
D[-9,-1]           | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
B D J              | C1                  | -100,900  |       | INVALID       | S       |
M                  | C1                  | -100,900  |       | INVALID       | S       |
M                  | C1                  | -100,-1   |       | INVALID       | S X     |
H D                | C1                  | -100,900  |       | INVALID       | S       |
F                  |                     | -100,-1   |       | INVALID       | S X N   |
C                  | C1                  | -100,900  |       | INDETERMINATE | S       |
Z                  | C1                  | -100,900  |       | INDETERMINATE | S       |
Q                  | C1                  | -100,900  |       | INDETERMINATE | U       |
Q Z                | C1                  | -100,900  |       | INDETERMINATE | U       |
Q[1]               | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
Q[-9,-1]           | C1                  | -100,900  |       | VALID         |         | C1 C2 C3 C4
Q D                | C1                  | -100,900  |       | INVALID       | S U     |
Q                  | C1                  | -100,-1   |       | INVALID       | X U     |
                   | C1                  | -100,900  | P     | INDETERMINATE | P       |
                   | C1                  | -100,900  | C     | INDETERMINATE | C       |
                   | C1                  | -100,900  | E     | INDETERMINATE | E       |
                   | C1                  | -100,900  | P C E | INDETERMINATE | E C P   |
                   | C1                  | -100,900  | T     | INDETERMINATE | T       |
D                  | C1                  | -100,900  | T     | INDETERMINATE | T S     |
                   | C1                  | -100,900  | G     | INVALID       | G       |
D                  | C1                  | -100,900  | G     | INVALID       | G S     |
D                  | C1                  | -100,900  | C     | INDETERMINATE | C S     |
Q                  | C1                  | -100,900  | P     | INDETERMINATE | P U     |
                   |                     |           | G     | INVALID       | G N     |
                   | C1                  | -100,900  | G E   | INDETERMINATE | E G     |
"""
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in MATRIX.strip().splitlines()[1:]]


@pytest.mark.parametrize(("letters", "classes", "validity", "flags", "outcome", "reasons", "drivable"), ROWS)
def test_the_verdict_follows_the_matrix(
    letters: str, classes: str, validity: str, flags: str, outcome: str, reasons: str, drivable: str
) -> None:
    marks = ViewFlags(0)
    for flag in flags.split():
        marks |= FLAGS[flag]
    standing = the_standing(letters, classes, validity)
    for given_flags in (marks, int(marks)):
        finding = assess(standing, given_flags, ON)
        assert finding.outcome is Outcome[outcome]
        assert finding.reasons == tuple(SHORT[short] for short in reasons.split())
        assert finding.drivable == tuple(drivable.split())
        assert finding.summary.endswith(".")


def test_the_enumerations_have_the_numbers_of_the_wire() -> None:
    for member in Outcome:
        assert verification_pb2.Outcome.Value(f"OUTCOME_{member.name}") == member
    for reason in VerdictReason:
        assert verification_pb2.VerdictReason.Value(f"VERDICT_REASON_{reason.name}") == reason
    assert len(verification_pb2.Outcome.keys()) == len(Outcome) + 1
    assert len(verification_pb2.VerdictReason.keys()) == len(VerdictReason) + 1


def test_letters_in_effect_are_told_in_plain_words() -> None:
    finding = assess(the_standing("H[-9,30] D[1] Q", "C1", "-100,900"), 0, ON)
    assert [(told.letter, told.name, told.forbids_driving, told.until) for told in finding.letters] == [
        ("H", "违法未处理", False, ON + timedelta(days=30)),
        ("Q", "未知", False, None),
    ]


def test_the_summary_says_what_is_to_be_settled() -> None:
    finding = assess(the_standing("H", "C2", "-100,900"), 0, ON)
    assert finding.summary == "Valid for C2. To be settled: H 违法未处理."


def test_a_stored_standing_gives_the_verdict_of_its_licence() -> None:
    finding = assess(decode_standing(standing_bytes(a_license())), 0, ON)
    assert (finding.outcome, finding.drivable) == (Outcome.VALID, ("C1", "C2", "C3", "C4", "D", "E", "F"))


def test_nothing_left_of_a_licence_is_never_valid() -> None:
    assert assess(decode_standing(b""), 0, ON).outcome is Outcome.INVALID


_days = st.dates(date(2021, 5, 20), date(2021, 6, 10))
_ends = st.none() | _days


@given(
    st.lists(st.builds(StatusLetter, st.sampled_from([*LETTERS, "Q", "O", ""]), _days, _ends), max_size=3),
    st.lists(st.builds(VehicleClass, st.sampled_from(["C1", "A1", "D", "Y7"]), _days, _ends), max_size=2),
    st.none() | st.builds(Validity, st.sampled_from([1, 2, 3, 4]), _days, _ends),
    st.integers(0, 15),
)
def test_valid_is_said_only_when_nothing_at_all_speaks_against_it(
    letters: list[StatusLetter], classes: list[VehicleClass], validity: Validity | None, flags: int
) -> None:
    finding = assess(Standing(tuple(classes), tuple(letters), validity), flags, ON)

    def in_effect(start: date, end: date | None) -> bool:
        return start <= ON and (end is None or end >= ON)

    harmless = all(each.letter in tuple("AHINPT") for each in letters if in_effect(each.start_date, each.end_date))
    dated = (
        validity is not None
        and in_effect(validity.from_date, validity.until_date)
        and (validity.until_date is not None or validity.kind == ValidityKind.LONG_TERM)
    )
    held = any(in_effect(each.from_date, each.until_date) for each in classes)
    assert (finding.outcome is Outcome.VALID) == (harmless and dated and held and not flags)
    assert bool(finding.drivable) == (finding.outcome is Outcome.VALID) == (not finding.reasons)


VALID = Finding(Outcome.VALID, (), ("C2",), (), "Valid for C2.")
INVALID = Finding(Outcome.INVALID, (VerdictReason.EXPIRED,), (), (), "Not valid: the licence has expired.")
LIMIT = 600_000_000


@pytest.mark.parametrize("age", [-5_000_000, 0, LIMIT])
def test_within_the_limit_a_finding_stands(age: int) -> None:
    assert apply_freshness(VALID, as_of_us=10**15 - age, now_us=10**15, limit_us=LIMIT) == (VALID, None)


@pytest.mark.parametrize("finding", [VALID, INVALID])
def test_beyond_the_limit_nothing_is_certain_but_what_was_known_is_told(finding: Finding) -> None:
    as_of = 10**15 - LIMIT - 1
    stale, last_known = apply_freshness(finding, as_of_us=as_of, now_us=10**15, limit_us=LIMIT)
    assert stale.outcome is Outcome.INDETERMINATE
    assert stale.reasons == (VerdictReason.CITY_STALE, *finding.reasons)
    assert stale.drivable == ()
    assert last_known == LastKnown(finding.outcome, as_of)


def test_no_match_tells_nothing_of_any_citys_freshness() -> None:
    assert apply_freshness(NO_MATCH, as_of_us=0, now_us=10**15, limit_us=0) == (NO_MATCH, None)


def test_the_fixed_findings_hold_nothing_of_a_licence() -> None:
    for finding in (NO_MATCH, REGISTRY_UNREACHABLE):
        assert finding == replace(finding, drivable=(), letters=())


def test_records_said_to_be_complete_far_in_the_future_are_not_fresh() -> None:
    ahead = 10**15 + LIMIT + 1
    stale, last_known = apply_freshness(VALID, as_of_us=ahead, now_us=10**15, limit_us=LIMIT)
    assert stale.reasons == (VerdictReason.CITY_STALE,)
    assert last_known == LastKnown(Outcome.VALID, ahead)
