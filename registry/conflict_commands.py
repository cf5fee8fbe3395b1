"""What the registry's log writer is asked to do about conflicts."""

from __future__ import annotations

from dataclasses import dataclass

from registry.conflict_model import Position


@dataclass(frozen=True, slots=True)
class StatePosition:
    """Command: note what a city says in a conflict.

    Attributes:
        conflict_id: The licence that names the conflict.
        city: Who says it.
        license_id: The licence that it speaks for; empty for its only one.
        position: What it says.
        grounds: Why.
        clerk: SPIFFE ID of the clerk.
        actor: SPIFFE ID of the caller.
    """

    conflict_id: bytes
    city: int
    license_id: bytes
    position: Position
    grounds: str
    clerk: str
    actor: str


@dataclass(frozen=True, slots=True)
class DecideConflict:
    """Command: an operator's decision.

    Attributes:
        conflict_id: The licence that names the conflict.
        standing: The licence that stands.
        basis: Law and reason.
        actor: SPIFFE ID of the operator.
    """

    conflict_id: bytes
    standing: bytes
    basis: str
    actor: str


@dataclass(frozen=True, slots=True)
class SettleConflicts:
    """Command: end what nobody has to decide any more.

    Attributes:
        conflicts: The licences that name the conflicts; those that wait for somebody are passed over.
    """

    conflicts: tuple[bytes, ...]
