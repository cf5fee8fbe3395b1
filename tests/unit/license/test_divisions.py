from __future__ import annotations

from pathlib import Path

import pytest
import stdnum.cn

from elicense.errors import CityNotFound
from elicense.license.divisions import MUNICIPALITIES, area_prefix, division, divisions, is_city, province_prefixes

PILOTS = {120000: "Tianjin", 510100: "Chengdu", 320500: "Suzhou"}


@pytest.mark.parametrize(("code", "pinyin"), PILOTS.items())
def test_the_pilot_cities_are_cities(code: int, pinyin: str) -> None:
    assert is_city(code)
    assert division(code).pinyin == pinyin


def test_a_province_is_no_city_but_a_municipality_is() -> None:
    assert not is_city(320000)
    assert not is_city(810000)
    assert all(is_city(code) for code in MUNICIPALITIES)


def test_a_county_or_an_invented_code_is_no_city() -> None:
    assert not is_city(320505)
    assert not is_city(999900)
    assert not is_city(0)


def test_an_unknown_division_is_refused_by_its_code() -> None:
    with pytest.raises(CityNotFound) as refused:
        division(999900)
    assert refused.value.metadata == {"city": "999900"}


def test_there_are_337_cities_and_34_provinces() -> None:
    assert sum(map(is_city, divisions())) == 337
    assert len(province_prefixes()) == 34


def test_names_agree_with_an_independent_table_of_divisions() -> None:
    table = (Path(stdnum.cn.__file__).parent / "loc.dat").read_text(encoding="utf-8")
    names: dict[str, str] = {}
    province = ""
    for line in table.splitlines():
        if line[:2].isdigit():
            province = line[:2]
        elif line.startswith("  "):
            names[province + line.split()[0]] = line
    for code, place in divisions().items():
        if code % 10_000:
            assert place.name in names[f"{code}"], place


def test_every_division_names_its_province_and_no_name_is_there_twice_in_one() -> None:
    for code, place in divisions().items():
        assert division(code // 10_000 * 10_000).name == place.province
    names = [(place.province, place.name) for place in divisions().values()]
    assert len(set(names)) == len(names)


def test_the_area_of_a_city_is_four_digits_and_of_a_municipality_two() -> None:
    assert area_prefix(320500) == "3205"
    assert area_prefix(120000) == "12"
