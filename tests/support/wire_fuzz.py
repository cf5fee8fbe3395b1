"""Requests that are nearly right, thrown at every method of a node over real gRPC, and what may come of them."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from google.type.date_pb2 import Date

from elicense.errors import Error
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import DETAILS_KEY, DOMAIN
from elicense.rpc.message_size import MAX_MESSAGE_BYTES
from elicense.trust.credentials import Credentials
from elicense.trust.roles import Role

#: Longer than anything takes on a machine that is slow and busy with other tests.
DEADLINE_S: Final = 120.0

MEMORY_GROWTH_BYTES: Final = 96 * 1024 * 1024
"""By how much the anonymous memory of a process may grow over a round of requests like the one before it.

The largest messages are under way as bytes and as objects, on the side of the caller and of the node, and
the allocator keeps room for a few of them (4 MiB each) in each thread. What keeps such a message, or ten
kilobytes of every request in a run of ten thousand, passes this.
"""

#: Numbers at the edges of what fields and columns hold.
_NUMBERS: Final = (0, 1, 2, 7, 13, 31, 99, 2021, 320500, 510100, -1, 2**31 - 1, -(2**31))
_LARGE: Final = (2**31, 2**53, 253_402_300_800, 2**63 - 1, -(2**63))
_TEXTS: Final = (
    "",
    "x",
    "张伟",
    "\0",
    "%s",
    "cities/320500",
    "cities/510100/licenses/x",
    "a" * 300,
    "٣",
    "../..",
    "\u202e",
)
_SIZES: Final = (0, 1, 8, 16, 32, 33, 64)


class Requests:
    """Makes requests of any method, at random.

    Args:
        chance: What they are drawn from.
        known: Values that the node knows, by name of the field; they are given more often than not.
    """

    def __init__(self, chance: random.Random, known: Mapping[str, Sequence[Any]]) -> None:
        self._chance = chance
        self._known = known

    def of(self, method: MethodDescriptor) -> bytes:
        """Return the bytes of a request: filled, or filled and damaged, or no request at all."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.05:
            return chance.randbytes(chance.randrange(200))
        if kind < 0.06:
            # A field that every message lacks, as large as a message may be.
            return b"\xfa\x7f" + _varint(MAX_MESSAGE_BYTES - 64) + bytes(MAX_MESSAGE_BYTES - 64)
        message = GetMessageClass(method.input_type)()
        self._fill(message, 0)
        data = bytearray(message.SerializeToString())
        if kind < 0.2 and data:
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)

    def _fill(self, message: Message, depth: int) -> None:
        # Some requests lack much, most lack little.
        left_out = self._chance.choice((0.05, 0.3, 0.6))
        for each in message.DESCRIPTOR.fields:
            # What the node knows is mostly what a request can not do without.
            if depth > 6 or self._chance.random() < left_out * (0.2 if each.name in self._known else 1):
                continue
            many = each.is_repeated
            for _ in range(self._chance.choice((0, 1, 1, 2, 3)) if many else 1):
                self._put(message, each, depth)

    def _put(self, message: Message, each: Any, depth: int) -> None:
        known = [value for value in self._known.get(each.name, ()) if _fits(value, each)]
        value = self._chance.choice(known) if known and self._chance.random() < 0.9 else None
        if each.type == FieldDescriptor.TYPE_MESSAGE:
            if each.message_type.GetOptions().map_entry:
                return
            inner = getattr(message, each.name)
            inner = inner.add() if each.is_repeated else inner
            if value is not None:
                inner.CopyFrom(value)
            elif isinstance(inner, Timestamp) and self._chance.random() < 0.8:
                inner.seconds = self._chance.randint(1_600_000_000, 1_900_000_000)
            elif isinstance(inner, Date) and self._chance.random() < 0.8:
                inner.MergeFrom(Date(year=self._chance.randint(1990, 2030), month=self._chance.randint(1, 12), day=7))
            else:
                inner.SetInParent()
                self._fill(inner, depth + 1)
            return
        value = self._scalar(each) if value is None else value
        if each.is_repeated:
            getattr(message, each.name).append(value)
        else:
            setattr(message, each.name, value)

    def _scalar(self, each: Any) -> Any:
        chance = self._chance
        match each.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if each.type == FieldDescriptor.TYPE_BYTES:
                return chance.randbytes(chance.choice(_SIZES))
            case FieldDescriptor.CPPTYPE_STRING:
                return chance.choice(_TEXTS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                return chance.choice([*each.enum_type.values_by_number, 99])
            case FieldDescriptor.CPPTYPE_INT32:
                return chance.choice(_NUMBERS)
            case FieldDescriptor.CPPTYPE_INT64:
                return chance.choice(_NUMBERS + _LARGE)
            case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
                return abs(chance.choice(_NUMBERS))
        return chance.choice((0.0, -1.5, float("inf"), float("nan")))


def _fits(value: Any, each: Any) -> bool:
    match value:
        case Message():
            return value.DESCRIPTOR is each.message_type
        case str():
            return bool(each.type == FieldDescriptor.TYPE_STRING)
        case bytes():
            return bool(each.type == FieldDescriptor.TYPE_BYTES)
    return each.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)


