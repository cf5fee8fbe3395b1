"""C2SP signed notes: text with one signature line per key, and the keys that check them.

A note is its text, an empty line, and lines ``— name base64(key id || signature)``.
Two kinds of Ed25519 signature are known: over the text itself (0x01), and the
cosignature/v1 of a witness or mirror (0x04), which also states a time.

Reading is strict: one text has exactly one form in bytes.  Nothing in a note
is to be believed before :func:`open_note` has returned it.

Sources: c2sp.org/signed-note@v1.0.0, c2sp.org/tlog-cosignature@v1.0.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from elicense.errors import CheckpointInvalid, Malformed, SignatureInvalid
from elicense.log.verifier_key import (
    CONTROLS,
    COSIGNATURE,
    ED25519,
    KEY_ID_SIZE,
    VerifierKey,
    canonical_base64,
    encode_base64,
    format_vkey,
    is_key_name,
    is_unicode,
    parse_vkey,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elicense.trust.signer import Signer

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "MAX_NOTE_SIZE",
    "MAX_SIGNATURES",
    "MAX_TIME_S",
    "Note",
    "NoteSignature",
    "VerifiedNote",
    "VerifiedSignature",
    "VerifierKey",
    "check_text",
    "cosign_note",
    "format_note",
    "format_vkey",
    "open_note",
    "parse_note",
    "parse_vkey",
    "sign_note",
]

MAX_NOTE_SIZE: Final = 16_384
"""Most bytes of a note: a head of a few hundred bytes and the most signatures, with room."""

MAX_SIGNATURES: Final = 64
"""Most signature lines of a note; the specification asks for at least 16."""

MAX_TIME_S: Final = 2**63 - 1
"""Latest time of a cosignature, in seconds since 1970."""

_TIME_SIZE: Final = 8
_LINE_START: Final = "\N{EM DASH} "
# Every control character but the end of a line.
_CONTROL_IN_A_LINE: Final = re.compile(rf"(?!\n)[{CONTROLS}]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not yet checked.

    Attributes:
        name: Name of the key.
        key_id: 4 bytes that tell keys of one name apart.
        signature: What the algorithm put there.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose form is right and whose signatures are not yet checked.

    Attributes:
        text: What is signed; ends in a newline.
        signatures: At least one.

    Raises:
        CheckpointInvalid: The note could not be written in the C2SP form.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        check_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise CheckpointInvalid(f"a note must have 1 to {MAX_SIGNATURES} signatures")
        for line in self.signatures:
            if not is_key_name(line.name) or len(line.key_id) != KEY_ID_SIZE or not line.signature:
                raise CheckpointInvalid("a signature line needs a name, a key id and a signature")


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that was checked.

    Attributes:
        key: Key that it verified with.
        time_s: Time that a cosignature states, in seconds since 1970; None for a plain signature.
    """

    key: VerifierKey
    time_s: int | None


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A text and who is known to have signed it.

    Attributes:
        text: What was signed.
        signatures: At least one, in the order of the note.
    """

    text: str
    signatures: tuple[VerifiedSignature, ...]


def parse_note(data: bytes) -> Note:
    """Read a note without checking its signatures.

    Args:
        data: The note as it was received.

    Raises:
        CheckpointInvalid: The bytes are not a note in the C2SP form.
    """
    if len(data) > MAX_NOTE_SIZE:
        raise CheckpointInvalid(f"a note must be at most {MAX_NOTE_SIZE} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise CheckpointInvalid("a note must be UTF-8") from None
    # The text may hold empty lines; the signatures come after the last one.
    split = whole.rfind("\n\n")
    if split < 0 or not whole.endswith("\n"):
        raise CheckpointInvalid("a note must be text, an empty line and signature lines")
    lines = whole[split + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise CheckpointInvalid(f"a note must have 1 to {MAX_SIGNATURES} signatures")
    return Note(whole[: split + 1], tuple(map(_parse_line, lines)))


def format_note(note: Note) -> bytes:
    """Write a note.

    Raises:
        CheckpointInvalid: The note is too large.
    """
    lines = "".join(f"{_LINE_START}{s.name} {encode_base64(s.key_id + s.signature)}\n" for s in note.signatures)
    data = f"{note.text}\n{lines}".encode()
    if len(data) > MAX_NOTE_SIZE:
        raise CheckpointInvalid(f"a note must be at most {MAX_NOTE_SIZE} bytes")
    return data


def sign_note(text: str, name: str, signer: Signer) -> bytes:
    """Make a note with one plain signature.

    Args:
        text: What to sign; ends in a newline.
        name: Name of the key.
        signer: Holder of an Ed25519 key.

    Raises:
        CheckpointInvalid: The text can not be a note.
        Malformed: The name or the key can not sign notes.
    """
    check_text(text)
    key = VerifierKey(name, ED25519, _public_key(signer))
    return format_note(Note(text, (NoteSignature(name, key.key_id, signer.sign(text.encode())),)))


def cosign_note(data: bytes, *, name: str, signer: Signer, time_s: int) -> bytes:
    """Add a cosignature/v1 to a note; the signatures it has are kept and not checked.

    Args:
        data: The note.
        name: Name of the cosigner's key.
        signer: Holder of the Ed25519 key that this cosigner uses for nothing else.
        time_s: Time to state, in seconds since 1970.

    Raises:
        CheckpointInvalid: The bytes are not a note, or it has no room for a signature.
        Malformed: The name, the key or the time can not cosign.
    """
    if not 0 <= time_s <= MAX_TIME_S:
        raise Malformed("the time of a cosignature is out of range")
    note = parse_note(data)
    key = VerifierKey(name, COSIGNATURE, _public_key(signer))
    blob = time_s.to_bytes(_TIME_SIZE, "big") + signer.sign(_cosigned_message(note.text, time_s))
    return format_note(replace(note, signatures=(*note.signatures, NoteSignature(name, key.key_id, blob))))


def open_note(data: bytes, keys: Iterable[VerifierKey]) -> VerifiedNote:
    """Read a note and check it with the keys that are known.

    Args:
        data: The note as it was received.
        keys: Keys to trust.

    Raises:
        CheckpointInvalid: The bytes are not a note in the C2SP form.
        Error: As :func:`verify_note`.
    """
    return verify_note(parse_note(data), keys)


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> VerifiedNote:
    """Check a note with the keys that are known.

    Lines of unknown keys are ignored and a line that stands twice counts once;
    every other line of a known key must verify, or the whole note is refused.

    Args:
        note: The note.
        keys: Keys to trust.

    Raises:
        SignatureInvalid: No known key signed it, or one of them did not sign this.
        Malformed: Two of the keys can not be told apart by name and key id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise Malformed("two verifier keys have the same name and key id")
    verified = []
    for line in dict.fromkeys(note.signatures):
        signer = known.get((line.name, line.key_id))
        if signer is not None:
            verified.append(VerifiedSignature(signer, _verify(signer, note.text, line.signature)))
    if not verified:
        raise SignatureInvalid("no known key has signed this note")
    return VerifiedNote(note.text, tuple(verified))


