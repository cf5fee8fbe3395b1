from __future__ import annotations

from collections.abc import Callable
from typing import Any

import protovalidate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.license.codec import license_from_message, license_to_message
from elicense.v1 import license_pb2 as pb
from tests.unit.license.samples import a_full_license

Change = Callable[[pb.License, Any], None]


def _set(*path: str | int) -> Change:
    def change(message: pb.License, value: Any) -> None:
        target: Any = message
        for step in path[:-1]:
            target = target[step] if isinstance(step, int) else getattr(target, step)
        setattr(target, str(path[-1]), value)

    return change


def _repeat(name: str) -> Change:
    def change(message: pb.License, count: int) -> None:
        items = getattr(message, name)
        first = items[0]
        del items[1:]
        items.extend([first] * (count - 1))
        if not count:
            del items[:]

    return change


def _limits(message: pb.License, limits: list[str]) -> None:
    message.vehicle_classes[0].limits[:] = limits


def _lengths(limit: int) -> st.SearchStrategy[str]:
    return st.sampled_from([0, 1, limit - 1, limit, limit + 1]).map(lambda length: "王" * length)


_codes = st.sampled_from(["C1", "D", "", "c1", "C", "C12", "1C", "CC", "C１", "Ｃ1", "C1\n"])
_letters = st.sampled_from(["H", "", "h", "HH", "1", "Ｈ", "H\n"])
_digits = st.sampled_from(
    ["320512345678", "32051234567", "3205123456789", "32051234567X", "３２０５１２３４５６７８", ""]
)
_divisions = st.sampled_from(["320500", "020500", "32050", "3205000", "32O500", "", "320500\n"])
_nations = st.sampled_from(["CN", "cn", "C", "CHN", "", "ＣＮ", "C1", "CN\n"])

CHANGES: dict[str, tuple[Change, st.SearchStrategy[Any]]] = {
    "name": (_set("name"), _lengths(80)),
    "etag": (_set("etag"), _lengths(64)),
    "full name": (_set("holder", "full_name"), _lengths(50)),
    "family name": (_set("holder", "family_name_latin"), _lengths(100)),
    "given name": (_set("holder", "given_name_latin"), _lengths(100)),
    "document type": (_set("holder", "document", "type"), st.integers(0, 9)),
    "document number": (_set("holder", "document", "number"), _lengths(32)),
    "nationality": (_set("holder", "nationality"), _nations),
    "address": (_set("holder", "address"), _lengths(200)),
    "classes": (_repeat("vehicle_classes"), st.sampled_from([0, 1, 16, 17])),
    "class code": (_set("vehicle_classes", 0, "code"), _codes),
    "limits": (_limits, st.lists(_lengths(40), max_size=9)),
    "validity kind": (_set("validity", "kind"), st.integers(0, 5)),
    "archive number": (_set("archive_number"), _digits),
    "authority": (_set("issuing_authority"), _lengths(100)),
    "division": (_set("division_code"), _divisions),
    "photo": (_set("photo", "sha256"), st.sampled_from([b"", bytes(31), bytes(32), bytes(33)])),
    "letters": (_repeat("status_letters"), st.sampled_from([0, 1, 26, 27])),
    "letter": (_set("status_letters", 0, "letter"), _letters),
    "legal basis": (_set("status_letters", 0, "legal_basis"), _lengths(200)),
    "letter authority": (_set("status_letters", 0, "authority"), _lengths(100)),
    "points": (_set("points"), st.sampled_from([-1, 0, 12, 1000, 1001])),
}


def _refused_fields(message: pb.License) -> set[str]:
    try:
        license_from_message(message, "")
    except Malformed as error:
        return {violation.field for violation in error.violations}
    return set()


@given(st.lists(st.sampled_from(list(CHANGES)), min_size=1, max_size=3, unique=True), st.data())
def test_the_form_is_refused_exactly_where_the_contract_refuses_it(names: list[str], data: st.DataObject) -> None:
    message = license_to_message(a_full_license())
    for name in names:
        change, values = CHANGES[name]
        if message.vehicle_classes and message.status_letters:
            change(message, data.draw(values, label=name))
    stated = {protovalidate_path(violation) for violation in protovalidate.collect_violations(message)}
    # The contract blames the limit, this module the list that holds it.
    stated = {field.partition(".limits[")[0] + ".limits" if ".limits[" in field else field for field in stated}
    assert _refused_fields(message) == stated


def protovalidate_path(violation: Any) -> str:
    parts = []
    for element in violation.proto.field.elements:
        subscript = element.subscript
        parts.append(element.field_name + (f"[{subscript.value}]" if subscript is not None else ""))
    return ".".join(parts)


def test_a_licence_in_order_has_the_right_form() -> None:
    assert _refused_fields(license_to_message(a_full_license())) == set()


@pytest.mark.parametrize("sex", [3, 8, 10])
def test_a_sex_outside_iso_5218_is_refused(sex: int) -> None:
    message = license_to_message(a_full_license())
    _set("holder", "sex")(message, sex)
    assert _refused_fields(message) == {"holder.sex"}
