"""Signed heads of a log: C2SP checkpoints and the cosignatures of the registry.

The body of a checkpoint is the log's origin, its size and its root, a line
each.  The log signs it as a note under its origin; the registry adds a
cosignature under its own name, which states when it held all entries durably.
A body has no time of its own, so signing a durable head again gives the same
bytes and is no fork.

Sources: c2sp.org/tlog-checkpoint@v1.0.0, c2sp.org/tlog-cosignature@v1.0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import CheckpointInvalid, SignatureInvalid
from elicense.log.note import MAX_NOTE_SIZE, Note, check_text, cosign_note, parse_note, sign_note, verify_note
from elicense.log.tree import EMPTY_ROOT, HASH_SIZE, MAX_LOG_SIZE
from elicense.log.verifier_key import COSIGNATURE, ED25519, VerifierKey, canonical_base64, encode_base64

if TYPE_CHECKING:
    from elicense.trust.signer import Signer

_BODY_LINES: Final = 3
_MAX_SIZE_DIGITS: Final = len(str(MAX_LOG_SIZE))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log.

    Attributes:
        origin: Name of the log and its epoch.
        size: Number of entries.
        root: Root of the Merkle tree over them, 32 bytes.
        extensions: Further lines, which this project never writes; kept so that the body stays what was signed.

    Raises:
        CheckpointInvalid: The values can not stand in a checkpoint.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_LOG_SIZE:
            raise CheckpointInvalid("the size of a checkpoint is out of range")
        if len(self.root) != HASH_SIZE:
            raise CheckpointInvalid(f"the root of a checkpoint must be {HASH_SIZE} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise CheckpointInvalid("the root of an empty log is wrong")
        if any(not line or "\n" in line for line in (self.origin, *self.extensions)):
            raise CheckpointInvalid("every line of a checkpoint must hold something")
        check_text(self.body())

    def body(self) -> str:
        """The text that is signed."""
        root = encode_base64(self.root)
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions))


@dataclass(frozen=True, slots=True)
class CosignedCheckpoint:
    """A head that its log and the registry both signed.

    Attributes:
        checkpoint: The head.
        time_s: When the cosigner held it, in seconds since 1970 by the cosigner's clock.
    """

    checkpoint: Checkpoint
    time_s: int


def log_verifier_key(origin: str, public_key: bytes) -> VerifierKey:
    """The key that a log signs its heads with.

    Args:
        origin: Origin of the log, which is also the name of the key.
        public_key: Ed25519 public key, 32 bytes.

    Raises:
        Malformed: The origin can not name a key, or the key is not safe to use.
    """
    return VerifierKey(origin, ED25519, public_key)


def cosigner_verifier_key(name: str, public_key: bytes) -> VerifierKey:
    """The key that a cosigner uses, for cosignatures and nothing else.

    Args:
        name: Name of the cosigner.
        public_key: Ed25519 public key, 32 bytes.

    Raises:
        Malformed: The name can not name a key, or the key is not safe to use.
    """
    return VerifierKey(name, COSIGNATURE, public_key)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the body of a checkpoint, which says nothing about who signed it.

    Args:
        text: The text of a note.

    Raises:
        CheckpointInvalid: The text is not a checkpoint in its one canonical form.
    """
    if len(text) > MAX_NOTE_SIZE:
        raise CheckpointInvalid("a checkpoint must not be larger than a note")
    check_text(text)
    lines = text[:-1].split("\n")
    if len(lines) < _BODY_LINES:
        raise CheckpointInvalid("a checkpoint must have an origin, a size and a root")
    origin, size, encoded, *extensions = lines
    # The length goes first: int() of a very long number is slow and refuses with an error of its own.
    if len(size) > _MAX_SIZE_DIGITS or not (size.isascii() and size.isdecimal()) or str(int(size)) != size:
        raise CheckpointInvalid("the size of a checkpoint must be a plain decimal number")
    root = canonical_base64(encoded)
    if root is None:
        raise CheckpointInvalid("the root of a checkpoint must be canonical base64")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """Sign a head as its log; sign only heads that are durable.

    Args:
        checkpoint: The head; its origin names the key.
        signer: Holder of the log's Ed25519 key.

    Returns:
        The signed note, the same bytes every time.

    Raises:
        Malformed: The origin or the key can not sign notes.
    """
    return sign_note(checkpoint.body(), checkpoint.origin, signer)


def open_checkpoint(note: bytes, *, origin: str, key: VerifierKey) -> Checkpoint:
    """Read a signed head and check that this log signed it.

    Args:
        note: The note as it was received.
        origin: Origin that the head must have.
        key: Key of the log.

    Raises:
        CheckpointInvalid: The note is not a checkpoint, or is one of another log.
        SignatureInvalid: The log has not signed it.
    """
    parsed = parse_note(note)
    checkpoint = _checkpoint_of(parsed, origin)
    verify_note(parsed, (key,))
    return checkpoint


def cosign(note: bytes, *, name: str, signer: Signer, time_s: int) -> bytes:
    """Add a cosignature/v1 to a signed head.

    Cosign only a head that was opened and whose entries are all durable; this
    function checks neither.

    Args:
        note: The signed head.
        name: Name of the cosigner.
        signer: Holder of the cosigner's Ed25519 key.
        time_s: The cosigner's clock, in seconds since 1970.

    Returns:
        The note with one more signature line.

    Raises:
        CheckpointInvalid: The note is not a checkpoint, or has no room for a signature.
        Malformed: The name, the key or the time can not cosign.
    """
    parse_checkpoint(parse_note(note).text)
    return cosign_note(note, name=name, signer=signer, time_s=time_s)


def open_cosigned(note: bytes, *, origin: str, log_key: VerifierKey, cosigner_key: VerifierKey) -> CosignedCheckpoint:
    """Read a head and check that both its log and the cosigner signed it.

    Args:
        note: The note as it was received.
        origin: Origin that the head must have.
        log_key: Key of the log.
        cosigner_key: Key of the cosigner.

    Returns:
        The head, with the latest time if the cosigner signed it more than once.

    Raises:
        CheckpointInvalid: The note is not a checkpoint, or is one of another log.
        SignatureInvalid: One of the two has not signed it.
    """
    parsed = parse_note(note)
    checkpoint = _checkpoint_of(parsed, origin)
    signatures = verify_note(parsed, (log_key, cosigner_key)).signatures
    times = [signed.time_s for signed in signatures if signed.key == cosigner_key and signed.time_s is not None]
    if not times or all(signed.key != log_key for signed in signatures):
        raise SignatureInvalid("a cosigned head needs a signature of its log and one of the cosigner")
    return CosignedCheckpoint(checkpoint, max(times))


def _checkpoint_of(note: Note, origin: str) -> Checkpoint:
    """The head in a note; its origin goes first, so that a wrong log is not reported as a bad signature."""
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise CheckpointInvalid("the checkpoint is of another log or epoch")
    return checkpoint
