"""Scenario files: those that ship are right, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from elicense.cli.load.calls import PEOPLE_OF_A_CITY
from elicense.cli.load.scenario import Kind, load_scenario
from elicense.config import ConfigInvalid

SHIPPED = Path(__file__).parents[3] / "deploy" / "load"


def test_every_kind_of_load_ships_with_a_scenario_that_has_thresholds() -> None:
    scenarios = [load_scenario(file) for file in sorted(SHIPPED.glob("*.toml"))]
    assert {scenario.kind for scenario in scenarios} == set(get_args(Kind))
    assert all(scenario.thresholds.error_rate is not None and scenario.about for scenario in scenarios)
    assert [scenario.name for scenario in scenarios] == [file.stem for file in sorted(SHIPPED.glob("*.toml"))]


def test_a_whole_day_of_the_nation_can_run_in_a_single_city() -> None:
    scenario = load_scenario(SHIPPED / "day-one.toml")
    assert scenario.loop.max_calls is None
    assert scenario.day_one.licenses <= PEOPLE_OF_A_CITY


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("surprise = 1", "surprise"),
        ("[loop]\nrates = 5", "loop.rates"),
        ("[loop]\nrate = 0", "loop.rate"),
        ("[world]\ncities = 4", "at most 3 city nodes"),
        ("[mix]\nverify = 0\nbatch = 0\nissue = 0", "at least one share"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'name = "x"\nkind = "mixed"\n{text}\n')
    with pytest.raises(ConfigInvalid, match=field):
        load_scenario(file)


def test_a_day_can_not_be_a_closed_loop(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('name = "x"\nkind = "day-one"\n[loop]\nkind = "closed"\n')
    with pytest.raises(ConfigInvalid, match="open loop"):
        load_scenario(file)
