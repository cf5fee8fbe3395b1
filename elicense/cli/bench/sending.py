"""A city that only sends: its log is made beforehand, so that what is measured is the registry's part."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from elicense.cli.bench.granted import GrantedRecords
from elicense.cli.bench.house import House
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import CITY_NODE, REGISTRY
from elicense.clock import to_timestamp, utc_micros
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.entry import leaf_hashes
from elicense.log.model import FIRST_EPOCH
from elicense.log.tree import EMPTY_RANGE
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import load_credentials
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import load_signer
from elicense.v1 import log_pb2, replication_pb2_grpc
from elicense.v1 import replication_pb2 as pb

BATCH: Final = 2_048
"""Entries of one call: as many as the wire takes."""

#: Cities that no filled store has.
SENDERS: Final = (320100, 320200, 320300, 320400)

_CALL_S: Final = 60.0


class SendingCity:
    """A city that joined, and the batches that it is going to send.

    Args:
        code: Division code.
        folder: Data folder that ``elicense-city join`` made.
    """

    def __init__(self, code: int, folder: Path) -> None:
        credentials = load_credentials(folder / "credentials")
        self._signer = load_signer(f"file:{folder.absolute()}/keys/log.pem")
        self._origin = city_log_origin(credentials.subject.trust_domain, code, FIRST_EPOCH)
        self._channel = secure_channel(credentials, local_pool=True, retries=False)
        self._stub = replication_pb2_grpc.ReplicationServiceStub(self._channel)
        self._tree = EMPTY_RANGE
        self._granted = GrantedRecords(code, self._stub)
        self._ready: list[pb.AppendEntriesRequest] = []

    async def prepare(self, holders: Sequence[int], *, batch: int = BATCH) -> None:
        """Claim these holders and make the batches of their first records; at most ten minutes ahead.

        Args:
            holders: Ordinals of people who have no licence yet.
            batch: Entries of a batch.

        Raises:
            ExpectationFailed: The registry did not grant one.
        """
        records = await self._granted.make(holders)
        for start in range(0, len(records), batch):
            self._ready.append(self._batch(records[start : start + batch]))

    def _batch(self, records: Sequence[bytes]) -> pb.AppendEntriesRequest:
        salts = [secrets.token_bytes(32) for _ in records]
        first = self._tree.size
        self._tree = self._tree.append_leaves(leaf_hashes(zip(salts, records, strict=True)))
        return pb.AppendEntriesRequest(
            checkpoint=sign_checkpoint(Checkpoint(self._origin, self._tree.size, self._tree.root()), self._signer),
            epoch=FIRST_EPOCH,
            first_index=first,
            entries=[log_pb2.LogEntry(record=record, salt=salt) for record, salt in zip(records, salts, strict=True)],
            tip_size=self._tree.size,
            city_time=to_timestamp(utc_micros()),
        )

    async def send(self, batches: int) -> int:
        """Send the next batches, one call in flight, and return how many records the registry took.

        Raises:
            ExpectationFailed: It did not take all.
        """
        taken = 0
        for request in self._ready[:batches]:
            answer = await self._stub.AppendEntries(request, timeout=_CALL_S)
            if answer.next_index != request.first_index + len(request.entries) or answer.dispositions:
                raise ExpectationFailed("the registry did not take a batch as it was sent")
            taken += len(request.entries)
        del self._ready[:batches]
        return taken

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


async def join_sender(house: House, code: int) -> SendingCity:
    """Join a city to a registry that runs."""
    folder = house.folder / f"city-{code}"
    token = await house.command(*REGISTRY, "token", "city", str(code), "--config", house.config)
    # It never listens: its certificate and its keys are all that is needed.
    await house.command(*CITY_NODE, "join", token.strip(), "--data", str(folder), "--listen", house.address(1))
    return SendingCity(code, folder)
