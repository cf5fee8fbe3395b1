"""Reading licences as they were: revision index, rulings and the records by position, in one transaction.

Every call runs the same queries, whether a licence is there or not, so that the
time it takes does not tell an unknown number from a name that does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from elicense.errors import StoreCorrupt
from elicense.license.standing import decode_standing, standing_of
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.v1 import license_pb2
from elicense.verification.answer import Question, matches
from elicense.verification.moment import Moment
from elicense.verification.past import PastLicense, speaking
from elicense.view.fold import flags_of, read_record
from elicense.view.history import LicenseRuling, PastState, state_at
from elicense.view.model import Revision, ViewRow
from elicense.view.store import ViewStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NOBODY: Final = bytes(16)
_NOWHERE: Final = LogKey(-1, 0)

RulingsOf = Callable[["Connection", Sequence[bytes]], Mapping[tuple[bytes, bytes], Sequence[LicenseRuling]]]


@dataclass(frozen=True, slots=True)
class PastReader:
    """Reads past states.

    Attributes:
        view: The view and its revision index.
        logs: Where the records are.
        rulings: Reads the registry's rulings on licences with these ids, by person and id.
        known_events: Events that this node understands.
    """

    view: ViewStore
    logs: LogStore
    rulings: RulingsOf
    known_events: frozenset[int]

    def read(self, conn: Connection, rows: Sequence[ViewRow], moment: Moment) -> dict[tuple[bytes, bytes], PastLicense]:
        """Return each licence as it was, by person and licence id.

        Raises:
            StoreCorrupt: A record is not where the revision index says.
        """
        ids = [row.license_id for row in rows] or [_NOBODY]
        revisions = self.view.history(conn, ids)
        rulings = self.rulings(conn, ids)
        # A licence id is a city's own choice, so another person's licence may bear the same.
        states = {
            (row.person_key, row.license_id): state_at(
                [each for each in revisions.get(row.license_id, ()) if each.person_key == row.person_key],
                rulings.get((row.person_key, row.license_id), ()),
                moment,
                flags=row.flags,
                known_events=self.known_events,
            )
            for row in rows
        }
        records = self._records(conn, states)
        places = {(row.person_key, row.license_id): row for row in rows}
        return {place: _license(row, states[place], records) for place, row in places.items()}

    def _records(
        self, conn: Connection, states: Mapping[tuple[bytes, bytes], PastState]
    ) -> dict[Revision, StoredEntry]:
        wanted: dict[LogKey, dict[int, Revision]] = {}
        for state in states.values():
            for revision in (state.first, state.revision):
                if revision is not None:
                    wanted.setdefault(LogKey(revision.city, revision.epoch), {})[revision.idx] = revision
        found: dict[Revision, StoredEntry] = {}
        for key, places in (wanted or {_NOWHERE: {}}).items():
            entries = self.logs.entries_at(conn, key, places or [0])
            found.update((revision, entries[index]) for index, revision in places.items() if index in entries)
        return found


def read_past(
    reader: PastReader,
    conn: Connection,
    rows: Mapping[bytes, Sequence[ViewRow]],
    questions: Sequence[Question],
    moment: Moment,
) -> list[PastLicense | None]:
    """Return for each question the licence that spoke for the person then; None where nothing matches.

    What does not match is not read at all: a wrong name takes the path of an unknown number.
    """
    asked = [[row for row in rows[question.person_key] if matches(row, question)] for question in questions]
    found = reader.read(conn, [row for matching in asked for row in matching], moment)
    return [speaking([found[row.person_key, row.license_id] for row in matching]) for matching in asked]


def _license(row: ViewRow, state: PastState, records: Mapping[Revision, StoredEntry]) -> PastLicense:
    first = _record(state.first, records)
    record = _record(state.revision, records)
    if record is not None:
        # The record says more exactly than its event whether it ended the licence.
        state = replace(state, flags=state.flags & ~ViewFlags.CANCELLED | flags_of(record))
    entry = None if state.revision is None else records[state.revision]
    row_then = None
    if state.revision is not None and entry is not None and record is not None:
        row_then = replace(
            row,
            city=state.revision.city,
            epoch=state.revision.epoch,
            idx=state.revision.idx,
            revision=state.revision.revision,
            event=state.revision.event,
            flags=state.flags,
            entry_hash=entry.leaf_hash,
            standing=standing_of(record.license),
            recorded_us=state.revision.recorded_us,
        )
    return PastLicense(
        row=row,
        row_then=row_then,
        state=state,
        standing=None if row_then is None else decode_standing(row_then.standing),
        entry_hash=b"" if entry is None else entry.leaf_hash,
        # A driver who was carried into the log, or over from another log, had a licence before.
        from_the_start=first is not None and first.revision == 1 and not first.imported,
        pending_at_first=first is not None and first.provisional,
    )


def _record(revision: Revision | None, records: Mapping[Revision, StoredEntry]) -> license_pb2.LicenseRecord | None:
    if revision is None:
        return None
    entry = records.get(revision)
    if entry is None:
        raise StoreCorrupt("a record of the revision index is missing; run fsck")
    return None if entry.record is None else read_record(entry.record)
