"""What a record says of the documents before: each once, the first in front, and not too many."""

from __future__ import annotations

import pytest

from city_node.revisions import Latest, earlier_documents
from elicense.errors import IllegalTransition
from elicense.license.codec import encode_record, license_from_message
from elicense.license.identity_change import MAX_EARLIER_DOCUMENTS
from elicense.v1 import license_pb2
from elicense.view.model import NOBODY
from tests.unit.license.samples import a_record


def latest(present: int, *earlier: int) -> Latest:
    """A licence of a holder with passports of these numbers."""
    record = license_pb2.LicenseRecord.FromString(encode_record(a_record(earlier_documents=())))
    record.license.holder.document.number = str(present)
    for number in earlier:
        record.earlier_documents.add(type=record.license.holder.document.type, number=str(number))
    return Latest(NOBODY, record, license_from_message(record.license))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (latest(1), ["1"]),
        (latest(2, 1), ["1", "2"]),
        (latest(1, 1, 2), ["1", "2"]),
        (latest(2, 1, 2), ["1", "2"]),
        (latest(3, 1, 2), ["1", "2", "3"]),
    ],
)
def test_each_document_is_named_once_and_the_first_stays_in_front(held: Latest, expected: list[str]) -> None:
    assert [document.number for document in earlier_documents(held)] == expected


def test_a_holder_who_has_had_too_many_documents_gets_no_further_one() -> None:
    most = range(MAX_EARLIER_DOCUMENTS)
    assert len(earlier_documents(latest(MAX_EARLIER_DOCUMENTS - 1, *most[:-1]))) == MAX_EARLIER_DOCUMENTS
    with pytest.raises(IllegalTransition) as refused:
        earlier_documents(latest(MAX_EARLIER_DOCUMENTS, *most))
    assert [each.reason for each in refused.value.violations] == ["TOO_MANY_DOCUMENTS"]
