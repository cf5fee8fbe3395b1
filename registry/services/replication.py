"""ReplicationService: parse, take the city from the certificate, call, reply."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

from elicense.access.entry import RecordedAccess
from elicense.access.shipping import from_shipped
from elicense.clock import from_timestamp, to_timestamp
from elicense.errors import CallerNotAllowed, Malformed, Violation
from elicense.license.civil_date import date_to_message
from elicense.license.document import normalize_number
from elicense.license.license_bytes import field, tag
from elicense.log.request_queue import BYTES_PER_COMMIT
from elicense.rpc.context import current_caller
from elicense.rpc.turns import Turns
from elicense.trust.spiffe import Caller, identify, parse_spiffe_id
from elicense.v1 import license_pb2, replication_pb2_grpc
from elicense.v1 import replication_pb2 as pb
from elicense.view.person import PersonIndex
from registry.access_intake import AccessIntake
from registry.batch import Batch, HeldBefore, SentEntry
from registry.claims import ClaimOutcome, GrantClaims, Granted, HeldBy, WantedClaim
from registry.replication import Replication

#: Most bytes of records and salts in one batch: whatever a city committed at once fits.
MAX_BATCH_BYTES: Final = BYTES_PER_COMMIT

_RESULT: Final = tag(pb.ClaimPersonsResponse, "results")
_LICENSE_ID: Final = tag(pb.ClaimResult, "license_id")


class ReplicationServicer(replication_pb2_grpc.ReplicationServiceServicer):
    """Thin servicer over :class:`~registry.replication.Replication`.

    Args:
        replication: Takes in batches and grants claims.
        persons: Computes person tags.
        accesses: Takes in looks.
    """

    def __init__(self, *, replication: Replication, persons: PersonIndex, accesses: AccessIntake) -> None:
        self._replication = replication
        self._persons = persons
        self._accesses = accesses

    async def AppendEntries(  # the name of the RPC
        self, request: pb.AppendEntriesRequest, context: Any
    ) -> pb.AppendEntriesResponse:
        """Apply a batch to the caller's log; see the proto."""
        taken = await self._replication.append(_batch(own_city(current_caller()), request))
        return pb.AppendEntriesResponse(
            receipt=taken.receipt,
            next_index=taken.next_index,
            dispositions=[
                pb.Disposition(
                    index=noted.idx,
                    kind=noted.kind,  # type: ignore[arg-type]
                    license_id=noted.license_id,
                    detail=noted.detail,
                    sequence=noted.seq,
                    epoch=noted.epoch,
                    other_city=noted.other_city or 0,
                )
                for noted in taken.dispositions
            ],
            registry_time=to_timestamp(taken.now_us),
            decisions_pending=taken.undecided,
            entries_wanted=self._replication.entries_wanted,
            unsigned=taken.unsigned,
            decisions_missing=taken.lacking,
        )

    async def GetReplicationState(
        self, request: pb.GetReplicationStateRequest, context: Any
    ) -> pb.GetReplicationStateResponse:
        """Read what is held of the caller's log; see the proto."""
        epoch, taken = await self._replication.state(own_city(current_caller()))
        return pb.GetReplicationStateResponse(
            epoch=epoch,
            next_index=taken.next_index,
            receipt=taken.receipt,
            registry_time=to_timestamp(taken.now_us),
        )

    async def ClaimPersons(self, request: pb.ClaimPersonsRequest, context: Any) -> pb.ClaimPersonsResponse:
        """Claim persons for the caller's city; see the proto."""
        caller = current_caller()
        turns = Turns()
        wanted = []
        for claim in request.claims:
            await turns.give_way()
            document = claim.document
            person_key = self._persons.person_key(document.type, normalize_number(document.number))
            wanted.append(WantedClaim(person_key, claim.license_id, claim.request_id))
        command = GrantClaims(city=own_city(caller), actor=str(caller.spiffe_id), wanted=tuple(wanted))
        results = []
        for outcome in await self._replication.claim(command, bulk=request.bulk):
            await turns.give_way()
            results.append(result_field(outcome))
        # To read a thousand messages takes less than to put them together.
        return pb.ClaimPersonsResponse.FromString(b"".join(results))

    async def ShipAccesses(self, request: pb.ShipAccessesRequest, context: Any) -> pb.ShipAccessesResponse:
        """Take in looks that the caller answered by itself; see the proto."""
        city = own_city(current_caller())
        if request.node.partition("/")[0] != f"city-{city}":
            raise CallerNotAllowed("a city ships the looks of its own processes; the name of another was given")
        # A thousand looks are read beside the event loop, which others wait for.
        looks = await asyncio.to_thread(_looks, request, city)
        held = await self._accesses.take(
            node=request.node,
            city=city,
            looks=looks,
            complete_us=from_timestamp(request.complete_until) if request.HasField("complete_until") else 0,
        )
        return pb.ShipAccessesResponse(day=held.day, sequence=held.sequence)


