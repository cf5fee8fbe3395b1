"""What a log writer and the rules behind it say to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from elicense.log.merkle import batch_inclusion_proofs

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.errors import Error
    from elicense.log.model import Head
    from elicense.log.tree import CompactRange

C = TypeVar("C")
R = TypeVar("R")
C_contra = TypeVar("C_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Decision(Generic[R]):
    """What one command comes to.

    Attributes:
        records: Records to append for it, serialized; none when it changes nothing.
        result: What its caller is told once the records are durable and signed.
        error: Why it is refused; then nothing is appended for it.
    """

    records: tuple[bytes, ...] = ()
    result: R | None = None
    error: Error | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that stands in the log.

    Attributes:
        index: Its index.
        record: Its bytes.
        leaf_hash: Its leaf hash.
    """

    index: int
    record: bytes
    leaf_hash: bytes


class Decider(Protocol[C_contra, R]):
    """The rules that turn commands into records, inside the writer's transaction.

    Both methods run on a writer thread and may run again for the same commands
    when a transaction is rolled back, so they touch nothing but ``conn``.
    """

    def decide(self, conn: Connection, head: Head, commands: Sequence[C_contra]) -> Sequence[Decision[R]]:
        """Decide the commands in order, each upon what those before it decided.

        The first record gets index ``head.size``, the next one the index after
        it, and so on; refused commands take none.  A command that is refused
        is a decision with an error.  Raising refuses the transaction: the
        commands are then tried in smaller groups, so that only the one that
        can not be decided fails.
        """
        ...

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[R]]) -> None:
        """Write the decider's own tables, after the entries and in the same transaction."""
        ...


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A durable head and its signature.

    Attributes:
        size: Number of entries.
        root: Merkle root.
        note: Signed checkpoint.
    """

    size: int
    root: bytes
    note: bytes


@dataclass(frozen=True)
class CommittedBatch:
    """What went into the log in one commit; its proofs are computed when first asked for.

    Attributes:
        before: The tree before it.
        leaf_hashes: Its leaves.
    """

    before: CompactRange
    leaf_hashes: Sequence[bytes] = field(repr=False)

    @cached_property
    def proofs(self) -> list[list[bytes]]:
        """The inclusion proof of each leaf, to the head after the batch."""
        size = self.before.size
        return batch_inclusion_proofs(self.before, self.leaf_hashes, range(size, size + len(self.leaf_hashes)))


@dataclass(frozen=True, slots=True)
class Committed(Generic[R]):
    """The answer to a command: durable, and under a signed head.

    Attributes:
        result: What was decided.
        first_index: Index of its first record; None when it appended none.
        count: How many records it appended.
        size: Size of the log that the checkpoint states.
        checkpoint: Signed note of the head after the commit.
        batch: The commit that it was part of; None when nothing was appended.
    """

    result: R
    first_index: int | None
    count: int
    size: int
    checkpoint: bytes = field(repr=False)
    batch: CommittedBatch | None = field(repr=False)

    def proof(self, number: int = 0) -> list[bytes]:
        """Return the inclusion proof of one of its records, to :attr:`checkpoint`.

        Args:
            number: Which of its records, from 0.

        Raises:
            IndexError: It appended no such record.
        """
        if self.batch is None or self.first_index is None or not 0 <= number < self.count:
            raise IndexError("the command appended no such record")
        return self.batch.proofs[self.first_index + number - self.batch.before.size]


Listener = Callable[[int], None]
"""Called on the event loop after each commit, with the new size of the log."""
