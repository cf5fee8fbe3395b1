"""Made-up drivers of one city, as rows of an import file; some with a defect.

The same city, seed and day give the same drivers.  Within one run nobody appears
twice, and no driver of one city appears in another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Final

from elicense.cli.demo.defects import DEFECTS
from elicense.cli.demo.names import (
    DOTTED_NAMES,
    FOREIGN_NAMES,
    GIVEN_FEMALE,
    GIVEN_MALE,
    ROADS,
    SURNAMES,
    county_codes,
)
from elicense.license.csv_cells import write_classes, write_letters
from elicense.license.csv_format import COLUMNS
from elicense.license.divisions import MUNICIPALITIES, division
from elicense.license.document import resident_check_character
from elicense.license.model import StatusLetter, VehicleClass
from elicense.license.periods import anniversary

_YOUNGEST_DAYS: Final = 20 * 366
_BIRTH_DAYS: Final = 18_251  # a prime: about fifty years of birthdays, visited in a scattered order
_STRIDE: Final = 7_919

# Classes with their share of drivers and the age from which they are safely held under every older rule.
_MIX: Final = (
    (("C1",), 60, 18),
    (("C2",), 19, 18),
    (("C1", "D"), 6, 18),
    (("C1", "E"), 3, 18),
    (("D",), 2, 18),
    (("E",), 1, 18),
    (("F",), 1, 18),
    (("B2",), 4, 22),
    (("B1",), 1, 24),
    (("A2",), 1, 27),
    (("A1",), 1, 28),
    (("A3",), 1, 22),
)
_UPGRADES: Final = frozenset({"A1", "A2", "B1"})
_NOTES: Final = "HHHHHINPT"


def generate(
    city: int, count: int, *, seed: int, on: date, bad_share: float = 0.0, foreign_share: float = 0.0
) -> Iterator[tuple[dict[str, str], bool]]:
    """Yield rows and whether each must be accepted on import.

    A good row is eligible as an import and as a single issue alike.  Defects take turns,
    so that every kind appears in a long enough run.

    Args:
        city: Division code of the city.
        count: Number of rows.
        seed: Seed of everything random.
        on: Day in China on which the rows are to be imported.
        bad_share: Share of rows with one defect, 0 to 1.
        foreign_share: Share of holders of a passport, 0 to 1.

    Raises:
        CityNotFound: There is no such city.
    """
    people = _People(city, seed, on)
    # Apart from the people's own, so that the share of defects does not change who they are.
    fate = Random(f"{seed}/{city}/fate")  # noqa: S311  # demo data
    defects = 0
    names = tuple(DEFECTS)
    for index in range(count):
        foreign, bad = fate.random() < foreign_share, fate.random() < bad_share
        row = people.row(index, foreign=foreign and not bad)
        if bad:
            DEFECTS[names[defects % len(names)]](row, on)
            defects += 1
        yield row, not bad


class _People:
    """Makes the good rows of one city."""

    def __init__(self, city: int, seed: int, on: date) -> None:
        place = division(city)
        self._random = Random(f"{seed}/{city}/people")  # noqa: S311  # demo data
        self._seed = seed
        self._on = on
        self._code = f"{city}"
        self._counties = county_codes(city)
        self._offset = self._random.randrange(_BIRTH_DAYS)
        self._youngest = on.toordinal() - _YOUNGEST_DAYS
        if city in MUNICIPALITIES:
            self._town = place.name
            self._authority = f"{place.name}公安局交通管理局"
            self._archive = f"{city // 10_000}01"
        else:
            self._town = f"{place.province}{place.name}"
            self._authority = f"{self._town}公安局交通警察支队"
            self._archive = f"{city // 100}"
        self._mix = [classes for classes, share, _ in _MIX for _ in range(share)]
        self._from_age = {classes: age for classes, _, age in _MIX}

    def row(self, index: int, *, foreign: bool) -> dict[str, str]:
        random = self._random
        male = random.random() < 0.66
        number, born = self._identity(index, male=male)
        name, family, given = self._name(male=male)
        document, nationality = "resident-id", "CN"
        if foreign:
            document, number = "passport", f"E{self._seed % 100:02d}{self._code[:4]}{index:06d}"
            name, family, given, nationality = random.choice(FOREIGN_NAMES)
        classes, first_issue = self._licence(born)
        kind, start, until = self._term(first_issue)
        captured = self._on - timedelta(days=random.randrange(150))
        portrait = hashlib.sha256(f"portrait/{self._code}/{self._seed}/{index}".encode()).hexdigest()
        letters, points = self._status(first_issue)
        cells = (
            document,
            number,
            name,
            family,
            given,
            "male" if male else "female",
            nationality,
            born.isoformat(),
            f"{self._town}{random.choice(ROADS)}{random.randrange(1, 600)}号",
            write_classes(classes),
            first_issue.isoformat(),
            kind,
            start.isoformat(),
            until,
            f"{self._archive}{(self._offset * 4_999 + index) % 100_000_000:08d}",
            self._authority,
            self._code,
            portrait,
            captured.isoformat(),
            letters,
            points,
        )
        return dict(zip(COLUMNS, cells, strict=True))

    def _identity(self, index: int, *, male: bool) -> tuple[str, date]:
        """Return a resident number that no other index has, and the date of birth in it."""
        counties = self._counties
        rank, county = divmod(index, len(counties))
        layer, position = divmod(rank, _BIRTH_DAYS)
        born = date.fromordinal(self._youngest - (position * _STRIDE + self._offset) % _BIRTH_DAYS)
        # Odd for men, even for women; one pair of numbers a layer.
        sequence = (layer + self._offset) % 499 * 2 + (1 if male else 2)
        digits = f"{counties[county]}{born:%Y%m%d}{sequence:03d}"
        return digits + resident_check_character(digits), born

    def _name(self, *, male: bool) -> tuple[str, str, str]:
        random = self._random
        if random.random() < 0.005:
            return random.choice(DOTTED_NAMES)
        # Squaring favours the front of the list, as in life.
        family, family_latin = SURNAMES[int(random.random() ** 2 * len(SURNAMES))]
        pool = GIVEN_MALE if male else GIVEN_FEMALE
        given = [random.choice(pool) for _ in range(2 if random.random() < 0.75 else 1)]
        return (
            family + "".join(char for char, _ in given),
            family_latin,
            "".join(latin for _, latin in given),
        )

    def _licence(self, born: date) -> tuple[list[VehicleClass], date]:
        """Return classes and the day of first issue, possible for someone born then."""
        random = self._random
        codes = random.choice(self._mix)
        today = self._on.toordinal()
        youngest = anniversary(born, self._from_age[codes]).toordinal() + 1
        if youngest + 60 >= today:
            codes, youngest = ("C1",), anniversary(born, 18).toordinal() + 1
        # The narrowest upper limit of any older rule is fifty.
        latest = min(today - 1, anniversary(born, 49).toordinal())
        start = date.fromordinal(random.randrange(max(youngest, latest - 9_000), latest))
        if codes[0] in _UPGRADES:
            first_issue = date.fromordinal(start.toordinal() - random.randrange(1_200, 2_100))
        else:
            first_issue = start
        classes = [VehicleClass(codes[0], start)]
        if len(codes) > 1:
            later = date.fromordinal(random.randrange(start.toordinal(), latest + 1))
            classes.append(VehicleClass(codes[1], later))
        return classes, first_issue

    def _term(self, first_issue: date) -> tuple[str, date, str]:
        """Return the period that runs now: six years, then ten, then long-term."""
        second = anniversary(first_issue, 6)
        third = anniversary(second, 10)
        if self._on <= second:
            return "six-years", first_issue, second.isoformat()
        if self._on <= third:
            return "ten-years", second, third.isoformat()
        return "long-term", third, ""

    def _status(self, first_issue: date) -> tuple[str, str]:
        random = self._random
        points = str(random.choice((1, 2, 3, 3, 6, 9))) if random.random() < 0.15 else "0"
        if random.random() >= 0.04:
            return "", points
        since = max(first_issue, self._on - timedelta(days=random.randrange(1, 300)))
        return write_letters([StatusLetter(random.choice(_NOTES), since)]), points
