"""From a request to the change that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

from city_node.commands import ChangeLicense
from elicense.errors import Malformed, Violation
from elicense.license.cancellation import Cancellation
from elicense.license.change import Change
from elicense.license.class_change import AddedClass, ClassChange
from elicense.license.codec import date_from_message, letter_from_message, license_values
from elicense.license.document import normalize_number
from elicense.license.field_change import FieldCorrection, Update
from elicense.license.identity_change import IdentityChange
from elicense.license.model import DocumentType, IdentityDocument, Photo, StatusLetter
from elicense.license.points import ExamPassed, Points
from elicense.license.renewal import Renewal
from elicense.license.status_change import StatusChange
from elicense.uuids import uuid_bytes
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2

#: Fields that say how a request is to be dealt with, not what it means.
_NO_MEANING: Final = ("name", "request_id", "validate_only")


def change_of(request: Any, *, license_id: bytes, city: int, actor: str) -> ChangeLicense:
    """Return the change that a request of the IssuanceService asks for.

    Raises:
        Malformed: Some fields are not in the right form; all are named.
    """
    meaning = type(request)()
    meaning.CopyFrom(request)
    for name in _NO_MEANING:
        meaning.ClearField(name)
    kind = request.DESCRIPTOR.name.encode()
    return ChangeLicense(
        request_id=uuid_bytes(request.request_id),
        digest=sha256(kind + b"\n" + license_id + meaning.SerializeToString(deterministic=True)).digest(),
        license_id=license_id,
        change=_READERS[type(request)](request, city),
        etag=request.etag,
        actor=actor,
    )


def _status(request: pb.SetStatusRequest, _city: int) -> StatusChange:
    return StatusChange(_letters(request.add_letters), tuple(request.lift_letters))


def _update(request: pb.UpdateLicenseRequest, _city: int) -> Update:
    paths = tuple(dict.fromkeys(request.update_mask.paths))
    return Update(license_values(request.license, paths), paths)


def _renewal(request: pb.RenewLicenseRequest, _city: int) -> Renewal:
    photo = None
    if request.HasField("photo"):
        captured = date_from_message(request.photo.capture_date, "photo.capture_date")
        photo = Photo(request.photo.sha256, captured)
    return Renewal(request.exam_passed, photo)


def _classes(request: pb.ChangeVehicleClassesRequest, _city: int) -> ClassChange:
    add = tuple(AddedClass(each.code, tuple(each.limits)) for each in request.add_classes)
    return ClassChange(tuple(request.withdraw_classes), add, request.legal_basis)


def _points(request: pb.RecordPointsRequest, _city: int) -> Points | ExamPassed:
    if not request.exam_passed:
        return Points(request.points, request.legal_basis)
    if request.points:
        raise Malformed(
            "points and the exam that clears them are two requests",
            violations=[Violation("points", "POINTS_WITH_EXAM", "Leave the points out, or the exam.")],
        )
    return ExamPassed(request.legal_basis)


def _cancellation(request: pb.CancelLicenseRequest, _city: int) -> Cancellation:
    return Cancellation(request.legal_basis)


def _correction(request: pb.CorrectLicenseRequest, city: int) -> FieldCorrection:
    paths = tuple(dict.fromkeys(request.update_mask.paths))
    return FieldCorrection(
        license_values(request.license, paths), paths, city, request.corrects_revision, request.reason
    )


def _identity(request: pb.ChangeIdentityRequest, city: int) -> IdentityChange:
    document = IdentityDocument(DocumentType(request.document.type), normalize_number(request.document.number))
    return IdentityChange(document, request.full_name.strip(), city, request.legal_basis)


_READERS: Final[dict[type[Any], Callable[[Any, int], Change]]] = {
    pb.SetStatusRequest: _status,
    pb.UpdateLicenseRequest: _update,
    pb.RenewLicenseRequest: _renewal,
    pb.ChangeVehicleClassesRequest: _classes,
    pb.RecordPointsRequest: _points,
    pb.CancelLicenseRequest: _cancellation,
    pb.CorrectLicenseRequest: _correction,
    pb.ChangeIdentityRequest: _identity,
}


def _letters(messages: Sequence[license_pb2.StatusLetter]) -> tuple[StatusLetter, ...]:
    letters: list[StatusLetter] = []
    faults: list[Violation] = []
    for position, message in enumerate(messages):
        try:
            letters.append(letter_from_message(message, f"add_letters[{position}]"))
        except Malformed as error:
            faults.extend(error.violations)
    if faults:
        raise Malformed("a status letter has a wrong date", violations=faults)
    return tuple(letters)
