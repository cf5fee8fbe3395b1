"""A city's file and the drivers who come later."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

from elicense.cli.demo.nation import SUZHOU
from elicense.cli.demo.rolls import make_roll

TODAY = date(2026, 6, 1)


def test_a_file_holds_everybody_but_the_newcomers_and_nobody_twice(tmp_path: Path) -> None:
    roll = make_roll(tmp_path / "suzhou.csv", SUZHOU, 200, 20, seed=7, today=TODAY)

    with (tmp_path / "suzhou.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == roll.rows == 200
    assert len(roll.imported) + len(roll.refused) == 200
    assert roll.refused
    assert len(roll.newcomers) == 20
    numbers = [person.holder.document.number for person in (*roll.imported, *roll.newcomers)]
    assert len(set(numbers)) == len(numbers)
    good = [row["document_number"] for number, row in enumerate(rows, start=1) if number not in roll.refused]
    assert good == [person.holder.document.number for person in roll.imported]


def test_the_same_seed_gives_the_same_drivers(tmp_path: Path) -> None:
    first = make_roll(tmp_path / "a.csv", SUZHOU, 60, 5, seed=7, today=TODAY)
    again = make_roll(tmp_path / "b.csv", SUZHOU, 60, 5, seed=7, today=TODAY)
    other = make_roll(tmp_path / "c.csv", SUZHOU, 60, 5, seed=8, today=TODAY)
    assert first == again
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert first.imported != other.imported
