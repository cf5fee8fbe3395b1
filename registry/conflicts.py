"""Settling conflicts between two licences of one person: pure rules over what the commit knows.

While a conflict is open the licence that held the person first counts, and the
other has no effect.  A city ends it by withdrawing its own licence; a licence
that is cancelled ends it too; past its deadline, or once both cities contest, an
operator decides.

Where the licence that did not count wins, it takes two entries.  The first makes
the other void.  Its city may be cut off at that moment and vouch for it still, so
the winner counts only with the second entry, written once that city has stored
the word that its own is void and all is held that it wrote until then.  So at no
moment do two licences of a person count.  Until then a bar from applying anew may
be recorded: then the winner is void as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from elicense.errors import (
    CallerNotAllowed,
    ConflictClosed,
    ConflictNotDue,
    ConflictNotFound,
    Error,
    Malformed,
    PersonBanned,
    PersonClaimed,
    Violation,
)
from elicense.license.verdict import ViewFlags
from elicense.log.decision import Decision
from elicense.v1 import replication_pb2
from elicense.view.model import ViewRow
from registry.bans import PersonBan, barred_in_words
from registry.board import Board, Outcome
from registry.conflict_commands import DecideConflict, SettleConflicts, StatePosition
from registry.conflict_model import Conflict, ConflictState, End, Position, Statement
from registry.decision_records import conflict_resolved, conflict_settled, conflict_stated, license_barred
from registry.model import Claim, ClaimState, Pending

_CONFIRMED: Final = replication_pb2.DISPOSITION_KIND_CONFIRMED
_VOID: Final = replication_pb2.DISPOSITION_KIND_VOID
_STANDS: Final = replication_pb2.DISPOSITION_KIND_STANDS


def state_position(board: Board, command: StatePosition, *, actor: str) -> Decision[Outcome]:
    """Return the decision on what a city says; a withdrawal resolves the conflict."""
    try:
        conflict = _conflict(board, command.conflict_id)
        own = _own_side(board, conflict, command)
        said = board.statements.setdefault(conflict.license_id, [])
        latest = next((each for each in reversed(said) if each.license_id == own), None)
        if latest is not None and (latest.position, latest.grounds) == (command.position, command.grounds):
            return Decision(result=Outcome())
        _require_open(board, conflict)
        if command.position is Position.WITHDRAW:
            _require_may_stand(board, conflict, conflict.other(own))
    except Error as error:
        return Decision(error=error)
    outcome = Outcome()
    statement = Statement(
        conflict_id=conflict.license_id,
        seq=len(said) + 1,
        city=command.city,
        license_id=own,
        position=int(command.position),
        grounds=command.grounds,
        clerk=command.clerk,
        stated_us=board.now_us,
    )
    said.append(statement)
    outcome.statements.append(statement)
    record = board.record(command.actor)
    record.conflict_stated.CopyFrom(conflict_stated(statement))
    records = [record.SerializeToString(deterministic=True)]
    if command.position is Position.WITHDRAW:
        records += resolve(board, conflict, outcome, conflict.other(own), own, End.AGREEMENT, command.grounds, actor)
    return Decision(records=tuple(records), result=outcome)


def decide_conflict(board: Board, command: DecideConflict) -> Decision[Outcome]:
    """Return the decision of an operator."""
    try:
        conflict = _conflict(board, command.conflict_id)
        if command.standing not in conflict.licenses:
            advice = "Give the UUID of one of the two licenses."
            raise Malformed(
                "the license is no side of this conflict",
                violations=[Violation("standing_license", "NO_SIDE", advice)],
            )
        if conflict.state != ConflictState.OPEN and conflict.standing_license == command.standing:
            return Decision(result=Outcome())
        _require_open(board, conflict)
        contested = {each.license_id for each in board.statements.get(conflict.license_id, ())}
        if not conflict.overdue(board.now_us) and not contested >= set(conflict.licenses):
            raise ConflictNotDue("the cities have until the deadline to settle it between them, or both to contest")
        _require_may_stand(board, conflict, command.standing)
    except Error as error:
        return Decision(error=error)
    outcome = Outcome()
    loser = conflict.other(command.standing)
    records = resolve(board, conflict, outcome, command.standing, loser, End.DECISION, command.basis, command.actor)
    return Decision(records=tuple(records), result=outcome)


def settle_conflicts(board: Board, command: SettleConflicts, *, actor: str) -> Decision[Outcome]:
    """Return what cancellations and the cities' receipts bring about."""
    outcome = Outcome()
    records: list[bytes] = []
    for conflict_id in command.conflicts:
        conflict = board.conflicts.get(conflict_id)
        if conflict is None:
            continue
        if conflict.state == ConflictState.DECIDED and not conflict.notice_seq:
            records += settle(board, conflict, outcome, actor)
        elif conflict.state == ConflictState.OPEN and not _blocked(board, conflict):
            records += _end_by_cancellation(board, conflict, outcome, actor)
    return Decision(records=tuple(records), result=outcome)


