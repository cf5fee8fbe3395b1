"""How current each city's records are at the registry, at most a second old and never over-claimed.

A cached state says less than the database by now, never more: read it before
the rows that it vouches for, and everything that the city had recorded up to
its as-of time is in them.

A registry whose own log is in doubt may lack decisions, and does not know which city
has a licence by now, whatever it holds of any: it vouches for none until it decides again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from elicense.sql.database import Database
from elicense.v1 import verification_pb2
from elicense.verification.answer import CityFreshness
from registry.model import CityState
from registry.store import RegistryStore

#: Age beyond which the states are read again.
MAX_AGE_US: Final = 1_000_000
_NONE: Final[Mapping[int, CityFreshness]] = MappingProxyType({})


class Freshness:
    """A short-lived cache over the replication states of all cities.

    Args:
        database: The registry's database.
        store: Its tables.
        clock: UTC microseconds.
        lacks_decisions: Whether decisions may be missing of the registry's own log.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        clock: Callable[[], int],
        lacks_decisions: Callable[[], bool],
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._lacks_decisions = lacks_decisions
        self._held = _NONE
        self._read_us: int | None = None
        self._reading: asyncio.Task[Mapping[int, CityFreshness]] | None = None

    async def of_cities(self) -> Mapping[int, CityFreshness]:
        """Return the freshness of every city that was ever heard, by division code; none while the log is in doubt.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._lacks_decisions():
            # What was read before the database was set back may be more than it holds.
            self._read_us = None
            return _NONE
        # A clock that was set back makes the age negative: read again.
        if self._read_us is not None and 0 <= self._clock() - self._read_us < MAX_AGE_US:
            return self._held
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        # Callers share one read; one that gives up must not take it from the others.
        return await asyncio.shield(self._reading)

    async def as_of(self) -> Mapping[int, int]:
        """Return by city up to when its records are complete here."""
        return {city: freshness.as_of_us for city, freshness in (await self.of_cities()).items()}

    def heard(self, city: int) -> None:
        """Note that a city was heard: the first time, the states are read again at once."""
        if city not in self._held:
            self._read_us = None

    async def _read(self) -> Mapping[int, CityFreshness]:
        # Taken before the read: the answer may be older than its arrival.
        read_us = self._clock()
        states = await self._database.read(self._store.states)
        self._held = MappingProxyType({state.city: freshness_of(state) for state in states})
        self._read_us = read_us
        return self._held


def freshness_of(state: CityState) -> CityFreshness:
    """Return what the registry can say of a city in ``state``."""
    return CityFreshness(
        source=verification_pb2.SOURCE_REGISTRY,
        as_of_us=state.as_of_us,
        log_size=state.next_index,
        log_epoch=state.epoch,
    )
