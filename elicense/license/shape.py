"""The form of a licence's fields, as the proto's annotations state it, checked without reflection.

The server validates requests from the descriptors, which costs a licence ten times
what it costs here; those to issue come in crowds, and imports a thousand drivers at a
time.  A test holds this module to the annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elicense.errors import Violation
from elicense.license.model import DocumentType, Holder, License, Sex, StatusLetter, ValidityKind, VehicleClass

MAX_NAME: Final = 50
MAX_LATIN: Final = 100
MAX_NUMBER: Final = 32
MAX_ADDRESS: Final = 200
MAX_AUTHORITY: Final = 100
ARCHIVE_LENGTH: Final = 12
MAX_CLASSES: Final = 16
MAX_LETTERS: Final = 26
MAX_LIMITS: Final = 8
MAX_LIMIT_LENGTH: Final = 40
MAX_POINTS: Final = 1_000
MAX_GROUND_LENGTH: Final = 40

_DOCUMENT_TYPES: Final = frozenset(int(member) for member in DocumentType)
_SEXES: Final = frozenset(int(member) for member in Sex)
_KINDS: Final = frozenset(int(member) for member in ValidityKind)
_CAPITALS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def shape_violations(license_: License, path: str = "license.") -> list[Violation]:
    """Return every field of a licence that breaks the form of the wire contract.

    Args:
        license_: The licence.
        path: What stands before each field's name in the violations.
    """
    faults: list[Violation] = []
    _check_holder(license_.holder, path + "holder.", faults)
    check_class_shapes(license_.vehicle_classes, path, faults)
    archive = license_.archive_number
    if len(archive) != ARCHIVE_LENGTH or not is_digits(archive):
        faults.append(_form(path + "archive_number", "twelve digits"))
    if not is_division(license_.division_code):
        faults.append(_form(path + "division_code", "a GB/T 2260 code of six digits, such as 320500"))
    if not 1 <= len(license_.issuing_authority) <= MAX_AUTHORITY:
        faults.append(_length(path + "issuing_authority", 1, MAX_AUTHORITY))
    if license_.validity.kind not in _KINDS:
        faults.append(_enum(path + "validity.kind"))
    if len(license_.photo.sha256) != 32:
        faults.append(_form(path + "photo.sha256", "the 32 bytes of a SHA-256"))
    if not 0 <= license_.points <= MAX_POINTS:
        faults.append(_form(path + "points", f"a number from 0 to {MAX_POINTS}"))
    if len(license_.name) > 80:
        faults.append(_length(path + "name", 0, 80))
    if len(license_.etag) > 64:
        faults.append(_length(path + "etag", 0, 64))
    if license_.status_letters:
        check_letter_shapes(license_.status_letters, path, faults)
    return faults


def is_digits(text: str) -> bool:
    """Tell whether ``text`` is one or more ASCII digits; the digits of other scripts do not count."""
    return text.isascii() and text.isdigit()


def is_capital(text: str) -> bool:
    """Tell whether ``text`` is one of A to Z."""
    return text in _CAPITALS


def is_division(text: str) -> bool:
    """Tell whether ``text`` has the form of a GB/T 2260 code."""
    return len(text) == 6 and is_digits(text) and text[0] != "0"


def is_nationality(text: str) -> bool:
    """Tell whether ``text`` has the form of an ISO 3166-1 alpha-2 code."""
    return len(text) == 2 and _CAPITALS.issuperset(text)


def _check_holder(holder: Holder, path: str, faults: list[Violation]) -> None:
    if not 1 <= len(holder.full_name) <= MAX_NAME:
        faults.append(_length(path + "full_name", 1, MAX_NAME))
    if len(holder.family_name_latin) > MAX_LATIN:
        faults.append(_length(path + "family_name_latin", 0, MAX_LATIN))
    if len(holder.given_name_latin) > MAX_LATIN:
        faults.append(_length(path + "given_name_latin", 0, MAX_LATIN))
    if holder.document.type not in _DOCUMENT_TYPES:
        faults.append(_enum(path + "document.type"))
    if not 1 <= len(holder.document.number) <= MAX_NUMBER:
        faults.append(_length(path + "document.number", 1, MAX_NUMBER))
    if holder.sex not in _SEXES:
        faults.append(_enum(path + "sex"))
    if not is_nationality(holder.nationality):
        faults.append(_form(path + "nationality", "two capital letters of ISO 3166-1, such as CN"))
    if not 1 <= len(holder.address) <= MAX_ADDRESS:
        faults.append(_length(path + "address", 1, MAX_ADDRESS))


def check_class_shapes(classes: Sequence[VehicleClass], path: str, faults: list[Violation]) -> None:
    """Add to ``faults`` every class that breaks the form of the wire contract."""
    if not 1 <= len(classes) <= MAX_CLASSES:
        faults.append(_form(path + "vehicle_classes", f"one to {MAX_CLASSES} classes"))
    for position, held in enumerate(classes):
        code = held.code
        if not (code[:1] in _CAPITALS and (len(code) == 1 or (len(code) == 2 and is_digits(code[1])))):
            faults.append(_form(f"{path}vehicle_classes[{position}].code", "a class code such as C1"))
        if held.limits and (
            len(held.limits) > MAX_LIMITS or not all(1 <= len(limit) <= MAX_LIMIT_LENGTH for limit in held.limits)
        ):
            advice = f"at most {MAX_LIMITS} limits of 1 to {MAX_LIMIT_LENGTH} characters"
            faults.append(_form(f"{path}vehicle_classes[{position}].limits", advice))


def check_letter_shapes(letters: Sequence[StatusLetter], path: str, faults: list[Violation]) -> None:
    """Add to ``faults`` every status letter that breaks the form of the wire contract."""
    if len(letters) > MAX_LETTERS:
        faults.append(_form(path + "status_letters", f"at most {MAX_LETTERS} letters"))
    for position, letter in enumerate(letters):
        if letter.letter not in _CAPITALS:
            faults.append(_form(f"{path}status_letters[{position}].letter", "one capital letter of GA/T 16.25"))
        if len(letter.legal_basis) > 200:
            faults.append(_length(f"{path}status_letters[{position}].legal_basis", 0, 200))
        if len(letter.authority) > 100:
            faults.append(_length(f"{path}status_letters[{position}].authority", 0, 100))
        if letter.ban is not None and len(letter.ban.ground) > MAX_GROUND_LENGTH:
            faults.append(_length(f"{path}status_letters[{position}].ban.ground", 0, MAX_GROUND_LENGTH))


def _length(field: str, low: int, high: int) -> Violation:
    if low:
        return Violation(field, "LENGTH_INVALID", f"Give a text of {low} to {high} characters.")
    return Violation(field, "LENGTH_INVALID", f"Shorten the text to at most {high} characters.")


def _form(field: str, form: str) -> Violation:
    return Violation(field, "FORM_INVALID", f"Give {form}.")


def _enum(field: str) -> Violation:
    return Violation(field, "VALUE_UNKNOWN", "Give one of the values that the API defines.")
