"""Issuing a licence at the counter.

The order of judgement, the same for an import (:mod:`city_node.bulk`):

1. a request that has been dealt with before is answered from what was stored;
2. every rule of eligibility, all broken ones at once;
3. the person must be free in this city;
4. the person is claimed at the registry, or policy decides while it is away;
5. the log's writer judges 1 and 3 again, in the transaction that writes.

At the counter 1 to 4 are done for all who wait together (:mod:`city_node.admissions`).
"""

from __future__ import annotations

from typing import Final

from city_node.admissions import Admissions
from city_node.answers import Answer, Answers
from city_node.applications import Applications
from city_node.citylog import CityLog
from city_node.commands import GrantLapsed, IssueLicenses
from city_node.decider import answer_again
from city_node.drafting import Drafting
from city_node.drafts import Draft
from city_node.store import Request
from elicense.errors import Error
from elicense.v1 import license_pb2

#: A grant lapses within minutes; a second failure in a row means that something else is wrong.
CLAIM_ATTEMPTS: Final = 3


class Issuance:
    """Issues licences of one city.

    Args:
        log: The city's log.
        applications: Looks up.
        drafting: Reads and judges.
        admissions: Looks up too, and claims persons at the registry.
        answers: Encodes what was written.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        applications: Applications,
        drafting: Drafting,
        admissions: Admissions,
        answers: Answers,
    ) -> None:
        self._log = log
        self._applications = applications
        self._drafting = drafting
        self._admissions = admissions
        self._answers = answers

    async def create(self, message: license_pb2.License, *, request_id: str, validate_only: bool, actor: str) -> Answer:
        """Issue one licence.

        Raises:
            Malformed: Fields are not in the right form; all are named.
            RequestIdReused: The request id came with another body before.
            NotEligible: Rules are broken; all are named.
            LicenseExists: The person holds a licence here.
            PersonClaimed: Another city holds the person.
            PersonBanned: The person may not apply anew yet.
            RegistryUnreachable: The registry is away and policy refuses provisional licences.
            DataLoss: This node only verifies.
        """
        draft = self._drafting.draft(message, request_id=request_id, imported=False, actor=actor)
        if validate_only:
            return await self._preview(draft)
        for _ in range(CLAIM_ATTEMPTS):
            admitted = await self._admissions.admit(draft)  # (1) to (4)
            if isinstance(admitted, Request):
                return await self._again(admitted, draft)
            committed = await self._log.submit(IssueLicenses((admitted,)), entries=1, size=draft.size)  # (5)
            outcome = committed.result[0]
            if not isinstance(outcome, GrantLapsed):
                break
        if isinstance(outcome, Error):
            raise outcome
        return await self._answers.of(committed, outcome)

    # -- steps of one licence ------------------------------------------------------------------------------------------

    async def _preview(self, draft: Draft) -> Answer:
        ((known, taken),) = await self._applications.known_now([draft])
        if known is not None:  # (1)
            return await self._again(known, draft)
        if (refusal := self._applications.refusal(draft, taken)) is not None:  # (2), (3)
            raise refusal
        return self._answers.preview(draft.message)

    async def _again(self, known: Request, draft: Draft) -> Answer:
        done = answer_again(known, draft.digest)
        if isinstance(done, Error):
            raise done
        return await self._answers.again(done.request)
