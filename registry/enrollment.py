"""The registry's enrolment use case, put together for the server and for the command line alike."""

from __future__ import annotations

from collections.abc import Callable

from elicense.log.checkpoint import cosigner_verifier_key, log_verifier_key
from elicense.log.model import FIRST_EPOCH
from elicense.log.verifier_key import format_vkey
from elicense.sql.database import Database
from elicense.trust.enrollment import Enrollment, NodeKeys
from elicense.trust.spiffe import registry_id
from registry.cities import CityEnrollment
from registry.config import RegistryConfig
from registry.keys import RegistryKeys
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore


def enrollment(
    config: RegistryConfig,
    keys: RegistryKeys,
    database: Database,
    store: RegistryStore,
    *,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> Enrollment:
    """Return the use case that makes join tokens and turns them into certificates."""
    trust_domain = config.node.trust_domain
    origin = registry_origin(trust_domain, FIRST_EPOCH)
    name = cosigner_name(trust_domain)
    return Enrollment(
        database=database,
        store=store.trust,
        authority=keys.authority,
        node=registry_id(trust_domain),
        root=keys.root,
        clock=clock,
        random=random,
        keys=NodeKeys(
            log_key=format_vkey(log_verifier_key(origin, keys.log.public_key())),
            cosigner_key=format_vkey(cosigner_verifier_key(name, keys.cosigner.public_key())),
            subject_key=keys.subject_key,
        ),
        on_city=CityEnrollment(store=store, clock=clock).enroll,
    )
