"""A licence with something in every field, and which fields a licence shows."""

from __future__ import annotations

from google.type.date_pb2 import Date

from elicense.license.fields import LicenseField
from elicense.v1 import license_pb2 as pb

FULL_LICENSE = pb.License(
    holder=pb.Holder(
        full_name="张伟",
        family_name_latin="ZHANG",
        given_name_latin="WEI",
        document=pb.IdentityDocument(type=pb.DOCUMENT_TYPE_RESIDENT_ID, number="11010519491231002X"),
        sex=pb.SEX_FEMALE,
        nationality="CN",
        birth_date=Date(year=1949, month=12, day=31),
        address="北京市朝阳区",
    ),
    vehicle_classes=[pb.VehicleClass(code="C1", from_date=Date(year=2010, month=1, day=2), limits=["glasses"])],
    first_issue_date=Date(year=2010, month=1, day=2),
    validity=pb.Validity(kind=pb.VALIDITY_KIND_LONG_TERM, from_date=Date(year=2016, month=1, day=2)),
    archive_number="110100000001",
    issuing_authority="北京市公安局",
    division_code="110105",
    photo=pb.Photo(sha256=bytes(range(32)), capture_date=Date(year=2021, month=6, day=1)),
    status_letters=[pb.StatusLetter(letter="H", legal_basis="law 1", start_date=Date(year=2021, month=6, day=1))],
    points=3,
)


def shown_fields(shown: pb.License) -> set[LicenseField]:
    """Return the fields of which a licence shows anything, found without the code under test."""
    holder = shown.holder
    present = {
        LicenseField.FULL_NAME: bool(holder.full_name),
        LicenseField.LATIN_NAME: bool(holder.family_name_latin or holder.given_name_latin),
        LicenseField.DOCUMENT: holder.HasField("document"),
        LicenseField.SEX: bool(holder.sex),
        LicenseField.NATIONALITY: bool(holder.nationality),
        LicenseField.BIRTH_DATE: holder.HasField("birth_date"),
        LicenseField.ADDRESS: bool(holder.address),
        LicenseField.VEHICLE_CLASSES: bool(shown.vehicle_classes),
        LicenseField.FIRST_ISSUE_DATE: shown.HasField("first_issue_date"),
        LicenseField.VALIDITY: shown.HasField("validity"),
        LicenseField.ARCHIVE_NUMBER: bool(shown.archive_number),
        LicenseField.ISSUING_AUTHORITY: bool(shown.issuing_authority or shown.division_code),
        LicenseField.PHOTO: shown.HasField("photo"),
        LicenseField.STATUS_LETTERS: bool(shown.status_letters),
        LicenseField.POINTS: bool(shown.points),
    }
    return {field for field, there in present.items() if there}
