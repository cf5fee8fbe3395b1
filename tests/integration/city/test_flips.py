"""One flipped bit in any column of any table of a city: the self-check finds it and says where."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from city_node.fsck import Fsck
from city_node.keys import CityKeys, load_keys
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
from tests.support.cluster import CHENGDU, DEADLINE_S, SUZHOU, TRUST_DOMAIN, City, Cluster, drivers, run_cluster
from tests.support.flips import copy_database, flip

pytestmark = pytest.mark.asyncio(loop_scope="module")

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

COLUMNS = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if not {f"{table.name}.{column.name}", table.name} & (UNCHECKED.keys() | EMPTY.keys())
]


@dataclass
class Filled:
    """A city's database with something in every table."""

    database: Path
    city: City
    keys: CityKeys

    def fsck(self, database: Path) -> Report:
        opened = Database(f"sqlite:///{database}", readers=1, writers=1)
        try:
            return Fsck(
                database=opened,
                store=CityStore(),
                persons=self.keys.persons,
                trust_domain=TRUST_DOMAIN,
                city=SUZHOU,
                cosigner=self.keys.cosigner,
                registry=RegistryHistory(parse_vkey(self.city.config.city.registry_log_key)),
                progress=lambda _: None,
            ).run()
        finally:
            opened.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    folder = tmp_path_factory.mktemp("filled")
    async with run_cluster(folder, SUZHOU, CHENGDU) as cluster:
        suzhou = cluster.cities[SUZHOU]
        await fill(cluster)
        await suzhou.stop()
        copy_database(suzhou.folder / "city.db", folder / "filled.db")
        yield Filled(folder / "filled.db", suzhou, load_keys(suzhou.config, random=bytes))


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


async def test_nothing_is_found_before_a_bit_is_flipped(filled: Filled) -> None:
    assert filled.fsck(filled.database).findings == ()


@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_a_flipped_bit_is_found(filled: Filled, tmp_path: Path, table: str, column: str) -> None:
    database = tmp_path / "flipped.db"
    copy_database(filled.database, database)
    chance = random.Random(f"{table}.{column}")
    where = flip(database, metadata.tables[table], column, chance, only=ONLY.get(f"{table}.{column}", "1"))
    assert where is not None
    assert filled.fsck(database).findings, where
