"""Quarantine of a city whose log has two histories, or a head that nobody can compute: pure rules.

A quarantined city's log is not taken in any more, so that its as-of time stands
still: verdicts about its licences grow stale and become INDETERMINATE with what
was last known, by the rule that holds for every silent city.  Nobody else is
affected.

``FORK``: there is evidence.  ``UNEXPLAINED``: the city signed a head to which
what it sent does not lead.  That may be a damaged record, so the city may still
explain it by sending the entries that do lead there; nothing else is taken.

It ends with the word of two operators: one asks, another approves.  A city that
forked then comes back in a new epoch with a new key, from the head that is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from elicense.errors import NotFound, Refused
from elicense.log.decision import Decision
from elicense.v1 import log_pb2
from registry.board import Board, Outcome
from registry.quarantine_model import Kind, Quarantine, State


@dataclass(frozen=True, slots=True)
class OpenQuarantine:
    """Command: put a city into quarantine, or a worse one."""

    city: int
    epoch: int
    kind: Kind
    size: int
    root: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class AskRelease:
    """Command: an operator asks for the end of a quarantine."""

    city: int
    actor: str


@dataclass(frozen=True, slots=True)
class ApproveRelease:
    """Command: a second operator ends it."""

    city: int
    actor: str


@dataclass(frozen=True, slots=True)
class NoteExplained:
    """Command: the city has sent what leads to the head that was unexplained."""

    city: int
    epoch: int
    size: int
    actor: str


QuarantineCommand = OpenQuarantine | AskRelease | ApproveRelease | NoteExplained


def opens(held: Quarantine | None, epoch: int, kind: Kind) -> bool:
    """Whether a city that stands like this comes into quarantine, or a worse one."""
    if held is None or held.epoch != epoch:
        return True
    if held.open and held.kind <= kind:
        return False  # in quarantine already, for as much
    # Nothing of a forked epoch is taken in any more: the same evidence must not undo what two operators decided.
    return held.kind != Kind.FORK


def quarantine(board: Board, command: QuarantineCommand, held: Quarantine | None, *, actor: str) -> Decision[Outcome]:
    """Return what comes of a command, and note in ``board`` how the city stands.

    Args:
        board: What the commit knows.
        command: The command.
        held: The last quarantine of the city, in its newest epoch that had one.
        actor: SPIFFE ID of the registry.
    """
    try:
        records, outcome = _judge(board, command, held, actor)
    except (NotFound, Refused) as error:
        return Decision(error=error)
    if outcome.quarantine is not None:
        board.quarantines[command.city] = outcome.quarantine
    return Decision(tuple(records), outcome)


def _judge(
    board: Board, command: QuarantineCommand, held: Quarantine | None, actor: str
) -> tuple[list[bytes], Outcome]:
    if isinstance(command, OpenQuarantine):
        return _open(board, command, held, actor)
    if isinstance(command, NoteExplained):
        return _explained(board, command, held)
    if held is None or not held.open:
        raise NotFound("the city is not in quarantine", city=command.city)
    if isinstance(command, AskRelease):
        asked = replace(held, state=int(State.RELEASE_ASKED), asked_by=command.actor)
        record = board.record(command.actor)
        record.release_asked.CopyFrom(log_pb2.ReleaseAsked(city=held.city, epoch=held.epoch))
        return [_bytes(record)], Outcome(quarantine=asked)
    if held.state != State.RELEASE_ASKED:
        raise Refused("nobody has asked for the end of this quarantine yet; ask, and have another operator approve")
    if held.asked_by == command.actor:
        raise Refused("another operator than the one who asked must approve")
    return _end(board, held, command.actor)


def _open(board: Board, command: OpenQuarantine, held: Quarantine | None, actor: str) -> tuple[list[bytes], Outcome]:
    if not opens(held, command.epoch, command.kind):
        return [], Outcome()
    opened = Quarantine(
        city=command.city,
        epoch=command.epoch,
        kind=int(command.kind),
        state=int(State.OPEN),
        size=command.size,
        root=command.root,
        digest=command.digest,
        opened_us=board.now_us,
    )
    record = board.record(actor)
    record.city_quarantined.CopyFrom(
        log_pb2.CityQuarantined(
            city=command.city,
            epoch=command.epoch,
            kind=int(command.kind),  # type: ignore[arg-type]  # same numbers
            size=command.size,
            root=command.root,
            evidence_digest=command.digest,
        )
    )
    return [_bytes(record)], Outcome(quarantine=opened)


def _explained(board: Board, command: NoteExplained, held: Quarantine | None) -> tuple[list[bytes], Outcome]:
    open_now = held is not None and held.open and held.kind == Kind.UNEXPLAINED
    if held is None or not open_now or (held.epoch, held.size) != (command.epoch, command.size):
        return [], Outcome()
    return _end(board, held, command.actor)


def _end(board: Board, held: Quarantine, actor: str) -> tuple[list[bytes], Outcome]:
    ended = replace(held, state=int(State.ENDED), ended_by=actor, ended_us=board.now_us)
    record = board.record(actor)
    record.quarantine_ended.CopyFrom(log_pb2.QuarantineEnded(city=held.city, epoch=held.epoch, asked_by=held.asked_by))
    return [_bytes(record)], Outcome(quarantine=ended)


def _bytes(record: log_pb2.RegistryRecord) -> bytes:
    return record.SerializeToString(deterministic=True)
