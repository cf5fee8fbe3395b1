"""What must hold after each fault, found in the databases and not asked of the nodes.

1. Every acknowledged licence stands in its city's log, where its proof says, and the proof verifies.
2. Nobody and no request stands there twice, and nothing that was never asked for.
3. No index is missing, and the registry's log is the city's, entry by entry and root by root.
4. Whatever was signed, wherever it is kept, is of one history: no two roots for one size of one epoch.
5. ``fsck`` finds nothing on either side.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.errors import Error
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.merkle import verify_inclusion
from elicense.log.model import StoredEntry
from elicense.log.note import parse_note
from elicense.log.tree import EMPTY_RANGE
from elicense.v1.license_pb2 import LICENSE_EVENT_ISSUED, LicenseRecord
from registry.store import RegistryStore
from tests.faults.workload import Ledger
from tests.faults.world import CityNode, World

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE = 2_048
_SHOWN = 5


@dataclass
class Findings:
    """What an audit came to.

    Attributes:
        acknowledged: Licences that were acknowledged until now.
        lost: Acknowledged ones that are not where they should be.
        duplicates: Persons or requests that stand in a log more than once, or were never asked for.
        gaps: Missing indices, and entries in which the two sides differ.
        forks: Sizes of one epoch for which two roots are signed, or a root that the log does not have.
        fsck: Lines of ``fsck`` about a difference.
    """

    acknowledged: int = 0
    lost: int = 0
    duplicates: int = 0
    gaps: int = 0
    forks: int = 0
    fsck: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take in a later audit: the worst of each, since what was lost once is lost in every audit after it."""
        self.acknowledged = other.acknowledged
        for name in ("lost", "duplicates", "gaps", "forks"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.fsck += other.fsck

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.gaps or self.forks or self.fsck)


@dataclass
class HeldLog:
    """One epoch of a log as one side holds it."""

    entries: list[StoredEntry]
    size: int
    root: bytes
    notes: list[bytes]


def read_log(conn: Connection, store: CityStore | RegistryStore, code: int) -> dict[int, HeldLog]:
    """Return what one side holds of a city's log, by epoch."""
    held = {}
    for key in store.logs.keys(conn):
        if key.log != code:
            continue
        head = store.logs.head(conn, key)
        assert head is not None
        entries: list[StoredEntry] = []
        while page := store.logs.entries(conn, key, len(entries), _PAGE):
            entries += page
        rows = store.logs.commits.between(conn, key, 0, head.size).values()
        notes = [note for row in rows for note in (row.note, row.cosigned) if note is not None]
        latest = store.logs.commits.latest_cosigned(conn, key)
        notes += [note for note in (head.note, None if latest is None else latest[1]) if note]
        held[key.epoch] = HeldLog(entries, head.size, head.root, notes)
    return held


async def audit(world: World, ledgers: Sequence[Ledger], *, fsck: bool = True) -> Findings:
    """Check everything; every city must have caught up and every ledger be settled before."""
    found = Findings()
    for ledger in ledgers:
        await asyncio.to_thread(_audit_city, world, ledger, found)
    if fsck:
        await _fsck(world, "registry.cli", world.registry.folder, found)
        for ledger in ledgers:
            await _fsck(world, "city_node.cli", ledger.city.folder, found)
    return found


def _audit_city(world: World, ledger: Ledger, found: Findings) -> None:
    city = ledger.city
    ours = world.look(city.database_url).read_now(partial(read_log, store=CityStore(), code=city.code))
    theirs = world.look(world.registry.database_url).read_now(partial(read_log, store=RegistryStore(), code=city.code))
    found.acknowledged += sum(1 for ask in ledger.asks if ask.name)
    _compare(ours, theirs, found)
    look_for_asks(ledger, ours, found)
    look_for_forks(ledger, city, ours, theirs, found)


def _compare(ours: dict[int, HeldLog], theirs: dict[int, HeldLog], found: Findings) -> None:
    for epoch in ours.keys() | theirs.keys():
        if epoch not in ours or epoch not in theirs:
            found.gaps += 1
            continue
        mine, other = ours[epoch], theirs[epoch]
        for log in (mine, other):
            missing = set(range(log.size)) ^ {entry.index for entry in log.entries}
            found.gaps += len(missing)
        found.gaps += sum(a != b for a, b in zip(mine.entries, other.entries, strict=False))
        found.gaps += (mine.size, mine.root) != (other.size, other.root)


def look_for_asks(ledger: Ledger, ours: dict[int, HeldLog], found: Findings) -> None:
    """Count the acknowledged licences that are not in the city's log, and what stands there twice or unasked."""
    places: dict[str, tuple[int, int]] = {}
    numbers: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    asked = {ask.request_id for ask in ledger.asks}
    for epoch, log in ours.items():
        for entry in log.entries:
            record = LicenseRecord.FromString(entry.record or b"")
            if record.event != LICENSE_EVENT_ISSUED:
                continue
            numbers[record.license.holder.document.number] += 1
            requests[record.request_id] += 1
            places[record.request_id] = (epoch, entry.index)
            found.duplicates += record.request_id not in asked
    found.duplicates += sum(times - 1 for counted in (numbers, requests) for times in counted.values())
    for ask in ledger.asks:
        if not ask.name:
            continue
        place = places.get(ask.request_id)
        if place is None or numbers[ask.number] != 1:
            found.lost += 1
            continue
        if ask.answer is None:
            continue
        proof = ask.answer.proof
        entry = ours[place[0]].entries[place[1]]
        try:
            signed = parse_checkpoint(parse_note(proof.checkpoint).text)
            verify_inclusion(
                leaf_hash=entry.leaf_hash, index=place[1], size=signed.size, proof=proof.hashes, root=signed.root
            )
        except Error:
            found.lost += 1
        else:
            found.lost += (proof.position.epoch, proof.position.index) != place


def look_for_forks(
    ledger: Ledger, city: CityNode, ours: dict[int, HeldLog], theirs: dict[int, HeldLog], found: Findings
) -> None:
    """Count the sizes for which something is signed that the city's log does not have."""
    notes = [ask.answer.proof.checkpoint for ask in ledger.asks if ask.answer is not None]
    notes += [note for side in (ours, theirs) for log in side.values() for note in log.notes]
    signed: defaultdict[tuple[int, int], set[bytes]] = defaultdict(set)
    for note in set(notes):
        checkpoint = parse_checkpoint(parse_note(note).text)
        signed[int(checkpoint.origin.rpartition("/")[2]), checkpoint.size].add(checkpoint.root)
    for epoch, log in ours.items():
        tree, at = EMPTY_RANGE, 0
        for size in sorted(size for own, size in signed if own == epoch):
            if size > log.size:
                found.forks += 1
                continue
            tree = tree.append_leaves([entry.leaf_hash for entry in log.entries[at:size]])
            at = size
            found.forks += signed[epoch, size] != {tree.root()}


async def _fsck(world: World, main: str, folder: object, found: Findings) -> None:
    status, said = await world.nursery.command(main, "fsck", "--config", f"{folder}/config.toml")
    if status:
        lines = [line for line in said.splitlines() if re.search(r"\w", line)]
        found.fsck += lines[-_SHOWN:] or [f"{main} fsck ended with {status}"]
