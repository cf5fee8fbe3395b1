"""The short form of the fault campaign over a second nation, whose registry keeps everything in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.audit import audit
from tests.faults.campaign import Campaign, campaign
from tests.faults.fault import Trouble
from tests.faults.table import ON_POSTGRES, short
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nation(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> AsyncIterator[Campaign]:
    async with campaign(tmp_path_factory.mktemp("nation"), postgres, registry_on_postgres=True) as running:
        yield running


@pytest.mark.parametrize("fault", short(ON_POSTGRES), ids=lambda fault: fault.name)
async def test_nothing_acknowledged_is_lost_doubled_or_forked_by(fault: Trouble, nation: Campaign) -> None:
    row = await nation.run(fault)
    assert row.times, row
    assert row.passed, row


async def test_both_sides_recompute_to_the_same_after_every_fault(nation: Campaign) -> None:
    findings = await audit(nation.world, list(nation.ledgers.values()))
    assert findings.clean, findings
    assert findings.acknowledged > 0