def own_city(caller: Caller) -> int:
    """Return whose log the caller writes: its certificate alone says so."""
    if caller.city is None:
        raise LookupError("the policy table lets cities alone replicate")
    return caller.city


def _batch(city: int, request: pb.AppendEntriesRequest) -> Batch:
    size = sum(len(entry.record) + len(entry.salt) for entry in request.entries)
    if size > MAX_BATCH_BYTES:
        raise Malformed(
            f"a batch may hold {MAX_BATCH_BYTES} bytes of records; send it in parts",
            violations=[Violation("entries", "TOO_LARGE", f"at most {MAX_BATCH_BYTES} bytes together")],
        )
    shown = request.held_before
    return Batch(
        city=city,
        epoch=request.epoch,
        first_index=request.first_index,
        entries=[SentEntry(entry.record, entry.salt, entry.leaf_hash) for entry in request.entries],
        checkpoint=request.checkpoint,
        tip_size=request.tip_size,
        city_us=from_timestamp(request.city_time),
        left_us=from_timestamp(request.registry_time) if request.HasField("registry_time") else None,
        dispositions_after=request.dispositions_after,
        told=list(request.told),
        held_before=HeldBefore(shown.receipt, list(shown.hashes)) if request.HasField("held_before") else None,
    )


def _looks(request: pb.ShipAccessesRequest, city: int) -> list[RecordedAccess]:
    """Return the looks of a call; they must be of the city's own verifiers."""
    looks = [from_shipped(request.node, access) for access in request.accesses]
    for caller in {look.entry.caller for look in looks}:
        if identify(parse_spiffe_id(caller)).city != city:
            raise CallerNotAllowed("a city answers by itself only verifiers that it enrolled")
    return looks


def result_field(claim: ClaimOutcome) -> bytes:
    """Return what became of one claim, as a field of the answer."""
    if isinstance(claim, Granted):
        grant = _grant(claim.epoch, claim.idx, claim.entry_hash, claim.lease_end_us)
        return field(_RESULT, grant + field(_LICENSE_ID, claim.license_id))
    if isinstance(claim, HeldBy):
        refused = pb.ClaimResult(held_by_city=claim.city)
    else:
        until = None if claim.until is None else date_to_message(claim.until)
        refused = pb.ClaimResult(barred=pb.BarredPerson(city=claim.city, until_date=until))
    return field(_RESULT, refused.SerializeToString())


@lru_cache(maxsize=64)
def _grant(epoch: int, index: int, entry_hash: bytes, lease_end_us: int) -> bytes:
    """Return what the results of all persons of one entry of the registry's log share."""
    grant = license_pb2.ClaimGrant(
        registry_epoch=epoch,
        registry_index=index,
        entry_hash=entry_hash,
        lease_end_time=to_timestamp(lease_end_us),
    )
    return pb.ClaimResult(grant=grant).SerializeToString()
