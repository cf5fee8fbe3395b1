"""AccessService: admit the holder's app, record the look, list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elicense.clock import to_timestamp
from elicense.errors import LicenseNotFound
from elicense.rpc.context import current_caller
from elicense.rpc.looks import Looks
from elicense.v1 import access_pb2 as pb
from elicense.v1 import access_pb2_grpc
from elicense.v1 import verification_pb2 as verification
from elicense.verification.look import admit
from registry.access_list import AccessList, ListedLook
from registry.holder_documents import HolderDocuments


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Thin servicer over :class:`~registry.access_list.AccessList`.

    Args:
        looks: Finds out whether the holder's name and number match, like for any look.
        documents: Finds the holder's other numbers: who looked under one of them looked as well.
        accesses: Lists looks.
    """

    def __init__(self, *, looks: Looks, documents: HolderDocuments, accesses: AccessList) -> None:
        self._looks = looks
        self._documents = documents
        self._accesses = accesses

    async def ListAccesses(self, request: pb.ListAccessesRequest, context: Any) -> pb.ListAccessesResponse:
        """List who looked at a licence; see the proto."""
        why = verification.LookContext(purpose=verification.PURPOSE_HOLDER_VIEW)
        look = admit(current_caller(), why, [("query", request.query)])
        answers = await self._looks.make("ListAccesses", replace(look, fields=frozenset()), [request.query])
        if answers.verdicts[0].outcome == verification.OUTCOME_NO_MATCH:
            raise LicenseNotFound("no license matches this document and name")
        documents = await self._documents.of(request.query.document)
        subjects = [self._looks.subject(document) for document in documents]
        page = await self._accesses.page(subjects, request.page_size, request.page_token)
        response = pb.ListAccessesResponse(
            accesses=map(_access, page.looks),
            next_page_token=page.next_token,
        )
        for node, until_us in page.complete:
            completeness = response.completeness.add(node=node)
            if until_us:
                completeness.complete_until.CopyFrom(to_timestamp(until_us))
        return response


def _access(listed: ListedLook) -> pb.Access:
    entry = listed.look.entry
    return pb.Access(
        access_time=to_timestamp(entry.at_us),
        verifier=entry.caller,
        via=entry.via,
        node=listed.look.node,
        role=entry.role,
        purpose=entry.purpose,  # type: ignore[arg-type]  # same numbers
        case_number=entry.case_number,
        method=entry.method,
        outcome=listed.outcome,  # type: ignore[arg-type]  # same numbers
        fields=listed.fields,  # type: ignore[arg-type]  # same numbers
        was_sealed=bool(entry.sealed_until_us),
    )
