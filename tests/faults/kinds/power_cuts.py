"""Power cuts: city and registry are set to what their disks would hold, at moments that are known to the system call.

Both run under strace while licences are issued and looked at.  Then, for moments
that callers remember (each answer) and others between any two calls, both data
folders are made anew as :mod:`tests.faults.disk` says that a power cut leaves
them.  Each is read as a start would read it, and with some of them both nodes
are started and have to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from city_node.store import CityStore
from elicense.errors import Error
from elicense.log.anchor import Anchor, epoch_of
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.log.witness import Seen, compare
from elicense.sql.database import Database
from elicense.sql.engines import sqlite_url
from registry.store import RegistryStore
from tests.faults.audit import Findings, HeldLog, audit, look_for_asks, look_for_forks, read_log
from tests.faults.disk import Disk, Fate
from tests.faults.fault import Aftermath, Apart, Trial
from tests.faults.resting_nation import Recorded, nodes_of, resting_nation, url_of
from tests.faults.world import SUZHOU

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.checkpoint import Checkpoint

T = TypeVar("T")

#: Makes the write-ahead log start anew every second licence, which else comes after some hundred.
OFTEN_ANEW: Final = ("PRAGMA wal_autocheckpoint = 60",)
#: What the product must not say; only a control does.
NOT_ON_COMMIT: Final = ("PRAGMA synchronous = NORMAL",)

#: Part of the unsynced sectors that a cut leaves: none, few, most, all.
_SURVIVALS: Final = (0.0, 0.1, 0.5, 0.9, 1.0)
#: After a mere kill, nothing that was written is missing.
_KEPT: Final = Fate(Random(0), 1.0)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is tried.

    Attributes:
        licences: Acknowledged while recording.
        moments: Cut at, beside every answer.
        draws: Disks made for each cut.
        starts: Cuts with which both nodes are started.
    """

    licences: int
    moments: int
    draws: int
    starts: int


SHORT: Final = Extent(licences=25, moments=5, draws=1, starts=1)
LONG: Final = Extent(licences=120, moments=150, draws=3, starts=12)


class Image:
    """Both data folders as one power cut leaves them.

    Args:
        done: What was recorded.
        disks: Both disks, at the moment of the cut.
        moment: When that is, seconds of Unix time.
        fates: What becomes of unsynced writes, by side.
    """

    def __init__(self, done: Recorded, disks: dict[str, Disk], moment: float, fates: dict[str, Fate]) -> None:
        self._done = done
        self._disks = disks
        self._ledger = done.ledger.as_of(moment)
        self._looks = {case for case, answered_at in done.looks.items() if answered_at <= moment}
        self._fates = fates

    def look(self, folder: Path, found: Findings) -> list[str]:
        """Read both as a start would, count what is missing, and return in words what contradicts itself.

        Args:
            folder: Where the two are put.
            found: What is added to.
        """
        for side, disk in self._disks.items():
            disk.put(folder / side, self._fates[side])
        city = self._done.world.suzhou
        try:
            ours, receipt = _read(folder / "city/city.db", partial(_city_log, code=city.code))
            theirs = _read(folder / "registry/registry.db", partial(read_log, store=RegistryStore(), code=city.code))
            recorded = _read(folder / "registry/access.db", _cases)
            anchors = [self._anchor(folder, "city", city.code), self._anchor(folder, "registry", REGISTRY_LOG)]
        except Error as error:
            return [f"a database can not be read: {error.reason} {error.message}"]
        once = Findings(acknowledged=self._ledger.acknowledged)
        look_for_asks(self._ledger, ours, once)
        look_for_forks(self._ledger, city, ours, theirs, once)
        for epoch, log in theirs.items():
            mine = ours[epoch]
            once.gaps += max(0, log.size - mine.size) + sum(
                a != b for a, b in zip(mine.entries, log.entries, strict=False)
            )
            once.gaps += max(0, receipt - log.size)
        found.add(once)
        missing = self._looks - recorded
        looks = f"{len(missing)} looks that were answered are missing of the access log" if missing else ""
        return [said for said in (*anchors, looks) if said]

    def _anchor(self, folder: Path, side: str, log: int) -> str:
        """Return what is wrong with an anchor that was put, in words; nothing if it is as it should be."""
        held = Anchor(folder / side / "anchor", "").last()
        flushed = folder / "flushed"
        flushed.write_bytes(self._disks[side].content("anchor", Fate(Random(0), 0.0)))
        before = Anchor(flushed, "").last()
        if held is None or before is None:
            return f"the {side}'s anchor is lost"
        if (epoch_of(held.origin), held.size) < (epoch_of(before.origin), before.size):
            return f"the {side}'s anchor lost a head that was flushed"
        seen = _read(folder / side / f"{side}.db", partial(_seen, log=log, witness=held))
        return "" if seen is Seen.INSIDE else f"the {side}'s anchor: {seen.value}"

    async def start(self, came: Aftermath, *, alone: bool) -> None:
        """Start both nodes with them; they have to go on.

        Args:
            came: What came of it.
            alone: The city is started first, and issues before it hears the registry.
        """
        world, city, ledger = self._done.world, self._done.world.suzhou, self._ledger
        for node in nodes_of(world):
            world.look_away(url_of(node))
            await asyncio.to_thread(self._disks[node.side].put, node.folder, self._fates[node.side])
        if alone:
            city.upstream.cut()
        for node in nodes_of(world):
            await node.start()
        try:
            came.answering.append(await ledger.issue_until_acknowledged())
            city.upstream.heal()
            # Whoever heard nothing asks again.
            await ledger.settle()
            came.catching_up.append(await world.caught_up(city))
            came.findings.add(await audit(world, [ledger]))
        except TimeoutError:
            came.broken.append(f"{'alone, ' if alone else ''}the city does not go on: {ledger.refusals}")
        finally:
            city.upstream.heal()
            for node in nodes_of(world):
                await node.kill()


