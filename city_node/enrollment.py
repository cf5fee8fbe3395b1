"""A city's enrolment use case, put together for the server and for the command line alike."""

from __future__ import annotations

from collections.abc import Callable

from city_node.config import CityConfig
from city_node.keys import CityKeys
from city_node.store import CityStore
from elicense.sql.database import Database
from elicense.trust.enrollment import Enrollment
from elicense.trust.spiffe import city_id


def enrollment(
    config: CityConfig,
    keys: CityKeys,
    database: Database,
    store: CityStore,
    *,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> Enrollment:
    """Return the use case that enrols the city's own clerks and verifiers."""
    return Enrollment(
        database=database,
        store=store.trust,
        authority=keys.authority,
        node=city_id(config.node.trust_domain, config.city.code),
        root=keys.root,
        clock=clock,
        random=random,
    )
