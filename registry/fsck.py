"""Check everything that the registry stores against the records that it rests on.

Every log is rebuilt from its records (see :mod:`elicense.log.survey`), then the
licences are folded again, some at a time, and compared (see
:mod:`registry.license_check`), then whatever is stored is gone through for what
no log knows.  Each step has a transaction of its own, and first reads on in the
logs to where they end in it: so a registry may serve meanwhile, and no
transaction is long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from elicense.errors import Malformed
from elicense.log.check import Finding, LogKeys, position
from elicense.log.check_run import CheckRun, Report
from elicense.log.checkpoint import cosigner_verifier_key, log_verifier_key
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey, StoredEntry
from elicense.log.survey import Survey
from elicense.log.verifier_key import parse_vkey
from elicense.sql.database import Database
from elicense.trust.check import check_trust
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import license_pb2
from elicense.view.fold import LICENSE_ID_SIZE
from elicense.view.opening import binds
from elicense.view.person import PersonIndex
from registry.check_state import check_feeds, check_reasons, check_states, check_waiting
from registry.decided import Decided
from registry.epochs import previous_head
from registry.license_check import LicenseCheck
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore
from registry.sweeps import Sweeps

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Licences that one step folds.
_LICENSES: Final = 500
_REPLAYED: Final = 2_048


class Fsck:
    """Recomputes and compares; writes nothing but its own file.

    Args:
        database: The registry's database.
        store: Its tables.
        persons: Computes person and name tags.
        trust_domain: Prefix of log origins.
        log_key: Public key of the registry's own log, 32 bytes.
        cosigner_key: Public key of its receipts, 32 bytes.
        progress: Called with the number of entries checked since the last call.
        path: Where it notes how far it has come; None for a run that nothing goes on with.
        anew: Start from the beginning, whatever an earlier run has noted.
        tell: Called with a sentence when it goes on with an earlier run, or can not.
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
        path: Path | None = None,
        anew: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._store = store
        self._persons = persons
        self._trust_domain = trust_domain
        self._log_key = log_key
        self._cosigner = cosigner_verifier_key(cosigner_name(trust_domain), cosigner_key)
        self._progress = progress
        self._path = path
        self._anew = anew
        self._tell = tell

    def run(self) -> Report:
        """Check everything.

        Raises:
            StoreUnavailable: The database is away; a later run goes on from there.
            StoreCorrupt: The database itself can not be read.
            Unavailable: Another check of this registry is running.
        """
        run = CheckRun(
            self._database,
            self._path,
            about=f"registry of {self._trust_domain}, log key {self._log_key.hex()}",
            anew=self._anew,
            tell=self._tell,
        )
        try:
            return self._run(run)
        finally:
            run.close()

    def _run(self, run: CheckRun) -> Report:
        parts = self._parts(run)
        if run.goes_on:
            misfit = run.step(parts.survey.misfit)
            if misfit is None:
                run.step(parts.replay)
                self._tell(f"goes on with an earlier run, behind {parts.survey.checked()[1]:,} entries")
            else:
                run.start_anew(misfit)
                parts = self._parts(run)
        run.stage("logs", parts.read_logs)
        run.stage("licenses", parts.check_licenses)
        for name, stage in parts.sweeps.stages.items():
            run.stage(name, parts.up_to_date(stage))
        run.stage("rest", parts.check_rest)
        logs, entries = parts.survey.checked()
        return run.end(logs=logs, entries=entries, licenses=parts.sweeps.licenses)

    def _parts(self, run: CheckRun) -> _Parts:
        return _Parts(
            run,
            self._store,
            persons=self._persons,
            trust_domain=self._trust_domain,
            keys_of=self._keys_of,
            progress=self._progress,
        )

    def _keys_of(self, conn: Connection, key: LogKey) -> LogKeys | None:
        if key.log == REGISTRY_LOG:
            origin = registry_origin(self._trust_domain, key.epoch)
            return LogKeys(origin, log_verifier_key(origin, self._log_key), None)
        for city in self._store.epochs(conn, key.log):
            if city.epoch == key.epoch:
                try:
                    signer = parse_vkey(city.log_key)
                except Malformed:
                    return None  # reported with the cities
                return LogKeys(city_log_origin(self._trust_domain, key.log, key.epoch), signer, self._cosigner)
        return None


