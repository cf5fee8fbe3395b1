"""Up to when a city's records are known to be complete: never later than they are, whatever its clock shows."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from registry.model import CityState, state_heard

CITY = 320500


def hear(before: CityState | None, *, held: int, tip: int, at_us: int, off_us: int = 0, epoch: int = 1) -> CityState:
    return state_heard(
        before,
        city=CITY,
        epoch=epoch,
        next_index=held,
        tip_size=tip,
        city_clock_us=at_us + off_us,
        received_us=at_us,
    )


def test_a_city_of_which_all_is_held_is_complete_by_the_earlier_of_both_clocks() -> None:
    assert hear(None, held=5, tip=5, at_us=1_000, off_us=300).as_of_us == 1_000
    assert hear(None, held=5, tip=5, at_us=1_000, off_us=-300).as_of_us == 700


def test_nothing_is_known_of_a_city_before_what_it_first_stated_is_held() -> None:
    state = hear(None, held=2, tip=9, at_us=1_000)
    assert state.as_of_us == 0
    state = hear(state, held=8, tip=12, at_us=2_000)
    assert state.as_of_us == 0
    state = hear(state, held=9, tip=15, at_us=3_000)
    assert state.as_of_us == 1_000


def test_a_city_that_stays_ahead_for_hours_grows_no_older_than_two_of_its_statements() -> None:
    """A load of a million licences must not make the city's other licences uncertain."""
    state = None
    for minute in range(180):
        state = hear(state, held=1_000 * minute, tip=1_000 * minute + 3_500, at_us=60_000_000 * minute)
        assert state.as_of_us >= 60_000_000 * (minute - 8)


def test_what_an_epoch_awaited_says_nothing_of_the_next_epoch() -> None:
    state = hear(None, held=90, tip=90, at_us=1_000)
    state = hear(state, held=95, tip=100, at_us=2_000)
    state = hear(state, held=1, tip=200, at_us=3_000, epoch=2)
    assert (state.as_of_us, state.awaited_size, state.awaited_us) == (1_000, 200, 3_000)


steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # entries that the city writes
        st.integers(0, 3),  # entries that the registry takes in
        st.integers(-5, 5),  # by how much the city's clock is off now
        st.booleans(),  # whether the city is heard
    ),
    max_size=60,
)


@given(steps)
def test_whatever_the_citys_clock_shows_no_record_from_before_the_as_of_time_is_missing(
    moves: list[tuple[int, int, int, bool]],
) -> None:
    written: list[int] = []
    held, state = 0, None
    for now, (more, taken, off, is_heard) in enumerate(moves, 1):
        # Written within the step before the city speaks, so strictly before the next step.
        written += [now] * more
        if not is_heard:
            continue
        held = min(len(written), held + taken)
        state = hear(state, held=held, tip=len(written), at_us=now, off_us=off)
        missing = written[held:]
        assert not missing or state.as_of_us <= missing[0]
        assert state == replace(state, awaited_size=max(state.awaited_size, held))
