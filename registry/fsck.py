"""Check everything that the registry stores against the records that it rests on.

Every log is rebuilt from its records (see :mod:`elicense.log.survey`), then the
licences are folded again, some at a time, and compared (see
:mod:`registry.license_check`), then whatever is stored is gone through for what
no log knows.  Each step has a transaction of its own, and first reads on in the
logs to where they end in it: so a registry may serve meanwhile, and no
transaction is long.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from elicense.errors import Malformed
from elicense.log.check import LogKeys
from elicense.log.check_run import CheckRun, Report
from elicense.log.checkpoint import cosigner_verifier_key, log_verifier_key
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.sql.database import Database
from elicense.trust.enrollment import city_log_origin
from elicense.view.person import PersonIndex
from registry.check_parts import Parts
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


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
        for name, stage in parts.rest.items():
            run.stage(name, parts.up_to_date(stage))
        logs, entries = parts.survey.checked()
        return run.end(logs=logs, entries=entries, licenses=parts.sweeps.licenses)

    def _parts(self, run: CheckRun) -> Parts:
        return Parts(
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
