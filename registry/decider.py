"""The registry's own decisions, taken in the transaction that writes them to its log.

One commit may carry several commands.  They are judged one after the other over
what earlier ones of the same commit decided, so two cities that ask for one
person together get two different answers.

On PostgreSQL the batches of cities arrive in transactions of their own.  What a
decision rests on is therefore locked before it is read: first the log heads of
the cities concerned, which every batch takes too, then the claims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elicense.clock import from_timestamp
from elicense.errors import Aborted
from elicense.log.decision import Appended, Decision
from elicense.log.model import Head, LogKey
from elicense.view.fold import read_record
from elicense.view.history import LicenseRuling
from registry.acknowledged import KeepTold, acknowledge
from registry.board import Board, Outcome
from registry.claims import DecidePending, GrantClaims, Granted
from registry.conflict_commands import DecideConflict, SettleConflicts, StatePosition
from registry.conflicts import decide_conflict, settle_conflicts, state_position
from registry.epochs import OpenEpoch, open_epoch
from registry.granting import grant
from registry.head_vector import PublishHeads, due_vector, publish
from registry.model import ClaimState, Pending
from registry.quarantine import ApproveRelease, AskRelease, NoteExplained, OpenQuarantine, QuarantineCommand, quarantine
from registry.ruling import rule
from registry.store import RegistryStore
from registry.taken_up import mark_taken_up
from registry.transfer_decider import DecideTransfers, TransferDecider

if TYPE_CHECKING:
    from sqlalchemy import Connection

Command = (
    GrantClaims
    | DecidePending
    | DecideTransfers
    | StatePosition
    | DecideConflict
    | SettleConflicts
    | PublishHeads
    | KeepTold
    | OpenEpoch
    | QuarantineCommand
)


class RegistryDecider:
    """Decides commands for the registry's log.

    Args:
        store: The registry's tables.
        transfers: Judges take-overs.
        actor: SPIFFE ID of the registry, for decisions that nobody asked for.
        lease_us: How long a granted person waits for its licence, microseconds.
        conflict_us: How long cities have to settle a conflict between them, microseconds.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        store: RegistryStore,
        transfers: TransferDecider,
        actor: str,
        lease_us: int,
        conflict_us: int,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._actor = actor
        self._lease_us = lease_us
        self._conflict_us = conflict_us
        self._clock = clock

    def decide(self, conn: Connection, head: Head, commands: Sequence[Command]) -> list[Decision[Outcome]]:
        """Return one decision a command, in order; reads and locks, writes nothing."""
        commands = self._known(conn, commands)
        board = self._board(conn, head, commands)
        decisions, outcomes = [], []
        for command in commands:
            decision = self._decide(conn, board, command)
            board.next_index += len(decision.records)
            decisions.append(decision)
            if decision.result is not None:
                decision.result.decided_us = board.now_us
                outcomes.append(decision.result)
        self._cite(outcomes, self._older_hashes(conn, head, outcomes))
        return decisions

    def _known(self, conn: Connection, commands: Sequence[Command]) -> list[Command]:
        """Return the commands with every person under the tag that they are known by."""
        wanted = [claim for command in commands if isinstance(command, GrantClaims) for claim in command.wanted]
        links = self._store.view.links.of(conn, {claim.person_key for claim in wanted})
        if not links:
            return list(commands)
        return [
            replace(
                command,
                wanted=tuple(
                    claim._replace(person_key=links.get(claim.person_key, claim.person_key)) for claim in command.wanted
                ),
            )
            if isinstance(command, GrantClaims)
            else command
            for command in commands
        ]

    def _decide(self, conn: Connection, board: Board, command: Command) -> Decision[Outcome]:
        match command:
            case GrantClaims():
                return grant(board, command, lease_us=self._lease_us)
            case DecidePending():
                records, outcome = rule(board, command, actor=self._actor, term_us=self._conflict_us)
            case StatePosition():
                return state_position(board, command, actor=self._actor)
            case DecideConflict():
                return decide_conflict(board, command)
            case DecideTransfers():
                records, outcome = self._transfers.rule(board, command, actor=self._actor)
            case PublishHeads() | KeepTold():
                records, outcome = self._unasked(conn, board, command)
            case OpenEpoch():
                return open_epoch(conn, self._store, board, command)
            case SettleConflicts():
                return settle_conflicts(board, command, actor=self._actor)
            case OpenQuarantine() | AskRelease() | ApproveRelease() | NoteExplained():
                return quarantine(board, command, board.quarantines.get(command.city), actor=self._actor)
        return Decision(records=tuple(records), result=outcome)

    def _unasked(self, conn: Connection, board: Board, command: PublishHeads | KeepTold) -> tuple[list[bytes], Outcome]:
        """Return what is due of what nobody waits for."""
        if isinstance(command, KeepTold):
            return acknowledge(conn, self._store, board, actor=self._actor)
        vector = due_vector(conn, self._store, key=board.key, next_index=board.next_index, now_us=board.now_us)
        return publish(board, vector, actor=self._actor)

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[Outcome]]) -> None:
        """Write what the decisions change, in the transaction that appended their entries.

        Raises:
            Aborted: A claim was taken by somebody else after all; nothing is written.
        """
        outcomes = [decision.result for decision in decisions if decision.result is not None]
        for opened in (outcome.opened for outcome in outcomes if outcome.opened is not None):
            self._store.add_city(conn, opened)
            self._store.logs.create(conn, LogKey(opened.city, opened.epoch))
        self._note_rulings(conn, outcomes)
        taken = {key: claim for outcome in outcomes for key, claim in outcome.taken.items()}
        lapsed = {key: city for outcome in outcomes for key, city in outcome.lapsed.items()}
        over = {key: license_id for outcome in outcomes for key, license_id in outcome.over.items()}
        held = self._store.claims.acquire(conn, list(taken.values()), lapsed=lapsed, over=over)
        if held != taken:
            raise Aborted("a person was claimed meanwhile; ask again")
        for outcome in outcomes:
            self._store.view.set_flags(conn, outcome.flags)
            first = {
                place: self._store.feeds.add(conn, *place, notes) for place, notes in sorted(outcome.notes.items())
            }
            for conflict_id, (city, epoch, position) in outcome.notices.items():
                conflict = outcome.conflicts[conflict_id]
                outcome.conflicts[conflict_id] = replace(conflict, notice_seq=first[city, epoch] + position)
            self._store.conflicts.put(conn, list(outcome.conflicts.values()))
            self._store.conflicts.add_statements(conn, outcome.statements)
            self._store.end_pending(conn, outcome.decided)
            self._store.put_published(conn, outcome.published)
            self._store.told.put_logged(conn, outcome.told)
            outcome.erased = self._transfers.apply(conn, outcome.transfers)
            if outcome.quarantine is not None:
                self._store.quarantines.put(conn, outcome.quarantine)
        moved = [each.arrival.license_id for outcome in outcomes for each in outcome.transfers]
        # Behind everything else, which sets flags as they stood before.
        mark_taken_up(conn, self._store, moved)
        # Claims that were taken without a grant name no entry, epoch 0.
        epoch = max((claim.registry_epoch for claim in taken.values()), default=0)
        self._cite(outcomes, {(epoch, entry.index): entry.leaf_hash for entry in appended})

    def _note_rulings(self, conn: Connection, outcomes: Sequence[Outcome]) -> None:
        """Keep from when on each decision counts, for questions about the past; before the flags change."""
        changed = [(outcome.decided_us, *flags) for outcome in outcomes for flags in outcome.flags]
        if not changed:
            return
        rows = self._store.view.by_person(conn, {person_key for _, person_key, _, _ in changed})
        before = {(row.person_key, row.license_id): row.flags for held in rows.values() for row in held}
        self._store.rulings.add(
            conn,
            [
                LicenseRuling(license_id, person_key, decided_us, before.get((person_key, license_id), 0), after)
                for decided_us, person_key, license_id, after in changed
            ],
        )

    def _board(self, conn: Connection, head: Head, commands: Sequence[Command]) -> Board:
        now_us = max(self._clock(), head.recorded_us)
        wanted = [claim for command in commands if isinstance(command, GrantClaims) for claim in command.wanted]
        asked = [waiting for command in commands if isinstance(command, DecidePending) for waiting in command.pending]
        arrivals = [each for command in commands if isinstance(command, DecideTransfers) for each in command.arrivals]
        named = self._store.conflicts.by_id(conn, sorted(conflicts_of(commands)))
        disputed = {conflict.person_key for conflict in named}
        persons = {claim.person_key for claim in wanted} | {waiting.person_key for waiting in asked} | disputed
        persons |= {arrival.person_key for arrival in arrivals}
        claims = self._store.claims.of(conn, persons)
        lapsed = {c for c in claims.values() if c.state == ClaimState.LEASED and c.lease_end_us < now_us}
        bans = self._store.bans.of(conn, persons)
        bars = {ban.city for held in bans.values() for ban in held}
        locked = {waiting.city for waiting in asked} | {c.city for c in lapsed} | bars
        locked |= self._transfers.cities(conn, arrivals)
        read = {waiting.person_key for waiting in asked} | {c.person_key for c in lapsed} | disputed
        locked |= {row.city for rows in self._store.view.by_person(conn, disputed).values() for row in rows}
        for code in sorted(locked):
            city = self._store.city(conn, code)
            if city is not None:
                self._store.logs.head(conn, LogKey(code, city.epoch), lock=True)
        if not self._store.has_one_writer(conn):
            claims = self._store.claims.of(conn, persons, lock=True)
            if self._store.view.links.of(conn, {claim.person_key for claim in wanted}):
                # A batch linked a person to another tag while this waited for its claim.
                raise Aborted("a person was claimed meanwhile; ask again")
            bans = self._store.bans.of(conn, persons)
        alike = self._store.conflicts.by_id(conn, [waiting.license_id for waiting in asked])
        conflicts = {c.license_id: c for c in (*alike, *self._store.conflicts.of_persons(conn, persons))}
        return Board(
            key=head.key,
            next_index=head.size,
            now_us=now_us,
            claims=claims,
            # Only what is locked can prove that a lease is unused.
            states={s.city: s for s in self._store.states(conn) if s.city in locked} if locked else {},
            rows=self._store.view.by_person(conn, read) if read else {},
            bans=bans,
            written=self._written(conn, [waiting for waiting in asked if waiting.person_key in bans]),
            open=set(self._store.still_pending(conn, asked)),
            transfers=self._transfers.board(conn, arrivals, now_us=now_us),
            conflicts=conflicts,
            statements=self._store.conflicts.statements(conn, list(conflicts)) if disputed else {},
            # The newest epoch of each; a quarantine is rare, and so the table small.
            quarantines={each.city: each for each in self._store.quarantines.all(conn)},
        )

    def _written(self, conn: Connection, asked: Sequence[Pending]) -> dict[Pending, int]:
        """Return when waiting licences were issued; one whose record is there no more is absent."""
        places = {(LogKey(waiting.city, waiting.epoch), waiting.idx): waiting for waiting in asked}
        entries = self._store.logs.entries_anywhere(conn, places) if places else {}
        return {
            places[place]: from_timestamp(read_record(entry.record).record_time)
            for place, entry in entries.items()
            if entry.record is not None
        }

    def _older_hashes(self, conn: Connection, head: Head, outcomes: Sequence[Outcome]) -> dict[tuple[int, int], bytes]:
        """Return the hashes of entries of earlier commits that are cited, by epoch and index."""
        older: dict[int, set[int]] = {}
        for outcome in outcomes:
            for claim in outcome.claims:
                if isinstance(claim, Granted) and (claim.epoch, claim.idx) < (head.key.epoch, head.size):
                    older.setdefault(claim.epoch, set()).add(claim.idx)
        return {
            (epoch, index): entry.leaf_hash
            for epoch, indices in older.items()
            for index, entry in self._store.logs.entries_at(conn, LogKey(0, epoch), indices).items()
        }

    def _cite(self, outcomes: Sequence[Outcome], hashes: Mapping[tuple[int, int], bytes]) -> None:
        """Complete grants with the hash of their entry; that of a new one exists only once it is appended."""
        if not hashes:
            return
        for outcome in outcomes:
            outcome.claims = [
                Granted(claim.license_id, claim.epoch, claim.idx, entry_hash, claim.lease_end_us)
                if isinstance(claim, Granted) and (entry_hash := hashes.get((claim.epoch, claim.idx)))
                else claim
                for claim in outcome.claims
            ]


def conflicts_of(commands: Sequence[Command]) -> set[bytes]:
    """Return the conflicts that commands are about."""
    found: set[bytes] = set()
    for command in commands:
        if isinstance(command, SettleConflicts):
            found.update(command.conflicts)
        elif isinstance(command, StatePosition | DecideConflict):
            found.add(command.conflict_id)
    return found
