"""First records of synthetic licences, each citing the grant that the registry gave for its person."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import islice
from typing import Final

from elicense.cli.bench.people import name_of, number_of
from elicense.cli.demo.drivers import generate
from elicense.cli.demo.figures import ExpectationFailed
from elicense.clock import china_date, to_timestamp, utc_micros
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.log.model import FIRST_EPOCH
from elicense.uuids import ordered_uuids, uuid_text
from elicense.v1 import license_pb2, replication_pb2_grpc
from elicense.v1 import replication_pb2 as pb

_CLAIMS_PER_CALL: Final = 1_000
_CALL_S: Final = 60.0
_TEMPLATES: Final = 64


class GrantedRecords:
    """Claims persons as a city node does, and makes the records of their licences.

    Args:
        code: Division code of the city.
        stub: The registry, under the city's own certificate.
    """

    def __init__(self, code: int, stub: replication_pb2_grpc.ReplicationServiceStub) -> None:
        self._code = code
        self._stub = stub
        self._records = [self._template(license_) for license_ in _templates(code)]

    def _template(self, license_: license_pb2.License) -> license_pb2.LicenseRecord:
        return license_pb2.LicenseRecord(
            city=self._code,
            epoch=FIRST_EPOCH,
            revision=1,
            event=license_pb2.LICENSE_EVENT_ISSUED,
            actor=f"spiffe://elicense.example/clerk/{self._code}/window-1",
            request_digest=secrets.token_bytes(32),
            license=license_,
            imported=True,
        )

    async def make(self, holders: Sequence[int]) -> list[bytes]:
        """Return a record for each of these holders, in order; they must be used before the grants lapse.

        Raises:
            ExpectationFailed: The registry did not grant a person.
        """
        records: list[bytes] = []
        for start in range(0, len(holders), _CLAIMS_PER_CALL):
            records += await self._granted(holders[start : start + _CLAIMS_PER_CALL])
        return records

    async def _granted(self, holders: Sequence[int]) -> list[bytes]:
        now_us = utc_micros()
        ids = ordered_uuids(2 * len(holders), now_us=now_us, random=secrets.token_bytes)
        request = pb.ClaimPersonsRequest()
        for holder, license_id, request_id in zip(holders, ids[::2], ids[1::2], strict=True):
            claim = request.claims.add(license_id=license_id, request_id=request_id)
            claim.document.type = license_pb2.DOCUMENT_TYPE_RESIDENT_ID
            claim.document.number = number_of(holder)
        answer = await self._stub.ClaimPersons(request, timeout=_CALL_S)
        records = []
        for holder, claim, result in zip(holders, request.claims, answer.results, strict=True):
            if not result.HasField("grant"):
                raise ExpectationFailed("the registry did not grant a synthetic person")
            record = self._records[holder % _TEMPLATES]
            record.license_id = result.license_id
            record.request_id = uuid_text(claim.request_id)
            record.record_time.CopyFrom(to_timestamp(now_us))
            record.effective_time.CopyFrom(record.record_time)
            record.claim.CopyFrom(result.grant)
            record.license.holder.full_name = name_of(holder)
            record.license.holder.document.number = number_of(holder)
            records.append(record.SerializeToString(deterministic=True))
        return records


def _templates(code: int) -> list[license_pb2.License]:
    """Return valid licences of all sorts; only their holders are to be replaced."""
    rows = generate(code, 4 * _TEMPLATES, seed=1, on=china_date(utc_micros()))
    plain = (license_to_message(parse_row(row)) for row, _ in rows if not row["status_letters"])
    return list(islice(plain, _TEMPLATES))
