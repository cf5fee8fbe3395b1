"""From a refused batch to a quarantine: judge it, keep the evidence, write the decision to the registry's log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from elicense.errors import DataLoss, Malformed, NotFound, Quarantined, StoreCorrupt
from elicense.log.model import LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.sql.database import Database
from elicense.trust.spiffe import city_id
from elicense.verification.evidence_file import confirm, format_evidence
from elicense.verification.head_evidence import HeadEvidence
from registry.batch import Batch
from registry.heads import open_head
from registry.judging import Judgement, Unexplained, judge
from registry.model import City
from registry.quarantine import ApproveRelease, AskRelease, NoteExplained, OpenQuarantine, QuarantineCommand, opens
from registry.quarantine_model import Kind, Quarantine
from registry.store import RegistryStore
from registry.undecided_forks import undecided_fork, undecided_forks
from registry.woken import Woken

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.stdlib.get_logger(__name__)
#: Between two looks for forks that were proved and not decided, seconds: the registry ended in between, which is rare.
_KEPT_S: Final = 60.0


class Quarantining(Protocol):
    """Writes decisions about quarantines to the registry's log."""

    async def quarantine(self, command: QuarantineCommand) -> Quarantine | None:
        """Decide; what was decided is durable on return.  None when nothing changes."""