class _Parts:
    """The steps of one run."""

    def __init__(
        self,
        run: CheckRun,
        store: RegistryStore,
        *,
        persons: PersonIndex,
        trust_domain: str,
        keys_of: Callable[[Connection, LogKey], LogKeys | None],
        progress: Callable[[int], None],
    ) -> None:
        self._run = run
        self._store = store
        self._persons = persons
        self._trust_domain = trust_domain
        self.decided = Decided.of(run.scratch)
        self._places = run.scratch.shelf("place", keys=4)
        # Licences that were written to once they had been compared.
        self._late = run.scratch.shelf("late", keys=1)
        self._unreadable = run.scratch.shelf("unreadable", keys=3)
        self.survey = Survey(
            run.scratch, store.logs, keys_of=keys_of, read=self._read, found=run.found, progress=progress
        )
        check = LicenseCheck(store, persons=persons, decided=self.decided, places=self._places, found=run.found)
        self.sweeps = Sweeps(run, store, check=check, decided=self.decided, places=self._places)

    def replay(self, conn: Connection) -> None:
        """Read the registry's own log again up to where an earlier run came: what it decided is held in memory."""
        for log, epoch, size in sorted(self._store.logs.sizes(conn)):
            index = 0
            key = LogKey(log, epoch)
            while log == REGISTRY_LOG and index < size:
                chunk = self._store.logs.entries(conn, key, index, _REPLAYED)
                if not chunk:
                    break
                self.decided.read(key, chunk, self._run.found)
                index = chunk[-1].index + 1

    def read_logs(self, conn: Connection, _after: bytes | None) -> bytes | None:
        """Check some of the logs."""
        return None if self.survey.step(conn) else b""

    def check_licenses(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Compare some licences."""
        self._catch_up(conn)
        licenses: list[bytes] = self._places.firsts(after, _LICENSES)
        self.sweeps.check(conn, licenses)
        return licenses[-1] if licenses else None

    def up_to_date(
        self, step: Callable[[Connection, bytes | None], bytes | None]
    ) -> Callable[[Connection, bytes | None], bytes | None]:
        """Return a step that first reads on in the logs."""

        def one(conn: Connection, after: bytes | None) -> bytes | None:
            self._catch_up(conn)
            return step(conn, after)

        return one

    def check_rest(self, conn: Connection, _after: bytes | None) -> bytes | None:
        """Compare whatever is small, and what only all logs together say, in one transaction."""
        self._catch_up(conn)
        after: bytes | None = None
        while licenses := self._late.firsts(after, _LICENSES):
            self.sweeps.check(conn, licenses)
            after = licenses[-1]
        store, found = self._store, self._run.found
        self._check_enrolled(conn)
        self._check_epochs(conn)
        self._check_own_epochs(conn)
        self.sweeps.check_decided(conn)
        check_states(conn, store, found)
        check_waiting(conn, store, found, persons=self._persons)
        check_feeds(conn, store, found, unreadable=self._unreadable)
        check_reasons(conn, store, found)
        check_trust(conn, store.trust, found)
        return None

    def _catch_up(self, conn: Connection) -> None:
        while not self.survey.step(conn):
            pass

    def _read(self, _conn: Connection, key: LogKey, entries: Sequence[StoredEntry]) -> None:
        """Take note of what entries are about."""
        if key.log == REGISTRY_LOG:
            self.decided.read(key, entries, self._run.found)
            return
        places = [
            (license_id, key.log, key.epoch, entry.index)
            for entry in entries
            if (license_id := _license_of(entry.record))
        ]
        self._places.put(places)
        done = self._run.at("licenses")
        if done is not None:
            self._late.put({(place[0],) for place in places})

    def _check_enrolled(self, conn: Connection) -> None:
        """Every enrolled city must have its log, and every log its city."""
        found = self._run.found
        logs = {LogKey(log, epoch) for log, epoch, _ in self._store.logs.sizes(conn)}
        for city in self._store.cities(conn):
            key = LogKey(city.city, city.epoch)
            if key not in logs:
                found(Finding(f"log {key.log}/{key.epoch}", "the city is enrolled, but its log is missing"))
            try:
                parse_vkey(city.log_key)
            except Malformed as error:
                found(Finding(f"key of log {key.log}/{key.epoch}", error.message))
        if not any(key.log == REGISTRY_LOG for key in logs):
            found(Finding("log 0", "the registry's own log is missing"))
        for stray in self._store.logs.strays(conn):
            found(Finding(f"log {stray.log}/{stray.epoch}", "it has rows, but no head"))

    def _check_own_epochs(self, conn: Connection) -> None:
        """Every epoch of the registry's own log but the first says where the one before it ended."""
        own = [LogKey(log, epoch) for log, epoch, _ in sorted(self._store.logs.sizes(conn)) if log == REGISTRY_LOG]
        for before, key in pairwise(own):
            head = self._store.logs.head(conn, before)
            if head is None or self.decided.own_epochs.get(key.epoch) != (before.epoch, head.size, head.root):
                where = f"log {REGISTRY_LOG}/{key.epoch}"
                self._run.found(Finding(where, "the epoch does not begin where the one before it ended"))

    def _check_epochs(self, conn: Connection) -> None:
        """Every epoch but a city's first was opened by a decision, and begins where the one before ended."""
        opened, found = self.decided.epochs, self._run.found
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


def _license_of(record: bytes | None) -> bytes:
    """Return which licence a record says that it is about; empty for none."""
    try:
        license_id = license_pb2.LicenseRecord.FromString(record or b"").license_id
    except DecodeError:
        return b""
    return license_id if len(license_id) == LICENSE_ID_SIZE else b""
