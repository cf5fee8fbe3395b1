"""Whether a person may get a licence in this city, by the licences that the city knows of: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from elicense.errors import Error, LicenseExists, LicenseMoved, PersonBanned
from elicense.license.bans import FOR_LIFE, until_of
from elicense.license.verdict import ViewFlags
from elicense.view.fold import row_ban
from elicense.view.model import ViewRow


def refusals(rows: Mapping[bytes, Sequence[ViewRow]], on: date, *, city: int) -> dict[bytes, Error]:
    """Return by person why no licence may be issued to them on a day; who may have one is absent.

    A cancelled licence stands in nobody's way, nor does a revoked one whose bar from
    applying anew is over.  What became of a licence that moved to another city is
    for the registry to say, when the person is claimed.
    """
    return {key: refusal for key, held in rows.items() if (refusal := refusal_of(held, on, city=city)) is not None}


def refusal_of(rows: Sequence[ViewRow], on: date, *, city: int) -> Error | None:
    """Return why a person with these licences may not have another in this city; None when they may."""
    standing = [row for row in rows if row.city == city and not row.flags & ViewFlags.CANCELLED]
    until = [(until_of(ban), row.city) for row in standing if (ban := row_ban(row)) is not None]
    if until and max(until)[0] >= on:
        last, city = max(until)
        return person_banned(city, None if last == FOR_LIFE else last)
    if len(until) < len(standing):
        return LicenseExists("this person holds a license in this city already")
    return None


def require_custody(row: ViewRow, city: int) -> None:
    """Refuse a licence that another city has taken over.

    Raises:
        LicenseMoved: It has moved.
    """
    moved = moved_away(row, city)
    if moved is not None:
        raise moved


def moved_away(row: ViewRow, city: int) -> LicenseMoved | None:
    """Return the refusal of a licence that another city has taken over; None while it is this city's."""
    if row.city == city:
        return None
    return LicenseMoved(f"city {row.city} has taken the license over; go there", city=row.city)


def person_banned(city: int, until: date | None) -> PersonBanned:
    """Return the refusal of a person who may not apply anew until after a day, or ever."""
    term = "for life" if until is None else f"until {until.isoformat()}"
    return PersonBanned(
        f"this person is barred from applying anew {term}, as city {city} recorded",
        recordedByCity=city,
        untilDate="life" if until is None else until.isoformat(),
    )
