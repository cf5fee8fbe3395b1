"""Identity documents: normal form and the rules of each kind of number.

The licence number is the number of the holder's document.  Only a resident
identity number has eighteen characters and a check character (GB 11643, ISO 7064
MOD 11-2), so nothing here assumes it of the others, whose rules are kept wide.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType

from elicense.errors import Violation
from elicense.license.divisions import province_prefixes
from elicense.license.model import DocumentType, IdentityDocument, Sex

RESIDENT_NUMBER_LENGTH = 18
"""Six of area, eight of birth, three of sequence, one check character."""

# First two digits of a resident number: a province or, since 2018, 83 on the residence permits of
# Taiwan residents (those of Hong Kong and Macao have their own codes of GB/T 2260).  Counties are not
# looked up: a number keeps the code of a county that was merged away long ago.
_PREFIXES = province_prefixes() | {"83"}
_MAX_FOLDS = 8
_CHECK_CHARACTERS = "0123456789X"


def normalize_number(number: str) -> str:
    """Return a document number in normal form: full-width forms unified, no blanks, upper case.

    Two spellings of one number must give one person key, so this comes before
    every look-up and every check.
    """
    if number.isascii() and number.isalnum():
        return number.upper()
    # Folding can bring out new blanks or another order of marks, so it is done until nothing changes;
    # twice does for any text found so far, and the bound keeps hostile text from going on.
    for _ in range(_MAX_FOLDS):
        folded = "".join(unicodedata.normalize("NFKC", number).split()).upper()
        if folded == number:
            break
        number = folded
    return number


def normalize_document(document: IdentityDocument) -> IdentityDocument:
    """Return the document with its number in normal form; the same object when it is so already."""
    number = normalize_number(document.number)
    return document if number == document.number else IdentityDocument(type=document.type, number=number)


@lru_cache(maxsize=65_536)
def _birth_date(digits: str) -> date | None:
    """Return the date written as ``yyyymmdd``, or None when there is no such day."""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def resident_check_character(digits: str) -> str:
    """Return the check character that belongs to the first seventeen digits.

    ISO 7064 MOD 11-2 weighs position i by 2^(17-i); read as one number in base 13
    the digits give the same sum modulo 11, because 13 is 2 modulo 11.

    Raises:
        ValueError: Not seventeen ASCII digits.
    """
    if len(digits) != RESIDENT_NUMBER_LENGTH - 1 or not (digits.isascii() and digits.isdigit()):
        msg = "give the first seventeen digits"
        raise ValueError(msg)
    return _CHECK_CHARACTERS[(1 - 2 * int(digits, 13)) % 11]


def resident_birth_date(number: str) -> date | None:
    """Return the date of birth inside a resident number, or None when it is no such number."""
    return _birth_date(number[6:14]) if is_resident_number(number) else None


def resident_sex(number: str) -> Sex:
    """Return the sex inside a well-formed resident number: the seventeenth digit is odd for a man."""
    return Sex.MALE if number[16] in "13579" else Sex.FEMALE


def is_resident_number(number: str) -> bool:
    """Tell whether ``number`` is a resident identity number: area, birth date and check character right."""
    if len(number) != RESIDENT_NUMBER_LENGTH:
        return False
    digits = number[:17]
    # int() alone would let underscores, blanks and other scripts' digits pass.
    return (
        digits.isascii()
        and digits.isdigit()
        and _CHECK_CHARACTERS[(1 - 2 * int(digits, 13)) % 11] == number[17]
        and digits[:2] in _PREFIXES
        and _birth_date(digits[6:14]) is not None
    )


def _is_passport(number: str) -> bool:
    return 5 <= len(number) <= 20 and _is_upper_alphanumeric(number)


def _is_permanent_residence(number: str) -> bool:
    # Before 2023: three letters and twelve digits; since then eighteen characters, the first a 9.
    if len(number) == 15:
        return _is_upper_letters(number[:3]) and _is_digits(number[3:])
    return (
        len(number) == RESIDENT_NUMBER_LENGTH
        and number[0] == "9"
        and _is_digits(number[:17])
        and resident_check_character(number[:17]) == number[17]
    )


def _is_hk_macao_permit(number: str) -> bool:
    return number[:1] in ("H", "M") and len(number) in (9, 11) and _is_digits(number[1:])


def _is_taiwan_permit(number: str) -> bool:
    # Eight digits; older booklets ten, some with a letter behind.
    if len(number) == 11:
        return _is_digits(number[:10]) and _is_upper_letters(number[10])
    return len(number) in (8, 10) and _is_digits(number)


def _is_military_id(number: str) -> bool:
    # Such as 南字第12345678号: characters, letters and digits.
    return 4 <= len(number) <= 32 and number.isalnum() and any(c.isdigit() for c in number)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_upper_letters(text: str) -> bool:
    return text.isascii() and text.isalpha() and text.isupper()


def _is_upper_alphanumeric(text: str) -> bool:
    return text.isascii() and text.isalnum() and text == text.upper()


_RULES: Mapping[int, tuple[Callable[[str], bool], str]] = MappingProxyType(
    {
        DocumentType.RESIDENT_ID: (
            is_resident_number,
            "check the eighteen characters against the identity card: area, birth date and check character must agree",
        ),
        DocumentType.PASSPORT: (_is_passport, "give the passport number: five to twenty capital letters and digits"),
        DocumentType.PERMANENT_RESIDENCE: (
            _is_permanent_residence,
            "give the number of the permanent residence card: three letters and twelve digits, or eighteen characters",
        ),
        DocumentType.HK_MACAO_PERMIT: (
            _is_hk_macao_permit,
            "give the permit number: H or M and eight or ten digits",
        ),
        DocumentType.TAIWAN_PERMIT: (
            _is_taiwan_permit,
            "give the permit number: eight digits, or ten on an older permit",
        ),
        DocumentType.MILITARY_ID: (_is_military_id, "give the number of the military document as printed"),
    }
)


def document_violation(document: IdentityDocument, field: str) -> Violation | None:
    """Return what is wrong with a document in normal form, or None.

    Args:
        document: The document, through :func:`normalize_document`.
        field: Path of the document in the request, for the violation.
    """
    rule = _RULES.get(document.type)
    if rule is None:
        return Violation(
            f"{field}.type", "DOCUMENT_TYPE_UNKNOWN", "State one of the kinds of document that the API defines."
        )
    holds, advice = rule
    if holds(document.number):
        return None
    return Violation(f"{field}.number", "DOCUMENT_NUMBER_INVALID", f"The document number is not right: {advice}.")
