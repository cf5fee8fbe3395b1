"""What a commit of the city's log writes besides its entries: requests, licences as they stand, revisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from city_node.commands import Written, WrittenFirst
from city_node.custody import note_written
from city_node.removal import remove
from city_node.store import CityStore, Request, RequestValues
from city_node.uniting import unite
from elicense.log.decision import Appended
from elicense.v1 import license_pb2
from elicense.view.fold import links_of, revision_of, row_of
from elicense.view.model import RowValues, revisions_of
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ISSUED: Final = int(license_pb2.LICENSE_EVENT_ISSUED)


class ViewWriter:
    """Writes the city's tables, in the transaction that appended the entries.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
    """

    def __init__(self, *, store: CityStore, persons: PersonIndex) -> None:
        self._store = store
        self._persons = persons

    def write(
        self,
        conn: Connection,
        written: Iterable[Written | WrittenFirst],
        appended: Sequence[Appended],
        *,
        received_us: int,
    ) -> None:
        """Write what records come to.

        Args:
            conn: The transaction.
            written: The records, in order.
            appended: Their entries; at least one.
            received_us: The clock.
        """
        firsts: list[tuple[WrittenFirst, Appended]] = []
        others: list[tuple[Written, Appended]] = []
        for outcome, entry in zip(written, appended, strict=True):
            if isinstance(outcome, WrittenFirst):
                firsts.append((outcome, entry))
            else:
                others.append((outcome, entry))
        size = appended[-1].index + 1
        if firsts:
            self._write_firsts(conn, firsts, size=size, received_us=received_us)
        if others:
            self._write_others(conn, others, size=size, received_us=received_us)

    def _write_firsts(
        self, conn: Connection, firsts: list[tuple[WrittenFirst, Appended]], *, size: int, received_us: int
    ) -> None:
        """Write first revisions: an import brings thousands, so they stay tuples of columns."""
        known = self._store.view.links.of(conn, {outcome.item.draft.person_key for outcome, _ in firsts})
        requests: list[RequestValues] = []
        rows: list[RowValues] = []
        city, epoch = firsts[0][0].key.log, firsts[0][0].key.epoch
        for outcome, entry in firsts:
            draft, license_id, *_ = outcome.item
            index = entry.index
            person_key = draft.person_key
            if known:
                person_key = known.get(person_key, person_key)
            requests.append((draft.request_id, draft.digest, license_id, epoch, index, size))
            rows.append(
                (
                    person_key,
                    license_id,
                    city,
                    epoch,
                    index,
                    1,
                    _ISSUED,
                    outcome.flags,
                    entry.leaf_hash,
                    draft.name_tag,
                    outcome.standing,
                    outcome.recorded_us,
                )
            )
        rows.sort()
        self._store.add_request_values(conn, requests)
        self._store.view.put_values(conn, rows)
        revisions = revisions_of([(row, row[-1]) for row in rows], received_us=received_us)
        self._store.view.add_revision_values(conn, revisions)

    def _write_others(
        self, conn: Connection, others: list[tuple[Written, Appended]], *, size: int, received_us: int
    ) -> None:
        known = self._store.view.links.of(conn, {outcome.person_key for outcome, _ in others})
        requests, rows, revisions, erased, links = [], [], [], [], []
        for outcome, entry in others:
            record = outcome.record
            requests.append(
                Request(outcome.request_id, outcome.digest, record.license_id, record.epoch, entry.index, size)
            )
            if outcome.erases:
                erased.append(record)
                continue
            note_written(self._store, conn, record, index=entry.index, now_us=received_us)
            if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
                continue  # it enters the view with the registry's word that custody has moved
            links += links_of(record, self._persons, index=entry.index)
            person_key = known.get(outcome.person_key, outcome.person_key)
            rows.append(
                row_of(
                    record,
                    index=entry.index,
                    leaf_hash=entry.leaf_hash,
                    flags=outcome.flags,
                    persons=self._persons,
                    person_key=person_key,
                )
            )
            revisions.append(revision_of(record, index=entry.index, received_us=received_us, person_key=person_key))
        self._store.add_requests(conn, requests)
        self._store.view.put(conn, rows)
        self._store.view.add_revisions(conn, revisions)
        unite(conn, self._store, links)
        for record in erased:
            remove(conn, self._store, record)
