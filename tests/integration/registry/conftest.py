"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.registry.world import World, running_world
from tests.support.postgres import PostgresServer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A registry on SQLite."""
    async with running_world(tmp_path) as running:
        yield running


@pytest.fixture
async def world_on_postgres(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[World]:
    """A registry on PostgreSQL."""
    with postgres.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            yield world
