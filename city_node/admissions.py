"""Applications that wait together at the counter: one look-up, and one claim at the registry, for all of them.

One batch is under way; whoever comes meanwhile rides the next one.  Where several
wait it leaves a moment later, so that more can join: a call and the commits that
follow it cost the same for one person and for a hundred.  A lone one leaves at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from city_node.applications import Applications
from city_node.claims import MAX_CLAIMS, Grant, PersonClaims
from city_node.commands import NewLicense
from city_node.drafts import Draft
from city_node.gate import SigningGate
from city_node.store import Request
from elicense.errors import Error, LicenseExists, RegistryUnreachable
from elicense.rpc.coalesce import Coalescer

#: How long those who wait together let others join them at most, seconds: so long for each of them.
GATHER_EACH_S: Final = 0.002
LONGEST_GATHER_S: Final = 0.1
#: A wait that brought nobody is the last one: a crowd that was just answered comes back within it.
GATHER_STEP_S: Final = 0.01


class Admissions:
    """Admits applications: looks them up, and claims their persons.

    Args:
        applications: Looks up.
        claims: Claims persons at the registry.
        gate: Whether this node may sign.
        issue_provisional: Whether to issue while the registry is away.
        timeout_s: How long an application waits for the registry.
    """

    def __init__(
        self,
        *,
        applications: Applications,
        claims: PersonClaims,
        gate: SigningGate,
        issue_provisional: bool,
        timeout_s: float,
    ) -> None:
        self._applications = applications
        self._claims = claims
        self._gate = gate
        self._issue_provisional = issue_provisional
        self._timeout_s = timeout_s
        self._waiting: Coalescer[Draft, NewLicense | Request] = Coalescer(
            self._admit, lanes=1, max_batch=MAX_CLAIMS, pause=_gather
        )

    async def admit(self, draft: Draft) -> NewLicense | Request:
        """Return the licence to issue, with the registry's grant, or what the request came to before.

        Raises:
            NotEligible: Rules are broken; all are named.
            LicenseExists: The person holds a licence here.
            PersonClaimed: Another city holds the person.
            PersonBanned: The person may not apply anew yet.
            RegistryUnreachable: The registry did not answer, or not as it should, and policy refuses provisional
                licences; it may have granted the claim all the same.
            DataLoss: This node only verifies.
        """
        try:
            # The limit is on the whole wait: whoever rides the second batch after
            # a first one that hung must not wait twice.
            return await self._waiting.submit(draft, timeout_s=self._timeout_s)
        except TimeoutError:
            away = RegistryUnreachable("the registry did not answer in time; try again once it is back")
        (judged,) = await self._judge([draft])
        (license_id,) = self._applications.new_license_ids(1)
        admitted = judged or self._granted(draft, license_id, away)
        if isinstance(admitted, Error):
            raise admitted
        return admitted

    async def close(self) -> None:
        """Wait for the batch under way."""
        await self._waiting.close()

    async def _admit(self, drafts: list[Draft]) -> Sequence[NewLicense | Request | Error]:
        judged = await self._judge(drafts)
        claimed = iter(await self._claim([draft for draft, found in zip(drafts, judged, strict=True) if found is None]))
        return [next(claimed) if found is None else found for found in judged]

    async def _judge(self, drafts: Sequence[Draft]) -> Sequence[Request | Error | None]:
        """Return what becomes of each without the registry; None for one whose person is to be claimed."""
        found = await self._applications.known_now(drafts)
        stopped = self._stopped()
        return [
            known or self._applications.refusal(draft, taken) or stopped
            for draft, (known, taken) in zip(drafts, found, strict=True)
        ]

    def _stopped(self) -> Error | None:
        try:
            self._gate.check()
        except Error as error:
            return error
        return None

    async def _claim(self, drafts: Sequence[Draft]) -> Sequence[NewLicense | Request | Error]:
        if not drafts:
            return ()
        license_ids = self._applications.new_license_ids(len(drafts))
        grants: Sequence[Grant | Error]
        try:
            grants = await self._claims.claim_each(
                [draft.claim(license_id) for draft, license_id in zip(drafts, license_ids, strict=True)]
            )
        except Error as error:
            grants = [error] * len(drafts)
        granted = [self._granted(*each) for each in zip(drafts, license_ids, grants, strict=True)]
        return await self._without_twins(drafts, granted)

    def _granted(self, draft: Draft, license_id: bytes, grant: Grant | Error) -> NewLicense | Error:
        """Return the licence to issue, provisional where the registry is away and policy has it so."""
        if isinstance(grant, Grant):
            return NewLicense(draft, *grant)
        if self._issue_provisional and isinstance(grant, RegistryUnreachable):
            return NewLicense(draft, license_id)
        return grant

    async def _without_twins(
        self, drafts: Sequence[Draft], granted: Sequence[NewLicense | Error]
    ) -> Sequence[NewLicense | Request | Error]:
        """Answer who got no grant because the same request, sent twice, was faster: its record is at the registry."""
        held = [draft for draft, each in zip(drafts, granted, strict=True) if isinstance(each, LicenseExists)]
        if not held:
            return granted
        found = iter(await self._applications.known_now(held))
        return [(next(found)[0] or each) if isinstance(each, LicenseExists) else each for each in granted]


async def _gather(carried: int, waiting: Callable[[], int]) -> None:
    left_s = min(LONGEST_GATHER_S, max(carried, waiting()) * GATHER_EACH_S)
    while left_s > 0:
        before = waiting()
        await asyncio.sleep(min(GATHER_STEP_S, left_s))
        left_s -= GATHER_STEP_S
        # As long as nobody waits, nobody is held up.
        if 0 < waiting() <= before:
            return