def is_cancelled(board: Board, conflict: Conflict, license_id: bytes) -> bool:
    """Whether one of the licences was cancelled."""
    row = _row(board, conflict, license_id)
    return row is not None and bool(row.flags & ViewFlags.CANCELLED)


# -- what must hold ----------------------------------------------------------------------------------------------------


def _conflict(board: Board, conflict_id: bytes) -> Conflict:
    conflict = board.conflicts.get(conflict_id)
    if conflict is None:
        raise ConflictNotFound("there is no such conflict")
    return conflict


def _own_side(board: Board, conflict: Conflict, command: StatePosition) -> bytes:
    """Return the licence that a city may speak for."""
    cities = {license_id: city_of(board, conflict, license_id) for license_id in conflict.licenses}
    own = [license_id for license_id, city in cities.items() if city == command.city]
    if not own:
        # Whether there is such a conflict is nothing to a city that is no side of it.
        raise ConflictNotFound("there is no such conflict")
    if not command.license_id and len(own) > 1:
        advice = "Say which of your two licenses you speak for."
        raise Malformed("both licenses are yours", violations=[Violation("license", "AMBIGUOUS", advice)])
    if command.license_id and command.license_id not in own:
        raise CallerNotAllowed("a city speaks for its own license alone")
    return command.license_id or own[0]


def city_of(board: Board, conflict: Conflict, license_id: bytes) -> int:
    """Return the city that has a licence now."""
    row = _row(board, conflict, license_id)
    if row is not None:
        return row.city
    return conflict.city if license_id == conflict.license_id else conflict.held_city


def _require_open(board: Board, conflict: Conflict) -> None:
    if conflict.state != ConflictState.OPEN:
        raise ConflictClosed("the conflict is decided already; read it to see how")
    if _blocked(board, conflict):
        raise ConflictNotDue("another conflict of the person waits for a city to take note of its end; try again later")


def _blocked(board: Board, conflict: Conflict) -> bool:
    """Whether another conflict of the person is decided and not settled yet."""
    return any(
        other.state == ConflictState.DECIDED and other.license_id != conflict.license_id
        for other in board.conflicts.values()
        if other.person_key == conflict.person_key
    )


def _require_may_stand(board: Board, conflict: Conflict, standing: bytes) -> None:
    """Refuse to let a licence count that may not."""
    if standing == conflict.held_license:
        return
    ban = board.barred(conflict.person_key, besides=standing)
    if ban is not None:
        raise PersonBanned("the person is barred from applying anew, so this license can not stand")
    claim = board.claims.get(conflict.person_key)
    if claim is not None and claim.state != ClaimState.RELEASED and claim.license_id not in conflict.licenses:
        raise PersonClaimed("the person has got another license meanwhile", heldByCity=claim.city)
    if _row(board, conflict, standing) is None:
        # It would hold the person for ever, and nobody could license them.
        raise ConflictClosed("the license that would stand is erased")
    if is_cancelled(board, conflict, standing):
        raise ConflictClosed("the license that would stand is cancelled")


# -- what follows ------------------------------------------------------------------------------------------------------


def _end_by_cancellation(board: Board, conflict: Conflict, outcome: Outcome, actor: str) -> list[bytes]:
    """End a conflict of which one licence was cancelled; nothing while neither was."""
    held, waiting = conflict.licenses
    if is_cancelled(board, conflict, waiting):
        return resolve(board, conflict, outcome, held, waiting, End.CANCELLATION, "it was cancelled", actor)
    if not is_cancelled(board, conflict, held):
        return []
    try:
        _require_may_stand(board, conflict, waiting)
    except Error as error:
        return resolve(board, conflict, outcome, b"", waiting, End.CANCELLATION, error.message, actor)
    # The city that cancelled it knows that it did: nobody has to take note of anything.
    return resolve(board, conflict, outcome, waiting, b"", End.CANCELLATION, "the other was cancelled", actor)