class Disputes:
    """Judges what cities signed, and keeps the quarantines.

    Args:
        database: The registry's database.
        store: Its tables.
        log: Writes the decisions.
        trust_domain: Prefix of log origins.
        cosigner_name: Name of the cosigner's key.
        metrics: Where quarantined cities are shown.
        clock: UTC microseconds.
        say_free: Says by the health service whether no city is in quarantine; None where there is none.
        log_is_whole: Whether the registry holds its own log whole: only then it decides.

    Attributes:
        task: Decides in the background upon forks that were proved and not decided.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        log: Quarantining,
        trust_domain: str,
        cosigner_name: str,
        metrics: CollectorRegistry,
        clock: Callable[[], int],
        say_free: Callable[[bool], Awaitable[None]] | None = None,
        log_is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._store = store
        self._log = log
        self._say_free = say_free
        self._trust_domain = trust_domain
        self._cosigner_name = cosigner_name
        self._clock = clock
        self._log_is_whole = log_is_whole
        self.task = Woken(self._judge_kept, every_s=_KEPT_S, failed="kept_evidence_not_judged")
        self._gauge = Gauge(
            "elicense_quarantined", "1 while the log of a city is not taken in.", ["city", "kind"], registry=metrics
        )

    async def raise_over(self, batch: Batch, reason: str) -> None:
        """Judge a batch that was refused; the city may be in quarantine afterwards.

        Args:
            batch: What was sent.
            reason: Reason of the refusal.

        Raises:
            StoreCorrupt: The registry's own log can not be derived again: that is its own damage.
            StoreUnavailable: The database is away.
        """
        judgement = await self._database.read(lambda conn: self._judge(conn, batch, reason))
        if judgement is None or (judgement.evidence is None and reason == Quarantined.reason):
            return
        kind = Kind.UNEXPLAINED if judgement.evidence is None else Kind.FORK
        body = batch.checkpoint if judgement.evidence is None else format_evidence(judgement.evidence)
        digest = sha256(body).digest()
        now_us = self._clock()
        # First what proves it, then the decision that cites it.

        def keep(conn: Connection) -> bool:
            cited = self._is_to_be_cited(conn, batch, kind)
            self._store.evidence.add(
                conn, city=batch.city, digest=digest, reason=reason, body=body, now_us=now_us, cited=cited
            )
            return self._store.evidence.body(conn, batch.city, digest) is not None

        if await self._database.write(keep):
            signed = judgement.signed
            await self._open(OpenQuarantine(batch.city, batch.epoch, kind, signed.size, signed.root, digest))
        await self.refresh()

    async def judge_kept(self) -> int:
        """Bring each city into quarantine that is proved to have forked while nothing could be decided.

        Returns:
            How many were; none while the registry's own log is in doubt.

        Raises:
            StoreUnavailable: The database is away.
        """
        if not self._log_is_whole():
            return 0
        due = await self._database.read(lambda conn: undecided_forks(conn, self._store))
        opened = [await self._open(command) for command in due]
        if due:
            await self.refresh()
        return sum(opened)

    async def explained(self, city: int, epoch: int, size: int) -> None:
        """End the quarantine of a city that has sent what leads to its unexplained head.

        Raises:
            StoreUnavailable: The database is away; the city's next call ends it.
        """
        ended = await self._decide_if_whole(NoteExplained(city, epoch, size, str(city_id(self._trust_domain, city))))
        if ended is not None:
            _log.info("quarantine_explained", city=city, epoch=epoch)
        await self.refresh()

    async def ask_release(self, city: int, actor: str) -> Quarantine:
        """Ask for the end of a quarantine.

        Raises:
            NotFound: The city is not in quarantine.
        """
        return await self._decide(AskRelease(city, actor))

    async def approve_release(self, city: int, actor: str) -> Quarantine:
        """End a quarantine as a second operator.

        Raises:
            NotFound: The city is not in quarantine.
            Refused: Nobody has asked for its end, or ``actor`` did.
        """
        return await self._decide(ApproveRelease(city, actor))

    async def all(self) -> list[Quarantine]:
        """Return the last quarantine of every city epoch that had one."""
        return await self._database.read(self._store.quarantines.all)

    async def evidence(self, city: int, digest: bytes) -> bytes:
        """Return what is kept as evidence.

        Raises:
            NotFound: Nothing of that digest is kept.
        """
        body = await self._database.read(lambda conn: self._store.evidence.body(conn, city, digest))
        if body is None:
            raise NotFound("no evidence of this digest is kept against the city", city=city)
        return body

    async def refresh(self) -> None:
        """Show the quarantines as they stand to Prometheus and by the health service."""
        quarantines = await self.all()
        if self._say_free is not None:
            await self._say_free(not any(held.open for held in quarantines))
        for held in quarantines:
            kind = Kind(held.kind)
            self._gauge.labels(str(held.city), kind.name).set(held.open)
            if held.open and kind is Kind.FORK:
                self._gauge.labels(str(held.city), Kind.UNEXPLAINED.name).set(0)

    def _is_to_be_cited(self, conn: Connection, batch: Batch, kind: Kind) -> bool:
        """Whether a decision is to rest on what a batch shows, now or once decisions are made again.

        One that waits is enough: while nothing is decided a city must not fill the registry's disk.
        """
        if not opens(self._store.quarantines.of(conn, batch.city), batch.epoch, kind):
            return False
        if kind is Kind.FORK:
            return undecided_fork(conn, self._store, batch.city) is None
        return self._log_is_whole()  # nothing but a fork is decided upon later

    async def _judge_kept(self, _asked: bool) -> None:
        await self.judge_kept()

    async def _open(self, command: OpenQuarantine) -> bool:
        """Decide that a city comes into quarantine; tell whether it does."""
        if await self._decide_if_whole(command) is None:
            return False
        _log.error(
            "city_quarantined", city=command.city, epoch=command.epoch, kind=command.kind.name, size=command.size
        )
        return True

    async def _decide_if_whole(self, command: OpenQuarantine | NoteExplained) -> Quarantine | None:
        """Decide upon what a city sent; None when nothing changes, or the registry's own log is in doubt.

        That is no answer to the city, which would take it for a doubt about its own log, and sign nothing more.
        What proves a fork is kept and decided upon later; anything else is when the city sends the same again.
        """
        try:
            return await self._log.quarantine(command)
        except DataLoss as error:
            _log.warning("quarantine_not_decided", city=command.city, reason=error.reason, detail=error.message)
            return None

    async def _decide(self, command: AskRelease | ApproveRelease) -> Quarantine:
        decided = await self._log.quarantine(command)
        if decided is None:
            raise NotFound("the city is not in quarantine", city=command.city)
        await self.refresh()
        return decided

    def _judge(self, conn: Connection, batch: Batch, reason: str) -> Judgement | None:
        quarantine = self._store.quarantines.of(conn, batch.city)
        forked = quarantine is not None and (quarantine.epoch, quarantine.kind) == (batch.epoch, Kind.FORK)
        if forked and reason == Quarantined.reason:
            return None  # one proof is enough, and to look for another costs a hash of each entry
        enrolled = self._store.city(conn, batch.city)
        head = self._store.logs.head(conn, LogKey(batch.city, batch.epoch))
        if enrolled is None or head is None or enrolled.epoch != batch.epoch or not batch.checkpoint:
            return None
        signed = open_head(batch, enrolled, trust_domain=self._trust_domain, cosigner_name=self._cosigner_name)
        judgement = judge(conn, self._store.logs, head, batch, signed, self._unexplained(conn, batch))
        if judgement is not None and judgement.evidence is not None:
            self._require_convincing(judgement.evidence, enrolled)
        return judgement

    @staticmethod
    def _require_convincing(evidence: HeadEvidence, enrolled: City) -> None:
        """Confirm evidence as a court would: what can not convince there comes from our own damage."""
        try:
            confirm(evidence, [parse_vkey(enrolled.log_key)])
        except Malformed as error:
            raise StoreCorrupt("the registry's own tree contradicts itself; run fsck", city=enrolled.city) from error

    def _unexplained(self, conn: Connection, batch: Batch) -> Unexplained | None:
        held = self._store.quarantines.of(conn, batch.city)
        if held is None or not held.open or (held.epoch, held.kind) != (batch.epoch, Kind.UNEXPLAINED):
            return None
        note = self._store.evidence.body(conn, batch.city, held.digest)
        return None if note is None else Unexplained(held.size, held.root, note)
