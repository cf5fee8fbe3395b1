"""Which cities do not sign that they know where a licence of theirs went, though they were told.

What such a city writes of the licence has no effect, but convicts nobody: it can say for
ever that it was cut off.  So the registry shows for how long it was not: from the decision
until the city called last, since every answer carries what it has not stored yet.  A city
that is away grows no older by it, and one that signs, as any honest one does with its next
call, is not seen at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge

from elicense.clock import SECOND_US, from_timestamp
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from registry.model import NotedDisposition
from registry.readiness import decision_of
from registry.store import RegistryStore
from registry.told_store import Mark

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AWAY: Final = int(replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY)
#: Words that are looked at in one go, and the numbers of a feed among which they are looked for.
_WORDS: Final = 64
_NUMBERS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """A city that has not signed that it knows where a licence of its own went.

    Attributes:
        city: Division code.
        word: The oldest word of its feed that it has not signed.
        decided_us: When that was decided, in UTC microseconds by the registry's clock.
        heard_us: When the city called last.
    """

    city: int
    word: NotedDisposition
    decided_us: int
    heard_us: int

    @property
    def seconds(self) -> float:
        """Return for how long it has known without signing."""
        return max(0, self.heard_us - self.decided_us) / SECOND_US


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look came to.

    Attributes:
        found: The oldest word that each city has not signed, as far as was read.
        signed: Up to which number nothing is left to be signed, by log; where that is more than before.
        is_whole: Whether all was read.
    """

    found: list[Unacknowledged]
    signed: dict[LogKey, int]
    is_whole: bool


class Acknowledgements:
    """Looks for what cities do not sign; each look reads no more than a page of any city's feed.

    How far it came is noted beside the feeds: a database that is set back beneath a
    running registry has other words under these numbers, and takes the notes back with its own.

    Args:
        store: The registry's tables.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    def look(self, conn: Connection) -> Looked:
        """Return what is found behind what was noted."""
        return self._look(conn, self._noted(conn))

    def note(self, conn: Connection, looked: Looked) -> None:
        """Note how far a look came: a city may be told other things without end."""
        for key, number in looked.signed.items():
            self._store.told.reach(conn, key.log, Mark.SIGNED, number, key.epoch)

    def all(self, conn: Connection) -> list[Unacknowledged]:
        """Return the oldest that each city has not signed, however long its feed is."""
        noted = self._noted(conn)
        while True:
            looked = self._look(conn, noted)
            if looked.is_whole:
                return looked.found
            noted |= looked.signed

    def _noted(self, conn: Connection) -> dict[LogKey, int]:
        noted: dict[LogKey, int] = {}
        for city, what, epoch, number in self._store.told.marks(conn):
            if what in (Mark.TOLD, Mark.SIGNED):
                key = LogKey(city, epoch)
                noted[key] = max(number, noted.get(key, 0))
        return noted

    def _look(self, conn: Connection, noted: Mapping[LogKey, int]) -> Looked:
        store = self._store
        states = {state.city: state for state in store.states(conn)}
        found: list[Unacknowledged] = []
        reached: dict[LogKey, int] = {}
        is_whole = True
        for city, last in sorted(store.feeds.ends(conn).items()):
            state = states.get(city)
            if state is None:
                continue
            key = LogKey(city, state.epoch)
            after = noted.get(key, 0)
            if after < last:
                after = store.feeds.next_behind(conn, city, after, until=last)
            if after >= last:
                continue
            word, signed = self._oldest(conn, key, after, min(last, after + _NUMBERS))
            if signed > noted.get(key, 0):
                reached[key] = signed
            if word is None:
                is_whole = is_whole and signed >= last
                continue
            decided_us = self._decided_us(conn, word)
            if decided_us is not None:
                found.append(Unacknowledged(city, word, decided_us, state.received_us))
        return Looked(found, reached, is_whole)

    def _oldest(self, conn: Connection, key: LogKey, after: int, until: int) -> tuple[NotedDisposition | None, int]:
        """Return the first word that is not signed, and up to where all are."""
        words = self._store.feeds.of_kind(conn, key.log, _AWAY, after=after, until=until, limit=_WORDS)
        signed = self._store.told.signed(conn, key, {(word.epoch, word.idx) for word in words})
        for word in words:
            if (word.epoch, word.idx) not in signed:
                return word, word.seq - 1
        return None, words[-1].seq if len(words) == _WORDS else until

    def _decided_us(self, conn: Connection, word: NotedDisposition) -> int | None:
        """Return when the registry decided what a word says; None where its log has not been read so far."""
        logs = self._store.logs
        last = logs.entries_at(conn, LogKey(word.city, word.epoch), [word.idx]).get(word.idx)
        place = None if last is None else self._store.custody.latest(conn, word.license_id, word.city, last.leaf_hash)
        if place is None:
            return None
        entry = logs.entries_at(conn, LogKey(REGISTRY_LOG, place[0]), [place[1]]).get(place[1])
        return None if entry is None else from_timestamp(decision_of(entry.record or b"").record_time)


class UnacknowledgedGauge:
    """Shows for how long each city has known without signing.

    Args:
        database: The registry's database.
        store: Its tables.
        leads: Whether this process looks; another one shows nothing.
        metrics: Where it is shown.
    """

    def __init__(
        self, *, database: Database, store: RegistryStore, leads: Callable[[], bool], metrics: CollectorRegistry
    ) -> None:
        self._database = database
        self._acknowledgements = Acknowledgements(store)
        self._leads = leads
        self._age = Gauge(
            "elicense_custody_unacknowledged_seconds",
            "How long a city has not signed, though it was told, that a licence of its own went to another city.",
            ["city"],
            registry=metrics,
        )

    async def look(self) -> None:
        """Show it as it stands now.

        Raises:
            StoreUnavailable: The database is away.
        """
        if not self._leads():
            self._age.clear()
            return
        looked = await self._database.read(self._acknowledgements.look)
        if looked.signed:
            await self._database.write(lambda conn: self._acknowledgements.note(conn, looked))
        self._age.clear()
        for each in looked.found:
            self._age.labels(str(each.city)).set(each.seconds)
