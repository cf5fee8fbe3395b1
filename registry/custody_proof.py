"""Proving that a record was written without custody, out of what the registry holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed, NotFound
from elicense.log.entry_proofs import read_proof
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.proof_file import EntryProof
from elicense.log.request_queue import BYTES_PER_COMMIT
from elicense.verification.custody_evidence import CustodyEvidence, read_decision
from elicense.view.fold import read_record
from registry.custody_store import CustodyDecision
from registry.store import RegistryStore
from registry.told_store import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from elicense.log.model import StoredEntry
    from elicense.v1 import license_pb2

#: Entries or revisions that are read at a time.
_PAGE: Final = 500


def custody_evidence(conn: Connection, store: RegistryStore, key: LogKey, index: int) -> CustodyEvidence:
    """Return what may prove that the city of ``key`` had no custody when it wrote the record at ``index``.

    Raises:
        NotFound: There is no such record, nothing shows that it was written without custody (where a city wrote
            several, the first of them shows it), or no signed head covers the two entries yet.
    """
    follows = shown_by(conn, store, key, index)
    if follows is None:
        raise NotFound("nothing shows that this record was written without custody; name the first one that was")
    record, shown = read_proof(conn, store.logs, key, index), read_proof(conn, store.logs, *follows)
    return CustodyEvidence(record, shown, _told(conn, store, key, shown))


def _told(conn: Connection, store: RegistryStore, key: LogKey, shown: EntryProof) -> bytes | None:
    """Return what the city signed about a decision that gave its licence to another one; None when it did not."""
    if shown.city != REGISTRY_LOG:
        return None
    source = read_decision(shown.record).transfer_decided.source
    return store.told.note(conn, key, (source.epoch, source.index))


def shown_by(conn: Connection, store: RegistryStore, key: LogKey, index: int) -> tuple[LogKey, int] | None:
    """Return where the entry lies that may show that a record was written without custody; None when none does.

    Reads what the table of decisions does not have yet of the registry's own log: none where that is kept up.

    Raises:
        NotFound: There is no record of a licence at this place.
    """
    entry = store.logs.entries_at(conn, key, [index]).get(index)
    try:
        record = read_record((entry.record if entry is not None else None) or b"")
    except Malformed as error:
        raise NotFound("there is no record of a license at this place") from error
    return written_upon(conn, store, key, record)


def written_upon(
    conn: Connection, store: RegistryStore, key: LogKey, record: license_pb2.LicenseRecord
) -> tuple[LogKey, int] | None:
    """Return the same for a record in the log ``key`` that was read already."""
    return _decision(conn, store, record) or _revision(conn, store, key, record)


def _decision(conn: Connection, store: RegistryStore, record: license_pb2.LicenseRecord) -> tuple[LogKey, int] | None:
    """Return the last decision upon whose take-over, or after which, the record was written."""
    wanted = record.license_id, record.city, record.previous_entry_hash
    for key, size in sorted(own_logs(conn, store), reverse=True):
        start = store.told.reached(conn, REGISTRY_LOG, Mark.DECIDED, key.epoch)
        found = None
        while start < size and (page := store.logs.entries(conn, key, start, _PAGE, max_bytes=BYTES_PER_COMMIT)):
            for decision in decisions_in(key, page):
                if (decision.license_id, decision.city, decision.upon) == wanted:
                    found = key, decision.idx
            start = page[-1].index + 1
        if found is not None:
            return found
    place = store.custody.latest(conn, *wanted)
    return None if place is None else (LogKey(REGISTRY_LOG, place[0]), place[1])


def own_logs(conn: Connection, store: RegistryStore) -> list[tuple[LogKey, int]]:
    """Return every epoch of the registry's own log, and its size."""
    return [(LogKey(log, epoch), size) for log, epoch, size in store.logs.sizes(conn) if log == REGISTRY_LOG]


def next_decisions(conn: Connection, store: RegistryStore) -> tuple[LogKey, int, list[CustodyDecision]] | None:
    """Read on in the registry's log, for the table of decisions about custody.

    Returns:
        The log, how far it has been read now, and what was found; None at its end.
    """
    for key, size in sorted(own_logs(conn, store)):
        start = store.told.reached(conn, REGISTRY_LOG, Mark.DECIDED, key.epoch)
        if start < size:
            page = store.logs.entries(conn, key, start, _PAGE, max_bytes=BYTES_PER_COMMIT)
            return key, start + len(page), decisions_in(key, page)
    return None


def decisions_in(key: LogKey, entries: Sequence[StoredEntry]) -> list[CustodyDecision]:
    """Return what entries of the registry's log decide about custody."""
    return [found for entry in entries if (found := CustodyDecision.read(key.epoch, entry)) is not None]


def _revision(
    conn: Connection, store: RegistryStore, key: LogKey, record: license_pb2.LicenseRecord
) -> tuple[LogKey, int] | None:
    """Return the revision of another city that the record follows."""
    last = (0, 0, 0)
    while page := store.view.places(conn, record.license_id, not_of=key.log, after=last, limit=_PAGE):
        last = page[-1]
        places = [(LogKey(city, epoch), index) for city, epoch, index in page]
        for place, held in store.logs.entries_anywhere(conn, places).items():
            if held.leaf_hash == record.previous_entry_hash:
                return place
    return None
