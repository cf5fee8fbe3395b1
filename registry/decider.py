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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from elicense.clock import to_timestamp
from elicense.errors import Aborted
from elicense.license.verdict import ViewFlags
from elicense.log.decision import Appended, Decision
from elicense.log.model import Head, LogKey
from elicense.v1 import log_pb2, replication_pb2
from elicense.view.history import LicenseRuling
from elicense.view.model import ViewRow
from registry.claims import (
    CLAIMS_PER_ENTRY,
    ClaimOutcome,
    DecidePending,
    GrantClaims,
    Granted,
    HeldBy,
    Ruling,
    Standing,
    WantedClaim,
    ruling_on,
    standing_of,
)
from registry.decision_records import claims_granted, conflict_opened, provisional_confirmed
from registry.model import CityState, Claim, ClaimState, Pending
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

Command = GrantClaims | DecidePending

_CONFIRMED: Final = "The license counts nationwide."
_CONFLICT: Final = "Another license of the person counts nationwide; the cities must settle it."


@dataclass(slots=True)
class Outcome:
    """What a command came to, and what it changes.

    Attributes:
        claims: Answers to a :class:`GrantClaims`, in the order asked.
        decided: Licences that a :class:`DecidePending` decided.
        waiting: Licences that still wait.
        taken: Claims to write, by person.
        lapsed: Whose lapsed lease a claim is taken over, by person.
        flags: New flags: (person, licence, flags).
        notes: For the cities' feeds: (city, epoch) to (index, kind, licence, detail).
        decided_us: When it was decided.
    """

    claims: list[ClaimOutcome] = field(default_factory=list)
    decided: list[Pending] = field(default_factory=list)
    waiting: list[Pending] = field(default_factory=list)
    taken: dict[bytes, Claim] = field(default_factory=dict)
    lapsed: dict[bytes, int] = field(default_factory=dict)
    flags: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    notes: dict[tuple[int, int], list[tuple[int, int, bytes, str]]] = field(default_factory=dict)
    decided_us: int = 0


@dataclass(slots=True)
class _Board:
    """What is known while one commit is decided; claims change with each command."""

    key: LogKey
    next_index: int
    now_us: int
    claims: dict[bytes, Claim]
    states: Mapping[int, CityState]
    rows: Mapping[bytes, Sequence[ViewRow]]
    open: set[Pending]

    def waiting(self, person_key: bytes) -> set[int]:
        """Return the cities of which a licence of the person waits for a decision."""
        return {row.city for row in self.rows.get(person_key, ()) if row.flags & ViewFlags.PROVISIONAL}


