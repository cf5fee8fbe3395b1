"""Whether a person may get a licence in this city, by the licences that the city knows of: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from elicense.errors import Error, LicenseExists, PersonBanned
from elicense.license.bans import FOR_LIFE, until_of
from elicense.license.verdict import ViewFlags
from elicense.view.fold import row_ban
from elicense.view.model import ViewRow


def refusals(rows: Mapping[bytes, Sequence[ViewRow]], on: date) -> dict[bytes, Error]:
    """Return by person why no licence may be issued to them on a day; who may have one is absent.

    A cancelled licence stands in nobody's way, nor does a revoked one whose bar from
    applying anew is over.
    """
    return {key: refusal for key, held in rows.items() if (refusal := refusal_of(held, on)) is not None}


def refusal_of(rows: Sequence[ViewRow], on: date) -> Error | None:
    """Return why a person with these licences may not have another; None when they may."""
    standing = [row for row in rows if not row.flags & ViewFlags.CANCELLED]
    until = [(until_of(ban), row.city) for row in standing if (ban := row_ban(row)) is not None]
    if until and max(until)[0] >= on:
        last, city = max(until)
        return person_banned(city, None if last == FOR_LIFE else last)
    if len(until) < len(standing):
        return LicenseExists("this person holds a license in this city already")
    return None


def person_banned(city: int, until: date | None) -> PersonBanned:
    """Return the refusal of a person who may not apply anew until after a day, or ever."""
    term = "for life" if until is None else f"until {until.isoformat()}"
    return PersonBanned(
        f"this person is barred from applying anew {term}, as city {city} recorded",
        recordedByCity=city,
        untilDate="life" if until is None else until.isoformat(),
    )
