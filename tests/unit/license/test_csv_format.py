from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed, Violation
from elicense.license.csv_format import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    check_header,
    column_of,
    format_row,
    parse_row,
    to_columns,
)
from elicense.license.eligibility import check_application
from elicense.license.model import DocumentType, License, Sex, StatusLetter, VehicleClass
from tests.unit.license.samples import SUZHOU, TODAY, a_full_license, a_holder, a_license


def row(**changes: str) -> dict[str, str]:
    return format_row(a_license()) | changes


def refused(cells: dict[str, str]) -> dict[str, str]:
    with pytest.raises(Malformed) as error:
        parse_row(cells)
    return {violation.field: violation.reason for violation in error.value.violations}


def test_a_licence_survives_a_file() -> None:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS)
    writer.writeheader()
    writer.writerows(map(format_row, [a_license(), a_full_license()]))
    reader = csv.DictReader(io.StringIO(sink.getvalue()))
    check_header(reader.fieldnames)
    nameless = a_license(
        **{field: getattr(a_full_license(), field) for field in ("vehicle_classes", "status_letters", "points")}
    )
    assert [parse_row(cells) for cells in reader] == [a_license(), nameless]


_text = st.text(min_size=1, max_size=20)


@given(st.lists(_text, max_size=3), _text, st.none() | st.dates(), st.none() | _text)
def test_any_text_inside_a_cell_of_many_parts_survives(
    limits: list[str], basis: str, end: date | None, authority: str | None
) -> None:
    license_ = a_license(
        vehicle_classes=(VehicleClass("C1", date(2010, 6, 3), end, tuple(limits)), VehicleClass("D", date(2011, 1, 1))),
        status_letters=(StatusLetter("H", date(2021, 1, 1), end, basis, authority or ""),),
    )
    assert parse_row(format_row(license_)) == license_


def test_optional_columns_may_be_absent() -> None:
    cells = {column: cell for column, cell in row().items() if column not in OPTIONAL_COLUMNS - {"valid_until"}}
    read = parse_row(cells)
    assert read.holder == a_holder(family_name_latin="", given_name_latin="")
    assert (read.points, read.status_letters) == (0, ())


def test_spellings_that_mean_the_same_are_accepted() -> None:
    number = a_license().holder.document.number
    read = parse_row(
        row(
            document_number=f" {number[:6]} {number[6:].lower()} ",
            document_type="RESIDENT_ID",
            sex=" Male ",
            birth_date=" 1985-03-14 ",
            full_name="王小明 ",
        )
    )
    assert read == a_license()


def test_every_wrong_column_is_named_at_once() -> None:
    cells = row(
        document_type="library-card",
        full_name="",
        sex="?",
        nationality="China",
        birth_date="1985-02-30",
        vehicle_classes="C1",
        first_issue_date="2010-W01-1",
        validity_kind="forever",
        valid_from="20160603",
        valid_until="soon",
        archive_number="12",
        issuing_authority=" ",
        division_code="苏州",
        photo_sha256="00" * 31,
        photo_capture_date="",
        status_letters="H",
        points="-1",
        address="",
    )
    reasons = refused(cells)
    assert set(reasons) == set(COLUMNS) - {"document_number", "family_name_latin", "given_name_latin"}
    assert reasons["valid_until"] == "DATE_INVALID"
    assert reasons["document_type"] == "VALUE_UNKNOWN"


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("photo_sha256", "0 " * 32, "FORM_INVALID"),
        ("photo_sha256", "zz" * 32, "FORM_INVALID"),
        ("points", "1001", "FORM_INVALID"),
        ("points", "٣", "FORM_INVALID"),
        ("points", "99999", "FORM_INVALID"),
        ("vehicle_classes", "", "FORM_INVALID"),
        ("vehicle_classes", "C1:2010-06-03;", "FORM_INVALID"),
        ("vehicle_classes", "C1:2010-06-03:x", "FORM_INVALID"),
        ("vehicle_classes", "c1:2010-06-03", "FORM_INVALID"),
        ("vehicle_classes", "C1:2010-06-03:::", "FORM_INVALID"),
        ("status_letters", "h:2021-01-01", "FORM_INVALID"),
        ("status_letters", "H:2021-01-01:never", "FORM_INVALID"),
        ("document_number", "1" * 33, "LENGTH_INVALID"),
        ("full_name", "王" * 51, "LENGTH_INVALID"),
    ],
)
def test_a_cell_in_the_wrong_form_names_its_column(column: str, cell: str, reason: str) -> None:
    if column == "vehicle_classes" and cell.endswith(":::"):
        # One colon too many is text of the limits, not an error.
        assert parse_row(row(vehicle_classes=cell)).vehicle_classes[0].limits == (":",)
        return
    assert refused(row(**{column: cell})) == {column: reason}


def test_cells_behind_the_last_column_are_refused() -> None:
    text = ",".join(COLUMNS) + "\r\n" + ",".join(row().values()) + ",more\r\n"
    (cells,) = csv.DictReader(io.StringIO(text))
    assert refused(cells) == {"": "CELLS_EXTRA"}


def test_a_short_row_names_the_columns_it_lacks() -> None:
    text = ",".join(COLUMNS) + "\r\n" + ",".join(list(row().values())[:10]) + "\r\n"
    (cells,) = csv.DictReader(io.StringIO(text))
    assert set(refused(cells)) == set(COLUMNS[10:]) - OPTIONAL_COLUMNS


def test_a_header_names_columns_missing_unknown_and_repeated() -> None:
    header = [column for column in COLUMNS if column not in ("full_name", "points")] + ["colour", "sex"]
    with pytest.raises(Malformed) as error:
        check_header(header)
    assert {(violation.field, violation.reason) for violation in error.value.violations} == {
        ("full_name", "COLUMN_MISSING"),
        ("colour", "COLUMN_UNKNOWN"),
        ("sex", "COLUMN_REPEATED"),
    }
    check_header(COLUMNS)
    with pytest.raises(Malformed):
        check_header(None)


@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=40) | st.none()))
def test_any_row_at_all_is_read_or_malformed(cells: dict[str, str | None]) -> None:
    license_: License | None = None
    violations: tuple[Violation, ...] = ()
    try:
        license_ = parse_row({**row(), **cells})
    except Malformed as error:
        violations = error.violations
    assert all(violation.field in COLUMNS for violation in violations)
    assert (license_ is None) == bool(violations)
    if license_ is not None:
        assert parse_row(format_row(license_)) == license_
        check_application(license_, on=TODAY, city=SUZHOU, imported=True)


def test_every_violation_of_the_rules_leads_to_a_column() -> None:
    fields = [
        "license.holder.document.number",
        "license.vehicle_classes[3].until_date",
        "license.status_letters[0]",
        "license.validity.until_date",
        "license.photo.capture_date",
        "license.points",
        "license.first_issue_date",
        "license.division_code",
    ]
    assert all(column_of(field) in COLUMNS for field in fields)
    assert to_columns([Violation(fields[1], "R", "M.")]) == (Violation("vehicle_classes", "R", "M."),)


@pytest.mark.parametrize("kind", list(DocumentType))
@pytest.mark.parametrize("sex", list(Sex))
def test_every_kind_of_document_and_sex_has_a_spelling(kind: DocumentType, sex: Sex) -> None:
    cells = row(document_type=kind.name.lower().replace("_", "-"), sex=sex.name.lower().replace("_", "-"))
    read = parse_row(cells)
    assert (read.holder.document.type, read.holder.sex) == (kind, sex)
    assert format_row(read) == cells
