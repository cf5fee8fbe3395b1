"""The drivers of one city: a file to import, and newcomers who are not in it."""

from __future__ import annotations

import csv
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Final

from elicense.cli.demo.drivers import generate
from elicense.cli.demo.nation import City
from elicense.cli.demo.stage import Roll
from elicense.license.csv_format import COLUMNS, parse_row

BAD_SHARE: Final = 0.03
"""Share of the rows in a file that must be refused."""

FOREIGN_SHARE: Final = 0.01
"""Share of the holders who are known by a passport."""


def make_roll(file: Path, city: City, rows: int, newcomers: int, *, seed: int, today: date) -> Roll:
    """Write a city's file and return who is in it and who is to come.

    Args:
        file: CSV file to write.
        city: The city.
        rows: Rows of the file, wrong ones included.
        newcomers: Further drivers.
        seed: The same seed gives the same drivers on the same day.
        today: Date in China.
    """
    imported, refused = [], set()
    with file.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        # Wrong and right alike are generated in one go, so that nobody appears twice by chance.
        people = generate(
            city.code,
            rows + 2 * newcomers,
            seed=seed,
            on=today,
            bad_share=BAD_SHARE,
            foreign_share=FOREIGN_SHARE,
        )
        for number, (row, good) in enumerate(islice(people, rows), start=1):
            writer.writerow(row)
            if good:
                imported.append(parse_row(row))
            else:
                refused.add(number)
    fresh = [parse_row(row) for row, good in people if good]
    return Roll(imported=imported, rows=rows, refused=frozenset(refused), newcomers=fresh[:newcomers])
