"""The task that keeps what proves that a city wrote of a licence without custody: by itself, once the registry says so.

The registry tells a city of each of its records that has no effect because it had no
custody.  Those words are read here, and each is judged as a court would: where the
registry's log or another city's proves that the record broke custody, evidence is
kept and an alarm is raised.  A record that crossed a hand-over proves nothing, however
late it is: it does only behind the size of its log at which the city signed that it knew.

What is kept names the two entries and holds nothing of them: they stand in the logs,
an erased licence is erased here too, and `elicense-registry prove-breach` makes the
file for a court.  The words are a table, so nothing is missed when a process ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from elicense.errors import Error, Malformed, NotFound
from elicense.log.checkpoint import log_verifier_key
from elicense.log.model import LogKey
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from elicense.verification.evidence_file import confirm
from registry.custody_proof import custody_evidence, shown_by
from registry.history import own_epochs
from registry.names import registry_origin
from registry.store import EVIDENCE_PER_REASON, RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

CUSTODY_BROKEN: Final = "CUSTODY_BROKEN"
"""Why the evidence of this module is kept."""

_NOT_IN_CUSTODY: Final = int(replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY)
#: How long nothing is looked at unless a batch says so.
_LOOK_S: Final = 5.0
#: Words of a city judged in one look: each may read far into the registry's log, and no city may keep it busy.
_WORDS_PER_LOOK: Final = 4
#: Numbers of a feed that are read once more after a start; whoever stopped may not have judged them.
_READ_AGAIN: Final = 1_000

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Breach:
    """A record that is proved to break custody.

    Attributes:
        record: Where it stands.
        index: Its index there.
        shown_by: Log of the entry that proves it.
        shown_index: The index of that entry.
    """

    record: LogKey
    index: int
    shown_by: LogKey
    shown_index: int

    def format(self) -> bytes:
        """Return it as it is kept."""
        record = {"city": self.record.log, "epoch": self.record.epoch, "index": self.index}
        follows = {"city": self.shown_by.log, "epoch": self.shown_by.epoch, "index": self.shown_index}
        return json.dumps({"custody": "elicense/1", "record": record, "follows": follows}).encode() + b"\n"

    @classmethod
    def parse(cls, body: bytes) -> Breach:
        """Read what is kept.

        Raises:
            Malformed: It is something else.
        """
        try:
            values = json.loads(body)
            record, follows = values["record"], values["follows"]
            return cls(
                LogKey(int(record["city"]), int(record["epoch"])),
                int(record["index"]),
                LogKey(int(follows["city"]), int(follows["epoch"])),
                int(follows["index"]),
            )
        except (ValueError, KeyError, TypeError):
            raise Malformed("what is kept as evidence of a broken custody rule is not that") from None


class Breaches:
    """Judges records without custody, in the background.

    Args:
        database: The registry's database.
        store: Its tables.
        trust_domain: Prefix of log origins.
        public_key: Public key of the registry's own log, 32 bytes.
        leads: Whether this process looks unasked.
        metrics: Where breaches are shown.
        clock: UTC microseconds.
        look_s: How often to look unasked, seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        trust_domain: str,
        public_key: bytes,
        leads: Callable[[], bool],
        metrics: CollectorRegistry,
        clock: Callable[[], int],
        look_s: float = _LOOK_S,
    ) -> None:
        self._database = database
        self._store = store
        self._trust_domain = trust_domain
        self._public_key = public_key
        self._leads = leads
        self._clock = clock
        self._look_s = look_s
        self._found = Counter(
            "elicense_custody_breaches",
            f"Records of a city that were proved to break custody, up to {EVIDENCE_PER_REASON} a city.",
            ["city"],
            registry=metrics,
        )
        # Up to which number each city's feed was judged.
        self._judged: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="breaches")

    def wake(self) -> None:
        """Look soon: a batch brought a record without custody."""
        self._wake.set()

    async def stop(self) -> None:
        """End; what is not judged yet is after the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> int:
        """Judge what the registry told cities since; return how many breaches were found that were not known.

        Raises:
            StoreUnavailable: The database is away.
        """
        found = 0
        for city, last in sorted((await self._database.read(self._store.feeds)).items()):
            found += await self._look_at(city, last)
        return found

    async def _look_at(self, city: int, last: int) -> int:
        # Shown from the start, at nothing: only then can an alert see it rise.
        self._found.labels(str(city))
        after = self._judged.setdefault(city, max(0, last - _READ_AGAIN))
        if after >= last:
            return 0
        words, kept = await self._database.read(
            lambda conn: (
                self._store.words(conn, city, _NOT_IN_CUSTODY, after=after, until=last, limit=_WORDS_PER_LOOK),
                self._store.evidence_counts(conn, CUSTODY_BROKEN).get(city, 0),
            )
        )
        found = 0
        for word in [] if kept >= EVIDENCE_PER_REASON else words:
            key, index = LogKey(city, word.epoch), word.idx
            # One at a time: no transaction is long.
            breach, waits = await self._database.read(lambda conn, key=key, index=index: self._judge(conn, key, index))  # type: ignore[misc]
            if waits:
                # The next commit of that log brings the signature.
                return found
            if breach is not None and await self._keep(city, breach):
                self._found.labels(str(city)).inc()
                found += 1
            self._judged[city] = word.seq
        if kept >= EVIDENCE_PER_REASON or len(words) < _WORDS_PER_LOOK:
            self._judged[city] = max(last, self._judged[city])
        return found

    def _judge(self, conn: Connection, key: LogKey, index: int) -> tuple[Breach | None, bool]:
        """Return what a record is proved to be, and whether a signature is missing that will come."""
        store = self._store
        try:
            follows = shown_by(conn, store, key, index)
            if follows is None:
                return None, False
            if any(store.logs.first_signed(conn, *place) is None for place in ((key, index), follows)):
                return None, True
            confirm(custody_evidence(conn, store, key, index), self._keys(conn))
        except (NotFound, Malformed):
            return None, False
        return Breach(key, index, *follows), False

    def _keys(self, conn: Connection) -> list[VerifierKey]:
        own = [registry_origin(self._trust_domain, epoch) for epoch in own_epochs(conn, self._store.logs)]
        keys = [log_verifier_key(origin, self._public_key) for origin in own]
        return keys + [parse_vkey(city.log_key) for city in self._store.cities(conn)]

    async def _keep(self, city: int, breach: Breach) -> bool:
        body, now_us = breach.format(), self._clock()
        digest = sha256(body).digest()
        is_new = await self._database.write(
            lambda conn: self._store.add_evidence(
                conn, city=city, digest=digest, reason=CUSTODY_BROKEN, body=body, now_us=now_us
            )
        )
        if is_new:
            _log.error("custody_broken", city=city, epoch=breach.record.epoch, index=breach.index)
        return is_new

    async def _run(self) -> None:
        while True:
            asked = self._wake.is_set()
            self._wake.clear()
            try:
                if asked or self._leads():
                    await self.look()
            except Error as error:
                _log.warning("custody_not_judged", reason=error.reason)
            except Exception as error:  # the task must outlive any one failure
                _log.error("custody_not_judged", exc_info=error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._look_s)
