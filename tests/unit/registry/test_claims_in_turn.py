"""An import claims its persons in parts, so that whoever waits at a counter gets in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from registry.board import Outcome
from registry.claims import CLAIMS_PER_ENTRY, GrantClaims, HeldBy, WantedClaim
from registry.replication import CLAIMS_IN_TURN, Replication

PERSONS = 600


@dataclass
class Log:
    """Answers each person with its number."""

    is_urgent: bool
    parts: list[int] = field(default_factory=list)

    async def grant(self, command: GrantClaims, *, bulk: bool = False) -> Outcome:
        self.parts.append(len(command.wanted))
        return Outcome(claims=[HeldBy(int.from_bytes(wanted.person_key)) for wanted in command.wanted])


@pytest.mark.parametrize(
    ("bulk", "urgent", "most"),
    [(False, False, PERSONS), (False, True, PERSONS), (True, False, CLAIMS_PER_ENTRY), (True, True, CLAIMS_IN_TURN)],
)
async def test_every_person_is_answered_in_order_in_parts_as_short_as_somebody_waits(
    bulk: bool, urgent: bool, most: int
) -> None:
    log = Log(urgent)
    anything = cast("Any", None)
    replication = Replication(
        database=anything,
        store=anything,
        ingest=anything,
        admission=anything,
        decisions=anything,
        log=cast("Any", log),
        freshness=anything,
        on_without_custody=anything,
        on_change=anything,
        metrics=anything,
    )
    wanted = tuple(WantedClaim(number.to_bytes(16), b"", b"") for number in range(PERSONS))
    outcomes = await replication.claim(GrantClaims(320500, "", wanted), bulk=bulk)
    assert outcomes == [HeldBy(number) for number in range(PERSONS)]
    assert max(log.parts) == most
    assert sum(log.parts) == PERSONS
