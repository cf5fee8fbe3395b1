"""Every fault of the campaign, in the order in which they strike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.faults.fault import Trouble
from tests.faults.kinds.broken_custody import BROKEN_CUSTODY
from tests.faults.kinds.certificates import CERTIFICATES
from tests.faults.kinds.clocks import CLOCKS
from tests.faults.kinds.flips import FLIPS
from tests.faults.kinds.hand_overs import HAND_OVERS
from tests.faults.kinds.histories import HISTORIES
from tests.faults.kinds.kills import KILLS
from tests.faults.kinds.lying_city import LYING_CITY
from tests.faults.kinds.lying_registry import LYING_REGISTRY
from tests.faults.kinds.neighbours import NEIGHBOURS
from tests.faults.kinds.network import NETWORK
from tests.faults.kinds.nonsense import NONSENSE
from tests.faults.kinds.postgres import POSTGRES, REGISTRY_ON_POSTGRES
from tests.faults.kinds.power_cuts import POWER_CUTS
from tests.faults.kinds.refills import REFILLS
from tests.faults.kinds.storage import STORAGE

FAULTS: Final[tuple[Trouble, ...]] = (
    *KILLS,
    *HAND_OVERS,
    *REFILLS,
    *STORAGE,
    *POWER_CUTS,
    *HISTORIES,
    *POSTGRES,
    *NETWORK,
    *CLOCKS,
    *LYING_CITY,
    *BROKEN_CUSTODY,
    *LYING_REGISTRY,
    *NONSENSE,
    *CERTIFICATES,
    *FLIPS,
    *NEIGHBOURS,
)

ON_POSTGRES: Final[tuple[Trouble, ...]] = REGISTRY_ON_POSTGRES
"""Those of a second nation, whose registry is on PostgreSQL."""


def short(faults: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """Return those that the test suite runs."""
    return tuple(fault for fault in faults if fault.short)
