"""Enrolling a city at the registry: its log key, and an empty log to receive into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elicense.errors import AlreadyExists
from elicense.log.model import FIRST_EPOCH, LogKey
from elicense.trust.enrollment import NewCity
from registry.model import City
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class CityEnrollment:
    """Makes enrolled cities known, in the transaction that certifies them.

    Args:
        store: The registry's tables.
        clock: UTC microseconds.
    """

    def __init__(self, *, store: RegistryStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def enroll(self, conn: Connection, city: NewCity) -> bool:
        """Make a city known and open its log; without effect when that was done with the same key.

        A city that lost its keys is known already, and so is its log: it goes on in
        the next epoch, under a key that the city shows when it opens that.

        Args:
            conn: The transaction.
            city: The city, which has proved that it holds its log's key.

        Returns:
            Whether the city's log was opened before, with another key.

        Raises:
            AlreadyExists: The city is enrolled with another key, and does not say that it lost that.
        """
        known = self._store.city(conn, city.city)
        if known is not None:
            if known.log_key == city.log_verifier_key:
                return False
            if not city.again:
                raise AlreadyExists(
                    "this city is enrolled with another log key; put its old keys back, or join with --again if they "
                    "are lost",
                    city=city.city,
                )
            return True
        row = City(city=city.city, epoch=FIRST_EPOCH, log_key=city.log_verifier_key, enrolled_us=self._clock())
        self._store.add_city(conn, row)
        self._store.logs.create(conn, LogKey(city.city, FIRST_EPOCH))
        return False
