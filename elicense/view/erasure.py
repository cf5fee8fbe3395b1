"""The entry that erases a licence: it names the licence and the law, and nothing of a person. Pure.

From then on the slots of the licence's records hold their leaf hashes alone: the
tree and every proof stay as they are, and without the salts nobody can tell what
was in them, not even with the true record at hand.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from elicense.v1 import license_pb2

_LICENSE_ID_SIZE: Final = 16


def read_erasure(record: bytes | None) -> license_pb2.LicenseRecord | None:
    """Return a record that erases a licence; None when it is anything else."""
    if record is None:
        return None
    try:
        message = license_pb2.LicenseRecord.FromString(record)
    except DecodeError:
        return None
    erases = message.event == license_pb2.LICENSE_EVENT_ERASED and not message.HasField("license")
    return message if erases and len(message.license_id) == _LICENSE_ID_SIZE else None
