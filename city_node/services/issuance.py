"""IssuanceService: parse, call the use case, encode."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

from google.rpc import status_pb2

from city_node.answers import Answer
from city_node.bulk import BulkIssuance, Imported
from city_node.changes import LicenseChanges
from city_node.daily import DailyRules
from city_node.encoding import license_name, parse_license_name
from city_node.erasure import Erasure
from city_node.issuance import Issuance
from city_node.licenses import Licenses
from city_node.requests import change_of
from elicense.errors import CallerNotAllowed, Error, Violation
from elicense.license.codec import date_from_message
from elicense.rpc.context import current_caller
from elicense.rpc.errors import to_status
from elicense.rpc.turns import Turns
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import issuance_pb2_grpc, license_pb2

#: A message has 4 MiB and an import call a thousand rows.
MAX_ROW_BYTES: Final = 4_000


class IssuanceServicer(issuance_pb2_grpc.IssuanceServiceServicer):
    """Thin servicer over the use cases of one city.

    Args:
        city: Division code.
        issuance: Issues licences.
        bulk: Imports existing drivers.
        changes: Changes them.
        licenses: Reads them.
        daily: Applies what the days bring.
        erasure: Erases them.
    """

    def __init__(
        self,
        *,
        city: int,
        issuance: Issuance,
        bulk: BulkIssuance,
        changes: LicenseChanges,
        licenses: Licenses,
        daily: DailyRules,
        erasure: Erasure,
    ) -> None:
        self._city = city
        self._issuance = issuance
        self._bulk = bulk
        self._changes = changes
        self._licenses = licenses
        self._daily = daily
        self._erasure = erasure

    async def CreateLicense(self, request: pb.CreateLicenseRequest, context: Any) -> pb.CreateLicenseResponse:
        """Issue a licence; see the proto."""
        self._own_parent(request.parent)
        answer = await self._issuance.create(
            request.license, request_id=request.request_id, validate_only=request.validate_only, actor=_actor()
        )
        return pb.CreateLicenseResponse(**_fields(answer))

    async def ImportLicenses(self, request: pb.ImportLicensesRequest, context: Any) -> pb.ImportLicensesResponse:
        """Issue licences of existing drivers; see the proto."""
        self._own_parent(request.parent)
        results = await self._bulk.import_rows(
            request.items, columns=request.columns, validate_only=request.validate_only, actor=_actor()
        )
        response = pb.ImportLicensesResponse()
        turns = Turns()
        for result in results:
            await turns.give_way()
            self._show(result, response.results.add())
        return response

    async def GetLicense(self, request: pb.GetLicenseRequest, context: Any) -> license_pb2.License:
        """Read a licence; see the proto."""
        return (await self._licenses.current(self._own_license(request.name))).shown()

    async def ListLicenses(self, request: pb.ListLicensesRequest, context: Any) -> pb.ListLicensesResponse:
        """List licences; see the proto."""
        self._own_parent(request.parent)
        return await self._licenses.page(request.page_size, request.page_token)

    async def ListRevisions(self, request: pb.ListRevisionsRequest, context: Any) -> pb.ListRevisionsResponse:
        """List the revisions of a licence; see the proto."""
        return await self._licenses.revisions(self._own_license(request.parent), request.page_size, request.page_token)

    async def SetStatus(self, request: pb.SetStatusRequest, context: Any) -> pb.SetStatusResponse:
        """Add and lift status letters; see the proto."""
        return pb.SetStatusResponse(**await self._change(request))

    async def UpdateLicense(self, request: pb.UpdateLicenseRequest, context: Any) -> pb.UpdateLicenseResponse:
        """Change what a holder may have changed; see the proto."""
        return pb.UpdateLicenseResponse(**await self._change(request))

    async def RenewLicense(self, request: pb.RenewLicenseRequest, context: Any) -> pb.RenewLicenseResponse:
        """Renew a licence; see the proto."""
        return pb.RenewLicenseResponse(**await self._change(request))

    async def ChangeVehicleClasses(
        self, request: pb.ChangeVehicleClassesRequest, context: Any
    ) -> pb.ChangeVehicleClassesResponse:
        """Withdraw and add classes; see the proto."""
        return pb.ChangeVehicleClassesResponse(**await self._change(request))

    async def RecordPoints(self, request: pb.RecordPointsRequest, context: Any) -> pb.RecordPointsResponse:
        """Record points, or the exam that clears them; see the proto."""
        return pb.RecordPointsResponse(**await self._change(request))

    async def CancelLicense(self, request: pb.CancelLicenseRequest, context: Any) -> pb.CancelLicenseResponse:
        """Cancel a licence; see the proto."""
        return pb.CancelLicenseResponse(**await self._change(request))

    async def EraseLicense(self, request: pb.EraseLicenseRequest, context: Any) -> pb.EraseLicenseResponse:
        """Erase a licence; see the proto."""
        answer = await self._erasure.erase(
            self._own_license(request.name),
            basis=request.legal_basis,
            request_id=request.request_id,
            validate_only=request.validate_only,
            actor=_actor(),
        )
        return pb.EraseLicenseResponse(
            durability=answer.durability,  # type: ignore[arg-type]  # same numbers
            proof=answer.proof,
            traces_gone=answer.traces_gone,
        )

    async def CorrectLicense(self, request: pb.CorrectLicenseRequest, context: Any) -> pb.CorrectLicenseResponse:
        """Put a wrong record right; see the proto."""
        return pb.CorrectLicenseResponse(**await self._change(request))

    async def ChangeIdentity(self, request: pb.ChangeIdentityRequest, context: Any) -> pb.ChangeIdentityResponse:
        """Give a holder another identity document; see the proto."""
        return pb.ChangeIdentityResponse(**await self._change(request))

    async def ApplyDailyRules(self, request: pb.ApplyDailyRulesRequest, context: Any) -> pb.ApplyDailyRulesResponse:
        """Apply what the days bring to one page of licences; see the proto."""
        self._own_parent(request.parent)
        day = date_from_message(request.date, "date") if request.HasField("date") else None
        page = await self._daily.page(day, request.page_size, request.page_token)
        return pb.ApplyDailyRulesResponse(
            licenses=page.licenses, revisions=page.revisions, next_page_token=page.next_token
        )

    async def _change(self, request: Any) -> dict[str, Any]:
        license_id = self._own_license(request.name)
        command = change_of(request, license_id=license_id, city=self._city, actor=_actor())
        return _fields(await self._changes.change(command, validate_only=request.validate_only))

    def _own_parent(self, parent: str) -> None:
        if parent != f"cities/{self._city}":
            raise CallerNotAllowed(f"this node issues for cities/{self._city} alone", city=self._city)

    def _own_license(self, name: str) -> bytes:
        city, license_id = parse_license_name(name)
        self._own_parent(f"cities/{city}")
        return license_id

    def _show(self, result: Imported, shown: pb.ImportResult) -> None:
        if result.error is not None:
            shown.status.CopyFrom(_row_status(result.error))
            return
        if result.license_id:
            shown.name = license_name(self._city, result.license_id)
        shown.already_imported = result.already


def _row_status(error: Error) -> status_pb2.Status:
    """Return the status of one row, with as many violations as leave room for a thousand such rows in one answer."""
    status = to_status(error)
    kept = len(error.violations)
    while status.ByteSize() > MAX_ROW_BYTES and kept:
        kept //= 2
        left_out = Violation("", "MORE_VIOLATIONS", f"{len(error.violations) - kept} more; put these right first")
        status = to_status(_with(error, (*error.violations[:kept], left_out)))
    return status


def _with(error: Error, violations: tuple[Violation, ...]) -> Error:
    shorter = copy(error)
    shorter.violations = violations
    return shorter


def _actor() -> str:
    return str(current_caller().spiffe_id)


def _fields(answer: Answer) -> dict[str, Any]:
    return {"license": answer.license, "durability": answer.durability, "proof": answer.proof}
