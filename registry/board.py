"""What is known while one commit of the registry's log is decided, and what its commands come to: values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

from elicense.clock import china_date, to_timestamp
from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from elicense.view.model import ViewRow
from registry.bans import PersonBan, ended, over, running
from registry.claims import ClaimOutcome
from registry.conflict_model import Conflict, ConflictState, Statement
from registry.handovers import TransferBoard, TransferDecision
from registry.model import City, CityState, Claim, Pending, PublishedHead

if TYPE_CHECKING:
    from registry.quarantine_model import Quarantine
    from registry.told_store import ToldRow

Place = tuple[int, int, int]
"""A word to a city: the city, the epoch of its log, and which of those of one outcome."""


@dataclass(slots=True)
class Outcome:
    """What a command came to, and what it changes.

    Attributes:
        claims: Answers to a :class:`GrantClaims`, in the order asked.
        decided: Licences that a :class:`DecidePending` decided.
        waiting: Licences that still wait.
        taken: Claims to write, by person.
        lapsed: Whose lapsed lease a claim is taken over, by person.
        over: Which licence at its end a claim is taken over from, by person.
        flags: New flags: (person, licence, flags).
        notes: For the cities' feeds: (city, epoch) to (index, kind, licence, detail).
        transfers: Take-overs that were decided.
        conflicts: Conflicts to write, by the licence that names each.
        statements: What cities said in conflicts.
        notices: Which of ``notes`` a conflict waits for: its licence to (city, epoch, place in the list).
        decided_us: When it was decided.
        published: How far logs are public from now on.
        opened: The epoch of a city's log that it opens; None when it was open before.
        quarantine: A quarantine as it stands from now on.
        told: What cities signed, with where it stands in the log.
        erased: Slots that were emptied.
    """

    claims: list[ClaimOutcome] = field(default_factory=list)
    decided: list[Pending] = field(default_factory=list)
    waiting: list[Pending] = field(default_factory=list)
    taken: dict[bytes, Claim] = field(default_factory=dict)
    lapsed: dict[bytes, int] = field(default_factory=dict)
    over: dict[bytes, bytes] = field(default_factory=dict)
    flags: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    notes: dict[tuple[int, int], list[tuple[int, int, bytes, str]]] = field(default_factory=dict)
    transfers: list[TransferDecision] = field(default_factory=list)
    conflicts: dict[bytes, Conflict] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    notices: dict[bytes, Place] = field(default_factory=dict)
    decided_us: int = 0
    published: Sequence[PublishedHead] = ()
    opened: City | None = None
    quarantine: Quarantine | None = None
    told: Sequence[ToldRow] = ()
    erased: list[Erased] = field(default_factory=list)


@dataclass(slots=True)
class Board:
    """What is known while one commit is decided; claims change with each command."""

    key: LogKey
    next_index: int
    now_us: int
    claims: dict[bytes, Claim]
    states: Mapping[int, CityState]
    rows: dict[bytes, list[ViewRow]]
    bans: Mapping[bytes, Sequence[PersonBan]]
    open: set[Pending]
    transfers: TransferBoard
    conflicts: dict[bytes, Conflict]
    statements: dict[bytes, list[Statement]]
    quarantines: dict[int, Quarantine]
    written: Mapping[Pending, int] = field(default_factory=dict)
    """When licences of persons with a bar were issued, by the clocks of their cities."""
    published: bool = False
    acknowledged: bool = False
    today: date = field(init=False)
    """The day in China."""

    def __post_init__(self) -> None:
        # Once: a thousand persons of an import are each judged by it, three times.
        self.today = china_date(self.now_us)

    def ended(self, person_key: bytes) -> frozenset[bytes]:
        """Return the licences of a person that stand in nobody's way any more."""
        return ended(self.bans.get(person_key, ()), self.today, self.states)

    def ending(self, person_key: bytes) -> frozenset[bytes]:
        """Return the licences of a person whose bar is over, whether or not all that was written by then is held."""
        return over(self.bans.get(person_key, ()), self.today)

    def barred(self, person_key: bytes, *, besides: bytes = b"") -> PersonBan | None:
        """Return the bar that keeps a person from applying, other than that of one licence."""
        return running(self.bans.get(person_key, ()), self.today, besides=besides)

    def barred_when_issued(self, pending: Pending) -> PersonBan | None:
        """Return the bar against which a licence was issued: it comes to the same however late its record arrives."""
        written_on = china_date(min(self.written.get(pending, self.now_us), self.now_us))
        return running(self.bans.get(pending.person_key, ()), written_on, besides=pending.license_id)

    def waiting(self, person_key: bytes) -> set[int]:
        """Return the cities of which a licence of the person waits for a decision."""
        return {row.city for row in self.rows.get(person_key, ()) if row.flags & ViewFlags.PROVISIONAL}

    def row(self, person_key: bytes, license_id: bytes) -> ViewRow | None:
        """Return one licence of a person; None when it is not there."""
        return next((row for row in self.rows.get(person_key, ()) if row.license_id == license_id), None)

    def disputed(self, person_key: bytes) -> Conflict | None:
        """Return a conflict about a person that is not over."""
        return next(
            (
                conflict
                for conflict in self.conflicts.values()
                if conflict.person_key == person_key and conflict.state != ConflictState.SETTLED
            ),
            None,
        )

    def is_taken(self, pending: Pending) -> bool:
        """Whether a licence's id names a conflict about another person: ids are each city's own choice."""
        named = self.conflicts.get(pending.license_id)
        return named is not None and named.person_key != pending.person_key

    def set_flags(self, outcome: Outcome, row: ViewRow, flags: int) -> None:
        """Give a licence other flags, also for the commands behind this one."""
        outcome.flags.append((row.person_key, row.license_id, int(flags)))
        held = self.rows[row.person_key]
        held[held.index(row)] = replace(row, flags=int(flags))

    def note(self, outcome: Outcome, row: ViewRow, kind: int, detail: str) -> Place:
        """Tell a licence's city something; return where in ``outcome.notes`` it stands."""
        notes = outcome.notes.setdefault((row.city, row.epoch), [])
        notes.append((row.idx, kind, row.license_id, detail))
        return row.city, row.epoch, len(notes) - 1

    def record(self, actor: str) -> log_pb2.RegistryRecord:
        """Return an entry of this commit that lacks only its decision.

        Args:
            actor: SPIFFE ID of who asked for it.
        """
        return log_pb2.RegistryRecord(epoch=self.key.epoch, record_time=to_timestamp(self.now_us), actor=actor)
