"""TransferService: parse, call the use case, encode."""

from __future__ import annotations

import uuid
from typing import Any

from city_node.answers import Answer
from city_node.encoding import license_name, parse_license_name
from city_node.history_reader import History
from city_node.transfer_store import HandOver
from city_node.transfers import Transfers
from elicense.clock import to_timestamp
from elicense.errors import CallerNotAllowed, LicenseNotFound
from elicense.license.transfer import Office
from elicense.rpc.context import current_caller
from elicense.v1 import custody_pb2, log_pb2, transfer_pb2_grpc
from elicense.v1 import transfer_pb2 as pb
from elicense.view.fold import read_record


class TransferServicer(transfer_pb2_grpc.TransferServiceServicer):
    """Thin servicer over the hand-overs of one city.

    Args:
        transfers: Hands over and takes over.
        history: Reads what other cities wrote.
    """

    def __init__(self, *, transfers: Transfers, history: History) -> None:
        self._city = transfers.city
        self._transfers = transfers
        self._history = history

    async def OfferTransfer(self, request: pb.OfferTransferRequest, context: Any) -> pb.OfferTransferResponse:
        """Offer custody to another city; see the proto."""
        answer = await self._transfers.offer(
            self._own_license(request.name),
            to_city=request.to_city,
            basis=request.legal_basis,
            etag=request.etag,
            request_id=request.request_id,
            validate_only=request.validate_only,
            actor=_actor(),
        )
        return pb.OfferTransferResponse(**_fields(answer))

    async def WithdrawTransfer(self, request: pb.WithdrawTransferRequest, context: Any) -> pb.WithdrawTransferResponse:
        """Take an offer back; see the proto."""
        answer = await self._transfers.withdraw(
            self._own_license(request.name),
            basis=request.legal_basis,
            etag=request.etag,
            request_id=request.request_id,
            validate_only=request.validate_only,
            actor=_actor(),
        )
        return pb.WithdrawTransferResponse(**_fields(answer))

    async def AcceptTransfer(self, request: pb.AcceptTransferRequest, context: Any) -> pb.AcceptTransferResponse:
        """Take over what another city offers; see the proto."""
        self._own_parent(request.parent)
        office = None
        if request.HasField("office"):
            given = request.office
            office = Office(given.archive_number, given.issuing_authority, given.division_code)
        from_city, license_id = parse_license_name(request.license)
        taken = await self._transfers.accept(
            license_id,
            from_city=from_city,
            office=office,
            basis=request.legal_basis,
            request_id=request.request_id,
            validate_only=request.validate_only,
            actor=_actor(),
        )
        return pb.AcceptTransferResponse(
            **_fields(taken.answer),
            state=taken.state,  # type: ignore[arg-type]  # the same numbers
            detail=taken.detail,
        )

    async def ListTransfers(self, request: pb.ListTransfersRequest, context: Any) -> pb.ListTransfersResponse:
        """List hand-overs of this city; see the proto."""
        self._own_parent(request.parent)
        found, token = await self._transfers.page(request.page_size, request.page_token)
        return pb.ListTransfersResponse(transfers=[self._transfer(each) for each in found], next_page_token=token)

    async def ListIncomingOffers(
        self, request: pb.ListIncomingOffersRequest, context: Any
    ) -> pb.ListIncomingOffersResponse:
        """List what is offered to this city; see the proto."""
        self._own_parent(request.parent)
        asked = custody_pb2.ListOffersRequest(page_size=request.page_size, page_token=request.page_token)
        if request.HasField("document"):
            asked.document.CopyFrom(request.document)
        page = await self._transfers.incoming(asked)
        for offer in page.offers:
            offer.license.name = license_name(offer.from_city, offer.license_id)
        return pb.ListIncomingOffersResponse(offers=page.offers, next_page_token=page.next_page_token)

    async def GetLateRevision(self, request: pb.GetLateRevisionRequest, context: Any) -> pb.GetLateRevisionResponse:
        """Read what another city wrote too late; see the proto."""
        found = await self._history.record(self._own_license(request.license), request.position)
        if not found.entry.record:
            raise LicenseNotFound("nothing is left of this record")
        record = read_record(found.entry.record)
        late = record.license
        late.name, late.revision = license_name(record.city, record.license_id), record.revision
        return pb.GetLateRevisionResponse(
            event=record.event, record_time=record.record_time, basis=record.basis, license=late
        )

    async def AcknowledgeLateRevision(
        self, request: pb.AcknowledgeLateRevisionRequest, context: Any
    ) -> pb.AcknowledgeLateRevisionResponse:
        """Note that a notice has been dealt with; see the proto."""
        where = request.position
        license_id = self._own_license(request.license)
        ended = await self._transfers.acknowledge(license_id, (where.city, where.epoch, where.index))
        return pb.AcknowledgeLateRevisionResponse(notice=self._transfer(ended))

    def _own_parent(self, parent: str) -> None:
        if parent != f"cities/{self._city}":
            raise CallerNotAllowed(f"this node acts for cities/{self._city} alone", city=self._city)

    def _own_license(self, name: str) -> bytes:
        city, license_id = parse_license_name(name)
        self._own_parent(f"cities/{city}")
        return license_id

    def _transfer(self, each: HandOver) -> pb.Transfer:
        return pb.Transfer(
            license=f"cities/{self._city}/licenses/{uuid.UUID(bytes=each.license_id)}",
            direction=each.direction,  # type: ignore[arg-type]  # the same numbers
            state=each.state,  # type: ignore[arg-type]
            other_city=each.other_city,
            position=log_pb2.LogPosition(city=each.city, epoch=each.epoch, index=each.idx),
            update_time=to_timestamp(each.updated_us),
            detail=each.detail,
        )


def _actor() -> str:
    return str(current_caller().spiffe_id)


def _fields(answer: Answer) -> dict[str, Any]:
    return {"license": answer.license, "durability": answer.durability, "proof": answer.proof}
