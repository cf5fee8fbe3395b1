"""What the registry has held of a city's log, by its own receipt.

One that was set back does not know it otherwise. The registry cosigns what it holds and nothing else, so its
signature proves it, whoever shows it.

1. The receipt is of this log and epoch, and both city and registry signed it.
2. Its head and that of the batch are of one history: it is these entries that were held.
"""

from __future__ import annotations

from elicense.errors import Error, RootMismatch, SlotNotHeld
from elicense.log.checkpoint import Checkpoint, open_cosigned
from elicense.log.merkle import verify_consistency
from elicense.log.verifier_key import VerifierKey, parse_vkey
from registry.batch import Batch
from registry.model import City


def held_before(batch: Batch, signed: Checkpoint, enrolled: City, cosigner: VerifierKey) -> int:
    """Return how many of the log's first entries a batch shows that the registry has held once; 0 if it shows nothing.

    Args:
        batch: The batch.
        signed: Its head.
        enrolled: The open epoch of its city.
        cosigner: Key of the registry's receipts.

    Raises:
        SlotNotHeld: The receipt is of another history.
        CheckpointInvalid: What is shown as the receipt is none, or of another log or epoch.
        SignatureInvalid: City or registry did not sign it.
    """
    shown = batch.held_before
    if shown is None:
        return 0
    head = open_cosigned(  # (1)
        shown.receipt, origin=signed.origin, log_key=parse_vkey(enrolled.log_key), cosigner_key=cosigner
    ).checkpoint
    older, newer = sorted((head, signed), key=lambda each: each.size)
    try:
        verify_consistency(  # (2)
            first=older.size, first_root=older.root, second=newer.size, second_root=newer.root, proof=shown.hashes
        )
    except RootMismatch as error:
        # Nothing was taken, so it is no dispute.
        raise SlotNotHeld("the receipt is not shown to be of this very log; send the consistency proof") from error
    return head.size


def brings_back(batch: Batch, signed: Checkpoint | None, enrolled: City, *, held: int, cosigner: VerifierKey) -> bool:
    """Whether a batch brings back what the registry has lost, and nothing that it has never held.

    Args:
        batch: The batch.
        signed: Its head, to which its entries must lead; None for the heartbeat of an empty log.
        enrolled: The open epoch of its city.
        held: Entries that the registry holds.
        cosigner: Key of the registry's receipts.
    """
    if signed is None or signed.size <= held:
        return False
    try:
        return held_before(batch, signed, enrolled, cosigner) >= signed.size
    except Error:
        return False  # what shows nothing is refused as though nothing were shown
