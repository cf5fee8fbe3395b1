"""Erasing nothing while the registry's own log is in doubt, and all of it once it decides again.

A registry whose log is in doubt does not know who has a licence: a hand-over may be among
what it lacks.  What the former city erased then would be gone before the decision is
back that tells that it was another's.  So, while the registry decides nothing:

1. An ERASED entry is noted in the transaction that appends it, and empties nothing.
   What it erases is at its end all the same: nobody is told that it is valid, and the
   person is free, as decisions that are still to come back may presume.
2. A hand-over that comes back has the licence stand again as it did at its source
   (:mod:`registry.late_records`); the new city's own erasure, if it has come, counts then.
3. Once the registry decides again, each entry is judged by who has the licence by then,
   and carried out or refused as if it had just arrived.

What waits is a table and each step one transaction, so a crash loses nothing and does
nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, position
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.v1 import license_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import flags_of, read_record
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.erasure import Erasures, erasable, erase, locked_rows
from registry.erasure_orders import refused_before
from registry.model import Claim, ClaimState
from registry.postponed_store import Postponed
from registry.readiness import Readiness
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CANCELLED: Final = int(ViewFlags.CANCELLED)
#: Entries carried out in one transaction: each may empty the slots of a licence's whole life.
_PER_COMMIT: Final = 100
_PAGE: Final = 1_000


def postpone(
    conn: Connection,
    store: RegistryStore,
    key: LogKey,
    erasures: Sequence[tuple[int, license_pb2.LicenseRecord]],
) -> None:
    """Note that a city has erased licences, in the transaction that appended its ERASED entries.

    Args:
        conn: The transaction.
        store: The registry's tables.
        key: Log of the city that says so.
        erasures: Index and record of each ERASED entry.
    """
    store.postponed.add(conn, [Postponed(key.log, key.epoch, index, each.license_id) for index, each in erasures])
    for _, message in erasures:
        _end(conn, store, key.log, message)


def erase_after_hand_over(
    conn: Connection, store: RegistryStore, persons: PersonIndex, city: int, license_id: bytes, *, now: bool
) -> list[Erased]:
    """Erase a licence, now that a city has got custody, whose ERASED entry arrived before that; or postpone it.

    Args:
        conn: The transaction that moves custody.
        store: The registry's tables.
        persons: Computes person tags.
        city: The city that has custody now.
        license_id: The licence.
        now: Whether the registry holds its own log whole.

    Returns:
        The slots that were emptied.
    """
    erased: list[Erased] = []
    for key, index, message in refused_before(conn, store, city, license_id):
        if now:
            erased += erase(conn, store, persons, key, [(index, message)]).slots
        else:
            postpone(conn, store, key, [(index, message)])
    for each in store.postponed.of_license(conn, [license_id]):
        if each.city == city and (waiting := _message(conn, store, each)) is not None:
            _end(conn, store, city, waiting)
    return erased


def stand_again(conn: Connection, store: RegistryStore, row: ViewRow) -> None:
    """Have a licence stand as its latest record says, if nothing but a postponed erasure has ended it."""
    claim = store.claims.of(conn, [row.person_key], lock=True).get(row.person_key)
    if not row.flags & _CANCELLED or claim is None or not _was_of(claim, row):
        return
    entry = store.logs.entries_at(conn, LogKey(row.city, row.epoch), [row.idx]).get(row.idx)
    if entry is not None and entry.record is not None:
        try:
            if flags_of(read_record(entry.record)) & _CANCELLED:
                return
        except Malformed:
            return
    store.view.set_flags(conn, [(row.person_key, row.license_id, row.flags & ~_CANCELLED)])
    store.claims.hold(conn, row.city, {row.person_key: row.license_id})


class PostponedErasures:
    """Carries out what was postponed.

    Args:
        database: The registry's database.
        store: Its tables.
        persons: Computes person tags.
        log_is_whole: Whether the registry holds its own log whole.
        on_erased: Called with slots that were emptied, whose content the database's files may still hold.
        count_erasures: Called with a city and what came of an erasure of it.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        persons: PersonIndex,
        log_is_whole: Callable[[], bool],
        on_erased: Callable[[Sequence[Erased]], None],
        count_erasures: Callable[[int, Erasures], None],
    ) -> None:
        self._database = database
        self._store = store
        self._persons = persons
        self._log_is_whole = log_is_whole
        self._on_erased = on_erased
        self._count_erasures = count_erasures

    async def carry_out(self) -> int:
        """Judge every erasure that waits, if the registry decides again; return how many were judged.

        Raises:
            StoreUnavailable: The database is away; what waits is judged later.
        """
        judged = 0
        while self._log_is_whole() and await self._database.read(self._waits):
            count, came = await self._database.write(self._carry_out)
            if not count:
                break
            judged += count
            for city, each in came:
                self._count_erasures(city, each)
            if erased := [slot for _, each in came for slot in each.slots]:
                self._on_erased(erased)
        return judged

    def _waits(self, conn: Connection) -> bool:
        return bool(self._store.postponed.page(conn, limit=1))

    def _carry_out(self, conn: Connection) -> tuple[int, list[tuple[int, Erasures]]]:
        Readiness(self._store).lock(conn)  # no city writes of the licences meanwhile
        if not self._log_is_whole():
            return 0, []
        page = self._store.postponed.page(conn, limit=_PER_COMMIT)
        came: list[tuple[int, Erasures]] = []
        for each in page:
            message = _message(conn, self._store, each)
            if message is None:
                continue  # damage: an ERASED entry holds nothing of a person, and so is never taken out itself
            for row in locked_rows(conn, self._store, each.license_id):
                if row.city == each.city:
                    stand_again(conn, self._store, row)
            key = LogKey(each.city, each.epoch)
            came.append((each.city, erase(conn, self._store, self._persons, key, [(each.idx, message)])))
        self._store.postponed.remove(conn, page)
        return len(page), came


