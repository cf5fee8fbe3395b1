"""Check everything that the registry stores against the records that it rests on.

In one snapshot: every log is rebuilt from its records (see
:mod:`elicense.log.check`), then the national view is folded again and compared
(see :mod:`registry.refold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.errors import Malformed
from elicense.log.check import Finding, LogCheck, LogKeys, position
from elicense.log.checkpoint import cosigner_verifier_key, log_verifier_key
from elicense.log.model import LogKey, StoredEntry
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.database import Database
from elicense.trust.check import check_trust
from elicense.trust.enrollment import city_log_origin
from elicense.view.opening import binds
from elicense.view.person import PersonIndex
from registry.check_state import check_feeds, check_grants, check_reasons, check_states, check_waiting
from registry.epochs import previous_head
from registry.names import FIRST_EPOCH, REGISTRY_LOG, cosigner_name, registry_origin
from registry.refold import Refold
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Report:
    """What a check came to.

    Attributes:
        logs: Logs checked.
        entries: Entries checked.
        licenses: Licences folded.
        findings: What is wrong; none when all is well.
    """

    logs: int
    entries: int
    licenses: int
    findings: tuple[Finding, ...]


class Fsck:
    """Recomputes and compares; writes nothing.

    Args:
        database: The registry's database.
        store: Its tables.
        persons: Computes person and name tags.
        trust_domain: Prefix of log origins.
        log_key: Public key of the registry's own log, 32 bytes.
        cosigner_key: Public key of its receipts, 32 bytes.
        progress: Called with the number of entries checked since the last call.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        persons: PersonIndex,
        trust_domain: str,
        log_key: bytes,
        cosigner_key: bytes,
        progress: Callable[[int], None],
    ) -> None:
        self._database = database
        self._store = store
        self._persons = persons
        self._trust_domain = trust_domain
        self._log_key = log_key
        self._cosigner = cosigner_verifier_key(cosigner_name(trust_domain), cosigner_key)
        self._progress = progress

    def run(self) -> Report:
        """Check everything.

        Raises:
            StoreUnavailable: The database is away.
            StoreCorrupt: The database itself can not be read.
        """
        return self._database.read_now(self._run)

    def _run(self, conn: Connection) -> Report:
        findings: list[Finding] = []
        found = findings.append
        entries = 0

        def progress(count: int) -> None:
            nonlocal entries
            entries += count
            self._progress(count)

        refold = Refold(conn, self._store, persons=self._persons, found=found)
        signers = self._signers(conn, found)
        logs = self._store.logs.keys(conn)
        for missing in sorted(signers.keys() - set(logs)):
            found(Finding(f"log {missing.log}/{missing.epoch}", "the city is enrolled, but its log is missing"))
        if not any(key.log == REGISTRY_LOG for key in logs):
            found(Finding("log 0", "the registry's own log is missing"))
        # In order: the registry's own log has number 0, and the fold needs it first.
        for key in logs:
            keys = self._keys(key, signers)
            if keys is None:
                found(Finding(f"log {key.log}/{key.epoch}", "no city is enrolled for this log"))
                continue
            check = LogCheck(conn, self._store.logs, key, keys=keys, found=found, progress=progress)
            self._fold(refold, key, check.entries(), found)
        for stray in self._store.logs.strays(conn):
            found(Finding(f"log {stray.log}/{stray.epoch}", "it has rows, but no head"))
        self._check_epochs(conn, refold.decided.epochs, found)
        check_states(conn, self._store, found)
        check_waiting(conn, self._store, found, persons=self._persons)
        check_grants(conn, self._store, found)
        check_feeds(conn, self._store, found)
        check_reasons(conn, self._store, found)
        check_trust(conn, self._store.trust, found)
        return Report(len(logs), entries, refold.compare(), tuple(findings))

    def _signers(self, conn: Connection, found: Callable[[Finding], None]) -> dict[LogKey, VerifierKey]:
        signers = {}
        for city in self._store.cities(conn):
            try:
                signers[LogKey(city.city, city.epoch)] = parse_vkey(city.log_key)
            except Malformed as error:
                found(Finding(f"key of log {city.city}/{city.epoch}", error.message))
        return signers

    def _check_epochs(
        self, conn: Connection, opened: dict[LogKey, tuple[str, int, bytes]], found: Callable[[Finding], None]
    ) -> None:
        """Every epoch but a city's first was opened by a decision, and begins where the one before ended."""
        later = {LogKey(city.city, city.epoch): city for city in self._store.cities(conn) if city.epoch > FIRST_EPOCH}
        for key in sorted(later.keys() | opened.keys()):
            where, city, told = f"log {key.log}/{key.epoch}", later.get(key), opened.get(key)
            if city is None or told is None:
                found(Finding(where, "the registry's log and the table of cities differ in this epoch"))
                continue
            previous, _ = previous_head(conn, self._store, key, trust_domain=self._trust_domain)
            if (city.log_key, previous.size, previous.root) != told:
                found(Finding(where, "the epoch was opened with another key, or at another head of the one before"))
            first = self._store.logs.entries_at(conn, key, [0]).get(0)
            if first is not None and not binds(first.record, city=key.log, epoch=key.epoch, previous=previous):
                found(Finding(position(key, 0), "the epoch does not begin where the one before it ended"))

    def _fold(
        self,
        refold: Refold,
        key: LogKey,
        chunks: Iterator[Sequence[StoredEntry]],
        found: Callable[[Finding], None],
    ) -> None:
        if key.log != REGISTRY_LOG:
            refold.read_city(key, chunks)
            return
        for chunk in chunks:
            refold.decided.read(key, chunk, found)

    def _keys(self, key: LogKey, signers: dict[LogKey, VerifierKey]) -> LogKeys | None:
        if key.log == REGISTRY_LOG:
            origin = registry_origin(self._trust_domain, key.epoch)
            return LogKeys(origin, log_verifier_key(origin, self._log_key), None)
        signer = signers.get(key)
        if signer is None:
            return None
        return LogKeys(city_log_origin(self._trust_domain, key.log, key.epoch), signer, self._cosigner)
