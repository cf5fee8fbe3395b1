"""Whether two statements about a log are of one history, by proofs that a node shows.

Two heads that can not be joined are turned into evidence: the node is asked for
the root that the larger one rests on, and the file is confirmed as a court would
before anybody is accused.  A node that gives out no proof has proved nothing,
but that is reported all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from elicense.errors import DataLoss, Malformed, NotFound, RootMismatch
from elicense.log.checkpoint import Checkpoint
from elicense.log.merkle import verify_consistency
from elicense.log.tree import EMPTY_RANGE
from elicense.log.verifier_key import VerifierKey
from elicense.verification.evidence_file import confirm
from elicense.verification.head_evidence import HeadEvidence, HeadStatement, check_statement

if TYPE_CHECKING:
    from elicense.log.model import LogKey

_PAGE: Final = 16_384


class Proving(Protocol):
    """A node that proves its logs; as :class:`elicense.client.transparency.LogClient`."""

    def consistency(self, key: LogKey, first: int, second: int) -> list[bytes]:
        """Return a consistency proof."""

    def leaf_hashes(self, key: LogKey, first: int, count: int) -> list[bytes]:
        """Return leaf hashes."""


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


class Joining:
    """Joins statements about the logs of one node.

    Args:
        node: The node.
        keys: Every public key that is trusted, of logs and of cosignatures.
    """

    def __init__(self, node: Proving, keys: Sequence[VerifierKey]) -> None:
        self._node = node
        self._keys = keys

    def join(self, key: LogKey, one: HeadStatement, other: HeadStatement) -> Alarm | None:
        """Return None when two statements about a log are of one history, else what is wrong.

        Raises:
            Malformed: One of them is not signed by a known key.
            Unavailable: The node can not be reached.
        """
        first, second = sorted((one, other), key=lambda statement: self._stated(statement).size)
        a, b = self._stated(first), self._stated(second)
        try:
            proof = self._node.consistency(key, a.size, b.size) if a.size != b.size else []
            verify_consistency(first=a.size, first_root=a.root, second=b.size, second_root=b.root, proof=proof)
        except (RootMismatch, Malformed, DataLoss, NotFound):
            return self._accuse(key, first, second)
        return None

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
