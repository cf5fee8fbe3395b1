"""One round of an audit: every log's newest head against the one before, the vector, and others' heads.

The steps, numbered in the code:

1. The node lists its logs; each must have a key that was given to the auditor.
2. The newest head of each log is signed by its log, and a city's is cosigned.
3. It follows the head of the round before: a consistency proof leads from one to the other.
4. So it does with every head that another auditor was shown.
5. The latest vector stands in the registry's log, and what it says of each city
   is of one history with the city's newest head.
6. What was checked becomes the head that the next round starts from.

Two heads that can not be joined are turned into evidence: the node is asked for
the root that the larger one rests on, and the file is confirmed as a court would
before anybody is accused.  A node that shows an older head than before, or no
proof, has proved nothing but is reported all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from elicense.auditor.state import AuditState
from elicense.errors import DataLoss, Malformed, NotFound, RootMismatch
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.merkle import verify_consistency
from elicense.log.note import open_note
from elicense.log.tree import EMPTY_RANGE
from elicense.log.verifier_key import COSIGNATURE, ED25519, VerifierKey
from elicense.verification.evidence_file import confirm
from elicense.verification.head_evidence import (
    HeadEvidence,
    HeadStatement,
    NoteStatement,
    VectorStatement,
    check_statement,
    read_vector,
)

if TYPE_CHECKING:
    from elicense.client.transparency import ListedLog
    from elicense.log.model import LogKey
    from elicense.log.proof_file import EntryProof

REGISTRY_LOG: Final = 0
_PAGE: Final = 16_384


class Shown(Protocol):
    """A node that shows its logs; as :class:`elicense.client.transparency.LogClient`."""

    def logs(self) -> list[ListedLog]:
        """Return the logs."""

    def checkpoint(self, key: LogKey, size: int | None = None) -> bytes:
        """Return a signed head."""

    def consistency(self, key: LogKey, first: int, second: int) -> list[bytes]:
        """Return a consistency proof."""

    def leaf_hashes(self, key: LogKey, first: int, count: int) -> list[bytes]:
        """Return leaf hashes."""

    def vector(self) -> EntryProof:
        """Return the latest vector."""


class Kind(StrEnum):
    """What is wrong."""

    CONTRADICTION = "CONTRADICTION"
    """Somebody signed two histories; there is evidence."""
    NOT_PROVED = "NOT_PROVED"
    """The node did not show that one head follows another, nor what else it rests on."""
    WENT_BACK = "WENT_BACK"
    """The node shows an older head than it did before."""
    NOT_SIGNED = "NOT_SIGNED"
    """A head or a vector is not signed as it must be."""
    UNKNOWN_KEY = "UNKNOWN_KEY"
    """The node lists a log whose key the auditor was not given."""
    MISSING = "MISSING"
    """The node does not show a log, or a head, that it showed before."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something wrong.

    Attributes:
        kind: What.
        origin: Which log.
        what: One sentence.
        evidence: Evidence that was confirmed, where there is any.
    """

    kind: Kind
    origin: str
    what: str
    evidence: HeadEvidence | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to.

    Attributes:
        heads: Size of the newest head of each log that was found to be right, by origin.
        alarms: What is wrong; none when all is well.
        state: What the next round starts from.
    """

    heads: Mapping[str, int]
    alarms: Sequence[Alarm]
    state: AuditState


