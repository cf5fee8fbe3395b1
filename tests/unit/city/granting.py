"""A registry that grants every claim, played by a stub."""

from __future__ import annotations

import asyncio

from elicense.v1 import license_pb2, replication_pb2


class GrantingRegistry:
    """Grants every claim, and lets a call wait where it is told to."""

    def __init__(self) -> None:
        self.carried: list[int] = []
        self.called = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.changed: dict[bytes, bytes] = {}

    async def ClaimPersons(  # noqa: N802  # its name and its parameter are those of a stub
        self,
        request: replication_pb2.ClaimPersonsRequest,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> replication_pb2.ClaimPersonsResponse:
        self.carried.append(len(request.claims))
        self.called.set()
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
