"""Which slots a city may send emptied: those whose content the registry has held.

A registry that was set back is sent the log of a city again, and what the city has erased
since can come by its leaf hash alone.  No city erases what it has no receipt for
(:mod:`city_node.removal`), so the receipt shows it: the registry cosigns what it holds, and it takes
no slot emptied that it has not held in full, by this very rule.  Whatever was in such a
slot has thus been judged once.  A registry that was not set back holds all that it ever
cosigned, and takes no new slot emptied at all.

The receipt must be of this very log (:mod:`registry.held_before`), and every new slot that comes emptied lie below it.
"""

from __future__ import annotations

from elicense.errors import SlotNotHeld
from elicense.log.checkpoint import Checkpoint
from elicense.log.verifier_key import VerifierKey
from registry.batch import Batch
from registry.held_before import held_before
from registry.model import City


def require_held(batch: Batch, signed: Checkpoint, enrolled: City, *, held: int, cosigner: VerifierKey) -> None:
    """Refuse a batch with a new slot that comes emptied and was never held.

    Args:
        batch: The batch.
        signed: Its head, to which its entries lead.
        enrolled: The open epoch of its city.
        held: Entries that the registry holds.
        cosigner: Key of the registry's receipts.

    Raises:
        SlotNotHeld: The receipt does not cover one, or is of another history, or there is none.
        CheckpointInvalid: What is shown as the receipt is none, or of another log or epoch.
        SignatureInvalid: City or registry did not sign it.
    """
    new = batch.entries[held - batch.first_index :]
    # Nearly every batch: one look at each entry, no call.
    if not any(entry.hashed for entry in new):
        return
    empty = [index for index, entry in enumerate(new, held) if entry.erased]
    if not empty:
        return
    covered = held_before(batch, signed, enrolled, cosigner)
    lost = next((index for index in empty if index >= covered), None)
    if lost is not None:
        raise SlotNotHeld(
            f"entry {lost} comes emptied, but no receipt shows that the registry has held it; "
            "send it in full, or with the receipt that covers it",
            index=lost,
        )
