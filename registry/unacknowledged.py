"""Which cities do not sign that they know where a licence of theirs went, though they were told.

What such a city writes of the licence has no effect, but convicts nobody: it can say for
ever that it was cut off.  So the registry shows for how long it was not: from the decision
until the city called last, since every answer carries what it has not stored yet.  A city
that is away grows no older by it, and one that signs, as any honest one does with its next
call, is not seen at all.
"""

from __future__ import annotations

from collections.abc import Callable
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


class Acknowledgements:
    """Looks for what cities do not sign; each look reads no more than a page of any city's feed.

    Args:
        store: The registry's tables.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        # Up to where nothing is left to be signed, by log: a city may be told other things without end.
        self._passed: dict[LogKey, int] = {}

    def look(self, conn: Connection) -> tuple[list[Unacknowledged], bool]:
        """Return the oldest that each city has not signed, as far as was read, and whether all was."""
        store = self._store
        states = {state.city: state for state in store.states(conn)}
        reached = {(city, epoch): number for city, what, epoch, number in store.told.marks(conn) if what == Mark.TOLD}
        found, all_read = [], True
        for city, last in sorted(store.feeds.ends(conn).items()):
            if (state := states.get(city)) is None:
                continue
            key = LogKey(city, state.epoch)
            after = max(reached.get((city, state.epoch), 0), self._passed.get(key, 0))
            if after >= last or (after := store.feeds.next_behind(conn, city, after, until=last)) >= last:
                continue
            word, passed = self._oldest(conn, key, after, min(last, after + _NUMBERS))
            self._passed[key] = passed
            if word is None:
                all_read = all_read and passed >= last
            elif (decided_us := self._decided_us(conn, word)) is not None:
                found.append(Unacknowledged(city, word, decided_us, state.received_us))
        return found, all_read

    def all(self, conn: Connection) -> list[Unacknowledged]:
        """Return the oldest that each city has not signed, however long its feed is."""
        while True:
            found, all_read = self.look(conn)
            if all_read:
                return found

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
        found, _ = await self._database.read(self._acknowledgements.look)
        self._age.clear()
        for each in found:
            self._age.labels(str(each.city)).set(each.seconds)
