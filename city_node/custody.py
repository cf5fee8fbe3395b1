"""What the registry's word on hand-overs makes of this city's own view.

A licence that this city takes over enters the view only with the registry's word
that custody has moved: until then it is arriving, and every question about it is
the registry's to answer.  A licence that another city took over stays in the view
as this city left it, in that city's name, so that a clerk who looks for it is told
where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from city_node.store import CityStore, StoredDisposition
from city_node.transfer_store import DETAIL_LENGTH, Direction, HandOver, HandOverState
from city_node.uniting import unite
from elicense.errors import StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.fold import flags_of, links_of, person_key_of, read_record, revision_of, row_of
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

ACCEPTED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_ACCEPTED
REFUSED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED
AWAY: Final = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
LATE: Final = replication_pb2.DISPOSITION_KIND_LATE_RECORD
NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
ENDS: Final[Mapping[int, HandOverState]] = MappingProxyType(
    {
        license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN: HandOverState.RECALLED,
        license_pb2.LICENSE_EVENT_CANCELLED: HandOverState.CANCELLED,
    }
)
"""Events of this city that end an open offer, and how."""
OF_HAND_OVERS: Final = frozenset({ACCEPTED, REFUSED, AWAY, LATE})


def gone(row: ViewRow, to_city: int) -> ViewRow:
    """Return the row of a licence that another city has taken over."""
    return replace(row, city=to_city, flags=row.flags & ~int(ViewFlags.OFFERED | ViewFlags.RECALLED))


def record_flags(record: license_pb2.LicenseRecord) -> int:
    """Return the flags that a record of this city's log gives its licence in this city's view.

    A withdrawn offer may have been taken up before the registry saw the withdrawal, so
    this city is silent about the licence until the registry has confirmed it.
    """
    provisional = ViewFlags.PROVISIONAL if record.provisional else ViewFlags(0)
    recalled = record.event == license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN
    return flags_of(record) | int(provisional) | (int(ViewFlags.RECALLED) if recalled else 0)


class CustodyFeed:
    """Applies the registry's word on hand-overs, in the transaction that stores it.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
    """

    def __init__(self, *, store: CityStore, persons: PersonIndex) -> None:
        self._store = store
        self._persons = persons

    def apply(self, conn: Connection, word: StoredDisposition) -> bool:
        """Apply one word; False when it says nothing about custody.

        Raises:
            StoreCorrupt: The record of a take-over is not where the word says.
        """
        if word.kind == NOT_IN_CUSTODY:
            return self._drop_late(conn, word)
        if word.kind not in OF_HAND_OVERS:
            return False
        if word.kind in (ACCEPTED, REFUSED):
            self._decide(conn, word)
        elif word.kind == AWAY:
            # A registry that was set back says it again, and the licence may have come back since.
            last = (word.epoch, word.idx)
            if self._store.hand_overs.depart(conn, word.license_id, last, now_us=word.received_us):
                self._leave(conn, word)
        else:
            late = notice(word)
            if late.place not in {each.place for each in self._store.hand_overs.of_license(conn, word.license_id)}:
                self._store.hand_overs.add(conn, [late])
        return True

    def _decide(self, conn: Connection, word: StoredDisposition) -> None:
        """Apply what the registry decided on a take-over; it may say so again, or otherwise, after it was set back."""
        place = (word.license_id, word.epoch, word.idx)
        state = HandOverState.DONE if word.kind == ACCEPTED else HandOverState.REFUSED
        before = self._store.hand_overs.state_of(conn, place)
        if before is state:
            return
        if state is HandOverState.DONE:
            self._arrive(conn, word)
        elif before is HandOverState.DONE:
            # It holds for the registry that custody never moved: the licence is its to answer for.
            self._leave(conn, word)
        detail = word.detail[:DETAIL_LENGTH]
        self._store.hand_overs.end_take_over(conn, place, state, detail=detail, now_us=word.received_us)

    def _leave(self, conn: Connection, word: StoredDisposition) -> None:
        """Let the view say where a licence is now."""
        row = self._store.view.by_license(conn, word.license_id)
        if row is not None:
            self._store.view.replace(conn, [gone(row, word.other_city or 0)])

    def confirm_recalls(self, conn: Connection, held: tuple[int, int], *, now_us: int) -> None:
        """Let licences count again whose withdrawn offer nobody had taken up before.

        Args:
            conn: The transaction.
            held: Epoch and number of entries under the registry's receipt; whatever it decided before it
                had them has been applied.
            now_us: When that was heard.
        """
        waiting = self._store.hand_overs.recalled(conn)
        if not waiting:
            return
        withdrawn = self._withdrawals(conn, waiting)
        left: set[bytes] = set()
        for offer in waiting:
            if withdrawn[offer] < held:
                self._store.hand_overs.set_state(conn, offer, HandOverState.WITHDRAWN, now_us=now_us)
            else:
                left.add(offer.license_id)
        for license_id in {offer.license_id for offer in waiting} - left:
            row = self._store.view.by_license(conn, license_id)
            if row is not None:
                place = (row.person_key, row.license_id, row.flags & ~int(ViewFlags.RECALLED))
                self._store.view.set_flags(conn, [place])

    def _withdrawals(self, conn: Connection, offers: Sequence[HandOver]) -> dict[HandOver, tuple[int, int]]:
        """Return where each of these offers was withdrawn: epoch and index."""
        history = self._store.view.history(conn, {offer.license_id for offer in offers})
        found = {}
        for offer in offers:
            ends = [
                (revision.epoch, revision.idx)
                for revision in history.get(offer.license_id, ())
                if revision.city == offer.city and revision.event == license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN
            ]
            after = [end for end in ends if end > (offer.epoch, offer.idx)]
            # A licence without history was erased, which only a confirmed one can be.
            found[offer] = min(after, default=(0, 0))
        return found

    def _arrive(self, conn: Connection, word: StoredDisposition) -> None:
        """Put a licence that was taken over into the view."""
        entry = self._store.logs.entries_at(conn, LogKey(word.city, word.epoch), [word.idx]).get(word.idx)
        if entry is not None and entry.record is None:
            return  # erased since: the word comes again to a database that was restored
        if entry is None or entry.record is None:
            raise StoreCorrupt("the record of a take-over is missing; run fsck", index=word.idx)
        message = read_record(entry.record)
        person_key = self._store.view.links.root(conn, person_key_of(message, self._persons))
        row = row_of(
            message,
            index=word.idx,
            leaf_hash=entry.leaf_hash,
            flags=record_flags(message),
            persons=self._persons,
            person_key=person_key,
        )
        revision = revision_of(message, index=word.idx, received_us=word.received_us, person_key=person_key)
        # Whatever this city knew of the licence before it moved away is over, flags and all.
        self._store.view.replace(conn, [row])
        self._store.view.add_revisions(conn, [revision])
        unite(conn, self._store, links_of(message, self._persons, index=word.idx))

    def _drop_late(self, conn: Connection, word: StoredDisposition) -> bool:
        """Take out of the history what was written here after the hand-over; it never had effect."""
        row = self._store.view.by_license(conn, word.license_id) if word.license_id else None
        if row is None or row.city == word.city:
            return False
        self._store.view.drop_revision(conn, word.license_id, LogKey(word.city, word.epoch), word.idx)
        return True


def notice(word: StoredDisposition) -> HandOver:
    """Return the notice of a record that the other city wrote too late."""
    return HandOver(
        license_id=word.license_id,
        direction=int(Direction.LATE),
        city=word.other_city or 0,
        epoch=word.epoch,
        idx=word.idx,
        other_city=word.other_city or 0,
        state=int(HandOverState.OPEN),
        updated_us=word.received_us,
        detail=word.detail[:DETAIL_LENGTH],
    )


def note_written(
    store: CityStore, conn: Connection, record: license_pb2.LicenseRecord, *, index: int, now_us: int
) -> None:
    """Keep for the clerks' list what a record of this city starts or ends of a hand-over."""
    if record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_OUT:
        made = _hand_over(record, index, Direction.OUT, record.license.offered_to_city, now_us)
        store.hand_overs.add(conn, [made])
    elif record.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
        store.hand_overs.add(conn, [_hand_over(record, index, Direction.IN, record.taken_over_from.city, now_us)])
    elif record.event in ENDS:
        store.hand_overs.end_offer(conn, record.license_id, ENDS[record.event], now_us=now_us)


def _hand_over(
    record: license_pb2.LicenseRecord, index: int, direction: Direction, other_city: int, now_us: int
) -> HandOver:
    return HandOver(
        license_id=record.license_id,
        direction=int(direction),
        city=record.city,
        epoch=record.epoch,
        idx=index,
        other_city=other_city,
        state=int(HandOverState.OPEN),
        updated_us=now_us,
        detail="",
    )
