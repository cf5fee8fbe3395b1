"""The short form of the fault campaign: one nation of real processes, broken in one way after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.audit import audit
from tests.faults.campaign import Campaign, campaign
from tests.faults.fault import Trouble
from tests.faults.table import FAULTS, short
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nation(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> AsyncIterator[Campaign]:
    async with campaign(tmp_path_factory.mktemp("nation"), postgres) as running:
        yield running


@pytest.mark.parametrize("fault", short(FAULTS), ids=lambda fault: fault.name)
async def test_nothing_acknowledged_is_lost_doubled_or_forked_by(fault: Trouble, nation: Campaign) -> None:
    row = await nation.run(fault)
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.passed, row


async def test_both_sides_recompute_to_the_same_after_every_fault(nation: Campaign) -> None:
    findings = await audit(nation.world, list(nation.ledgers.values()))
    assert findings.clean, findings
    assert findings.acknowledged > 0
