from __future__ import annotations

import pytest

from elicense.errors import Malformed
from elicense.rpc.validation import RequestRules
from elicense.v1 import issuance_pb2, license_pb2, verification_pb2


def broken(request: object) -> dict[str, str]:
    with pytest.raises(Malformed) as caught:
        RequestRules().check(request)  # type: ignore[arg-type]
    return {v.field: v.reason for v in caught.value.violations}


def test_every_wrong_field_is_named() -> None:
    request = issuance_pb2.SetStatusRequest(name="320500", lift_letters=["B", "b", "!"], request_id="1")
    assert broken(request) == {
        "name": "STRING_PATTERN",
        "lift_letters[1]": "STRING_PATTERN",
        "lift_letters[2]": "STRING_PATTERN",
        "request_id": "STRING_UUID",
    }


def test_fields_of_nested_messages_have_their_whole_path() -> None:
    query = verification_pb2.LicenseQuery(
        document=license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number="x" * 300)
    )
    request = verification_pb2.BatchVerifyLicensesRequest(queries=[query])
    fields = broken(request)
    assert "context" in fields
    assert "queries[0].document.number" in fields


def test_no_value_is_quoted() -> None:
    request = issuance_pb2.GetLicenseRequest(name="Li Si")
    with pytest.raises(Malformed) as caught:
        RequestRules().check(request)
    assert "Li Si" not in f"{caught.value} {caught.value.violations}"


def test_a_good_request_passes() -> None:
    RequestRules().check(issuance_pb2.ListLicensesRequest(parent="cities/320500"))
