"""The city's mirror of the registry's own log: what was decided, kept outside the registry.

Every few seconds the city fetches what has been added.  Nothing is kept that the
registry did not sign, and nothing that does not lead on from what is held: so the
mirror is a copy of the one history that this city was shown.  Where the registry
shows another one, whatever it takes to prove that goes into a file that anybody
can confirm, an alarm is raised, the registry is told, and the mirror stays as it is.  Nothing else
stops: what the city signs does not rest on this log.

A registry that shows less than is held here lost a part of it: it is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import grpc
import structlog
from prometheus_client import CollectorRegistry, Gauge

from city_node.mirror_page import check_page, recorded_us
from city_node.mirrored_evidence import MirroredEvidence
from city_node.vectors import VectorCheck
from elicense.errors import Error, Malformed, RootMismatch, StoreCorrupt
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_checkpoint
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, Head, LogKey
from elicense.log.pages import Page, Part, read_page
from elicense.log.store import LogStore
from elicense.log.tree import CompactRange
from elicense.log.verifier_key import VerifierKey
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database
from elicense.trust.secret_file import SECRET_MODE, replace_file
from elicense.v1 import log_pb2, recovery_pb2, recovery_pb2_grpc
from elicense.verification.cited import EVIDENCE_WANTED, cited
from elicense.verification.evidence_file import confirm, format_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement

if TYPE_CHECKING:
    from sqlalchemy import Connection

CALL_SECONDS: Final = 30.0
#: Signed heads that are kept in one transaction: some milliseconds, for which whoever writes meanwhile waits.
PARTS_PER_WRITE: Final = 16

_log = structlog.stdlib.get_logger(__name__)


class RegistryHistory:
    """Names and keys of the registry's log, epoch by epoch; one key signs them all.

    Args:
        key: Key of its first epoch, from the city's configuration.
    """

    def __init__(self, key: VerifierKey) -> None:
        self._prefix = key.name.rpartition("/")[0]
        self._public_key = key.public_key

    def key(self, epoch: int) -> VerifierKey:
        """Return the key of an epoch, which bears the name of its origin."""
        return log_verifier_key(f"{self._prefix}/{epoch}", self._public_key)


class Witnesses(Protocol):
    """Asks the registry what its other history looks like."""

    def __call__(self, key: LogKey, first: bytes, second: bytes) -> HeadEvidence | None:
        """Return evidence that two signed heads are of two histories; None when the registry gives out no proof.

        Called on a thread of its own.
        """


class Mirror:
    """Keeps one city's mirror; start it with :meth:`run` as a task.

    Args:
        database: The city's database.
        logs: Its tables of logs.
        history: Keys of the registry's log.
        stub: The registry's RecoveryService.
        witnesses: Asks the registry for what proves that it has two histories.
        vectors: Judges what the registry states of this city's own log.
        say_sound: Says by the health service whether the registry's log is what it should be.
        folder: Where evidence goes.
        interval_s: How often to fetch.
        metrics: Where the mirror is shown.
    """

    def __init__(
        self,
        *,
        database: Database,
        logs: LogStore,
        history: RegistryHistory,
        stub: recovery_pb2_grpc.RecoveryServiceStub,
        witnesses: Witnesses,
        vectors: VectorCheck,
        say_sound: Callable[[bool], Awaitable[None]],
        folder: Path,
        interval_s: float,
        metrics: CollectorRegistry,
    ) -> None:
        self._database = database
        self._logs = logs
        self._history = history
        self._stub = stub
        self._witnesses = witnesses
        self._vectors = vectors
        self._say_sound = say_sound
        self._folder = folder
        self._proofs = MirroredEvidence(folder / "mirrored", metrics=metrics)
        self._interval_s = interval_s
        self._size = Gauge("elicense_mirror_entries", "Entries held of the registry's log.", registry=metrics)
        self._forked = Gauge(
            "elicense_mirror_forked",
            "1 while the registry shows another history of its log than the one held.",
            registry=metrics,
        )
        self._is_forked = False
        #: Why it failed last; None after it went well.
        self._failing: str | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Mirror for ever; ends by being cancelled, and whatever goes wrong is tried again."""
        while True:
            try:
                await self.catch_up()
                self._failing = None
            except Error as error:
                if error.reason != self._failing:
                    _log.warning("registry_not_mirrored", reason=error.reason, detail=error.message)
                self._failing = error.reason
            except Exception as error:  # a bug must not end the mirror for good, in silence
                _log.error("registry_not_mirrored", **describe_exception(error))
            await asyncio.sleep(self._interval_s)

    async def catch_up(self) -> None:
        """Fetch everything that there is.

        Raises:
            RootMismatch: The registry shows another history, or what it sent does not lead to what it signed.
            Malformed: It sent what can not be its log.
            Unavailable: It did not answer, or the database is away.
        """
        async with self._turn:
            try:
                more = True
                while more:
                    await self._vectors.catch_up()
                    more = await self._round()
            finally:
                await self._say_sound(not (self._is_forked or self._vectors.disputed))

    async def _round(self) -> bool:
        """Fetch a page; tell whether there is more."""
        held = await self._database.write(self._newest)
        request = recovery_pb2.ReadRegistryLogRequest(epoch=held.key.epoch, first_index=held.size)
        try:
            answer = await self._stub.ReadRegistryLog(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        shown = self._open(held.key, answer.head)
        if shown is not None and shown.size > held.size:
            await self._take(held, answer)
            return True
        if shown is not None and await self._database.read(partial(self._root_at, held, shown.size)) != shown.root:
            await self._accuse(held, answer.head)
            raise RootMismatch("the registry signed another history of its log than the one held here")
        there = 0 if shown is None else shown.size
        if there < held.size and answer.open_epoch == held.key.epoch:
            return await self._give_back(held, there)
        self._say_forked(False)
        self._size.set(held.size)
        if answer.open_epoch <= held.key.epoch:
            await self._exchange(held, answer.evidence_wanted)
            return False
        await self._database.write(lambda conn: self._logs.create(conn, LogKey(REGISTRY_LOG, held.key.epoch + 1)))
        return True

    async def _give_back(self, held: Head, there: int) -> bool:
        """Give the registry what it lost of its own log; tell whether it took any of it.

        It is told of the newest head too: a registry that lacks what it signed must decide nothing meanwhile.
        """
        page = await self._database.read(lambda conn: read_page(conn, self._logs, held.key, there))
        evidence = await asyncio.to_thread(self._proofs.of, cited(entry.record for entry in page.entries))
        size = await self._show(held, there, page, evidence)
        _log.warning("registry_log_given_back", there=size, held=held.size)
        return size > there

    async def _exchange(self, held: Head, lost: Sequence[bytes]) -> None:
        """Give the registry evidence that it has lost, and ask for what is missing here; each call takes some of it."""
        given = await asyncio.to_thread(self._proofs.of, lost) if lost else []
        if given and held.note is not None:
            await self._show(held, held.size, Page([], []), given)
        lacking = await asyncio.to_thread(self._proofs.lacking)
        for start in range(0, len(lacking), EVIDENCE_WANTED):
            wanted = lacking[start : start + EVIDENCE_WANTED]
            while wanted:
                request = recovery_pb2.ReadRegistryLogRequest(
                    epoch=held.key.epoch, first_index=held.size, evidence_wanted=wanted
                )
                try:
                    answer = await self._stub.ReadRegistryLog(request, timeout=CALL_SECONDS)
                except grpc.RpcError as error:
                    raise from_rpc_error(error) from error
                added = await asyncio.to_thread(self._proofs.add, answer.evidence)
                if not added:
                    break  # the registry does not have the rest either
                wanted = [digest for digest in wanted if digest not in added]

    async def _show(self, held: Head, first_index: int, page: Page, evidence: Sequence[bytes] = ()) -> int:
        request = recovery_pb2.ReturnRegistryLogRequest(
            epoch=held.key.epoch,
            first_index=first_index,
            entries=[log_pb2.LogEntry(record=entry.record, salt=entry.salt) for entry in page.entries],
            heads=[recovery_pb2.SignedHead(size=row.size, note=row.note) for row in page.heads],
            head=held.note or b"",
            evidence=evidence,
        )
        try:
            answer = await self._stub.ReturnRegistryLog(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        size: int = answer.size
        return size

    async def _take(self, held: Head, answer: recovery_pb2.ReadRegistryLogResponse) -> None:
        """Keep a page, every head of which was signed and leads on from what is held."""
        # Signatures are checked beside the writer, and all of a page before any of it is kept: whoever
        # waits at a counter waits for the writer.
        try:
            key = self._history.key(held.key.epoch)
            checked = await asyncio.to_thread(check_page, answer, held.frontier, key)
        except RootMismatch:
            await self._accuse(held, answer.head)
            raise
        # First the evidence, then the decisions that cite it.
        await asyncio.to_thread(self._proofs.keep, [entry.record for entry in answer.entries], answer.evidence)
        for start in range(0, len(checked), PARTS_PER_WRITE):
            append = partial(self._append, held, checked[start : start + PARTS_PER_WRITE])
            held = await self._database.write_then(append, lambda head: head, gives_way=True)
            self._size.set(held.size)

    def _append(self, before: Head, checked: list[tuple[Part, CompactRange]], conn: Connection) -> Head:
        head = self._logs.head(conn, before.key, lock=True)
        if head is None or (head.size, head.root) != (before.size, before.root):
            raise StoreCorrupt("the mirror of the registry's log has changed meanwhile; run fsck")
        for part, tree in checked:
            later_us = max(head.recorded_us, recorded_us(part))
            head = self._logs.advance(
                conn, head, part.entries, recorded_us=later_us, note=part.head.note, frontier=tree
            )
        return head

    async def _accuse(self, held: Head, note: bytes) -> None:
        """Make a file of two heads that can not both be true, if they are; else say that nothing is proved."""
        self._say_forked(True)
        # A registry that has two histories must hear of it; what it answers changes nothing here.
        with suppress(Error):
            await self._show(held, held.size, Page([], []))
        evidence = await self._evidence(held, note)
        if evidence is None:
            _log.error("registry_log_not_proved", held=held.size)
            return
        # One file proves as much as any number: a registry that goes on must not fill this disk.
        path = self._folder / f"registry-{held.key.epoch}-{held.size}.json"
        if not path.exists():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await asyncio.to_thread(replace_file, path, format_evidence(evidence), SECRET_MODE)
        _log.critical("registry_forked", evidence=str(path), held=held.size)

    async def _evidence(self, held: Head, note: bytes) -> HeadEvidence | None:
        key = self._history.key(held.key.epoch)
        shown = open_checkpoint(note, origin=key.name, key=key)
        if held.note is None:
            return None
        theirs, ours = NoteStatement(note), NoteStatement(held.note)
        if shown.size > held.size:
            evidence = await asyncio.to_thread(self._witnesses, held.key, held.note, note)
        elif shown.size == held.size:
            evidence = HeadEvidence(ours, theirs)
        else:
            evidence = await self._database.read(partial(self._from_own_tree, held, shown, theirs, ours))
        try:
            if evidence is not None:
                confirm(evidence, [key])
        except Malformed:
            return None
        return evidence

    def _from_own_tree(
        self, held: Head, shown: Checkpoint, theirs: NoteStatement, ours: NoteStatement, conn: Connection
    ) -> HeadEvidence:
        """What is held gives the root that the registry's smaller head should have had."""
        root = self._logs.root_at(conn, held, shown.size)
        proof = self._logs.consistency_proof(conn, held.key, shown.size, held.size)
        return HeadEvidence(theirs, ours, root, tuple(proof))

    def _say_forked(self, is_forked: bool) -> None:
        self._is_forked = is_forked
        self._forked.set(is_forked)

    def _open(self, key: LogKey, note: bytes) -> Checkpoint | None:
        verifier = self._history.key(key.epoch)
        return open_checkpoint(note, origin=verifier.name, key=verifier) if note else None

    def _root_at(self, held: Head, size: int, conn: Connection) -> bytes:
        return self._logs.root_at(conn, held, size)

    def _newest(self, conn: Connection) -> Head:
        """Return the head of the newest epoch that is mirrored; begins the first."""
        keys = [key for key in self._logs.keys(conn) if key.log == REGISTRY_LOG]
        key = max(keys, default=LogKey(REGISTRY_LOG, FIRST_EPOCH))
        if not keys:
            self._logs.create(conn, key)
        head = self._logs.head(conn, key)
        if head is None:
            raise StoreCorrupt("the mirror of the registry's log is missing; run fsck")
        return head
