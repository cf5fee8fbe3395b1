"""What every part of one registry process stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.workers.leader import Leadership
from elicense.workers.place import Place
from registry.config import RegistryConfig
from registry.keys import RegistryKeys
from registry.names import cosigner_name
from registry.store import RegistryStore

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class Ground:
    """What the composition root lays first; only what puts parts together takes it whole.

    Attributes:
        config: The registry's configuration.
        keys: Its keys.
        database: Its database.
        store: Its tables.
        leadership: Whether this process does what is to be done once.
        metrics: What is counted.
        place: Which of the registry's processes this is.
        own_key: The registry's own log, in its open epoch.
        clock: UTC microseconds.
        random: Gives that many random bytes.
    """

    config: RegistryConfig
    keys: RegistryKeys
    database: Database
    store: RegistryStore
    leadership: Leadership
    metrics: CollectorRegistry
    place: Place
    own_key: LogKey
    clock: Callable[[], int]
    random: Callable[[int], bytes]

    @property
    def trust_domain(self) -> str:
        """Prefix of every identity and of every log's origin."""
        return self.config.node.trust_domain

    @property
    def cosigner_name(self) -> str:
        """Name of the key that signs receipts."""
        return cosigner_name(self.trust_domain)

    def leads(self) -> bool:
        """Whether this process does, now, what is to be done once."""
        return self.leadership.leads
