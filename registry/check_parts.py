"""The steps of a check of the registry: the logs, the licences, and what only all logs together say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from elicense.errors import Malformed
from elicense.log.check import Finding, LogKeys, position
from elicense.log.check_run import CheckRun, Stage, whole
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey, StoredEntry
from elicense.log.survey import Survey
from elicense.log.verifier_key import parse_vkey
from elicense.trust.check import check_trust
from elicense.v1 import license_pb2
from elicense.view.fold import LICENSE_ID_SIZE
from elicense.view.opening import binds
from elicense.view.person import PersonIndex
from registry.check_state import (
    check_feed,
    check_marks,
    check_reasons,
    check_states,
    check_told,
    check_waiting,
    next_feed,
)
from registry.decided import Decided
from registry.epochs import previous_head
from registry.license_check import LicenseCheck
from registry.postponed import check_postponed
from registry.store import RegistryStore
from registry.sweeps import Sweeps

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CITY: Final = Struct(">q")
#: Licences that one step folds.
_LICENSES: Final = 500
#: Decisions that are held at once: one may grant a thousand claims, which takes 60 kB.
_REPLAYED: Final = 128


class Parts:
    """The steps of one run.

    Args:
        run: The run.
        store: The registry's tables.
        persons: Computes person and name tags.
        trust_domain: Prefix of log origins.
        keys_of: Says with which keys a log is signed; None for one that nobody enrolled.
        progress: Called with the number of entries checked since the last call.

    Attributes:
        decided: What the registry's log has decided, as far as it was read.
        survey: Goes through the logs.
        sweeps: Goes through what is stored besides.
    """

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

    @property
    def rest(self) -> dict[str, Stage]:
        """What comes after the pages: whatever is small, and what only all logs together say."""
        store, found = self._store, self._run.found
        return {
            "late": self._check_late,
            "links": self._behind_latest(self.sweeps.links.compare),
            "missing links": self._behind_latest(self.sweeps.links.compare_asked),
            "decided": whole(self.sweeps.check_decided),
            "enrolled": whole(self._check_enrolled),
            "epochs": whole(self._check_epochs),
            "own epochs": whole(self._check_own_epochs),
            "states": whole(lambda conn: check_states(conn, store, found)),
            "waiting": whole(lambda conn: check_waiting(conn, store, found, persons=self._persons)),
            "postponed": whole(lambda conn: check_postponed(conn, store, found)),
            "feeds": self._check_feeds,
            "told": whole(lambda conn: check_told(conn, store, found, logged=self.decided.told)),
            "marks": whole(lambda conn: check_marks(conn, store, found)),
            "reasons": whole(lambda conn: check_reasons(conn, store, found)),
            "trust": whole(lambda conn: check_trust(conn, store.trust, found)),
            # What was written to since: nothing follows that could add to it.
            "latest": whole(self._check_latest),
        }

    def _check_late(self, conn: Connection, _after: bytes | None) -> bytes | None:
        """Compare some of the licences once more that were written to meanwhile."""
        licenses: list[bytes] = self._late.firsts(None, _LICENSES)
        self.sweeps.check(conn, licenses)
        self._late.drop((license_id,) for license_id in licenses)
        return b"" if licenses else None

    def _check_latest(self, conn: Connection) -> None:
        while self._check_late(conn, None) is not None:
            pass

    def _behind_latest(self, step: Stage) -> Stage:
        """Return a step before which all is compared that was written to: then the links that it asks for are known."""

        def one(conn: Connection, after: bytes | None) -> bytes | None:
            self._check_latest(conn)
            return step(conn, after)

        return one

    def _check_feeds(self, conn: Connection, after: bytes | None) -> bytes | None:
        city = next_feed(conn, self._store, None if after is None else _CITY.unpack(after)[0])
        if city is None:
            return None
        check_feed(conn, self._store, self._run.found, city=city, unreadable=self._unreadable)
        return _CITY.pack(city)

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
