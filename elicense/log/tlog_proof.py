"""C2SP tlog-proof: that an entry stands in a log, as a text file without the entry itself.

::

    c2sp.org/tlog-proof@v1
    index <decimal>
    <base64 hash>, from the leaf to the root
    <empty line>
    <signed checkpoint>

Source: c2sp.org/tlog-proof.  The optional line ``extra`` is read and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.merkle import verify_inclusion
from elicense.log.note import MAX_NOTE_SIZE, open_note
from elicense.log.tree import HASH_SIZE, MAX_LOG_SIZE
from elicense.log.verifier_key import canonical_base64, encode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.log.verifier_key import VerifierKey

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PATH: Final = 63
MAX_FILE_SIZE: Final = MAX_NOTE_SIZE + 8_192
_MAX_DIGITS: Final = len(str(MAX_LOG_SIZE))


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof and the head that it leads to.

    Attributes:
        index: Index of the entry.
        hashes: Path from the leaf to the root.
        checkpoint: Signed note.
        extra: Whatever the maker added; not signed.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


def format_tlog_proof(proof: TlogProof) -> bytes:
    """Return a proof as a file."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {encode_base64(proof.extra)}")
    lines += [f"index {proof.index}", *map(encode_base64, proof.hashes), "", ""]
    return "\n".join(lines).encode() + proof.checkpoint


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Read a proof; nothing of it is checked yet but its form.

    Raises:
        Malformed: It is not in the one canonical form.
    """
    if len(data) > MAX_FILE_SIZE:
        raise Malformed("the proof is too large")
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("the proof is not text") from None
    if not separator or lines.pop(0) != HEADER:
        raise Malformed(f"the proof must begin with {HEADER} and hold a checkpoint")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = canonical_base64(lines.pop(0).removeprefix("extra "))
        if extra is None:
            raise Malformed("the line extra of the proof is not canonical base64")
    number = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if not number.isdecimal() or len(number) > _MAX_DIGITS or str(int(number)) != number:
        raise Malformed("the index of the proof must be a plain decimal number")
    if len(lines) > MAX_PATH:
        raise Malformed("the path of the proof is too long")
    hashes = [canonical_base64(line) for line in lines]
    if any(value is None or len(value) != HASH_SIZE for value in hashes):
        raise Malformed("a hash of the proof is not 32 bytes in canonical base64")
    return TlogProof(int(number), tuple(value for value in hashes if value is not None), checkpoint, extra)


def check_tlog_proof(proof: TlogProof, leaf_hash: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Check that an entry stands in a log whose head one of the keys signed, and return that head.

    Args:
        proof: The proof.
        leaf_hash: Leaf hash of the entry, 32 bytes.
        keys: Keys that are trusted; that of the log has its origin as name.

    Raises:
        CheckpointInvalid: The head is not one.
        SignatureInvalid: The log did not sign it, or one of the keys did not sign this.
        RootMismatch: The proof does not lead from the entry to the head.
    """
    opened = open_note(proof.checkpoint, keys)
    head = parse_checkpoint(opened.text)
    verify_inclusion(leaf_hash=leaf_hash, index=proof.index, size=head.size, proof=proof.hashes, root=head.root)
    return head
