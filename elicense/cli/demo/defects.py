"""What can be wrong with a driver's row: one way to spoil a good row for each reason that the rules give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from types import MappingProxyType

from elicense.license.periods import anniversary


def _set(column: str, value: str) -> Callable[[dict[str, str], date], None]:
    def spoil(row: dict[str, str], on: date) -> None:  # noqa: ARG001  # one signature for all defects
        row[column] = value

    return spoil


def _wrong_check_character(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    number = row["document_number"]
    row["document_number"] = number[:-1] + ("1" if number[-1] == "0" else "0")


def _wrong_sex(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    row["sex"] = "female" if row["sex"] == "male" else "male"


def _wrong_birth_date(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    born = date.fromisoformat(row["birth_date"])
    row["birth_date"] = (born - timedelta(days=1)).isoformat()


def _old_photo(row: dict[str, str], on: date) -> None:
    row["photo_capture_date"] = (on - timedelta(days=200)).isoformat()


def _expired(row: dict[str, str], on: date) -> None:
    start = on - timedelta(days=6 * 366 + 30)
    row["first_issue_date"] = min(row["first_issue_date"], start.isoformat())
    row["validity_kind"] = "six-years"
    row["valid_from"] = start.isoformat()
    row["valid_until"] = anniversary(start, 6).isoformat()


def _wrong_length(row: dict[str, str], on: date) -> None:
    start = date.fromisoformat(row["valid_from"])
    row["validity_kind"] = "six-years"
    row["valid_until"] = anniversary(max(start, on), 7).isoformat()


def _too_young(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    young = anniversary(date.fromisoformat(row["birth_date"]), 16).isoformat()
    row["first_issue_date"] = young
    row["vehicle_classes"] = f"C1:{young}"


def _repeated_class(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    row["vehicle_classes"] += ";" + row["vehicle_classes"].partition(";")[0]


def _unknown_class(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    row["vehicle_classes"] = "C9" + row["vehicle_classes"][2:] if row["vehicle_classes"][1] != ":" else "Y9:2015-01-01"


def _wrong_archive(row: dict[str, str], on: date) -> None:  # noqa: ARG001
    row["archive_number"] = "9" + row["archive_number"][1:]


def _locked(row: dict[str, str], on: date) -> None:
    row["status_letters"] = f"L:{on.isoformat()}"


def _unknown_letter(row: dict[str, str], on: date) -> None:
    row["status_letters"] = f"Q:{on.isoformat()}"


DEFECTS: Mapping[str, Callable[[dict[str, str], date], None]] = MappingProxyType(
    {
        "DOCUMENT_NUMBER_INVALID": _wrong_check_character,
        "PHOTO_TOO_OLD": _old_photo,
        "LICENSE_EXPIRED": _expired,
        "CLASS_TOO_YOUNG": _too_young,
        "LETTER_BARS_ISSUE": _locked,
        "POINTS_REACHED": _set("points", "12"),
        "BIRTH_DATE_MISMATCH": _wrong_birth_date,
        "SEX_MISMATCH": _wrong_sex,
        "ARCHIVE_PREFIX_WRONG": _wrong_archive,
        "DIVISION_OUTSIDE_CITY": _set("division_code", "999900"),
        "VALIDITY_LENGTH_WRONG": _wrong_length,
        "CLASS_UNKNOWN": _unknown_class,
        "CLASS_REPEATED": _repeated_class,
        "LETTER_UNKNOWN": _unknown_letter,
        "LENGTH_INVALID": _set("full_name", ""),
        "DATE_INVALID": _set("birth_date", "1985-02-30"),
        "FORM_INVALID": _set("photo_sha256", "not a digest"),
        "VALUE_UNKNOWN": _set("document_type", "library-card"),
    }
)
"""What can be wrong with a row, by the reason that the rules must give for it; each spoils a good row on a day."""
