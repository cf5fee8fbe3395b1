"""Whether the database still holds everything that this city has signed: pure rules.

Two witnesses stand beside the database: the anchor, with the last head that was
signed, and the registry, with the highest head that it cosigned.  A database
that was set back is sound in itself and would sign a second history; what it
lacks, a witness has.  The cases are one table, judged in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from elicense.errors import Error, HistoryUnknown, LogBehind, LogForked
from elicense.log.witness import Seen


class Course(Enum):
    """What the node does."""

    GO_ON = "sign"
    WAIT = "only verify until a witness can be asked"
    RESTORE = "only verify until a person restores the log"
    FORK = "only verify, and keep the evidence of two histories"


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the table.

    Attributes:
        holds: Whether it is the case, given what the anchor and the registry show.
        course: What follows.
        sentence: Why, for whoever operates the node.
    """

    holds: Callable[[Seen, Seen], bool]
    course: Course
    sentence: str

    @property
    def error(self) -> Error | None:
        """Why the node must not sign; None when it may."""
        match self.course:
            case Course.GO_ON:
                return None
            case Course.WAIT:
                return HistoryUnknown(self.sentence)
            case Course.RESTORE:
                return LogBehind(self.sentence)
            case Course.FORK:
                return LogForked(self.sentence)


CASES: Final = (
    Case(
        lambda _, registry: registry is Seen.ELSEWHERE,
        Course.FORK,
        "the registry cosigned another history of this log than the database holds",
    ),
    Case(
        lambda anchor, _: anchor is Seen.ELSEWHERE,
        Course.FORK,
        "this node signed another history than the database holds",
    ),
    Case(
        lambda anchor, registry: Seen.LATER_EPOCH in (anchor, registry),
        Course.RESTORE,
        "the database is from before the epoch that is open; run `elicense-city restore`",
    ),
    Case(
        lambda _, registry: registry is Seen.AHEAD,
        Course.RESTORE,
        "the registry holds more than the database, which was set back; run `elicense-city restore`",
    ),
    Case(
        lambda anchor, registry: registry is Seen.ABSENT and anchor is Seen.AHEAD,
        Course.WAIT,
        "the database lacks what this node signed last, and the registry can not be asked",
    ),
    Case(
        # What was signed is lost on both sides: signing these positions again would be a fork.
        lambda anchor, _: anchor is Seen.AHEAD,
        Course.RESTORE,
        "the database lacks what this node signed last, and so does the registry; run `elicense-city restore`",
    ),
    Case(
        # Even when the registry holds no more: the node may have signed more than both have.
        lambda anchor, _: anchor is Seen.ABSENT,
        Course.WAIT,
        "the anchor is missing, so nobody knows what was signed last; bring it back, run `elicense-city restore`, "
        "or `elicense-city allow-signing` if the database was certainly never set back",
    ),
    Case(lambda _anchor, _registry: True, Course.GO_ON, "the database holds everything that was signed"),
)
"""Every case; the first that holds decides."""


def judge(anchor: Seen, registry: Seen) -> Case:
    """Return the case, given what the anchor and the registry show."""
    return next(case for case in CASES if case.holds(anchor, registry))


def may_go_on(seen: Seen, anchor: tuple[int, int], registry: tuple[int, int]) -> bool:
    """Whether the open epoch may go on after a restore: only if everything signed in it is certainly in its log.

    An anchor behind the registry is no witness: every head was in it before the
    registry had it, so it was set back together with the database.

    Args:
        seen: What the anchor shows beside the restored log.
        anchor: Epoch and size of its head.
        registry: Epoch and size of what the registry holds.
    """
    # An anchor of an earlier epoch: nothing was answered in the open one yet.
    return seen in (Seen.INSIDE, Seen.EARLIER_EPOCH) and anchor >= registry
