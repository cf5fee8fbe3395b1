"""Values of the registry's conflicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from elicense.sql.row import Row


class ConflictState(IntEnum):
    """How far a conflict has come; numbers as in the proto."""

    OPEN = 1
    DECIDED = 2
    """For the licence that did not count; the losing city has yet to store that its own is void."""
    SETTLED = 3


class Position(IntEnum):
    """What a city says of its licence; numbers as in the proto."""

    WITHDRAW = 1
    CONTEST = 2


class End(IntEnum):
    """What ended a conflict; numbers as in the proto."""

    NONE = 0
    AGREEMENT = 1
    DECISION = 2
    CANCELLATION = 3


@dataclass(frozen=True, slots=True)
class Conflict(Row):
    """Two licences of one person; fields in column order.

    Attributes:
        person_key: Keyed tag of the person.
        license_id: The licence without effect, which names the conflict.
        city: City whose log holds its first record.
        epoch: Epoch of that record.
        idx: Its index.
        entry_hash: Its leaf hash.
        held_license: The licence that counts until the conflict is decided.
        held_city: City that had it when the conflict was opened, or took over since by another conflict.
        opened_us: When it was opened.
        deadline_us: Until when the cities may settle it between them.
        registry_epoch: Epoch of the registry log with the opening entry.
        registry_index: Index of that entry.
        state: :class:`ConflictState`.
        standing_license: The licence that stands; empty while open, or when neither does.
        void_license: The licence that is void; empty while open, or when the other was cancelled.
        ending: :class:`End`.
        basis: Why it was decided so.
        decided_us: When; 0 while open.
        notice_city: City that must store that its licence is void before the other counts; 0 for none.
        notice_seq: Number of that word in the city's feed; 0 once it is stored, and all is held that the city wrote
            until then.
    """

    person_key: bytes
    license_id: bytes
    city: int
    epoch: int
    idx: int
    entry_hash: bytes
    held_license: bytes
    held_city: int
    opened_us: int
    deadline_us: int
    registry_epoch: int
    registry_index: int
    state: int
    standing_license: bytes = b""
    void_license: bytes = b""
    ending: int = 0
    basis: str = ""
    decided_us: int = 0
    notice_city: int = 0
    notice_seq: int = 0

    @property
    def licenses(self) -> tuple[bytes, bytes]:
        """Both licences: the one that counts, and the one that waits."""
        return self.held_license, self.license_id

    def other(self, license_id: bytes) -> bytes:
        """Return the other licence."""
        return self.license_id if license_id == self.held_license else self.held_license

    def overdue(self, now_us: int) -> bool:
        """Whether it is open past its deadline."""
        return self.state == ConflictState.OPEN and now_us > self.deadline_us


@dataclass(frozen=True, slots=True)
class Statement(Row):
    """What a city said in a conflict; fields in column order.

    Attributes:
        conflict_id: The licence that names the conflict.
        seq: Number of the statement in it, from 1.
        city: Who said it.
        license_id: The licence that it speaks for.
        position: :class:`Position`.
        grounds: Why.
        clerk: SPIFFE ID of the clerk.
        stated_us: When the registry wrote it down.
    """

    conflict_id: bytes
    seq: int
    city: int
    license_id: bytes
    position: int
    grounds: str
    clerk: str
    stated_us: int
