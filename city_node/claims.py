"""Claiming persons at the registry before licences are issued to them.

Those who wait at the counter are claimed together (:mod:`city_node.admissions`).  An
import has a lane of its own, so that a thousand rows never stand before a citizen there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import grpc

from city_node.holding import person_banned
from city_node.registry_faults import as_registry_fault
from elicense.clock import from_timestamp
from elicense.errors import Error, LicenseExists, PersonClaimed, RegistryUnreachable
from elicense.license.civil_date import date_from_message
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.turns import Turns
from elicense.v1 import license_pb2, replication_pb2, replication_pb2_grpc
from elicense.view.fold import LICENSE_ID_SIZE

MAX_CLAIMS: Final = 1_000
#: A call of an import; longer than that of a single issue, since nobody stands and waits.
BULK_SECONDS: Final = 30.0


class Grant(NamedTuple):
    """A person granted to this city.

    Attributes:
        license_id: Licence to issue; that of an earlier, unused grant when there is one.
        citation: The grant as the record cites it, a serialized ``ClaimGrant``.
        lease_end_us: Until when it may be used.
    """

    license_id: bytes
    citation: bytes
    lease_end_us: int


class PersonClaims:
    """Claims persons for one city.

    Args:
        stub: The registry's ReplicationService.
        city: Division code of this city.
        timeout_s: How long a call waits for the registry where somebody stands and waits for it.
    """

    def __init__(self, *, stub: replication_pb2_grpc.ReplicationServiceStub, city: int, timeout_s: float) -> None:
        self._stub = stub
        self._city = city
        self._timeout_s = timeout_s
        self._bulk = asyncio.Lock()

    async def claim(self, claim: replication_pb2.PersonClaim) -> Grant:
        """Claim one person.

        Raises:
            PersonClaimed: Another city holds the person.
            LicenseExists: This city does, with a licence.
            PersonBanned: The person may not apply anew yet.
            RegistryUnreachable: The registry did not answer, or not as it should; it may have granted the claim
                all the same.
        """
        (result,) = await self.claim_each([claim])
        if isinstance(result, Error):
            raise result
        return result

    async def claim_each(self, claims: Sequence[replication_pb2.PersonClaim]) -> Sequence[Grant | Error]:
        """Claim up to 1,000 persons who wait together; one result a claim, in order.

        Raises:
            RegistryUnreachable: The registry did not answer.
        """
        return await self._call(claims, self._timeout_s)

    async def claim_bulk(self, claims: Sequence[replication_pb2.PersonClaim]) -> Sequence[Grant | Error]:
        """Claim up to 1,000 persons for an import; one result a claim, in order.

        Raises:
            RegistryUnreachable: The registry did not answer.
        """
        async with self._bulk:
            return await self._call(claims, BULK_SECONDS, bulk=True)

    async def _call(
        self, claims: Sequence[replication_pb2.PersonClaim], timeout_s: float, *, bulk: bool = False
    ) -> Sequence[Grant | Error]:
        request = replication_pb2.ClaimPersonsRequest(claims=claims, bulk=bulk)
        try:
            response = await self._stub.ClaimPersons(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise as_registry_fault(from_rpc_error(error)) from error
        if len(response.results) != len(claims):
            raise RegistryUnreachable("the registry's answer does not fit the question; try again")
        turns = Turns()
        results: list[Grant | Error] = []
        for result in response.results:
            await turns.give_way()
            results.append(self._result(result))
        return results

    def _result(self, result: replication_pb2.ClaimResult) -> Grant | Error:
        if result.HasField("grant"):
            license_id = result.license_id
            if len(license_id) != LICENSE_ID_SIZE:
                # A record of such a licence would be one that nobody can read, in this city's own log for good.
                return RegistryUnreachable("the registry granted a license without a proper id; try again")
            citation = result.grant.SerializeToString()
            return Grant(license_id, citation, _lease_end_us(citation))
        if result.HasField("barred"):
            until = (
                date_from_message(result.barred.until_date, "until_date")
                if result.barred.HasField("until_date")
                else None
            )
            return person_banned(result.barred.city, until)
        if result.held_by_city == self._city:
            return LicenseExists(
                "this person holds a license in this city already; if it was cancelled just now, try again in a moment"
            )
        return PersonClaimed("another city holds this person", heldByCity=result.held_by_city)


@lru_cache(maxsize=64)
def _lease_end_us(citation: bytes) -> int:
    """Return until when a grant may be used, which all persons of one entry of the registry's log share."""
    return from_timestamp(license_pb2.ClaimGrant.FromString(citation).lease_end_time)
