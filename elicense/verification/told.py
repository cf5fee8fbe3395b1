"""A city's signed word that it knows that a licence is another city's: pure.

A C2SP note by the key of the city's log, whose text has four lines::

    elicense/told/1
    <origin of the city's log>
    <size of that log when the registry's word had been stored>
    <epoch> <index> of the last record of the city that counts

No checkpoint begins with such a line, and no such note is a checkpoint: what the
one says can not be passed off as the other.  Whatever stands in that log from
that size on was written by a city that knew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import CheckpointInvalid
from elicense.log.note import open_note, parse_note, sign_note

if TYPE_CHECKING:
    from elicense.log.verifier_key import VerifierKey
    from elicense.trust.signer import Signer

MAX_TOLD_SIZE: Final = 1_024
"""Most bytes of such a note: an origin, three numbers and a signature, with room."""

_FIRST_LINE: Final = "elicense/told/1"
_NUMBER: Final = r"(0|[1-9][0-9]{0,18})"
_TEXT: Final = re.compile(rf"{_FIRST_LINE}\n([^\n]+)\n{_NUMBER}\n{_NUMBER} {_NUMBER}\n")


@dataclass(frozen=True, slots=True)
class Told:
    """What a city says that it knows.

    Attributes:
        origin: Origin of the log of the city, in the epoch in which it says so.
        size: Entries that the log had when the registry's word had been stored.
        epoch: Epoch of the last record of the licence that counts.
        index: Its index.
    """

    origin: str
    size: int
    epoch: int
    index: int

    def text(self) -> str:
        """Return what is signed."""
        return f"{_FIRST_LINE}\n{self.origin}\n{self.size}\n{self.epoch} {self.index}\n"

    @property
    def words(self) -> str:
        """What it says, for people."""
        return (
            f"{self.origin}, of {self.size:,} entries then, knows that a license is another city's, "
            f"of which its last record that counts is entry {self.index} of its epoch {self.epoch}"
        )


def is_told(note: bytes) -> bool:
    """Return whether bytes claim to be such a note."""
    return note.startswith(f"{_FIRST_LINE}\n".encode())


def sign_told(told: Told, signer: Signer) -> bytes:
    """Sign as the city; sign only what is stored.

    Raises:
        Malformed: The origin or the key can not sign notes.
    """
    return sign_note(told.text(), told.origin, signer)


def parse_told(note: bytes) -> Told:
    """Read such a note, which says nothing about who signed it.

    Raises:
        CheckpointInvalid: It is something else.
    """
    found = _TEXT.fullmatch(parse_note(note).text) if len(note) <= MAX_TOLD_SIZE else None
    if found is None:
        raise CheckpointInvalid("the note does not say that a city knows where a license is")
    return Told(found[1], int(found[2]), int(found[3]), int(found[4]))


def open_told(note: bytes, *, key: VerifierKey) -> Told:
    """Read such a note and check that the log whose key it is signed it.

    Raises:
        CheckpointInvalid: It is something else, or of another log.
        SignatureInvalid: The log has not signed it.
    """
    told = parse_told(note)
    if told.origin != key.name:
        raise CheckpointInvalid("the note is of another log or epoch")
    open_note(note, (key,))
    return told
