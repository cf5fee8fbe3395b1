"""Taking in the looks that city nodes answered by themselves: each once, in order, without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elicense.access.entry import AccessPosition, RecordedAccess
from elicense.errors import SequenceGap
from elicense.sql.database import Database
from registry.access_store import AccessIndexStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class AccessIntake:
    """Stores shipped looks beside the registry's own.

    Args:
        database: The registry's access log.
        store: Its tables.
    """

    def __init__(self, *, database: Database, store: AccessIndexStore) -> None:
        self._database = database
        self._store = store

    async def take(self, *, node: str, city: int, looks: Sequence[RecordedAccess], complete_us: int) -> AccessPosition:
        """Store a node's looks that are not held yet, and return the position of the last that is.

        Args:
            node: Name of the process that answered them.
            city: Its city.
            looks: Its looks, in order.
            complete_us: Every look that was asked there before this is held afterwards; 0 for no such word.

        Raises:
            SequenceGap: They do not go on from those that are held.
            StoreFull: There is no room.
            Aborted: Another call was faster; send again.
        """

        def write(conn: Connection) -> AccessPosition:
            source = self._store.source(conn, node, city)
            new = [look for look in looks if look.position.sequence > source.sequence]
            numbers = [look.position.sequence for look in new]
            if numbers != list(range(source.sequence + 1, source.sequence + 1 + len(new))):
                raise SequenceGap("the looks do not go on from those that are held", expectedIndex=source.sequence + 1)
            last = new[-1].position if new else source.held
            moved = replace(
                source,
                day=last.day,
                sequence=last.sequence,
                complete_us=max(source.complete_us, complete_us),
            )
            if moved == source:
                return last
            self._store.advance(conn, source, moved)
            if new:
                self._store.looks.append(conn, new)
            return last

        return await self._database.write(write)
