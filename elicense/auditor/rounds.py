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
from typing import TYPE_CHECKING, Final, Protocol

from elicense.auditor.joining import Alarm, Joining, Kind, Proving
from elicense.auditor.state import AuditState
from elicense.errors import DataLoss, Malformed, NotFound
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.model import REGISTRY_LOG
from elicense.log.note import open_note
from elicense.log.verifier_key import COSIGNATURE, ED25519, VerifierKey
from elicense.verification.head_evidence import (
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

_PAGE: Final = 16_384


class Shown(Proving, Protocol):
    """A node that shows its logs; as :class:`elicense.client.transparency.LogClient`."""

    def logs(self) -> list[ListedLog]:
        """Return the logs."""

    def checkpoint(self, key: LogKey, size: int | None = None) -> bytes:
        """Return a signed head."""

    def vector(self) -> EntryProof:
        """Return the latest vector."""


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
        self._joining = Joining(node, keys)
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

    def _head(self, note: bytes) -> Checkpoint:
        return check_statement(NoteStatement(note), self._keys).head

    def _joined(self, key: LogKey, one: HeadStatement, other: HeadStatement, alarms: list[Alarm]) -> bool:
        alarm = self._joining.join(key, one, other)
        if alarm is not None:
            alarms.append(alarm)
        return alarm is None
