from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from city_node.claims import PersonClaims
from elicense.errors import Error, RegistryUnreachable
from elicense.v1 import license_pb2, replication_pb2, replication_pb2_grpc

CITY = 320500


class Registry:
    """Grants every claim, and lets a call wait until it may be answered."""

    def __init__(self) -> None:
        self.carried: list[int] = []
        self.may_answer = asyncio.Event()
        self.changed: dict[bytes, bytes] = {}

    async def ClaimPersons(  # noqa: N802  # its name and its parameter are those of a stub
        self,
        request: replication_pb2.ClaimPersonsRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> replication_pb2.ClaimPersonsResponse:
        self.carried.append(len(request.claims))
        await self.may_answer.wait()
        granted = license_pb2.ClaimGrant(registry_epoch=1)
        return replication_pb2.ClaimPersonsResponse(
            results=[
                replication_pb2.ClaimResult(
                    grant=granted, license_id=self.changed.get(claim.license_id, claim.license_id)
                )
                for claim in request.claims
            ]
        )


def claims_of(registry: Registry, *, timeout_s: float = 10) -> PersonClaims:
    stub = cast("replication_pb2_grpc.ReplicationServiceStub", cast("Any", registry))
    return PersonClaims(stub=stub, city=CITY, timeout_s=timeout_s)


def claim(number: int) -> replication_pb2.PersonClaim:
    return replication_pb2.PersonClaim(license_id=number.to_bytes(16))


async def test_claims_that_come_one_after_the_other_wait_for_nobody() -> None:
    registry = Registry()
    registry.may_answer.set()
    claims = claims_of(registry)
    for number in range(20):
        assert (await claims.claim(claim(number))).license_id == number.to_bytes(16)
    assert registry.carried == [1] * 20
    await claims.close()


async def test_who_waits_with_others_lets_more_of_them_join_and_everybody_gets_their_own_grant() -> None:
    registry = Registry()
    claims = claims_of(registry)
    first = asyncio.create_task(claims.claim(claim(0)))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(claims.claim(claim(number))) for number in range(1, 5)]
    await asyncio.sleep(0)
    registry.may_answer.set()
    await first
    late = [asyncio.create_task(claims.claim(claim(number))) for number in range(5, 9)]
    grants = await asyncio.gather(first, *waiting, *late)
    assert [grant.license_id for grant in grants] == [number.to_bytes(16) for number in range(9)]
    assert registry.carried == [1, 8]
    await claims.close()


async def test_who_waits_too_long_hears_that_the_registry_is_away_also_behind_a_call_that_hangs() -> None:
    registry = Registry()
    claims = claims_of(registry, timeout_s=0.01)
    both = await asyncio.gather(*(claims.claim(claim(number)) for number in range(2)), return_exceptions=True)
    late = await asyncio.gather(claims.claim(claim(2)), return_exceptions=True)
    assert [type(each) for each in (*both, *late)] == [RegistryUnreachable] * 3
    registry.may_answer.set()
    await claims.close()
    # Nobody waited for the others any more.
    assert registry.carried == [2]


@pytest.mark.parametrize("size", [0, 15, 17, 100_000])
async def test_a_grant_without_a_proper_license_id_is_no_grant_and_keeps_nobody_else_from_theirs(size: int) -> None:
    registry = Registry()
    registry.may_answer.set()
    registry.changed[(1).to_bytes(16)] = bytes(size)
    claims = claims_of(registry)
    with pytest.raises(RegistryUnreachable):
        await claims.claim(claim(1))
    first, second = await claims.claim_bulk([claim(1), claim(2)])
    assert isinstance(first, RegistryUnreachable)
    assert not isinstance(second, Error)
    assert second.license_id == (2).to_bytes(16)
    await claims.close()
