"""A log on each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.log.world import LogWorld, metadata
from tests.support.stores import EmptyStore


@pytest.fixture
async def world(empty_store: EmptyStore) -> AsyncIterator[LogWorld]:
    world = LogWorld(empty_store.create(metadata), empty_store.engine)
    yield world
    await world.close()


@pytest.fixture
async def sqlite_world(tmp_path: Path) -> AsyncIterator[LogWorld]:
    """For what has to do with the writer alone and not with the engine."""
    world = LogWorld(EmptyStore(f"sqlite:///{tmp_path / 'log.db'}", "sqlite").create(metadata), "sqlite")
    yield world
    await world.close()