def method_of(path: str) -> MethodDescriptor:
    """Return the descriptor of ``/package.Service/Method``."""
    return descriptor_pool.Default().FindMethodByName(path[1:].replace("/", "."))


@dataclass
class Outcomes:
    """How the requests of a run were answered, by method."""

    codes: dict[str, Counter[grpc.StatusCode]] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(codes.total() for codes in self.codes.values())

    @property
    def refused(self) -> int:
        return self.requests - sum(codes[grpc.StatusCode.OK] for codes in self.codes.values())

    @property
    def understood(self) -> list[str]:
        """Methods of which some request was answered, or refused for another reason than its form."""
        return [path for path, codes in self.codes.items() if codes.keys() - {grpc.StatusCode.INVALID_ARGUMENT}]


async def attack(
    channel: grpc.aio.Channel, paths: Sequence[str], requests: Requests, count: int, outcomes: Outcomes
) -> None:
    """Send each method so many requests; anything but an answer or a typed error fails."""
    for path in paths:
        method = method_of(path)
        codes = outcomes.codes.setdefault(path, Counter())
        for _ in range(count):
            # A stream of questions takes several messages; whoever asks once sends one.
            sent = [requests.of(method) for _ in range(4 if method.client_streaming else 1)]
            try:
                await _call(channel, method, path, sent)
            except grpc.aio.AioRpcError as error:
                check_typed(error, path, sent)
                codes[error.code()] += 1
            else:
                codes[grpc.StatusCode.OK] += 1


async def attack_all(
    allowed: Mapping[str, Collection[Role]],
    callers: Mapping[Role, Credentials],
    requests: Requests,
    count: int,
    *,
    address: str | None = None,
) -> Outcomes:
    """Send every method so many requests, twice; fail where an answer, or the memory, is not as it must be.

    Args:
        allowed: Who may call each method.
        callers: Somebody of each role that is needed; each method is called by the first who may.
        requests: Makes requests.
        count: Requests of each method and round.
        address: Where the node listens; what the credentials name when None.
    """
    outcomes, before = Outcomes(), 0
    for _ in range(2):
        # Caches and pools are filled by the first round; the second one must find room in them.
        before = anonymous_memory()
        for role, caller in callers.items():
            paths = [path for path in allowed if next((r for r in callers if r in allowed[path]), None) is role]
            async with secure_channel(caller, address=address, retries=False, local_pool=True) as channel:
                await attack(channel, paths, requests, count, outcomes)
        gc.collect()
    grown = anonymous_memory() - before
    assert grown < MEMORY_GROWTH_BYTES, f"{grown:,} bytes more after {outcomes.requests} requests"
    # Else none of them would meet more than the rules of the form.
    assert len(outcomes.understood) > len(allowed) // 2
    for path, codes in outcomes.codes.items():
        # Whoever may not call a method meets none of its rules.
        assert codes[grpc.StatusCode.PERMISSION_DENIED] < codes.total(), (path, codes)
        assert not codes[grpc.StatusCode.UNAUTHENTICATED], (path, codes)
    assert outcomes.codes.keys() == allowed.keys()
    return outcomes


async def _call(channel: Any, method: MethodDescriptor, path: str, sent: Sequence[bytes]) -> None:
    if not method.server_streaming:
        await channel.unary_unary(path)(sent[0], timeout=DEADLINE_S)
        return
    if not method.client_streaming:
        watched = channel.unary_stream(path)(sent[0], timeout=DEADLINE_S)
        # A watch goes on until its caller ends it; the first answer shows that it began.
        await watched.read()
        watched.cancel()
        return

    stream = channel.stream_stream(path)(timeout=DEADLINE_S)
    # One after the other: the library loses the reason of a server that ended the stream while it writes.
    for each in sent:
        await stream.write(each)
        if await stream.read() is grpc.aio.EOF:
            return
    stream.cancel()


def check_typed(error: grpc.aio.AioRpcError, path: str, sent: Sequence[bytes]) -> None:
    """Fail unless an error carries a reason of this project, and is no unhandled exception."""
    said = (path, error.code(), error.details(), [each.hex()[:4_000] for each in sent])
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in status_pb2.Status.FromString(cast("bytes", value)).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    assert (info.domain, info.reason != Error.reason) == (DOMAIN, True), said
                    return
    raise AssertionError(said)


def anonymous_memory() -> int:
    """Return the anonymous memory of this process, in which the nodes run, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say how much memory a process has")


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])
