"""What a registry had given receipts for comes back after it was set back, also of a city in quarantine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import city_node.cli
from tests.integration.city.test_mirror import caught_up, set_whole_back
from tests.integration.city.test_restore import (
    all_is_well,
    both,
    command,
    config_of,
    copy_registry,
    let_in,
    lose_database,
    restore,
    show_a_fork,
)
from tests.support.cluster import SUZHOU, TIANJIN, City, Cluster, drivers, eventually


async def set_back_in_quarantine(cluster: Cluster, suzhou: City, *, beyond: bool) -> None:
    """Set the registry back to one entry of a city that it had two of, and convict the city, which is stopped.

    Args:
        cluster: The registry, and Suzhou.
        suzhou: The city.
        beyond: Whether the city has a third entry, which the registry never had.
    """
    tianjin = await cluster.add_city(TIANJIN)
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    kept = copy_registry(cluster)
    await cluster.start_registry()
    await suzhou.issue(second)
    await suzhou.replicated()
    await caught_up(cluster, tianjin)
    if beyond:
        await cluster.stop_registry()
        await suzhou.issue(third)
    await suzhou.stop()
    if beyond:
        await cluster.start_registry()
    convicted = await caught_up(cluster, tianjin) + 1
    await show_a_fork(cluster, suzhou)
    await caught_up(cluster, tianjin, least=convicted)
    await cluster.stop_registry()
    set_whole_back(cluster, kept)
    await cluster.start_registry()
    # The conviction is back before the city is heard again.
    await caught_up(cluster, tianjin, least=convicted)


async def holds(cluster: Cluster, suzhou: City) -> int:
    ours, theirs = await asyncio.to_thread(both, cluster, suzhou, 1)
    assert ours[: len(theirs)] == theirs
    return len(theirs)


@pytest.mark.parametrize("is_running", [True, False], ids=["by the node", "by its restore"])
async def test_a_registry_that_was_set_back_gets_from_a_city_in_quarantine_what_it_gave_receipts_for(
    cluster: Cluster, suzhou: City, tmp_path: Path, is_running: bool
) -> None:
    await set_back_in_quarantine(cluster, suzhou, beyond=True)
    assert await holds(cluster, suzhou) == 1
    if is_running:
        await suzhou.start()

        async def is_back() -> bool:
            return await holds(cluster, suzhou) == 2

        await eventually(is_back)
        await suzhou.stop()
    else:
        assert "[QUARANTINED]" in await command(city_node.cli.main, "restore", *config_of(suzhou), status=1)
    # What it had given no receipt for it does not take of a city with two histories.
    assert await holds(cluster, suzhou) == 2
    await let_in(cluster, SUZHOU, tmp_path)
    assert "move the database aside" in await command(city_node.cli.main, "restore", *config_of(suzhou), status=1)
    lose_database(suzhou)
    restored = await restore(suzhou)
    assert restored == {"epoch": 2, "opened": True, "refilled": 2, "size": 1, "registered": True, "to_erase": []}
    await all_is_well(cluster, suzhou)


async def test_a_city_restored_after_its_fork_loses_nothing_that_it_had_a_receipt_for_at_a_registry_set_back(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    await set_back_in_quarantine(cluster, suzhou, beyond=False)
    await let_in(cluster, SUZHOU, tmp_path)
    # One restore hands in what was lost, and goes on behind it: nothing is moved aside.
    restored = await restore(suzhou)
    assert restored == {"epoch": 2, "opened": True, "refilled": 0, "size": 1, "registered": True, "to_erase": []}
    assert await holds(cluster, suzhou) == 2
    await all_is_well(cluster, suzhou)