class RegistryDecider:
    """Decides commands for the registry's log.

    Args:
        store: The registry's tables.
        actor: SPIFFE ID of the registry, for decisions that nobody asked for.
        lease_us: How long a granted person waits for its licence, microseconds.
        clock: UTC microseconds.
    """

    def __init__(self, *, store: RegistryStore, actor: str, lease_us: int, clock: Callable[[], int]) -> None:
        self._store = store
        self._actor = actor
        self._lease_us = lease_us
        self._clock = clock

    def decide(self, conn: Connection, head: Head, commands: Sequence[Command]) -> list[Decision[Outcome]]:
        """Return one decision a command, in order; reads and locks, writes nothing."""
        board = self._board(conn, head, commands)
        decisions, outcomes = [], []
        for command in commands:
            if isinstance(command, GrantClaims):
                records, outcome = self._grant(board, command)
            else:
                records, outcome = self._rule(board, command)
            outcome.decided_us = board.now_us
            board.next_index += len(records)
            decisions.append(Decision(records=tuple(records), result=outcome))
            outcomes.append(outcome)
        self._cite(outcomes, self._older_hashes(conn, head, outcomes))
        return decisions

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[Outcome]]) -> None:
        """Write what the decisions change, in the transaction that appended their entries.

        Raises:
            Aborted: A claim was taken by somebody else after all; nothing is written.
        """
        outcomes = [decision.result for decision in decisions if decision.result is not None]
        self._note_rulings(conn, outcomes)
        taken = {key: claim for outcome in outcomes for key, claim in outcome.taken.items()}
        lapsed = {key: city for outcome in outcomes for key, city in outcome.lapsed.items()}
        held = self._store.acquire_claims(conn, list(taken.values()), lapsed=lapsed)
        if held != taken:
            raise Aborted("a person was claimed meanwhile; ask again")
        for outcome in outcomes:
            self._store.view.set_flags(conn, outcome.flags)
            for (city, epoch), notes in sorted(outcome.notes.items()):
                self._store.add_dispositions(conn, city, epoch, notes)
            self._store.end_pending(conn, outcome.decided)
        epoch = next((claim.registry_epoch for claim in taken.values()), 0)
        self._cite(outcomes, {(epoch, entry.index): entry.leaf_hash for entry in appended})

    def _note_rulings(self, conn: Connection, outcomes: Sequence[Outcome]) -> None:
        """Keep from when on each decision counts, for questions about the past; before the flags change."""
        changed = [(outcome.decided_us, *flags) for outcome in outcomes for flags in outcome.flags]
        if not changed:
            return
        rows = self._store.view.by_person(conn, {person_key for _, person_key, _, _ in changed})
        before = {row.license_id: row.flags for held in rows.values() for row in held}
        self._store.rulings.add(
            conn,
            [
                LicenseRuling(license_id, decided_us, before.get(license_id, 0), after)
                for decided_us, _, license_id, after in changed
            ],
        )

    def _board(self, conn: Connection, head: Head, commands: Sequence[Command]) -> _Board:
        now_us = max(self._clock(), head.recorded_us)
        wanted = [claim for command in commands if isinstance(command, GrantClaims) for claim in command.wanted]
        asked = [waiting for command in commands if isinstance(command, DecidePending) for waiting in command.pending]
        persons = {claim.person_key for claim in wanted} | {waiting.person_key for waiting in asked}
        claims = self._store.claims(conn, persons)
        lapsed = {c for c in claims.values() if c.state == ClaimState.LEASED and c.lease_end_us < now_us}
        locked = {waiting.city for waiting in asked} | {c.city for c in lapsed}
        read = {waiting.person_key for waiting in asked} | {c.person_key for c in lapsed}
        for code in sorted(locked):
            city = self._store.city(conn, code)
            if city is not None:
                self._store.logs.head(conn, LogKey(code, city.epoch), lock=True)
        return _Board(
            key=head.key,
            next_index=head.size,
            now_us=now_us,
            claims=self._store.claims(conn, persons, lock=True),
            # Only what is locked can prove that a lease is unused.
            states={s.city: s for s in self._store.states(conn) if s.city in locked} if locked else {},
            rows=self._store.view.by_person(conn, read) if read else {},
            open=set(self._store.still_pending(conn, asked)),
        )

    def _grant(self, board: _Board, command: GrantClaims) -> tuple[list[bytes], Outcome]:
        outcome = Outcome()
        fresh: list[Claim] = []
        lease_end_us = board.now_us + self._lease_us
        for wanted in command.wanted:
            claim = board.claims.get(wanted.person_key)
            standing = standing_of(
                claim,
                city=command.city,
                now_us=board.now_us,
                lease_us=self._lease_us,
                states=board.states,
                waiting=board.waiting(wanted.person_key),
            )
            if claim is not None and standing is Standing.HELD:
                outcome.claims.append(HeldBy(claim.city))
                continue
            if claim is None or standing is not Standing.LIVE:
                if claim is not None and standing is Standing.LAPSED:
                    outcome.lapsed[wanted.person_key] = claim.city
                index = board.next_index + len(fresh) // CLAIMS_PER_ENTRY
                # A city that asks again must use the licence of its first lease:
                # a record that cites it may be on its way.
                license_id = claim.license_id if claim and standing is Standing.RENEW else wanted.license_id
                claim = _lease(wanted, command.city, license_id, lease_end_us, board.key.epoch, index)
                board.claims[wanted.person_key] = outcome.taken[wanted.person_key] = claim
                fresh.append(claim)
            outcome.claims.append(
                Granted(claim.license_id, claim.registry_epoch, claim.registry_index, b"", claim.lease_end_us)
            )
        records = []
        for start in range(0, len(fresh), CLAIMS_PER_ENTRY):
            record = self._record(board, command.actor)
            record.claims_granted.CopyFrom(claims_granted(command.city, fresh[start : start + CLAIMS_PER_ENTRY]))
            records.append(record.SerializeToString(deterministic=True))
        return records, outcome

    def _rule(self, board: _Board, command: DecidePending) -> tuple[list[bytes], Outcome]:
        outcome = Outcome()
        records = []
        for pending in command.pending:
            if pending not in board.open:
                continue
            claim = board.claims.get(pending.person_key)
            ruling = ruling_on(
                pending, claim, now_us=board.now_us, states=board.states, waiting=board.waiting(pending.person_key)
            )
            if ruling is Ruling.WAITS:
                outcome.waiting.append(pending)
                continue
            board.open.discard(pending)
            outcome.decided.append(pending)
            record = self._record(board, self._actor)
            notes = outcome.notes.setdefault((pending.city, pending.epoch), [])
            if ruling is Ruling.CONFIRMED:
                if claim is not None and claim.city != pending.city:
                    outcome.lapsed[pending.person_key] = claim.city
                held = _hold(pending, claim, cancelled=_is_cancelled(board.rows.get(pending.person_key, ()), pending))
                board.claims[pending.person_key] = outcome.taken[pending.person_key] = held
                record.provisional_confirmed.CopyFrom(provisional_confirmed(pending))
                notes.append((pending.idx, replication_pb2.DISPOSITION_KIND_CONFIRMED, pending.license_id, _CONFIRMED))
            else:
                record.conflict_opened.CopyFrom(conflict_opened(pending, claim.city if claim else 0))
                notes.append((pending.idx, replication_pb2.DISPOSITION_KIND_CONFLICT, pending.license_id, _CONFLICT))
            outcome.flags += _new_flags(board.rows.get(pending.person_key, ()), pending, ruling)
            records.append(record.SerializeToString(deterministic=True))
        return records, outcome

    def _record(self, board: _Board, actor: str) -> log_pb2.RegistryRecord:
        return log_pb2.RegistryRecord(epoch=board.key.epoch, record_time=to_timestamp(board.now_us), actor=actor)

    def _older_hashes(self, conn: Connection, head: Head, outcomes: Sequence[Outcome]) -> dict[tuple[int, int], bytes]:
        """Return the hashes of entries of earlier commits that are cited, by epoch and index."""
        older: dict[int, set[int]] = {}
        for outcome in outcomes:
            for claim in outcome.claims:
                if isinstance(claim, Granted) and (claim.epoch, claim.index) < (head.key.epoch, head.size):
                    older.setdefault(claim.epoch, set()).add(claim.index)
        return {
            (epoch, index): entry.leaf_hash
            for epoch, indices in older.items()
            for index, entry in self._store.logs.entries_at(conn, LogKey(0, epoch), indices).items()
        }

    def _cite(self, outcomes: Sequence[Outcome], hashes: Mapping[tuple[int, int], bytes]) -> None:
        """Complete grants with the hash of their entry; that of a new one exists only once it is appended."""
        for outcome in outcomes:
            outcome.claims = [
                replace(claim, entry_hash=hashes.get((claim.epoch, claim.index), claim.entry_hash))
                if isinstance(claim, Granted)
                else claim
                for claim in outcome.claims
            ]


