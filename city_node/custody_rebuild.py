"""Put licences that moved back as log and feed say, after both were read back.

A running node hears the registry's word on a take-over before it writes anything
upon it.  A restored one has all its records first and hears the whole feed after
them, so for the few licences that ever moved the outcome is folded once more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Final

from city_node.custody import record_flags
from city_node.custody_check import CustodyFold
from city_node.receipts import flags_after
from city_node.store import CityStore
from city_node.transfer_store import Direction, HandOverState
from city_node.uniting import unite
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey
from elicense.v1 import license_pb2
from elicense.view.fold import kept_flags, links_of, person_key_of, read_record, revision_of, row_of
from elicense.view.links import PersonLink
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000


class CustodyRebuild:
    """Folds again the licences that this city offered or took over.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
        city: Division code.
    """

    def __init__(self, *, store: CityStore, persons: PersonIndex, city: int) -> None:
        self._store = store
        self._persons = persons
        self._city = city

    def run(self, conn: Connection) -> None:
        """Write what the licences that ever moved are now; the feed must be complete."""
        custody = CustodyFold(self._city)
        # They stand in no history any more, but the view shows the licence as this city left it.
        late: defaultdict[bytes, set[tuple[int, int]]] = defaultdict(set)
        after = 0
        while page := self._store.dispositions(conn, self._city, after=after, limit=_PAGE):
            for word in page:
                custody.hear(word)
                if (word.epoch, word.idx) in custody.void:
                    late[word.license_id].add((word.epoch, word.idx))
            after = page[-1].seq
        hand_overs = self._store.hand_overs.all(conn)
        taken = {(each.license_id, each.epoch, each.idx) for each in hand_overs if each.direction == Direction.IN}
        recalled = {each.license_id for each in hand_overs if each.state == HandOverState.RECALLED}
        for license_id in {each.license_id for each in hand_overs if each.direction != Direction.LATE}:
            known = self._store.view.history(conn, [license_id]).get(license_id, [])
            places = {(r.epoch, r.idx) for r in known} | {(e, i) for of, e, i in taken if of == license_id}
            places |= late[license_id]
            # What the record says of a withdrawal, the registry may have confirmed long ago.
            over = 0 if license_id in recalled else int(ViewFlags.RECALLED)
            self._license(conn, custody, license_id, sorted(places), over=over)

    def _license(
        self, conn: Connection, custody: CustodyFold, license_id: bytes, places: list[tuple[int, int]], *, over: int
    ) -> None:
        row: ViewRow | None = None
        revisions: list[Revision] = []
        links: list[PersonLink] = []
        for epoch, index in places:
            key = LogKey(self._city, epoch)
            self._store.view.drop_revision(conn, license_id, key, index)
            entry = self._store.logs.entries_at(conn, key, [index]).get(index)
            if entry is None or entry.record is None:
                continue
            record = read_record(entry.record)
            if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
                if not custody.arrives(record, index):
                    continue
                row = None
            person_key = self._store.view.links.root(conn, person_key_of(record, self._persons))
            links += links_of(record, self._persons, index=index)
            kept = 0 if row is None else kept_flags(row.flags)
            row = row_of(
                record,
                index=index,
                leaf_hash=entry.leaf_hash,
                flags=record_flags(record) | kept,
                persons=self._persons,
                person_key=person_key,
            )
            if (epoch, index) not in custody.void:
                revisions.append(revision_of(record, index=index, received_us=row.recorded_us, person_key=person_key))
        if row is not None:
            row = replace(row, flags=reduce(flags_after, custody.flag_words.get(license_id, []), row.flags & ~over))
            row = custody.moved({license_id: row}).get(license_id, row)
            self._store.view.replace(conn, [row])
        self._store.view.add_revisions(conn, revisions)
        unite(conn, self._store, links)
