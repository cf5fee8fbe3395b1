"""Comparing database, anchor and registry, and acting on what comes out; the rules are in :mod:`city_node.history`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.gate import SigningGate
from city_node.history import Case, Course, judge
from city_node.store import CityStore
from elicense.errors import NotFound
from elicense.log.anchor import Anchor, epoch_of
from elicense.log.model import LogKey
from elicense.log.tree import EMPTY_ROOT
from elicense.log.witness import Seen, compare
from elicense.sql.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.checkpoint import Checkpoint
    from elicense.log.decision import SignedHead


@dataclass(frozen=True, slots=True)
class RegistryHead:
    """What the registry says that it holds.

    Attributes:
        epoch: Epoch that it holds open.
        head: Highest head that it cosigned there, both signatures checked; None while it holds nothing.
        receipt: The same as it was signed.
    """

    epoch: int
    head: Checkpoint | None
    receipt: bytes


class Comparison:
    """Compares the city's database with its two witnesses, and opens or shuts the gate.

    Args:
        database: The city's database.
        store: Its tables.
        key: The log, in its open epoch.
        anchor: The head that was signed last.
        gate: Shut when the city's history is in doubt.
    """

    def __init__(self, *, database: Database, store: CityStore, key: LogKey, anchor: Anchor, gate: SigningGate) -> None:
        self._database = database
        self._store = store
        self._key = key
        self._anchor = anchor
        self._gate = gate

    async def run(self, registry: RegistryHead | None) -> Case:
        """Compare, and open or shut the gate.

        Args:
            registry: What the registry says; None when it can not be asked.

        Raises:
            StoreUnavailable: The database can not be used.
            StoreCorrupt: Its head contradicts itself.
        """
        anchored = self._anchor.last()
        case, own = await self._database.read(lambda conn: self._judge(conn, anchored, registry))
        if case.course is Course.GO_ON:
            self._gate.release()
        elif case.error is not None and case.course is Course.WAIT:
            self._gate.hold(case.error)
        elif case.error is not None:
            shown = b"" if registry is None else registry.receipt
            self._gate.shut(case.error, [note for note in (own, shown) if note] if case.course is Course.FORK else ())
        return case

    def keep(self, signed: SignedHead) -> None:
        """Keep a signed head in the anchor, unless the node only verifies: then the anchor is left as it was found.

        Raises:
            LogForked: Another head of the same size was signed.
            OSError: It can not be written.
        """
        if self._gate.reason is None:
            self._anchor.keep(signed)

    def _judge(
        self, conn: Connection, anchored: Checkpoint | None, registry: RegistryHead | None
    ) -> tuple[Case, bytes | None]:
        """Return the case, and this city's own note that contradicts the registry's, if there is one."""
        head = self._store.logs.head(conn, self._key)
        if head is None:
            raise NotFound("the log does not exist; create it first", log=self._key.log)

        def seen(witness: tuple[int, int, bytes] | None) -> Seen:
            return compare(
                epoch=self._key.epoch,
                size=head.size,
                root_at=lambda size: self._store.logs.root_at(conn, head, size),
                witness=witness,
            )

        of_anchor = None if anchored is None else (epoch_of(anchored.origin), anchored.size, anchored.root)
        of_registry = None if registry is None else _witness(registry)
        case = judge(seen(of_anchor), seen(of_registry))
        if case.course is not Course.FORK or of_registry is None:
            return case, None
        row = self._store.logs.commits.at(conn, self._key, of_registry[1])
        return case, None if row is None else row.note


def _witness(registry: RegistryHead) -> tuple[int, int, bytes]:
    head = registry.head
    return (registry.epoch, 0, EMPTY_ROOT) if head is None else (registry.epoch, head.size, head.root)
