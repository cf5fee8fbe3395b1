"""A registry and Suzhou, running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import SUZHOU, City, Cluster, run_cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU) as running:
        yield running


@pytest.fixture
async def suzhou(cluster: Cluster) -> City:
    return cluster.cities[SUZHOU]
