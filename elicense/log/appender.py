"""One commit of a log: decide, append, and sign what is durable.

The steps, numbered in the code; 1 to 5 are one transaction:

1. Lock and read the head.  Memory is only a cache: what counts is stored.
2. The head must follow what was signed last, by any process; a database that went back must not be signed upon.
3. Decide the commands and hash the exact bytes to be stored.
4. Append, move the head on, and let the decider write its own tables.
5. Hash those bytes once more: a flipped bit must be found before it is signed.
6. Once the transaction is durable, sign its head and check the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from elicense.errors import DataLoss, Error, LogBehind, LogForked, Malformed, NotFound, StoreCorrupt, Unavailable
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_checkpoint, sign_checkpoint
from elicense.log.decision import Appended, Decider, Decision, SignedHead
from elicense.log.entry import SALT_SIZE, leaf_hashes
from elicense.log.model import Head, LogKey, NewEntry
from elicense.log.request_queue import BYTES_PER_COMMIT, ENTRIES_PER_COMMIT

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.store import LogStore
    from elicense.trust.signer import Signer

C = TypeVar("C")
R = TypeVar("R")

_LACKING: Final = "the database lacks entries that were signed; it was set back"


class BatchTooLarge(Malformed):
    """The decided records are more than one commit may hold."""

    reason = "BATCH_TOO_LARGE"


class SigningFailed(Unavailable):
    """The log's key can not be used now; what was appended is durable and will be signed later."""

    reason = "SIGNING_FAILED"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What one transaction did; a fact only once it is committed.

    Attributes:
        decisions: One for each command.
        before: The head before.
        after: The head after; the same one when nothing was appended.
        leaf_hashes: What was appended.
    """

    decisions: Sequence[Decision[R]]
    before: Head
    after: Head
    leaf_hashes: Sequence[bytes]


class Appender(Generic[C, R]):
    """Runs commits of one log on the calling thread.

    Args:
        store: Tables of logs.
        key: Which log.
        origin: Origin of its checkpoints.
        signer: The log's key.
        decider: Turns commands into records.
        clock: UTC microseconds.
        random: Gives this many random bytes.
        before_answer: Called with each signed head before any caller hears of it, to keep it elsewhere too.
        signed_before: Gives the last head that was kept elsewhere, or None; the log must hold it.
    """

    def __init__(
        self,
        *,
        store: LogStore,
        key: LogKey,
        origin: str,
        signer: Signer,
        decider: Decider[C, R],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        before_answer: Callable[[SignedHead], None] | None = None,
        signed_before: Callable[[], Checkpoint | None] | None = None,
    ) -> None:
        self._store = store
        self._key = key
        self._origin = origin
        self._signer = signer
        self._verifier_key = log_verifier_key(origin, signer.public_key())
        self._decider = decider
        self._clock = clock
        self._random = random
        self._before_answer = before_answer
        self._signed_before = signed_before

    def read_head(self, conn: Connection, *, signed: SignedHead | None, lock: bool = False) -> Head:
        """Return the stored head, which must follow the head that was signed last.

        Raises:
            NotFound: The log was never created.
            LogForked: The database holds another history than the one that was signed.
            LogBehind: It lacks entries that were signed.
            StoreCorrupt: The stored head contradicts itself.
        """
        head = self._store.head(conn, self._key, lock=lock)  # (1)
        if head is None:
            raise NotFound("the log does not exist; create it first", log=self._key.log)
        if signed is None or (head.size, head.root) == (signed.size, signed.root):
            return head
        if signed.size > head.size:
            raise LogBehind(_LACKING, log=self._key.log)
        # (2) Another process may have appended; then the signed head is one of the commits before.
        earlier = self._store.commits.at(conn, self._key, signed.size)
        # No commit leaves an empty log, so there is no row for it.
        if signed.size and (earlier is None or earlier.root != signed.root):
            raise LogForked("the database does not hold the head that was signed last", log=self._key.log)
        return head

    def transact(
        self,
        conn: Connection,
        commands: Sequence[C],
        *,
        signed: SignedHead | None,
        unsaved: SignedHead | None,
    ) -> Outcome[R]:
        """Decide the commands and append their records, in the caller's transaction.

        Args:
            conn: The transaction.
            commands: In the order in which they came.
            signed: The head that was signed last, as far as this process knows.
            unsaved: A signed head whose note is to be stored along.

        Raises:
            BatchTooLarge: The records are more than one commit may hold.
            HeadMoved: Another writer was faster.
            LogForked: The database holds another history than the one that was signed.
            LogBehind: It lacks entries that were signed.
            StoreCorrupt: What is stored or hashed contradicts itself.
        """
        head = self.read_head(conn, signed=signed, lock=True)
        self._check_signed_before(conn, head, signed)
        decisions = self._decider.decide(conn, head, commands)
        if len(decisions) != len(commands):
            raise RuntimeError("the decider must decide every command")
        records = [record for decision in decisions if decision.error is None for record in decision.records]
        size = sum(map(len, records)) + len(records) * SALT_SIZE
        if len(records) > ENTRIES_PER_COMMIT or size > BYTES_PER_COMMIT:
            raise BatchTooLarge("the records are more than one commit may hold; split the request")
        salts = self._salts(len(records))
        hashes = leaf_hashes(zip(salts, records, strict=True))  # (3)
        after = head
        if records:
            entries = [NewEntry(*parts) for parts in zip(records, salts, hashes, strict=True)]
            after = self._store.advance(  # (4)
                conn,
                head,
                entries,
                # A clock that steps back must not make the log's times do so.
                recorded_us=max(self._clock(), head.recorded_us),
                previous_note=None if unsaved is None else (unsaved.size, unsaved.note),
            )
        appended = [Appended(*parts) for parts in zip(range(head.size, after.size), records, hashes, strict=True)]
        self._decider.applied(conn, appended, decisions)
        again = leaf_hashes(zip(salts, records, strict=True))  # (5)
        if head.frontier.append_leaves(again).root() != after.root:
            raise StoreCorrupt("the same bytes gave two hashes; this machine's memory or processor is not sound")
        return Outcome(decisions, head, after, hashes)

    def _check_signed_before(self, conn: Connection, head: Head, signed: SignedHead | None) -> None:
        """Compare with what another process may have signed, on a database that was another one then.

        Raises:
            LogForked: The database holds another history.
            LogBehind: It lacks what was signed.
        """
        last = None if self._signed_before is None else self._signed_before()
        if last is None or (signed is not None and (last.size, last.root) == (signed.size, signed.root)):
            return
        if last.origin != self._origin:
            raise LogBehind("another epoch of this log is open; restart this node", log=self._key.log)
        if last.size > head.size:
            raise LogBehind(_LACKING, log=self._key.log)
        if self._store.root_at(conn, head, last.size) != last.root:
            raise LogForked("the database does not hold the head that was signed last", log=self._key.log)

    def holds(self, conn: Connection, outcome: Outcome[R]) -> bool:
        """Tell whether a transaction whose COMMIT was not answered did happen.

        The head is locked: a server may still be at work on the COMMIT, and holds that lock until it is done.
        """
        self._store.head(conn, self._key, lock=True)
        row = self._store.commits.at(conn, self._key, outcome.after.size)
        return row is not None and row.root == outcome.after.root

    def seal(self, head: Head) -> SignedHead:
        """Sign a durable head; the bytes are the same every time.

        Raises:
            SigningFailed: The key can not be used now, or ``before_answer`` failed.
            StoreCorrupt: The signature does not verify.
            LogForked: ``before_answer`` knows of another head of this size.
        """
        checkpoint = Checkpoint(self._origin, head.size, head.root)
        try:
            note = sign_checkpoint(checkpoint, self._signer)  # (6)
        except Exception as error:
            # A key in a module or service of its own can fail in ways that only its driver knows.
            raise SigningFailed("the log's key can not be used now; repeat the request later") from error
        try:
            opened = open_checkpoint(note, origin=self._origin, key=self._verifier_key)
        except Error as error:
            raise StoreCorrupt("the log's own signature does not verify; check its key") from error
        if opened != checkpoint:
            raise StoreCorrupt("the log's own signature is over another head; check its key")
        signed = SignedHead(head.size, head.root, note)
        if self._before_answer is not None:
            try:
                self._before_answer(signed)
            except DataLoss:
                raise
            except Exception as error:
                # The commit is done: whatever goes wrong here must not look like a transaction to run again.
                raise SigningFailed("the signed head could not be kept elsewhere; check that disk") from error
        return signed

    def _salts(self, count: int) -> list[bytes]:
        drawn = self._random(count * SALT_SIZE) if count else b""
        return [drawn[start : start + SALT_SIZE] for start in range(0, len(drawn), SALT_SIZE)]
