"""Taking back what a city wrote too late, where the hand-over before it is brought back only now.

A registry that was set back gets the records of cities again in whatever order they
come.  What the old city wrote after a hand-over counted nowhere; here it counted as
long as the decision was not back.  So before the decision is, the licence is put as it
stood at the record that the decision rests on.  What came behind loses its effect, and
both cities are told, as they were then.  An erasure by the old city that was postponed
(:mod:`registry.postponed`) has not ended it, either.

The old city may send that record as an empty slot, having erased it.  The decision names
its hash, and a take-over changes nothing of a licence: so it is put as the take-over
tells it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from elicense.errors import LogBehind
from elicense.log.model import LogKey, StoredEntry
from elicense.v1 import license_pb2, log_pb2, replication_pb2
from elicense.view.fold import flags_of, read_record, row_of
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.bans import ban_by
from registry.links import asks
from registry.model import Claim, ClaimState
from registry.national import LateRecord, NationalChange
from registry.postponed import stand_again
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NOT_IN_CUSTODY: Final = int(replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY)
_DETAIL: Final = "The city does not have custody of the license."


def take_back(
    conn: Connection, store: RegistryStore, decided: log_pb2.TransferDecided, *, person_key: bytes, persons: PersonIndex
) -> dict[LogKey, NationalChange]:
    """Put a licence as it stood when its hand-over was decided.

    Args:
        conn: The transaction that brings the decision back; no city's log grows meanwhile.
        store: The registry's tables.
        decided: A hand-over that was accepted.
        person_key: Tag of the person, as they are known by.
        persons: Computes person and name tags.

    Returns:
        What is to be written once the decision is: words to both cities, by log of the old one.

    Raises:
        LogBehind: It can not be: the old city gave the driver another number since, or what it cites is erased.
    """
    source, license_id = decided.source, decided.license_id
    held = store.view.by_person(conn, [person_key]).get(person_key, ())
    row = next((row for row in held if row.license_id == license_id), None)
    if row is not None and row.city != source.city:
        return {}
    if row is not None:
        stand_again(conn, store, row)
    is_beyond = row is not None and (row.epoch, row.idx) > (source.epoch, source.index)
    is_told = is_told_by_take_over(conn, store, decided)
    if not is_beyond and not is_told:
        return {}
    late = [
        each
        for each in store.view.history(conn, [license_id]).get(license_id, ())
        if (each.city, each.person_key) == (source.city, person_key)
        and (each.epoch, each.idx) > (source.epoch, source.index)
    ]
    entries = store.logs.entries_anywhere(conn, [_at(decided.source), *(_place(each) for each in late)])
    if any(asks(_message(entries.get(_place(each)))) for each in late):
        raise LogBehind(
            "a hand-over that was decided can not be brought back, because the old city has given the driver another "
            "number since; see `elicense-registry allow-signing`",
            city=source.city,
        )
    if is_told:
        before = _before_take_over(conn, store, decided)
    else:
        entry = entries.get(_at(decided.source))
        before = _message(entry)
        if entry is None or entry.leaf_hash != decided.source_entry_hash:
            return {}  # whoever judges it finds that, and says so
    _put(conn, store, row_of(
        before,
        index=source.index,
        leaf_hash=decided.source_entry_hash,
        flags=flags_of(before),
        persons=persons,
        person_key=person_key,
    ), late)  # fmt: skip
    return _words(late, decided)


def is_told_by_take_over(conn: Connection, store: RegistryStore, decided: log_pb2.TransferDecided) -> bool:
    """Whether the record that a hand-over rests on is here as an empty slot, and the take-over with its content."""
    entries = store.logs.entries_anywhere(conn, [_at(decided.source), _at(decided.position)])
    source, arrival = entries.get(_at(decided.source)), entries.get(_at(decided.position))
    if source is None or arrival is None:
        return False
    empty = source.record is None and source.leaf_hash == decided.source_entry_hash
    return empty and arrival.record is not None and arrival.leaf_hash == decided.entry_hash


def _before_take_over(
    conn: Connection, store: RegistryStore, decided: log_pb2.TransferDecided
) -> license_pb2.LicenseRecord:
    """Return the record that a take-over cites, as far as the take-over tells it."""
    message = _message(store.logs.entries_anywhere(conn, [_at(decided.position)]).get(_at(decided.position)))
    message.city, message.epoch, message.revision = decided.source.city, decided.source.epoch, message.revision - 1
    message.event = license_pb2.LICENSE_EVENT_TRANSFERRED_OUT
    message.license.offered_to_city = decided.position.city
    return message


def _put(conn: Connection, store: RegistryStore, row: ViewRow, late: Sequence[Revision]) -> None:
    """Have a licence stand so, and nothing be left of what was written behind."""
    store.view.replace(conn, [row])
    for each in late:
        store.view.drop_revision(conn, each.license_id, LogKey(each.city, each.epoch), each.idx)
    store.end_pending(conn, store.pending_at(conn, [(each.city, each.epoch, each.idx) for each in late]))
    store.bans.put(conn, {(row.person_key, row.license_id): ban_by(row)})
    # The decision itself takes the offer away.
    claim = store.claims.of(conn, [row.person_key], lock=True).get(row.person_key)
    if claim is None:
        # It counted by a confirmation, which found no licence.
        held = Claim(row.person_key, row.city, row.license_id, "", int(ClaimState.HELD), 0, 0, 0)
        store.claims.acquire(conn, [held], lapsed={})
        return
    ours = claim.license_id == row.license_id and claim.state == ClaimState.RELEASED
    if claim.city == row.city and (ours or claim.state == ClaimState.LEASED):
        store.claims.hold(conn, row.city, {row.person_key: row.license_id})


def _words(late: Sequence[Revision], decided: log_pb2.TransferDecided) -> dict[LogKey, NationalChange]:
    words: defaultdict[LogKey, NationalChange] = defaultdict(NationalChange)
    for each in sorted(late, key=lambda revision: (revision.epoch, revision.idx)):
        change = words[LogKey(each.city, each.epoch)]
        change.notes.append((each.idx, _NOT_IN_CUSTODY, each.license_id, _DETAIL))
        change.late.append(LateRecord(decided.position.city, each.idx, each.license_id))
    return words


def _at(where: log_pb2.LogPosition) -> tuple[LogKey, int]:
    return LogKey(where.city, where.epoch), where.index


def _place(revision: Revision) -> tuple[LogKey, int]:
    return LogKey(revision.city, revision.epoch), revision.idx


def _message(entry: StoredEntry | None) -> license_pb2.LicenseRecord:
    """Return the record of an entry that was folded."""
    if entry is None or entry.record is None:
        raise LogBehind(
            "a hand-over that was decided can not be brought back, because what it rests on is erased; see "
            "`elicense-registry allow-signing`"
        )
    return read_record(entry.record)
