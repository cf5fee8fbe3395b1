"""Check everything that a city node stores against the records that it rests on.

Each epoch's log, and the mirror of the registry's, is rebuilt from its records
(see :mod:`elicense.log.survey`), then licences are derived from them and from the registry's feed again, some at
a time, and compared (see :mod:`city_node.license_check`), then whatever is
stored is gone through for what neither knows.  Each step has a transaction of
its own, and first reads on in log and feed to where they end in it: so a node
may serve meanwhile, and no transaction is long.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from city_node.mirror import RegistryHistory
from city_node.store import CityStore
from city_node.sweeps import Sweeps
from elicense.errors import Malformed
from elicense.log.check import Finding, LogKeys, position
from elicense.log.check_run import CheckRun, Report, Stage, whole
from elicense.log.checkpoint import Checkpoint
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey
from elicense.log.survey import Survey
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.database import Database
from elicense.trust.check import check_trust
from elicense.trust.enrollment import city_log_origin
from elicense.view.opening import binds
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Fsck:
    """Recomputes and compares; writes nothing but its own file.

    Args:
        database: The city's database.
        store: Its tables.
        persons: Computes person and name tags.
        trust_domain: Prefix of the log's origin.
        city: Division code.
        cosigner: Key of the registry's receipts.
        progress: Called with the number of entries checked since the last call.
        registry: Keys of the registry's log, of which the city keeps a mirror.
        path: Where it notes how far it has come; None for a run that nothing goes on with.
        anew: Start from the beginning, whatever an earlier run has noted.
        tell: Called with a sentence when it goes on with an earlier run, or can not.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: CityStore,
        persons: PersonIndex,
        trust_domain: str,
        city: int,
        cosigner: VerifierKey,
        progress: Callable[[int], None],
        registry: RegistryHistory,
        path: Path | None = None,
        anew: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._store = store
        self._persons = persons
        self._trust_domain = trust_domain
        self._city = city
        self._cosigner = cosigner
        self._progress = progress
        self._registry = registry
        self._path = path
        self._anew = anew
        self._tell = tell

    def run(self) -> Report:
        """Check everything.

        Raises:
            StoreUnavailable: The database is away; a later run goes on from there.
            StoreCorrupt: The database itself can not be read.
            Unavailable: Another check of this node is running.
        """
        about = f"city {self._city} of {self._trust_domain}"
        run = CheckRun(self._database, self._path, about=about, anew=self._anew, tell=self._tell)
        try:
            return self._run(run)
        finally:
            run.close()

    def _run(self, run: CheckRun) -> Report:
        parts = self._parts(run)
        if run.goes_on:
            misfit = run.step(parts.survey.misfit)
            if misfit is None:
                self._tell(f"goes on with an earlier run, behind {parts.survey.checked(but=REGISTRY_LOG)[1]:,} entries")
            else:
                run.start_anew(misfit)
                parts = self._parts(run)
        run.stage("logs", parts.read_logs)
        for name, stage in parts.sweeps.stages.items():
            run.stage(name, parts.up_to_date(stage))
        for name, stage in self._rest(run, parts).items():
            run.stage(name, parts.up_to_date(stage))
        logs, entries = parts.survey.checked(but=REGISTRY_LOG)
        return run.end(logs=logs, entries=entries, licenses=parts.sweeps.licenses)

    def _parts(self, run: CheckRun) -> _Parts:
        sweeps = Sweeps(run, self._store, persons=self._persons, city=self._city)
        survey = Survey(
            run.scratch,
            self._store.logs,
            keys_of=self._keys_of,
            read=sweeps.read,
            found=run.found,
            progress=self._progress,
        )
        return _Parts(survey, sweeps)

    def _keys_of(self, conn: Connection, key: LogKey) -> LogKeys | None:
        if key.log == REGISTRY_LOG:
            signer = self._registry.key(key.epoch)
            return LogKeys(signer.name, signer, None)
        known = self._store.epoch_keys(conn, self._city).get(key.epoch)
        if key.log != self._city or known is None:
            return None
        try:
            signer = parse_vkey(known.log_key)
        except Malformed:
            return None
        return LogKeys(city_log_origin(self._trust_domain, key.log, key.epoch), signer, self._cosigner)

    def _rest(self, run: CheckRun, parts: _Parts) -> dict[str, Stage]:
        return {
            "late": parts.sweeps.check_late,
            "epochs": whole(lambda conn: self._check_logs(conn, run)),
            "links": whole(parts.sweeps.compare_links),
            "trust": whole(lambda conn: check_trust(conn, self._store.trust, run.found)),
            # What was written to since: nothing follows that could add to it.
            "latest": whole(parts.sweeps.check_latest),
        }

    def _check_logs(self, conn: Connection, run: CheckRun) -> None:
        """Every epoch must have its key, and each but the first must begin where the one before it ended."""
        logs = [key for key in self._store.logs.keys(conn) if key.log == self._city]
        if not logs:
            run.found(Finding(f"city {self._city}", "the node has no log"))
        for epoch in self._store.epoch_keys(conn, self._city).keys() ^ {key.epoch for key in logs}:
            run.found(Finding(f"log {self._city}/{epoch}", "its log and its key do not go together"))
        for stray in self._store.logs.strays(conn):
            run.found(Finding(f"log {stray.log}/{stray.epoch}", "it has rows, but no head"))
        for key in logs:
            if key.epoch != FIRST_EPOCH:
                self._check_opening(conn, run, key)

    def _check_opening(self, conn: Connection, run: CheckRun, key: LogKey) -> None:
        try:
            before = self._store.logs.head(conn, LogKey(key.log, key.epoch - 1))
        except Malformed:
            before = None
        first = self._store.logs.entries_at(conn, key, [0]).get(0)
        origin = city_log_origin(self._trust_domain, key.log, key.epoch - 1)
        previous = None if before is None else Checkpoint(origin, before.size, before.root)
        bound = (
            first is not None
            and previous is not None
            and binds(first.record, city=key.log, epoch=key.epoch, previous=previous)
        )
        if not bound:
            run.found(Finding(position(key, 0), "the epoch does not begin where the one before it ended"))


class _Parts:
    """The steps of one run."""

    def __init__(self, survey: Survey, sweeps: Sweeps) -> None:
        self.survey = survey
        self.sweeps = sweeps

    def read_logs(self, conn: Connection, _after: bytes | None) -> bytes | None:
        """Check some of the logs, then read the feed."""
        if not self.survey.step(conn):
            return b""
        return None if self.sweeps.hear(conn) else b""

    def up_to_date(self, step: Stage) -> Stage:
        """Return a step that first reads on in log and feed."""

        def one(conn: Connection, after: bytes | None) -> bytes | None:
            while self.read_logs(conn, None) is not None:
                pass
            return step(conn, after)

        return one