class Auditor:
    """Audits one node, the registry as a rule.

    Args:
        node: The node.
        keys: Every public key that is trusted, of logs and of cosignatures.
        others: Heads that other auditors were shown.
    """

    def __init__(self, node: Shown, keys: Sequence[VerifierKey], others: Iterable[bytes] = ()) -> None:
        self._node = node
        self._keys = keys
        self._others = list(others)

    def round(self, state: AuditState) -> Round:
        """Check everything once.

        Raises:
            Unavailable: The node can not be reached; nothing was checked.
        """
        alarms: list[Alarm] = []
        listed = self._known(state, alarms)  # (1)
        heads: dict[str, bytes] = dict(state.heads)
        sizes: dict[str, int] = {}
        for log in listed:
            note = self._newest(log, state.heads.get(log.origin), alarms)
            if note is None:
                continue
            right = True
            for before in self._before(log.origin, state):
                right &= self._joined(log.key, NoteStatement(before), NoteStatement(note), alarms)  # (3) (4)
            if right:
                heads[log.origin] = note  # (6)
                sizes[log.origin] = self._head(note).size
        self._check_vector(listed, heads, alarms)  # (5)
        return Round(sizes, alarms, AuditState(heads))

    def _known(self, state: AuditState, alarms: list[Alarm]) -> list[ListedLog]:
        known = {key.name for key in self._keys if key.algorithm == ED25519}
        listed = self._node.logs()
        alarms += [
            Alarm(Kind.UNKNOWN_KEY, log.origin, "no key of this log was given to the auditor")
            for log in listed
            if log.origin not in known
        ]
        alarms += [
            Alarm(Kind.MISSING, origin, "the node does not list this log any more")
            for origin in sorted(state.heads.keys() - {log.origin for log in listed})
        ]
        return [log for log in listed if log.origin in known]

    def _newest(self, log: ListedLog, before: bytes | None, alarms: list[Alarm]) -> bytes | None:
        try:
            note = self._node.checkpoint(log.key)
        except NotFound:
            if before is not None:
                alarms.append(Alarm(Kind.MISSING, log.origin, "the node shows no head of this log any more"))
            return None
        except DataLoss as error:
            alarms.append(Alarm(Kind.NOT_PROVED, log.origin, f"the node can not show its head: {error.message}"))
            return None
        try:
            self._require_signed(log, note)  # (2)
        except Malformed as error:
            alarms.append(Alarm(Kind.NOT_SIGNED, log.origin, error.message))
            return None
        if before is not None and self._head(before).size > self._head(note).size:
            what = f"the head went back from {self._head(before).size} to {self._head(note).size} entries"
            alarms.append(Alarm(Kind.WENT_BACK, log.origin, what))
        return note

    def _require_signed(self, log: ListedLog, note: bytes) -> None:
        opened = open_note(note, self._keys)
        if parse_checkpoint(opened.text).origin != log.origin:
            raise Malformed("the node shows the head of another log")
        if all(signed.key.name != log.origin for signed in opened.signatures):
            raise Malformed("the log has not signed its head")
        if log.key.log != REGISTRY_LOG and all(signed.key.algorithm != COSIGNATURE for signed in opened.signatures):
            raise Malformed("the registry has not cosigned the head")

    def _before(self, origin: str, state: AuditState) -> list[bytes]:
        """Return the heads that the newest one must be joined with."""
        found = [state.heads[origin]] if origin in state.heads else []
        for note in self._others:
            try:
                if self._head(note).origin == origin:
                    found.append(note)
            except Malformed:
                continue  # not signed by anybody known: it says nothing
        return found

    def _check_vector(self, listed: Sequence[ListedLog], heads: Mapping[str, bytes], alarms: list[Alarm]) -> None:
        own = {log.key: log.origin for log in listed}
        registry = max((key for key in own if key.log == REGISTRY_LOG), default=None)
        if registry is None:
            return
        origin = own[registry]
        try:
            entry = self._node.vector()
        except NotFound:
            return
        try:
            lines = read_vector(entry.record).heads
            if heads.get(origin) is not None:
                self._joined(registry, NoteStatement(entry.checkpoint), NoteStatement(heads[origin]), alarms)
            for line in lines:
                statement = VectorStatement(entry, line.city, line.epoch)
                stated = check_statement(statement, self._keys).head
                note = heads.get(stated.origin)
                key = next((key for key, name in own.items() if name == stated.origin), None)
                if note is not None and key is not None:
                    self._joined(key, statement, NoteStatement(note), alarms)
        except Malformed as error:
            alarms.append(Alarm(Kind.NOT_SIGNED, origin, f"the vector of city heads is not genuine: {error.message}"))

    def _joined(self, key: LogKey, one: HeadStatement, other: HeadStatement, alarms: list[Alarm]) -> bool:
        """Whether two statements about a log are of one history; raises an alarm when they are not."""
        first, second = sorted((one, other), key=lambda statement: self._stated(statement).size)
        a, b = self._stated(first), self._stated(second)
        try:
            proof = self._node.consistency(key, a.size, b.size) if a.size != b.size else []
            verify_consistency(first=a.size, first_root=a.root, second=b.size, second_root=b.root, proof=proof)
        except (RootMismatch, Malformed, DataLoss, NotFound):
            alarms.append(self._accuse(key, first, second))
            return False
        return True

    def _accuse(self, key: LogKey, first: HeadStatement, second: HeadStatement) -> Alarm:
        """Return an alarm with evidence, if the node gives out what it takes."""
        a, b = self._stated(first), self._stated(second)
        try:
            evidence = HeadEvidence(first, second)
            if a.size != b.size:
                # The root that the larger head rests on: from the node's own leaves below it.
                root = self._root(key, a.size)
                proof = tuple(self._node.consistency(key, a.size, b.size))
                evidence = HeadEvidence(first, second, root, proof)
            confirmed = confirm(evidence, self._keys)
        except (Malformed, DataLoss, NotFound) as error:
            what = f"no proof leads from {a.size} entries to {b.size}: {error.message}"
            return Alarm(Kind.NOT_PROVED, a.origin, what)
        return Alarm(Kind.CONTRADICTION, a.origin, f"{' and '.join(confirmed.accused)} {confirmed.what}", evidence)

    def _root(self, key: LogKey, size: int) -> bytes:
        tree = EMPTY_RANGE
        while tree.size < size:
            page = self._node.leaf_hashes(key, tree.size, min(size - tree.size, _PAGE))
            if not page:
                raise Malformed("the node has fewer leaves than its head says")
            tree = tree.append_leaves(page)
        return tree.root()

    def _stated(self, statement: HeadStatement) -> Checkpoint:
        return check_statement(statement, self._keys).head

    def _head(self, note: bytes) -> Checkpoint:
        return check_statement(NoteStatement(note), self._keys).head
