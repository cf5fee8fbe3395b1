"""The task that keeps what proves that a city wrote of a licence without custody: by itself, once the registry says so.

The registry tells a city of each of its records that has no effect because it had no
custody.  Those words are read here, and each is judged as a court would: where the
registry's log or another city's proves that the record broke custody, evidence is
kept and an alarm is raised.  A record that crossed a hand-over proves nothing, however
late it is: it does only behind the size of its log at which the city signed that it knew.

How far they have been judged is a table, and what is judged looks up the decision that
it was written upon in another (:mod:`registry.custody_store`), which is filled from the
registry's log first: so a look costs what is new, and no city's words wait for another's.

What is kept names the two entries and holds nothing of them: they stand in the logs,
an erased licence is erased here too, and `elicense-registry prove-breach` makes the
file for a court.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from elicense.errors import Malformed, NotFound
from elicense.log.checkpoint import log_verifier_key
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from elicense.verification.evidence_file import confirm
from registry.custody_proof import custody_evidence, next_decisions, shown_by
from registry.custody_store import CustodyDecision
from registry.evidence_store import EVIDENCE_PER_REASON
from registry.history import own_epochs
from registry.model import NotedDisposition
from registry.names import registry_origin
from registry.store import RegistryStore
from registry.told_store import Mark
from registry.unacknowledged import UnacknowledgedGauge
from registry.woken import Woken

if TYPE_CHECKING:
    from sqlalchemy import Connection

CUSTODY_BROKEN: Final = "CUSTODY_BROKEN"
"""Why the evidence of this module is kept."""

_NOT_IN_CUSTODY: Final = int(replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY)
#: How long nothing is looked at unless a batch says so.
_LOOK_S: Final = 5.0
#: Words of a city judged before it is the next city's turn.
_WORDS_PER_TURN: Final = 64
#: Numbers of a feed among which they are looked for.
_NUMBERS_PER_TURN: Final = 4_096

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

    Attributes:
        task: Judges in the background.
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
        self._found = Counter(
            "elicense_custody_breaches",
            f"Records of a city that were proved to break custody, up to {EVIDENCE_PER_REASON} a city.",
            ["city"],
            registry=metrics,
        )
        self._unacknowledged = UnacknowledgedGauge(database=database, store=store, leads=leads, metrics=metrics)
        # Woken when a batch brings a record without custody.
        self.task = Woken(self._work, every_s=look_s, failed="custody_not_judged")

    async def look(self) -> int:
        """Judge what the registry told cities since; return how many breaches were found that were not known.

        Raises:
            StoreUnavailable: The database is away.
        """
        # Before the log is read on: whatever one of these words was written upon is in it by now.
        due = await self._database.read(self._store.feeds.ends)
        await self._read_on()
        found = 0
        while due:
            for city, last in sorted(due.items()):
                more = await self._turn(city, last)
                found += more or 0
                if more is None:
                    del due[city]
        return found

    async def _read_on(self) -> None:
        """Note what the registry has decided about custody since, a page at a time."""
        while (read := await self._database.read(lambda conn: next_decisions(conn, self._store))) is not None:
            await self._database.write(partial(self._note, *read))

    def _note(self, key: LogKey, reached: int, decisions: Sequence[CustodyDecision], conn: Connection) -> None:
        self._store.custody.add(conn, decisions)
        self._store.told.reach(conn, REGISTRY_LOG, Mark.DECIDED, reached, key.epoch)

    async def _turn(self, city: int, last: int) -> int | None:
        """Judge some words of a city; return how many breaches were found, or None when there is no more to judge."""
        # Shown from the start, at nothing: only then can an alert see it rise.
        self._found.labels(str(city))
        after, words, kept = await self._database.read(partial(self._words, city, last))
        if after >= last:
            return None
        found, judged = 0, min(last, after + _NUMBERS_PER_TURN)
        if kept >= EVIDENCE_PER_REASON:
            words, judged = [], last
        elif len(words) == _WORDS_PER_TURN:
            judged = words[-1].seq
        waits = False
        for word in words:
            # One at a time: no transaction is long.
            breach, waits = await self._database.read(partial(self._judge, LogKey(city, word.epoch), word.idx))
            if waits:
                # The next commit of that log brings the signature.
                judged = word.seq - 1
                break
            if breach is not None and await self._keep(city, breach):
                self._found.labels(str(city)).inc()
                found += 1
        if judged > after:
            await self._database.write(lambda conn: self._store.told.reach(conn, city, Mark.JUDGED, judged))
        return None if waits and not found else found

    def _words(self, city: int, last: int, conn: Connection) -> tuple[int, list[NotedDisposition], int]:
        """Return up to where a city's feed was judged, words to be judged next, and how much evidence is kept."""
        reached = self._store.told.reached(conn, city, Mark.JUDGED)
        after = self._store.feeds.next_behind(conn, city, reached, until=last)
        until = min(last, after + _NUMBERS_PER_TURN)
        words = self._store.feeds.of_kind(conn, city, _NOT_IN_CUSTODY, after=after, until=until, limit=_WORDS_PER_TURN)
        return after, words, self._store.evidence.counts(conn, CUSTODY_BROKEN).get(city, 0)

    def _judge(self, key: LogKey, index: int, conn: Connection) -> tuple[Breach | None, bool]:
        """Return what a record is proved to be, and whether a signature is missing that will come."""
        store = self._store
        try:
            follows = shown_by(conn, store, key, index)
            if follows is None:
                return None, False
            if any(store.logs.commits.first_signed(conn, *place) is None for place in ((key, index), follows)):
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
            lambda conn: self._store.evidence.add(
                conn, city=city, digest=digest, reason=CUSTODY_BROKEN, body=body, now_us=now_us
            )
        )
        if is_new:
            _log.error("custody_broken", city=city, epoch=breach.record.epoch, index=breach.index)
        return is_new

    async def _work(self, asked: bool) -> None:
        if asked or self._leads():
            await self.look()
        # Behind it: when something was decided is known once the log has been read on.
        await self._unacknowledged.look()
