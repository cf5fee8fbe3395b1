"""A city that writes of a licence which it gave away: convicted if it had signed that it knew, and only then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from elicense.v1 import replication_pb2 as pb
from registry.store import RegistryStore
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.kinds.lying_city import join_liar
from tests.faults.processes import DEADLINE_S
from tests.faults.world import SUZHOU, World
from tests.support.city import City
from tests.support.cluster import eventually

_PAUSE_S = 0.2
_CONFIRMED = 3
"""Exit status of `elicense log verify` for a file that convicts somebody."""


@dataclass(frozen=True, slots=True)
class _Court:
    """Asks the registry for evidence as an operator does, and verifies it as a stranger does: by files alone."""

    world: World
    keys: Path

    @classmethod
    async def of(cls, world: World) -> _Court:
        """Write down the public keys of everybody."""
        court = cls(world, world.folder / "published-keys")
        status, said = await court._registry("keys")
        assert status == 0, said
        court.keys.write_text("\n".join(line for line in said.splitlines() if "+" in line and " " not in line))
        return court

    async def accused(self) -> str:
        """Everything that the registry has found by itself."""
        return (await self._registry("breaches"))[1]

    async def evidence(self, city: City, index: int) -> Path | None:
        """The evidence against an entry; None when nothing is proved by it."""
        path = self.world.folder / f"breach-{city.code}-{index}.json"
        status, _ = await self._registry("prove-breach", str(city.code), str(index), "--out", str(path))
        return path if status == 0 else None

    async def convicts(self, path: Path, city: City) -> bool:
        """Whether a stranger confirms that it is against this city."""
        status, said = await self.world.nursery.command(
            "elicense.cli.main", "log", "verify", str(path), "--key", str(self.keys)
        )
        return status == _CONFIRMED and f"/city/{city.code} wrote entry" in said

    async def _registry(self, command: str, *words: str) -> tuple[int, str]:
        config = f"{self.world.registry.folder}/config.toml"
        return await self.world.nursery.command("registry.cli", command, *words, "--config", config)


async def broken_custody(trial: Trial) -> Tally:
    """Give two licences away and write of both: of one as a city that signed that it knew, of one as one cut off."""
    tally, world = Tally(), trial.world
    liar, taker = await join_liar(world), await join_liar(world)
    try:
        ignorant = await _given_away(liar, taker, 1)
        # Both words wait in its feed: what it writes before it has signed could come from a city that was cut off.
        liar.change(ignorant, ["D"])
        early = liar.size - 1
        await liar.send(liar.batch(early), keep_feed=False)
        knowing = await _given_away(liar, taker, 2)
        async with asyncio.timeout(DEADLINE_S):
            while not _heard(liar, pb.DISPOSITION_KIND_TRANSFERRED_AWAY, knowing):
                await liar.send(liar.batch(liar.size))
                await asyncio.sleep(_PAUSE_S)
            # It is asked once it says that it has stored the words, and signs with the call after that.
            await liar.send(liar.batch(liar.size))
            while liar.told:
                await liar.send(liar.batch(liar.size))
        liar.change(knowing, ["D"])
        late = liar.size - 1
        await liar.replicate()
        for license_id in (ignorant, knowing):
            city, revision = await asyncio.to_thread(_stands, world, license_id)
            tally.holds(f"the license is {city}'s, at revision {revision}", (city, revision) == (taker.code, 3))
        court = await _Court.of(world)
        accused = ""

        async def is_accused() -> bool:
            nonlocal accused
            accused = await court.accused()
            return f"{liar.code}/1 entry {late}," in accused

        await eventually(is_accused)
        tally.holds("a city is accused that may have been cut off", f"{liar.code}/1 entry {early}," not in accused)
        tally.holds("the city that took it over is accused", f"{taker.code}/1 entry" not in accused)
        convicting = await court.evidence(liar, late)
        tally.holds("nothing proves it", convicting is not None and await court.convicts(convicting, liar))
        tally.holds("a city that was cut off is convicted", await court.evidence(liar, early) is None)
    finally:
        await liar.close()
        await taker.close()
    return tally


async def _given_away(source: City, target: City, number: int) -> bytes:
    """Have one more licence of a city moved to another, which knows by then."""
    resident = f"{source.code}19910101{number:04d}"
    (claim,) = await source.claim(resident)
    license_id = source.issue(resident, claim=claim)
    source.offer(license_id, target.code)
    state = await source.state()
    await source.send(source.batch(state.next_index), keep_feed=False)
    target.take_over(license_id, source)
    await target.replicate()
    async with asyncio.timeout(DEADLINE_S):
        while not _heard(target, pb.DISPOSITION_KIND_TRANSFER_ACCEPTED, license_id):
            await target.send(target.batch(target.size))
            await asyncio.sleep(_PAUSE_S)
    return license_id


def _heard(city: City, kind: int, license_id: bytes) -> bool:
    return any((word.kind, word.license_id) == (kind, license_id) for word in city.feed)


def _stands(world: World, license_id: bytes) -> tuple[int, int]:
    """City and revision of a licence in the national view."""
    row = world.look(world.registry.database_url).read_now(
        lambda conn: RegistryStore().view.by_license(conn, license_id)
    )
    assert row is not None
    return row.city, row.revision


BROKEN_CUSTODY = (Attack("city that writes of a license it gave away", broken_custody, SUZHOU),)
