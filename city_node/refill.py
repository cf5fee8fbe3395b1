"""Filling the city's log again from the registry, byte for byte, and proving it on the way.

A page is a transaction, so a refill can end at any moment and goes on where it
was.  Nothing is believed: leaf hashes are computed from records and salts, each
signed head among them must follow from the entries and be signed by the log's
own key, and the last one must be the head that the registry cosigned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import grpc

from city_node.rebuild import Rebuild
from city_node.receipts import TrustedKeys
from city_node.store import CityStore
from elicense.clock import from_timestamp
from elicense.errors import LogForked, Malformed, RootMismatch, StoreCorrupt
from elicense.log.checkpoint import open_cosigned
from elicense.log.model import Head, LogKey, NewEntry
from elicense.log.pages import check_part, parts_of
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.v1 import license_pb2, recovery_pb2, recovery_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

PAGE_SECONDS: Final = 60.0


class Refill:
    """Brings one epoch of the log up to what the registry holds.

    Args:
        database: The city's database.
        store: Its tables.
        rebuild: Writes the tables that rest on the entries.
        stub: The registry's RecoveryService.
        progress: Called with entries that are there, and how many there will be.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: CityStore,
        rebuild: Rebuild,
        stub: recovery_pb2_grpc.RecoveryServiceStub,
        progress: Callable[[int, int], None],
    ) -> None:
        self._database = database
        self._store = store
        self._rebuild = rebuild
        self._stub = stub
        self._progress = progress

    async def run(self, key: LogKey, keys: TrustedKeys, state: recovery_pb2.EpochState) -> Head:
        """Fill the log up to the registry's head; a log that has more is left as it is.

        Args:
            key: The log; it was created before.
            keys: What its heads are signed with.
            state: What the registry holds of it.

        Returns:
            Its head.

        Raises:
            LogForked: City and registry hold two histories.
            RootMismatch: What the registry sent does not lead to the heads that were signed.
            SignatureInvalid: A head is not signed by the log, or the last one not by the registry.
            Unavailable: The registry or the database is away; start again.
        """
        head = await self._head(key)
        while head.size < state.size:
            page = await self._page(key, head.size)
            head = await self._database.write(partial(self._append, key=key, keys=keys, page=page))
            self._progress(head.size, state.size)
        await self._prove(key, keys, state)
        return head

    async def _page(self, key: LogKey, first_index: int) -> recovery_pb2.ReadLogResponse:
        request = recovery_pb2.ReadLogRequest(epoch=key.epoch, first_index=first_index)
        try:
            page: recovery_pb2.ReadLogResponse = await self._stub.ReadLog(request, timeout=PAGE_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if not page.entries or not page.heads:
            raise Malformed("the registry sent nothing of the log that it says it holds")
        return page

    def _append(self, conn: Connection, *, key: LogKey, keys: TrustedKeys, page: recovery_pb2.ReadLogResponse) -> Head:
        head = self._store.logs.head(conn, key, lock=True)
        if head is None:
            raise StoreCorrupt("the log is missing; start again")
        start, parts = head.size, parts_of(page, head.size)
        for part in parts:
            check_part(part, head.frontier, origin=keys.origin, key=keys.log_key)
            before = head
            recorded_us = max(before.recorded_us, _recorded_us(part.entries))
            head = self._store.logs.advance(conn, before, part.entries, recorded_us=recorded_us, note=part.head.note)
            if part.head.cosigned:
                open_cosigned(
                    part.head.cosigned, origin=keys.origin, log_key=keys.log_key, cosigner_key=keys.cosigner_key
                )
                self._store.logs.commits.store_cosigned(conn, key, head.size, part.head.cosigned)
        self._rebuild.apply(conn, start, [entry for part in parts for entry in part.entries], head.size)
        return head

    async def _prove(self, key: LogKey, keys: TrustedKeys, state: recovery_pb2.EpochState) -> None:
        """Compare with the registry's cosigned head, and keep it as this city's receipt."""
        if not state.size:
            return
        cosigned = open_cosigned(
            state.receipt, origin=keys.origin, log_key=keys.log_key, cosigner_key=keys.cosigner_key
        ).checkpoint

        def write(conn: Connection) -> None:
            head = self._store.logs.head(conn, key)
            if head is None or head.size < cosigned.size or cosigned.size != state.size:
                raise RootMismatch("the registry's receipt is not of what it says it holds", size=cosigned.size)
            if self._store.logs.root_at(conn, head, cosigned.size) != cosigned.root:
                raise LogForked("this city's log is another one than the registry's", size=cosigned.size)
            held = self._store.logs.commits.latest_cosigned(conn, key)
            if held is None or held[0] < cosigned.size:
                self._store.logs.commits.store_cosigned(conn, key, cosigned.size, state.receipt)

        await self._database.write(write)

    async def _head(self, key: LogKey) -> Head:
        head = await self._database.read(lambda conn: self._store.logs.head(conn, key))
        if head is None:
            raise StoreCorrupt("the log is missing; start again")
        return head


def _recorded_us(entries: Sequence[NewEntry]) -> int:
    """Return when the last of these records was written; 0 when all are erased."""
    records = [license_pb2.LicenseRecord.FromString(entry.record) for entry in entries[-1:] if entry.record is not None]
    return from_timestamp(records[0].record_time) if records else 0
