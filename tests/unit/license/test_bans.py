"""Bars from applying anew: the table of grounds, what a request must say, and how long each lasts."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import date

import pytest

from elicense.errors import IllegalTransition, Malformed
from elicense.license.bans import FOR_LIFE, GROUNDS, ban_of, ground_on, last_day, until_of, with_terms
from elicense.license.codec import letter_from_message, license_from_message, license_to_message
from elicense.license.field_change import FieldCorrection
from elicense.license.license_bytes import standing_bytes
from elicense.license.model import Ban, StatusLetter
from elicense.license.standing import decode_standing
from elicense.license.status_change import check_status_change
from elicense.v1 import license_pb2
from tests.unit.license.samples import a_license, letter

DAY = date(2021, 8, 1)
BASIS = "道路交通安全法 第九十一条"


def revoked(ban: Ban | None, *, code: str = "F", start: date = DAY) -> StatusLetter:
    return StatusLetter(code, start, None, BASIS, ban=ban)


@pytest.mark.parametrize(
    ("ground", "code", "last"),
    [
        ("ORDINARY", "F", date(2023, 7, 31)),
        ("DRUNK_DRIVING", "F", date(2026, 7, 31)),
        ("COMMERCIAL_DRINK_DRIVING", "F", date(2026, 7, 31)),
        ("COMMERCIAL_DRUNK_DRIVING", "F", date(2031, 7, 31)),
        ("DRINK_DRIVING_ACCIDENT", "F", None),
        ("HIT_AND_RUN", "F", None),
        ("OBTAINED_BY_FRAUD", "E", date(2024, 7, 31)),
    ],
)
def test_the_ground_gives_the_term(ground: str, code: str, last: date | None) -> None:
    after = check_status_change(a_license(), [revoked(Ban(ground), code=code)], [], DAY)
    assert after.status_letters[0].ban == Ban(ground, last, last is None)


def test_a_term_ends_the_day_before_it_would_begin_again_also_on_a_leap_day() -> None:
    assert last_day(date(2024, 2, 29), 2) == date(2026, 2, 28)
    assert last_day(date(2024, 2, 29), 4) == date(2028, 2, 28)
    assert last_day(date(2021, 8, 1), None) is None


@pytest.mark.parametrize(
    ("code", "ban", "reason"),
    [
        ("F", None, "BAN_MISSING"),
        ("E", None, "BAN_MISSING"),
        ("F", Ban(), "BAN_MISSING"),
        ("F", Ban("NO_SUCH_GROUND"), "BAN_GROUND_UNKNOWN"),
        ("E", Ban("DRUNK_DRIVING"), "BAN_GROUND_UNKNOWN"),
        ("F", Ban("SERIOUS_ACCIDENT"), "BAN_GROUND_UNKNOWN"),  # stands only since April 2022
        ("F", Ban("", date(2031, 1, 1), True), "BAN_TERM_TWICE"),
        ("F", Ban("", date(2021, 7, 31)), "DATES_OUT_OF_ORDER"),
        ("F", Ban("ORDINARY", date(2026, 1, 1)), "BAN_TERM_DIFFERS"),
        ("F", Ban("HIT_AND_RUN", date(2026, 1, 1)), "BAN_TERM_DIFFERS"),
        ("D", Ban("ORDINARY"), "BAN_WITHOUT_REVOCATION"),
    ],
)
def test_a_letter_whose_bar_is_not_clear_is_refused(code: str, ban: Ban | None, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        check_status_change(a_license(), [revoked(ban, code=code)], [], DAY)
    assert [(v.field, v.reason) for v in refused.value.violations] == [("add_letters[0].ban", reason)]


@pytest.mark.parametrize("ban", [Ban("", date(2030, 1, 1)), Ban("", None, True), Ban("ORDINARY", date(2023, 7, 31))])
def test_a_ruling_may_state_the_term_itself(ban: Ban) -> None:
    assert check_status_change(a_license(), [revoked(ban)], [], DAY).status_letters[0].ban == ban


def test_a_bar_survives_the_record_and_the_standing_that_verifications_read() -> None:
    ban = Ban("DRUNK_DRIVING", date(2026, 7, 31))
    license_ = a_license(status_letters=(revoked(ban),))
    assert license_from_message(license_to_message(license_)).status_letters == (revoked(ban),)
    assert decode_standing(standing_bytes(license_)).status_letters[0].ban == ban
    message = license_to_message(license_).status_letters[0]
    assert letter_from_message(message) == revoked(ban)


def test_a_bar_with_a_day_that_does_not_exist_is_refused() -> None:
    message = license_pb2.StatusLetter(letter="F")
    message.start_date.year, message.start_date.month, message.start_date.day = 2021, 8, 1
    message.ban.until_date.year, message.ban.until_date.month, message.ban.until_date.day = 2023, 2, 30
    with pytest.raises(Malformed) as refused:
        letter_from_message(message, "add_letters[0]")
    assert [v.field for v in refused.value.violations] == ["add_letters[0].ban.until_date"]


def test_a_correction_that_revokes_needs_the_bar_as_well_and_gets_its_term_from_the_ground() -> None:
    def corrected(ban: Ban | None) -> FieldCorrection:
        return FieldCorrection(a_license(status_letters=(revoked(ban),)), ("status_letters",), 320500, 1, "left out")

    with pytest.raises(IllegalTransition) as refused:
        corrected(None).apply(a_license(), date(2021, 9, 1))
    assert [v.reason for v in refused.value.violations] == ["BAN_MISSING"]
    after = corrected(Ban("DRUNK_DRIVING")).apply(a_license(), date(2021, 9, 1)).license
    assert after.status_letters[0].ban == Ban("DRUNK_DRIVING", date(2026, 7, 31))


def test_a_correction_changes_a_revocation_only_while_its_bar_runs_and_says_what_to_do_afterwards() -> None:
    barred = a_license(status_letters=(revoked(Ban("", date(2023, 7, 31))),))
    others: dict[str, tuple[StatusLetter, ...]] = {
        "taken back": (),
        "barred for longer": (revoked(Ban("", date(2043, 7, 31))),),
        "ends by itself": (StatusLetter("F", DAY, date(2024, 1, 1), BASIS, ban=Ban("", date(2023, 7, 31))),),
    }
    for letters in others.values():
        right = FieldCorrection(replace(barred, status_letters=letters), ("status_letters",), 320500, 1, "wrong")
        right.apply(barred, date(2023, 7, 31))
        with pytest.raises(IllegalTransition) as refused:
            right.apply(barred, date(2023, 8, 1))
        assert [v.reason for v in refused.value.violations] == ["BAR_OVER"]
        assert "Issue a new licence" in refused.value.violations[0].message
    # Whatever else was recorded wrongly is put right at any time, and a letter beside it too.
    beside = (*barred.status_letters, letter("H"))
    FieldCorrection(replace(barred, status_letters=beside), ("status_letters",), 320500, 1, "left out").apply(
        barred, date(2023, 8, 1)
    )
    # A bar for life never ends.
    for_life = a_license(status_letters=(revoked(Ban("", None, True)),))
    FieldCorrection(a_license(), ("status_letters",), 320500, 1, "wrong").apply(for_life, date(2099, 1, 1))


def test_a_letter_that_stays_as_it_is_needs_no_bar_of_its_own() -> None:
    old = StatusLetter("F", DAY, None, BASIS)
    assert with_terms([old], "letters", [old]) == ((old,), [])


def test_the_longest_bar_counts_and_one_that_was_not_recorded_is_for_life() -> None:
    assert ban_of([letter("D")]) is None
    short, long = Ban("", date(2023, 1, 1)), Ban("", date(2024, 1, 1))
    assert ban_of([revoked(short), revoked(long, code="E")]) == long
    assert until_of(ban_of([revoked(None), revoked(long, code="E")]) or short) == FOR_LIFE


def test_every_ground_names_its_source_and_its_versions_do_not_overlap() -> None:
    assert all(ground.source and ground.meaning for ground in GROUNDS)
    for code, versions in Counter(ground.code for ground in GROUNDS).items():
        rows = [ground for ground in GROUNDS if ground.code == code]
        for earlier, later in itertools.pairwise(rows):
            assert earlier.until_date is not None
            assert earlier.until_date < later.from_date
        assert versions == len(rows)
        assert ground_on(code, rows[0].from_date) == rows[0]
