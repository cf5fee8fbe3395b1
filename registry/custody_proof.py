"""Proving that a record was written without custody, out of what the registry holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed, NotFound
from elicense.log.entry_proofs import read_proof
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.proof_file import EntryProof
from elicense.v1 import log_pb2
from elicense.verification.custody_evidence import CustodyEvidence, read_decision
from elicense.view.fold import read_record
from registry.store import RegistryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from elicense.v1 import license_pb2

_PAGE: Final = 1_000
_MAX_REVISIONS: Final = 10_000


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

    Reads the registry's own log, its newest decisions first: it is for what is rare.

    Raises:
        NotFound: There is no record of a licence at this place.
    """
    entry = store.logs.entries_at(conn, key, [index]).get(index)
    try:
        record = read_record((entry.record if entry is not None else None) or b"")
    except Malformed as error:
        raise NotFound("there is no record of a license at this place") from error
    return _decision(conn, store, record) or _revision(conn, store, key, record)


def _decision(conn: Connection, store: RegistryStore, record: license_pb2.LicenseRecord) -> tuple[LogKey, int] | None:
    """Return the decision upon whose take-over, or after which, the record was written."""
    for key, index, body in _own_log(conn, store, record.license_id):
        decided = log_pb2.RegistryRecord.FromString(body).transfer_decided
        refused = decided.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED
        told = decided.position.city if refused else decided.source.city
        upon = decided.entry_hash if refused else decided.source_entry_hash
        if (record.city, record.previous_entry_hash) == (told, upon):
            return key, index
    return None


def _own_log(conn: Connection, store: RegistryStore, license_id: bytes) -> Iterator[tuple[LogKey, int, bytes]]:
    """Yield the entries of the registry's log that may be about a licence, the newest pages first."""
    own = [(LogKey(log, epoch), size) for log, epoch, size in store.logs.sizes(conn) if log == REGISTRY_LOG]
    for key, size in sorted(own, reverse=True):
        for stop in range(size, 0, -_PAGE):
            start = max(0, stop - _PAGE)
            page = store.logs.entries(conn, key, start, stop - start)
            # Whoever parsed everything would take long.
            yield from ((key, e.index, e.record) for e in page if e.record is not None and license_id in e.record)


def _revision(
    conn: Connection, store: RegistryStore, key: LogKey, record: license_pb2.LicenseRecord
) -> tuple[LogKey, int] | None:
    """Return the revision of another city that the record follows."""
    for revision in store.view.revisions(conn, record.license_id, after=0, limit=_MAX_REVISIONS):
        place = LogKey(revision.city, revision.epoch)
        held = store.logs.entries_at(conn, place, [revision.idx]).get(revision.idx)
        if held is not None and place.log != key.log and held.leaf_hash == record.previous_entry_hash:
            return place, revision.idx
    return None
