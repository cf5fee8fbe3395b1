"""How a city's operator restores it: the real restore, ended when it takes too long, and run again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from city_node.keys import LogSigners
from city_node.restore import Restore, Upstream
from elicense.clock import SECOND_US
from elicense.errors import Error, Unavailable
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, city_id
from tests.simulation.template import START_US

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: How long one attempt may take before the operator ends it, virtual seconds.
_PATIENCE_S: Final = 8.0


class Restoring:
    """Restores one city that was stopped.

    Args:
        nation: The nation.
        random: Draws how long the operator waits.
        code: The city.
    """

    def __init__(self, nation: Nation, random: Random, code: int) -> None:
        self._nation = nation
        self._random = random
        self._code = code
        self._config = nation.configs[code]

    async def attempt(self) -> Error | TimeoutError | None:
        """Try once; return why it did not succeed, or None."""
        try:
            async with asyncio.timeout(self._random.uniform(0.2, _PATIENCE_S)):
                restored = await self._work().run(self._upstream())
        except (Error, TimeoutError) as error:
            self._nation.event(f"no restore of {self._code}: {why(error)}")
            return error
        self._nation.event(f"{restored}")
        if restored.to_erase is None:
            return Unavailable("the operator was not told what to erase anew, and runs it again")
        self._nation.oracle.told_to_erase(self._code, {license_id.bytes for license_id in restored.to_erase})
        self._nation.outcome.restored += 1
        return None

    def _work(self) -> Restore:
        around, code = self._nation.around, self._code
        # Its operator reads the keys anew, and so does the node when it starts.
        signers = self._nation.signers[code] = LogSigners(self._config)
        return Restore(
            config=self._config,
            keys=replace(around.template.city_keys[code], log=around.watched(signers)),
            database=around.template.database(around.doubles.database, self._nation.city_paths[code]),
            store=around.template.city_store,
            clock=lambda: START_US + int(around.loop.time() * SECOND_US),
            random=around.random.randbytes,
            progress=lambda _epoch, _done, _of: None,
        )

    def _upstream(self) -> Upstream:
        us = city_id(self._config.node.trust_domain, self._code)
        stub = self._nation.network.connect(
            lambda: self._nation.registry, caller=Caller(us, Role.CITY, self._code, bytes(32)), name=str(self._code)
        )
        return Upstream(stub, stub)


def why(error: Error | TimeoutError) -> str:
    """Return why a restore did not succeed, in a word."""
    return getattr(error, "reason", "too slow")
