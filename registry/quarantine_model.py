"""Values of the quarantine of cities whose logs are not taken in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from elicense.errors import Quarantined
from elicense.sql.row import Row


class Kind(IntEnum):
    """Why a city is in quarantine; the numbers are those of ``elicense.v1.QuarantineKind``."""

    FORK = 1
    UNEXPLAINED = 2


class State(IntEnum):
    """How far its end is; the numbers are those of ``elicense.v1.QuarantineState``."""

    OPEN = 1
    RELEASE_ASKED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class Quarantine(Row):
    """The last quarantine of one epoch of a city.

    Attributes:
        city: Division code.
        epoch: Epoch of its log.
        kind: :class:`Kind`.
        state: :class:`State`.
        size: Size of the head that the city signed.
        root: Its root.
        digest: SHA-256 of what is kept as evidence.
        opened_us: Since when.
        asked_by: SPIFFE ID of the operator who asked for its end; empty before.
        ended_by: SPIFFE ID of the operator who approved it, or of the city that explained its head.
        ended_us: When; 0 before.
    """

    city: int
    epoch: int
    kind: int
    state: int
    size: int
    root: bytes
    digest: bytes
    opened_us: int
    asked_by: str = ""
    ended_by: str = ""
    ended_us: int = 0

    @property
    def open(self) -> bool:
        """Whether the city is in quarantine now."""
        return self.state != State.ENDED


def refusal(held: Quarantine) -> Quarantined:
    """Return what a city hears whose log is not taken in because of a quarantine."""
    if not held.open:
        return Quarantined(
            "the city may come back, in a new epoch with a new key", kind=Kind.FORK.name, released="true"
        )
    return Quarantined(
        "the log of this city is not taken in, because of a head that it signed; see the registry's operators",
        kind=Kind(held.kind).name,
        size=held.size,
    )
