"""The entries of the registry's log, from decisions to protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elicense.clock import to_timestamp
from elicense.license.license_bytes import field, tag
from elicense.v1 import log_pb2
from elicense.view.model import ViewRow
from registry.bans import PersonBan
from registry.conflict_model import Conflict, Statement
from registry.model import Claim, Pending
from registry.transfer_model import Arrival

#: Which index key made the tags in the registry's log; another key would be number 2.
TAG_KEY: Final = 1


_CLAIM: Final = tag(log_pb2.ClaimsGranted, "claims")
_PERSON_TAG: Final = tag(log_pb2.ClaimGranted, "person_tag")
_LICENSE_ID: Final = tag(log_pb2.ClaimGranted, "license_id")
_REQUEST_ID: Final = tag(log_pb2.ClaimGranted, "request_id")


def claims_granted(city: int, granted: Sequence[tuple[Claim, bytes]]) -> log_pb2.ClaimsGranted:
    """Return the entry for persons granted to ``city`` in one go; their leases end together.

    Args:
        city: Division code of the city.
        granted: The claims, at least one, each with the id of the issuing request, 16 UUID bytes.
    """
    entry = log_pb2.ClaimsGranted(city=city, lease_end_time=to_timestamp(granted[0][0].lease_end_us), tag_key=TAG_KEY)
    # An import claims thousands, and to read a message takes less than to put it together.
    parts = [
        field(_PERSON_TAG, claim.person_key) + field(_LICENSE_ID, claim.license_id) + field(_REQUEST_ID, request_id)
        for claim, request_id in granted
    ]
    entry.MergeFromString(b"".join([field(_CLAIM, part) for part in parts]))
    return entry


def provisional_confirmed(pending: Pending) -> log_pb2.ProvisionalConfirmed:
    """Return the entry for a waiting licence that counts."""
    return log_pb2.ProvisionalConfirmed(
        position=_position(pending),
        entry_hash=pending.entry_hash,
        license_id=pending.license_id,
        person_tag=pending.person_key,
        tag_key=TAG_KEY,
    )


def conflict_opened(pending: Pending, conflict: Conflict) -> log_pb2.ConflictOpened:
    """Return the entry for a waiting licence whose person another licence has."""
    return log_pb2.ConflictOpened(
        position=_position(pending),
        entry_hash=pending.entry_hash,
        license_id=pending.license_id,
        person_tag=pending.person_key,
        tag_key=TAG_KEY,
        held_by_city=conflict.held_city,
        held_license_id=conflict.held_license,
        deadline_time=to_timestamp(conflict.deadline_us),
    )


def conflict_stated(statement: Statement) -> log_pb2.ConflictStated:
    """Return the entry for what a city says."""
    return log_pb2.ConflictStated(
        conflict_id=statement.conflict_id,
        city=statement.city,
        license_id=statement.license_id,
        position=statement.position,  # type: ignore[arg-type]  # the same numbers
        grounds=statement.grounds,
        clerk=statement.clerk,
    )


def conflict_resolved(conflict: Conflict) -> log_pb2.ConflictResolved:
    """Return the entry for a conflict that was decided."""
    return log_pb2.ConflictResolved(
        conflict_id=conflict.license_id,
        standing_license_id=conflict.standing_license,
        void_license_id=conflict.void_license,
        person_tag=conflict.person_key,
        tag_key=TAG_KEY,
        end=conflict.ending,  # type: ignore[arg-type]  # the same numbers
        basis=conflict.basis,
    )


def conflict_settled(conflict: Conflict) -> log_pb2.ConflictSettled:
    """Return the entry for a licence that counts now that its conflict is over."""
    return log_pb2.ConflictSettled(conflict_id=conflict.license_id, person_tag=conflict.person_key, tag_key=TAG_KEY)


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


def transfer_decided(arrival: Arrival, source: ViewRow | None, refusal: int | None) -> log_pb2.TransferDecided:
    """Return the entry for a take-over of a licence that stood at ``source``; custody moves without a refusal."""
    decided = log_pb2.TransferDecided(
        position=_position(arrival),
        entry_hash=arrival.entry_hash,
        license_id=arrival.license_id,
        person_tag=arrival.person_key,
        tag_key=TAG_KEY,
        refusal=refusal or 0,  # type: ignore[arg-type]  # the same numbers
        target_size=arrival.idx + 1,
    )
    if source is not None:
        decided.source.CopyFrom(log_pb2.LogPosition(city=source.city, epoch=source.epoch, index=source.idx))
        decided.source_entry_hash = source.entry_hash
    return decided


def _position(pending: Pending | Arrival) -> log_pb2.LogPosition:
    return log_pb2.LogPosition(city=pending.city, epoch=pending.epoch, index=pending.idx)
