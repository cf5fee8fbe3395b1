"""One flipped bit in any column of any table of the registry: the self-check finds it and says where."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.registry.filled import FLIPS, filled_registry
from tests.support.flips import Filled

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    async with filled_registry(tmp_path_factory.mktemp("filled")) as database:
        yield database


async def test_nothing_is_found_before_a_bit_is_flipped(filled: Filled) -> None:
    assert filled.fsck(filled.database).findings == ()


@pytest.mark.parametrize(("table", "column"), FLIPS.columns)
async def test_a_flipped_bit_is_found(filled: Filled, tmp_path: Path, table: str, column: str) -> None:
    chance = random.Random(f"{table}.{column}")
    assert filled.missed(tmp_path / "flipped.db", table, column, chance) is None
