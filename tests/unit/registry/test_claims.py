"""The rules of claims, without any store."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from elicense.clock import china_date, china_midnight
from registry.bans import NO_LAST_DAY, PersonBan, ended
from registry.claims import Ruling, Standing, proved_unused, ruling_on, standing_of
from registry.model import LAPSE_MARGIN_US, CityState, Claim, ClaimState, Pending, state_heard

SUZHOU, TIANJIN = 320500, 120000
PERSON, LICENSE, OTHER = bytes(16), b"l" * 16, b"o" * 16
LEASE_US = 900_000_000
NOW_US = 10**15
LONG_AGO_US = NOW_US - 10 * LAPSE_MARGIN_US
LAST_DAY = date(2026, 3, 1)
BAR_END_US = china_midnight(LAST_DAY + timedelta(days=1))


def claim(
    city: int, *, state: ClaimState = ClaimState.LEASED, end_us: int = NOW_US + LEASE_US, license_id: bytes = LICENSE
) -> Claim:
    return Claim(PERSON, city, license_id, "r", int(state), end_us, 1, 0)


def heard(city: int, *, held: int = 5, tip: int = 5, at_us: int = NOW_US) -> dict[int, CityState]:
    return {
        city: state_heard(
            None, city=city, epoch=1, next_index=held, tip_size=tip, city_clock_us=at_us, received_us=at_us
        )
    }


@pytest.mark.parametrize(
    ("held", "states", "expected"),
    [
        (None, {}, Standing.FREE),
        (claim(SUZHOU), {}, Standing.LIVE),
        (claim(SUZHOU, end_us=NOW_US + LEASE_US // 2), {}, Standing.RENEW),
        (claim(SUZHOU, end_us=LONG_AGO_US), {}, Standing.RENEW),
        (claim(SUZHOU, state=ClaimState.HELD), {}, Standing.HELD),
        (claim(SUZHOU, state=ClaimState.RELEASED), {}, Standing.FREE),
        (claim(TIANJIN, state=ClaimState.RELEASED), {}, Standing.FREE),
        (claim(TIANJIN), heard(TIANJIN), Standing.HELD),
        (claim(TIANJIN, state=ClaimState.HELD, end_us=LONG_AGO_US), heard(TIANJIN), Standing.HELD),
        (claim(TIANJIN, end_us=LONG_AGO_US), heard(TIANJIN), Standing.LAPSED),
        (claim(TIANJIN, end_us=LONG_AGO_US), {}, Standing.HELD),
    ],
)
def test_what_a_claim_means_to_a_city(held: Claim | None, states: dict[int, CityState], expected: Standing) -> None:
    assert standing_of(held, city=SUZHOU, now_us=NOW_US, lease_us=LEASE_US, states=states) is expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (None, Standing.FREE),
        (claim(TIANJIN, state=ClaimState.HELD), Standing.OVER),
        (claim(SUZHOU, state=ClaimState.HELD), Standing.OVER),
        (claim(TIANJIN, state=ClaimState.HELD, license_id=OTHER), Standing.HELD),
        (claim(TIANJIN), Standing.HELD),
        (claim(SUZHOU), Standing.LIVE),
    ],
)
def test_a_license_at_its_end_holds_its_person_against_nobody(held: Claim | None, expected: Standing) -> None:
    found = standing_of(held, city=SUZHOU, now_us=NOW_US, lease_us=LEASE_US, states={}, ended={LICENSE})
    assert found is expected


@pytest.mark.parametrize("state", ClaimState)
@pytest.mark.parametrize("city", [SUZHOU, TIANJIN])
def test_a_barred_person_gets_no_license_whoever_holds_them(city: int, state: ClaimState) -> None:
    waiting = Pending(SUZHOU, 1, 0, bytes(32), OTHER, PERSON)
    assert ruling_on(waiting, claim(city, state=state), now_us=NOW_US, states={}, barred=True) is Ruling.VOID
    assert ruling_on(waiting, None, now_us=NOW_US, states={}, barred=True) is Ruling.VOID


@pytest.mark.parametrize(
    ("ended", "expected"), [({LICENSE}, Ruling.CONFIRMED), (frozenset(), Ruling.CONFLICT), ({OTHER}, Ruling.CONFLICT)]
)
def test_a_license_at_its_end_is_no_rival(ended: set[bytes], expected: Ruling) -> None:
    waiting = Pending(SUZHOU, 1, 0, bytes(32), OTHER, PERSON)
    held = claim(TIANJIN, state=ClaimState.HELD)
    assert ruling_on(waiting, held, now_us=NOW_US, states={}, ended=ended) is expected


@pytest.mark.parametrize(
    ("after_us", "states", "final"),
    [
        (LAPSE_MARGIN_US + 1, heard(TIANJIN, at_us=BAR_END_US + LAPSE_MARGIN_US + 1), True),
        # The city was not heard since, by less than two clocks may differ, or has more than the registry holds.
        (LAPSE_MARGIN_US + 1, heard(TIANJIN, at_us=BAR_END_US + LAPSE_MARGIN_US), False),
        (LAPSE_MARGIN_US + 1, heard(TIANJIN, at_us=BAR_END_US + LAPSE_MARGIN_US + 1, tip=6), False),
        (LAPSE_MARGIN_US + 1, heard(SUZHOU, at_us=BAR_END_US + LAPSE_MARGIN_US + 1), False),
        (LAPSE_MARGIN_US + 1, {}, False),
        # The bar still runs, whatever the city's clock says.
        (-1, heard(TIANJIN, at_us=BAR_END_US + LAPSE_MARGIN_US + 1), False),
    ],
)
def test_a_revoked_license_is_at_its_end_once_its_city_was_heard_beyond_the_bar(
    after_us: int, states: dict[int, CityState], final: bool
) -> None:
    bar = PersonBan(PERSON, LICENSE, TIANJIN, 1, 4, "", LAST_DAY.toordinal())
    for_life = PersonBan(PERSON, OTHER, TIANJIN, 1, 5, "", NO_LAST_DAY)
    expected = {LICENSE} if final else frozenset()
    assert ended([bar, for_life], china_date(BAR_END_US + after_us), states) == expected


def test_a_license_without_a_grant_waits_while_a_revocation_may_still_be_taken_back_in_time() -> None:
    waiting = Pending(SUZHOU, 1, 0, bytes(32), OTHER, PERSON)
    for city in (SUZHOU, TIANJIN):
        held = claim(city, state=ClaimState.HELD)
        assert ruling_on(waiting, held, now_us=NOW_US, states={}, ending={LICENSE}) is Ruling.WAITS


@pytest.mark.parametrize(
    ("end_us", "states", "proved"),
    [
        (LONG_AGO_US, heard(TIANJIN), True),
        # The city was not heard since, or has more than the registry holds.
        (LONG_AGO_US, heard(TIANJIN, at_us=LONG_AGO_US), False),
        (LONG_AGO_US, heard(TIANJIN, tip=6), False),
        (LONG_AGO_US, heard(SUZHOU), False),
        # The lease is over, but by less than two clocks may differ.
        (NOW_US - LAPSE_MARGIN_US, heard(TIANJIN), False),
        (NOW_US - LAPSE_MARGIN_US - 1, heard(TIANJIN), True),
        (NOW_US + 1, heard(TIANJIN, at_us=NOW_US + 2 * LAPSE_MARGIN_US), False),
    ],
)
def test_an_unused_lease_is_proved_by_hearing_the_city_beyond_it(
    end_us: int, states: dict[int, CityState], proved: bool
) -> None:
    assert proved_unused(claim(TIANJIN, end_us=end_us), states.get(TIANJIN), now_us=NOW_US) is proved


@pytest.mark.parametrize(
    ("held", "states", "expected"),
    [
        (None, {}, Ruling.CONFIRMED),
        (claim(SUZHOU), {}, Ruling.CONFIRMED),
        (claim(SUZHOU, license_id=OTHER), {}, Ruling.CONFIRMED),
        (claim(SUZHOU, state=ClaimState.HELD), {}, Ruling.CONFIRMED),
        (claim(SUZHOU, state=ClaimState.HELD, license_id=OTHER), {}, Ruling.CONFLICT),
        (claim(TIANJIN, state=ClaimState.HELD), {}, Ruling.CONFLICT),
        (claim(TIANJIN), heard(TIANJIN), Ruling.WAITS),
        (claim(TIANJIN, end_us=LONG_AGO_US), {}, Ruling.WAITS),
        (claim(TIANJIN, end_us=LONG_AGO_US), heard(TIANJIN), Ruling.CONFIRMED),
    ],
)
def test_what_becomes_of_a_license_without_a_grant(
    held: Claim | None, states: dict[int, CityState], expected: Ruling
) -> None:
    pending = Pending(SUZHOU, 1, 0, bytes(32), LICENSE, PERSON)
    assert ruling_on(pending, held, now_us=NOW_US, states=states) is expected


def test_a_lease_is_not_proved_unused_while_a_license_of_its_city_waits_for_a_decision() -> None:
    lease, states = claim(TIANJIN, end_us=LONG_AGO_US), heard(TIANJIN)
    assert not proved_unused(lease, states[TIANJIN], now_us=NOW_US, waiting=True)
    for waiting, expected in (({TIANJIN}, Standing.HELD), ({SUZHOU}, Standing.LAPSED)):
        standing = standing_of(lease, city=SUZHOU, now_us=NOW_US, lease_us=LEASE_US, states=states, waiting=waiting)
        assert standing is expected
    pending = Pending(SUZHOU, 1, 0, bytes(32), LICENSE, PERSON)
    assert ruling_on(pending, lease, now_us=NOW_US, states=states, waiting={SUZHOU, TIANJIN}) is Ruling.WAITS
