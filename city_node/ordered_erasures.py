"""Obeying the word that a licence, which this city had once, was erased by the city that has it now.

1. The word stands in the feed, which is stored before anything is done about it,
   and comes again after a restore.
2. Each is obeyed by an ERASED entry of this city's own log, in one transaction with
   the removal.  Its request id follows from the word, so that a word which comes
   twice, or is read again at the next start, is obeyed once.
3. It waits until the registry has given its receipt for whatever this city wrote of the
   licence, which may be more than the registry knew of (:mod:`city_node.removal`).
4. A licence in this city's own custody is nobody else's to erase: then the word is
   passed over.

The order itself, an ERASED entry of the other city, is not asked for.  What is erased
here this city has no say in any more: it gave it away by its own signed offer, or wrote
it without effect.  And whether there was an order can be checked afterwards by anybody,
since the entry written here names the city that is said to have given it, whose log has
its own ERASED entry of the licence, or has none.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from city_node.citylog import CityLog
from city_node.commands import Deferred, EraseOnOrder, Written
from city_node.gate import SigningGate
from city_node.removal import emptied, entries_of
from city_node.store import CityStore, StoredDisposition
from elicense.errors import Error
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.log.scrubber import Scrubber
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database
from elicense.v1 import replication_pb2

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.stdlib.get_logger(__name__)

RETRY_S: Final = 30.0
_PAGE: Final = 1_000
#: Most bytes of an ERASED record.
_ERASED_BYTES: Final = 1_024
_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED
#: Namespace of the request ids of what is erased on order; random once, fixed for ever.
_ORDERS: Final = uuid.UUID("0b8c3f0e-8f0c-4a3f-9c39-6f3a1f2a9d57")


class OrderedErasures:
    """Erases what other cities have ordered to be erased.

    Args:
        city: Division code.
        log: The city's log.
        database: The city's database.
        store: Its tables.
        scrubber: Wipes what was erased from its files.
        gate: Whether this node may sign.
    """

    def __init__(
        self,
        *,
        city: int,
        log: CityLog,
        database: Database,
        store: CityStore,
        scrubber: Scrubber,
        gate: SigningGate,
    ) -> None:
        self._city = city
        self._log = log
        self._database = database
        self._store = store
        self._scrubber = scrubber
        self._gate = gate
        self._heard = asyncio.Event()
        self._cursor = 0

    def notify(self) -> None:
        """Say that the registry's word may have arrived."""
        self._heard.set()

    async def run(self) -> None:
        """Obey every word of the feed, from the first, and each that comes; until it is cancelled."""
        while True:
            self._heard.clear()
            left_s = None if await self._obey_all() else RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._heard.wait()

    async def _obey_all(self) -> bool:
        """Obey what is not obeyed yet; False when something has to be tried again."""
        try:
            self._gate.check()
            while page := await self._database.read(self._page):
                for word in page:
                    if word.kind == _ERASED and word.other_city:
                        await self._obey(word)
                    self._cursor = word.seq
        except Error as error:
            _log.warning("ordered_erasure_failed", reason=error.reason, detail=error.message)
            return False
        except Exception as error:  # a defect here must not end it for good, in silence
            _log.error("ordered_erasure_failed", **describe_exception(error))
            return False
        return True

    def _page(self, conn: Connection) -> list[StoredDisposition]:
        return self._store.dispositions(conn, self._city, after=self._cursor, limit=_PAGE)

    async def _obey(self, word: StoredDisposition) -> None:
        key = uuid.uuid5(_ORDERS, f"{word.license_id.hex()}/{word.epoch}/{word.idx}").bytes
        known, held = await self._database.read(lambda conn: self._look(conn, key, word))
        if known:
            return
        command = EraseOnOrder(key, word.license_id, word.epoch, word.idx, word.other_city or 0)
        committed = await self._log.submit(command, entries=1, size=_ERASED_BYTES)
        outcome = committed.result[0]
        if isinstance(outcome, Deferred):
            raise outcome
        if isinstance(outcome, Error):
            # The registry says it to whoever wrote the record; only a defect, or a lie, brings it here.
            _log.error("ordered_erasure_refused", reason=outcome.reason, detail=outcome.message)
        elif isinstance(outcome, Written):
            gone = await self._scrubber.scrub(held)
            _log.info("erased_on_order", by_city=word.other_city, traces_gone=gone)

    def _look(self, conn: Connection, key: bytes, word: StoredDisposition) -> tuple[bool, list[Erased]]:
        slot = (LogKey(self._city, word.epoch), word.idx)
        entries = entries_of(conn, self._store, self._city, word.license_id, slot)
        return bool(self._store.requests(conn, [key])), emptied(entries)
