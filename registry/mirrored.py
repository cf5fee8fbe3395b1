"""The registry's own log, as it is given to the cities that mirror it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elicense.errors import NotFound
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.pages import Page, read_page
from elicense.sql.database import Database
from elicense.trust.signer import Signer
from elicense.verification.cited import EVIDENCE_BYTES, EVIDENCE_WANTED, cited
from registry.names import registry_origin
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class OwnPage:
    """A part of the registry's log.

    Attributes:
        page: Its entries and signed heads.
        head: Signed note of the newest head; empty while there is no entry.
        open_epoch: Epoch that is open.
        evidence: What was wanted, and what quarantines among the entries rest on.
        lacks: Digests of evidence that the registry lacks itself.
    """

    page: Page
    head: bytes
    open_epoch: int
    evidence: list[bytes]
    lacks: list[bytes]


class OwnPages:
    """Reads the registry's own log.

    Args:
        database: The registry's database.
        store: Its tables.
        signer: Key of the log.
        trust_domain: Prefix of the log's origin.
    """

    def __init__(self, *, database: Database, store: RegistryStore, signer: Signer, trust_domain: str) -> None:
        self._database = database
        self._store = store
        self._signer = signer
        self._trust_domain = trust_domain

    async def read(self, epoch: int, first_index: int, *, wanted: Sequence[bytes] = ()) -> OwnPage:
        """Return the entries from ``first_index`` on, as far as one answer goes, and evidence by digest.

        Raises:
            NotFound: There was no such epoch.
            StoreCorrupt: The head contradicts itself.
        """
        return await self._database.read(
            lambda conn: self._read(conn, LogKey(REGISTRY_LOG, epoch), first_index, wanted)
        )

    def _read(self, conn: Connection, key: LogKey, first_index: int, wanted: Sequence[bytes]) -> OwnPage:
        head = self._store.logs.head(conn, key)
        if head is None:
            raise NotFound("there is no such epoch of the registry's log")
        page = read_page(conn, self._store.logs, key, first_index)
        heads = [row if row.note else replace(row, note=self._sign(key, row.size, row.root)) for row in page.heads]
        newest = (head.note or self._sign(key, head.size, head.root)) if head.size else b""
        open_epoch = max(held.epoch for held in self._store.logs.keys(conn) if held.log == REGISTRY_LOG)
        digests = [*wanted, *cited(entry.record for entry in page.entries)]
        evidence = self._store.evidence.bodies(conn, digests, most_bytes=EVIDENCE_BYTES) if digests else []
        lacks = [each.digest for each in self._store.evidence.lacking(conn, self._store.quarantines.all(conn))][
            :EVIDENCE_WANTED
        ]
        return OwnPage(Page(page.entries, heads), newest, open_epoch, evidence, lacks)

    def _sign(self, key: LogKey, size: int, root: bytes) -> bytes:
        # A head that stands in the database is durable: signing it once more is no fork.
        return sign_checkpoint(Checkpoint(registry_origin(self._trust_domain, key.epoch), size, root), self._signer)
