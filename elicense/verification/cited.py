"""Evidence that decisions of the registry's log cite by its digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from elicense.v1 import log_pb2

EVIDENCE_BYTES: Final = 512 * 1024
"""Most bytes of evidence that go with one call."""

EVIDENCE_WANTED: Final = 64
"""Pieces of evidence that are asked for with one call."""


def cited(records: Iterable[bytes | None]) -> list[bytes]:
    """Return the SHA-256 of the evidence on which quarantines among these entries of the registry's log rest."""
    found = []
    for record in records:
        try:
            decision = log_pb2.RegistryRecord.FromString(record or b"")
        except DecodeError:
            continue  # whoever holds the log says so
        if decision.HasField("city_quarantined"):
            found.append(decision.city_quarantined.evidence_digest)
    return found
