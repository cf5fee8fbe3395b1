"""A record of a city that breaks custody, and the entry that proves it. Pure, from files and public keys.

Custody moves only by a take-over that the registry's log accepts.  A record breaks
that rule in three ways, and each shows in the entry that the record follows:

1. It follows a revision in another city's log and is no take-over: the city never
   had the licence.
2. It follows a take-over of its own city that the registry's log refused: a city
   writes nothing upon a take-over before it has the registry's word.  A registry
   that opened a later epoch has lost decisions, and may refuse there what it had
   accepted: then only a record counts that is dated more than ten minutes after.
3. It follows the very revision at which the registry's log had given the licence to
   another city, and stands behind the size at which the city signed that it knew.  A
   city that was cut off has signed nothing of the kind, and breaks no rule; no clock
   is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from elicense.clock import SECOND_US, from_timestamp
from elicense.errors import Malformed
from elicense.log.model import FIRST_EPOCH
from elicense.log.proof_file import EntryProof, ProvenEntry, check_proof
from elicense.v1 import license_pb2, log_pb2
from elicense.verification.told import Told, open_told
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from elicense.log.verifier_key import VerifierKey

CLOCKS_APART_US: Final = 600 * SECOND_US
"""How far the clocks of a city and of the registry may be apart."""

_TAKEN_OVER: Final = license_pb2.LICENSE_EVENT_TRANSFERRED_IN


@dataclass(frozen=True, slots=True)
class CustodyEvidence:
    """A record without custody.

    Attributes:
        record: The record, in the log of the city that wrote it.
        follows: What proves that the city had no custody: the entry of another city's log that it follows, or
            the registry's decision on the take-over.
        told: The city's signed word that it knew of that decision; None where the proof needs none.
    """

    record: EntryProof
    follows: EntryProof
    told: bytes | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """What evidence of a broken custody rule proves.

    Attributes:
        city: Division code of the city that wrote the record.
        origin: Origin of its log.
        what: What it did, without personal data.
    """

    city: int
    origin: str
    what: str


def confirm_breach(evidence: CustodyEvidence, keys: Sequence[VerifierKey]) -> Breach:
    """Confirm that a record was written without custody.

    Args:
        evidence: The evidence.
        keys: Keys of city logs and of the registry's log that are trusted.

    Raises:
        CheckpointInvalid: A head is not one, or of another log.
        SignatureInvalid: A log did not sign its head.
        RootMismatch: An entry is not in its log.
        Malformed: It proves nothing, or is not what it should be.
    """
    entry = check_proof(evidence.record, list(keys))
    follows = check_proof(evidence.follows, list(keys))
    if not entry.proof.city:
        raise Malformed("the record of this evidence must stand in a city's log")
    record = _license_record(entry)
    own = next(key for key in keys if key.name.endswith(f"/city/{entry.proof.city}/{entry.proof.epoch}"))
    origin = own.name
    if not _is_of(origin, follows, keys):
        raise Malformed("the two entries are of different trust domains")
    told = None if evidence.told is None else open_told(evidence.told, key=own)
    what = _foreign(entry, record, follows) if follows.proof.city else _decided(entry, record, follows, told)
    if what is None:
        raise Malformed("the entries do not show that the record was written without custody")
    return Breach(entry.proof.city, origin, f"wrote entry {entry.proof.index} of the log {origin}, {what}")


def _foreign(entry: ProvenEntry, record: license_pb2.LicenseRecord, follows: ProvenEntry) -> str | None:
    other = _license_record(follows)
    if (
        follows.proof.city == entry.proof.city
        or record.event == _TAKEN_OVER
        or record.license_id != other.license_id
        or record.previous_entry_hash != follows.leaf_hash
    ):
        return None
    place = f"entry {follows.proof.index} of epoch {follows.proof.epoch}"
    return f"upon a revision of city {other.city} ({place}) that it had not taken over"


def _decided(
    entry: ProvenEntry, record: license_pb2.LicenseRecord, follows: ProvenEntry, told: Told | None
) -> str | None:
    decision = read_decision(follows.proof.record)
    decided = decision.transfer_decided
    if record.license_id != decided.license_id:
        return None
    late_us = from_timestamp(record.record_time) - from_timestamp(decision.record_time)
    where = f"entry {follows.proof.index} of the registry's log, epoch {follows.proof.epoch}"
    if decided.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED:
        may_have_had_word = follows.proof.epoch > FIRST_EPOCH and late_us <= CLOCKS_APART_US
        upon = entry.proof.city == decided.position.city and record.previous_entry_hash == decided.entry_hash
        if upon and not may_have_had_word:
            return f"upon a take-over that the registry had refused ({where})"
        return None
    if (
        entry.proof.city != decided.source.city
        or record.event == _TAKEN_OVER
        or record.previous_entry_hash != decided.source_entry_hash
        or told is None
        or (told.epoch, told.index) != (decided.source.epoch, decided.source.index)
        or entry.proof.index < told.size
    ):
        return None
    return (
        f"though it had signed at {told.size} entries that it knew that"
        f" the registry had given the license to city {decided.position.city} ({where})"
    )


def read_decision(record: bytes) -> log_pb2.RegistryRecord:
    """Return the decision on a take-over that an entry of the registry's log holds.

    Raises:
        Malformed: It holds none.
    """
    try:
        decision = log_pb2.RegistryRecord.FromString(record)
    except DecodeError:
        raise Malformed("the entry is not a decision of the registry") from None
    if decision.WhichOneof("decision") != "transfer_decided":
        raise Malformed("the entry does not decide about a take-over")
    return decision


def _license_record(entry: ProvenEntry) -> license_pb2.LicenseRecord:
    record = read_record(entry.proof.record)
    if (record.city, record.epoch) != (entry.proof.city, entry.proof.epoch):
        raise Malformed("the record says that it is of another log than the one it stands in")
    return record


def _is_of(origin: str, follows: ProvenEntry, keys: Sequence[VerifierKey]) -> bool:
    """Whether the other entry stands in a log of the same trust domain."""
    domain = origin.partition("/")[0]
    proof = follows.proof
    suffix = f"city/{proof.city}/{proof.epoch}" if proof.city else f"registry/{proof.epoch}"
    return any(key.name == f"{domain}/{suffix}" for key in keys)
