"""First revisions of licences, put together from bytes that were serialized before.

A commit writes up to a thousand.  What they share is serialized once, and what a
draft holds is taken as it is; the outcome is the same as that of serializing the
whole message, its fields in the order of their numbers.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

from city_node.commands import NewLicense
from elicense.clock import china_date, to_timestamp
from elicense.license.civil_date import civil_date, shared_message
from elicense.license.license_bytes import tag, varint
from elicense.license.points import next_cycle
from elicense.license.standing import standing_of
from elicense.log.model import LogKey
from elicense.uuids import uuid_text
from elicense.v1 import license_pb2


def _tag(name: str, length: int | None = None) -> bytes:
    """Return what stands before a field of a record: number and type, and its length where that is always the same."""
    return tag(license_pb2.LicenseRecord, name) + (b"" if length is None else varint(length))


_LICENSE_ID: Final = _tag("license_id", 16)
_REQUEST_ID: Final = _tag("request_id", 36)
_LICENSE: Final = _tag("license")
_DIGEST: Final = _tag("request_digest", 32)
_ISSUED: Final = license_pb2.LicenseRecord(revision=1, event=license_pb2.LICENSE_EVENT_ISSUED).SerializeToString()
_PROVISIONAL: Final = license_pb2.LicenseRecord(provisional=True).SerializeToString()
_IMPORTED: Final = license_pb2.LicenseRecord(imported=True).SerializeToString()


class FirstRevisions:
    """Puts together the first revisions of one commit.

    Args:
        key: The log.
        now_us: When they are written.
    """

    def __init__(self, key: LogKey, now_us: int) -> None:
        now = to_timestamp(now_us)
        self._today = china_date(now_us)
        self._day = self._today.toordinal()
        self._place = license_pb2.LicenseRecord(city=key.log, epoch=key.epoch).SerializeToString()
        self._times = license_pb2.LicenseRecord(record_time=now, effective_time=now).SerializeToString()

    def write(self, item: NewLicense) -> tuple[bytes, bytes]:
        """Return the bytes of a record, and the standing of its licence."""
        draft = item.draft
        license_, standing = draft.license, draft.standing
        if draft.points and draft.day != self._day:
            license_, standing = _with_cycle(license_, self._today)
        record = b"".join(
            (
                self._place,
                _LICENSE_ID,
                item.license_id,
                _ISSUED,
                _REQUEST_ID,
                uuid_text(draft.request_id).encode(),
                _actor(draft.actor),
                self._times,
                _LICENSE,
                varint(len(license_)),
                license_,
                _claim(item.citation) if item.citation else _PROVISIONAL,
                _IMPORTED if draft.imported else b"",
                _DIGEST,
                draft.digest,
            )
        )
        return record, standing


@lru_cache(maxsize=64)
def _actor(actor: str) -> bytes:
    return license_pb2.LicenseRecord(actor=actor).SerializeToString()


@lru_cache(maxsize=64)
def _claim(citation: bytes) -> bytes:
    """Return the field that cites a grant, which all persons of one entry of the registry's log share."""
    return license_pb2.LicenseRecord(claim=license_pb2.ClaimGrant.FromString(citation)).SerializeToString(
        deterministic=True
    )


def _with_cycle(data: bytes, on: date) -> tuple[bytes, bytes]:
    """Note anew when the points that a licence starts with are cleared; return it and its standing."""
    license_ = license_pb2.License.FromString(data)
    first = license_.first_issue_date
    if (first_issue := civil_date(first.year, first.month, first.day)) is not None:
        license_.points_roll_date.CopyFrom(shared_message(next_cycle(first_issue, on)))
    return license_.SerializeToString(deterministic=True), standing_of(license_)
