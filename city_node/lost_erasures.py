"""Finding licences that a restore has left here although this city had erased them.

A registry that was set back takes emptied slots upon its own receipt, one batch after the other, and the entry that
says what was erased comes with a later one.  Set back in between, the city has the licence as its copy had
it, and nobody holds the entry any more.

A slot that the registry holds emptied and this city in full tells it: an honest registry empties none before a licence
is erased.  So it is found where the copy has a record of the licence that the registry got emptied, and not where
both have in full what both had.  It is the registry's word alone, so nothing is done upon it: the operator
is told, before the node signs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc

from city_node.store import CityStore
from elicense.errors import Malformed
from elicense.log.model import LogKey
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.v1 import recovery_pb2, recovery_pb2_grpc
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIST_SECONDS: Final = 60.0


class LostErasures:
    """Compares what is emptied at the registry with what this city's database held before it was filled again.

    Args:
        database: The city's database.
        store: Its tables.
        stub: The registry's RecoveryService.
        city: Division code.
    """

    def __init__(
        self, *, database: Database, store: CityStore, stub: recovery_pb2_grpc.RecoveryServiceStub, city: int
    ) -> None:
        self._database = database
        self._store = store
        self._stub = stub
        self._city = city

    async def licenses(self, sizes: Mapping[int, int]) -> list[bytes]:
        """Return the ids of the licences in this city's custody of which the registry holds a record emptied, in order.

        Args:
            sizes: By epoch, how many entries of it both sides had before; what came since is alike on both.

        Raises:
            Malformed: The registry's answer leads nowhere.
            Unavailable: The registry or the database is away.
        """
        back: set[bytes] = set()
        for epoch, size in sizes.items():
            key, index = LogKey(self._city, epoch), 0
            while index < size:
                listed = await self._emptied(key, index)
                emptied = [each for each in listed.indices if each < size]
                if emptied:
                    back |= await self._database.read(partial(self._back, key=key, emptied=emptied))
                index = listed.next_index
        return sorted(back)

    async def _emptied(self, key: LogKey, first_index: int) -> recovery_pb2.ListEmptiedSlotsResponse:
        request = recovery_pb2.ListEmptiedSlotsRequest(epoch=key.epoch, first_index=first_index)
        try:
            listed: recovery_pb2.ListEmptiedSlotsResponse = await self._stub.ListEmptiedSlots(
                request, timeout=LIST_SECONDS
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if listed.next_index <= first_index:
            raise Malformed("the registry did not say which slots it holds emptied")
        return listed

    def _back(self, conn: Connection, *, key: LogKey, emptied: Sequence[int]) -> set[bytes]:
        """Return the licences in custody of which the database holds one of these slots in full."""
        entries = self._store.logs.entries_at(conn, key, emptied).values()
        named = {license_id for entry in entries if (license_id := _license_of(entry.record)) is not None}
        rows = ((license_id, self._store.view.by_license(conn, license_id)) for license_id in named)
        return {license_id for license_id, row in rows if row is not None and row.city == self._city}


def _license_of(record: bytes | None) -> bytes | None:
    try:
        return None if record is None else read_record(record).license_id
    except Malformed:
        return None  # it names none, and fsck says so
