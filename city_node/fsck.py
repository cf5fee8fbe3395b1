"""Check everything that a city node stores against the records that it rests on.

In one snapshot: each epoch's log is rebuilt from its records (see
:mod:`elicense.log.check`), then requests, licences, revisions and flags are
derived from them again and compared.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Final

from city_node.custody import record_flags
from city_node.custody_check import CustodyFold
from city_node.mirror import REGISTRY_LOG, RegistryHistory
from city_node.receipts import flags_after
from city_node.store import CityStore
from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, LogCheck, LogKeys, position
from elicense.log.checkpoint import Checkpoint
from elicense.log.model import LogKey, StoredEntry
from elicense.log.verifier_key import VerifierKey
from elicense.trust.enrollment import FIRST_EPOCH, city_log_origin
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import kept_flags, links_of, person_key_of, read_record, row_of
from elicense.view.links import PersonLink, Roots
from elicense.view.model import ViewRow
from elicense.view.opening import binds, read_opening
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a check came to.

    Attributes:
        logs: Epochs checked.
        entries: Entries checked.
        licenses: Licences derived.
        findings: What is wrong; none when all is well.
    """

    logs: int
    entries: int
    licenses: int
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Derived:
    """What the records say.

    Attributes:
        rows: Licences as they should stand.
        revisions: Revisions of each licence: (epoch, index, revision).
        requests: Request ids: (epoch, index, digest).
        custody: Where custody is.
        roots: Which documents are one person's.
        links: Where records say so: (licence, city, epoch, index).
    """

    custody: CustodyFold
    rows: dict[bytes, ViewRow] = field(default_factory=dict)
    revisions: dict[bytes, list[tuple[int, int, int]]] = field(default_factory=dict)
    requests: dict[bytes, tuple[int, int, bytes]] = field(default_factory=dict)
    roots: Roots = field(default_factory=Roots)
    links: set[tuple[bytes, int, int, int]] = field(default_factory=set)


