from __future__ import annotations

from typing import cast

import pytest

from city_node.claims import PersonClaims
from elicense.errors import Error, RegistryUnreachable
from elicense.v1 import replication_pb2, replication_pb2_grpc
from tests.unit.city.granting import GrantingRegistry

CITY = 320500


def claim(number: int) -> replication_pb2.PersonClaim:
    return replication_pb2.PersonClaim(license_id=number.to_bytes(16))


@pytest.mark.parametrize("size", [0, 15, 17, 100_000])
async def test_a_grant_without_a_proper_license_id_is_no_grant_and_keeps_nobody_else_from_theirs(size: int) -> None:
    registry = GrantingRegistry()
    registry.changed[(1).to_bytes(16)] = bytes(size)
    claims = PersonClaims(stub=cast("replication_pb2_grpc.ReplicationServiceStub", registry), city=CITY, timeout_s=10)
    with pytest.raises(RegistryUnreachable):
        await claims.claim(claim(1))
    first, second = await claims.claim_bulk([claim(1), claim(2)])
    assert isinstance(first, RegistryUnreachable)
    assert not isinstance(second, Error)
    assert second.license_id == (2).to_bytes(16)
