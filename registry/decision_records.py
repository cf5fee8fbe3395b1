"""The entries of the registry's log, from decisions to protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from elicense.clock import to_timestamp
from elicense.v1 import log_pb2
from elicense.view.model import ViewRow
from registry.bans import PersonBan
from registry.handovers import Arrival
from registry.model import Claim, Pending

#: Which index key made the tags in the registry's log; another key would be number 2.
TAG_KEY: Final = 1


def claims_granted(city: int, claims: Sequence[Claim]) -> log_pb2.ClaimsGranted:
    """Return the entry for persons granted to ``city`` in one go; their leases end together."""
    granted = [
        log_pb2.ClaimGranted(
            person_tag=claim.person_key, license_id=claim.license_id, request_id=UUID(claim.request_id).bytes
        )
        for claim in claims
    ]
    lease_end = to_timestamp(claims[0].lease_end_us)
    return log_pb2.ClaimsGranted(city=city, claims=granted, lease_end_time=lease_end, tag_key=TAG_KEY)


def provisional_confirmed(pending: Pending) -> log_pb2.ProvisionalConfirmed:
    """Return the entry for a waiting licence that counts."""
    return log_pb2.ProvisionalConfirmed(
        position=_position(pending),
        entry_hash=pending.entry_hash,
        license_id=pending.license_id,
        person_tag=pending.person_key,
        tag_key=TAG_KEY,
    )


def conflict_opened(pending: Pending, held_by: int) -> log_pb2.ConflictOpened:
    """Return the entry for a waiting licence whose person ``held_by`` has."""
    return log_pb2.ConflictOpened(
        position=_position(pending),
        entry_hash=pending.entry_hash,
        license_id=pending.license_id,
        person_tag=pending.person_key,
        tag_key=TAG_KEY,
        held_by_city=held_by,
    )


def license_barred(pending: Pending, ban: PersonBan) -> log_pb2.LicenseBarred:
    """Return the entry for a waiting licence that is void, because ``ban`` keeps its person from applying."""
    return log_pb2.LicenseBarred(
        position=_position(pending),
        entry_hash=pending.entry_hash,
        license_id=pending.license_id,
        person_tag=pending.person_key,
        tag_key=TAG_KEY,
        ban=log_pb2.LogPosition(city=ban.city, epoch=ban.epoch, index=ban.idx),
    )


def transfer_decided(
    arrival: Arrival, source: ViewRow | None, refusal: int | None, target_size: int
) -> log_pb2.TransferDecided:
    """Return the entry for a take-over of a licence that stood at ``source``; custody moves without a refusal."""
    decided = log_pb2.TransferDecided(
        position=_position(arrival),
        entry_hash=arrival.entry_hash,
        license_id=arrival.license_id,
        person_tag=arrival.person_key,
        tag_key=TAG_KEY,
        refusal=refusal or 0,  # type: ignore[arg-type]  # the same numbers
        target_size=target_size,
    )
    if source is not None:
        decided.source.CopyFrom(log_pb2.LogPosition(city=source.city, epoch=source.epoch, index=source.idx))
        decided.source_entry_hash = source.entry_hash
    return decided


def _position(pending: Pending | Arrival) -> log_pb2.LogPosition:
    return log_pb2.LogPosition(city=pending.city, epoch=pending.epoch, index=pending.idx)