class Fsck:
    """Recomputes and compares; writes nothing.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
        trust_domain: Prefix of the log's origin.
        city: Division code.
        keys: Keys of the log, by epoch.
        cosigner: Key of the registry's receipts.
        progress: Called with the number of entries checked since the last call.
        registry: Keys of the registry's log, where the city keeps a mirror of that.
    """

    def __init__(
        self,
        *,
        store: CityStore,
        persons: PersonIndex,
        trust_domain: str,
        city: int,
        keys: Mapping[int, VerifierKey],
        cosigner: VerifierKey,
        progress: Callable[[int], None],
        registry: RegistryHistory | None = None,
    ) -> None:
        self._store = store
        self._persons = persons
        self._trust_domain = trust_domain
        self._city = city
        self._keys = keys
        self._cosigner = cosigner
        self._registry = registry
        self._progress = progress

    def run(self, conn: Connection) -> Report:
        """Check everything in the transaction ``conn``."""
        findings: list[Finding] = []
        derived = _Derived(CustodyFold(self._city))
        self._hear(conn, derived.custody)
        entries = 0
        logs = [key for key in self._store.logs.keys(conn) if key.log == self._city]
        if not logs:
            findings.append(Finding(f"city {self._city}", "the node has no log"))
        for key in logs:
            origin = city_log_origin(self._trust_domain, key.log, key.epoch)
            if key.epoch not in self._keys:
                findings.append(Finding(f"log {key.log}/{key.epoch}", "nobody knows the key that signs it"))
                continue
            keys = LogKeys(origin, self._keys[key.epoch], self._cosigner)
            self._check_opening(conn, key, findings)
            check = LogCheck(conn, self._store.logs, key, keys=keys, found=findings.append, progress=self._progress)
            for chunk in check.entries():
                entries += len(chunk)
                self._derive(key, chunk, derived, findings)
        self._check_mirror(conn, findings)
        hand_overs = self._store.hand_overs.all(conn)
        derived.custody.settle(hand_overs, self._confirmed(conn, logs))
        self._set_flags(derived)
        findings.extend(derived.custody.compare(hand_overs))
        self._compare_links(conn, derived, findings)
        self._compare_view(conn, derived, findings)
        self._compare_requests(conn, derived, findings)
        return Report(len(logs), entries, len(derived.rows), tuple(findings))

    def _check_mirror(self, conn: Connection, findings: list[Finding]) -> None:
        """Check what is held of the registry's log: every entry, every root and every signature."""
        for key in self._store.logs.keys(conn):
            if key.log != REGISTRY_LOG or self._registry is None:
                continue
            signer = self._registry.key(key.epoch)
            keys = LogKeys(signer.name, signer, None)
            check = LogCheck(conn, self._store.logs, key, keys=keys, found=findings.append, progress=self._progress)
            for _ in check.entries():
                pass

    def _derive(self, key: LogKey, chunk: Sequence[StoredEntry], derived: _Derived, findings: list[Finding]) -> None:
        for entry in chunk:
            if entry.record is None:
                continue
            where = position(key, entry.index)
            try:
                record = read_record(entry.record)
                request_id = uuid_bytes(record.request_id)
            except (Malformed, ValueError):
                self._without_license(entry, where, derived, findings)
                continue
            if request_id in derived.requests:
                findings.append(Finding(where, "the record repeats the request id of an earlier one"))
            derived.requests[request_id] = (record.epoch, entry.index, record.request_digest)
            before = derived.rows.get(record.license_id)
            if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
                if not derived.custody.arrives(record, entry.index):
                    continue
                # It follows a revision of another city's log, as the registry has found.
                self._stand(record, entry, None, derived)
                continue
            derived.custody.wrote(record, entry.index)
            follows = (0, b"") if before is None else (before.revision, before.entry_hash)
            if (record.revision - 1, record.previous_entry_hash) != follows:
                findings.append(Finding(where, "the record does not follow the revision before it"))
            self._stand(record, entry, before, derived)

    def _without_license(self, entry: StoredEntry, where: str, derived: _Derived, findings: list[Finding]) -> None:
        """Check a record that holds no licence: it opens an epoch, or erases a licence."""
        erasure = read_erasure(entry.record)
        if erasure is not None:
            if erasure.license_id in derived.rows:
                findings.append(Finding(where, "the records that it erases are still there"))
            request_id = uuid_bytes(erasure.request_id)
            derived.requests[request_id] = (erasure.epoch, entry.index, erasure.request_digest)
        elif read_opening(entry.record) is None:
            findings.append(Finding(where, "the record can not be read"))

    def _stand(
        self, record: license_pb2.LicenseRecord, entry: StoredEntry, before: ViewRow | None, derived: _Derived
    ) -> None:
        derived.rows[record.license_id] = row_of(
            record,
            index=entry.index,
            leaf_hash=entry.leaf_hash,
            flags=record_flags(record) | (0 if before is None else kept_flags(before.flags)),
            persons=self._persons,
            person_key=person_key_of(record, self._persons),
        )
        for link in links_of(record, self._persons, index=entry.index):
            derived.roots.add(link.person_key, link.first_key)
            derived.links.add(_place(link))
        if (record.epoch, entry.index) not in derived.custody.void:
            place = (record.epoch, entry.index, record.revision)
            derived.revisions.setdefault(record.license_id, []).append(place)

    def _check_opening(self, conn: Connection, key: LogKey, findings: list[Finding]) -> None:
        """Every epoch but the first must begin where the one before it ended."""
        if key.epoch == FIRST_EPOCH:
            return
        before = self._store.logs.head(conn, LogKey(key.log, key.epoch - 1))
        first = self._store.logs.entries_at(conn, key, [0]).get(0)
        origin = city_log_origin(self._trust_domain, key.log, key.epoch - 1)
        if (
            before is None
            or first is None
            or not binds(
                first.record, city=key.log, epoch=key.epoch, previous=Checkpoint(origin, before.size, before.root)
            )
        ):
            findings.append(Finding(position(key, 0), "the epoch does not begin where the one before it ended"))

    def _hear(self, conn: Connection, custody: CustodyFold) -> None:
        """Fold the registry's feed."""
        after = 0
        while page := self._store.dispositions(conn, self._city, after=after, limit=_PAGE):
            for word in page:
                custody.hear(word)
            after = page[-1].seq

    def _confirmed(self, conn: Connection, logs: Sequence[LogKey]) -> tuple[int, int]:
        """Return epoch and number of the entries that the registry has confirmed."""
        held = [(key.epoch, self._store.logs.latest_cosigned(conn, key)) for key in logs]
        return max(((epoch, receipt[0]) for epoch, receipt in held if receipt is not None), default=(0, 0))

    def _set_flags(self, derived: _Derived) -> None:
        """Apply the registry's feed in its order, as the node did when it came."""
        for license_id, kinds in derived.custody.flag_words.items():
            row = derived.rows.get(license_id)
            if row is not None:
                derived.rows[license_id] = replace(row, flags=reduce(flags_after, kinds, row.flags))
        derived.rows.update(derived.custody.moved(derived.rows))

    def _compare_links(self, conn: Connection, derived: _Derived, findings: list[Finding]) -> None:
        """Every link must rest on a record; only where that was erased may it stand alone."""
        stored = self._store.view.links.all(conn)
        for link in stored:
            if _place(link) in derived.links:
                continue
            entry = self._store.logs.entries_at(conn, LogKey(link.city, link.epoch), [link.idx]).get(link.idx)
            if entry is not None and entry.record is None:
                derived.links.add(_place(link))
                derived.roots.add(link.person_key, link.first_key)
        expected = derived.roots.as_dict()
        for link in stored:
            if expected.pop(link.person_key, None) != link.first_key or _place(link) not in derived.links:
                where = f"license {uuid.UUID(bytes=link.license_id)}"
                findings.append(Finding(where, "a link between documents differs from the log"))
        if expected:
            findings.append(Finding(f"city {self._city}", f"{len(expected)} links between documents are missing"))
        for license_id, row in derived.rows.items():
            derived.rows[license_id] = replace(row, person_key=derived.roots.root(row.person_key))

    def _compare_view(self, conn: Connection, derived: _Derived, findings: list[Finding]) -> None:
        stored = {row.license_id: row for row in self._store.view.all_rows(conn)}
        persons: set[bytes] = set()
        for license_id, expected in derived.rows.items():
            where = f"license {uuid.UUID(bytes=license_id)}"
            row = stored.pop(license_id, None)
            if row != expected:
                what = "is missing from the view" if row is None else "stands otherwise in the view than in the log"
                findings.append(Finding(where, f"the license {what}"))
            if expected.city == self._city and not expected.flags & (ViewFlags.CANCELLED | ViewFlags.REVOKED):
                if expected.person_key in persons:
                    findings.append(Finding(where, "the person holds another license in this city"))
                persons.add(expected.person_key)
            kept = self._store.view.revisions(conn, license_id, after=0, limit=len(derived.revisions[license_id]) + 1)
            if [(r.epoch, r.idx, r.revision) for r in kept] != derived.revisions[license_id]:
                findings.append(Finding(where, "its revision index differs from the log"))
        findings.extend(
            Finding(f"license {uuid.UUID(bytes=license_id)}", "no record of the log made this license")
            for license_id in stored
        )

    def _compare_requests(self, conn: Connection, derived: _Derived, findings: list[Finding]) -> None:
        stored = self._store.requests(conn, list(derived.requests))
        for request_id, (epoch, index, digest) in derived.requests.items():
            request = stored.get(request_id)
            if request is None or (request.epoch, request.idx, request.digest) != (epoch, index, digest):
                where = position(LogKey(self._city, epoch), index)
                findings.append(Finding(where, "its request id is not stored as the record says"))


def _place(link: PersonLink) -> tuple[bytes, int, int, int]:
    return link.license_id, link.city, link.epoch, link.idx
