"""A licence in order, to be changed by each test."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from elicense.license.document import resident_check_character
from elicense.license.model import (
    Ban,
    ClaimGrant,
    Correction,
    DocumentType,
    Holder,
    IdentityDocument,
    License,
    LicenseEvent,
    LicenseRecord,
    Photo,
    Sex,
    StatusLetter,
    TransferSource,
    Validity,
    ValidityKind,
    VehicleClass,
)

TODAY = date(2021, 6, 1)
SUZHOU = 320500
BIRTH = date(1985, 3, 14)


def resident_number(birth: date = BIRTH, *, sex: Sex = Sex.MALE, area: str = "320508") -> str:
    digits = f"{area}{birth:%Y%m%d}{'333' if sex is Sex.MALE else '334'}"
    return digits + resident_check_character(digits)


def a_document(birth: date = BIRTH) -> IdentityDocument:
    return IdentityDocument(DocumentType.RESIDENT_ID, resident_number(birth))


def a_holder(**changes: Any) -> Holder:
    holder = Holder(
        full_name="王小明",
        document=a_document(),
        sex=Sex.MALE,
        nationality="CN",
        birth_date=BIRTH,
        address="江苏省苏州市姑苏区人民路1号",
        family_name_latin="WANG",
        given_name_latin="XIAOMING",
    )
    return replace(holder, **changes)


def a_license(**changes: Any) -> License:
    license_ = License(
        holder=a_holder(),
        vehicle_classes=(VehicleClass("C1", date(2010, 6, 3)), VehicleClass("D", date(2018, 1, 1))),
        first_issue_date=date(2010, 6, 3),
        validity=Validity(ValidityKind.TEN_YEARS, date(2016, 6, 3), date(2026, 6, 3)),
        archive_number="320512345678",
        issuing_authority="江苏省苏州市公安局交通警察支队",
        division_code="320500",
        photo=Photo(bytes(range(100, 132)), date(2021, 5, 1)),
    )
    return replace(license_, **changes)


def a_full_license() -> License:
    """Every field filled, the output-only ones left out."""
    return a_license(
        vehicle_classes=(
            VehicleClass("C1", date(2010, 6, 3), date(2030, 1, 1), ("glasses", "automatic only")),
            VehicleClass("E", date(2018, 1, 1)),
        ),
        status_letters=(
            StatusLetter("H", date(2021, 1, 1), date(2021, 12, 31), "道路交通安全法第九十条", "苏州交警"),
            StatusLetter("N", date(2021, 2, 1)),
        ),
        points=3,
        points_roll_date=date(2021, 6, 3),
        points_limit_date=date(2019, 2, 1),
        offered_to_city=510100,
        name="cities/320500/licenses/7b0d2d5e-0d0f-4a53-8f0c-0a3a5f1c2b3d",
    )


def a_record(**changes: Any) -> LicenseRecord:
    record = LicenseRecord(
        city=SUZHOU,
        epoch=1,
        license_id=bytes(range(16)),
        revision=2,
        previous_entry_hash=bytes(32),
        event=LicenseEvent.UPDATED,
        request_id="0b6f6d1e-6f4b-4f0e-9b53-6f0f6f0f6f0f",
        actor="spiffe://example.cn/clerk/320500/zhang",
        record_time_us=1_622_505_600_123_456,
        effective_time_us=1_622_505_600_000_000,
        license=a_full_license(),
        claim=ClaimGrant(1, 42),
        provisional=False,
        imported=True,
        request_digest=bytes(range(32)),
        basis="道路交通安全法第九十一条",
        correction=Correction(1, bytes(range(32)), "typed wrongly"),
        taken_over_from=TransferSource(510100, 1, 42),
        earlier_documents=(IdentityDocument(DocumentType.PASSPORT, "E12345678"),),
    )
    return replace(record, **changes)


def letter(
    code: str, start: date = date(2021, 1, 1), end: date | None = None, basis: str = "某法第一条"
) -> StatusLetter:
    return StatusLetter(code, start, end, basis, ban=Ban(for_life=True) if code in "EF" else None)