def _read(database: Path, read: Callable[[Connection], T]) -> T:
    opened = Database(sqlite_url(database), readers=1)
    try:
        return opened.read_now(read)
    finally:
        opened.close()


def _city_log(conn: Connection, code: int) -> tuple[dict[int, HeldLog], int]:
    """Return the city's log by epoch, and the greatest size that the registry has confirmed of the open one."""
    store = CityStore()
    held = read_log(conn, store, code)
    confirmed = store.logs.commits.latest_cosigned(conn, LogKey(code, max(held)))
    return held, 0 if confirmed is None else confirmed[0]


def _cases(conn: Connection) -> set[str]:
    """Return the case numbers of the looks that a node has recorded."""
    return set(conn.exec_driver_sql("SELECT case_number FROM access").scalars())


def _seen(conn: Connection, log: int, witness: Checkpoint) -> Seen:
    logs = CityStore().logs if log != REGISTRY_LOG else RegistryStore().logs
    head = logs.head(conn, max(key for key in logs.keys(conn) if key.log == log))
    assert head is not None
    return compare(
        epoch=head.key.epoch,
        size=head.size,
        root_at=lambda size: logs.root_at(conn, head, size),
        witness=(epoch_of(witness.origin), witness.size, witness.root),
    )


def _fates(random: Random) -> dict[str, Fate]:
    """Return whose machines lose power, and how much of the unsynced is there after it."""
    cut = random.choice([("city",), ("registry",), ("city", "registry")])
    return {
        side: Fate(Random(random.random()), random.choice(_SURVIVALS)) if side in cut else _KEPT
        for side in ("city", "registry")
    }


async def cuts(done: Recorded, extent: Extent, random: Random) -> Aftermath:
    """Cut the power at every moment; nothing that was acknowledged may be missing."""
    came, disks = Aftermath(), done.disks()
    moments = done.moments(random, extent.moments)
    started = set(random.sample(range(len(moments)), min(extent.starts, len(moments))))
    for number, moment in enumerate(moments):
        for disk in disks.values():
            disk.forward(moment)
        for _ in range(extent.draws):
            image = Image(done, disks, moment, _fates(random))
            said = await asyncio.to_thread(image.look, done.world.folder / "look", came.findings)
            came.broken += [f"power cut {number} of {len(moments)}: {what}" for what in said]
            came.times += 1
        if number in started:
            await image.start(came, alone=len(came.answering) % 2 == 0)
    return came


async def cut_power(trial: Trial) -> Aftermath:
    """Cut the power of city and registry at many moments; and show that the same finds what a weaker setting loses."""
    extent = LONG if trial.long else SHORT
    async with resting_nation(trial.world.folder / "cut") as nation:
        came = await cuts(await nation.recorded("full", extent.licences, pragmas=OFTEN_ANEW), extent, trial.moments)
        weaker = await cuts(
            await nation.recorded("normal", SHORT.licences, pragmas=NOT_ON_COMMIT),
            replace(SHORT, starts=0),
            trial.moments,
        )
    # What contradicts itself there: an anchor ahead of its database, an answered look that is not recorded.
    if not weaker.findings.lost or not weaker.broken:
        came.broken.append("with synchronous=NORMAL nothing is lost either: these power cuts lose nothing")
    trial.notes.append(
        f"control: with synchronous=NORMAL a power cut loses up to {weaker.findings.lost} of "
        f"{weaker.findings.acknowledged} acknowledged; {len(weaker.broken)} contradictions after {weaker.times} cuts, "
        f"such as: {next(iter(weaker.broken), '-')}"
    )
    return came


POWER_CUTS: Final = (Apart("power cut of the city, the registry or both", cut_power, SUZHOU),)
