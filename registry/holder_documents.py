"""Which documents have named a holder: looks are recorded under the number that was asked, so a list needs them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.v1 import license_pb2
from elicense.view.fold import read_record
from elicense.view.person import PersonIndex
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class HolderDocuments:
    """Finds the documents of a holder.

    Args:
        database: The registry's database.
        store: Its tables.
        persons: Computes person tags.
    """

    def __init__(self, *, database: Database, store: RegistryStore, persons: PersonIndex) -> None:
        self._database = database
        self._store = store
        self._persons = persons

    async def of(self, document: license_pb2.IdentityDocument) -> list[license_pb2.IdentityDocument]:
        """Return every document that the licences of a holder name, now or before; the one that is asked for in front.

        Raises:
            StoreUnavailable: The database is away.
        """
        person_key = self._persons.person_key(document.type, document.number)

        def read(conn: Connection) -> list[bytes | None]:
            rows = self._store.view.by_document(conn, [person_key]).get(person_key, [])
            places = [(LogKey(row.city, row.epoch), row.idx) for row in rows]
            return [entry.record for entry in self._store.logs.entries_anywhere(conn, places).values()]

        found = {(document.type, document.number): document}
        for record in await self._database.read(read):
            if record is not None:
                message = read_record(record)
                named = [*message.earlier_documents, message.license.holder.document]
                found |= {(each.type, each.number): each for each in named}
        return list(found.values())
