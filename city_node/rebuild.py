"""From records that were read back to the tables that rest on them: licences, revisions and request ids."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from city_node.custody import note_written, record_flags
from city_node.removal import remove
from city_node.store import CityStore, Request
from city_node.uniting import unite
from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.log.model import NewEntry
from elicense.v1 import license_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import kept_flags, links_of, person_key_of, read_record, revision_of, row_of
from elicense.view.links import PersonLink
from elicense.view.model import Revision, ViewRow
from elicense.view.opening import read_opening
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Rebuild:
    """Writes what the city's writer wrote beside these entries.

    What the registry said of them comes again with its feed.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
    """

    def __init__(self, *, store: CityStore, persons: PersonIndex) -> None:
        self._store = store
        self._persons = persons

    def apply(self, conn: Connection, first_index: int, entries: Sequence[NewEntry], size: int) -> None:
        """Write the tables for entries that have just been appended.

        Args:
            conn: The transaction that appended them.
            first_index: Index of the first.
            entries: The entries; erased ones give nothing.
            size: Size of the log after them.
        """
        requests: dict[bytes, Request] = {}
        rows: dict[bytes, ViewRow] = {}
        revisions: list[Revision] = []
        links: list[PersonLink] = []
        for index, entry in enumerate(entries, first_index):
            if entry.record is None or read_opening(entry.record) is not None:
                continue
            if (erasure := read_erasure(entry.record)) is not None:
                self._write(conn, requests, rows, revisions)
                requests, rows, revisions = {}, {}, []
                requests[uuid.UUID(erasure.request_id).bytes] = _request(erasure, index, size)
                remove(conn, self._store, erasure)
                continue
            try:
                record = read_record(entry.record)
                request = _request(record, index, size)
            except Malformed:
                # It stays in the log, and fsck says so; whatever else is there must come back all the same.
                continue
            requests[request.request_id] = request
            note_written(self._store, conn, record, index=index, now_us=from_timestamp(record.record_time))
            if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
                continue  # whether it brought custody is for the registry's feed to say
            person_key = person_key_of(record, self._persons)
            links += links_of(record, self._persons, index=index)
            row = self._row(record, index, entry.leaf_hash, person_key)
            earlier = rows.get(record.license_id)
            rows[record.license_id] = (
                row if earlier is None else replace(row, flags=row.flags | kept_flags(earlier.flags))
            )
            # When the city stored it is lost with its table; it did so as it wrote the record.
            revision = revision_of(record, index=index, received_us=row.recorded_us, person_key=person_key)
            revisions.append(revision)
        self._write(conn, requests, rows, revisions)
        unite(conn, self._store, links)

    def _write(
        self,
        conn: Connection,
        requests: Mapping[bytes, Request],
        rows: Mapping[bytes, ViewRow],
        revisions: Sequence[Revision],
    ) -> None:
        self._store.add_requests(conn, list(requests.values()))
        known = self._store.view.links.of(conn, {row.person_key for row in rows.values()})
        put = [replace(row, person_key=known.get(row.person_key, row.person_key)) for row in rows.values()]
        self._store.view.put(conn, put)
        moved = [replace(each, person_key=known.get(each.person_key, each.person_key)) for each in revisions]
        self._store.view.add_revisions(conn, moved)

    def _row(self, record: license_pb2.LicenseRecord, index: int, leaf_hash: bytes, person_key: bytes) -> ViewRow:
        return row_of(
            record,
            index=index,
            leaf_hash=leaf_hash,
            flags=record_flags(record),
            persons=self._persons,
            person_key=person_key,
        )


def _request(record: license_pb2.LicenseRecord, index: int, size: int) -> Request:
    try:
        request_id = uuid.UUID(record.request_id).bytes
    except ValueError as error:
        raise Malformed("a record of this city's log has no request id") from error
    return Request(request_id, record.request_digest, record.license_id, record.epoch, index, size)
