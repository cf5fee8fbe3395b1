"""Compare some licences of a city, and whatever is stored of each, with what its log and the registry's feed say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any
from uuid import UUID

from city_node.custody import record_flags
from city_node.custody_check import CustodyFold
from city_node.receipts import flags_after
from city_node.store import CityStore, Request
from city_node.transfer_store import Direction, HandOver, HandOverState
from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, position
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.scratch import Shelf
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import kept_flags, links_of, person_key_of, read_record, revision_of, row_of
from elicense.view.links import PersonLink
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ENDED = ViewFlags.CANCELLED | ViewFlags.REVOKED
_COUNTS_NOT = ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.VOID


@dataclass(slots=True)
class Derived:
    """What log and feed say of some licences.

    Attributes:
        custody: Where custody is.
        rows: Licences as they should stand.
        revisions: Revisions of each licence, without when they were stored.
        requests: Request ids.
        links: Links between documents that records make.
    """

    custody: CustodyFold
    rows: dict[bytes, ViewRow] = field(default_factory=dict)
    revisions: defaultdict[bytes, set[Revision]] = field(default_factory=lambda: defaultdict(set))
    requests: dict[bytes, Request] = field(default_factory=dict)
    links: list[PersonLink] = field(default_factory=list)


class LicenseCheck:
    """Derives and compares; what it holds in memory is of the licences given, however many there are.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
        city: Division code.
        places: Where records of licences lie: (licence, epoch, index, size after the commit), up to the transaction
            of each call.
        words: Numbers of the registry's words in the feed: (licence, number), likewise.
        found: Called with each finding.
    """

    def __init__(
        self,
        store: CityStore,
        *,
        persons: PersonIndex,
        city: int,
        places: Shelf,
        words: Shelf,
        found: Callable[[Finding], None],
    ) -> None:
        self._store = store
        self._persons = persons
        self._city = city
        self._places = places
        self._words = words
        self._found = found

    def check(self, conn: Connection, licenses: Sequence[bytes]) -> Derived:
        """Compare what is stored of these licences, and return what it should be."""
        derived = Derived(CustodyFold(self._city))
        numbers = [int(row[1]) for row in self._words.of([(license_id,) for license_id in licenses])]
        for word in self._store.dispositions_at(conn, self._city, numbers):
            derived.custody.hear(word)
        self._derive_all(conn, licenses, derived)
        self._settle(conn, derived, self._hand_overs(conn, licenses))
        self._compare_view(conn, licenses, derived)
        self._compare_requests(conn, derived)
        return derived

    def _hand_overs(self, conn: Connection, licenses: Sequence[bytes]) -> list[HandOver]:
        """Return what is listed of these licences and can be compared."""
        listed = self._store.hand_overs.of_licenses(conn, licenses)
        entries = self._store.logs.entries_anywhere(conn, [place for each in listed if (place := self._place(each))])
        erased = {place for place, entry in entries.items() if entry.record is None}
        # What a record said that was erased stands in the list alone.
        return [each for each in listed if self._place(each) not in erased]

    def _place(self, hand_over: HandOver) -> tuple[LogKey, int] | None:
        """Return where the record of a hand-over lies; None when that is another city's log."""
        own = hand_over.city == self._city
        return (LogKey(self._city, hand_over.epoch), hand_over.idx) if own else None

    def _derive_all(self, conn: Connection, licenses: Sequence[bytes], derived: Derived) -> None:
        """Fold every record of the licences."""
        rows: list[Any] = self._places.of([(license_id,) for license_id in licenses])
        sizes = {(LogKey(self._city, epoch), idx): size for _, epoch, idx, size in rows}
        entries = self._store.logs.entries_anywhere(conn, sizes)
        for (key, index), entry in sorted(entries.items(), key=lambda item: item[0]):
            if entry.record is not None:  # it may have been erased since its place was noted
                self._derive(key, entry, sizes[key, index], derived)

    def _derive(self, key: LogKey, entry: StoredEntry, size: int, derived: Derived) -> None:
        where = position(key, entry.index)
        try:
            record = read_record(entry.record or b"")
            request_id = uuid_bytes(record.request_id)
        except (Malformed, ValueError):
            self._without_license(entry, where, size, derived)
            return
        self._note_request(derived, request_id, record, entry.index, size)
        before = derived.rows.get(record.license_id)
        if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
            if derived.custody.arrives(record, entry.index):
                # It follows a revision of another city's log, as the registry has found.
                self._stand(record, entry, None, derived)
            return
        derived.custody.wrote(record, entry.index)
        follows = (0, b"") if before is None else (before.revision, before.entry_hash)
        if (record.revision - 1, record.previous_entry_hash) != follows:
            self._found(Finding(where, "the record does not follow the revision before it"))
        self._stand(record, entry, before, derived)

    def _without_license(self, entry: StoredEntry, where: str, size: int, derived: Derived) -> None:
        """Check a record that holds no licence: it erases one, or it is none at all."""
        erasure = read_erasure(entry.record)
        if erasure is None:
            self._found(Finding(where, "the record can not be read"))
            return
        if erasure.license_id in derived.rows:
            self._found(Finding(where, "the records that it erases are still there"))
        self._note_request(derived, uuid_bytes(erasure.request_id), erasure, entry.index, size)

    def _note_request(
        self, derived: Derived, request_id: bytes, record: license_pb2.LicenseRecord, index: int, size: int
    ) -> None:
        request = Request(request_id, record.request_digest, record.license_id, record.epoch, index, size)
        derived.requests[request_id] = request

    def _stand(
        self, record: license_pb2.LicenseRecord, entry: StoredEntry, before: ViewRow | None, derived: Derived
    ) -> None:
        person_key = person_key_of(record, self._persons)
        derived.rows[record.license_id] = row_of(
            record,
            index=entry.index,
            leaf_hash=entry.leaf_hash,
            flags=record_flags(record) | (0 if before is None else kept_flags(before.flags)),
            persons=self._persons,
            person_key=person_key,
        )
        derived.links += links_of(record, self._persons, index=entry.index)
        if (record.epoch, entry.index) not in derived.custody.void:
            revision = revision_of(record, index=entry.index, received_us=0, person_key=person_key)
            derived.revisions[record.license_id].add(revision)

    def _settle(self, conn: Connection, derived: Derived, hand_overs: Sequence[HandOver]) -> None:
        """Apply the registry's feed in its order, as the node did when it came."""
        derived.custody.settle(hand_overs, self._confirmed(conn))
        for license_id, kinds in derived.custody.flag_words.items():
            row = derived.rows.get(license_id)
            if row is not None:
                derived.rows[license_id] = replace(row, flags=reduce(flags_after, kinds, row.flags))
        derived.rows.update(derived.custody.moved(derived.rows))
        for finding in derived.custody.compare(hand_overs):
            self._found(finding)
        roots = self._store.view.links.of(conn, {row.person_key for row in derived.rows.values()})
        for license_id, row in derived.rows.items():
            derived.rows[license_id] = replace(row, person_key=roots.get(row.person_key, row.person_key))
        for license_id, held in derived.revisions.items():
            derived.revisions[license_id] = {
                replace(each, person_key=roots.get(each.person_key, each.person_key)) for each in held
            }

    def _confirmed(self, conn: Connection) -> tuple[int, int]:
        """Return epoch and number of the entries that the registry has confirmed."""
        keys = [key for key in self._store.logs.keys(conn) if key.log == self._city]
        held = [(key.epoch, self._store.logs.commits.latest_cosigned(conn, key)) for key in keys]
        return max(((epoch, receipt[0]) for epoch, receipt in held if receipt is not None), default=(0, 0))

    def _compare_view(self, conn: Connection, licenses: Sequence[bytes], derived: Derived) -> None:
        by_person = self._store.view.by_person(conn, {row.person_key for row in derived.rows.values()})
        stored = {(row.person_key, row.license_id): row for rows in by_person.values() for row in rows}
        history = self._store.view.history(conn, licenses)
        for license_id in licenses:
            where = f"license {UUID(bytes=license_id)}"
            expected = derived.rows.get(license_id)
            if expected is not None:
                self._compare_row(where, stored.get((expected.person_key, license_id)), expected)
                self._compare_others(conn, where, expected, by_person.get(expected.person_key, ()))
            kept = {replace(revision, received_us=0) for revision in history.get(license_id, ())}
            if kept != derived.revisions.get(license_id, set()):
                self._found(Finding(where, "its revision index differs from the log"))

    def _compare_row(self, where: str, row: ViewRow | None, expected: ViewRow) -> None:
        if row != expected:
            what = "is missing from the view" if row is None else "stands otherwise in the view than in the log"
            self._found(Finding(where, f"the license {what}"))

    def _compare_others(self, conn: Connection, where: str, row: ViewRow, held: Sequence[ViewRow]) -> None:
        """A city gives nobody a second licence, but to whom it did not know that the first one is its own by then."""
        for other in held:
            if other.license_id == row.license_id or not (self._stands(row) and self._stands(other)):
                continue
            if not (row.flags | other.flags) & _COUNTS_NOT:
                self._found(Finding(where, "the person holds another license that counts in this city"))
            elif not (self._came(conn, row) or self._came(conn, other)):
                self._found(Finding(where, "the person holds another license in this city, and neither was taken over"))

    def _stands(self, row: ViewRow) -> bool:
        return row.city == self._city and not row.flags & _ENDED

    def _came(self, conn: Connection, row: ViewRow) -> bool:
        """Whether a licence was taken over: until the city heard that it was, it could give its holder another."""
        hand_overs = self._store.hand_overs.of_license(conn, row.license_id)
        return any((each.direction, each.state) == (Direction.IN, HandOverState.DONE) for each in hand_overs)

    def _compare_requests(self, conn: Connection, derived: Derived) -> None:
        stored = self._store.requests(conn, list(derived.requests))
        for request_id, expected in derived.requests.items():
            if not self._is_stored(conn, stored.get(request_id), expected):
                where = position(LogKey(self._city, expected.epoch), expected.idx)
                self._found(Finding(where, "its request id is not stored as the record says"))

    def _is_stored(self, conn: Connection, request: Request | None, expected: Request) -> bool:
        if request is None or request.size <= expected.size:
            return request == expected
        # After a restore it names a later commit, over which the record is proved as well.
        ended = self._store.logs.commits.at(conn, LogKey(self._city, expected.epoch), request.size)
        return ended is not None and replace(request, size=expected.size) == expected