def check_text(text: str) -> None:
    """Refuse what can not be the text of a note.

    Raises:
        CheckpointInvalid: It has no final newline, holds a control character, or is not Unicode text.
    """
    if not text.endswith("\n"):
        raise CheckpointInvalid("the text of a note must end in a newline")
    if _CONTROL_IN_A_LINE.search(text) or not is_unicode(text):
        raise CheckpointInvalid("the text of a note must hold no control characters")


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_LINE_START).partition(" ")
    blob = canonical_base64(encoded)
    if not line.startswith(_LINE_START) or blob is None:
        raise CheckpointInvalid("a signature line must read dash, name, base64")
    return NoteSignature(name, blob[:KEY_ID_SIZE], blob[KEY_ID_SIZE:])


def _verify(key: VerifierKey, text: str, blob: bytes) -> int | None:
    """Check one signature and give the time that it states."""
    time_s, signature, message = None, blob, text.encode()
    if key.algorithm == COSIGNATURE:
        time_s, signature = int.from_bytes(blob[:_TIME_SIZE], "big"), blob[_TIME_SIZE:]
        if time_s > MAX_TIME_S:
            raise SignatureInvalid("the time of a cosignature is out of range")
        message = _cosigned_message(text, time_s)
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as cause:
        raise SignatureInvalid("a signature by a known key does not verify") from cause
    return time_s


def _cosigned_message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _public_key(signer: Signer) -> bytes:
    if signer.algorithm != "ed25519":
        raise Malformed("notes are signed with Ed25519 keys")
    return signer.public_key()
