"""One look: who asked about whom, why, and what came of it.  No name, no document number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

PERSON_KEY_BYTES: Final = 16
"""Size of the keyed tag under which access logs know a person."""

DAY_US: Final = 86_400 * 1_000_000
"""What is old is dropped by day; days are counted in UTC since 1970."""


class AccessEntry(NamedTuple):
    """A look that is about to be answered; a batch is one look.

    One is made for every verification, as a tuple at a fraction of what a dataclass takes, and its values lie as
    its table has them.

    Attributes:
        at_us: When it was asked, microseconds UTC.
        caller: SPIFFE ID of the verifier who asked.
        via: SPIFFE ID of the city node that asked for it; empty when the verifier asked by itself.
        role: Role under which it was asked.
        purpose: Number of the stated purpose.
        case_number: Case number; empty when none was given.
        method: Name of the RPC.
        subjects: Person keys of those who were asked about, 16 bytes each, in request order.
        outcomes: Outcome of each, one byte each (numbers of ``elicense.v1.Outcome``).
        fields: Fields given of each, a mask of four bytes each (:mod:`elicense.license.fields`).
        sealed_until_us: Until when the look stays out of the holder's list; 0 when it was not sealed.
    """

    at_us: int
    caller: str
    via: str
    role: str
    purpose: int
    case_number: str
    method: str
    subjects: bytes
    outcomes: bytes
    fields: bytes
    sealed_until_us: int = 0


@dataclass(frozen=True, slots=True, order=True)
class AccessPosition:
    """Where a look stands in its node's part of the log; days and numbers rise together.

    Attributes:
        day: UTC day since 1970 on which it was recorded; what is old is dropped by day.
        sequence: Number of the look, from 1, without repetition.
    """

    day: int
    sequence: int


START: Final = AccessPosition(0, 0)
"""Before the first look."""


@dataclass(frozen=True, slots=True)
class RecordedAccess:
    """A look as it stands in the access log.

    Attributes:
        node: Name of the process that answered; positions count per node.
        position: Where it stands.
        entry: The look.
    """

    node: str
    position: AccessPosition
    entry: AccessEntry


def split_subjects(subjects: bytes) -> list[bytes]:
    """Return the person keys of a look, in request order."""
    return [subjects[i : i + PERSON_KEY_BYTES] for i in range(0, len(subjects), PERSON_KEY_BYTES)]
