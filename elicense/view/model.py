"""Values of the licence view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.type.date_pb2 import Date

from elicense.sql.row import Row
from elicense.v1 import license_pb2

_NOBODYS_STANDING = license_pb2.LicenseStanding(
    vehicle_classes=[license_pb2.VehicleClass(code="C1", from_date=Date(year=2020, month=1, day=1))],
    validity=license_pb2.Validity(kind=license_pb2.VALIDITY_KIND_LONG_TERM, from_date=Date(year=2020, month=1, day=1)),
).SerializeToString()


@dataclass(frozen=True, slots=True)
class ViewRow(Row):
    """One licence as it stands now; fields in column order.

    Attributes:
        person_key: Keyed tag of the person, 16 bytes.
        license_id: UUID bytes.
        city: Division code of the city in custody.
        epoch: Log epoch of the latest record.
        idx: Log index of the latest record.
        revision: Its revision number.
        event: Its event number; may be one that this node does not know.
        flags: :class:`elicense.license.verdict.ViewFlags` bits.
        entry_hash: Its leaf hash, which the next revision must cite.
        name_tag: Keyed tag of the holder's name, 16 bytes.
        standing: Serialized ``LicenseStanding``.
        recorded_us: When the city wrote it.
    """

    person_key: bytes
    license_id: bytes
    city: int
    epoch: int
    idx: int
    revision: int
    event: int
    flags: int
    entry_hash: bytes
    name_tag: bytes
    standing: bytes
    recorded_us: int

    def as_revision(self, *, effective_us: int, received_us: int) -> Revision:
        """Return the entry of the revision index for the record that made this row.

        Args:
            effective_us: From when the record counts.
            received_us: When this node stored it.
        """
        return Revision(
            self.license_id,
            self.city,
            self.epoch,
            self.idx,
            self.revision,
            self.event,
            effective_us,
            self.recorded_us,
            received_us,
            self.person_key,
        )


RowValues = tuple[bytes, bytes, int, int, int, int, int, int, bytes, bytes, bytes, int]
"""Columns of a :class:`ViewRow`, in their order."""

NOBODY = ViewRow(
    person_key=bytes(16),
    license_id=bytes(16),
    city=0,
    epoch=0,
    idx=0,
    revision=0,
    event=0,
    flags=0,
    entry_hash=bytes(32),
    name_tag=bytes(16),
    standing=_NOBODYS_STANDING,
    recorded_us=0,
)
"""Stands where there is no licence, so that looking for one that is not there takes as long; its tags match nothing."""


@dataclass(frozen=True, slots=True)
class Revision(Row):
    """One revision of a licence in the revision index; fields in column order.

    Attributes:
        license_id: UUID bytes.
        city: City whose log holds the record.
        epoch: Its epoch.
        idx: Its index.
        revision: Revision number.
        event: Event number.
        effective_us: From when it counts.
        recorded_us: When the city wrote it.
        received_us: When this node stored it.
        person_key: Keyed tag of the person.
    """

    license_id: bytes
    city: int
    epoch: int
    idx: int
    revision: int
    event: int
    effective_us: int
    recorded_us: int
    received_us: int
    person_key: bytes


RevisionValues = tuple[bytes, int, int, int, int, int, int, int, int, bytes]
"""Columns of a :class:`Revision`, in their order."""


def revisions_of(rows: Iterable[tuple[RowValues, int]], *, received_us: int) -> list[RevisionValues]:
    """Return :meth:`ViewRow.as_revision` of many rows, columns alone; each comes with from when its record counts."""
    return [
        (license_id, city, epoch, idx, revision, event, effective_us, recorded_us, received_us, person_key)
        for (person_key, license_id, city, epoch, idx, revision, event, *_, recorded_us), effective_us in rows
    ]
