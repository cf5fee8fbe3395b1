"""The drill: back up, go on, lose the database, put the backup in its place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import city_node.cli
import registry.cli
from elicense import errors
from elicense.v1 import license_pb2, verification_pb2
from elicense.v1.verification_pb2 import OUTCOME_INVALID, OUTCOME_VALID, PURPOSE_ROADSIDE_CHECK
from registry.store import RegistryStore
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_mirror import caught_up, own_log
from tests.integration.city.test_restore import all_is_well, both, command, lose_database, restore
from tests.support.cluster import SUZHOU, City, Cluster, drivers, eventually


async def test_a_city_that_comes_back_from_its_backup_has_lost_nothing_receipted(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    people = list(drivers(SUZHOU, 12))
    config = ("--config", str(suzhou.folder / "config.toml"))
    for wanted in people[:3]:
        await suzhou.issue(wanted)
    # Taken while licences are being issued.
    issuing = asyncio.gather(*(suzhou.issue(wanted) for wanted in people[3:9]))
    said = await command(city_node.cli.main, "backup", str(tmp_path / "city.bak"), *config)
    assert "whole and checked" in said
    await command(city_node.cli.main, "backup", str(tmp_path / "access.bak"), "--access-log", *config)
    issued = await issuing
    await set_status(suzhou, issued[0].license.name, add_letters=[suspension()])
    await suzhou.replicated()
    await suzhou.stop()
    before, _ = both(cluster, suzhou, 1)
    lose_database(suzhou)
    (tmp_path / "city.bak").rename(suzhou.folder / "city.db")
    restored = await restore(suzhou)
    assert (restored["epoch"], restored["opened"]) == (1, False)
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs == before
    assert len(ours) == 10
    await suzhou.start()
    # The clerk was enrolled before the backup.
    await suzhou.issue(people[9])
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_registry_that_comes_back_from_its_backup_gets_everything_again_from_its_cities(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    first, second, third, fourth = drivers(SUZHOU, 4)
    config = ("--config", str(cluster.folder / "registry" / "config.toml"))
    police = await cluster.enroll_national(("verifier", "police", "highway"), tmp_path / "police")
    kept = (await suzhou.issue(first)).license
    await suzhou.replicated()
    await command(registry.cli.main, "backup", str(tmp_path / "registry.bak"), *config)
    await set_status(suzhou, kept.name, add_letters=[suspension()])
    await suzhou.issue(second)
    await suzhou.replicated()
    await cluster.stop_registry()
    # Issued without a grant: the registry's word on it comes with the feed.
    provisional = (await suzhou.issue(third)).license
    await cluster.start_registry()

    async def confirmed() -> bool:
        return suzhou.running.replicator.backlog == 0 and _cursor(suzhou) == 1

    await eventually(confirmed)
    before, _ = both(cluster, suzhou, 1)
    await caught_up(cluster, suzhou)
    await cluster.stop_registry()
    _, decisions = own_log(cluster.registry_config.database.url, RegistryStore())
    for path in (cluster.folder / "registry").iterdir():
        if path.name.startswith("registry.db"):
            path.unlink()
    (tmp_path / "registry.bak").rename(cluster.folder / "registry" / "registry.db")
    await cluster.start_registry()
    # Nothing is decided by a registry that lacks its own decisions, until its cities have given them back.
    await suzhou.issue(fourth)
    await suzhou.replicated()

    async def decided_again() -> bool:
        assert cluster.registry is not None
        return (await said(fourth)).outcome == OUTCOME_VALID

    async def said(license_: license_pb2.License) -> verification_pb2.Verdict:
        assert cluster.registry is not None
        return await cluster.verify(
            police, cluster.registry.address, license_.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
        )

    await eventually(decided_again)
    assert own_log(cluster.registry_config.database.url, RegistryStore())[1][: len(decisions)] == decisions
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs
    assert ours[: len(before)] == before
    assert cluster.registry is not None
    for license_, outcome in ((first, OUTCOME_INVALID), (second, OUTCOME_VALID), (third, OUTCOME_VALID)):
        assert (await said(license_)).outcome == outcome, provisional.name
    await all_is_well(cluster, suzhou)


def _cursor(city: City) -> int:
    return city.running.receipts.cursor


async def test_a_registry_without_its_anchor_decides_nothing_and_says_why(cluster: Cluster, suzhou: City) -> None:
    (wanted,) = drivers(SUZHOU, 1)
    await cluster.stop_registry()
    cluster.registry_config.anchor_path.unlink()
    await cluster.start_registry()
    assert (await suzhou.issue(wanted)).license.provisional
    assert cluster.registry is not None
    with pytest.raises(errors.DataLoss, match="anchor is missing"):
        await cluster.registry.publish_heads()
