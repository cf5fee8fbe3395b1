"""What a city's signed head must be before anything rests on it."""

from __future__ import annotations

from typing import Final

from elicense import errors
from elicense.log.checkpoint import Checkpoint, open_checkpoint
from elicense.log.note import MAX_SIGNATURES, parse_note
from elicense.log.verifier_key import parse_vkey
from elicense.trust.enrollment import city_log_origin
from registry.batch import Batch
from registry.model import City

#: Most signatures of a city's head: the registry's own must find room beside them.
MAX_CITY_SIGNATURES: Final = MAX_SIGNATURES - 1


def open_head(batch: Batch, enrolled: City, *, trust_domain: str, cosigner_name: str) -> Checkpoint:
    """Return the head that a city signed with its batch.

    Args:
        batch: The batch.
        enrolled: The open epoch of the city.
        trust_domain: Prefix of log origins.
        cosigner_name: Name under which the registry will sign the head too.

    Raises:
        CheckpointInvalid: Its form, origin or size is wrong, or it could not be cosigned.
        SignatureInvalid: The city did not sign it.
    """
    origin = city_log_origin(trust_domain, batch.city, batch.epoch)
    signed = open_checkpoint(batch.checkpoint, origin=origin, key=parse_vkey(enrolled.log_key))
    end = batch.first_index + len(batch.entries)
    if signed.size != end:
        raise errors.CheckpointInvalid(
            f"the checkpoint is for {signed.size} entries, the batch ends at {end}", size=signed.size, end=end
        )
    lines = parse_note(batch.checkpoint).signatures
    # Found before anything is stored: a head that can not be cosigned would have no receipt, ever.
    if len(lines) > MAX_CITY_SIGNATURES or any(line.name == cosigner_name for line in lines):
        raise errors.CheckpointInvalid(
            f"a city's head has at most {MAX_CITY_SIGNATURES} signatures, and none in the registry's name"
        )
    return signed
