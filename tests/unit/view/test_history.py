"""What a licence was, on both axes of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from google.type.date_pb2 import Date

from elicense.clock import CHINA, SECOND_US
from elicense.license.model import Standing
from elicense.license.standing import decode_standing
from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness
from elicense.verification.moment import Moment
from elicense.verification.past import PastLicense, speaking, verdict_then
from elicense.view.history import LicenseRuling, state_at
from elicense.view.model import Revision, ViewRow

ISSUED, CHANGED, CORRECTED, CANCELLED, FROM_THE_FUTURE = 1, 4, 8, 7, 99
KNOWN_EVENTS = frozenset({ISSUED, CHANGED, CORRECTED, CANCELLED})
LICENSE, PERSON = bytes(16), bytes(16)
SUZHOU = 320500


def march(day: int, hour: int = 12) -> int:
    """That day of March 2026, China time, as an instant."""
    return int(datetime(2026, 3, day, hour, tzinfo=CHINA).timestamp()) * SECOND_US


def revision(number: int, event: int, *, effective: int, received: int, license_id: bytes = LICENSE) -> Revision:
    """A revision that counts from one day of March, and arrived on another."""
    return Revision(
        license_id, SUZHOU, 1, number - 1, number, event, march(effective), march(received), march(received), PERSON
    )


#: Issued on the 2nd; suspended from the 10th, which arrived on the 12th; lifted on the 20th;
#: on the 25th corrected: there never was a ground, from the 10th on.
HISTORY = (
    revision(1, ISSUED, effective=2, received=2),
    revision(2, CHANGED, effective=10, received=12),
    revision(3, CHANGED, effective=20, received=20),
    revision(4, CORRECTED, effective=10, received=25),
)
LETTERS = {1: "", 2: "D", 3: "", 4: ""}

NOW_KNOWN = None


def standing(*letters: str, until: Date | None = None) -> Standing:
    message = license_pb2.LicenseStanding()
    message.vehicle_classes.add(code="C1", from_date=Date(year=2020, month=1, day=1))
    message.validity.kind = license_pb2.VALIDITY_KIND_SIX_YEARS if until else license_pb2.VALIDITY_KIND_LONG_TERM
    message.validity.from_date.CopyFrom(Date(year=2020, month=1, day=1))
    if until is not None:
        message.validity.until_date.CopyFrom(until)
    for letter in letters:
        message.status_letters.add(letter=letter, start_date=Date(year=2020, month=1, day=1))
    return decode_standing(message.SerializeToString())


def row(flags: int = 0, license_id: bytes = LICENSE) -> ViewRow:
    return ViewRow(PERSON, license_id, SUZHOU, 1, 3, 4, CORRECTED, flags, bytes(32), bytes(16), b"", march(25))


def ask(
    moment: Moment,
    history: tuple[Revision, ...] = HISTORY,
    *,
    rulings: tuple[LicenseRuling, ...] = (),
    flags: int = 0,
    complete_to: int | None = None,
    from_the_start: bool = True,
    held: Standing | None = None,
) -> pb.Verdict:
    state = state_at(history, rulings, moment, flags=flags, known_events=KNOWN_EVENTS)
    then = held
    if held is None and state.revision is not None:
        then = standing(*LETTERS.get(state.revision.revision, ""))
    past = PastLicense(row(flags), state, then, bytes(32), from_the_start, pending_at_first=False)
    freshness = CityFreshness(pb.SOURCE_REGISTRY, march(31) if complete_to is None else complete_to, 4, 1)
    return verdict_then(speaking([past]), moment, freshness=freshness, now_us=march(31))


VALID, INVALID, NO_MATCH = pb.OUTCOME_VALID, pb.OUTCOME_INVALID, pb.OUTCOME_NO_MATCH


@pytest.mark.parametrize(
    ("at", "known", "outcome", "why"),
    [
        # At         known on    outcome
        (march(1), NOW_KNOWN, INVALID, "not issued yet"),
        (march(3), NOW_KNOWN, VALID, "issued"),
        (march(11), NOW_KNOWN, VALID, "the correction reaches back"),
        (march(21), NOW_KNOWN, VALID, "lifted, and corrected"),
        (march(1), march(1), NO_MATCH, "nothing was known then"),
        (march(3), march(3), VALID, "issued, and known at once"),
        (march(11), march(11), VALID, "the suspension had not arrived"),
        (march(11), march(13), INVALID, "the suspension had arrived"),
        (march(11), march(21), INVALID, "the lifting does not reach back"),
        (march(21), march(21), VALID, "lifted"),
        (march(11), march(26), VALID, "the correction had arrived"),
    ],
)
def test_the_bitemporal_table(at: int, known: int | None, outcome: pb.Outcome, why: str) -> None:
    assert ask(Moment(at, known)).outcome == outcome, why


@pytest.mark.parametrize(
    ("letters", "until", "day", "outcome"),
    [
        # letters  last day                         asked about   outcome
        ("", None, 15, VALID),
        ("A", None, 15, VALID),
        ("H", None, 15, VALID),
        ("D", None, 15, INVALID),
        ("HD", None, 15, INVALID),
        ("Z", None, 15, pb.OUTCOME_INDETERMINATE),
        ("", Date(year=2026, month=3, day=15), 15, VALID),
        ("", Date(year=2026, month=3, day=15), 16, INVALID),
        ("H", Date(year=2026, month=3, day=15), 16, INVALID),
    ],
)
def test_letters_and_dates_are_judged_on_the_day_that_is_asked_about(
    letters: str, until: Date | None, day: int, outcome: pb.Outcome
) -> None:
    assert ask(Moment(march(day)), held=standing(*letters, until=until)).outcome == outcome


def test_the_day_is_the_one_in_china() -> None:
    last_day = standing(until=Date(year=2026, month=3, day=15))
    midnight = march(16, hour=0)
    assert ask(Moment(midnight - 1), held=last_day).outcome == VALID
    assert ask(Moment(midnight), held=last_day).outcome == INVALID


def test_no_moment_is_valid_up_to_which_the_records_are_not_complete() -> None:
    moment = Moment(march(21))
    assert ask(moment, complete_to=march(21)).outcome == VALID
    verdict = ask(moment, complete_to=march(21) - 1)
    assert verdict.outcome == pb.OUTCOME_INDETERMINATE
    assert verdict.reasons[0] == pb.VERDICT_REASON_CITY_STALE
    assert verdict.last_known.outcome == VALID


@pytest.mark.parametrize("from_the_start", [True, False])
def test_before_the_records_begin_a_carried_over_licence_is_not_called_invalid(from_the_start: bool) -> None:
    verdict = ask(Moment(march(1)), from_the_start=from_the_start)
    assert verdict.outcome == (INVALID if from_the_start else pb.OUTCOME_INDETERMINATE)
    reason = pb.VERDICT_REASON_NOT_YET_VALID if from_the_start else pb.VERDICT_REASON_NOT_RECORDED
    assert list(verdict.reasons) == [reason]


def test_a_licence_that_was_provisional_then_was_valid_nowhere() -> None:
    confirmed = (LicenseRuling(LICENSE, PERSON, march(5), ViewFlags.PROVISIONAL, 0),)
    assert ask(Moment(march(4)), rulings=confirmed).outcome == pb.OUTCOME_INDETERMINATE
    assert ask(Moment(march(6)), rulings=confirmed).outcome == VALID


def test_a_conflict_does_not_reach_back() -> None:
    opened = (LicenseRuling(LICENSE, PERSON, march(15), 0, ViewFlags.CONFLICT),)
    assert ask(Moment(march(14)), rulings=opened, flags=ViewFlags.CONFLICT).outcome == VALID
    verdict = ask(Moment(march(16)), rulings=opened, flags=ViewFlags.CONFLICT)
    assert list(verdict.reasons) == [pb.VERDICT_REASON_CONFLICT]


def test_an_event_that_is_not_known_here_leaves_the_past_before_it_certain() -> None:
    history = (*HISTORY[:1], revision(2, FROM_THE_FUTURE, effective=10, received=10))
    assert ask(Moment(march(9)), history).outcome == VALID
    assert pb.VERDICT_REASON_UNKNOWN_EVENT in ask(Moment(march(11)), history).reasons


def test_a_cancelled_licence_was_valid_before() -> None:
    history = (*HISTORY[:1], revision(2, CANCELLED, effective=10, received=10))
    assert ask(Moment(march(9)), history, flags=ViewFlags.CANCELLED).outcome == VALID
    assert ask(Moment(march(11)), history, flags=ViewFlags.CANCELLED, held=standing()).outcome == INVALID


def test_an_erased_record_is_not_recorded() -> None:
    moment = Moment(march(11))
    state = state_at(HISTORY, (), moment, flags=0, known_events=KNOWN_EVENTS)
    past = PastLicense(row(), state, None, bytes(32), from_the_start=True, pending_at_first=False)
    freshness = CityFreshness(pb.SOURCE_REGISTRY, march(31), 4, 1)
    verdict = verdict_then(past, moment, freshness=freshness, now_us=march(31))
    assert list(verdict.reasons) == [pb.VERDICT_REASON_NOT_RECORDED]


def test_of_two_licences_the_one_speaks_that_was_in_force_then() -> None:
    moment = Moment(march(11))
    old_id, new_id = b"o" * 16, b"n" * 16
    first = revision(1, ISSUED, effective=2, received=2, license_id=old_id)
    second = revision(1, ISSUED, effective=20, received=20, license_id=new_id)
    old = state_at((first,), (), moment, flags=0, known_events=KNOWN_EVENTS)
    new = state_at((second,), (), moment, flags=0, known_events=KNOWN_EVENTS)
    licenses = [
        PastLicense(row(license_id=new_id), new, None, b"", from_the_start=True, pending_at_first=False),
        PastLicense(row(license_id=old_id), old, standing(), bytes(32), from_the_start=True, pending_at_first=False),
    ]
    chosen = speaking(licenses)
    assert chosen is not None
    assert chosen.row.license_id == old_id
    later = replace(licenses[0], state=replace(new, revision=new.first), standing=standing())
    assert speaking([later, licenses[1]]) is later


def test_the_answer_says_which_moment_it_is_about() -> None:
    verdict = ask(Moment(march(11), march(13)))
    assert verdict.summary.startswith("On 2026-03-11 12:00:00 (China time), as known on 2026-03-13 12:00:00: Not valid")
    assert verdict.at_time.seconds * SECOND_US == march(11)
    assert verdict.as_known_time.seconds * SECOND_US == march(13)
