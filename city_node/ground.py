"""What every part of one process of a city node stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.config import CityConfig
from city_node.epochs import Epochs
from city_node.gate import SigningGate
from city_node.keys import CityKeys
from city_node.store import CityStore
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.workers.leader import Leadership
from elicense.workers.place import Place

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class Ground:
    """What the composition root lays first; only what puts parts together takes it whole.

    Attributes:
        config: The node's configuration.
        keys: Its keys.
        database: Its database.
        store: Its tables.
        key: The open epoch of its log.
        epochs: Signs and names the epochs of its log.
        gate: Whether the node may sign.
        leadership: Whether this process carries the log and does the daily job.
        metrics: What is counted.
        place: Which of the node's processes this is.
        clock: UTC microseconds.
        random: Gives that many random bytes.
    """

    config: CityConfig
    keys: CityKeys
    database: Database
    store: CityStore
    key: LogKey
    epochs: Epochs
    gate: SigningGate
    leadership: Leadership
    metrics: CollectorRegistry
    place: Place
    clock: Callable[[], int]
    random: Callable[[int], bytes]

    @property
    def city(self) -> int:
        """Division code of the city."""
        return self.config.city.code

    @property
    def identity(self) -> SpiffeId:
        """The node, as its certificate names it."""
        return city_id(self.config.node.trust_domain, self.city)

    def leads(self) -> bool:
        """Whether this process does, now, what is to be done once."""
        return self.leadership.leads
