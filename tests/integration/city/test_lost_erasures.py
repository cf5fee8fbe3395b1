"""Registry and city are both set back before the entry that erased a licence is held again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import city_node.cli
from city_node.batches import BatchReader
from elicense import errors
from elicense.v1 import recovery_pb2 as pb
from registry.batch import Batch, Taken
from registry.ingest import Ingest
from registry.services.recovery import RecoveryServicer
from tests.integration.city.test_anchor import copy_database, set_back
from tests.integration.city.test_erasure import cancel, erase, running
from tests.integration.city.test_issuance import set_status, suspension
from tests.integration.city.test_restore import (
    all_is_well,
    both,
    command,
    config_of,
    copy_registry,
    restore,
    set_registry_back,
)
from tests.support.cluster import SUZHOU, City, Cluster, drivers, eventually


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A registry and Suzhou, where the law lets a cancelled licence go at once."""
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
async def lenient(cluster: Cluster) -> City:
    return cluster.cities[SUZHOU]


@pytest.mark.parametrize("taken", [1, 4], ids=["as many entries as the copy has", "more entries than the copy has"])
async def test_a_restore_names_the_licenses_whose_erasure_both_sides_have_lost(
    cluster: Cluster, lenient: City, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    first, second = drivers(SUZHOU, 2)
    await cluster.stop_registry()
    empty = copy_registry(cluster)
    await cluster.start_registry()
    name = (await lenient.issue(first)).license.name
    await lenient.replicated()
    await lenient.stop()
    issued = copy_database(lenient)
    await lenient.start()
    await set_status(lenient, name, add_letters=[suspension()])
    await set_status(lenient, name, lift_letters=["D"])
    await cancel(lenient, name)
    await lenient.replicated()
    await erase(lenient, name)
    await lenient.issue(second)
    await lenient.replicated()
    await cluster.stop_registry()
    await set_registry_back(cluster, empty)

    # The registry is cut off behind the slots that come emptied, and before the entry that says why.
    read, append = BatchReader.read, Ingest.append

    async def cut_short(self: BatchReader, *args: Any, **options: Any) -> Any:
        self._max_entries = taken
        return await read(self, *args, **options)

    async def cut_off(self: Ingest, batch: Batch, **options: Any) -> Taken:
        if batch.entries and batch.first_index >= taken:
            raise errors.StoreUnavailable("the registry is cut off")
        return await append(self, batch, **options)

    monkeypatch.setattr(BatchReader, "read", cut_short)
    monkeypatch.setattr(Ingest, "append", cut_off)
    await cluster.start_registry()

    async def emptied() -> bool:
        _, theirs = await asyncio.to_thread(both, cluster, lenient, 1)
        return [entry.record for entry in theirs] == [None] * taken

    await eventually(emptied)
    await lenient.stop()
    monkeypatch.undo()
    set_back(lenient, issued)
    license_id = name.rsplit("/", 1)[-1]
    restored = await restore(lenient)
    assert restored["to_erase"] == [license_id]
    # Asked again, before anybody has done something about it, it says so again, to people too.
    shown = await command(city_node.cli.main, "restore", *config_of(lenient))
    assert license_id in shown
    assert "neither side holds the record" in shown

    await lenient.start()
    await cancel(lenient, name)
    await lenient.replicated()
    await erase(lenient, name)
    await lenient.replicated()
    await lenient.stop()
    assert (await restore(lenient))["to_erase"] == []
    await lenient.start()
    await all_is_well(cluster, lenient)


async def test_a_restore_of_a_city_that_erased_something_names_nothing_where_nothing_is_lost(
    cluster: Cluster, lenient: City
) -> None:
    first, second = drivers(SUZHOU, 2)
    name = (await lenient.issue(first)).license.name
    await lenient.stop()
    issued = copy_database(lenient)
    await lenient.start()
    await lenient.issue(second)
    await cancel(lenient, name)
    await lenient.replicated()
    await erase(lenient, name)
    await lenient.replicated()
    await lenient.stop()
    set_back(lenient, issued)
    assert (await restore(lenient))["to_erase"] == []
    await lenient.start()
    await all_is_well(cluster, lenient)


@pytest.mark.parametrize("answer", [pb.ListEmptiedSlotsResponse(), errors.StoreUnavailable("the registry is away")])
async def test_a_restore_ends_though_the_registry_does_not_say_what_is_emptied(
    cluster: Cluster, lenient: City, monkeypatch: pytest.MonkeyPatch, answer: pb.ListEmptiedSlotsResponse | errors.Error
) -> None:
    (first,) = drivers(SUZHOU, 1)
    await lenient.issue(first)
    await lenient.replicated()
    await lenient.stop()

    async def answered(*_: object) -> pb.ListEmptiedSlotsResponse:
        if isinstance(answer, errors.Error):
            raise answer
        return answer

    monkeypatch.setattr(RecoveryServicer, "ListEmptiedSlots", answered)
    await cluster.stop_registry()
    await cluster.start_registry()
    assert (await restore(lenient))["to_erase"] is None
    assert "run it again" in await command(city_node.cli.main, "restore", *config_of(lenient))
    await lenient.start()
    await all_is_well(cluster, lenient)
