"""A city with something in every table, and which of its columns the self-check must watch."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from city_node.fsck import Fsck
from city_node.keys import load_keys
from city_node.mirror import RegistryHistory
from city_node.store import CityStore, metadata
from elicense.log.check_run import Report
from elicense.log.verifier_key import parse_vkey
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2 as pb
from tests.integration.city.test_identity import BASIS, renumbered
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_lifecycle import change, experienced
from tests.integration.city.test_transfers import OFFICE, accept, moved, offer, same, withdraw
from tests.support.cluster import CHENGDU, DEADLINE_S, SUZHOU, TRUST_DOMAIN, Cluster, drivers, run_cluster
from tests.support.flips import Filled, Flips, copy_database

_WHEN = "when this node stored it is the one thing that neither log nor feed tells"
UNCHECKED = {
    "certificate.issued_by": "who asked for a certificate stands nowhere else; its form is checked",
    "disposition.detail": "a sentence for a clerk; what counts is in the other columns",
    "disposition.received_us": _WHEN,
    "hand_over.detail": "a sentence for a clerk; what counts is in the other columns",
    "hand_over.updated_us": _WHEN,
    "join_token.request_digest": "of a request that is not kept; a wrong one refuses to repeat an answer",
    "join_token.response": "the certificate in it is checked; the rest is given out once more and checked by its taker",
    "license_revision.received_us": _WHEN,
    "log_checkpoint.recorded_us": "that commits follow each other in time is checked, not the microsecond",
}
"""Columns in which a flipped bit may go unnoticed, and why that is borne."""

EMPTY = {
    "lease": "only several processes have one, and write it anew every few seconds",
    "log_scrub": "a mark is gone once the files are scrubbed; a wrong one has them scrubbed once more",
    "quota": "a count of today, which nothing repeats; a wrong one is gone tomorrow",
}
"""Tables in which the filled city has nothing, and why."""

ONLY = {"join_token.subject": "spent_us IS NOT NULL"}
"""Rows of a column that are flipped: for whom a token is made stands nowhere else until it is spent."""

FLIPS = Flips(metadata, UNCHECKED, EMPTY, ONLY)


@asynccontextmanager
async def filled_city(folder: Path) -> AsyncIterator[Filled]:
    """Fill a city and copy its database; cities and registry run until the block ends."""
    async with run_cluster(folder, SUZHOU, CHENGDU) as cluster:
        suzhou = cluster.cities[SUZHOU]
        await fill(cluster)
        await suzhou.stop()
        copy_database(suzhou.folder / "city.db", folder / "filled.db")
        keys = load_keys(suzhou.config, random=bytes)

        def check(database: Database) -> Report:
            return Fsck(
                database=database,
                store=CityStore(),
                persons=keys.persons,
                trust_domain=TRUST_DOMAIN,
                city=SUZHOU,
                cosigner=keys.cosigner,
                registry=RegistryHistory(parse_vkey(suzhou.config.city.registry_log_key)),
                progress=lambda _: None,
            ).run()

        yield Filled(folder / "filled.db", FLIPS, check)


async def fill(cluster: Cluster) -> None:
    suzhou, chengdu = cluster.cities[SUZHOU], cluster.cities[CHENGDU]
    issued = [(await suzhou.issue(license_)).license for license_ in drivers(SUZHOU, 4)]
    await set_status(suzhou, issued[0].name, add_letters=[suspension()])
    (wanted,) = experienced(SUZHOU, 1)
    old = (await suzhou.issue(wanted)).license
    await suzhou.replicated()
    await change(suzhou, "ChangeIdentity", old.name, document=renumbered(wanted).holder.document, legal_basis=BASIS)
    # One goes for good, one goes and comes back, one stays after all.
    for license_ in issued[1:3]:
        await offer(suzhou, license_.name, CHENGDU)
        await suzhou.replicated()
        await accept(chengdu, license_.name, office=OFFICE)
        await chengdu.replicated()
        await moved(suzhou, license_.name)
    away = same(issued[1], CHENGDU)
    await offer(chengdu, away, SUZHOU)
    await chengdu.replicated()
    await accept(suzhou, away)
    await offer(suzhou, issued[3].name, CHENGDU)
    await withdraw(suzhou, issued[3].name)
    await suzhou.replicated()
    await cluster.stop_registry()
    for license_ in drivers(SUZHOU, 2, seed=9):
        await suzhou.issue(license_)
    await cluster.start_registry()
    await suzhou.replicated()
    # A tile of leaves.
    stub = suzhou.issuance()
    requests = [
        pb.CreateLicenseRequest(parent=suzhou.parent, license=license_, request_id=str(uuid.uuid4()))
        for license_ in drivers(SUZHOU, 250, seed=11)
    ]
    await asyncio.gather(*(stub.CreateLicense(request, timeout=DEADLINE_S) for request in requests))
    await suzhou.replicated()
