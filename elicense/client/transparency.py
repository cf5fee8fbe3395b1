"""Asking a node for heads and proofs of logs; nothing that comes back is believed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc

from elicense.errors import Malformed
from elicense.log.model import LogKey
from elicense.log.proof_file import EntryProof
from elicense.log.tree import HASH_SIZE
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import transparency_pb2 as pb
from elicense.v1 import transparency_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from elicense.trust.credentials import Credentials

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedLog:
    """A log that a node says it shows.

    Attributes:
        key: Which log.
        origin: Origin of its heads.
        verifier_key: Key that it says signs them.
    """

    key: LogKey
    origin: str
    verifier_key: str


class LogClient:
    """Reads logs of one node, for code without an event loop.

    Every method raises the domain error of the node; PeerUnreachable when it does not answer.

    Args:
        credentials: Who asks, and where to.
        address: Address to call instead of the credentials' own.
        timeout_s: Longest wait for one answer, seconds.
    """

    def __init__(
        self, credentials: Credentials, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._channel = secure_channel_sync(credentials, address=address)
        self._stub = transparency_pb2_grpc.TransparencyServiceStub(self._channel)
        self._timeout_s = timeout_s

    def logs(self) -> list[ListedLog]:
        """Return the logs that the node shows."""
        answer = self._call(lambda: self._stub.ListLogs(pb.ListLogsRequest(), timeout=self._timeout_s))
        return [ListedLog(LogKey(log.log.city, log.log.epoch), log.origin, log.verifier_key) for log in answer.logs]

    def checkpoint(self, key: LogKey, size: int | None = None) -> bytes:
        """Return a signed head: the newest, or the one of that size."""
        request = pb.GetCheckpointRequest(log=_name(key))
        if size is not None:
            request.size = size
        note: bytes = self._call(lambda: self._stub.GetCheckpoint(request, timeout=self._timeout_s)).checkpoint
        return note

    def inclusion(self, key: LogKey, index: int, size: int) -> tuple[bytes, list[bytes]]:
        """Return an entry's leaf hash and its path."""
        request = pb.GetInclusionProofRequest(log=_name(key), index=index, size=size)
        answer = self._call(lambda: self._stub.GetInclusionProof(request, timeout=self._timeout_s))
        return answer.leaf_hash, list(answer.hashes)

    def consistency(self, key: LogKey, first: int, second: int) -> list[bytes]:
        """Return the proof that one size begins another."""
        request = pb.GetConsistencyProofRequest(log=_name(key), first=first, second=second)
        return list(self._call(lambda: self._stub.GetConsistencyProof(request, timeout=self._timeout_s)).hashes)

    def leaf_hashes(self, key: LogKey, first: int, count: int) -> list[bytes]:
        """Return up to ``count`` leaf hashes from index ``first`` on, in as many calls as it takes.

        Raises:
            Malformed: The node did not send whole hashes.
        """
        found: list[bytes] = []
        while len(found) < count:
            request = pb.ListEntriesRequest(
                log=_name(key), first_index=first + len(found), page_size=min(count - len(found), 2**31 - 1)
            )
            data = self._page(request)
            if len(data) % HASH_SIZE:
                raise Malformed("the node sent parts of leaf hashes")
            if not data:
                break
            found += [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]
        return found[:count]

    def _page(self, request: pb.ListEntriesRequest) -> bytes:
        data: bytes = self._call(lambda: self._stub.ListEntries(request, timeout=self._timeout_s)).leaf_hashes
        return data

    def vector(self) -> EntryProof:
        """Return the latest vector of city heads, opened and with its proof."""
        answer = self._call(lambda: self._stub.GetHeadVector(pb.GetHeadVectorRequest(), timeout=self._timeout_s))
        where = answer.proof.position
        return EntryProof(
            where.city,
            where.epoch,
            where.index,
            answer.entry.record,
            answer.entry.salt,
            tuple(answer.proof.hashes),
            answer.proof.checkpoint,
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _call(call: Callable[[], T]) -> T:
        try:
            return call()
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _name(key: LogKey) -> pb.LogName:
    return pb.LogName(city=key.log, epoch=key.epoch)


class RemoteSource:
    """A log at a node, to be exported: its tree alone, since records and entries are not given out.

    Args:
        client: Asks the node.
        key: Which log.
    """

    def __init__(self, client: LogClient, key: LogKey) -> None:
        self._client = client
        self._key = key
        self._ahead: list[bytes] = []
        self._start = 0

    def head(self) -> bytes:
        """Return the newest head that the caller may see."""
        return self._client.checkpoint(self._key)

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Return leaf hashes; a page is fetched at once and handed out in parts."""
        offset = start - self._start
        if not offset >= 0 or offset + (stop - start) > len(self._ahead):
            self._ahead, self._start, offset = self._client.leaf_hashes(self._key, start, _PAGE), start, 0
        return self._ahead[offset : offset + (stop - start)]

    def entries(self, start: int, stop: int) -> None:  # the contract of sources
        """Return None: a node gives out leaf hashes alone."""


_PAGE = 16_384
