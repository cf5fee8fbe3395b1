"""What the registry shows of logs: every city's and its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elicense.clock import SECOND_US
from elicense.errors import NotFound
from elicense.log.checkpoint import Checkpoint, cosign, log_verifier_key, sign_checkpoint
from elicense.log.model import REGISTRY_LOG, CheckpointRow, LogKey
from elicense.log.transparency import ShownLog
from elicense.log.verifier_key import format_vkey
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import Signer
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class RegistryShowing:
    """Implements :class:`elicense.log.transparency.Showing` for the registry.

    Args:
        store: The registry's tables.
        trust_domain: Prefix of log origins.
        signer: Key of the registry's own log.
        cosigner: Signs receipts.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        store: RegistryStore,
        trust_domain: str,
        signer: Signer,
        cosigner: Signer,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._trust_domain = trust_domain
        self._signer = signer
        self._cosigner = cosigner
        self._clock = clock

    def logs(self, conn: Connection) -> list[ShownLog]:
        """Return the registry's own log and those of every enrolled city."""
        own = []
        for key in self._store.logs.keys(conn):
            if key.log == REGISTRY_LOG:
                origin = registry_origin(self._trust_domain, key.epoch)
                own.append(ShownLog(key, origin, format_vkey(log_verifier_key(origin, self._signer.public_key()))))
        return own + [
            ShownLog(
                LogKey(city.city, city.epoch),
                city_log_origin(self._trust_domain, city.city, city.epoch),
                city.log_key,
            )
            for city in self._store.cities(conn)
        ]

    def published(self, conn: Connection, key: LogKey) -> int:
        """Return how far the latest vector goes; the registry's own log is public to the commit that wrote it."""
        size = self._store.published_size(conn, key)
        if key.log != REGISTRY_LOG or not size:
            return size
        row = self._store.logs.commits.of(conn, key, size - 1)
        return 0 if row is None else row.size

    def seal(self, key: LogKey, row: CheckpointRow) -> bytes:
        """Return the head, signed, and cosigned when it is a city's.

        A head that stands in the database is durable: signing it once more is no fork.
        """
        if key.log == REGISTRY_LOG:
            origin = registry_origin(self._trust_domain, key.epoch)
            return row.note or sign_checkpoint(Checkpoint(origin, row.size, row.root), self._signer)
        if row.cosigned is not None:
            return row.cosigned
        if row.note is None:
            raise NotFound("the city has not signed this head")
        return cosign(
            row.note,
            name=cosigner_name(self._trust_domain),
            signer=self._cosigner,
            time_s=self._clock() // SECOND_US,
        )

    def vector(self, conn: Connection) -> tuple[LogKey, int] | None:
        """Return where the latest vector stands: the published part of the registry's log ends with it."""
        public = [head for head in self._store.published(conn) if head.log == REGISTRY_LOG]
        if not public:
            return None
        newest = max(public, key=lambda head: head.epoch)
        return LogKey(newest.log, newest.epoch), newest.size - 1
