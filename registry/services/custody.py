"""CustodyService: take the city from the certificate, call, reply."""

from __future__ import annotations

from typing import Any

from elicense.clock import to_timestamp
from elicense.license.document import normalize_number
from elicense.log.model import StoredEntry
from elicense.rpc.context import current_caller
from elicense.v1 import custody_pb2 as pb
from elicense.v1 import custody_pb2_grpc, log_pb2
from elicense.view.fold import read_record
from elicense.view.person import PersonIndex
from registry.custody import Custody, ListedOffer


class CustodyServicer(custody_pb2_grpc.CustodyServiceServicer):
    """Thin servicer over :class:`~registry.custody.Custody`.

    Args:
        custody: Reads what is offered, and what was.
        persons: Computes person tags.
    """

    def __init__(self, *, custody: Custody, persons: PersonIndex) -> None:
        self._custody = custody
        self._persons = persons

    async def GetOffer(self, request: pb.GetOfferRequest, context: Any) -> pb.GetOfferResponse:
        """Read an open offer to the caller; see the proto."""
        found = await self._custody.offer(_city(), request.license_id, from_city=request.from_city)
        row = found.row
        return pb.GetOfferResponse(
            entry=_entry(found.entry),
            proof=log_pb2.InclusionProof(
                position=log_pb2.LogPosition(city=row.city, epoch=row.epoch, index=row.idx),
                checkpoint=found.checkpoint,
                hashes=found.hashes,
            ),
            log_verifier_key=found.log_key,
        )

    async def ListOffers(self, request: pb.ListOffersRequest, context: Any) -> pb.ListOffersResponse:
        """List open offers to the caller; see the proto."""
        person_key = b""
        if request.HasField("document"):
            person_key = self._persons.person_key(request.document.type, normalize_number(request.document.number))
        offers, token = await self._custody.offers(
            _city(), person_key=person_key, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListOffersResponse(offers=[_offer(offer) for offer in offers], next_page_token=token)

    async def ListHistory(self, request: pb.ListHistoryRequest, context: Any) -> pb.ListHistoryResponse:
        """List what other cities wrote of a licence in the caller's custody; see the proto."""
        found = await self._custody.history(
            _city(), request.license_id, after=request.after_revision, page_size=request.page_size
        )
        return pb.ListHistoryResponse(
            records=[
                pb.HistoryRecord(
                    position=log_pb2.LogPosition(city=revision.city, epoch=revision.epoch, index=revision.idx),
                    entry=_entry(entry),
                    revision=revision.revision,
                )
                for revision, entry in found
            ]
        )

    async def GetHistoryRecord(self, request: pb.GetHistoryRecordRequest, context: Any) -> pb.HistoryRecord:
        """Read one record of a licence in the caller's custody; see the proto."""
        where = request.position
        found = await self._custody.record(_city(), request.license_id, (where.city, where.epoch, where.index))
        revision = 0 if found.record is None else read_record(found.record).revision
        return pb.HistoryRecord(position=where, entry=_entry(found), revision=revision)


def _city() -> int:
    """Return who asks: its certificate alone says so."""
    city = current_caller().city
    if city is None:
        raise LookupError("the policy table lets cities alone ask about custody")
    return city


def _entry(entry: StoredEntry) -> log_pb2.LogEntry:
    if entry.record is None:
        return log_pb2.LogEntry(leaf_hash=entry.leaf_hash)
    return log_pb2.LogEntry(record=entry.record, salt=entry.salt or b"")


def _offer(listed: ListedOffer) -> pb.TransferOffer:
    offer = listed.offer
    message = pb.TransferOffer(
        license_id=offer.license_id, from_city=offer.from_city, offer_time=to_timestamp(offer.offered_us)
    )
    if listed.latest.record is not None:
        message.license.CopyFrom(read_record(listed.latest.record).license)
    if listed.offered.record is not None:
        message.legal_basis = read_record(listed.offered.record).basis
    return message
