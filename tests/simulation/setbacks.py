"""Machines that lose what they had: a database is set back to a copy, and an operator brings the rest back.

A city's anchor survives, is lost, or is set back too.  That last may only happen where the registry holds more than
the copy: of a city that is set back as a whole nobody else knows.  Where the registry is set back as well, it has
everything again before the city is struck.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from elicense.errors import EpochNotBound
from elicense.log.anchor import Anchor, create_anchor, epoch_of
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.entry import SALT_SIZE
from elicense.log.model import REGISTRY_LOG, Head
from elicense.sql.database import CommitUnknown
from elicense.trust.spiffe import registry_id
from registry.history import open_next
from registry.names import registry_origin
from tests.simulation.restoring import Restoring, why
from tests.simulation.template import CITIES
from tests.simulation.written import Violated

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: When whatever is broken has been healed for long, virtual seconds.
_LATEST_S: Final = 60.0


class CitySetBack:
    """Sets a city back, once.

    Args:
        nation: The nation.
        random: Draws when, and what becomes of the anchor.
        code: The city.
    """

    def __init__(self, nation: Nation, random: Random, code: int) -> None:
        self._nation = nation
        self._random = random
        self._code = code
        self._config = nation.configs[code]
        self._copy = nation.around.template.folder / f"{code}-copy.db"
        self._anchor = b""
        self._restoring = Restoring(nation, random, code)

    async def run(self) -> None:
        """Copy the city's database, put the copy in its place some time later, and restore the city."""
        await asyncio.sleep(self._random.uniform(0.5, 7))
        self._keep()
        await asyncio.sleep(self._random.uniform(0.5, 6))
        await self._nation.registry_is_whole.wait()
        await self._strike()
        await self._restore()

    def _keep(self) -> None:
        copy(self._nation.oracle.cities[self._code].connection, self._copy)
        self._anchor = self._config.anchor_path.read_bytes()
        self._nation.event(f"{self._code} is copied")

    async def _strike(self) -> None:
        nation, oracle, code = self._nation, self._nation.oracle, self._code
        # A power cut may just have set the anchor back as well, as long as the city has not started since.
        while not is_anchored(nation, code):  # noqa: ASYNC110  # what is waited for is a file
            await asyncio.sleep(0.05)
        nation.keep_down(str(code))
        oracle.about_to_set_back(code)
        is_known = self._put_copy_in_place()
        fate = self._random.choice(("kept", "kept", "lost", "set back")) if is_known else "kept"
        if fate == "lost":
            self._config.anchor_path.unlink()
        elif fate == "set back":
            self._config.anchor_path.write_bytes(self._anchor)
        nation.event(f"{code} is set back, its anchor {fate}")
        if fate != "set back" and self._random.random() < 0.5:
            # Nobody has noticed: the node has to.
            await nation.start_city(code)
            await asyncio.sleep(self._random.uniform(0, 3))
            nation.keep_down(str(code))

    def _put_copy_in_place(self) -> bool:
        """Tell whether the registry holds more than the copy."""
        oracle = self._nation.oracle
        with sqlite3.connect(self._copy) as source:
            source.backup(oracle.cities[self._code].connection)
        source.close()
        return oracle.set_back(self._code)

    async def _restore(self) -> None:
        while (refused := await self._restoring.attempt()) is not None:
            if self._nation.loop.time() > _LATEST_S:
                raise Violated(f"{self._code} can not be restored: {why(refused)}") from refused
            if isinstance(refused, EpochNotBound):
                # A call of its last moments was on its way still; nothing was issued in the epoch that lacks it.
                self._nation.oracle.put_aside(self._code)
                self._put_copy_in_place()
            await asyncio.sleep(self._random.uniform(0.1, 1))
        self._nation.oracle.restored(self._code)
        await self._nation.let_up(str(self._code))