def ended_by_postponed(conn: Connection, store: RegistryStore, license_ids: Sequence[bytes]) -> set[tuple[bytes, int]]:
    """Return which of these licences a city has erased without its being carried out yet: (licence, city)."""
    return {(each.license_id, each.city) for each in store.postponed.of_license(conn, license_ids)}


def check_postponed(conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
    """Whatever was postponed must be an ERASED entry of that licence."""
    after: Postponed | None = None
    while page := store.postponed.page(conn, limit=_PAGE, after=after):
        after = page[-1]
        for each in page:
            message = _message(conn, store, each)
            if message is None or message.license_id != each.license_id:
                where = position(LogKey(each.city, each.epoch), each.idx)
                found(Finding(where, "an erasure waits for its turn that the entry does not state"))


def _end(conn: Connection, store: RegistryStore, city: int, erasure: license_pb2.LicenseRecord) -> None:
    """Have a licence count no more that a city may erase by what is known now."""
    own = [row for row in locked_rows(conn, store, erasure.license_id) if row.city == city]
    # The order that it may cite comes in its own time: until then nobody is told that the licence is valid.
    row = erasable(conn, store, own, erasure, as_ordered=True)
    if row is not None:
        store.view.set_flags(conn, [(row.person_key, row.license_id, row.flags | _CANCELLED)])
        store.claims.release(conn, city, {row.person_key: row.license_id})


def _was_of(claim: Claim, row: ViewRow) -> bool:
    return (claim.city, claim.license_id, claim.state) == (row.city, row.license_id, ClaimState.RELEASED)


def _message(conn: Connection, store: RegistryStore, postponed: Postponed) -> license_pb2.LicenseRecord | None:
    """Return the record of a postponed erasure."""
    key = LogKey(postponed.city, postponed.epoch)
    entry = store.logs.entries_at(conn, key, [postponed.idx]).get(postponed.idx)
    return None if entry is None else read_erasure(entry.record)