def resolve(
    board: Board, conflict: Conflict, outcome: Outcome, standing: bytes, void: bytes, end: End, basis: str, actor: str
) -> list[bytes]:
    """Decide a conflict; return the entries."""
    conflict = replace(
        conflict,
        state=int(ConflictState.DECIDED if standing == conflict.license_id else ConflictState.SETTLED),
        standing_license=standing,
        void_license=void,
        ending=int(end),
        basis=basis[:500],
        decided_us=board.now_us,
    )
    loser = _row(board, conflict, void) if void else None
    if loser is not None:
        board.set_flags(outcome, loser, (loser.flags | ViewFlags.VOID) & ~int(ViewFlags.CONFLICT))
        place = board.note(outcome, loser, _VOID, "Void nationwide: the conflict was decided for the other license.")
        if standing == conflict.license_id:
            conflict = replace(conflict, notice_city=loser.city, notice_seq=-1)
            outcome.notices[conflict.license_id] = place
    _put(board, outcome, conflict)
    record = board.record(actor)
    record.conflict_resolved.CopyFrom(conflict_resolved(conflict))
    records = [record.SerializeToString(deterministic=True)]
    if standing == conflict.license_id:
        take_claim(board, outcome, conflict)
        _follow_winner(board, outcome, conflict)
        if not conflict.notice_city:
            records += settle(board, conflict, outcome, actor)
    elif standing and (row := _row(board, conflict, standing)) is not None:
        board.note(outcome, row, _STANDS, "The conflict is over; the license counts as before.")
    return records


def settle(board: Board, conflict: Conflict, outcome: Outcome, actor: str) -> list[bytes]:
    """Let the winner count, unless its person was barred since; return the entries."""
    row = _row(board, conflict, conflict.license_id)
    ban = board.barred(conflict.person_key, besides=conflict.license_id)
    if row is not None and ban is not None and not row.flags & ViewFlags.CANCELLED:
        return _bar(board, conflict, outcome, row, ban, actor)
    if row is not None:
        board.set_flags(outcome, row, row.flags & ~int(ViewFlags.CONFLICT))
        board.note(outcome, row, _CONFIRMED, "The conflict is over; the license counts nationwide.")
    if is_cancelled(board, conflict, conflict.license_id):
        take_claim(board, outcome, conflict)
    _put(board, outcome, replace(conflict, state=int(ConflictState.SETTLED)))
    record = board.record(actor)
    record.conflict_settled.CopyFrom(conflict_settled(conflict))
    return [record.SerializeToString(deterministic=True)]


def _bar(
    board: Board, conflict: Conflict, outcome: Outcome, winner: ViewRow, ban: PersonBan, actor: str
) -> list[bytes]:
    """Make the winner void: its person may not hold a licence; return the entries."""
    board.set_flags(outcome, winner, (winner.flags | ViewFlags.VOID) & ~int(ViewFlags.CONFLICT))
    board.note(outcome, winner, _VOID, barred_in_words(ban))
    take_claim(board, outcome, conflict, released=True)
    _put(board, outcome, replace(conflict, state=int(ConflictState.SETTLED), standing_license=b""))
    record = board.record(actor)
    first = (conflict.city, conflict.epoch, conflict.idx)
    waited = Pending(*first, conflict.entry_hash, conflict.license_id, conflict.person_key)
    record.license_barred.CopyFrom(license_barred(waited, ban))
    return [record.SerializeToString(deterministic=True)]


def take_claim(board: Board, outcome: Outcome, conflict: Conflict, *, released: bool = False) -> None:
    """Give the person to the winner, or free them when it counts no more."""
    released = released or is_cancelled(board, conflict, conflict.license_id)
    before = board.claims.get(conflict.person_key)
    if before is not None and before.state == ClaimState.HELD:
        outcome.over.setdefault(conflict.person_key, before.license_id)
    claim = Claim(
        person_key=conflict.person_key,
        city=city_of(board, conflict, conflict.license_id),
        license_id=conflict.license_id,
        request_id="",
        state=int(ClaimState.RELEASED if released else ClaimState.HELD),
        lease_end_us=0,
        registry_epoch=0,
        registry_index=0,
    )
    board.claims[conflict.person_key] = outcome.taken[conflict.person_key] = claim


def _follow_winner(board: Board, outcome: Outcome, won: Conflict) -> None:
    """Set the person's other open conflicts against the licence that now stands."""
    for other in list(board.conflicts.values()):
        if other.person_key == won.person_key and other.state == ConflictState.OPEN:
            _put(board, outcome, replace(other, held_license=won.license_id, held_city=won.city))


def _put(board: Board, outcome: Outcome, conflict: Conflict) -> None:
    board.conflicts[conflict.license_id] = outcome.conflicts[conflict.license_id] = conflict


def _row(board: Board, conflict: Conflict, license_id: bytes) -> ViewRow | None:
    return board.row(conflict.person_key, license_id)
