"""An entry of a log with its record and the proof that it is there, as a file for a third party.

A JSON document; binary values in canonical base64.  It holds the record and so
personal data: it is for a court, not for publication.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from elicense.errors import Malformed
from elicense.log.checkpoint import open_checkpoint
from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.merkle import verify_inclusion
from elicense.log.note import open_note
from elicense.log.tree import HASH_SIZE
from elicense.log.verifier_key import COSIGNATURE, ED25519, VerifierKey, canonical_base64, encode_base64

MAX_FILE_SIZE: Final = 256 * 1024
MAX_PATH: Final = 64
_FIELDS: Final = frozenset({"city", "epoch", "index", "record", "salt", "hashes", "checkpoint"})
_MAX_INT: Final = 2**63


@dataclass(frozen=True, slots=True)
class EntryProof:
    """An opened entry and its inclusion path.

    Attributes:
        city: City whose log holds it; 0 for the registry's own.
        epoch: Epoch of that log.
        index: Index of the entry.
        record: Record bytes.
        salt: Its salt.
        hashes: Path from the leaf to the root.
        checkpoint: Signed note with the head that the path leads to.
    """

    city: int
    epoch: int
    index: int
    record: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    hashes: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry of which it is certain that the city signed it into its log.

    Attributes:
        proof: The entry.
        leaf_hash: Its leaf hash.
        size: Size of the log at the head that proves it.
        held_s: When the registry had it, in seconds since 1970; None without a cosignature by a given key.
    """

    proof: EntryProof
    leaf_hash: bytes
    size: int
    held_s: int | None


def format_proof(proof: EntryProof) -> bytes:
    """Return a proof as a file."""
    return json.dumps(proof_values(proof), ensure_ascii=False, indent=2).encode() + b"\n"


def proof_values(proof: EntryProof) -> dict[str, Any]:
    """Return a proof as it stands in a file, for files that hold one beside other things."""
    return {
        "city": proof.city,
        "epoch": proof.epoch,
        "index": proof.index,
        "record": encode_base64(proof.record),
        "salt": encode_base64(proof.salt),
        "hashes": [encode_base64(value) for value in proof.hashes],
        "checkpoint": proof.checkpoint.decode(),
    }


def parse_proof(data: bytes) -> EntryProof:
    """Read a proof; nothing of it is checked yet but its form.

    Raises:
        Malformed: It is not such a file.
    """
    if len(data) > MAX_FILE_SIZE:
        raise Malformed("the proof file is too large")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("the proof file is not JSON") from None
    return read_proof(values)


def read_proof(values: Any) -> EntryProof:
    """Read a proof out of what :func:`proof_values` wrote and JSON brought back.

    Raises:
        Malformed: It is not one.
    """
    if not isinstance(values, dict) or values.keys() != _FIELDS:
        raise Malformed(f"the proof file must hold {', '.join(sorted(_FIELDS))}, and nothing else")
    city, epoch, index = (_number(values[name]) for name in ("city", "epoch", "index"))
    salt, hashes, note = read_binary(values["salt"]), values["hashes"], values["checkpoint"]
    if not isinstance(hashes, list) or len(hashes) > MAX_PATH:
        raise Malformed("the path of the proof file is not a list of hashes")
    path = tuple(map(read_binary, hashes))
    if len(salt) != SALT_SIZE or any(len(value) != HASH_SIZE for value in path):
        raise Malformed("the salt or a hash of the proof file has another length")
    try:
        checkpoint = note.encode() if isinstance(note, str) else b""
    except UnicodeEncodeError:
        raise Malformed("the checkpoint of the proof file is not text") from None
    return EntryProof(city, epoch, index, read_binary(values["record"]), salt, path, checkpoint)


def check_proof(proof: EntryProof, keys: list[VerifierKey]) -> ProvenEntry:
    """Check that the city signed a head whose log holds the entry.

    Args:
        proof: The proof.
        keys: Keys of city logs and of the registry's cosignatures that are trusted.

    Raises:
        CheckpointInvalid: The head is not a checkpoint, or of another log.
        SignatureInvalid: None of the keys signed the head.
        RootMismatch: The entry is not in the log.
        Malformed: There is no key for this log.
    """
    suffix = f"/city/{proof.city}/{proof.epoch}" if proof.city else f"/registry/{proof.epoch}"
    log_key = next((key for key in keys if key.algorithm == ED25519 and key.name.endswith(suffix)), None)
    if log_key is None:
        raise Malformed(f"give the key of the log that the proof is of: its name ends with {suffix}")
    checkpoint = open_checkpoint(proof.checkpoint, origin=log_key.name, key=log_key)
    cosigners = [key for key in keys if key.algorithm == COSIGNATURE]
    signatures = open_note(proof.checkpoint, (log_key, *cosigners)).signatures
    leaf = leaf_hash(proof.salt, proof.record)
    verify_inclusion(
        leaf_hash=leaf, index=proof.index, size=checkpoint.size, proof=list(proof.hashes), root=checkpoint.root
    )
    times = [signed.time_s for signed in signatures if signed.time_s is not None]
    return ProvenEntry(proof, leaf, checkpoint.size, min(times, default=None))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_INT:
        raise Malformed("city, epoch and index of the proof file must be whole numbers")
    return value


def read_binary(value: Any) -> bytes:
    """Read a binary value of such a file.

    Raises:
        Malformed: It is not canonical base64.
    """
    data = canonical_base64(value) if isinstance(value, str) else None
    if data is None:
        raise Malformed("a binary value of the file is not in canonical base64")
    return data
