"""What other cities offer to this one: fetched from the registry, and believed only as far as it is proved.

The steps, numbered in the code:

1. The registry answers for this city alone, by its certificate.
2. The head is of the log that the position names, signed with that log's key and cosigned by the registry whose key
   this city was given when it joined: the cosignature vouches for the log's key.
3. Record and salt give a leaf that lies at that position under the head.
4. The record is of that log and of the licence asked for, and offers it to this city.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from city_node.registry_faults import as_registry_fault
from elicense.errors import Error, OfferNotFound, RegistryUnreachable
from elicense.log.checkpoint import open_cosigned
from elicense.log.entry import leaf_hash
from elicense.log.merkle import verify_inclusion
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.rpc.errors import from_rpc_error
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import custody_pb2, custody_pb2_grpc, license_pb2
from elicense.view.fold import flags_of, person_key_of, read_record, row_of
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex

#: A person waits at a counter.
CALL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProvedOffer:
    """A licence that another city offers.

    Attributes:
        row: The licence as it stands there, tagged with this city's keys.
        entry: Bytes of its latest record.
        record: The same record.
    """

    row: ViewRow
    entry: bytes
    record: license_pb2.LicenseRecord


class Offers:
    """Reads offers at the registry.

    Args:
        stub: The registry's CustodyService.
        city: Division code of this city.
        trust_domain: Prefix of log origins.
        cosigner: Key of the registry's receipts.
        persons: Computes person and name tags.
    """

    def __init__(
        self,
        *,
        stub: custody_pb2_grpc.CustodyServiceStub,
        city: int,
        trust_domain: str,
        cosigner: VerifierKey,
        persons: PersonIndex,
    ) -> None:
        self._stub = stub
        self._city = city
        self._trust_domain = trust_domain
        self._cosigner = cosigner
        self._persons = persons

    async def get(self, license_id: bytes, *, from_city: int) -> ProvedOffer:
        """Return an open offer of a licence in a city's custody to this city, proved.

        Raises:
            OfferNotFound: There is none.
            RegistryUnreachable: The registry did not answer, or what it answered is not proved.
        """
        try:
            request = custody_pb2.GetOfferRequest(license_id=license_id, from_city=from_city)
            found = await self._stub.GetOffer(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:  # (1)
            raised = from_rpc_error(error)
            raise (raised if isinstance(raised, OfferNotFound) else as_registry_fault(raised)) from error
        try:
            return self._proved(license_id, found)
        except Error as error:
            raise RegistryUnreachable(
                "what the registry says of the offer is not proved; tell its operator", cause=error.reason
            ) from error

    async def page(self, request: custody_pb2.ListOffersRequest) -> custody_pb2.ListOffersResponse:
        """Return a page of open offers to this city, as the registry lists them.

        Raises:
            Malformed: The token is not one of this list.
            RegistryUnreachable: The registry did not answer.
        """
        try:
            page: custody_pb2.ListOffersResponse = await self._stub.ListOffers(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise as_registry_fault(from_rpc_error(error)) from error
        return page

    def _proved(self, license_id: bytes, found: custody_pb2.GetOfferResponse) -> ProvedOffer:
        where, entry = found.proof.position, found.entry
        origin = city_log_origin(self._trust_domain, where.city, where.epoch)
        head = open_cosigned(  # (2)
            found.proof.checkpoint,
            origin=origin,
            log_key=parse_vkey(found.log_verifier_key),
            cosigner_key=self._cosigner,
        ).checkpoint
        leaf = leaf_hash(entry.salt, entry.record)  # (3)
        verify_inclusion(
            leaf_hash=leaf, index=where.index, size=head.size, proof=list(found.proof.hashes), root=head.root
        )
        record = read_record(entry.record)  # (4)
        of_log = (record.city, record.epoch, record.license_id) == (where.city, where.epoch, license_id)
        if not of_log or where.city == self._city or record.license.offered_to_city != self._city:
            raise OfferNotFound("the record does not offer this license to this city")
        row = row_of(
            record,
            index=where.index,
            leaf_hash=leaf,
            flags=flags_of(record),
            persons=self._persons,
            person_key=person_key_of(record, self._persons),
        )
        return ProvedOffer(row, entry.record, record)