def _lease(wanted: WantedClaim, city: int, license_id: bytes, lease_end_us: int, epoch: int, index: int) -> Claim:
    return Claim(
        person_key=wanted.person_key,
        city=city,
        license_id=license_id,
        request_id=wanted.request_id,
        state=int(ClaimState.LEASED),
        lease_end_us=lease_end_us,
        registry_epoch=epoch,
        registry_index=index,
    )


def _is_cancelled(rows: Sequence[ViewRow], pending: Pending) -> bool:
    """Whether a waiting licence was cancelled while it waited."""
    return any(row.license_id == pending.license_id and row.flags & ViewFlags.CANCELLED for row in rows)


def _hold(pending: Pending, claim: Claim | None, *, cancelled: bool) -> Claim:
    """Return the claim of a confirmed licence; it keeps the grant that the city had, if any."""
    own = claim if claim is not None and claim.city == pending.city else None
    return Claim(
        person_key=pending.person_key,
        city=pending.city,
        license_id=pending.license_id,
        request_id=own.request_id if own else "",
        state=int(ClaimState.RELEASED if cancelled else ClaimState.HELD),
        lease_end_us=own.lease_end_us if own else 0,
        registry_epoch=own.registry_epoch if own else 0,
        registry_index=own.registry_index if own else 0,
    )


def _new_flags(rows: Sequence[ViewRow], pending: Pending, ruling: Ruling) -> list[tuple[bytes, bytes, int]]:
    added = ViewFlags(0) if ruling is Ruling.CONFIRMED else ViewFlags.CONFLICT
    return [
        (row.person_key, row.license_id, int(ViewFlags(row.flags) & ~ViewFlags.PROVISIONAL | added))
        for row in rows
        if row.license_id == pending.license_id
    ]
