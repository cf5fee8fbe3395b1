"""The first entry of an epoch, which binds it to the epoch before: pure.

It stands in the log like a record, under a salt of its own, but is about no
licence: nothing is folded from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from elicense.clock import to_timestamp
from elicense.log.checkpoint import Checkpoint
from elicense.v1 import license_pb2


@dataclass(frozen=True, slots=True)
class Opening:
    """What an opening states.

    Attributes:
        city: Division code.
        epoch: The epoch that it opens.
        previous: Head of the epoch before: origin, size and root.
        receipt: Last receipt of that epoch; empty when there was none.
        recorded_us: When the city wrote it.
    """

    city: int
    epoch: int
    previous: Checkpoint
    receipt: bytes
    recorded_us: int


def opening_record(opening: Opening, *, actor: str) -> bytes:
    """Serialize an opening, once and for all.

    Args:
        opening: What it states.
        actor: SPIFFE ID of the node.
    """
    record = license_pb2.LicenseRecord(city=opening.city, epoch=opening.epoch, actor=actor)
    record.record_time.CopyFrom(to_timestamp(opening.recorded_us))
    record.opening.previous_origin = opening.previous.origin
    record.opening.previous_size = opening.previous.size
    record.opening.previous_root = opening.previous.root
    record.opening.previous_receipt = opening.receipt
    return record.SerializeToString(deterministic=True)


def read_opening(record: bytes | None) -> license_pb2.LicenseRecord | None:
    """Return a record that opens an epoch; None when it is anything else."""
    if record is None:
        return None
    try:
        message = license_pb2.LicenseRecord.FromString(record)
    except DecodeError:
        return None
    return message if message.HasField("opening") else None


def binds(record: bytes | None, *, city: int, epoch: int, previous: Checkpoint) -> bool:
    """Whether a record opens that epoch of that city, right after the head ``previous``."""
    message = read_opening(record)
    if message is None or (message.city, message.epoch) != (city, epoch):
        return False
    stated = message.opening.previous_origin, message.opening.previous_size, message.opening.previous_root
    return stated == (previous.origin, previous.size, previous.root)
