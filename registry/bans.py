"""Bars from applying anew, found wherever they were recorded: pure rules, no I/O.

A bar belongs to the person, whichever city recorded it on whichever licence.  It
is a fold of the city logs: the latest record of a licence says whether it brings
one, so a correction that takes a wrong revocation back takes its bar back too.
It stays while the law requires it, also when the record itself has been erased.

Such a correction is written only while the bar runs.  So once a city's log is
held beyond the end of a bar, none is on its way any more: only then another city
may have the person, and both licences can never count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from elicense.clock import china_midnight
from elicense.license.bans import FOR_LIFE, keeps_revocation, until_of
from elicense.license.standing import decode_standing
from elicense.sql.row import Row
from elicense.view.fold import row_ban
from elicense.view.model import ViewRow
from registry.model import LAPSE_MARGIN_US, CityState

_GROUND: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")

NO_LAST_DAY: Final = FOR_LIFE.toordinal()
"""Stands in a row for the last day of a bar for life."""


@dataclass(frozen=True, slots=True)
class PersonBan(Row):
    """A bar from applying anew; fields in column order.

    Attributes:
        person_key: Keyed tag of the person.
        license_id: Licence whose record brings it.
        city: City whose log holds that record.
        epoch: Epoch of that log.
        idx: Index of the record.
        ground: Code of the ground; empty where the term was stated itself.
        until_day: Last day, as a proleptic Gregorian ordinal; :data:`NO_LAST_DAY` for life.
    """

    person_key: bytes
    license_id: bytes
    city: int
    epoch: int
    idx: int
    ground: str
    until_day: int

    @property
    def until(self) -> date | None:
        """The last day; None for life."""
        return None if self.until_day == NO_LAST_DAY else date.fromordinal(self.until_day)

    def runs(self, on: date) -> bool:
        """Whether the person may not apply on a day in China."""
        return on.toordinal() <= self.until_day


def ban_by(row: ViewRow) -> PersonBan | None:
    """Return the bar that a licence brings as its row stands; None when it brings none."""
    ban = row_ban(row)
    if ban is None:
        return None
    # A record may hold anything; a code that is none is left out, since the term alone decides.
    ground = ban.ground if _GROUND.fullmatch(ban.ground) else ""
    until_day = until_of(ban).toordinal()
    return PersonBan(row.person_key, row.license_id, row.city, row.epoch, row.idx, ground, until_day)


def running(bans: Iterable[PersonBan], on: date, *, besides: bytes = b"") -> PersonBan | None:
    """Return the bar that keeps a person from applying the longest; None when nothing does.

    Args:
        bans: The person's bars.
        on: The day in China.
        besides: A licence whose own bar does not count: what is asked is whether it may stand beside the others.
    """
    left = [ban for ban in bans if ban.runs(on) and ban.license_id != besides]
    return max(left, key=lambda ban: (ban.until_day, ban.license_id), default=None)


def over(bans: Iterable[PersonBan], on: date) -> frozenset[bytes]:
    """Return the licences whose bar is over."""
    return frozenset(ban.license_id for ban in bans if not ban.runs(on))


def ended(bans: Iterable[PersonBan], on: date, states: Mapping[int, CityState]) -> frozenset[bytes]:
    """Return the licences that are at their end for certain and stand in nobody's way any more.

    Args:
        bans: The person's bars.
        on: The day in China.
        states: What the registry holds of the cities that recorded them.
    """
    return over([ban for ban in bans if not ban.runs(on) and _is_final(ban, states.get(ban.city))], on)


def _is_final(ban: PersonBan, state: CityState | None) -> bool:
    """Whether no record that was written while a bar ran is on its way any more."""
    if state is None or state.next_index < state.tip_size:
        return False
    end_us = china_midnight(date.fromordinal(ban.until_day + 1))
    return state.as_of_us > end_us + LAPSE_MARGIN_US


def takes_back(before: ViewRow, standing: bytes) -> bool:
    """Whether a next revision, of that standing, takes back or changes what ended a licence."""
    letters = decode_standing(before.standing).status_letters
    return not keeps_revocation(letters, decode_standing(standing).status_letters)


def barred_in_words(ban: PersonBan) -> str:
    """Return what the city of a licence is told that is void because of a bar."""
    until = "for life" if ban.until is None else f"until {ban.until.isoformat()}"
    return f"The person is barred from applying {until}, as city {ban.city} recorded; cancel the license."
