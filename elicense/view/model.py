"""Values of the licence view."""

from __future__ import annotations

from dataclasses import dataclass

from elicense.sql.row import Row


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