class RegistrySetBack:
    """Sets the registry back, once, at a moment at which a city has mirrored all of its log; its anchor survives.

    Args:
        nation: The nation.
        random: Draws when.
        waits: Whether that moment is waited for; otherwise decisions may be lost for ever, and an operator has
            the registry go on in a new epoch of its log.
    """

    def __init__(self, nation: Nation, random: Random, *, waits: bool) -> None:
        self._nation = nation
        self._random = random
        self._waits = waits

    async def run(self) -> None:
        """Copy the registry's database, and put the copy in its place some time later; its cities do the rest."""
        nation, oracle = self._nation, self._nation.oracle
        kept = nation.around.template.folder / "registry-copy.db"
        await asyncio.sleep(self._random.uniform(0.5, 7))
        copy(oracle.registry.connection, kept)
        nation.event("the registry is copied")
        await asyncio.sleep(self._random.uniform(0.5, 6))
        await self._strike(kept)
        nation.registry_is_whole.set()

    async def _strike(self, kept: Path) -> None:
        nation, oracle = self._nation, self._nation.oracle
        # A power cut may just have set the anchor back: without it nobody would know of what was signed.
        while not self._is_anchored() or (self._waits and not oracle.is_mirrored()):  # what is waited for are rows
            if nation.loop.time() > _LATEST_S:
                raise Violated("no city mirrors the registry's log")
            await asyncio.sleep(0.1)
        nation.keep_down("registry")
        heads = {log: oracle.registry.head(log) for log in (REGISTRY_LOG, *CITIES)}
        with sqlite3.connect(kept) as source:
            source.backup(oracle.registry.connection)
        source.close()
        oracle.registry_set_back()
        nation.outcome.restored += 1
        nation.event("the registry is set back")
        await nation.let_up("registry")
        if not self._waits:
            await self._give_up()
        while not self._has_everything(heads):  # what is waited for are rows, and its doubt
            if nation.loop.time() > _LATEST_S:
                raise Violated("the registry does not get back what it had")
            await asyncio.sleep(0.1)

    async def _give_up(self) -> None:
        """Wait a while for what cities give back, then do without the rest, as ``allow-signing`` does."""
        nation, template = self._nation, self._nation.around.template
        await asyncio.sleep(self._random.uniform(2, 10))
        registry = nation.registry
        while registry is None or (registry.writer.last_signed is None and registry.writer.failure is None):
            await asyncio.sleep(0.1)  # it is about to start
            registry = nation.registry
        if registry.writer.failure is None:
            return
        nation.keep_down("registry")
        keys, domain = template.registry_keys, template.registry.node.trust_domain
        anchor = Anchor(registry.anchor.path, registry.anchor.origin)
        last = anchor.last()
        anchor.close()
        assert last is not None, "its anchor survives"
        opened: Head | None = None
        while opened is None:
            # Whoever is not told that it was done does it again, and ends an epoch in which nothing was decided.
            with suppress(CommitUnknown):
                opened = registry.database.write_now(
                    lambda conn: open_next(
                        conn,
                        template.registry_store.logs,
                        signed=(epoch_of(last.origin), last.size),
                        actor=str(registry_id(domain)),
                        salt=nation.around.random.randbytes(SALT_SIZE),
                        now_us=registry.clock(),
                    )
                )
        head = Checkpoint(registry_origin(domain, opened.key.epoch), opened.size, opened.root)
        create_anchor(registry.anchor.path, sign_checkpoint(head, nation.around.witness(keys.log)))
        nation.event(f"the registry goes on in epoch {opened.key.epoch} of its log")
        nation.oracle.gave_up()
        await nation.let_up("registry")

    def _has_everything(self, heads: dict[int, tuple[int, int, bytes]]) -> bool:
        registry = self._nation.registry
        if registry is None or registry.writer.failure is not None:
            return False
        return all(self._nation.oracle.registry.head(log)[:2] >= head[:2] for log, head in heads.items())

    def _is_anchored(self) -> bool:
        registry = self._nation.registry
        last = None if registry is None else registry.anchor.last()
        return last is not None and last.size == self._nation.oracle.registry.head(REGISTRY_LOG)[1]


def copy(source: sqlite3.Connection, path: Path) -> None:
    """Copy a database, in use or not, into a file."""
    path.unlink(missing_ok=True)
    target = sqlite3.connect(path)
    source.backup(target)
    target.close()


def is_anchored(nation: Nation, code: int) -> bool:
    """Whether a city runs, and its anchor shows the head of its database."""
    city = nation.cities[code]
    epoch, size, _ = nation.oracle.cities[code].head(code)
    last = None if city is None else city.anchor.last()
    return last is not None and (epoch_of(last.origin), last.size) == (epoch, size)
