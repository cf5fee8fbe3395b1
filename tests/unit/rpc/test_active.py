from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from elicense.errors import StoreUnavailable
from elicense.rpc.active import MAX_AGE_US, REFRESH_AGE_US, ActiveCertificates
from elicense.trust.roles import Role
from elicense.trust.spiffe import ActiveCertificate


def row(fingerprint: bytes) -> ActiveCertificate:
    return ActiveCertificate(fingerprint, "spiffe://elicense.test/operator/x", Role.OPERATOR, None, 10**18)


class Table:
    """A table of active certificates with a clock beside it."""

    def __init__(self, *fingerprints: bytes) -> None:
        self.rows = {f: row(f) for f in fingerprints}
        self.reads: list[list[bytes]] = []
        self.now_us = 10**15
        self.away = False
        self.cache = ActiveCertificates(fetch=self.fetch, clock=lambda: self.now_us)

    async def fetch(self, fingerprints: Sequence[bytes]) -> Mapping[bytes, ActiveCertificate]:
        self.reads.append(list(fingerprints))
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("away")
        return {f: self.rows[f] for f in fingerprints if f in self.rows}


async def test_a_certificate_is_read_once_and_then_known() -> None:
    table = Table(b"a")
    assert await table.cache.find(b"a") == row(b"a")
    assert await table.cache.find(b"a") == row(b"a")
    assert table.reads == [[b"a"]]


async def test_callers_that_come_together_share_one_read() -> None:
    table = Table(b"a", b"b")
    found = await asyncio.gather(*(table.cache.find(f) for f in [b"a", b"b", b"c"] * 20))
    assert found == [row(b"a"), row(b"b"), None] * 20
    assert table.reads == [[b"a", b"b", b"c"]]


async def test_a_revoked_certificate_is_refused_once_the_cached_row_is_too_old() -> None:
    table = Table(b"a")
    await table.cache.find(b"a")
    table.rows.clear()
    table.now_us += MAX_AGE_US
    assert await table.cache.find(b"a") is None


async def test_an_unknown_certificate_is_not_asked_for_again_at_once() -> None:
    table = Table()
    assert await table.cache.find(b"x") is None
    assert await table.cache.find(b"x") is None
    assert len(table.reads) == 1
    table.rows[b"x"] = row(b"x")
    table.now_us += MAX_AGE_US
    assert await table.cache.find(b"x") == row(b"x")


async def test_a_row_in_use_is_renewed_before_it_is_too_old() -> None:
    table = Table(b"a")
    await table.cache.find(b"a")
    table.now_us += REFRESH_AGE_US
    for _ in range(5):
        assert await table.cache.find(b"a") == row(b"a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(table.reads) == 2
    table.now_us += MAX_AGE_US - REFRESH_AGE_US
    assert await table.cache.find(b"a") == row(b"a")


async def test_with_the_table_away_a_row_holds_until_it_is_too_old() -> None:
    table = Table(b"a")
    await table.cache.find(b"a")
    table.away = True
    table.now_us += REFRESH_AGE_US
    for _ in range(4):
        assert await table.cache.find(b"a") == row(b"a")
        await asyncio.sleep(0)
    table.now_us += MAX_AGE_US
    with pytest.raises(StoreUnavailable):
        await table.cache.find(b"a")
    table.away = False
    assert await table.cache.find(b"a") == row(b"a")


async def test_a_clock_that_was_set_back_is_no_reason_to_trust_longer() -> None:
    table = Table(b"a")
    await table.cache.find(b"a")
    table.rows.clear()
    table.now_us -= 3600 * 10**6
    assert await table.cache.find(b"a") is None
