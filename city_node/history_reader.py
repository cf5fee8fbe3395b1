"""The history of licences that other cities had before this one: read from the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from city_node.registry_faults import as_registry_fault
from elicense.clock import from_timestamp
from elicense.errors import LicenseNotFound, Malformed, RegistryUnreachable
from elicense.log.entry import leaf_hash
from elicense.log.model import StoredEntry
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import custody_pb2, custody_pb2_grpc, log_pb2
from elicense.view.fold import read_record
from elicense.view.model import Revision

#: A person waits at a counter.
CALL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class WrittenRevision:
    """A revision with its record.

    Attributes:
        revision: Its entry of the revision index.
        entry: Its record; None when it is missing.
    """

    revision: Revision
    entry: StoredEntry | None


class History:
    """Reads what other cities wrote of licences in this city's custody.

    Args:
        stub: The registry's CustodyService.
    """

    def __init__(self, stub: custody_pb2_grpc.CustodyServiceStub) -> None:
        self._stub = stub

    async def after(self, license_id: bytes, revision: int, limit: int) -> list[WrittenRevision]:
        """Return up to ``limit`` revisions of other cities with a number above ``revision``, in order.

        Raises:
            RegistryUnreachable: The registry did not answer, or not as it should.
        """
        found: list[WrittenRevision] = []
        while len(found) < limit:
            request = custody_pb2.ListHistoryRequest(
                license_id=license_id, after_revision=revision, page_size=limit - len(found)
            )
            try:
                page = await self._stub.ListHistory(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                raised = from_rpc_error(error)
                if isinstance(raised, LicenseNotFound):
                    # Custody has just moved on; the word of it is on its way.
                    return found
                raise as_registry_fault(raised) from error
            if not page.records:
                break
            found += [_written(record) for record in page.records]
            revision = page.records[-1].revision
        return found

    async def record(self, license_id: bytes, where: log_pb2.LogPosition) -> custody_pb2.HistoryRecord:
        """Return one record of a licence in this city's custody, wherever it lies.

        Raises:
            LicenseNotFound: There is none, or this city does not have custody.
            RegistryUnreachable: The registry did not answer.
        """
        request = custody_pb2.GetHistoryRecordRequest(license_id=license_id, position=where)
        try:
            record: custody_pb2.HistoryRecord = await self._stub.GetHistoryRecord(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raised = from_rpc_error(error)
            raise (raised if isinstance(raised, LicenseNotFound) else as_registry_fault(raised)) from error
        return record


def _written(record: custody_pb2.HistoryRecord) -> WrittenRevision:
    entry = record.entry
    index = record.position.index
    place = (record.position.city, record.position.epoch, index)
    if not entry.record:
        stored = StoredEntry(index, None, None, entry.leaf_hash)
        return WrittenRevision(Revision(b"", *place, record.revision, 0, 0, 0, 0, b""), stored)
    try:
        message = read_record(entry.record)
        stored = StoredEntry(index, entry.record, entry.salt, leaf_hash(entry.salt, entry.record))
    except Malformed as error:
        raise RegistryUnreachable("the registry's history of the license is unreadable", cause=error.reason) from error
    revision = Revision(
        message.license_id,
        *place,
        message.revision,
        message.event,
        from_timestamp(message.effective_time),
        from_timestamp(message.record_time),
        0,
        b"",
    )
    return WrittenRevision(revision, stored)
