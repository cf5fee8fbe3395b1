"""What a licence was at a past moment, by the revision index: pure.

Two axes.  By *effective time* a revision counts from when it says, also when it
was written later (a correction that reaches back).  By *knowledge* only what the
node held at a moment counts, so that an answer given then can be understood now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from elicense.license.verdict import ViewFlags
from elicense.sql.row import Row
from elicense.v1 import license_pb2 as pb
from elicense.verification.moment import Moment
from elicense.view.model import Revision

_ENDED: Final = frozenset({pb.LICENSE_EVENT_CANCELLED, pb.LICENSE_EVENT_ERASED})
_OF_RECORDS: Final = int(ViewFlags.UNKNOWN_EVENT | ViewFlags.CANCELLED | ViewFlags.REVOKED | ViewFlags.OFFERED)
#: Stands for as long as a decision takes, and says nothing of when it was brought about.
_TAKEN_UP: Final = int(ViewFlags.TAKEN_UP)


@dataclass(frozen=True, slots=True)
class LicenseRuling(Row):
    """From when on the registry's word gave a licence other flags; fields in column order.

    Attributes:
        license_id: UUID bytes.
        person_key: Keyed tag of the person: ids are each city's own choice, so persons may share one.
        decided_us: When it was decided, from when it counts.
        before: Flags until then.
        after: Flags from then on.
    """

    license_id: bytes
    person_key: bytes
    decided_us: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PastState:
    """A licence at a past moment.

    Attributes:
        first: Its earliest revision that is held; None when nothing was known.
        revision: The revision in force; None before the first took effect.
        flags: :class:`ViewFlags` bits then.
        whole: Whether every revision up to the last one that was known is held here.
    """

    first: Revision | None
    revision: Revision | None
    flags: int
    whole: bool


def state_at(
    revisions: Sequence[Revision],
    rulings: Sequence[LicenseRuling],
    moment: Moment,
    *,
    flags: int,
    known_events: frozenset[int],
) -> PastState:
    """Return what a licence was.

    Args:
        revisions: Its revisions, in any order.
        rulings: The registry's rulings on it, in any order.
        moment: When.
        flags: Its flags now.
        known_events: Events that this node understands.
    """
    known = [r for r in revisions if moment.known_us is None or r.received_us <= moment.known_us]
    known.sort(key=lambda revision: revision.revision)
    whole = [revision.revision for revision in known] == list(range(1, len(known) + 1))
    # The latest word on that moment: a higher revision that counts from then or before.
    counting = [revision for revision in known if revision.effective_us <= moment.at_us]
    held = _ruled(sorted(rulings, key=lambda ruling: ruling.decided_us), moment, flags) & ~_OF_RECORDS & ~_TAKEN_UP
    # Until it is decided whose records count, nobody knows since when they do.
    held |= flags & _TAKEN_UP
    if not counting:
        return PastState(known[0] if known else None, None, held, whole)
    if any(revision.event not in known_events for revision in counting):
        held |= ViewFlags.UNKNOWN_EVENT
    if counting[-1].event in _ENDED:
        held |= ViewFlags.CANCELLED
    return PastState(known[0], counting[-1], int(held), whole)


def _ruled(rulings: Sequence[LicenseRuling], moment: Moment, flags: int) -> int:
    """Return the flags that the registry's rulings gave; a ruling does not reach back."""
    past = [ruling for ruling in rulings if ruling.decided_us <= moment.at_us]
    if past:
        return past[-1].after
    return rulings[0].before if rulings else flags
